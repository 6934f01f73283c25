from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgba

from flowdetect import FlowOutlierDetector
from flowdetect.exceptions import ConfigurationError, InvalidTableError
from flowdetect.plotting import DensityMapDisplay
from flowdetect.plotting._style import RARE_COLOUR


class Gaussian:
    """Scores the first two columns, and -1e6 far out; keeps the tables that it scored."""

    def __init__(self, offset: float | None = -3.0) -> None:
        self.scored: list[pd.DataFrame | np.ndarray] = []
        if offset is not None:
            self.offset_ = offset

    def score_samples(self, X: pd.DataFrame | np.ndarray) -> np.ndarray:
        self.scored.append(X)
        squares = np.sum(np.asarray(X)[:, :2].astype(float) ** 2, axis=1)
        return np.where(squares < 40.0, -0.5 * squares, -1e6)


@pytest.fixture(name="X")
def normal_rows() -> np.ndarray:
    rows = np.random.default_rng(0).normal(size=(300, 2))
    rows[0] = 4.0, 4.5
    return rows


def legend(display: DensityMapDisplay) -> list[str]:
    found = display.ax_.get_legend()
    assert found is not None
    return [text.get_text() for text in found.get_texts()]


def colour_limits(display: DensityMapDisplay) -> tuple[float, float]:
    return display.ax_.collections[0].get_clim()


def test_the_map_shows_scores_rows_and_threshold(X: np.ndarray) -> None:
    detector = Gaussian()
    display = DensityMapDisplay.from_estimator(detector, X, (0, 1), grid_resolution=30)
    below = int(np.sum(detector.score_samples(X) < -3.0))
    assert display.map_scores.shape == (30, 30)
    x, y = np.meshgrid(display.x_values, display.y_values)
    assert np.array_equal(display.map_scores.ravel(), detector.score_samples(np.c_[x.ravel(), y.ravel()]))
    assert legend(display) == [
        "threshold -3",
        f"other rows ({300 - below})",
        f"below the threshold ({below})",
    ]
    assert display.ax_.get_xlabel() == "column 0"  # and nothing is held
    assert display.ax_.get_ylabel() == "column 1"
    assert display.name == "Gaussian"
    assert display.figure_ is display.ax_.figure
    crosses = display.ax_.collections[-1]
    assert np.array_equal(crosses.get_offsets(), X[detector.score_samples(X) < -3.0])
    assert np.array_equal(crosses.get_facecolor()[0], to_rgba(RARE_COLOUR))


def test_an_extreme_score_does_not_take_the_colours(X: np.ndarray) -> None:
    X[:5] = 100.0
    display = DensityMapDisplay.from_estimator(Gaussian(), X, (0, 1))
    low, high = colour_limits(display)
    assert -30.0 < low < -3.0
    assert -0.5 < high <= 0.5


def test_the_colours_reach_below_the_threshold(X: np.ndarray) -> None:
    display = DensityMapDisplay.from_estimator(Gaussian(-9.0), X, (0, 1))
    assert colour_limits(display)[0] < -9.0
    assert legend(display)[0] == "threshold -9"


def test_equal_scores_and_a_constant_column_are_drawn(X: np.ndarray) -> None:
    X[:, 1] = 2.0
    display = DensityMapDisplay(
        [0.0, 1.0], [0.0, 1.0], np.full((2, 2), -3.0), points=X, scores=np.full(300, -3.0), threshold=-3.0
    ).plot()
    assert legend(display) == ["rows (300)"]
    display = DensityMapDisplay.from_estimator(Gaussian(), X, (0, 1))
    assert display.ax_.get_ylim() == (1.5, 2.5)


def test_no_threshold_marks_no_row(X: np.ndarray) -> None:
    display = DensityMapDisplay.from_estimator(Gaussian(None), X, (0, 1))
    assert display.threshold is None
    assert legend(display) == ["rows (300)"]


def test_other_columns_are_held(X: np.ndarray) -> None:
    table = pd.DataFrame({"x": X[:, 0], "y": X[:, 1], "c": ["rare"] + 299 * ["usual"]})
    detector = Gaussian()
    display = DensityMapDisplay.from_estimator(detector, table, ("y", "x"), grid_resolution=5)
    assert display.ax_.get_xlabel() == "y\n(map: all other columns as in a typical row)"
    assert set(detector.scored[0]["c"]) == {"usual"}
    display = DensityMapDisplay.from_estimator(detector, table, ("y", "x"), grid_resolution=5, row=0)
    assert display.ax_.get_xlabel() == "y\n(map: all other columns as in row 0)"
    assert set(detector.scored[2]["c"]) == {"rare"}
    assert detector.scored[2].columns.tolist() == ["x", "y", "c"]


def test_the_picture_says_what_it_leaves_out(X: np.ndarray) -> None:
    X[0] = np.nan, 0.0
    X[1] = 1e6, 0.0
    display = DensityMapDisplay.from_estimator(Gaussian(), X, (0, 1))
    assert display.ax_.get_xlim()[1] < 20.0
    assert "1 row outside the picture, 1 row without an entry in one of the two" in display.ax_.get_xlabel()


def test_whole_numbers_have_whole_ticks(X: np.ndarray) -> None:
    X[:, 1] = np.arange(300) % 3
    display = DensityMapDisplay.from_estimator(Gaussian(), X, (0, 1))
    ticks = display.ax_.get_yticks()
    assert np.array_equal(ticks, np.round(ticks))


def test_a_real_detector_draws_a_real_table(repository: Path) -> None:
    table = pd.read_csv(repository / "datasets" / "penguins.csv.gz")
    detector = FlowOutlierDetector(n_models=1, max_steps=20, random_state=0).fit(table)
    columns = ("bill_length_mm", "bill_depth_mm")
    display = DensityMapDisplay.from_estimator(detector, table, columns, grid_resolution=10, name="penguins")
    assert display.threshold == detector.offset_
    assert np.array_equal(display.scores, detector.score_samples(table))
    assert display.name == "penguins"
    assert "2 rows without an entry" in display.ax_.get_xlabel()


def test_axes_can_be_chosen(X: np.ndarray) -> None:
    _, ax = plt.subplots()
    display = DensityMapDisplay.from_estimator(Gaussian(), X, (0, 1), ax=ax)
    assert display.ax_ is ax


@pytest.mark.parametrize("grid_resolution", [1, 2.0, True])
def test_wrong_resolutions_are_refused(X: np.ndarray, grid_resolution: object) -> None:
    with pytest.raises(ConfigurationError, match="grid_resolution must be a whole number of at least 2; got"):
        DensityMapDisplay.from_estimator(Gaussian(), X, (0, 1), grid_resolution=grid_resolution)


def test_rows_outside_the_table_are_refused(X: np.ndarray) -> None:
    with pytest.raises(ConfigurationError, match="row must be the position of one of the 300 rows of X"):
        DensityMapDisplay.from_estimator(Gaussian(), X, (0, 1), row=300)


@pytest.mark.parametrize("what", ["points", "map_scores"])
def test_shapes_that_do_not_go_together_are_refused(what: str) -> None:
    given = {"map_scores": np.zeros((3, 2)), "points": np.zeros((4, 2)), what: np.zeros((2, 3))}
    with pytest.raises(InvalidTableError, match=rf"{what} must have shape \(.*\); got \(2, 3\)"):
        DensityMapDisplay([0.0, 1.0], [0.0, 1.0, 2.0], scores=np.zeros(4), **given)


@pytest.mark.parametrize("what", ["scores", "map_scores"])
def test_scores_that_are_not_finite_are_refused(what: str) -> None:
    given = {"map_scores": np.zeros((2, 2)), "scores": np.zeros(2)}
    given[what] = np.full(given[what].shape, np.nan)
    with pytest.raises(InvalidTableError, match=f"^{what} must be finite numbers, and at least one"):
        DensityMapDisplay([0.0, 1.0], [0.0, 1.0], points=np.zeros((2, 2)), **given)
