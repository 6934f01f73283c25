"""A fit as a job: a table to a model file that knows what it was fitted on."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pandas as pd

from flowdetect.exceptions import InvalidTableError
from flowdetect.jobs._drift_reference import TableReference
from flowdetect.jobs._drift_scores import reference_of_fit
from flowdetect.jobs._dry_run import check_file
from flowdetect.jobs._errors import InputError, ModelError, StorageError, UsageError
from flowdetect.jobs._files import STANDARD_INPUT
from flowdetect.jobs._locking import lock_of, locked, sweep
from flowdetect.jobs._logs import log_event, redact_all
from flowdetect.jobs._rows import Partition
from flowdetect.jobs._settings import FitSettings
from flowdetect.jobs._sources import open_sources
from flowdetect.jobs._targets import storing
from flowdetect.jobs._training_rows import TrainingRows, read_rows
from flowdetect.persistence import Model, save

__all__ = ["FitReport", "plan_fit", "reference_of", "run_fit"]

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
    n_quarantined : int
        Rows that were set aside.
    seconds : float
    """

    model_id: str
    path: str
    n_rows: int
    n_columns: int
    n_quarantined: int
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
        With the exit code; the model file is then as it was, while the quarantine may be new.
    TrainingError
        If the loss does not stay finite.
    """
    begin = time.monotonic()
    estimator = _estimator(settings, verbose=verbose)
    partitions = _checked_sources(settings)
    with locked([lock_of(os.path.realpath(settings.out))], settings.out, wait=settings.wait):
        sweep(settings.out)
        trained_on = [{"name": part.name, "sha256": part.fingerprint()} for part in partitions]
        rows = read_rows(partitions, settings)
        X = _learnt(rows, settings)
        if rows.left_out:
            log_event("left out, as only the names of folders hold them", columns=list(rows.left_out))
        log_event(
            "fitting",
            rows=len(X),
            quarantined=rows.n_quarantined,
            columns=X.shape[1],
            estimator=type(estimator).__name__,
        )
        try:
            estimator.fit(X)
        except InvalidTableError as error:
            raise InputError(str(error)) from error
        log_event("columns", **_kinds(estimator))
        metadata = {
            **settings.metadata,
            "trained_on": redact_all(trained_on),
            REFERENCE: reference_of_fit(estimator, X).to_dict(),
        }
        with storing(settings.out):
            model_id = save(estimator, settings.out, metadata=metadata)
    report = FitReport(
        model_id, settings.out, len(X), X.shape[1], rows.n_quarantined, time.monotonic() - begin
    )
    log_event("fitted", model_id=model_id, path=settings.out, seconds=round(report.seconds, 3))
    return report


def plan_fit(settings: FitSettings) -> dict[str, Any]:
    """Return what `run_fit` would do, as texts, numbers, lists and dicts without secrets; nothing is written.

    The rows are read, so that those that cannot be used are found.

    Raises
    ------
    JobError
        Of the kind that the fit itself would end with before it trains.
    """
    estimator = _estimator(settings, verbose=False)
    partitions = _checked_sources(settings)
    check_file(settings.out)
    rows = read_rows(partitions, settings, dry=True)
    X = _learnt(rows, settings)
    return {
        "estimator": type(estimator).__name__,
        "sources": [partition.name for partition in partitions],
        "output": settings.out,
        "quarantine": settings.quarantine,
        "n_rows": len(X),
        "n_quarantined": rows.n_quarantined,
        "columns": {str(name): str(dtype) for name, dtype in X.dtypes.items()},
        "left_out": list(rows.left_out),
        "settings": redact_all(asdict(settings) | {"sources": [each.name for each in partitions]}),
    }


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


def _checked_sources(settings: FitSettings) -> list[Partition]:
    _check_out(settings)
    if settings.quarantine is None and (settings.limit.rows or settings.limit.share):
        raise UsageError("a limit for bad rows needs a quarantine to set them aside in.")
    partitions = open_sources(
        settings.sources, format=settings.format, query=settings.query, missing_texts=settings.na_values
    )
    for written in (settings.out, settings.quarantine):
        _check_not_read(written, partitions)
    return partitions


def _learnt(rows: TrainingRows, settings: FitSettings) -> pd.DataFrame:
    return _drop(rows.frame, [name for name in settings.drop if name not in rows.left_out])


def _kinds(estimator: Any) -> dict[str, Any]:
    """Return the columns by what the model took them for: a number that became a label shows there."""
    found: dict[str, list[str]] = {}
    for column in estimator.encoder_.schema_.columns:
        found.setdefault(column.kind, []).append(str(column.name))
    return found


def _check_out(settings: FitSettings) -> None:
    if settings.out == STANDARD_INPUT:
        raise UsageError("a model is not written to standard output; name a file.")
    folder = os.path.dirname(os.path.realpath(settings.out))
    if not os.path.isdir(folder):
        raise StorageError(f"there is no folder '{folder}' to write '{os.path.basename(settings.out)}' in.")
    if os.path.isdir(settings.out):
        raise UsageError(f"'{settings.out}' is a folder; name a file to write.")


def _check_not_read(out: str | None, partitions: Sequence[Partition]) -> None:
    read = [partition.path for partition in partitions if partition.path is not None]
    if out is not None and os.path.realpath(out) in [os.path.realpath(path) for path in read]:
        raise UsageError(f"'{out}' is read by this job; name another file to write.")


def _drop(X: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    unknown = [name for name in names if name not in X.columns]
    if unknown:
        raise UsageError(f"the table has no column '{unknown[0]}' to drop.")
    kept = X.drop(columns=list(names))
    if not kept.shape[1]:
        raise UsageError("no column is left to fit.")
    return kept
