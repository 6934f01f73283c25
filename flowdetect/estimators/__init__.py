"""What users call: scikit-learn estimators around one density of a table."""

from flowdetect.estimators._augmenter import FlowAugmenter
from flowdetect.estimators._classifier import FlowClassifier
from flowdetect.estimators._density import FlowDensity
from flowdetect.estimators._gaussianizer import FlowGaussianizer
from flowdetect.estimators._imputer import FlowImputer
from flowdetect.estimators._outlier import FlowOutlierDetector

__all__ = [
    "FlowAugmenter",
    "FlowClassifier",
    "FlowDensity",
    "FlowGaussianizer",
    "FlowImputer",
    "FlowOutlierDetector",
]
