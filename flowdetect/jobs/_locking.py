"""One writer at a time: a lock beside what is written, and what killed writers have left."""

from __future__ import annotations

import contextlib
import getpass
import glob
import hashlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from flowdetect.jobs._errors import StorageError, TryAgainError

__all__ = ["lock_of", "locked", "sweep"]


def lock_of(path: str | Path) -> Path:
    """Return the file that is locked while something is written: hidden, and beside it.

    Examples
    --------
    >>> lock_of("out/scored.csv").as_posix()
    'out/.scored.csv.lock'
    """
    real = Path(path)
    return real.parent / f".{real.name}.lock"


def lock_of_name(name: str) -> Path:
    """Return the file that is locked for a target that is none, by processes of a user on a machine."""
    digest = hashlib.sha256(name.encode()).hexdigest()[:24]
    return Path(tempfile.gettempdir()) / f"flowdetect-{getpass.getuser()}-{digest}.lock"


@contextmanager
def locked(locks: Sequence[Path], what: str, *, wait: float = 0.0) -> Iterator[None]:
    """Hold locks; a process that ends, however it does, gives them back.

    Parameters
    ----------
    locks : sequence of Path
        Taken in the order of their names, so that two runs cannot wait for each other.
    what : str
        What is written, for the message.
    wait : float, default=0
        Seconds.

    Raises
    ------
    TryAgainError
        If another process holds one of them for longer.
    StorageError
        If it cannot be made.
    """
    with contextlib.ExitStack() as held:
        for path in sorted(set(locks)):
            try:
                held.enter_context(FileLock(path, timeout=wait))
            except Timeout as error:
                # It waits for files that it may not open as well, in vain.
                if not os.access(path, os.W_OK):
                    raise StorageError(f"'{what}' cannot be written: '{path}' cannot be made.") from error
                raise TryAgainError(
                    f"another run is writing '{what}': it holds the lock '{path}'."
                ) from error
            except OSError as error:
                raise StorageError(f"'{path}' cannot be locked: {error.strerror or error}.") from error
        yield


def sweep(path: str | Path) -> None:
    """Remove what a writer of this file that was killed has left beside it. Only under its lock."""
    real = os.path.realpath(path)
    folder, name = os.path.split(real)
    for left in glob.glob(os.path.join(glob.escape(folder), f".{glob.escape(name)}.*.part")):
        with contextlib.suppress(OSError):
            os.unlink(left)
