"""`expectation`: the mean of a function of the rows, with its error."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from flowdetect._utils.random import RandomState
from flowdetect.exceptions import InvalidTableError
from flowdetect.inference._estimate import Estimate, RunningMean
from flowdetect.inference._points import DensityRows, Points, make_points

__all__ = ["estimate_mean", "expectation"]


def expectation(
    density: Any,
    function: Callable[[Any], Any],
    *,
    context: Any = None,
    n_samples: int = 4096,
    method: str = "rqmc",
    random_state: RandomState = None,
) -> Estimate:
    r"""Return the mean of a function of the rows under a fitted density, with its standard error.

    Parameters
    ----------
    density : FlowDensity
        Fitted; a FlowAugmenter as well, whose density, without its filters and bounds, then counts. With
        ``noise_scales``, the rows have noise of the smallest scale on them, as those of ``sample`` have.
    function : callable
        Takes rows as ``density.sample`` returns them, n at a time, and returns finite numbers (or bools) of
        shape (n,), or (n, n_numbers) for several means at once. Each number must depend on its row alone.
    context : DataFrame or array-like of shape (n_context_rows, n_context), optional
        Needed just if the density was fitted with context (for a FlowAugmenter: classes): one mean for each
        of its rows.
    n_samples : int, default=4096
        How many rows, for each row of the context. "rqmc" rounds up to 16 times a power of 2.
    method : {"rqmc", "mc"}, default="rqmc"
        "rqmc": randomised quasi-Monte Carlo, whose squared error with the same number of rows is usually a
        hundredth (means) to a half (indicators of rare events) of that of "mc": independent rows.
    random_state : int, RandomState, Generator or None, default=None
        An int gives the same number each time.

    Returns
    -------
    Estimate
        ``value`` is a float, or has shape (n_numbers,), (n_context_rows,) or (n_context_rows, n_numbers).

    Raises
    ------
    ValueError
        If a parameter cannot be used, context is missing or given in vain, or the function returns another
        shape, or numbers that are not finite.
    NotFittedError
        If the density is not fitted.

    See Also
    --------
    probability, moments, quantiles : What is asked for most often, ready-made.

    Notes
    -----
    A row of the density is a function of a point u of the unit cube: codes (categories, small sets of
    numbers, missing entries) are conditional quantiles ``F^-1(u_j | c_1 .. c_(j-1))``, values are
    ``f^-1(Phi^-1(u))`` for the flow f. So the mean is an integral over the cube,

    .. math:: E\,g(X) = \int_{[0,1]^d} g(x(u))\,du
        \approx \frac1{RN} \sum_{r=1}^{R} \sum_{i=1}^{N} g(x(u_{ri})).

    With "rqmc" the N points of each r are a Sobol sequence, scrambled independently of the others: they fill
    the cube evenly, yet each point by itself is uniform, so the mean is unbiased, and its standard error is
    that of the R = 16 independent means (15 degrees of freedom). With "mc", R is n_samples and N is 1.
    The rows are those of ``sample``: whole numbers are whole, and a value below the bound of a column that is
    never negative lies on it.

    References
    ----------
    P. L'Ecuyer, C. Lemieux (2002), "Recent Advances in Randomized Quasi-Monte Carlo Methods".
    A. B. Owen (1995), "Randomly Permuted (t,m,s)-Nets and (t,s)-Sequences".
    J. Matousek (1998), "On the L2-Discrepancy for Anchored Boxes", Journal of Complexity (the scrambling).

    Examples
    --------
    >>> import numpy as np
    >>> from flowdetect import FlowDensity
    >>> from flowdetect.inference import expectation
    >>> X = np.random.default_rng(0).normal(size=(500, 2))
    >>> density = FlowDensity(max_steps=100, random_state=0).fit(X)
    >>> value, error = expectation(density, lambda rows: rows[:, 0] * rows[:, 1], random_state=0)
    >>> abs(value) < 0.2, error < 0.01
    (True, True)
    """
    rows = DensityRows(density, context)
    points = make_points(n_samples, method, rows.n_dimensions, random_state)
    return estimate_mean(rows, points, function)


def estimate_mean(rows: DensityRows, points: Points, function: Callable[[Any], Any]) -> Estimate:
    """Return the mean of a function of the rows at the points."""
    means, errors = [], []
    checked = _Checked(function)
    for contexts in rows.context_slices(points.n_points):
        running = RunningMean()
        for groups in _group_means(rows, points, contexts, checked):
            running.add(groups)
        means.append(running.mean)
        errors.append(running.standard_error())
    value, error = (
        _as_asked(np.concatenate(parts), rows.has_context, checked.single) for parts in (means, errors)
    )
    return Estimate(value, error, points.n_points, points.n_groups - 1)


def _group_means(
    rows: DensityRows, points: Points, contexts: slice, function: Callable[[Any], np.ndarray]
) -> Iterator[np.ndarray]:
    """Yield the means of groups of points, shape (n_contexts, n_groups, n_numbers)."""
    n_contexts = contexts.stop - contexts.start
    total: Any = 0.0
    done = 0
    for table in rows.tables(points, contexts):
        values = function(table).reshape(n_contexts, len(table) // n_contexts, -1)
        if values.shape[1] >= points.n_per_group:
            yield values.reshape(n_contexts, -1, points.n_per_group, values.shape[2]).mean(axis=2)
            continue
        total, done = total + values.sum(axis=1), done + values.shape[1]
        if done == points.n_per_group:
            yield (total / done)[:, None]
            total, done = 0.0, 0


class _Checked:
    """A function whose results are numbers of the right shape, or an error says which they are."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function = function
        self.single = True
        self._width: int | None = None

    def __call__(self, table: Any) -> np.ndarray:
        found = np.asarray(self.function(table))
        if found.ndim not in (1, 2) or len(found) != len(table) or found.shape[1:] == (0,):
            raise InvalidTableError(
                f"function must return one number per row, shape ({len(table)},), or several, "
                f"({len(table)}, n_numbers); got shape {found.shape}."
            )
        try:
            numbers = found.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise InvalidTableError(
                f"function must return numbers; got dtype {found.dtype}: {error}."
            ) from error
        if not np.isfinite(numbers).all():
            raise InvalidTableError(
                "function must return finite numbers; got NaN or infinity. Say in the function what a "
                "missing entry counts as, such as 0."
            )
        self.single = found.ndim == 1
        numbers = numbers.reshape(len(table), -1)
        if numbers.shape[1] != (self._width or numbers.shape[1]):
            raise InvalidTableError(
                f"function must return equally many numbers for every row; got {self._width}, then "
                f"{numbers.shape[1]}."
            )
        self._width = numbers.shape[1]
        return numbers


def _as_asked(numbers: np.ndarray, has_context: bool, single: bool) -> Any:
    """Drop the axes that were not asked for from (n_contexts, n_numbers)."""
    numbers = numbers[:, 0] if single else numbers
    numbers = numbers if has_context else numbers[0]
    return float(numbers) if numbers.ndim == 0 else numbers
