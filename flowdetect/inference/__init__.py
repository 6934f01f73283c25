"""Numbers that follow from a fitted density: expectations, probabilities, moments and quantiles."""

from flowdetect.inference._estimate import Estimate
from flowdetect.inference._expectation import expectation
from flowdetect.inference._moments import Moments, moments, quantiles
from flowdetect.inference._probability import probability

__all__ = ["Estimate", "Moments", "expectation", "moments", "probability", "quantiles"]
