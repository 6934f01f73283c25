"""Codes, and contexts of values and codes, as the vectors that networks read."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from flowdetect._utils.layout import MatrixLayout
from flowdetect.flows._discrete import CodeReader

__all__ = ["CodeEmbedding", "ContextEmbedding"]

_MAX_EMBEDDING = 32


class CodeEmbedding(nn.Module):
    """Turn a row of codes into one vector: the sum of a learnt vector per column and code.

    Parameters
    ----------
    cardinalities : sequence of int
    n_outputs : int, optional
        Width of the vector. By default as many as one-hot columns would be independent, at most 32; 0 if all
        columns are constant.

    Examples
    --------
    >>> CodeEmbedding([3, 2])(torch.tensor([[2.0, 1.0]])).shape
    torch.Size([1, 3])
    """

    def __init__(self, cardinalities: Sequence[int], n_outputs: int | None = None) -> None:
        super().__init__()
        free = sum(cardinalities) - len(cardinalities)
        self.n_outputs = min(free, _MAX_EMBEDDING) if n_outputs is None else n_outputs
        self.reader = CodeReader(cardinalities)
        bound = (3.0 / max(1, len(cardinalities))) ** 0.5
        weight = torch.empty(self.reader.n_rows, self.n_outputs).uniform_(-bound, bound)
        self.weight = nn.Parameter(weight) if self.n_outputs else None

    def forward(self, codes: Tensor) -> Tensor:
        """Map codes (n, n_codes) to (n, n_outputs); NaN in rows with a code that is not valid."""
        if self.weight is None:
            return codes.new_zeros(len(codes), 0)
        index, valid = self.reader(codes)
        vectors = F.embedding_bag(index + self.reader.offsets, self.weight, mode="sum")
        return torch.where(valid.all(dim=1, keepdim=True), vectors, torch.nan)


class ContextEmbedding(nn.Module):
    """Turn encoded context rows ``[values | codes | extra]`` into the vectors that networks read.

    Values and extra columns stay as they are, codes are embedded.

    Parameters
    ----------
    layout : MatrixLayout, optional
        Of the values and codes; none if None.
    n_extra : int, default 0
        Columns behind them that are taken as they are, like a noise level.
    """

    def __init__(self, layout: MatrixLayout | None, *, n_extra: int = 0) -> None:
        super().__init__()
        self.layout = layout or MatrixLayout(n_values=0)
        self.n_columns = self.layout.n_columns + n_extra
        self.codes = CodeEmbedding(self.layout.cardinalities) if self.layout.n_codes else None
        self.n_outputs = self.layout.n_values + n_extra + (self.codes.n_outputs if self.codes else 0)

    def forward(self, context: Tensor) -> Tensor:
        """Map (n, n_columns) to (n, n_outputs)."""
        if self.codes is None:
            return context
        n_values, n_columns = self.layout.n_values, self.layout.n_columns
        codes = self.codes(context[:, n_values:n_columns])
        return torch.cat((context[:, :n_values], context[:, n_columns:], codes), dim=1)
