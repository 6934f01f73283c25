"""Distances between drawn and real rows: how near they come, and what they cover."""

import numpy as np
from sklearn.metrics import pairwise_distances_chunked
from sklearn.neighbors import NearestNeighbors

__all__ = ["coverage", "density", "expected_coverage", "near_copies", "nearest_distances", "radii"]

# A distance to a neighbour is at most its radius also where rounding says otherwise.
_ROUNDING = 1e-6


def nearest_distances(
    points: np.ndarray, among: np.ndarray | None = None, *, n_neighbours: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Return the distances to the nearest points, in ascending order, and which these are.

    Parameters
    ----------
    points : ndarray of shape (n_points, n_coordinates)
    among : ndarray of shape (n_others, n_coordinates) or None, default=None
        None looks among the points themselves, a point not being its own neighbour.
    n_neighbours : int, default=1

    Returns
    -------
    distances : ndarray of shape (n_points, n_neighbours)
    positions : ndarray of int, shape (n_points, n_neighbours)
    """
    others = points if among is None else among
    finder = NearestNeighbors(n_neighbors=n_neighbours).fit(others)
    positions = finder.kneighbors(None if among is None else points, return_distance=False)
    # Computed once more: fast distances are rounded, and that of a copy must be 0.
    distances = np.column_stack(
        [np.linalg.norm(points - others[positions[:, k]], axis=1) for k in range(n_neighbours)]
    )
    return np.sort(distances, axis=1), positions


def radii(points: np.ndarray, n_neighbours: int) -> np.ndarray:
    """Return the distance of each point to its k-th nearest other, for the largest k up to that asked for."""
    return nearest_distances(points, n_neighbours=min(n_neighbours, len(points) - 1))[0][:, -1]


def near_copies(distances: np.ndarray, positions: np.ndarray, own_distances: np.ndarray) -> float:
    """Return the share of points less than half as far from a real one as that is from other real ones.

    Parameters
    ----------
    distances, positions : ndarray of shape (n_points, 1)
        The nearest real point of each point, from `nearest_distances`.
    own_distances : ndarray of shape (n_real,)
        Distance of each real point to its nearest other.
    """
    return float(np.mean(distances[:, 0] < 0.5 * own_distances[positions[:, 0]]))


def coverage(points: np.ndarray, real: np.ndarray, real_radii: np.ndarray) -> float:
    """Return the share of real points within whose radius there is another point."""
    return float(np.mean(nearest_distances(real, points)[0][:, 0] <= _reach(real_radii)))


def density(points: np.ndarray, real: np.ndarray, real_radii: np.ndarray, n_neighbours: int) -> float:
    """Return within how many real radii a point lies on average, divided by k."""
    reach = _reach(real_radii)
    blocks = pairwise_distances_chunked(
        points, real, reduce_func=lambda block, start: (block <= reach).sum(axis=1), working_memory=128
    )
    counts = np.concatenate(list(blocks))
    return float(counts.mean() / min(n_neighbours, len(real) - 1))


def expected_coverage(n_real: int, n_points: int, n_neighbours: int) -> float:
    """Return the mean coverage by points from the distribution of the real ones (Naeem et al., 2020).

    Examples
    --------
    >>> round(expected_coverage(1000, 1000, 5), 3)
    0.969
    """
    # The chance that the k nearest of n_real - 1 real and n_points other points are all real.
    before = np.arange(1, min(n_neighbours, n_real - 1) + 1)
    return float(1.0 - np.prod((n_real - before) / (n_real + n_points - before)))


def _reach(real_radii: np.ndarray) -> np.ndarray:
    return real_radii * (1.0 + _ROUNDING) + _ROUNDING
