"""What a scoring job is going to do, checked as far as it can be before anything is written."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from flowdetect.exceptions import ModelFileError
from flowdetect.jobs._casting import cast
from flowdetect.jobs._csv import CsvPartition
from flowdetect.jobs._errors import ModelError, SchemaError, UsageError
from flowdetect.jobs._locking import lock_of, lock_of_name
from flowdetect.jobs._logs import redact_all
from flowdetect.jobs._output_types import types_of_texts, with_types
from flowdetect.jobs._rows import MISSING_TEXTS, Partition, Rows
from flowdetect.jobs._scoring import output_schema, schema_of_model
from flowdetect.jobs._settings import ScoreSettings
from flowdetect.jobs._sources import check_same_columns, is_sql, open_sources, would_read
from flowdetect.jobs._targets import RUN_KEY, FileTarget, FolderTarget, Target, open_target, output_names
from flowdetect.persistence import Model, open_model
from flowdetect.preprocessing import TableSchema

__all__ = ["Plan", "Unit", "checked_model", "describe_model", "no_rows", "path_of", "plan_score"]

_SINGLE = "rows"
# Settings that the values of the output depend on.
_DECISIVE = ("format", "query", "na_values", "id_columns", "reasons", "run_key")


@dataclass(frozen=True)
class Unit:
    """What is replaced in one step: an output, and the partitions whose rows go into it."""

    output: str
    partitions: tuple[Partition, ...]
    schema: pa.Schema
    typed: bool  # whether texts of csv files are written with types


@dataclass(frozen=True, eq=False)
class Plan:
    """A checked job.

    Attributes
    ----------
    settings : ScoreSettings
    model : Model
    units : tuple of Unit
    fingerprints : dict of str to (str or None)
        Of the partitions, by name.
    run_id : str
        Derived from the model, the inputs and the settings that decide the values: the same for a second
        run of the same inputs.
    target : Target
    quarantine : FileTarget, FolderTarget or None
    manifest : Path or None
    """

    settings: ScoreSettings
    model: Model
    units: tuple[Unit, ...]
    fingerprints: dict[str, str | None]
    run_id: str
    target: Target
    quarantine: FileTarget | FolderTarget | None
    manifest: Path | None

    @property
    def locks(self) -> list[Path]:
        """What to lock: everything that is written; the manifest beside a target goes with that."""
        found = [] if self.settings.manifest is None else [lock_of(self.settings.manifest)]
        for target in (self.target, self.quarantine):
            if isinstance(target, FolderTarget):
                found.append(lock_of(target.path / "flowdetect"))
            elif isinstance(target, FileTarget):
                found.append(lock_of(os.path.realpath(target.path)))
        return [*found, lock_of_name(self.target.name)] if is_sql(self.settings.out) else found

    def describe(self) -> dict[str, Any]:
        """Return the plan as lists, dicts, texts and numbers without secrets."""
        settings = asdict(self.settings) | {"out": self.target.name, "sources": list(self.fingerprints)}
        return {
            "run_id": self.run_id,
            "model": {"path": self.settings.model, **describe_model(self.model)},
            "sources": [{"name": name, "sha256": sha256} for name, sha256 in self.fingerprints.items()],
            "outputs": [_path(self.target, unit.output) for unit in self.units],
            "columns": self.units[0].schema.names,
            "quarantine": None if self.quarantine is None else self.quarantine.name,
            "manifest": None if self.manifest is None else str(self.manifest),
            "settings": redact_all(settings),
        }


def plan_score(settings: ScoreSettings) -> Plan:
    """Open the model and the sources and check that they fit; nothing is written.

    Raises
    ------
    JobError
        Of the kind that the job itself would end with.
    """
    model = checked_model(settings.model, settings.sha256)
    schema = schema_of_model(model)
    _check_asked(settings, model)
    partitions = open_sources(
        settings.sources,
        format=settings.format,
        query=settings.query,
        missing_texts=settings.na_values,
    )
    quarantine = _quarantine(settings)
    # Before anything is read: mistakes that can be seen already.
    target = open_target(settings.out, format=settings.out_format, run_id="", run_key=settings.run_key)
    manifest = _manifest_path(settings, target)
    _check_paths(settings, partitions, [target, quarantine], manifest)
    for partition in partitions if isinstance(target, FolderTarget) else check_same_columns(partitions):
        cast(no_rows(partition), schema)
        output_schema(partition.schema, settings.id_columns, partition.name)
    fingerprints = {partition.name: partition.fingerprint() for partition in partitions}
    _check_run_key(settings, partitions, fingerprints)
    run_id = _run_id(settings, model, fingerprints)
    return Plan(
        settings,
        model,
        tuple(_units(partitions, settings, target, schema)),
        fingerprints,
        run_id,
        open_target(settings.out, format=settings.out_format, run_id=run_id, run_key=settings.run_key),
        quarantine,
        manifest,
    )


def checked_model(path: str, sha256: str | None = None) -> Model:
    """Open a model file.

    Raises
    ------
    ModelError
        If there is none that can be loaded, or it is not the one asked for.
    """
    try:
        model = open_model(path)
    except ModelFileError as error:
        raise ModelError(str(error)) from error
    except OSError as error:
        raise ModelError(f"the model '{path}' cannot be read: {error.strerror or error}.") from error
    if sha256 is not None and model.model_id != sha256.strip().lower():
        raise ModelError(f"'{path}' has the id {model.model_id}, not {sha256}.")
    return model


def describe_model(model: Model) -> dict[str, Any]:
    """Return what names a model."""
    return {
        "model_id": model.model_id,
        "class": model.manifest["class"],
        "created": model.manifest["created"],
    }


def path_of(partition: Partition) -> Path | None:
    """Return the file of a partition; None for standard input and databases."""
    path: Path | None = getattr(partition, "path", None)
    return path


# --- inside ----------------------------------------------------------------------------------------------


def _units(
    partitions: Sequence[Partition], settings: ScoreSettings, target: Target, model: TableSchema
) -> Iterator[Unit]:
    def unit(output: str, parts: Sequence[Partition]) -> Unit:
        schema = output_schema(parts[0].schema, settings.id_columns, parts[0].name)
        typed = target.has_types and all(isinstance(part, CsvPartition) for part in parts)
        if typed:
            schema = with_types(schema, types_of_texts(no_rows(parts[0]), model))
        return Unit(output, tuple(parts), schema, typed)

    if not isinstance(target, FolderTarget):
        yield unit(_SINGLE, partitions)
        return
    for name, partition in zip(output_names(partitions), partitions, strict=True):
        yield unit(name, [partition])


def no_rows(partition: Partition) -> Rows:
    """Return no rows of a partition, to check its columns with."""
    return Rows(
        pa.RecordBatch.from_pylist([], partition.schema),
        np.zeros(0, np.int64),
        partition=partition.name,
        missing_texts=MISSING_TEXTS if isinstance(partition, CsvPartition) else None,
    )


def _check_asked(settings: ScoreSettings, model: Model) -> None:
    """Refuse what the job could never find: it would look like health."""
    if "anomalies" in settings.fail_on and not hasattr(model.estimator, "offset_"):
        raise UsageError(f"a {model.manifest['class']} has no threshold, so no row is an anomaly to fail on.")
    unknown = [name for name in settings.ignore if name not in schema_of_model(model).names]
    if unknown:
        raise UsageError(f"the model has no column '{unknown[0]}' for the drift test to ignore.")
    if settings.quarantine is None and (settings.limit.rows or settings.limit.share):
        raise UsageError("a limit for bad rows needs a quarantine to set them aside in.")


def _quarantine(settings: ScoreSettings) -> FileTarget | FolderTarget | None:
    if settings.quarantine is None:
        return None
    target = None if settings.quarantine == "-" else open_target(settings.quarantine)
    if not isinstance(target, FileTarget | FolderTarget):
        raise UsageError("the quarantine must be a file, or a folder that ends in '/'.")
    return target


def _manifest_path(settings: ScoreSettings, target: Target) -> Path | None:
    if settings.manifest is not None:
        return Path(settings.manifest)
    if isinstance(target, FolderTarget):
        return target.path / "_run.json"
    return target.path.with_name(f"{target.path.name}.run.json") if isinstance(target, FileTarget) else None


def _check_paths(
    settings: ScoreSettings,
    partitions: Sequence[Partition],
    targets: Sequence[Target | None],
    manifest: Path | None,
) -> None:
    written = {
        os.path.realpath(target.path) for target in targets if isinstance(target, FileTarget | FolderTarget)
    }
    others = [path for path in (manifest, settings.metrics) if path is not None]
    n_written = sum(isinstance(target, FileTarget | FolderTarget) for target in targets) + len(others)
    written |= {os.path.realpath(path) for path in others}
    if len(written) < n_written:
        raise UsageError("the target, the quarantine, the manifest and the metrics must be different files.")
    read = {os.path.realpath(settings.model)}
    read |= {os.path.realpath(path) for path in map(path_of, partitions) if path is not None}
    both = sorted(written & read)
    if both:
        raise UsageError(f"'{both[0]}' is read by this job; name another file to write.")
    for target in targets:
        if isinstance(target, FolderTarget):
            written |= {os.path.realpath(target.file(name)) for name in output_names(partitions)}
    for source in settings.sources:
        caught = sorted(path for path in written if would_read(source, path))
        if caught:
            raise UsageError(
                f"'{caught[0]}' lies in the source '{source}', and is read next time: name another to write."
            )


def _check_run_key(
    settings: ScoreSettings, partitions: Sequence[Partition], fingerprints: dict[str, str | None]
) -> None:
    if settings.run_key is not None and is_sql(settings.out):
        for partition in partitions:
            if RUN_KEY in (settings.id_columns or partition.schema.names):
                raise SchemaError(
                    f"'{partition.name}' already has a column '{RUN_KEY}', which holds the run key there: "
                    "rename it, or name the id columns to keep."
                )
    unknown = [name for name, fingerprint in fingerprints.items() if fingerprint is None]
    if unknown and is_sql(settings.out) and settings.run_key is None:
        raise UsageError(
            f"nothing tells one run over '{unknown[0]}' from the next, whose rows would replace its own: "
            "give a run key, such as the date."
        )
    if settings.run_key is None and settings.resume and unknown:
        raise UsageError(f"'{unknown[0]}' cannot be resumed: nothing tells whether it is still the same.")


def _run_id(settings: ScoreSettings, model: Model, fingerprints: dict[str, str | None]) -> str:
    decisive = {
        "model_id": model.model_id,
        "inputs": list(fingerprints.items()),
        "settings": {name: getattr(settings, name) for name in _DECISIVE},
    }
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()[:32]


def _path(target: Target, output: str) -> str:
    return str(target.file(output)) if isinstance(target, FolderTarget) else target.name
