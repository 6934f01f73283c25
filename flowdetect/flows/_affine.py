"""Elementwise affine maps with a scale that is positive and cannot overflow."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from flowdetect.exceptions import ConfigurationError

__all__ = ["SCALES", "affine", "identity_scale", "log_scale"]

SCALES = ("exp", "sigmoid", "softplus")
_MAX_LOG_SCALE = 5.0
_MIN_SCALE = 1e-3
_MAX_RAW = 1e4


def check_scale(scale: str) -> str:
    """Return the name of the scale's form.

    Raises
    ------
    ConfigurationError
        If there is no such form.
    """
    if scale not in SCALES:
        raise ConfigurationError(f"scale must be one of {SCALES}; got {scale!r}. Choose one of these.")
    return scale


def log_scale(raw: Tensor, scale: str) -> Tensor:
    """Return the logarithm of the scale that an unconstrained parameter stands for.

    Parameters
    ----------
    raw : Tensor
    scale : {"exp", "sigmoid", "softplus"}
        * ``"exp"``: ``5 tanh(raw / 5)`` is the log-scale; within e^-5 .. e^5, 1 at raw = 0. Our default.
        * ``"sigmoid"``: the scale is ``sigmoid(raw + 2) + 1e-3``, as in nflows' affine coupling. It never
          exceeds 1.001.
        * ``"softplus"``: the scale is ``softplus(raw) + 1e-3``, as in nflows' affine autoregressive layer
          (raw is cut at 1e4).
    """
    if scale == "exp":
        return _MAX_LOG_SCALE * torch.tanh(raw / _MAX_LOG_SCALE)
    if scale == "sigmoid":
        return torch.log(torch.sigmoid(raw + 2.0) + _MIN_SCALE)
    return torch.log(F.softplus(raw.clamp_max(_MAX_RAW)) + _MIN_SCALE)


def identity_scale(scale: str) -> float:
    """Return the raw parameter whose scale is 1."""
    wanted = 1.0 - _MIN_SCALE
    return {
        "exp": 0.0,
        "sigmoid": math.log(wanted / _MIN_SCALE) - 2.0,
        "softplus": math.log(math.expm1(wanted)),
    }[scale]


def affine(inputs: Tensor, raw: Tensor, shift: Tensor, scale: str, inverse: bool) -> tuple[Tensor, Tensor]:
    """Return ``scale * inputs + shift``, or its inverse, with the log-scale of each element.

    Results beyond the largest number of the dtype are cut to it, so finite inputs give finite outputs.
    """
    log_det = log_scale(raw, scale)
    if inverse:
        log_det = -log_det
        # Two products rather than a quotient: the gradient of a quotient overflows before its value.
        outputs = (inputs - shift) * torch.exp(log_det)
    else:
        outputs = inputs * torch.exp(log_det) + shift
    limit = torch.finfo(outputs.dtype).max
    return outputs.clamp(-limit, limit), log_det
