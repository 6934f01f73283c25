"""A linear forecast of the next row of a series, robust against jumps and bounded in its changes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import RidgeCV

__all__ = ["LinearForecast"]

_Array = NDArray[np.float64]

_ALPHAS = np.logspace(-2, 4, 13)
# Features may leave the range seen in training by this share of it; beyond, they are cut.
_MARGIN = 0.1
# Residuals beyond this many robust deviations weigh less: jumps are for the density to learn.
_HUBER = 2.0
_REWEIGHTINGS = 3
_TINY = 1e-9


class LinearForecast:
    """Forecast the change of each number by a ridge regression on features of the past.

    Features are cut to the range they had in training, a little widened: changes stay bounded wherever a path
    gets to.

    Parameters
    ----------
    levels : ndarray of bool, shape (n_numbers,)
        For which numbers the last value itself, with which the features begin, may play a part. Without it
        nothing draws a path back to where the series was in training: right for a series with a trend.

    Attributes
    ----------
    n_features_ : int
        How many of the regressors come from the past; the others are what is known beforehand.
    """

    def __init__(self, levels: NDArray[np.bool_]) -> None:
        self.levels = levels

    def fit(self, features: _Array, known: _Array, values: _Array) -> LinearForecast:
        """Learn the regressions.

        Parameters
        ----------
        features : ndarray of shape (n_rows, n_features)
        known : ndarray of shape (n_rows, n_known)
        values : ndarray of shape (n_rows, n_numbers)
            What followed; NaN where it is missing.

        Returns
        -------
        self
        """
        self.n_features_ = features.shape[1]
        low, high = features.min(axis=0), features.max(axis=0)
        self._low, self._high = low - _MARGIN * (high - low), high + _MARGIN * (high - low)
        regressors = np.hstack([features, known])
        self._centre, self._spread = regressors.mean(axis=0), _spreads(regressors)
        design = self.design(features, known)
        changes = values - self.bases(features)
        self._weights = np.zeros((design.shape[1], changes.shape[1]))
        self._intercepts = np.zeros(changes.shape[1])
        for number, change in enumerate(changes.T):
            seen = ~np.isnan(change)
            if seen.sum() < 2 or np.ptp(change[seen]) < _TINY:
                self._intercepts[number] = change[seen].mean() if seen.any() else 0.0
                continue
            ridge = _robust_ridge(design[seen], change[seen])
            self._weights[:, number], self._intercepts[number] = ridge.coef_, ridge.intercept_
        return self

    def design(self, features: _Array, known: _Array) -> _Array:
        """Return the regressors, standardised; those of the past come first."""
        cut = np.clip(features, self._low, self._high)
        design: _Array = (np.hstack([cut, known]) - self._centre) / self._spread
        design[:, : len(self.levels)] *= self.levels
        return design

    def bases(self, features: _Array) -> _Array:
        """Return the last values, which changes are added to."""
        return features[:, : len(self.levels)]

    def changes(self, design: _Array) -> _Array:
        """Return the forecast of each number less its last value."""
        changes: _Array = design @ self._weights + self._intercepts
        return changes


def _spreads(values: _Array) -> _Array:
    deviations = values.std(axis=0)
    spreads: _Array = np.where(deviations > _TINY, deviations, 1.0)
    return spreads


def _robust_ridge(design: _Array, target: _Array) -> RidgeCV:
    """Return a ridge regression by Huber's loss, its strength chosen by generalised cross-validation."""
    weights = np.ones(len(target))
    for _ in range(_REWEIGHTINGS):
        ridge = RidgeCV(_ALPHAS).fit(design, target, sample_weight=weights)
        residuals = np.abs(target - ridge.predict(design))
        scale = 1.4826 * np.median(residuals)
        if scale <= _TINY:
            break
        weights = np.minimum(1.0, _HUBER * scale / np.maximum(residuals, _TINY))
    return ridge
