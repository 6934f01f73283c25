"""The density of noisy rows, in coordinates that are of unit size at every noise scale."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from flowdetect.exceptions import ConfigurationError
from flowdetect.flows._table import TableDensity

__all__ = ["NoiseWhitenedDensity"]


class NoiseWhitenedDensity(nn.Module):
    r"""A noise-conditional density whose start is the Gaussian of the rows' covariance, at every noise scale.

    The values x of a row, with noise of covariance :math:`s^2 N`, become

    .. math:: z = (I + s^2 D)^{-1/2} P (x - m), \qquad P C P^T = I, \quad P N P^T = D,

    where C is the covariance of the rows without noise, so that z has the identity as its covariance whatever
    s is. The density given, whose last context column says s, is that of z.

    Parameters
    ----------
    density : TableDensity
        Of rows ``[z | codes]``.
    mean : ndarray of shape (n_values,)
        m.
    directions : ndarray of shape (n_values, n_values)
        P; diagonal if some values are absent from some rows.
    spreads : ndarray of shape (n_values,)
        The diagonal of D, not negative.
    levels : tuple of two floats, default=(0.0, 1.0)
        Centre and width of :math:`\tfrac12 \log s`, which the density is given in widths from the centre.

    Raises
    ------
    ConfigurationError
        If the shapes are not those of the density's values, or values that may be absent would be mixed.

    Notes
    -----
    A density that starts at the standard normal one starts here as a Gaussian, and denoising by it as the
    linear (Wiener) filter; what is learnt is how the rows differ from that.

    References
    ----------
    N. Wiener (1949), *Extrapolation, Interpolation, and Smoothing of Stationary Time Series*.
    T. Karras, M. Aittala, T. Aila, S. Laine (2022), "Elucidating the design space of diffusion-based
    generative models", NeurIPS, section 5, scales inputs likewise by one number for each noise scale.

    Examples
    --------
    >>> from flowdetect._utils.layout import MatrixLayout
    >>> inner = TableDensity(MatrixLayout(1), n_extra_context=1, seed=0)
    >>> density = NoiseWhitenedDensity(inner, np.zeros(1), np.eye(1), np.ones(1))
    >>> density.log_prob(torch.zeros(2, 1), torch.zeros(2, 1)).shape
    torch.Size([2])
    """

    def __init__(
        self,
        density: TableDensity,
        mean: np.ndarray,
        directions: np.ndarray,
        spreads: np.ndarray,
        *,
        levels: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        super().__init__()
        n_values = density.layout.n_values
        shapes = (mean.shape, directions.shape, spreads.shape)
        if shapes != ((n_values,), (n_values, n_values), (n_values,)):
            raise ConfigurationError(
                f"mean, directions and spreads must be of {n_values} values; got shapes {shapes}."
            )
        if density.layout.gated and np.count_nonzero(directions - np.diag(np.diag(directions))):
            raise ConfigurationError(
                "directions must be diagonal where values may be absent: an absent value must not be read; "
                "got others."
            )
        self.density = density
        self.levels = levels
        dtype = next(density.parameters()).dtype
        for name, array in (("mean", mean), ("directions", directions), ("spreads", spreads)):
            self.register_buffer(name, torch.tensor(array, dtype=dtype), persistent=False)
        self._log_volume = float(np.linalg.slogdet(directions)[1])

    mean: Tensor
    directions: Tensor
    spreads: Tensor

    def log_prob(self, inputs: Tensor, context: Tensor) -> Tensor:
        """Return the log-density of noisy rows.

        Parameters
        ----------
        inputs : Tensor of shape (n, n_columns)
            ``[values | codes]``.
        context : Tensor of shape (n, n_context_columns)
            Its last column is ``0.5 * log(s)``.

        Returns
        -------
        Tensor of shape (n,)
            In nats.
        """
        layout = self.density.layout
        values, codes = inputs.split((layout.n_values, layout.n_codes), dim=1)
        growth = self._growth(context)
        whitened = (values - self.mean) @ self.directions.T * growth.rsqrt()
        rows = torch.cat((whitened, codes), dim=1)
        log_prob: Tensor = self.density.log_prob(rows, self._inner_context(context))
        return log_prob + self._log_det(growth, codes)

    @torch.no_grad()
    def sample_rows(self, n_rows: int, context: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw noisy rows, one for each row of the context, shape (n_rows, n_columns).

        Parameters
        ----------
        n_rows : int
        context : Tensor of shape (n_rows, n_context_columns)
            Its last column is ``0.5 * log(s)``.
        generator : torch.Generator, optional
            On the module's device; torch's global stream if None.
        """
        drawn = self.density.sample_rows(n_rows, self._inner_context(context), generator)
        return self._noisy_rows(drawn, context)

    @torch.no_grad()
    def rows_at(self, uniforms: Tensor, context: Tensor) -> Tensor:
        """Return the noisy rows at points of the unit cube, as `TableDensity.rows_at` does.

        Parameters
        ----------
        uniforms : Tensor of shape (n_rows, n_columns)
            Within 0..1, without the ends.
        context : Tensor of shape (n_rows, n_context_columns)
            Its last column is ``0.5 * log(s)``.
        """
        return self._noisy_rows(self.density.rows_at(uniforms, self._inner_context(context)), context)

    def _noisy_rows(self, inner: Tensor, context: Tensor) -> Tensor:
        """Return rows ``[x | codes]`` for those of the density, ``[z | codes]``."""
        layout = self.density.layout
        whitened, codes = inner.split((layout.n_values, layout.n_codes), dim=1)
        spread = whitened * self._growth(context).sqrt()
        values = torch.linalg.solve(self.directions, spread.T).T + self.mean
        if layout.gated:
            values = values * self.density._observed(codes)
        return torch.cat((values, codes), dim=1)

    def _inner_context(self, context: Tensor) -> Tensor:
        centre, width = self.levels
        level = (context[:, -1:] - centre) / width
        return torch.cat((context[:, :-1], level), dim=1)

    def _growth(self, context: Tensor) -> Tensor:
        return 1.0 + torch.exp(4.0 * context[:, -1:]) * self.spreads

    def _log_det(self, growth: Tensor, codes: Tensor) -> Tensor:
        shrinking = -0.5 * growth.log()
        if not self.density.layout.gated:
            return shrinking.sum(dim=1) + self._log_volume
        each = shrinking + self.directions.diagonal().abs().log()
        return (each * self.density._observed(codes)).sum(dim=1)
