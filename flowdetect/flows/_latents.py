"""Encoded table rows as independent standard normal numbers, and back."""

import torch
from torch import Tensor
from torch.nn import functional as F

from flowdetect.exceptions import ConfigurationError
from flowdetect.flows._conditioners import clamp_reach
from flowdetect.flows._discrete import AutoregressiveCategorical
from flowdetect.flows._distributions import StandardNormal
from flowdetect.flows._table import TableDensity

__all__ = ["latents_to_rows", "rows_to_latents"]

# Further out a latent says nothing more, and products of it would overflow on their way through the layers.
_FURTHEST = 1e30


@torch.no_grad()
def rows_to_latents(
    density: TableDensity, rows: Tensor, context: Tensor | None = None, *, positions: Tensor | None = None
) -> Tensor:
    r"""Turn rows of a table density into standard normal numbers, one for each column.

    Parameters
    ----------
    density : TableDensity
        With a standard normal base.
    rows : Tensor of float64, shape (n, n_columns)
        ``[values | codes]``.
    context : Tensor of shape (n, n_context_columns), optional
        ``[values | codes | extra]``.
    positions : Tensor of shape (n, n_columns), optional
        Within 0..1, the ends excluded: where in the interval of its code a latent lies, as a share of the
        interval's probability; and for a value that is absent, the probability below its latent. Not read for
        values that are present. 0.5 by default.

    Returns
    -------
    Tensor of shape (n, n_columns)
        ``[latents of values | latents of codes]``.

    Raises
    ------
    ConfigurationError
        If the base is not standard normal, or a width is not the density's.

    Notes
    -----
    Values present go through the flow, ``z = f(values; codes, context)``. Code ``c_j`` owns the interval
    :math:`[F(c_j - 1), F(c_j)]` of its conditional distribution function given the codes before it and the
    context; with p for its position, ``z_j = Phi^-1(F(c_j - 1) + p P(c_j))``. With uniform positions the
    latents of rows from the model are independent standard normal: these are the randomised quantile
    residuals of Dunn and Smyth, made joint by Rosenblatt's chain of conditional distributions.

    References
    ----------
    P. K. Dunn, G. K. Smyth (1996), "Randomized Quantile Residuals", Journal of Computational and Graphical
    Statistics.
    M. Rosenblatt (1952), "Remarks on a Multivariate Transformation", Annals of Mathematical Statistics.
    """
    _check_base(density)
    density._check(rows, context)
    positions = torch.full_like(rows, 0.5) if positions is None else positions.to(rows)
    n_values = density.layout.n_values
    values, codes = rows.split((n_values, density.layout.n_codes), dim=1)
    vectors = density._context_vectors(context)
    parts = []
    if density.flow is not None:
        latents = density.flow._transform.forward(values, density._flow_context(codes, vectors))[0]
        if density.layout.gated:
            absent = density._observed(codes) < 0.5
            latents = torch.where(absent, torch.special.ndtri(positions[:, :n_values]), latents)
        parts.append(latents)
    if density.codes is not None:
        parts.append(_codes_to_latents(density.codes, codes, vectors, positions[:, n_values:]))
    return torch.cat(parts, dim=1)


@torch.no_grad()
def latents_to_rows(density: TableDensity, latents: Tensor, context: Tensor | None = None) -> Tensor:
    """Undo `rows_to_latents`, whatever the positions were.

    Parameters
    ----------
    density : TableDensity
        With a standard normal base.
    latents : Tensor of float64, shape (n, n_columns)
        Finite; those beyond 1e30 are read as 1e30.
    context : Tensor of shape (n, n_context_columns), optional

    Returns
    -------
    Tensor of shape (n, n_columns)
        ``[values | codes]``; 0 stands in values that are absent.

    Raises
    ------
    ConfigurationError
        As `rows_to_latents` does.
    """
    _check_base(density)
    density._check(latents, context)
    latents = latents.clamp(-_FURTHEST, _FURTHEST)
    values, codes = latents.split((density.layout.n_values, density.layout.n_codes), dim=1)
    vectors = density._context_vectors(context)
    if density.codes is not None:
        codes = _latents_to_codes(density.codes, codes, vectors)
    if density.flow is None:
        return codes
    if density.layout.gated:
        # What stands for an absent value must not be read by the conditioners of the others.
        values = torch.where(density._observed(codes) > 0.5, values, 0.0)
    values = density.flow._transform.inverse(values, density._flow_context(codes, vectors))[0]
    return torch.cat((values, codes), dim=1)


def _check_base(density: TableDensity) -> None:
    if density.flow is not None and not isinstance(density.flow._distribution, StandardNormal):
        raise ConfigurationError(
            "base must be 'normal' for latents that are standard normal; "
            f"got {density.settings.base!r}. Build the density with base='normal'."
        )


def _codes_to_latents(
    model: AutoregressiveCategorical, codes: Tensor, context: Tensor | None, positions: Tensor
) -> Tensor:
    """Return normal quantiles of the codes (n, n_codes), at positions (n, n_codes) within their intervals."""
    below, above = torch.zeros_like(positions), torch.zeros_like(positions)
    widths = torch.ones_like(positions)
    index = model.reader(codes)[0]
    if model.network is not None:
        context = clamp_reach(context)
        active = index[:, model._columns]
        hidden = model.network.hidden(model.network.initial_layer(active), context)
        logits, begin = model.network.outputs(hidden, context), 0
        for size, places in model._groups:
            end = begin + size * len(places)
            shares = model._smooth(logits[:, begin:end].unflatten(1, (len(places), size)).softmax(-1))
            columns = [model._columns[place] for place in places]
            of_code = active[:, places].unsqueeze(-1)
            widths[:, columns] = shares.gather(-1, of_code).squeeze(-1)
            below[:, columns] = _sums_before(shares).gather(-1, of_code).squeeze(-1)
            above[:, columns] = _sums_behind(shares).gather(-1, of_code).squeeze(-1)
            begin = end
    lower, upper = below + positions * widths, above + (1.0 - positions) * widths
    # Of the two tails the smaller one keeps its digits.
    quantile = torch.special.ndtri(torch.minimum(lower, upper))
    return torch.where(lower <= upper, quantile, -quantile)


def _latents_to_codes(model: AutoregressiveCategorical, latents: Tensor, context: Tensor | None) -> Tensor:
    """Return the codes (n, n_codes) in whose intervals the latents lie."""
    lower, upper = torch.special.ndtr(latents), torch.special.ndtr(-latents)

    def choice(shares: Tensor, column: int) -> Tensor:
        low, high = lower[:, column, None], upper[:, column, None]
        passed = torch.where(low <= high, shares.cumsum(1) < low, _sums_behind(shares) > high)
        return passed[:, :-1].sum(dim=1)

    return model.choose(len(latents), context, choice).to(latents)


def _sums_before(shares: Tensor) -> Tensor:
    """Return for each code the probability of all codes before it."""
    return F.pad(shares[..., :-1].cumsum(-1), (1, 0))


def _sums_behind(shares: Tensor) -> Tensor:
    """Return for each code the probability of all codes behind it."""
    return _sums_before(shares.flip(-1)).flip(-1)
