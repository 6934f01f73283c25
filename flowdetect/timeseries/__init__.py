"""Series: odd stretches, windows as tables, and new stretches drawn."""

from flowdetect.timeseries._detector import SeriesOutlierDetector
from flowdetect.timeseries._windows import SlidingWindow

__all__ = ["SeriesOutlierDetector", "SlidingWindow"]
