from typing import Any

import numpy as np
import pandas as pd
import pytest

from flowdetect.exceptions import ConfigurationError, InvalidTableError
from flowdetect.inference import RankStatistics, UniformRanks
from flowdetect.inference._ranks import ranks_among


def test_ranks_count_the_draws_below() -> None:
    drawn = np.array([[0.0], [1.0], [2.0], [5.0], [6.0], [7.0]])
    ranks = ranks_among(np.array([[1.5], [4.0]]), drawn, np.random.default_rng(0))
    assert ranks.tolist() == [[2], [0]]


def test_equal_values_are_ordered_at_random() -> None:
    ranks = ranks_among(np.ones((3000, 1)), np.ones((6000, 1)), np.random.default_rng(0))
    assert np.abs(np.bincount(ranks[:, 0], minlength=3) / 3000 - 1 / 3).max() < 0.03


def test_categories_rank_in_their_order() -> None:
    kind = pd.CategoricalDtype(["low", "mid", "high"], ordered=True)
    true = pd.DataFrame({"a": pd.Series(["mid"], dtype=kind), "b": ["y"]})
    drawn = pd.DataFrame({"a": pd.Series(["high", "low"], dtype=kind), "b": ["x", "z"]})
    assert ranks_among(true, drawn, np.random.default_rng(0)).tolist() == [[1, 1]]


@pytest.mark.parametrize(("n_rows", "n_draws"), [(50, 9), (300, 99), (300, 1000)])
def test_p_values_of_uniform_ranks_are_uniform_and_the_band_holds(n_rows: int, n_draws: int) -> None:
    rng = np.random.default_rng(1)
    uniform = UniformRanks(n_rows, n_draws)
    low, high = uniform.band(0.9)
    samples = [rng.integers(n_draws + 1, size=n_rows) for _ in range(400)]
    p_values = np.array([uniform.p_value(ranks) for ranks in samples])
    assert 0.05 < np.mean(p_values <= 0.1) < 0.15
    shares = np.array([uniform.counts(ranks) / n_rows for ranks in samples])
    stays = ((shares >= low) & (shares <= high)).all(axis=1)
    assert 0.85 < stays.mean() <= 0.96


def test_shares_are_the_probabilities_of_the_ranks_below() -> None:
    uniform = UniformRanks(10, 4)
    np.testing.assert_allclose(uniform.shares, [0.2, 0.4, 0.6, 0.8])
    assert uniform.counts(np.array([0, 0, 3, 4])).tolist() == [2, 2, 2, 3]


@pytest.mark.parametrize("wrong", ["narrow", "shifted"])
def test_ranks_that_are_not_uniform_have_a_small_p_value(wrong: str) -> None:
    rng = np.random.default_rng(0)
    shares = rng.beta(0.5, 0.5, size=300) if wrong == "narrow" else rng.beta(1.5, 1.0, size=300)
    assert UniformRanks(300, 99).p_value(np.floor(shares * 100).clip(max=99)) < 0.01


def test_coverage_is_the_share_of_true_parameters_inside() -> None:
    ranks = np.arange(100)[:, None]
    statistics = RankStatistics.of(ranks, ranks[:, 0], n_draws=99, names=[0])
    np.testing.assert_allclose(statistics.coverage([0.0, 0.5, 0.9, 1.0]), [0.0, 0.5, 0.9, 1.0])
    assert statistics.p_values[0] == statistics.region_p_value > 0.9
    assert statistics.coverage(0.5).tolist() == [0.5]
    with pytest.raises(ConfigurationError, match=r"levels must be numbers within 0..1; got \[95.0\]"):
        statistics.coverage([95.0])


def test_coverage_of_a_narrow_posterior_is_too_small() -> None:
    far = np.full((50, 1), 99)
    assert RankStatistics.of(far, far[:, 0], n_draws=99, names=[0]).coverage([0.95])[0] == 0.0


@pytest.mark.parametrize(
    ("ranks", "sentence"),
    [
        ([[11]], "whole numbers from 0 to the number of draws, 10; got 11"),
        ([[-1]], "got -1"),
        ([[0.5]], "got 0.5"),
        ([[np.nan]], "got nan"),
        (np.empty((0, 1)), r"one whole number for each row and parameter; got shape \(0, 1\)"),
        (np.zeros((1, 1, 1)), r"got shape \(1, 1, 1\)"),
    ],
)
def test_what_are_no_ranks_is_refused(ranks: Any, sentence: str) -> None:
    with pytest.raises(InvalidTableError, match=sentence):
        RankStatistics.of(ranks, [0], n_draws=10, names=["a"])
