"""Linear mixing of the features: permutations and a learnt LU-factorised matrix."""

import math
from collections.abc import Sequence

import torch
from nflows.transforms.base import Transform
from torch import Tensor, nn
from torch.nn import functional as F

from flowdetect.exceptions import ConfigurationError

__all__ = ["LULinear", "Permutation", "RandomPermutation", "ReversePermutation", "cut"]


class Permutation(Transform):
    """Reorder the features.

    Parameters
    ----------
    permutation : sequence of int, or Tensor
        Output i is input permutation[i].

    Raises
    ------
    ConfigurationError
        If it does not hold each of 0 .. n_features - 1 once.

    Examples
    --------
    >>> outputs, _ = Permutation([2, 0, 1])(torch.tensor([[10.0, 11.0, 12.0]]))
    >>> outputs.tolist()
    [[12.0, 10.0, 11.0]]
    """

    _permutation: Tensor

    def __init__(self, permutation: Sequence[int] | Tensor) -> None:
        super().__init__()
        order = torch.as_tensor(permutation, dtype=torch.long)
        if order.ndim != 1 or sorted(order.tolist()) != list(range(len(order))):
            raise ConfigurationError(
                f"permutation must hold each of 0 .. n_features - 1 once; got {order.tolist()!r}."
            )
        self.register_buffer("_permutation", order)

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Reorder inputs (n, n_features); the log-determinant is 0."""
        return inputs.index_select(1, self._permutation), inputs.new_zeros(len(inputs))

    def inverse(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Put the features back; the log-determinant is 0."""
        return inputs.index_select(1, torch.argsort(self._permutation)), inputs.new_zeros(len(inputs))


class ReversePermutation(Permutation):
    """Reverse the order of n_features features."""

    def __init__(self, n_features: int) -> None:
        super().__init__(range(n_features - 1, -1, -1))


class RandomPermutation(Permutation):
    """Reorder n_features features at random; the seed alone decides how."""

    def __init__(self, n_features: int, *, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        super().__init__(torch.randperm(n_features, generator=generator))


class LULinear(Transform):
    """Invertible linear map ``x -> L U x + b`` with L unit lower and U upper triangular.

    Parameters
    ----------
    n_features : int
    min_diagonal : float, default 1e-3
        Smallest entry on the diagonal of U, so that the map stays invertible.

    Notes
    -----
    Starts at the identity. Parameters are named as in nflows' LULinear. Nothing is cached. Inputs beyond the
    root of the dtype's largest number (1.8e19 in float32) are cut to it.

    Examples
    --------
    >>> layer = LULinear(3)
    >>> [round(value, 4) for value in layer(torch.ones(1, 3))[0][0].tolist()]
    [1.0, 1.0, 1.0]
    """

    _lower: Tensor
    _upper: Tensor

    def __init__(self, n_features: int, *, min_diagonal: float = 1e-3) -> None:
        super().__init__()
        self.n_features = n_features
        self.min_diagonal = min_diagonal
        n_entries = n_features * (n_features - 1) // 2
        self.bias = nn.Parameter(torch.zeros(n_features))
        self.lower_entries = nn.Parameter(torch.zeros(n_entries))
        self.upper_entries = nn.Parameter(torch.zeros(n_entries))
        start = math.log(math.expm1(1.0 - min_diagonal))
        self.unconstrained_upper_diag = nn.Parameter(torch.full((n_features,), start))
        lower = torch.tril_indices(n_features, n_features, -1)
        upper = torch.triu_indices(n_features, n_features, 1)
        self.register_buffer("_lower", lower[0] * n_features + lower[1], persistent=False)
        self.register_buffer("_upper", upper[0] * n_features + upper[1], persistent=False)

    def forward(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map inputs (n, n_features); return the outputs and log|det| (n,) in nats."""
        lower, upper, diagonal = self._factors()
        outputs = F.linear(F.linear(cut(inputs), upper), lower, self.bias)
        return outputs, diagonal.log().sum().expand(len(inputs))

    def inverse(self, inputs: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Undo :meth:`forward` by two triangular solves; return the outputs and log|det| (n,)."""
        lower, upper, diagonal = self._factors()
        right = (cut(inputs) - self.bias).T
        right = torch.linalg.solve_triangular(lower, right, upper=False, unitriangular=True)
        outputs = torch.linalg.solve_triangular(upper, right, upper=True).T
        return outputs, -diagonal.log().sum().expand(len(inputs))

    def _factors(self) -> tuple[Tensor, Tensor, Tensor]:
        n = self.n_features
        diagonal = F.softplus(self.unconstrained_upper_diag) + self.min_diagonal
        blank = diagonal.new_zeros(n * n)
        lower = blank.index_copy(0, self._lower, self.lower_entries).view(n, n)
        upper = blank.index_copy(0, self._upper, self.upper_entries).view(n, n)
        return lower + torch.eye(n, dtype=lower.dtype, device=lower.device), upper + diagonal.diag(), diagonal


def cut(values: Tensor) -> Tensor:
    """Cut values to the root of the dtype's largest number, so that no sum of products overflows.

    That is 1.8e19 in float32 and 1.3e154 in float64, where any base density is 0 to the last digit.
    """
    limit = math.sqrt(torch.finfo(values.dtype).max)
    return values.clamp(-limit, limit)
