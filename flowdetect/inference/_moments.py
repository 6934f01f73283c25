"""`moments` and `quantiles` of the numeric columns, with their errors."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from flowdetect._utils.random import RandomState
from flowdetect.exceptions import ConfigurationError, InvalidTableError
from flowdetect.inference._columns import numbers_of, numeric_columns
from flowdetect.inference._estimate import Estimate
from flowdetect.inference._points import DensityRows, Points, make_points

__all__ = ["Moments", "moments", "quantiles"]

# Group by group products of all pairs of columns hold about this many numbers at a time.
_PAIR_NUMBERS = 2**21


@dataclass(frozen=True, eq=False)
class Moments:
    """Means and covariances of numeric columns.

    Parameters
    ----------
    mean : Estimate
        Shape (n_columns,), or (n_context_rows, n_columns) with context.
    covariance : Estimate
        Shape (n_columns, n_columns), or (n_context_rows, n_columns, n_columns).
    columns : tuple
        Names of the columns.

    Examples
    --------
    >>> import numpy as np
    >>> mean = Estimate(np.zeros(2), np.full(2, 0.1), n_samples=4096, degrees_of_freedom=15)
    >>> covariance = Estimate(
    ...     np.diag([4.0, 9.0]), np.full((2, 2), 0.2), n_samples=4096, degrees_of_freedom=15
    ... )
    >>> Moments(mean, covariance, ("a", "b")).standard_deviation.value.tolist()
    [2.0, 3.0]
    """

    mean: Estimate
    covariance: Estimate
    columns: tuple[Any, ...]

    @property
    def standard_deviation(self) -> Estimate:
        """Roots of the variances, whose error is that of the variance over twice the root."""
        variance, error = (np.diagonal(part, axis1=-2, axis2=-1) for part in self.covariance)
        root = np.sqrt(variance)
        error = np.divide(error, 2.0 * root, out=np.zeros_like(root), where=root > 0.0)
        return Estimate(
            root, error, self.covariance.n_samples, self.covariance.degrees_of_freedom, self.columns
        )


def moments(
    density: Any,
    *,
    columns: Any = None,
    context: Any = None,
    n_samples: int = 4096,
    method: str = "rqmc",
    random_state: RandomState = None,
) -> Moments:
    r"""Return means and covariances of the numeric columns under a fitted density, with standard errors.

    Parameters
    ----------
    density : FlowDensity
        Fitted; see `expectation`.
    columns : list of names or positions, optional
        All that hold numbers or booleans if None.
    context, n_samples, method, random_state
        As in `expectation`. For the rows of one row of the context, n_samples times the number of columns
        are held in memory.

    Returns
    -------
    Moments
        ``mean`` and ``covariance`` are Estimates; ``standard_deviation`` follows from the latter.

    Raises
    ------
    ValueError
        If a column is unknown or holds no numbers, was missing in all rows drawn, or as `expectation` does.
    NotFittedError
        If the density is not fitted.

    Notes
    -----
    With :math:`w_i` 1 where column i is present and 0 where it is missing,

    .. math:: \mu_i = \frac{E[w_i x_i]}{E[w_i]}, \qquad
        C_{ij} = \frac{E[w_i w_j x_i x_j]}{E[w_i w_j]} -
        \frac{E[w_i w_j x_i]}{E[w_i w_j]} \frac{E[w_i w_j x_j]}{E[w_i w_j]}

    are moments given that the entries are present (for C, of both columns). Standard errors are those of the
    linear parts of these ratios (delta method), over the same independent groups of rows as in
    `expectation`. Where columns may be missing, C need not be positive semi-definite.

    Examples
    --------
    >>> import numpy as np
    >>> from flowdetect import FlowDensity
    >>> from flowdetect.inference import moments
    >>> X = np.random.default_rng(0).normal(3.0, 2.0, size=(500, 2))
    >>> density = FlowDensity(max_steps=100, random_state=0).fit(X)
    >>> found = moments(density, random_state=0)
    >>> found.mean.value.shape, found.covariance.value.shape
    ((2,), (2, 2))
    """
    rows = DensityRows(density, context)
    positions = numeric_columns(rows.encoder, columns)
    points = make_points(n_samples, method, rows.n_dimensions, random_state)
    parts = [_pair_moments(group) for draws in _draws(rows, points, positions) for group in draws]
    names = _names(rows, positions)
    stacked = [np.stack(part) if rows.has_context else part[0] for part in zip(*parts, strict=True)]
    mean, covariance = (
        Estimate(stacked[k], stacked[k + 1], points.n_points, points.n_groups - 1, names) for k in (0, 2)
    )
    return Moments(mean, covariance, names)


def quantiles(
    density: Any,
    q: Any,
    *,
    columns: Any = None,
    context: Any = None,
    n_samples: int = 4096,
    method: str = "rqmc",
    random_state: RandomState = None,
) -> Estimate:
    r"""Return quantiles of the numeric columns under a fitted density, with standard errors.

    Parameters
    ----------
    density : FlowDensity
        Fitted; see `expectation`.
    q : float or array-like of shape (n_q,)
        Between 0 and 1.
    columns : list of names or positions, optional
        All that hold numbers or booleans if None.
    context, n_samples, method, random_state
        As in `moments`.

    Returns
    -------
    Estimate
        ``value`` of shape (n_columns,); in front of it an axis of the length of q, if that is no single
        number, and in front of both one for the rows of the context, if there are any.

    Raises
    ------
    ValueError
        If q does not lie between 0 and 1, or as `moments` does.
    NotFittedError
        If the density is not fitted.

    Notes
    -----
    A quantile is the one of the drawn entries that are present: :math:`\hat Q(q)`, with linear interpolation
    for a continuous column, the smallest entry with at least a share q at or below it for any other. Its
    standard error is half of :math:`\hat Q(q + s) - \hat Q(q - s)` (Woodruff), with s the standard error of
    the share of entries at or below :math:`\hat Q(q)`, at least half of one entry. It may be 0 where many
    entries are equal.

    References
    ----------
    R. S. Woodruff (1952), "Confidence Intervals for Medians and Other Position Measures".

    Examples
    --------
    >>> import numpy as np
    >>> from flowdetect import FlowDensity
    >>> from flowdetect.inference import quantiles
    >>> X = np.random.default_rng(0).normal(size=(500, 2))
    >>> density = FlowDensity(max_steps=100, random_state=0).fit(X)
    >>> quantiles(density, [0.05, 0.5, 0.95], random_state=0).value.shape
    (3, 2)
    """
    shares = np.atleast_1d(np.asarray(q, dtype=np.float64))
    if shares.ndim != 1 or not len(shares) or not ((shares > 0.0) & (shares < 1.0)).all():
        raise ConfigurationError(f"q must be numbers between 0 and 1, the ends excluded; got {q!r}.")
    rows = DensityRows(density, context)
    positions = numeric_columns(rows.encoder, columns)
    points = make_points(n_samples, method, rows.n_dimensions, random_state)
    smooth = [rows.encoder.schema_.columns[position].kind == "continuous" for position in positions]
    parts = [
        _column_quantiles(group, shares, smooth)
        for draws in _draws(rows, points, positions)
        for group in draws
    ]
    value, error = (np.stack(part) for part in zip(*parts, strict=True))
    if np.ndim(q) == 0:
        value, error = value[:, 0], error[:, 0]
    if not rows.has_context:
        value, error = value[0], error[0]
    return Estimate(value, error, points.n_points, points.n_groups - 1, _names(rows, positions))


def _names(rows: DensityRows, positions: list[int]) -> tuple[Any, ...]:
    return tuple(rows.encoder.schema_.names[position] for position in positions)


def _draws(rows: DensityRows, points: Points, positions: list[int]) -> Iterator[np.ndarray]:
    """Yield numbers (n_contexts, n_groups, n_per_group, n_columns) for one part of the context after another.

    Raises
    ------
    InvalidTableError
        If a column is missing in all rows of a context.
    """
    for contexts in rows.context_slices(points.n_points):
        n_contexts = contexts.stop - contexts.start
        tables = (numbers_of(table, positions) for table in rows.tables(points, contexts))
        joined = np.concatenate(
            [numbers.reshape(n_contexts, -1, len(positions)) for numbers in tables], axis=1
        )
        absent = np.isnan(joined).all(axis=1).any(axis=0)
        if absent.any():
            name = rows.encoder.schema_.names[positions[int(np.argmax(absent))]]
            raise InvalidTableError(
                f"Column {name!r} is missing in all of {points.n_points} rows drawn. Raise n_samples, or "
                "leave it out."
            )
        yield joined.reshape(n_contexts, points.n_groups, points.n_per_group, len(positions))


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def _pair_moments(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return mean, its error, covariance and its error from numbers (n_groups, n_per_group, n_columns)."""
    n_groups, _, n_columns = draws.shape
    centre = np.nanmean(draws, axis=(0, 1))
    step = max(1, _PAIR_NUMBERS // n_columns**2)
    blocks = [draws[start : start + step] - centre for start in range(0, n_groups, step)]
    count, first, second = (
        np.sum(parts, axis=0)
        for parts in zip(*(_sums(block, axes="gni,gnj->ij") for block in blocks), strict=True)
    )
    pair_mean = first / count  # of the row's column, where the other is present as well
    covariance = second / count - pair_mean * pair_mean.T
    if not np.isfinite(covariance).all():
        reason = "are never both present in" if (count == 0).any() else "have products too large in"
        raise InvalidTableError(
            f"Some two columns {reason} the rows drawn. Raise n_samples, name columns, or change their units."
        )
    squares_mean, squares_covariance = np.zeros(n_columns), np.zeros((n_columns, n_columns))
    for block in blocks:
        n, s, ss = _sums(block, axes="gni,gnj->gij")
        transposed = s.transpose(0, 2, 1)
        influence = ss - s * pair_mean.T - transposed * pair_mean + n * (pair_mean * pair_mean.T - covariance)
        squares_covariance += np.square(influence / count).sum(axis=0)
        squares_mean += np.square(np.diagonal(s, axis1=1, axis2=2) / np.diagonal(count)).sum(axis=0)
    bessel = n_groups / (n_groups - 1.0)
    return centre, np.sqrt(bessel * squares_mean), covariance, np.sqrt(bessel * squares_covariance)


def _sums(block: np.ndarray, axes: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return for all pairs of columns the sums of 1, x_i and x_i x_j over rows in which both are present."""
    present = (~np.isnan(block)).astype(np.float64)
    numbers = np.where(present > 0.0, block, 0.0)
    pairs = ((present, present), (numbers, present), (numbers, numbers))
    count, first, second = (np.einsum(axes, *pair, optimize=True) for pair in pairs)
    return count, first, second


def _column_quantiles(
    draws: np.ndarray, shares: np.ndarray, smooth: list[bool]
) -> tuple[np.ndarray, np.ndarray]:
    """Return quantiles and errors, shape (n_q, n_columns), from (n_groups, n_per_group, n_columns)."""
    value, error = np.empty((2, len(shares), draws.shape[2]))
    for j, interpolate in enumerate(smooth):
        column = draws[:, :, j]
        present = ~np.isnan(column)
        ordered = np.sort(column[present])
        value[:, j] = _read(ordered, shares, interpolate)
        for k, share in enumerate(shares):
            below = np.where(present, (column <= value[k, j]) - share, 0.0).sum(axis=1) / len(ordered)
            below = below - below.mean()
            spread = np.sqrt(np.square(below).sum() * len(below) / (len(below) - 1.0))
            # Groups may agree on a share to the last point; they do not know it better than to half a point.
            spread = max(spread, 0.5 / len(ordered))
            low, high = _read(ordered, np.array([share - spread, share + spread]), interpolate)
            error[k, j] = 0.5 * (high - low)
    return value, error


def _read(ordered: np.ndarray, shares: np.ndarray, interpolate: bool) -> np.ndarray:
    """Return the quantiles of sorted numbers."""
    n = len(ordered)
    if interpolate:
        # Each of the sorted numbers stands in the middle of its share of 1 / n (Hazen).
        return np.interp(shares * n - 0.5, np.arange(n), ordered)
    return ordered[np.clip(np.ceil(shares * n - 1e-9).astype(np.intp) - 1, 0, n - 1)]
