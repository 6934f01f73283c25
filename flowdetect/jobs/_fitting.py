"""A fit as a job: a table to a model file that knows what it was fitted on."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd
import pyarrow as pa

from flowdetect.exceptions import InvalidTableError
from flowdetect.jobs._csv import CsvPartition
from flowdetect.jobs._drift_reference import TableReference
from flowdetect.jobs._drift_scores import reference_of_fit
from flowdetect.jobs._errors import InputError, ModelError, StorageError, UsageError
from flowdetect.jobs._files import open_stream, reading
from flowdetect.jobs._locking import lock_of, locked, sweep
from flowdetect.jobs._logs import log_event, redact_all
from flowdetect.jobs._rows import MISSING_TEXTS, Partition
from flowdetect.jobs._settings import FitSettings
from flowdetect.jobs._sources import SUFFIXES, format_of, open_sources
from flowdetect.jobs._targets import storing
from flowdetect.persistence import Model, save

__all__ = ["FitReport", "reference_of", "run_fit"]

REFERENCE = "drift_reference"


@dataclass(frozen=True)
class FitReport:
    """What a fit did.

    Attributes
    ----------
    model_id : str
    path : str
    n_rows, n_columns : int
        Of the training table.
    seconds : float
    """

    model_id: str
    path: str
    n_rows: int
    n_columns: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return texts and numbers, ready for ``json.dumps``."""
        return asdict(self)


def run_fit(settings: FitSettings, *, verbose: bool = False) -> FitReport:
    """Fit an estimator to a table and replace the model file by the result.

    Parameters
    ----------
    settings : FitSettings
    verbose : bool, default=False
        Whether to show a progress bar on standard error.

    Raises
    ------
    JobError
        With the exit code; the model file is then as it was.
    TrainingError
        If the loss does not stay finite.
    """
    begin = time.monotonic()
    estimator = _estimator(settings, verbose=verbose)
    _check_out(settings)
    partitions = open_sources(
        settings.sources, format=settings.format, query=settings.query, missing_texts=settings.na_values
    )
    _check_not_read(settings.out, partitions)
    with locked([lock_of(os.path.realpath(settings.out))], settings.out, wait=settings.wait):
        sweep(settings.out)
        trained_on = [{"name": part.name, "sha256": part.fingerprint()} for part in partitions]
        X = _drop(_read(partitions, settings), settings.drop)
        log_event("fitting", rows=len(X), columns=X.shape[1], estimator=type(estimator).__name__)
        try:
            estimator.fit(X)
        except InvalidTableError as error:
            raise InputError(str(error)) from error
        metadata = {
            **settings.metadata,
            "trained_on": redact_all(trained_on),
            REFERENCE: reference_of_fit(estimator, X).to_dict(),
        }
        with storing(settings.out):
            model_id = save(estimator, settings.out, metadata=metadata)
    report = FitReport(model_id, settings.out, len(X), X.shape[1], time.monotonic() - begin)
    log_event("fitted", model_id=model_id, path=settings.out, seconds=round(report.seconds, 3))
    return report


def reference_of(model: Model) -> TableReference | None:
    """Return the counts of the training rows that `run_fit` left in a model; None for one that has none.

    Raises
    ------
    ModelError
        If they cannot be understood.
    """
    counts = model.manifest["metadata"].get(REFERENCE)
    try:
        return None if counts is None else TableReference.from_dict(counts)
    except InvalidTableError as error:
        raise ModelError(f"the counts of the training rows in the model cannot be used: {error}") from error


def _estimator(settings: FitSettings, *, verbose: bool) -> Any:
    from flowdetect.estimators import FlowDensity, FlowOutlierDetector

    given = {
        "contamination": settings.contamination,
        "false_alarm_rate": settings.false_alarm_rate,
        "max_steps": settings.max_steps,
    }
    parameters = {
        "random_state": settings.seed,
        "verbose": int(verbose),
        **settings.parameters,
        **{name: value for name, value in given.items() if value is not None},
    }
    kind = FlowOutlierDetector if settings.estimator == "detector" else FlowDensity
    try:
        estimator = kind().set_params(**parameters)
    except ValueError as error:
        raise UsageError(f"a {kind.__name__} has no such parameters: {str(error).splitlines()[0]}") from error
    return estimator


def _check_out(settings: FitSettings) -> None:
    folder = os.path.dirname(os.path.realpath(settings.out))
    if not os.path.isdir(folder):
        raise StorageError(f"there is no folder '{folder}' to write '{os.path.basename(settings.out)}' in.")
    if os.path.isdir(settings.out):
        raise UsageError(f"'{settings.out}' is a folder; name a file to write.")


def _check_not_read(out: str, partitions: Sequence[Partition]) -> None:
    read = [getattr(partition, "path", None) for partition in partitions]
    if os.path.realpath(out) in [os.path.realpath(path) for path in read if path is not None]:
        raise UsageError(f"'{out}' is read by this job; name another file to write.")


def _read(partitions: Sequence[Partition], settings: FitSettings) -> pd.DataFrame:
    tables = [_table(partition, settings) for partition in partitions]
    columns = list(tables[0].columns)
    for partition, table in zip(partitions, tables, strict=True):
        if set(table.columns) != set(columns):
            raise InputError(f"'{partition.name}' has other columns than '{partitions[0].name}'.")
    # One table is left as it is: joining could change the types of its columns.
    X = tables[0] if len(tables) == 1 else pd.concat([t[columns] for t in tables], ignore_index=True)
    if X.empty:
        raise InputError(f"'{partitions[0].name}' has no rows; a density needs some to be fitted to.")
    return X


def _table(partition: Partition, settings: FitSettings) -> pd.DataFrame:
    if isinstance(partition, CsvPartition):
        return _csv_table(partition, settings)
    batches = [rows.batch for rows in partition.batches(65_536)]
    return pa.Table.from_batches(batches, batches[0].schema).to_pandas()


def _csv_table(partition: CsvPartition, settings: FitSettings) -> pd.DataFrame:
    """Read csv as pandas does, so that the types of its columns are those that users expect."""
    kind = format_of(partition.name) if settings.format is None else SUFFIXES[f".{settings.format}"]
    marks = sorted(MISSING_TEXTS | set(settings.na_values))
    with reading(partition.name):
        stream = open_stream(partition.path, None if kind is None else kind[1])
        try:
            table = pd.read_csv(io.BytesIO(stream.read()), na_values=marks, low_memory=False)
        finally:
            if partition.path is not None:
                stream.close()
        if not isinstance(table.index, pd.RangeIndex):
            # pandas would take the first fields for an index, and name every other column wrongly.
            raise ValueError("its rows have more fields than its header has names.")
    return table


def _drop(X: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    unknown = [name for name in names if name not in X.columns]
    if unknown:
        raise UsageError(f"the table has no column '{unknown[0]}' to drop.")
    kept = X.drop(columns=list(names))
    if not kept.shape[1]:
        raise UsageError("no column is left to fit.")
    return kept
