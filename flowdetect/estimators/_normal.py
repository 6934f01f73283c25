"""A normal distribution from rows with missing coordinates."""

from __future__ import annotations

import numpy as np

__all__ = ["fit_normal"]

_MAX_ROUNDS = 100
_TOLERANCE = 1e-4
# Numbers held for a block of rows.
_BLOCK = 2**22
# Work of one round, in multiplications; above it, a sample of the rows is enough.
_MOST_WORK = 2e9
# Coordinates more than this many are taken for independent: their conditional distributions would cost more
# than the flow.
MAX_COORDINATES = 80


def fit_normal(
    points: np.ndarray, known: np.ndarray, weights: np.ndarray | None = None, *, shrinkage: float = 2.0
) -> tuple[np.ndarray, np.ndarray]:
    """Estimate mean and covariance by expectation and maximisation.

    Parameters
    ----------
    points : ndarray of shape (n, m)
    known : ndarray of bool, shape (n, m)
        What is not known is not read; it must be missing at random.
    weights : ndarray of shape (n,), optional
    shrinkage : float, default 2.0
        Number of rows that say that the coordinates are independent.

    Returns
    -------
    mean : ndarray of shape (m,)
    covariance : ndarray of shape (m, m)
        Positive definite.

    References
    ----------
    R. J. A. Little, D. B. Rubin (2002), "Statistical Analysis with Missing Data", section 11.2.
    """
    points, known, weights = _sample(points, known, weights)
    points = np.where(known, points, 0.0)
    mean, variance = _marginals(points, known, weights)
    scale = np.sqrt(variance)
    points = np.where(known, (points - mean) / scale, 0.0)
    location, correlation = np.zeros(len(mean)), np.eye(len(mean))
    if 1 < len(mean) <= MAX_COORDINATES:
        location, correlation = _maximise(points, known, weights, shrinkage)
    covariance = correlation * np.outer(scale, scale)
    return mean + scale * location, (covariance + covariance.T) / 2.0


def _sample(
    points: np.ndarray, known: np.ndarray, weights: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    weights = np.ones(len(points)) if weights is None else weights
    most = max(1000, int(_MOST_WORK / (max(points.shape[1], 1) ** 3 + 1)))
    if len(points) <= most:
        return points, known, weights
    rows = np.linspace(0, len(points) - 1, most).astype(int)
    return points[rows], known[rows], weights[rows]


def _marginals(points: np.ndarray, known: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    total = np.maximum(weights @ known, np.finfo(float).tiny)
    mean = (weights @ points) / total
    variance = (weights @ np.where(known, np.square(points - mean), 0.0)) / total
    return mean, np.where(variance > 1e-12, variance, 1.0)


def _maximise(
    points: np.ndarray, known: np.ndarray, weights: np.ndarray, shrinkage: float
) -> tuple[np.ndarray, np.ndarray]:
    n_columns, total = points.shape[1], weights.sum()
    mean, covariance = np.zeros(n_columns), np.eye(n_columns)
    for _ in range(_MAX_ROUNDS if not known.all() else 1):
        before = covariance
        first, second = _moments(points, known, weights, mean, covariance)
        mean = first / total
        covariance = second / total - np.outer(mean, mean)
        covariance = _shrunk(covariance, shrinkage / (total + shrinkage))
        if np.abs(covariance - before).max() < _TOLERANCE:
            break
    return mean, covariance


def _shrunk(covariance: np.ndarray, share: float) -> np.ndarray:
    diagonal = np.maximum(np.diag(covariance), 1e-6)
    shrunk = (1.0 - share) * covariance
    np.fill_diagonal(shrunk, diagonal * (1.0 + 1e-6))
    return shrunk


def _moments(
    points: np.ndarray, known: np.ndarray, weights: np.ndarray, mean: np.ndarray, covariance: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the expected sums of the points and of their products, given what is known."""
    n_columns = points.shape[1]
    first, second = np.zeros(n_columns), np.zeros((n_columns, n_columns))
    size = max(1, _BLOCK // n_columns**2)
    for start in range(0, len(points), size):
        part = slice(start, start + size)
        there, weight = known[part], weights[part]
        if there.all():
            filled = points[part]
        else:
            filled, rest = _expected(points[part], there, mean, covariance)
            second += np.tensordot(weight, rest, axes=1)
        first += weight @ filled
        second += (filled * weight[:, None]).T @ filled
    return first, second


def _expected(
    points: np.ndarray, known: np.ndarray, mean: np.ndarray, covariance: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the points with conditional means for what is not known, and the conditional covariances."""
    both = known[:, :, None] & known[:, None, :]
    # The identity in place of what is not known lets all rows be solved at once.
    matrix = np.where(both, covariance, np.eye(len(mean)))
    across = np.where(known[:, :, None], covariance, 0.0)
    solved = np.linalg.solve(matrix, across)
    centred = np.where(known, points - mean, 0.0)
    filled = np.where(known, points, mean + np.einsum("ni,nij->nj", centred, solved))
    rest = covariance - np.swapaxes(across, 1, 2) @ solved
    rest *= ~known[:, :, None] & ~known[:, None, :]
    return filled, rest
