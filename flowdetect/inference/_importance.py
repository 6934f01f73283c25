"""Importance weights, how far they can be trusted, and their smoothing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

__all__ = ["Weights", "fit_pareto", "smooth_weights"]

# Fewer points of a tail say nothing of its shape.
_LEAST_TAIL = 5
_HIGH_K, _ALMOST_ALL = 0.7, 0.95


@dataclass(frozen=True)
class Weights:
    """Smoothed importance weights of draws.

    Attributes
    ----------
    log_weights : ndarray of shape (n,)
        Of log p - log q after smoothing, not normalised, in nats.
    pareto_k : float
        Shape of the tail of the raw weights: below 0.5 their variance is finite, above 0.7 estimates from
        them cannot be trusted.
    """

    log_weights: np.ndarray
    pareto_k: float

    @property
    def normalised(self) -> np.ndarray:
        """The weights, which sum to 1."""
        weights = np.exp(self.log_weights - self.log_weights.max())
        shares: np.ndarray = weights / weights.sum()
        return shares

    @property
    def effective_size(self) -> float:
        """``1 / sum w^2``: the number of equally weighted draws worth as much."""
        return float(1.0 / np.square(self.normalised).sum())

    @property
    def trustworthy(self) -> bool:
        """Whether estimates by these weights are to be trusted.

        The shape of the tail knows no size: where q is almost p, the few weights that differ may have any
        shape. It counts where less than 95 per cent of the draws are left.
        """
        return self.pareto_k <= _HIGH_K or self.effective_size >= _ALMOST_ALL * len(self.log_weights)

    def mean_of(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the weighted mean of values (n,) or (n, k), and its standard error by the delta method."""
        shares = self.normalised.reshape(-1, *[1] * (values.ndim - 1))
        mean = (shares * values).sum(axis=0)
        return mean, np.sqrt((shares**2 * (values - mean) ** 2).sum(axis=0))

    def log_mean(self) -> tuple[float, float]:
        """Return the logarithm of the mean weight, and its standard error by the delta method."""
        top, n = self.log_weights.max(), len(self.log_weights)
        weights = np.exp(self.log_weights - top)
        mean = weights.mean()
        return float(top + np.log(mean)), float(weights.std() / mean / np.sqrt(n))


def smooth_weights(log_ratios: np.ndarray) -> Weights:
    """Smooth the largest importance ratios by a generalised Pareto distribution fitted to them.

    Parameters
    ----------
    log_ratios : ndarray of shape (n,)
        log p - log q of draws from q, in nats; -inf where p is zero.

    Returns
    -------
    Weights

    References
    ----------
    Vehtari, Simpson, Gelman, Yao, Gabry (2024). Pareto Smoothed Importance Sampling.

    Examples
    --------
    >>> smooth_weights(np.zeros(100)).effective_size
    100.0
    """
    n = len(log_ratios)
    n_tail = int(np.ceil(min(0.2 * n, 3.0 * np.sqrt(n))))
    order = np.argsort(log_ratios, kind="stable")
    tail, rest = order[n - n_tail :], order[: n - n_tail]
    if n_tail < _LEAST_TAIL or not np.isfinite(log_ratios[rest[-1:]]).all() or not len(rest):
        return Weights(log_ratios, np.inf)
    top = log_ratios[order[-1]]
    cutoff = np.exp(log_ratios[rest[-1]] - top)
    excess = np.exp(log_ratios[tail] - top) - cutoff
    if excess[-1] <= 1e-12:  # all alike: there is no tail
        return Weights(log_ratios, -np.inf)
    k, sigma = fit_pareto(excess[excess > 0.0])
    smoothed = log_ratios.astype(np.float64, copy=True)
    places = (np.arange(n_tail) + 0.5) / n_tail
    expected = cutoff + _pareto_quantiles(places, k, sigma)
    # No weight above the largest raw one.
    smoothed[tail] = np.log(np.minimum(expected, 1.0)) + top
    return Weights(smoothed, k)


def fit_pareto(excess: np.ndarray) -> tuple[float, float]:
    """Fit a generalised Pareto distribution to sorted positive values.

    Parameters
    ----------
    excess : ndarray of shape (n,)
        Ascending, positive.

    Returns
    -------
    k : float
        Shape, drawn towards 0.5 as if by ten more values; positive for heavy tails.
    sigma : float
        Scale.

    References
    ----------
    Zhang, Stephens (2009). A New and Efficient Estimation Method for the Generalized Pareto Distribution.
    """
    n = len(excess)
    n_points = 30 + int(np.sqrt(n))
    places = np.arange(1, n_points + 1) - 0.5
    # A grid of b = k / sigma (with their sign of k), equation 8, around the quartile of the values.
    b = 1.0 / excess[-1] + (1.0 - np.sqrt(n_points / places)) / (3.0 * excess[int(n / 4 + 0.5) - 1])
    shapes = np.log1p(-b[:, None] * excess).mean(axis=1)
    profile = n * (np.log(-b / shapes) - shapes - 1.0)
    shares = np.exp(profile - profile.max())
    mean = float((b * shares).sum() / shares.sum())
    k = float(np.log1p(-mean * excess).mean())
    sigma = -k / mean
    return k * n / (n + 10.0) + 5.0 / (n + 10.0), sigma


def _pareto_quantiles(places: np.ndarray, k: float, sigma: float) -> np.ndarray:
    quantiles: np.ndarray = (
        -sigma * np.log1p(-places) if abs(k) < 1e-12 else sigma * np.expm1(-k * np.log1p(-places)) / k
    )
    return quantiles
