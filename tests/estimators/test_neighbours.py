import importlib
import pickle

import numpy as np
import pytest
from scipy.special import digamma
from scipy.stats import multivariate_normal

from flowdetect.estimators import _neighbours
from flowdetect.estimators._neighbours import Neighbours, core_rows, marginal_log_density


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def brute_force(points, queries, k):
    distances = np.linalg.norm(queries[:, None] - points[None], axis=2)
    for row in distances:
        itself = np.flatnonzero(row <= 1e-4)
        row[itself[:1]] = np.inf
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(distances, order, axis=1), order


@pytest.mark.parametrize(("n_points", "width"), [(7, 1), (64, 3), (65, 17), (200, 40)])
def test_the_nearest_are_found(rng, n_points, width):
    points = rng.normal(size=(n_points, width))
    queries = np.vstack([rng.normal(size=(20, width)), points[:5], [points[3] + 1e-7]])
    distances, positions = Neighbours(points, width).find(queries, 6)
    expected, order = brute_force(points, queries, 6)
    assert distances == pytest.approx(expected, rel=1e-12)
    assert np.array_equal(positions, order)


def test_of_equally_near_points_the_first_comes_first(rng):
    points = rng.integers(0, 3, size=(50, 2)).astype(float)
    distances, positions = Neighbours(points, 2).find(points, 20)
    expected, order = brute_force(points, points, 20)
    assert np.array_equal(distances, expected)
    assert np.array_equal(positions, order)


def test_a_row_alone_has_the_same_neighbours(rng):
    neighbours = Neighbours(rng.normal(size=(300, 5)), 5)
    queries = rng.normal(size=(40, 5))
    together, _ = neighbours.find(queries)
    alone = np.vstack([neighbours.find(queries[[i]])[0] for i in range(40)])
    assert np.array_equal(together, alone)


def test_the_tree_finds_the_same(rng, monkeypatch):
    neighbours = Neighbours(rng.normal(size=(100, 4)), 4)
    queries = np.vstack([rng.normal(size=(10, 4)), neighbours.points[:4]])
    compiled = neighbours.find(queries, 7)
    monkeypatch.setattr(_neighbours, "_compiled", lambda: None)
    by_tree = neighbours.find(queries, 7)
    assert by_tree[0] == pytest.approx(compiled[0], rel=1e-12)
    assert np.array_equal(by_tree[1], compiled[1])
    few = Neighbours(neighbours.points[:3], 4)
    assert few.find(queries, 7)[0].shape == (14, 2)


def test_without_numba_there_is_no_compiled_search(monkeypatch):
    def refuse(name):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", refuse)
    assert _neighbours._compiled() is None


def test_the_density_of_gaussian_rows(rng):
    points = rng.normal(size=(5000, 2))
    neighbours = Neighbours(points, 2)
    queries = rng.normal(size=(200, 2))
    estimate = neighbours.log_density(*neighbours.find(queries))
    truth = multivariate_normal(np.zeros(2)).logpdf(queries)
    assert np.mean(estimate - truth) == pytest.approx(0.0, abs=0.15)


def test_a_weight_of_two_is_a_point_given_twice(rng):
    points, queries = rng.normal(size=(30, 2)), rng.normal(size=(10, 2))
    twice = Neighbours(np.repeat(points, 2, axis=0), 2)
    weighted = Neighbours(points, 2, np.full(30, 2.0))
    assert weighted.weights.tolist() == [1.0] * 30  # only ratios count
    uneven = Neighbours(points, 2, np.where(np.arange(30) < 15, 2.0, 1.0))
    repeated = np.vstack([points[:15], points])
    again = Neighbours(repeated, 2)
    levels = rng.normal(size=30)
    of_uneven, of_again = uneven.find(queries), again.find(queries, 10**6)
    assert twice.log_density(*twice.find(queries)).shape == (10,)
    # Twenty-nine neighbours with weights cover all points, and so do all the repeated ones.
    full = uneven.find(queries, 10**6)
    assert uneven.average(levels, full[1]) == pytest.approx(
        again.average(np.concatenate([levels[:15], levels]), of_again[1]), abs=0.3
    )
    assert np.isfinite(uneven.log_density(*of_uneven)).all()


def test_no_dimension_no_density():
    neighbours = Neighbours(np.zeros((5, 1)), 0)
    assert neighbours.log_density(*neighbours.find(np.zeros((3, 1)))).tolist() == [0.0, 0.0, 0.0]


def test_a_pickle_is_not_larger_than_the_points(rng):
    neighbours = Neighbours(rng.normal(size=(1000, 8)), 8)
    before = neighbours.find(neighbours.points[:9])
    text = pickle.dumps(neighbours)
    assert len(text) < 1.1 * neighbours.points.nbytes
    after = pickle.loads(text).find(neighbours.points[:9])
    assert np.array_equal(before[0], after[0])


# --- rows that are left out --------------------------------------------------------------------------------


def core_of(points):
    width = points.shape[1]
    return core_rows(points, marginal_log_density(points, width, ()), width)


def test_a_small_cluster_away_from_the_others_is_left_out(rng):
    points = np.vstack([rng.normal(size=(500, 6)), rng.normal(loc=6.0, scale=0.3, size=(40, 6))])
    core = core_of(points)
    assert not core[500:].any()
    assert core[:500].mean() > 0.9


def test_scattered_rows_and_large_clusters_stay(rng):
    scattered = np.vstack([rng.normal(size=(500, 6)), rng.normal(scale=8.0, size=(10, 6))])
    assert core_of(scattered)[500:].all()
    halves = np.vstack([rng.normal(size=(300, 6)), rng.normal(loc=6.0, size=(300, 6))])
    assert core_of(halves).mean() > 0.9


@pytest.mark.parametrize("n_columns", [1, 2, 3, 5])
def test_the_edges_of_one_cluster_stay(rng, n_columns):
    assert core_of(rng.normal(size=(3000, n_columns))).mean() > 0.95


@pytest.mark.parametrize("n_rows", [1, 2, 10, 99, 100, 101])
def test_few_rows_and_equal_rows(rng, n_rows):
    points = rng.normal(size=(n_rows, 3))
    assert core_of(points).sum() >= n_rows / 2
    assert core_rows(np.zeros((n_rows, 3)), np.zeros(n_rows), 3).all()


def test_the_marginal_density_of_values_and_codes(rng):
    values, codes = rng.normal(size=4000), rng.integers(0, 2, 4000)
    density = marginal_log_density(np.column_stack([values, codes]), 1, (3,))
    # One unit of noise added to a standard normal column, and the share of the code.
    truth = -0.25 * values**2 - 0.5 * np.log(4.0 * np.pi) + np.log(np.bincount(codes)[codes] / 4000)
    near = np.abs(values) < 2.0
    assert density[near] == pytest.approx(truth[near], abs=0.1)
    far = marginal_log_density(np.append(values, 1e30)[:, None], 1, ())
    assert np.isfinite(far).all()


def test_ranks_of_the_density(rng):
    neighbours = Neighbours(np.array([[0.0], [1.0], [3.0]]), 1)
    distances, positions = neighbours.find(np.array([[-1.0]]))
    assert distances.tolist() == [[1.0, 2.0]]
    resolution = _neighbours._RESOLUTION
    expected = digamma([1, 2]).mean() - np.log(3) - np.log(2) - np.log(distances + resolution).mean()
    assert neighbours.log_density(distances, positions) == pytest.approx([expected])
