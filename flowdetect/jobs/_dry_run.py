"""What can be found out of the places that a job would write to, without leaving anything there."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from flowdetect.jobs._plan import Plan
from flowdetect.jobs._targets import FileTarget, FolderTarget, storing

__all__ = ["check_file", "check_folder", "check_places"]


def check_places(plan: Plan) -> None:
    """Look whether the target, the quarantine, the manifest and the metrics of a job could be written.

    Raises
    ------
    StorageError
        If a folder takes no file, or the table of a database has other columns.
    TryAgainError
        If the database cannot be reached.
    UsageError
        If there is no driver for it.
    """
    for target in (plan.target, plan.quarantine):
        if isinstance(target, FolderTarget):
            check_folder(target.path)
        elif isinstance(target, FileTarget):
            check_file(target.path)
    for path in (plan.manifest, plan.settings.metrics):
        if path is not None:
            check_file(path)
    check = getattr(plan.target, "check", None)
    if check is not None:
        check(plan.units[0].schema)


def check_file(path: str | Path) -> None:
    """Look whether a file could be replaced.

    Raises
    ------
    StorageError
    """
    check_folder(Path(os.path.realpath(path)).parent)


def check_folder(folder: Path) -> None:
    """Look whether a folder, or the one that it would be made in, takes a file.

    Raises
    ------
    StorageError
    """
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    # A file without a name: nobody can see it, and it is gone at once.
    with storing(str(folder)), tempfile.TemporaryFile(dir=place):
        pass
