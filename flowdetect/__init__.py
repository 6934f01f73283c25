"""Density-based anomaly detection on real tables with conditional neural spline flows.

The public names are imported when they are first used: ``import flowdetect``, and the help of the command
line, wait for neither torch nor scikit-learn.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flowdetect.estimators import FlowDensity, FlowOutlierDetector

__all__ = ["FlowDensity", "FlowOutlierDetector", "__version__"]

__version__ = "0.1.0"

_HOMES = {"FlowDensity": "estimators", "FlowOutlierDetector": "estimators"}
_SUBMODULES = (
    "calibration",
    "estimators",
    "exceptions",
    "explanation",
    "flows",
    "plotting",
    "preprocessing",
    "training",
)

# Hidden from type checkers, which would otherwise take every misspelt name for a public one.
if not TYPE_CHECKING:
    from importlib import import_module

    def __getattr__(name: str) -> object:
        if name in _SUBMODULES:
            return import_module(f"{__name__}.{name}")
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__, *_SUBMODULES})
