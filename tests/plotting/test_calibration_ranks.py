from typing import Any

import numpy as np
import pytest
from matplotlib import pyplot as plt

from flowdetect.exceptions import ConfigurationError, InvalidTableError
from flowdetect.inference import RankStatistics, UniformRanks
from flowdetect.plotting import CalibrationRankDisplay


class Posterior:
    """The parameters are the ranks already."""

    def rank_statistics(self, theta: Any, x: Any, *, n_samples: int, random_state: Any) -> RankStatistics:
        return RankStatistics.of(theta, x, n_draws=n_samples, names=["mass", 1])


def uniform_ranks(n: int = 200, n_parameters: int = 2, n_draws: int = 99) -> np.ndarray:
    return np.random.default_rng(0).integers(n_draws + 1, size=(n, n_parameters))


def names_of(display: CalibrationRankDisplay) -> list[str]:
    legend = display.ax_.get_legend()
    assert legend is not None
    return [text.get_text() for text in legend.get_texts()]


def test_lines_are_shares_of_ranks_less_uniform_ones() -> None:
    display = CalibrationRankDisplay.from_predictions([0, 0, 3, 4], n_draws=4)
    line = display.ax_.lines[1]
    np.testing.assert_allclose(line.get_xdata(), [0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
    np.testing.assert_allclose(line.get_ydata(), [0.0, 0.3, 0.1, -0.1, -0.05, 0.0])
    assert display.figure_ is display.ax_.figure


def test_the_band_is_that_of_uniform_ranks() -> None:
    display = CalibrationRankDisplay.from_predictions(uniform_ranks(), n_draws=99, level=0.9)
    low, high = UniformRanks(200, 99).band(0.9)
    heights = display.ax_.collections[0].get_paths()[0].vertices[:, 1]
    shares = UniformRanks(200, 99).shares
    assert heights.min() == pytest.approx((low - shares).min())
    assert heights.max() == pytest.approx((high - shares).max())
    assert names_of(display)[0] == "90 % band throughout, 200 rows"


def test_lines_that_leave_the_band_say_so() -> None:
    ranks = uniform_ranks()
    ranks[:, 1] = ranks[:, 1] // 2
    display = CalibrationRankDisplay.from_predictions(ranks, n_draws=99, names=["mass", "spin"], name="title")
    assert names_of(display)[1:] == ["calibrated", "mass", "spin (leaves the band)"]
    assert display.ax_.get_legend().get_title().get_text() == "title"  # type: ignore[union-attr]


def test_only_lines_that_leave_the_band_have_names_among_many() -> None:
    ranks = uniform_ranks(100, 30)
    ranks[:, 7] = 0
    display = CalibrationRankDisplay.from_predictions(ranks, n_draws=99)
    assert "column 7 (leaves the band)" in names_of(display)
    assert len(names_of(display)) < 8
    assert len(display.ax_.lines) == 31


def test_an_estimator_ranks_its_parameters_and_their_density() -> None:
    ax = plt.subplots()[1]
    ranks = uniform_ranks(n_parameters=3, n_draws=19)
    display = CalibrationRankDisplay.from_estimator(
        Posterior(), ranks[:, :2], ranks[:, 2], n_samples=19, level=0.99, ax=ax
    )
    assert display.ax_ is ax
    np.testing.assert_array_equal(display.ranks, ranks)
    assert names_of(display)[2:] == ["mass", "column 1", "joint density"]
    assert display.ax_.get_legend().get_title().get_text() == "Posterior"  # type: ignore[union-attr]
    named = CalibrationRankDisplay.from_estimator(
        Posterior(), ranks[:, :2], ranks[:, 2], n_samples=19, name="mine"
    )
    assert named.name == "mine"
    plt.close("all")


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(InvalidTableError, match="whole numbers from 0 to the number of draws, 3; got 4"):
        CalibrationRankDisplay([4], n_draws=3)
    with pytest.raises(InvalidTableError, match="names must be one for each of 2 columns of ranks; got 1"):
        CalibrationRankDisplay(uniform_ranks(), n_draws=99, names=["a"])
    with pytest.raises(ConfigurationError, match=r"level must lie between 0 and 1; got 1\.0"):
        CalibrationRankDisplay(uniform_ranks(), n_draws=99, level=1.0)
