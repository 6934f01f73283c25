"""Pictures of scores, densities, reasons, drawn rows and series, as scikit-learn's ``*Display`` classes.

matplotlib is imported when a picture is drawn, not when this module is.
"""

from flowdetect.plotting._augmentation import AugmentationDisplay
from flowdetect.plotting._calibration_ranks import CalibrationRankDisplay
from flowdetect.plotting._contributions import ContributionDisplay
from flowdetect.plotting._density_map import DensityMapDisplay
from flowdetect.plotting._drawn_windows import WindowsDisplay
from flowdetect.plotting._drift import DriftDisplay
from flowdetect.plotting._forecast import ForecastDisplay
from flowdetect.plotting._p_values import PValueCalibrationDisplay
from flowdetect.plotting._scores import ScoreDistributionDisplay
from flowdetect.plotting._series import SeriesDisplay

__all__ = [
    "AugmentationDisplay",
    "CalibrationRankDisplay",
    "ContributionDisplay",
    "DensityMapDisplay",
    "DriftDisplay",
    "ForecastDisplay",
    "PValueCalibrationDisplay",
    "ScoreDistributionDisplay",
    "SeriesDisplay",
    "WindowsDisplay",
]
