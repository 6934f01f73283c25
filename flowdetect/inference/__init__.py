"""What follows from a density: expectations, posteriors, variational inference and mixtures."""

from flowdetect.inference._estimate import Estimate
from flowdetect.inference._expectation import expectation
from flowdetect.inference._mixture import FlowMixture
from flowdetect.inference._moments import Moments, moments, quantiles
from flowdetect.inference._posterior import FlowPosterior
from flowdetect.inference._probability import probability
from flowdetect.inference._ranks import RankStatistics, UniformRanks
from flowdetect.inference._variational import VariationalFlow

__all__ = [
    "Estimate",
    "FlowMixture",
    "FlowPosterior",
    "Moments",
    "RankStatistics",
    "UniformRanks",
    "VariationalFlow",
    "expectation",
    "moments",
    "probability",
    "quantiles",
]
