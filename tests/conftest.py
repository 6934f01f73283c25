import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import rich.style  # noqa: F401 - draws from the global stream of `random` when it is imported
import torch

# One thread a process: the tests run in several processes, and threads would fight over the cores.
torch.set_num_threads(1)


@pytest.fixture
def repository() -> Path:
    """The root of the repository."""
    return Path(__file__).parents[1]


@pytest.fixture
def imported_by() -> Callable[..., set[str]]:
    """Run a Python process with the given arguments; return the names of all modules that it imported."""

    def run(*arguments: str) -> set[str]:
        command = [sys.executable, "-X", "importtime", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
        return {line.rpartition("|")[2].strip() for line in lines}

    return run


@pytest.fixture(scope="session")
def script_server() -> Iterator[subprocess.Popen[str]]:
    """A process of `script_server.py`, where the libraries are imported once for many scripts."""
    command = [sys.executable, str(Path(__file__).with_name("script_server.py"))]
    environment = {**os.environ, "MPLBACKEND": "Agg"}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as server:
        yield server


@pytest.fixture
def run_script(
    script_server: subprocess.Popen[str], tmp_path: Path
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a script in a process of its own that finds the libraries imported; some warnings may be errors."""
    files = {name: tmp_path / f".{name}" for name in ("stdout", "stderr")}

    def run(
        script: Path, *arguments: str, folder: Path, errors: tuple[str, ...] = ()
    ) -> subprocess.CompletedProcess[str]:
        task = {"script": str(script), "arguments": arguments, "folder": str(folder), "errors": errors}
        task |= {name: str(path) for name, path in files.items()}
        assert script_server.stdin is not None
        assert script_server.stdout is not None
        try:
            print(
                json.dumps({**task, **{n: str(path) for n, path in files.items()}}), file=script_server.stdin
            )
            script_server.stdin.flush()
            code = int(script_server.stdout.readline())
        except BaseException:
            # An answer that nobody waited for must not become the next script's.
            script_server.kill()
            raise
        printed = {name: path.read_text() for name, path in files.items()}
        return subprocess.CompletedProcess([str(script), *arguments], code, **printed)

    return run


def _global_streams() -> dict[str, bytes]:
    name, keys, *rest = np.random.get_state()
    return {
        "random": repr(random.getstate()).encode(),
        "numpy.random": keys.tobytes() + repr((name, rest)).encode(),
        "torch": torch.get_rng_state().numpy().tobytes(),
    }


@pytest.fixture(autouse=True)
def global_streams_stay_untouched() -> Iterator[None]:
    """Fail a test that draws from, or seeds, a random stream that belongs to the whole process."""
    before = _global_streams()
    yield
    moved = [name for name, state in _global_streams().items() if state != before[name]]
    if moved:
        pytest.fail(f"the test moved the global random stream of {', '.join(moved)}", pytrace=False)
