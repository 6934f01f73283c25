"""The density of hidden entries of a row given its other entries, for every choice of entries hidden."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from nflows.flows import Flow
from torch import Tensor, nn

from flowdetect._utils.layout import MatrixLayout
from flowdetect.flows._discrete import AutoregressiveCategorical
from flowdetect.flows._table import TableDensity

__all__ = ["ABSENT", "GIVEN", "TARGET", "CompletionModel", "completion_layouts"]

# What an entry is in a row: neither known nor asked for, known, or asked for.
ABSENT, GIVEN, TARGET = 0, 1, 2


def completion_layouts(
    n_values: int, cardinalities: Sequence[int], n_coordinates: int
) -> tuple[MatrixLayout, MatrixLayout]:
    """Return the layouts of the density, and of its context, with which a `CompletionModel` works.

    Parameters
    ----------
    n_values : int
    cardinalities : sequence of int
        Of the codes; the last code of each column says that its entry is not known.
    n_coordinates : int
        Of the normal distribution.
    """
    # Behind the codes stands for each value whether it is asked for: the values exist in the flow just there.
    rows = MatrixLayout(
        n_values,
        cardinalities=(*cardinalities, *[2] * n_values),
        gates=(*[-1] * len(cardinalities), *range(n_values)),
    )
    context = MatrixLayout(
        n_coordinates + n_values, cardinalities=tuple(cardinalities), gates=(-1,) * len(cardinalities)
    )
    return rows, context


class CompletionModel(nn.Module):
    r"""Density of hidden entries given the others, ``p(x_hidden | x_given)``, with one flow for all choices.

    Parameters
    ----------
    density : TableDensity
        Over residuals and codes, with the layouts of `completion_layouts`.
    value_units, code_units : sequence of int
        The table column, the unit that is hidden or given as a whole, of each value and of each code.
    gates : sequence of int
        For each value the code column that says whether it exists (code 0), or -1.
    n_drawn : sequence of int
        For each code column, how many of its codes, the first ones, an entry may be.
    coordinates : sequence of Tensor of shape (cardinality, n)
        For each code column, what each of its codes is in the normal distribution.
    mean, covariance : ndarray of shape (n_coordinates,) and (n_coordinates, n_coordinates)
        Of values and coordinates of codes. The covariance must be positive definite.

    Notes
    -----
    The codes come first, column after column. The values are then taken for normal: with the Cholesky factor
    ``L`` of the covariance, ordered so that what is given comes first,

    .. math:: e = L_{hh}^{-1} (x_h - \mu_{h | g}), \qquad
              \log p(x_h | x_g) = \log q(e | x_g) - \sum \log \operatorname{diag} L_{hh}

    and the flow q learns what the residuals e have left of a density of their own. Before it has learnt
    anything, the model is the normal distribution with its exact conditional distributions.

    References
    ----------
    Y. Li, S. Akbar, J. Oliva (2020), "ACFlow: Flow models for arbitrary conditional likelihoods", ICML.
    """

    mean: Tensor
    covariance: Tensor

    def __init__(
        self,
        density: TableDensity,
        *,
        value_units: Sequence[int],
        code_units: Sequence[int],
        gates: Sequence[int],
        n_drawn: Sequence[int],
        coordinates: Sequence[np.ndarray],
        mean: np.ndarray,
        covariance: np.ndarray,
    ) -> None:
        super().__init__()
        self.density = density
        self.n_values, self.n_codes = len(value_units), len(code_units)
        self._n_drawn = list(n_drawn)
        self._gated = [k for k, gate in enumerate(gates) if gate >= 0]
        self._gates = [gate for gate in gates if gate >= 0]
        self._value_units, self._code_units = list(value_units), list(code_units)
        for k, table in enumerate(coordinates):
            self.register_buffer(f"coordinates_{k}", torch.tensor(table), persistent=False)
        self.register_buffer("mean", torch.tensor(mean), persistent=False)
        self.register_buffer("covariance", torch.tensor(covariance), persistent=False)

    def log_prob(self, inputs: Tensor, roles: Tensor) -> Tensor:
        """Return the log-density of the entries asked for given the known ones.

        Parameters
        ----------
        inputs : Tensor of shape (n, n_values + n_codes)
            ``[values | codes]``.
        roles : Tensor of shape (n, n_units)
            `ABSENT`, `GIVEN` or `TARGET`.

        Returns
        -------
        Tensor of shape (n,)
            In nats; 0 where nothing is asked for.
        """
        values, codes = inputs.split((self.n_values, self.n_codes), dim=1)
        total = inputs.new_zeros(len(inputs))
        if self.n_codes:
            asked = roles[:, self._code_units] == TARGET
            known = self._where_known(codes, roles[:, self._code_units] != ABSENT)
            context = self._code_context(values, codes, roles)
            read = torch.cat((known, known.new_zeros(len(known), self.n_values)), dim=1)
            columns = self._categorical.log_prob_columns(read, context)[:, : self.n_codes]
            total = total + torch.where(asked, columns, 0.0).sum(dim=1)
        if self.n_values:
            total = total + self._value_log_prob(values, codes, roles)
        return total

    @torch.no_grad()
    def complete(self, inputs: Tensor, roles: Tensor, noise: Tensor, uniform: Tensor) -> Tensor:
        """Draw the entries asked for, some times for each row.

        Parameters
        ----------
        inputs : Tensor of shape (n, n_values + n_codes)
        roles : Tensor of shape (n, n_units)
        noise : Tensor of shape (n, n_draws, n_values)
            Standard normal.
        uniform : Tensor of shape (n, n_draws, n_codes)
            Uniform in 0..1.

        Returns
        -------
        Tensor of shape (n, n_draws, n_values + n_codes)
            With the known entries as they are; 0 where a value does not exist.
        """
        n_rows, n_draws = noise.shape[:2]
        asked = roles[:, self._code_units] == TARGET
        if bool(asked.any()):
            # The values depend on the codes drawn, so that every draw is a row of its own.
            inputs, roles = (part.repeat_interleave(n_draws, dim=0) for part in (inputs, roles))
            inputs = self._with_codes(inputs, roles, uniform.flatten(0, 1))
            noise = noise.flatten(0, 1).unsqueeze(1)
        values, codes = inputs.split((self.n_values, self.n_codes), dim=1)
        drawn = codes.unsqueeze(1).expand(-1, noise.shape[1], -1)
        if self.n_values:
            drawn = torch.cat((self._draw_values(values, codes, roles, noise), drawn), dim=2)
        return drawn.reshape(n_rows, n_draws, -1)

    # --- codes ------------------------------------------------------------------------------------------

    @property
    def _categorical(self) -> AutoregressiveCategorical:
        return cast(AutoregressiveCategorical, self.density.codes)

    def _where_known(self, codes: Tensor, known: Tensor) -> Tensor:
        """Return the codes, the last one, that stands for an entry not known, where they are not."""
        last = self.density.layout.cardinalities[: self.n_codes]
        return torch.where(known, codes, codes.new_tensor(last) - 1.0)

    def _code_context(self, values: Tensor, codes: Tensor, roles: Tensor) -> Tensor:
        """Return what the codes are conditional on: the values and codes given."""
        given = roles[:, self._code_units] == GIVEN
        solved = self._condition(values, codes, roles, given)
        return self._context(solved, codes, roles)

    def _with_codes(self, inputs: Tensor, roles: Tensor, uniform: Tensor) -> Tensor:
        """Draw the codes asked for by inverting their distribution functions at uniform numbers."""
        values, codes = inputs.split((self.n_values, self.n_codes), dim=1)
        asked = roles[:, self._code_units] == TARGET
        known = self._where_known(codes, roles[:, self._code_units] != ABSENT)

        def choice(shares: Tensor, column: int) -> Tensor:
            if column >= self.n_codes:
                return shares.new_zeros(len(shares), dtype=torch.long)
            n_drawn = self._n_drawn[column]
            steps = shares[:, :n_drawn].cumsum(dim=1)
            position = uniform[:, column : column + 1] * steps[:, -1:]
            code = (steps[:, :-1] <= position).sum(dim=1)
            return torch.where(asked[:, column], code, known[:, column].long())

        context = self._code_context(values, codes, roles)
        drawn = self._categorical.choose(len(codes), context, choice)
        return torch.cat((values, drawn[:, : self.n_codes].to(values)), dim=1)

    # --- values -----------------------------------------------------------------------------------------

    def _existing(self, codes: Tensor, mask: Tensor) -> Tensor:
        """Return a mask of values without those that their codes say do not exist."""
        if not self._gated:
            return mask
        mask = mask.clone()
        mask[:, self._gated] &= codes[:, self._gates] == 0
        return mask

    def _condition(self, values: Tensor, codes: Tensor, roles: Tensor, known: Tensor) -> _Conditioned:
        """Order the coordinates of each row by what is given, the values asked for, and the rest."""
        units = roles[:, self._value_units]
        given, asked = (self._existing(codes, units == role) for role in (GIVEN, TARGET))
        points, ranks = [values], [torch.where(given, 0, torch.where(asked, 1, 2))]
        for k in range(self.n_codes):
            table = getattr(self, f"coordinates_{k}").to(values.dtype)
            index = codes[:, k].long().clamp(0, len(table) - 1)
            points.append(table[index])
            seen = known[:, k] & (index < self._n_drawn[k])
            ranks.append(torch.where(seen, 0, 2).unsqueeze(1).expand(-1, table.shape[1]))
        return _Conditioned(
            torch.cat(points, dim=1).double(), torch.cat(ranks, dim=1), self.mean, self.covariance
        )

    def _context(self, solved: _Conditioned, codes: Tensor, roles: Tensor) -> Tensor:
        """Return the vectors that networks read: means given the known, which are known, and known codes."""
        known = self._where_known(codes, roles[:, self._code_units] == GIVEN)
        filled = solved.filled.to(codes.dtype)
        given = (solved.ranks[:, : self.n_values] == 0).to(codes.dtype)
        return self.density.context_embedding(torch.cat((filled, given, known), dim=1))

    def _flow_context(self, solved: _Conditioned, codes: Tensor, roles: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the flow is conditional on, and which values it is asked for."""
        asked = solved.ranks[:, : self.n_values] == 1
        known = self._where_known(codes, roles[:, self._code_units] != ABSENT)
        read = torch.cat((known, (~asked).to(codes.dtype)), dim=1)
        context = self._context(solved, codes, roles)
        return cast(Tensor, self.density._flow_context(read, context)), asked

    def _value_log_prob(self, values: Tensor, codes: Tensor, roles: Tensor) -> Tensor:
        known = roles[:, self._code_units] != ABSENT
        solved = self._condition(values, codes, roles, known)
        context, asked = self._flow_context(solved, codes, roles)
        residuals = solved.residuals[:, : self.n_values].to(values.dtype)
        log_scale = solved.log_scales[:, : self.n_values].to(values.dtype)
        flow = cast(Flow, self.density.flow)
        found = flow.log_prob(torch.where(asked, residuals, 0.0), context)
        return cast(Tensor, found) - torch.where(asked, log_scale, 0.0).sum(dim=1)

    def _draw_values(self, values: Tensor, codes: Tensor, roles: Tensor, noise: Tensor) -> Tensor:
        """Return values (n, n_draws, n_values), drawn where they are asked for."""
        known = roles[:, self._code_units] != ABSENT
        solved = self._condition(values, codes, roles, known)
        context, asked = self._flow_context(solved, codes, roles)
        n_draws = noise.shape[1]
        flow = cast(Flow, self.density.flow)
        start = torch.where(asked.unsqueeze(1), noise, 0.0).flatten(0, 1)
        residuals = flow._transform.inverse(start, context.repeat_interleave(n_draws, dim=0))[0]
        drawn = solved.restore(residuals.unflatten(0, (len(values), n_draws)))
        given = solved.ranks[:, : self.n_values] == 0
        kept = torch.where(given, values, 0.0).unsqueeze(1)
        return torch.where(asked.unsqueeze(1), drawn, kept)


class _Conditioned:
    """A normal distribution given some coordinates of each row.

    Attributes
    ----------
    ranks : Tensor of shape (n, m)
        0 given, 1 asked for, 2 neither.
    filled : Tensor of shape (n, m)
        What is given, and the conditional means of the other coordinates.
    residuals : Tensor of shape (n, m)
        Of the coordinates asked for: independent and standard normal, if the distribution is.
    log_scales : Tensor of shape (n, m)
        Of their logarithms, what the change to residuals takes from the log-density.
    """

    def __init__(self, points: Tensor, ranks: Tensor, mean: Tensor, covariance: Tensor) -> None:
        mean, covariance = mean.double(), covariance.double()
        self.ranks = ranks
        order = torch.argsort(ranks, dim=1, stable=True)
        self._place = torch.argsort(order, dim=1)
        self._factor = torch.linalg.cholesky(covariance[order[:, :, None], order[:, None, :]])
        centred = torch.where(ranks < 2, points - mean, 0.0).gather(1, order)
        self._solved = torch.linalg.solve_triangular(self._factor, centred.unsqueeze(2), upper=False)
        self._is_given = (ranks == 0).gather(1, order)
        self._centre = mean
        known = torch.where(self._is_given.unsqueeze(2), self._solved, 0.0)
        expected = mean + (self._factor @ known).squeeze(2).gather(1, self._place)
        self.filled = torch.where(ranks == 0, points, expected)
        self.residuals = self._solved.squeeze(2).gather(1, self._place)
        self.log_scales = self._factor.diagonal(dim1=1, dim2=2).log().gather(1, self._place)

    def restore(self, residuals: Tensor) -> Tensor:
        """Return the first coordinates, (n, n_draws, n_values), that have these residuals."""
        n_values = residuals.shape[2]
        n_rows, n_draws = residuals.shape[:2]
        padded = residuals.new_zeros(n_rows, n_draws, len(self._centre))
        padded[:, :, :n_values] = residuals
        order = torch.argsort(self._place, dim=1).unsqueeze(1).expand(-1, n_draws, -1)
        ordered = padded.gather(2, order).to(self._solved.dtype)
        solved = torch.where(self._is_given.unsqueeze(1), self._solved.transpose(1, 2), ordered)
        moved = solved @ self._factor.transpose(1, 2)
        found = moved.gather(2, self._place.unsqueeze(1).expand(-1, n_draws, -1)) + self._centre
        return found[:, :, :n_values].to(residuals.dtype)
