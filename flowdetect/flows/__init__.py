"""Conditional normalising flows; every piece is an nflows Transform or Distribution."""

from flowdetect.flows._architecture import DensityArchitecture
from flowdetect.flows._autoregressive import AffineAutoregressive, SplineAutoregressive
from flowdetect.flows._build import FlowConfig, FlowSettings, build_flow
from flowdetect.flows._completion import ABSENT, GIVEN, TARGET, CompletionModel, completion_layouts
from flowdetect.flows._conditioners import LearntParameters, PlainNetwork, ResidualNetwork
from flowdetect.flows._convolutions import (
    CheckerboardCoupling,
    ConvolutionalCoupling,
    ConvolutionalNetwork,
    InvertibleConvolution,
    Squeeze,
)
from flowdetect.flows._coupling import AffineCoupling, SplineCoupling
from flowdetect.flows._discrete import AutoregressiveCategorical
from flowdetect.flows._distributions import DiagonalNormal, StandardNormal
from flowdetect.flows._elementwise import AffineMap, SplineMap
from flowdetect.flows._embeddings import CodeEmbedding, ContextEmbedding
from flowdetect.flows._image_flow import ImageFlowConfig, build_image_flow
from flowdetect.flows._latents import latents_to_rows, rows_to_latents
from flowdetect.flows._linear import LULinear, Permutation, RandomPermutation, ReversePermutation
from flowdetect.flows._masked_networks import MaskedNetwork
from flowdetect.flows._noise_whitened import NoiseWhitenedDensity
from flowdetect.flows._reversed import Reversed
from flowdetect.flows._sampling import sample_flow, sample_flow_and_log_prob
from flowdetect.flows._splines import rational_quadratic_spline
from flowdetect.flows._table import TableDensity
from flowdetect.flows._whitened import WhitenedDensity

__all__ = [
    "ABSENT",
    "GIVEN",
    "TARGET",
    "AffineAutoregressive",
    "AffineCoupling",
    "AffineMap",
    "AutoregressiveCategorical",
    "CheckerboardCoupling",
    "CodeEmbedding",
    "CompletionModel",
    "ContextEmbedding",
    "ConvolutionalCoupling",
    "ConvolutionalNetwork",
    "DensityArchitecture",
    "DiagonalNormal",
    "FlowConfig",
    "FlowSettings",
    "ImageFlowConfig",
    "InvertibleConvolution",
    "LULinear",
    "LearntParameters",
    "MaskedNetwork",
    "NoiseWhitenedDensity",
    "Permutation",
    "PlainNetwork",
    "RandomPermutation",
    "ResidualNetwork",
    "ReversePermutation",
    "Reversed",
    "SplineAutoregressive",
    "SplineCoupling",
    "SplineMap",
    "Squeeze",
    "StandardNormal",
    "TableDensity",
    "WhitenedDensity",
    "build_flow",
    "build_image_flow",
    "completion_layouts",
    "latents_to_rows",
    "rational_quadratic_spline",
    "rows_to_latents",
    "sample_flow",
    "sample_flow_and_log_prob",
]
