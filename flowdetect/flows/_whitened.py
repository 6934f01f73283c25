"""A density of classes that starts as a Gaussian for each: a linear map by class before the flow."""

import torch
from torch import Tensor, nn

from flowdetect.flows._table import TableDensity

__all__ = ["WhitenedDensity"]


class WhitenedDensity(nn.Module):
    r"""Density of rows whose values are whitened by class before another density sees them.

    With centre :math:`m_k` and lower triangular :math:`L_k` of class k, the values x become
    :math:`z = L_k^{-1}(x - m_k)`, and :math:`\log p(x | k) = \log q(z | k) - \log|\det L_k|`.

    Parameters
    ----------
    density : TableDensity
        Of whitened rows, conditional on the class.
    contexts : Tensor of shape (n_classes, n_context)
        The context that stands for each class; the context of every row is one of them.
    centres : Tensor of shape (n_classes, n_values)
    spreads : Tensor of shape (n_classes, n_values, n_values)
        Lower triangular with a positive diagonal; diagonal where values may be absent from a row.

    Examples
    --------
    >>> from flowdetect._utils.layout import MatrixLayout
    >>> density = TableDensity(MatrixLayout(2), context_layout=MatrixLayout(0, (2,), (-1,)), seed=0)
    >>> contexts = torch.tensor([[0.0], [1.0]])
    >>> whitened = WhitenedDensity(density, contexts, torch.zeros(2, 2), torch.eye(2).repeat(2, 1, 1))
    >>> whitened.log_prob(torch.zeros(3, 2), contexts[[0, 1, 0]]).shape
    torch.Size([3])
    """

    contexts: Tensor
    centres: Tensor
    spreads: Tensor
    inverses: Tensor

    def __init__(self, density: TableDensity, contexts: Tensor, centres: Tensor, spreads: Tensor) -> None:
        super().__init__()
        self.density = density
        like = next(density.parameters())
        unit = torch.eye(spreads.shape[1], dtype=spreads.dtype)
        inverses = torch.linalg.solve_triangular(spreads, unit.expand_as(spreads), upper=False)
        for name, value in (("contexts", contexts), ("centres", centres), ("spreads", spreads)):
            self.register_buffer(name, value.to(like))
        self.register_buffer("inverses", inverses.to(like))

    def log_prob(self, inputs: Tensor, context: Tensor) -> Tensor:
        """Return the log-density of rows, shape (n,), in nats.

        Parameters
        ----------
        inputs : Tensor of shape (n, n_columns)
            ``[values | codes]``.
        context : Tensor of shape (n, n_context)
        """
        k = self._classes(context)
        values, codes = self._parts(inputs)
        whitened = _by_class(self.inverses, values - self.centres[k], k)
        logs = self.inverses.diagonal(dim1=1, dim2=2).log()[k]
        if self.density.layout.gated:
            logs = logs * self.density._observed(codes)
        return self.density.log_prob(torch.cat((whitened, codes), dim=1), context) + logs.sum(dim=1)

    def sample_rows(self, n_rows: int, context: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw one row for each of the n_rows rows of the context, as `TableDensity.sample_rows` does."""
        k = self._classes(context)
        with torch.no_grad():
            whitened, codes = self._parts(self.density.sample_rows(n_rows, context, generator))
            values = self.centres[k] + _by_class(self.spreads, whitened, k)
            if self.density.layout.gated:
                values = values * self.density._observed(codes)
            return torch.cat((values, codes), dim=1)

    def _parts(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        values, codes = rows.split((self.density.layout.n_values, self.density.layout.n_codes), dim=1)
        return values, codes

    def _classes(self, context: Tensor) -> Tensor:
        return (context[:, None, :] == self.contexts).all(dim=2).to(torch.int8).argmax(dim=1)


def _by_class(matrices: Tensor, rows: Tensor, k: Tensor) -> Tensor:
    """Return each row times the matrix of its class, without a copy of the matrix for each row."""
    products = torch.einsum("kij,nj->nki", matrices, rows)
    return products.gather(1, k.view(-1, 1, 1).expand(-1, 1, rows.shape[1])).squeeze(1)
