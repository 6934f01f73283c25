"""First guesses of clusters: how rows are divided before a mixture learns."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from sklearn.cluster import HDBSCAN, KMeans, SpectralClustering
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import KNeighborsClassifier

from flowdetect.exceptions import ConfigurationError

__all__ = ["PARTITIONS", "first_guesses", "given_responsibilities"]

# So many rows are divided; the others follow their nearest one.
_MOST_ROWS = 2000
_NEIGHBOURS = 10
_TRIES = 10
# Sizes tried for the smallest cluster, until there are as many clusters as wanted.
_SMALLEST_CLUSTERS = (5, 8, 12, 18, 27, 40, 60, 90, 135, 200, 300)
# Keeps the covariances of a component with few rows in many columns from collapsing.
_REGULARISATION = 1e-3
# Two guesses that agree as much are one.
_SAME = 0.98


def first_guesses(
    points: np.ndarray, values: np.ndarray, n_components: int, names: tuple[str, ...], seed: int
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield different divisions of points, by name.

    Parameters
    ----------
    points : ndarray of shape (n, n_coordinates)
        Between which Euclidean distances make sense.
    values : ndarray of shape (n, n_values)
        The numbers alone: a Gaussian of codes would put all its weight on what is the same within a cluster.
    n_components : int
    names : tuple of str
        Keys of `PARTITIONS`.
    seed : int

    Yields
    ------
    name : str
    labels : ndarray of int, shape (n,)
        0 to n_components - 1.
    """
    if n_components == 1:
        yield names[0], np.zeros(len(points), dtype=np.intp)
        return
    rng = np.random.default_rng(seed)
    some = np.sort(rng.permutation(len(points))[:_MOST_ROWS])
    found: list[np.ndarray] = []
    for name in names:
        divided = values if name == "gaussian" and values.shape[1] else points
        labels = PARTITIONS[name](divided[some], n_components, seed)
        if any(adjusted_rand_score(labels, other) > _SAME for other in found):
            continue
        found.append(labels)
        yield name, labels if len(some) == len(points) else _spread(points, some, labels)


def given_responsibilities(init: Any, n_rows: int, n_components: int) -> np.ndarray:
    """Return a given division as the probability of each component for each row.

    Parameters
    ----------
    init : array-like of shape (n_rows,) or (n_rows, n_components)
        Components by number, or their probabilities.
    n_rows, n_components : int

    Raises
    ------
    ConfigurationError
        If it is neither.
    """
    array = np.asarray(init)
    if array.shape == (n_rows,) and array.dtype.kind in "iu" and np.isin(array, range(n_components)).all():
        return np.eye(n_components)[array]
    if array.shape == (n_rows, n_components) and array.dtype.kind in "iuf":
        probabilities = array.astype(np.float64)
        if (probabilities >= 0.0).all() and np.allclose(probabilities.sum(axis=1), 1.0):
            return probabilities
    raise ConfigurationError(
        f"init must be one of {('auto', *PARTITIONS)}, a component from 0 to {n_components - 1} for each of "
        f"{n_rows} rows, or the probabilities of the {n_components} components for each; got {_shown(init)}."
    )


def _shown(init: Any) -> str:
    return repr(init) if isinstance(init, str) or init is None else f"an array of shape {np.shape(init)}"


def _spread(points: np.ndarray, some: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return for every point the label of the nearest point that has one."""
    nearest = KNeighborsClassifier(n_neighbors=1).fit(points[some], labels)
    return np.asarray(nearest.predict(points))


def _kmeans(points: np.ndarray, n_components: int, seed: int) -> np.ndarray:
    with warnings.catch_warnings():
        # Fewer different points than components.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return np.asarray(KMeans(n_components, n_init=_TRIES, random_state=seed).fit_predict(points))


def _gaussian(points: np.ndarray, n_components: int, seed: int) -> np.ndarray:
    mixture = GaussianMixture(
        n_components, n_init=_TRIES, reg_covar=_REGULARISATION, random_state=seed, max_iter=200
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return np.asarray(mixture.fit_predict(points))


def _spectral(points: np.ndarray, n_components: int, seed: int) -> np.ndarray:
    n_neighbors = min(_NEIGHBOURS, len(points))
    if len(points) <= n_components + 1:
        return _kmeans(points, n_components, seed)
    spectral = SpectralClustering(
        n_components, affinity="nearest_neighbors", n_neighbors=n_neighbors, random_state=seed
    )
    with warnings.catch_warnings():
        # A graph in several pieces is what is hoped for.
        warnings.filterwarnings("ignore", message="Graph is not fully connected", category=UserWarning)
        warnings.simplefilter("ignore", ConvergenceWarning)
        return np.asarray(spectral.fit_predict(points))


def _density(points: np.ndarray, n_components: int, seed: int) -> np.ndarray:
    """Return dense regions apart from each other; the spectral guess where there are not so many of them."""
    for smallest in _SMALLEST_CLUSTERS:
        if smallest > len(points) // n_components:
            break
        labels = HDBSCAN(min_cluster_size=smallest, copy=True).fit_predict(points)
        if labels.max() + 1 == n_components:
            clear = np.flatnonzero(labels >= 0)
            return _spread(points, clear, labels[clear])
    return _spectral(points, n_components, seed)


PARTITIONS = {"gaussian": _gaussian, "density": _density, "spectral": _spectral, "kmeans": _kmeans}
