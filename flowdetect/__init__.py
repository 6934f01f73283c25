"""Density-based anomaly detection on real tables with conditional neural spline flows."""

from flowdetect.estimators import FlowDensity, FlowOutlierDetector

__all__ = ["FlowDensity", "FlowOutlierDetector", "__version__"]

__version__ = "0.1.0"
