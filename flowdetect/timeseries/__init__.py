"""Series: odd stretches, windows as tables, and new stretches drawn."""

from flowdetect.timeseries._augmenter import SeriesAugmenter
from flowdetect.timeseries._detector import SeriesOutlierDetector
from flowdetect.timeseries._quality import compare_series
from flowdetect.timeseries._windows import SlidingWindow

__all__ = ["SeriesAugmenter", "SeriesOutlierDetector", "SlidingWindow", "compare_series"]
