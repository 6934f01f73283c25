"""The density around a row by its nearest training rows, and which training rows form lonely clusters."""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.special import digamma, gammaln
from sklearn.neighbors import KDTree

__all__ = ["Neighbours", "core_rows", "marginal_log_density"]

# Ranks of the neighbours whose distances give the density, and how many give the level around a row.
_N_NEAREST = 10
N_AROUND = 20
# Distances far below this, in units of the encoded columns, are all alike: repeated rows must not be
# infinitely dense.
_RESOLUTION = 1e-3
# A point this near is taken to be the row itself: the same row may come back in single precision.
_ITSELF = 1e-4
# What is worth another thread: differences between numbers.
_WORK_PER_THREAD = 5e6

# Which rows may be left out: those among the least usual share, by the density of many neighbours and by the
# columns one by one, that have at least half of their neighbours there too, and from which the other rows are
# further than their own kind by this much, in the log of the distance. Fewer rows say nothing about clusters.
_SUSPICIOUS_SHARE = 0.3
_CLUSTER_SHARE = 0.5
_CLUSTER_GAP = 0.5
# In few columns distances grow fast towards the edges of any cluster, in one or two too fast to tell.
_CLUSTER_GAP_OF_ONE = 3.0
_MANY = (4, 50)
_FEW = (0, 5)
_LEAST_ROWS = 100
_LEAST_COLUMNS = 3


class Neighbours:
    """Training rows as points, and the density that the nearest of them give.

    Parameters
    ----------
    points : ndarray of shape (n_points, n_coordinates)
    n_columns : int
        Number of columns of the table's matrix that vary: the dimension of the density.
    weights : ndarray of shape (n_points,), optional
        A point of weight 2 counts as two points.
    """

    def __init__(self, points: np.ndarray, n_columns: int, weights: np.ndarray | None = None) -> None:
        self.points = np.ascontiguousarray(points, dtype=np.float64)
        self.n_columns = n_columns
        self.weights = None if weights is None else weights / weights.mean()
        self._packed: np.ndarray | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what can be made again."""
        return {**self.__dict__, "_packed": None}

    def find(
        self, queries: np.ndarray, n_nearest: int = N_AROUND, *, without_itself: bool = True
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return distances to the nearest points and their positions, both (n_queries, n_nearest or fewer).

        A point that equals the query, but for rounding, is taken to be the query itself, once, and left out.
        With ``without_itself=False`` it counts like any other.
        """
        n_nearest = max(1, min(n_nearest, len(self.points) - without_itself))
        alike = _ITSELF if without_itself else -1.0
        queries = np.ascontiguousarray(queries, dtype=np.float64)
        squares = np.empty((len(queries), n_nearest))
        positions = np.empty((len(queries), n_nearest), dtype=np.intp)
        compiled = _compiled()
        if compiled is None:
            return self._find_by_tree(queries, n_nearest, alike)
        from flowdetect._utils.threads import run_parts

        packed = self._pack(int(compiled.LANES))
        n_points = len(self.points)
        run_parts(
            lambda _, first, last: compiled.nearest(
                queries, packed, n_points, alike * abs(alike), squares, positions, first, last
            ),
            len(queries),
            most=int(queries.size * n_points / _WORK_PER_THREAD),
        )
        return np.sqrt(squares), positions

    def _pack(self, lanes: int) -> np.ndarray:
        """Return the points with ``lanes`` of them side by side."""
        if self._packed is None:
            n_points, width = self.points.shape
            n_blocks = -(-n_points // lanes)
            blocks = np.zeros((n_blocks * lanes, width))
            blocks[:n_points] = self.points
            self._packed = np.ascontiguousarray(blocks.reshape(n_blocks, lanes, width).transpose(0, 2, 1))
        return self._packed

    def _find_by_tree(
        self, queries: np.ndarray, n_nearest: int, alike: float
    ) -> tuple[np.ndarray, np.ndarray]:
        n_found = min(n_nearest + 1, len(self.points))
        distances, positions = KDTree(self.points).query(queries, k=n_found)
        itself = np.zeros(distances.shape, dtype=bool)
        itself[:, 0] = distances[:, 0] <= alike
        itself[~itself[:, 0], -1] = n_found > n_nearest
        kept = ~itself if n_found > n_nearest else np.ones_like(itself)
        shape = (len(queries), -1)
        return distances[kept].reshape(shape), positions[kept].reshape(shape)

    def log_density(self, distances: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """Return the mean over the ten nearest of Loftsgaarden and Quesenberry's estimate, in nats."""
        d, n = self.n_columns, len(self.points)
        if not d:  # all columns are constant: there is nothing to be near in
            return np.zeros(len(distances))
        k = min(_N_NEAREST, distances.shape[1])
        unit_ball = 0.5 * d * math.log(math.pi) - gammaln(0.5 * d + 1.0)
        constant = float(digamma(np.arange(1, k + 1)).mean()) - math.log(n) - unit_ball
        return constant - d * self._mean_log(distances, positions, k)

    def average(self, values: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """Return the mean of the points' values over the found ones, by weight."""
        if self.weights is None:
            return values[positions].mean(axis=1)
        weights = self.weights[positions]
        return (values[positions] * weights).sum(axis=1) / weights.sum(axis=1)

    def _mean_log(self, distances: np.ndarray, positions: np.ndarray, k: int) -> np.ndarray:
        logs = np.log(distances + _RESOLUTION)
        if self.weights is None:
            return logs[:, :k].mean(axis=1)
        # The part of each point's weight that lies within the first k units of weight.
        upto = np.minimum(np.cumsum(self.weights[positions], axis=1), k)
        shares = np.diff(upto, axis=1, prepend=0.0)
        return (logs * shares).sum(axis=1) / shares.sum(axis=1)


def core_rows(points: np.ndarray, marginal: np.ndarray, n_columns: int) -> np.ndarray:
    """Tell which rows do not belong to a small cluster away from the others.

    Anomalies that resemble each other would be learnt as normal. A row is left out if it is among the 30 %
    least usual ones, has at least half of its 20 neighbours among these, and is a good deal further from the
    rows that stay than from its neighbours. Of fewer than 100 rows, or 3 columns, all stay.

    Parameters
    ----------
    points : ndarray of shape (n, n_coordinates)
    marginal : ndarray of shape (n,)
        Log-density of the rows by their columns alone.
    n_columns : int
        Dimension, as for `Neighbours`.

    Returns
    -------
    ndarray of bool, shape (n,)
    """
    everyone = np.ones(len(points), dtype=bool)
    if len(points) < _LEAST_ROWS or n_columns < _LEAST_COLUMNS:
        return everyone
    whole = Neighbours(points, 1)
    distances, positions = whole.find(points, _MANY[1])
    logs = np.log(distances + _RESOLUTION)
    first = min(_MANY[0], logs.shape[1] - 1)
    usual = _standardised(-logs[:, first:].mean(axis=1)) + _standardised(marginal)
    suspicious = usual < np.quantile(usual, _SUSPICIOUS_SHARE)
    among = suspicious[positions[:, :N_AROUND]].mean(axis=1)
    candidates = suspicious & (among >= _CLUSTER_SHARE)
    if not candidates.any():
        return everyone
    rest = Neighbours(points[~candidates], 1)
    away = np.log(rest.find(points[candidates], _FEW[1])[0] + _RESOLUTION).mean(axis=1)
    gap = away - logs[candidates, _FEW[0] : _FEW[1]].mean(axis=1)
    everyone[np.flatnonzero(candidates)[gap >= max(_CLUSTER_GAP, _CLUSTER_GAP_OF_ONE / n_columns)]] = False
    return everyone


def marginal_log_density(matrix: np.ndarray, n_values: int, cardinalities: Sequence[int]) -> np.ndarray:
    """Return the sum over columns of their log-densities: values smoothed by one unit, codes counted."""
    total = np.zeros(len(matrix))
    for column in matrix[:, :n_values].T:
        total += _smooth_log_density(column)
    for column, cardinality in zip(matrix[:, n_values:].T, cardinalities, strict=True):
        counts = np.bincount(column.astype(np.intp), minlength=cardinality)
        total += np.log(counts[column.astype(np.intp)] / len(matrix))
    return total


def _smooth_log_density(column: np.ndarray) -> np.ndarray:
    # A grid of a tenth of a unit; further out than a hundred units all is equally far.
    cells = np.rint(np.clip(column, -100.0, 100.0) * 10.0).astype(np.intp)
    cells -= cells.min()
    smooth = gaussian_filter1d(np.bincount(cells).astype(np.float64), 10.0, mode="constant", truncate=6.0)
    return np.log(smooth[cells] * (10.0 / len(column)))


def _standardised(values: np.ndarray) -> np.ndarray:
    lower, median, upper = np.quantile(values, [0.25, 0.5, 0.75])
    return (values - median) / (upper - lower + 1e-9)


def _compiled() -> ModuleType | None:
    """Import the compiled search; None without numba."""
    try:
        return importlib.import_module("flowdetect.estimators._nearest_numba")
    except ImportError:
        return None
