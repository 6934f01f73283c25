"""What a run did, as a file that is written last; and until then, how far it has come."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from flowdetect._utils.files import atomic_file
from flowdetect.jobs._errors import InputError
from flowdetect.jobs._files import fingerprint
from flowdetect.jobs._plan import Plan
from flowdetect.jobs._sources import SUFFIXES
from flowdetect.jobs._targets import FolderTarget, storing

__all__ = [
    "FORMAT_VERSION",
    "finished_outputs",
    "forget_progress",
    "former_outputs",
    "write_manifest",
    "write_progress",
]

FORMAT = "flowdetect run"
FORMAT_VERSION = 1
_MOST = 256 * 2**20


def write_manifest(path: Path, content: dict[str, Any]) -> None:
    """Replace the manifest of a run.

    Raises
    ------
    StorageError
    """
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    with storing(str(path)), atomic_file(path) as file:
        file.write(text.encode())


def write_progress(plan: Plan, outputs: list[dict[str, Any]]) -> None:
    """Note which outputs of a folder are finished, for a later run with ``resume``.

    Raises
    ------
    StorageError
    """
    if plan.manifest is not None and isinstance(plan.target, FolderTarget):
        entry = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "run_id": plan.run_id,
            "outputs": outputs,
        }
        write_manifest(_progress(plan.manifest), entry)


def forget_progress(plan: Plan) -> None:
    """Remove what `write_progress` noted."""
    if plan.manifest is not None:
        with contextlib.suppress(OSError):
            os.unlink(_progress(plan.manifest))


def finished_outputs(plan: Plan) -> dict[str, dict[str, Any]]:
    """Return what earlier runs of the same inputs have finished, as far as it is still as they left it.

    Returns
    -------
    dict of str to dict
        Entries of the manifest by output.
    """
    found: dict[str, dict[str, Any]] = {}
    if plan.manifest is None:
        return found
    for path in (plan.manifest, _progress(plan.manifest)):
        for entry in _entries(path, plan.run_id):
            if _verifies(entry, plan):
                found[entry["output"]] = entry
    return found


def former_outputs(plan: Plan) -> list[Path]:
    """Return the files of the folders that the run before has written and this one does not.

    Only those that are still as it left them: what somebody else has written is nobody's to remove.
    """
    if plan.manifest is None or not isinstance(plan.target, FolderTarget):
        return []
    found = []
    for entry in _entries(plan.manifest, None):
        found += _former(plan.target, entry, entry, plan)
        if isinstance(plan.quarantine, FolderTarget):
            found += _former(plan.quarantine, entry, entry.get("quarantine"), plan)
    return found


def _former(target: FolderTarget, entry: dict[str, Any], file: Any, plan: Plan) -> list[Path]:
    try:
        output, name = str(entry["output"]), str(file["path"])
        suffix = next(suffix for suffix in SUFFIXES if name.endswith(f"{output}{suffix}"))
        path = target.path / f"{output}{suffix}"
        folder = os.path.realpath(target.path)
        inside = os.path.commonpath([os.path.realpath(path), folder]) == folder
        mine = path in [target.file(unit.output) for unit in plan.units]
        return [path] if inside and not mine and _is(path, file) else []
    except (KeyError, TypeError, StopIteration):
        return []


def _progress(manifest: Path) -> Path:
    return manifest.with_name(f"{manifest.name}.unfinished")


def _entries(path: Path, run_id: str | None) -> list[dict[str, Any]]:
    """Return the outputs that a file lists, none if it is of another run (None: of any) or not understood."""
    try:
        if path.stat().st_size > _MOST:
            return []
        content = json.loads(path.read_bytes())
        known = (content["format"], content["format_version"]) == (FORMAT, FORMAT_VERSION)
        known = known and run_id in (None, content["run_id"])
        outputs: list[dict[str, Any]] = content["outputs"] if known else []
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return []
    return outputs if isinstance(outputs, list) and all(isinstance(entry, dict) for entry in outputs) else []


def _verifies(entry: dict[str, Any], plan: Plan) -> bool:
    """Return whether the files of an entry are those that it names."""
    try:
        if not isinstance(plan.target, FolderTarget):
            return False
        path = plan.target.file(entry["output"])
        if entry["path"] != str(path) or not _is(path, entry):
            return False
        if plan.settings.wants_drift and not all("drift" in part for part in entry["partitions"]):
            return False
        if not isinstance(plan.quarantine, FolderTarget):
            # A single file holds what all outputs have set aside: it is written anew.
            return not any(part["n_quarantined"] for part in entry["partitions"])
        return _is(plan.quarantine.file(entry["output"]), entry["quarantine"])
    except (KeyError, TypeError):
        return False


def _is(path: Path, entry: dict[str, Any]) -> bool:
    try:
        return path.stat().st_size == entry["size"] and fingerprint(path) == entry["sha256"]
    except (OSError, InputError):
        return False
