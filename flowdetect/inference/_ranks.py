"""Simulation-based calibration: ranks of true parameters among draws, and whether they are uniform."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binom

from flowdetect.estimators._rows import column_of, take_rows
from flowdetect.exceptions import ConfigurationError, InvalidTableError, TableWarning

__all__ = ["RankStatistics", "UniformRanks", "check_ranks", "count_ranks", "ranks_among"]

# Draws held at a time while ranks are counted.
_MAX_DRAWS = 200_000
# Ranks are compared with uniform ones at about this many of their values.
_MOST_LOOKS = 100
# Samples of uniform ranks by which the largest departure is judged.
_NULL_SAMPLES = 1000


class UniformRanks:
    """What the empirical distribution of uniform ranks looks like, at all ranks at once.

    Parameters
    ----------
    n_rows : int
        Number of ranks.
    n_draws : int
        Largest rank: each is uniform on ``0 .. n_draws``.

    Attributes
    ----------
    shares : ndarray of shape (n_looks,)
        Where it is looked at: the shares ``z`` of the ranks that lie below some rank.

    Notes
    -----
    The count of ranks below a share z is binomial with n trials of probability z. The departure of a sample
    is the smallest, over all z looked at, of twice the smaller tail probability of its count (Säilynoja et
    al. 2022); its distribution under uniform ranks is found from a fixed set of simulated samples.

    References
    ----------
    T. Säilynoja, P.-C. Bürkner, A. Vehtari (2022), "Graphical test for discrete uniformity and its
    applications in goodness-of-fit evaluation and multiple sample comparison", Statistics and Computing.
    """

    def __init__(self, n_rows: int, n_draws: int) -> None:
        self.n_rows, self.n_draws = n_rows, n_draws
        firsts = np.linspace(1, n_draws, min(n_draws, _MOST_LOOKS)).round().astype(np.int64)
        self._firsts = np.unique(firsts)
        self.shares = self._firsts / (n_draws + 1.0)

    def counts(self, ranks: np.ndarray) -> np.ndarray:
        """Return how many ranks lie below each share, shape (n_looks,)."""
        return np.searchsorted(np.sort(ranks), self._firsts, side="left")

    def p_value(self, ranks: np.ndarray) -> float:
        """Return the probability that uniform ranks depart as far as these; at least 1 in 1001."""
        departure = self._departure(self.counts(ranks))
        # Equal ones come from the same counts, up to rounding.
        as_far = np.sum(self._null <= departure * (1.0 + 1e-9))
        return float((1 + as_far) / (1 + len(self._null)))

    def band(self, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """Return shares of ranks between which a uniform sample stays throughout with this probability.

        Parameters
        ----------
        level : float, default=0.95

        Returns
        -------
        low, high : ndarray of shape (n_looks,)
            For the empirical share of ranks below each of `shares`.
        """
        tail = float(np.quantile(self._null, 1.0 - level)) / 2.0
        low = binom.ppf(tail, self.n_rows, self.shares)
        high = binom.ppf(1.0 - tail, self.n_rows, self.shares)
        return low / self.n_rows, high / self.n_rows

    @cached_property
    def _null(self) -> np.ndarray:
        """Departures of simulated uniform samples, always the same ones."""
        rng = np.random.default_rng(0)
        widths = np.diff(np.concatenate([[0.0], self.shares, [1.0]]))
        counts = np.cumsum(rng.multinomial(self.n_rows, widths, size=_NULL_SAMPLES), axis=1)[:, :-1]
        return self._departure(counts)

    def _departure(self, counts: np.ndarray) -> np.ndarray:
        lower = binom.cdf(counts, self.n_rows, self.shares)
        upper = binom.sf(counts - 1, self.n_rows, self.shares)
        return np.minimum(2.0 * np.minimum(lower, upper), 1.0).min(axis=-1)


@dataclass(frozen=True)
class RankStatistics:
    """Ranks of true parameters among draws of their posteriors, and how uniform they are.

    Attributes
    ----------
    ranks : ndarray of int, shape (n_rows, n_parameters)
        How many of the draws lie below the true parameter, from 0 to n_draws.
    region_ranks : ndarray of int, shape (n_rows,)
        How many of the draws have a higher posterior density than the true parameters.
    n_draws : int
        Draws of each posterior.
    names : list
        The parameters.
    p_values : ndarray of shape (n_parameters,)
        Of the hypothesis that the ranks of a parameter are uniform, as they are under the true posterior.
    region_p_value : float
        The same for region_ranks.

    Notes
    -----
    Equal values are ordered at random, so that the ranks of discrete parameters are uniform as well. With
    several parameters the smallest p-value is to be compared with the level divided by their number.

    References
    ----------
    S. Talts, M. Betancourt, D. Simpson, A. Vehtari, A. Gelman (2018), "Validating Bayesian inference
    algorithms with simulation-based calibration".

    Examples
    --------
    >>> import numpy as np
    >>> ranks = np.random.default_rng(0).integers(100, size=(200, 1))
    >>> statistics = RankStatistics.of(ranks, ranks[:, 0], n_draws=99, names=["mass"])
    >>> bool(statistics.p_values[0] > 0.05), statistics.coverage([0.5, 0.9]).shape
    (True, (2,))
    """

    ranks: np.ndarray
    region_ranks: np.ndarray
    n_draws: int
    names: list[Any]
    p_values: np.ndarray
    region_p_value: float

    @classmethod
    def of(
        cls, ranks: np.ndarray, region_ranks: np.ndarray, *, n_draws: int, names: list[Any]
    ) -> RankStatistics:
        """Return the statistics of ranks.

        Parameters
        ----------
        ranks : ndarray of int, shape (n_rows, n_parameters)
        region_ranks : ndarray of int, shape (n_rows,)
        n_draws : int
        names : list

        Raises
        ------
        InvalidTableError
            If a rank is no whole number from 0 to n_draws.
        """
        ranks = check_ranks(ranks, n_draws)
        region_ranks = check_ranks(region_ranks, n_draws)[:, 0]
        uniform = UniformRanks(len(ranks), n_draws)
        p_values = np.array([uniform.p_value(column) for column in ranks.T])
        return cls(ranks, region_ranks, n_draws, names, p_values, uniform.p_value(region_ranks))

    def coverage(self, levels: Any) -> np.ndarray:
        """Return the share of true parameters within the regions of highest density of these probabilities.

        Parameters
        ----------
        levels : float or array-like of shape (n_levels,)
            Within 0..1.

        Returns
        -------
        ndarray of shape (n_levels,)
            Equal to the levels, but for chance, where the posterior is calibrated; below them where it is too
            narrow.

        Raises
        ------
        ConfigurationError
            If levels are not one or several numbers within 0..1.
        """
        levels = np.atleast_1d(np.asarray(levels, dtype=np.float64))
        if levels.ndim != 1 or not ((levels >= 0.0) & (levels <= 1.0)).all():
            raise ConfigurationError(f"levels must be numbers within 0..1; got {levels.tolist()!r}.")
        reached = (self.region_ranks + 0.5) / (self.n_draws + 1.0)
        return np.asarray((reached[None, :] <= levels[:, None]).mean(axis=1))


def check_ranks(ranks: Any, n_draws: int) -> np.ndarray:
    """Return ranks as whole numbers, shape (n_rows, n_parameters).

    Raises
    ------
    InvalidTableError
        If one is no whole number from 0 to n_draws, or there are none.
    """
    found = np.asarray(ranks, dtype=np.float64)
    found = found[:, None] if found.ndim == 1 else found
    if found.ndim != 2 or 0 in found.shape:
        raise InvalidTableError(
            f"ranks must be one whole number for each row and parameter; got shape {found.shape}."
        )
    wrong = ~((found >= 0) & (found <= n_draws) & (found == np.rint(found)))
    if wrong.any():
        raise InvalidTableError(
            f"ranks must be whole numbers from 0 to the number of draws, {n_draws}; got "
            f"{float(found[wrong][0]):g}. Give n_draws as it was when they were counted."
        )
    return found.astype(np.int64)


def count_ranks(
    posterior: Any, theta: Any, x: Any, *, n_draws: int, names: list[Any], rng: np.random.Generator
) -> RankStatistics:
    """Rank true parameters, and their density, among draws of their posteriors.

    Parameters
    ----------
    posterior : object
        Fitted, with ``sample`` and ``log_prob``.
    theta, x : DataFrame or ndarray of n_rows rows
        True parameters, and the outcome of each.
    n_draws : int
        Draws of each posterior.
    names : list
        The parameters.
    rng : numpy.random.Generator
    """
    ranks, region_ranks = [], []
    size = max(_MAX_DRAWS // n_draws, 1)
    for start in range(0, len(theta), size):
        rows = np.arange(start, min(start + size, len(theta)))
        true, given = take_rows(theta, rows), take_rows(x, rows)
        with warnings.catch_warnings():
            # Of many simulations a few lie beyond all that were learnt from.
            warnings.simplefilter("ignore", TableWarning)
            drawn = posterior.sample(given, n_draws, random_state=rng)
        ranks.append(ranks_among(true, drawn, rng))
        level = posterior.log_prob(true, given)[:, None]
        levels = posterior.log_prob(drawn, take_rows(x, np.repeat(rows, n_draws)))[:, None]
        # With the sign turned, the draws of higher density are those below.
        region_ranks.append(ranks_among(-level, -levels, rng))
    return RankStatistics.of(
        np.concatenate(ranks), np.concatenate(region_ranks)[:, 0], n_draws=n_draws, names=names
    )


def ranks_among(truth: Any, drawn: Any, rng: np.random.Generator) -> np.ndarray:
    """Return the rank of each true value among its draws, ties broken at random.

    Parameters
    ----------
    truth : DataFrame or ndarray of shape (n_rows, n_parameters)
    drawn : DataFrame or ndarray of shape (n_rows * n_draws, n_parameters)
        The draws for the first row come first.
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of int, shape (n_rows, n_parameters)
    """
    columns = []
    for j in range(truth.shape[1]):
        both = _ordered(column_of(truth, j), column_of(drawn, j))
        own, others = both[: len(truth), None], both[len(truth) :].reshape(len(truth), -1)
        n_equal = (others == own).sum(axis=1)
        columns.append((others < own).sum(axis=1) + rng.integers(n_equal + 1))
    return np.column_stack(columns)


def _ordered(first: pd.Series, second: pd.Series) -> np.ndarray:
    """Return both, one after the other, as numbers of the same order; categories in that of their codes."""
    if isinstance(first.dtype, pd.CategoricalDtype):
        second = second.astype(first.dtype)
    both = pd.concat([first, second], ignore_index=True)
    if pd.api.types.is_numeric_dtype(both.dtype):
        return both.to_numpy(dtype=np.float64)
    return np.asarray(both.astype("category").cat.codes)
