"""The two elementwise maps that coupling and autoregressive layers are made of, and their parameters."""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from flowdetect.exceptions import ConfigurationError
from flowdetect.flows._affine import affine, check_scale, identity_scale
from flowdetect.flows._splines import identity_derivative, packed_spline

__all__ = ["AffineMap", "ElementwiseMap", "SplineMap", "apply_where_observed"]


class ElementwiseMap(Protocol):
    """An invertible map of each element by its own parameters."""

    @property
    def n_params(self) -> int:
        """Number of parameters of one element."""

    def start(self) -> Tensor:
        """Return the parameters (n_params,) of the identity."""

    def __call__(
        self, inputs: Tensor, params: Tensor, hidden_features: int, inverse: bool
    ) -> tuple[Tensor, Tensor]:
        """Map inputs S by params (n_params,) + S; return outputs and log-derivatives S."""


@dataclass(frozen=True)
class SplineMap:
    """Rational-quadratic spline of ``n_bins`` bins, the identity outside ``[-tail_bound, tail_bound]``."""

    n_bins: int = 8
    tail_bound: float = 5.0

    def __post_init__(self) -> None:
        if self.n_bins < 2 or self.n_bins > 500:
            raise ConfigurationError(
                f"n_bins must lie in 2..500; got {self.n_bins!r}. The default, 8, suits most data."
            )
        if not 0.0 < self.tail_bound < math.inf:
            raise ConfigurationError(
                f"tail_bound must be positive and finite; got {self.tail_bound!r}. "
                "It is the half-width of the box of the spline; standardised data want 3 to 10."
            )

    @property
    def n_params(self) -> int:
        """Widths, heights and inner derivatives."""
        return 3 * self.n_bins - 1

    def start(self) -> Tensor:
        """Return equal bins with all derivatives 1."""
        values = torch.zeros(self.n_params)
        values[2 * self.n_bins :] = identity_derivative()
        return values

    def __call__(
        self, inputs: Tensor, params: Tensor, hidden_features: int, inverse: bool
    ) -> tuple[Tensor, Tensor]:
        """Map inputs S; widths and heights are divided by sqrt(hidden_features), as in nflows."""
        return packed_spline(
            inputs,
            params,
            n_bins=self.n_bins,
            inverse=inverse,
            tail_bound=self.tail_bound,
            size_scale=1.0 / math.sqrt(hidden_features),
        )


@dataclass(frozen=True)
class AffineMap:
    """``scale * x + shift``; the two parameters are (raw scale, shift). See :func:`_affine.log_scale`."""

    scale: str = "exp"

    def __post_init__(self) -> None:
        check_scale(self.scale)

    @property
    def n_params(self) -> int:
        """Raw scale and shift."""
        return 2

    def start(self) -> Tensor:
        """Return scale 1 and shift 0."""
        return torch.tensor([identity_scale(self.scale), 0.0])

    def __call__(
        self, inputs: Tensor, params: Tensor, hidden_features: int, inverse: bool
    ) -> tuple[Tensor, Tensor]:
        """Map inputs S."""
        return affine(inputs, params[0], params[1], self.scale, inverse)


def apply_where_observed(
    outputs: Tensor, log_det: Tensor, inputs: Tensor, observed: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Let unobserved elements pass unchanged, without a share of the log-determinant."""
    if observed is None:
        return outputs, log_det
    return torch.where(observed, outputs, inputs), torch.where(observed, log_det, 0.0)
