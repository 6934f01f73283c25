import numpy as np
import pytest

from flowdetect.explanation import column_candidates, column_gains

SINGLE = [np.array([0]), np.array([1])]


def correlated(rows: np.ndarray) -> np.ndarray:
    """Log-density, up to a constant, of two standard normals with correlation 0.95."""
    x, y = rows.T
    return -(x**2 - 1.9 * x * y + y**2) / (2 * (1 - 0.95**2))


def test_candidates_are_contents_at_even_ranks():
    rows = np.random.default_rng(0).normal(size=(1000, 1))
    [picked] = column_candidates(rows, [np.array([0])], 16)
    assert picked.shape == (16, 1)
    assert np.isin(picked, rows).all()
    assert (rows < picked[8]).mean() == pytest.approx(0.53, abs=0.01)


def test_candidates_of_a_group_stay_together():
    rows = np.array([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    [picked] = column_candidates(rows, [np.array([0, 1])], 8)
    assert {tuple(content) for content in picked} <= {tuple(row) for row in rows}


def test_frequent_contents_are_always_candidates():
    rows = np.repeat([0.0, 1.0, 2.0], [900, 50, 50])[:, None]
    [picked] = column_candidates(rows, [np.array([0])], 16)
    assert 0.0 in picked
    assert len(picked) <= 3


def test_one_row_gives_one_candidate():
    picked = column_candidates(np.array([[3.0, 4.0]]), SINGLE, 16)
    assert [content.tolist() for content in picked] == [[[3.0]], [[4.0]]]


def test_a_value_that_is_odd_only_beside_the_other_is_found():
    candidates = [np.linspace(-2, 2, 9)[:, None]] * 2
    gains = column_gains(correlated, np.array([[2.0, -2.0], [1.0, 1.0]]), SINGLE, candidates)
    assert gains.shape == (2, 2)
    assert gains[0].min() > 20
    assert gains[1].max() < 1


def test_gains_are_what_the_best_candidate_brings():
    rows = np.array([[3.0, 0.5]])
    candidates = [np.array([[0.0], [1.0]]), np.array([[-5.0]])]
    gains = column_gains(correlated, rows, SINGLE, candidates)
    best = max(correlated(np.array([[x, 0.5]]))[0] for x in (0.0, 1.0))
    assert gains[0, 0] == pytest.approx(best - correlated(rows)[0])
    assert gains[0, 1] == 0.0


def test_rows_are_left_as_they_are():
    rows = np.array([[3.0, 0.5]])
    column_gains(correlated, rows, SINGLE, [np.array([[0.0]])] * 2)
    assert rows.tolist() == [[3.0, 0.5]]
