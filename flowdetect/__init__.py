"""Density-based anomaly detection and data augmentation on tables with conditional neural spline flows."""

import sys
from importlib import import_module
from pathlib import PurePath
from typing import TYPE_CHECKING

from flowdetect._utils.version import __version__

if TYPE_CHECKING:
    from flowdetect.estimators import (
        FlowAugmenter,
        FlowClassifier,
        FlowDensity,
        FlowGaussianizer,
        FlowImputer,
        FlowOutlierDetector,
    )
    from flowdetect.persistence import load, save

__all__ = [
    "FlowAugmenter",
    "FlowClassifier",
    "FlowDensity",
    "FlowGaussianizer",
    "FlowImputer",
    "FlowOutlierDetector",
    "__version__",
    "load",
    "save",
]

_ESTIMATORS = (
    "FlowAugmenter",
    "FlowClassifier",
    "FlowDensity",
    "FlowGaussianizer",
    "FlowImputer",
    "FlowOutlierDetector",
)
_HOMES = dict.fromkeys(_ESTIMATORS, "estimators") | dict.fromkeys(("load", "save"), "persistence")
_SUBMODULES = (
    *("calibration", "estimators", "exceptions", "explanation"),
    *(
        "flows",
        "inference",
        "jobs",
        "persistence",
        "plotting",
        "preprocessing",
        "quality",
        "timeseries",
        "training",
    ),
)


def _is_command() -> bool:
    """Return whether this process is the command line, whose help must not wait for scikit-learn."""
    return PurePath(sys.argv[0] if sys.argv else "").stem == "flowdetect" or "flowdetect.cli" in sys.orig_argv


# Hidden from type checkers, which would otherwise take every misspelt name for a public one.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name in _SUBMODULES:
            return import_module(f"{__name__}.{name}")
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__, *_SUBMODULES})

    if not _is_command():
        # Into the namespace: there are callers that look names up in it.
        globals().update({name: __getattr__(name) for name in _ESTIMATORS})
