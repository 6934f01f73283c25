"""Scheduled scoring: sources, targets, quarantine, manifest, drift and metrics.

What is slow to import is imported when it is asked for: the command line's ``--help`` does not wait for it.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flowdetect.jobs._drift import DriftMonitor
    from flowdetect.jobs._drift_job import DriftRun, run_drift
    from flowdetect.jobs._drift_reference import TableReference, learn_reference
    from flowdetect.jobs._drift_report import ColumnDrift, DriftReport, ScoreDrift
    from flowdetect.jobs._drift_scores import reference_of_fit
    from flowdetect.jobs._errors import (
        InputError,
        InternalError,
        JobError,
        ModelError,
        SchemaError,
        StorageError,
        TryAgainError,
        UsageError,
    )
    from flowdetect.jobs._fitting import FitReport, run_fit
    from flowdetect.jobs._plan import plan_score
    from flowdetect.jobs._run import ScoreReport, run_score
    from flowdetect.jobs._scoring import ScoredRows, score_batches
    from flowdetect.jobs._settings import DriftSettings, FitSettings, ScoreSettings
    from flowdetect.jobs._sources import open_sources
    from flowdetect.jobs._targets import open_target

__all__ = [
    "ColumnDrift",
    "DriftMonitor",
    "DriftReport",
    "DriftRun",
    "DriftSettings",
    "FitReport",
    "FitSettings",
    "InputError",
    "InternalError",
    "JobError",
    "ModelError",
    "SchemaError",
    "ScoreDrift",
    "ScoreReport",
    "ScoreSettings",
    "ScoredRows",
    "StorageError",
    "TableReference",
    "TryAgainError",
    "UsageError",
    "learn_reference",
    "open_sources",
    "open_target",
    "plan_score",
    "reference_of_fit",
    "run_drift",
    "run_fit",
    "run_score",
    "score_batches",
]

_HOMES = {
    "ColumnDrift": "_drift_report",
    "DriftMonitor": "_drift",
    "DriftReport": "_drift_report",
    "DriftRun": "_drift_job",
    "DriftSettings": "_settings",
    "FitReport": "_fitting",
    "FitSettings": "_settings",
    "InputError": "_errors",
    "InternalError": "_errors",
    "JobError": "_errors",
    "ModelError": "_errors",
    "SchemaError": "_errors",
    "ScoreDrift": "_drift_report",
    "ScoreReport": "_run",
    "ScoreSettings": "_settings",
    "ScoredRows": "_scoring",
    "StorageError": "_errors",
    "TableReference": "_drift_reference",
    "TryAgainError": "_errors",
    "UsageError": "_errors",
    "learn_reference": "_drift_reference",
    "open_sources": "_sources",
    "open_target": "_targets",
    "plan_score": "_plan",
    "reference_of_fit": "_drift_scores",
    "run_drift": "_drift_job",
    "run_fit": "_fitting",
    "run_score": "_run",
    "score_batches": "_scoring",
}

# Hidden from type checkers, which would otherwise take every misspelt name for a public one.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        return value
