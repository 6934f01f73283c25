"""A PostgreSQL server of our own, on a socket in a temporary folder."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PORT = 54329  # names the socket; nothing listens on the network
SETTINGS = {
    "listen_addresses": "''",
    "fsync": "off",
    "max_connections": "12",
    "shared_buffers": "16MB",
}


def binary(name: str) -> str | None:
    """The path of a program of PostgreSQL, wherever Debian keeps it."""
    kept = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return shutil.which(name) or (str(kept[-1]) if kept else None)


@contextmanager
def running() -> Iterator[str]:
    """Start a server with a password; yield its URL without database options."""
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    initdb, pg_ctl = binary("initdb"), binary("pg_ctl")
    if initdb is None or pg_ctl is None:
        pytest.skip("PostgreSQL is not installed")
    # Not pytest's folder: a socket's path is short, and another user must reach it.
    folder = Path(tempfile.mkdtemp(prefix="flowdetect-pg-"))
    try:
        as_other = _other_user(folder)
        (folder / "password").write_text("hush-hush\n")
        data = folder / "data"
        made = [initdb, "-D", str(data), "-U", "scorer", "-A", "scram-sha-256", "--no-sync"]
        _call([*as_other, *made, "--pwfile", str(folder / "password")])
        options = " ".join(f"-c {name}={value}" for name, value in SETTINGS.items())
        start = [pg_ctl, "-D", str(data), "-w", "-t", "60", "-l", str(folder / "log")]
        _call([*as_other, *start, "-o", f"-p {PORT} -k {folder} {options}", "start"])
        try:
            yield f"postgresql+psycopg://scorer:hush-hush@/postgres?host={folder}&port={PORT}"
        finally:
            _call([*as_other, pg_ctl, "-D", str(data), "-w", "-m", "immediate", "stop"])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _other_user(folder: Path) -> list[str]:
    """The server refuses to run as root: give the folder to somebody else, and become him."""
    if os.getuid() != 0:
        return []
    if shutil.which("setpriv") is None:
        pytest.skip("PostgreSQL does not run as root, and setpriv is not installed")
    try:
        user = pwd.getpwnam("postgres")
    except KeyError:
        user = pwd.getpwnam("nobody")
    os.chown(folder, user.pw_uid, user.pw_gid)
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]


def _call(command: list[str]) -> None:
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        timeout=120,
        cwd="/",
    )
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed: {done.stderr.decode(errors='replace')}")
