"""Looking for drift as a job: sources to a report."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from flowdetect.exceptions import ConfigurationError, FlowDetectError
from flowdetect.jobs._casting import cast
from flowdetect.jobs._drift import DriftMonitor
from flowdetect.jobs._drift_report import DriftReport
from flowdetect.jobs._dry_run import check_file
from flowdetect.jobs._errors import ModelError, UsageError
from flowdetect.jobs._fitting import reference_of
from flowdetect.jobs._logs import log_event, redact_all
from flowdetect.jobs._plan import checked_model, describe_model, no_rows
from flowdetect.jobs._scoring import schema_of_model
from flowdetect.jobs._settings import DriftSettings
from flowdetect.jobs._sources import check_same_columns, open_sources
from flowdetect.jobs._stopping import check_stop
from flowdetect.persistence import Model

__all__ = ["DriftRun", "plan_drift", "run_drift"]


@dataclass(frozen=True)
class DriftRun:
    """What a drift job found.

    Attributes
    ----------
    report : DriftReport
    model_id : str
    n_read, n_left_out : int
        Rows of the sources, and those of them that cannot be scored and so were not looked at.
    """

    report: DriftReport
    model_id: str
    n_read: int
    n_left_out: int

    def to_dict(self) -> dict[str, Any]:
        """Return texts, numbers, lists, dicts and None, ready for ``json.dumps``."""
        counts = {"model_id": self.model_id, "n_read": self.n_read, "n_left_out": self.n_left_out}
        return {**counts, **self.report.to_dict()}


def run_drift(settings: DriftSettings) -> DriftRun:
    """Compare the rows of the sources with those that a model was fitted on.

    Parameters
    ----------
    settings : DriftSettings

    Returns
    -------
    DriftRun

    Raises
    ------
    JobError
        Of a class that says what stopped it.
    """
    model = checked_model(settings.model, settings.sha256)
    schema = schema_of_model(model)
    monitor = _monitor(model, settings)
    sources = open_sources(
        settings.sources, format=settings.format, query=settings.query, missing_texts=settings.na_values
    )
    n_read = n_left_out = 0
    for partition in check_same_columns(sources):
        for rows in partition.batches(settings.batch_rows):
            check_stop()
            frame, _, rejected = cast(rows, schema)
            monitor.update(frame)
            n_left_out += len(rejected) + len(rows.rejected)
            n_read += rows.batch.num_rows + len(rows.rejected)
    report = monitor.report()
    log_event("looked for drift", rows=n_read, left_out=n_left_out, verdict=report.verdict)
    return DriftRun(report, model.model_id, n_read, n_left_out)


def plan_drift(settings: DriftSettings) -> dict[str, Any]:
    """Return what `run_drift` would do, as texts, lists and dicts without secrets; no row is compared.

    Raises
    ------
    JobError
        Of the kind that the job itself would end with.
    """
    model = checked_model(settings.model, settings.sha256)
    monitor = _monitor(model, settings)
    sources = open_sources(
        settings.sources, format=settings.format, query=settings.query, missing_texts=settings.na_values
    )
    for partition in check_same_columns(sources):
        cast(no_rows(partition), schema_of_model(model))
    if settings.plot is not None:
        check_file(settings.plot)
    names = [source.name for source in sources]
    return {
        "model": {"path": settings.model, **describe_model(model)},
        "sources": names,
        "note": monitor.note,
        "settings": redact_all(asdict(settings) | {"sources": names}),
    }


def _monitor(model: Model, settings: DriftSettings) -> DriftMonitor:
    reference = reference_of(model)
    try:
        return DriftMonitor(model.estimator, reference, alpha=settings.alpha, ignore=settings.ignore)
    except ConfigurationError as error:
        kind = UsageError if reference is not None else ModelError
        raise kind(f"drift cannot be looked for: {error}") from error
    except FlowDetectError as error:
        raise ModelError(f"drift cannot be looked for: {error}") from error
