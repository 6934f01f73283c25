"""Two samples as counts: whether the new one may come from where the reference came from.

Each test looks at several events (a number below a boundary, a label equal to a level), compares how often
they are in both samples by the likelihood ratio ``G``, and takes the largest. That largest one is judged by
draws from its exact distribution under exchangeability, so neither many boundaries, nor small counts, nor
ties, nor a reference smaller than the sample make more alarms than promised.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlogy
from scipy.stats import betabinom, chi2, hypergeom

__all__ = ["Counts", "Finding", "GapTest", "event_test", "holm", "level_test", "rarity_test"]

Counts = NDArray[np.int64]
Numbers = NDArray[np.float64]

# Draws stop once this many are as extreme as the sample: its p-value is then known to 7 %.
_ENOUGH = 200
_FIRST_DRAWS = 500
# Draws cost about a microsecond a cell; memory is bounded by drawing so many at a time.
_BLOCK_CELLS = 2**19
# Levels of which either sample should have fewer rows than this are pooled.
_LEAST_EXPECTED = 5.0
# What is as rare as this is not drawn: the sum of the exact probabilities of the events bounds it.
_SURELY_RARE = 1e-5


@dataclass(frozen=True)
class Finding:
    """The event that differs most, and what that is worth.

    Parameters
    ----------
    p_value : float
        Of the largest difference among all events of the test.
    event : int
        Which event; -1 if there was nothing to compare.
    expected, share : float
        Its share of the reference and of the new rows.
    """

    p_value: float
    event: int
    expected: float
    share: float


NOTHING = Finding(1.0, -1, float("nan"), float("nan"))


# --- numbers: cells between order statistics of the reference --------------------------------------------


class GapTest:
    """Compare numbers that were counted in the cells between, and at, some values of the reference.

    Parameters
    ----------
    reference, new : ndarray of int64, shape (2 * n_edges + 1,)
        Rows below the first edge, at it, between it and the second, at that, and so on. Each edge is a value
        of the reference, which therefore has at least one row there.

    Notes
    -----
    If all n + m values are exchangeable and distinct, then the m new ones fall into the n + 1 gaps between
    the others as from Polya's urn: the counts of cells that hold c gaps each are Dirichlet-multinomial with
    parameters c, whatever the distribution. Values that are equal are put into a random order, in which this
    still holds: of t reference values at an edge, the new ones there come to lie before all with the weight
    1, after all with 1, and in between with t - 1.
    """

    def __init__(self, reference: Counts, new: Counts) -> None:
        self.n_new = int(new.sum())
        # Draws depend on the counts alone: the same table gives the same p-value, and two tables other draws.
        self._seed = [*reference.tolist(), *new.tolist()]
        weights = reference.copy()
        weights[::2] += 1
        weights[1::2] -= 1
        self._cells = np.flatnonzero(weights)
        self._weights = weights[self._cells]
        ordered = _random_order(reference, new, np.random.default_rng(self._seed))[self._cells]
        # What is left of each boundary between two cells, in gaps and in new values.
        self._gaps = np.cumsum(self._weights)[:-1]
        self._counts = np.cumsum(ordered)[:-1]
        self._n_gaps = int(self._weights.sum())
        self._left = np.cumsum(reference)[self._cells][:-1], np.cumsum(new)[self._cells][:-1]

    @property
    def levels(self) -> Numbers:
        """Probability of a new value to the left of each boundary."""
        return self._gaps / self._n_gaps

    @property
    def shares(self) -> Numbers:
        """Share of the new values to the left of each boundary."""
        return self._counts / max(self.n_new, 1)

    @property
    def deviations(self) -> Numbers:
        """Signed root of G at each boundary: about standard normal, positive for too many on the left."""
        if not self.n_new:
            return np.zeros(len(self._gaps))
        return np.sign(self.shares - self.levels) * np.sqrt(self._g(self._counts))

    def find(self, n_draws: int) -> Finding:
        """Return the boundary that differs most; `n_draws` bounds the effort for its p-value."""
        if not self.n_new or not len(self._gaps):
            return NOTHING
        g = self._g(self._counts)
        worst = int(np.argmax(g))
        p_value = _p_value(float(g[worst]), len(g), self._bound, self._draw, n_draws, self._seed)
        n_reference = self._n_gaps - 1
        shares = [
            float(left[worst]) / n for left, n in zip(self._left, (n_reference, self.n_new), strict=True)
        ]
        return Finding(p_value, int(self._cells[worst]), *shares)

    def largest_draws(self, n_draws: int) -> Numbers:
        """Return draws of the largest G where nothing has changed, sorted."""
        if not self.n_new:
            return np.zeros(n_draws)
        rng = np.random.default_rng(self._seed)
        size = max(_BLOCK_CELLS // len(self._cells), 1)
        sizes = [min(size, n_draws - start) for start in range(0, n_draws, size)]
        return np.sort(np.concatenate([self._draw(rng, size) for size in sizes]))

    def _g(self, counts: Counts) -> Numbers:
        return _likelihood_ratio(self._gaps, self._n_gaps, counts, self.n_new)

    def _draw(self, rng: np.random.Generator, size: int) -> Numbers:
        shares = rng.standard_gamma(self._weights, size=(size, len(self._weights)))
        shares /= shares.sum(axis=1, keepdims=True)
        counts = np.cumsum(rng.multinomial(self.n_new, shares), axis=1)[:, :-1]
        return self._g(counts).max(axis=1)

    def _bound(self, g: float) -> float:
        """Return the sum over the boundaries of the exact probabilities to differ as much."""
        low, high = _thresholds(
            g,
            self._g,
            np.zeros_like(self._gaps),
            self.levels * self.n_new,
            np.full_like(self._gaps, self.n_new),
        )
        n_all, n_reference = self._n_gaps - 1 + self.n_new, self._n_gaps - 1
        # x new values left of the a-th reference value: of the first x + a - 1, at most a - 1 are reference.
        at_least = hypergeom.cdf(self._gaps - 1, n_all, n_reference, high + self._gaps - 1)
        at_most = hypergeom.sf(self._gaps - 1, n_all, n_reference, low + self._gaps)
        at_least = np.where(high > self.n_new, 0.0, at_least)
        at_most = np.where(low < 0, 0.0, at_most)
        return float(np.sum(at_least) + np.sum(at_most))


def _random_order(reference: Counts, new: Counts, rng: np.random.Generator) -> Counts:
    """Return the new counts with those at an edge dealt out as a random order of equal values would."""
    dealt = new.copy()
    for cell in 1 + 2 * np.flatnonzero(new[1::2]):
        shares = rng.standard_gamma([1.0, reference[cell] - 1.0, 1.0])
        before, at, after = rng.multinomial(new[cell], shares / shares.sum())
        dealt[cell - 1 : cell + 2] += (before, at - new[cell], after)
    return dealt


# --- labels ----------------------------------------------------------------------------------------------


def level_test(reference: Counts, new: Counts, n_draws: int) -> Finding:
    """Compare how often each level of a fixed list is.

    Parameters
    ----------
    reference, new : ndarray of int64, shape (n_levels,)
    n_draws : int
        Bounds the effort for the p-value.

    Notes
    -----
    Given the rows of each level in both samples together, those of the new one are multivariate
    hypergeometric (Fisher), which needs no large counts. Levels that should have fewer than 5 rows in either
    sample are pooled.
    """
    groups = _pooled_levels(reference + new, int(reference.sum()), int(new.sum()))
    old, fresh = (np.array([counts[group].sum() for group in groups]) for counts in (reference, new))
    n_old, n_new, both = int(old.sum()), int(fresh.sum()), old + fresh
    if min(n_old, n_new) == 0 or len(groups) < 2:
        return NOTHING

    def g(counts: Counts) -> Numbers:
        return _likelihood_ratio(both - counts, n_old, counts, n_new)

    def draw(rng: np.random.Generator, size: int) -> Numbers:
        return g(rng.multivariate_hypergeometric(both, n_new, size=size, method="marginals")).max(axis=1)

    def bound(value: float) -> float:
        expected = both * (n_new / (n_old + n_new))
        low, high = _thresholds(value, g, np.maximum(both - n_old, 0), expected, np.minimum(both, n_new))
        tails = (
            hypergeom.cdf(low, n_old + n_new, both, n_new),
            hypergeom.sf(high - 1, n_old + n_new, both, n_new),
        )
        return float(np.sum(tails))

    values = g(fresh)
    worst = int(np.argmax(values))
    p_value = _p_value(
        float(values[worst]), len(values), bound, draw, n_draws, [*old.tolist(), *fresh.tolist()]
    )
    event = int(groups[worst][0]) if len(groups[worst]) == 1 else -1
    return Finding(p_value, event, float(old[worst] / n_old), float(fresh[worst] / n_new))


def _pooled_levels(both: Counts, n_old: int, n_new: int) -> list[NDArray[np.intp]]:
    small = both * min(n_old, n_new) < _LEAST_EXPECTED * (n_old + n_new)
    groups = [np.array([level]) for level in np.flatnonzero(~small)]
    return groups + ([np.flatnonzero(small)] if both[small].sum() else [])


def event_test(reference: int, n_reference: int, new: int, n_new: int) -> Finding:
    """Compare how often one event is, such as a missing entry: Fisher's exact test."""
    if min(n_reference, n_new) == 0:
        return NOTHING
    draw = (n_reference + n_new, reference + new, n_new)
    tail = min(float(hypergeom.cdf(new, *draw)), float(hypergeom.sf(new - 1, *draw)))
    return Finding(min(1.0, 2.0 * tail), 0, reference / n_reference, new / n_new)


def rarity_test(n_rare: int, spread: int, n_reference: int, new: int, n_new: int) -> Finding:
    """Tell whether more rows than expected hold a label that was rare or absent in the reference.

    Parameters
    ----------
    n_rare : int
        Rows of the reference whose label would be rare or absent without them: what Good and Turing expect.
    spread : int
        Variance of that number as an estimate.
    n_reference, new, n_new : int
        Rows of the reference; new rows with such a label; new rows.

    Notes
    -----
    With r the most rows of a rare label and f_x the number of labels with x rows, ``n_rare`` is the sum of
    ``x f_x`` for x up to r + 1, and ``spread`` is ``n_rare + (r + 1)(r + 2) f_(r + 2)``. The number of new
    rows is taken as beta-binomial with that mean and variance, each with one row more for what was not seen.
    Where no label was rare, it is exact: one new label of u rows has ``P = prod_i (m - i) / (n + m - i)``.

    References
    ----------
    I. J. Good (1953), "The population frequencies of species and the estimation of population parameters",
    Biometrika 40.
    """
    if min(n_reference, n_new) == 0:
        return NOTHING
    mean = (n_rare + 1) / (n_reference + 1)
    weight = mean * (n_reference + 1) ** 2 / (spread + 1) - 1.0
    shares = n_rare / n_reference, new / n_new
    if mean >= 1.0 or weight <= 0.0 or not new:
        return Finding(1.0, 0, *shares)
    tail = betabinom.sf(new - 1, n_new, mean * weight, (1.0 - mean) * weight)
    return Finding(min(1.0, float(tail)), 0, *shares)


# --- many tests ------------------------------------------------------------------------------------------


def holm(p_values: Sequence[float]) -> Numbers:
    """Return p-values adjusted for their number: those up to a together err with probability at most a.

    References
    ----------
    S. Holm (1979), "A simple sequentially rejective multiple test procedure", Scandinavian Journal of
    Statistics 6(2).

    Examples
    --------
    >>> holm([0.01, 0.5, 0.02]).tolist()
    [0.03, 0.5, 0.04]
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    adjusted[order] = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    return np.minimum(adjusted, 1.0)


# --- inside ----------------------------------------------------------------------------------------------


def _likelihood_ratio(old: Counts, n_old: int, new: Counts, n_new: int) -> Numbers:
    """Return G, twice the log-likelihood ratio of two shares being different rather than the same."""

    def log_likelihood(count: Counts, total: int) -> Numbers:
        return xlogy(count, count / total) + xlogy(total - count, (total - count) / total)

    apart = log_likelihood(old, n_old) + log_likelihood(new, n_new)
    return np.maximum(2.0 * (apart - log_likelihood(old + new, n_old + n_new)), 0.0)


def _p_value(
    value: float,
    n_events: int,
    bound: Callable[[float], float],
    draw: Callable[[np.random.Generator, int], Numbers],
    n_draws: int,
    seed: list[int],
) -> float:
    """Return the probability of a largest G of at least `value`.

    Besag and Clifford's sequential test: draws until 200 are as large, h of L draws giving h / L, or all, k
    of n giving (k + 1) / (n + 1). What is far out is bounded by the sum over the events instead.
    """
    if n_events * float(chi2.sf(value, 1)) < _SURELY_RARE:
        probability = bound(value)
        if probability < 10.0 * _SURELY_RARE:
            return probability
    rng = np.random.default_rng(seed)
    reached, done, size = 0, 0, _FIRST_DRAWS
    while done < n_draws:
        size = max(1, min(size, n_draws - done, _BLOCK_CELLS // n_events))
        hits = np.cumsum(draw(rng, size) >= value * (1.0 - 1e-9))
        if reached + hits[-1] >= _ENOUGH:
            return _ENOUGH / (done + int(np.searchsorted(hits, _ENOUGH - reached)) + 1)
        reached, done, size = reached + int(hits[-1]), done + size, 4 * size
    return (reached + 1) / (n_draws + 1)


def _thresholds(
    value: float, g: Callable[[Counts], Numbers], least: Counts, expected: Numbers, most: Counts
) -> tuple[Counts, Counts]:
    """Return for each event the largest count below the expected one, and the smallest above, of such a G.

    One less than `least`, and one more than `most`, where there is none.
    """
    value *= 1.0 - 1e-9
    middle = np.floor(expected).astype(np.int64)
    low, inside = least - 1, middle
    while np.any(inside - low > 1):
        half = np.maximum((low + inside) // 2, least)
        far = g(half) >= value
        low, inside = np.where(far, half, low), np.where(far, inside, half)
    inside, high = middle, most + 1
    while np.any(high - inside > 1):
        half = np.minimum((inside + high + 1) // 2, most)
        far = g(half) >= value
        inside, high = np.where(far, inside, half), np.where(far, half, high)
    return low, high
