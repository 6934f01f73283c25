import numpy as np
import pytest
from matplotlib import pyplot as plt

from flowdetect.exceptions import ConfigurationError, InvalidTableError
from flowdetect.plotting import ScoreDistributionDisplay


@pytest.fixture
def scores() -> np.ndarray:
    return np.random.default_rng(0).normal(-10.0, 2.0, size=400)


class Detector:
    """Scores are the only column; fitted, as a detector or as a density."""

    def __init__(self, offset: float | None = None) -> None:
        if offset is not None:
            self.offset_ = offset

    def score_samples(self, X: np.ndarray) -> np.ndarray:
        return X[:, 0]


def texts(display: ScoreDistributionDisplay) -> list[str]:
    return [text.get_text() for text in display.ax_.texts]


def legend(display: ScoreDistributionDisplay) -> list[str]:
    found = display.ax_.get_legend()
    assert found is not None
    return [text.get_text() for text in found.get_texts()]


def bar_heights(display: ScoreDistributionDisplay) -> np.ndarray:
    return np.array([patch.get_height() for patch in display.ax_.patches if hasattr(patch, "get_height")])


def test_histogram_counts_every_row(scores: np.ndarray) -> None:
    display = ScoreDistributionDisplay.from_predictions(scores)
    assert bar_heights(display).sum() == len(scores)
    assert display.ax_.get_ylabel() == "rows"
    assert display.ax_.get_xlabel() == "score: log-density [nats], larger = more normal"
    assert legend(display) == ["all rows (400)"]
    assert display.figure_ is display.ax_.figure


def test_threshold_is_drawn_and_counts_the_rows_below(scores: np.ndarray) -> None:
    threshold = float(np.sort(scores)[20])
    display = ScoreDistributionDisplay.from_predictions(scores, threshold=threshold)
    (line,) = display.ax_.lines
    assert np.allclose(line.get_xdata(), threshold)
    assert legend(display)[-1] == f"threshold {threshold:.4g} (20 rows below)"


def lines(display: ScoreDistributionDisplay) -> np.ndarray:
    """Return where the vertical lines of the rare rows stand."""
    (collection,) = display.ax_.collections
    return np.array([segment[0, 0] for segment in collection.get_segments()])


def test_groups_are_drawn_in_per_cent_of_their_own_rows(scores: np.ndarray) -> None:
    is_rare = np.arange(len(scores)) < 40
    display = ScoreDistributionDisplay.from_predictions(scores, is_rare=is_rare, rare_name="ill")
    assert legend(display) == ["other rows (360)", "ill (40)"]
    assert display.ax_.get_ylabel() == "rows of the group [%]"
    assert bar_heights(display).sum() == pytest.approx(200.0)  # 100 % of either group
    assert np.array_equal(lines(display), scores[is_rare])


def test_few_rare_rows_are_a_line_each(scores: np.ndarray) -> None:
    is_rare = np.arange(len(scores)) < 5
    scores[0] = -1e6
    display = ScoreDistributionDisplay.from_predictions(scores, is_rare=is_rare, rare_name="ill")
    assert legend(display) == ["other rows (395)", "ill (5)"]
    assert display.ax_.get_ylabel() == "rows"
    assert bar_heights(display).sum() == 395
    assert np.array_equal(lines(display), scores[1:5])  # the first lies outside the drawn range
    assert texts(display) == ["← 1 row (1 rare) further left, down to -1e+06"]


def test_extreme_scores_are_counted_not_drawn(scores: np.ndarray) -> None:
    scores[:3], scores[3] = -1e6, 1e6
    display = ScoreDistributionDisplay.from_predictions(scores)
    low, high = display.ax_.get_xlim()
    assert -60.0 < low < -15.0
    assert -5.0 < high < 40.0
    assert texts(display) == ["← 3 rows further left, down to -1e+06", "1 row further right, up to 1e+06 →"]
    assert bar_heights(display).sum() == len(scores) - 4


def test_the_drawn_range_holds_the_threshold(scores: np.ndarray) -> None:
    display = ScoreDistributionDisplay.from_predictions(scores, threshold=-500.0)
    assert display.ax_.get_xlim()[0] < -500.0
    assert not texts(display)


def test_equal_scores_are_drawn() -> None:
    display = ScoreDistributionDisplay.from_predictions(np.full(5, -3.0))
    assert bar_heights(display).sum() == 5


def test_axes_and_number_of_bins_can_be_chosen(scores: np.ndarray) -> None:
    _, ax = plt.subplots()
    display = ScoreDistributionDisplay(scores).plot(ax, n_bins=7)
    assert display.ax_ is ax
    assert len(bar_heights(display)) == 7


def test_long_names_are_put_below_each_other(scores: np.ndarray) -> None:
    display = ScoreDistributionDisplay.from_predictions(
        scores, threshold=-12.0, is_rare=scores < -13.0, rare_name="patients with " + "x" * 60, name="title"
    )
    found = display.ax_.get_legend()
    assert found is not None
    assert found._ncols == 1
    assert found.get_title().get_text() == "title"


@pytest.mark.parametrize("offset", [None, -12.0])
def test_from_estimator_takes_scores_threshold_and_name(scores: np.ndarray, offset: float | None) -> None:
    display = ScoreDistributionDisplay.from_estimator(Detector(offset), scores[:, np.newaxis])
    assert np.array_equal(display.scores, scores)
    assert display.threshold == offset
    assert display.name == "Detector"


@pytest.mark.parametrize(
    ("labels", "pos_label", "rare_name"),
    [([0, 1], None, "rare"), ([False, True], None, "rare"), ([1, -1], -1, "-1"), (["a", "b"], "b", "b")],
)
def test_from_estimator_finds_the_rare_rows(
    scores: np.ndarray, labels: list[object], pos_label: object, rare_name: str
) -> None:
    y = np.array(labels * (len(scores) // 2))
    display = ScoreDistributionDisplay.from_estimator(Detector(), scores[:, None], y, pos_label=pos_label)
    assert display.is_rare is not None
    assert np.array_equal(display.is_rare, np.arange(len(scores)) % 2 == 1)
    assert display.rare_name == rare_name


def test_labels_that_do_not_say_who_is_rare_are_refused(scores: np.ndarray) -> None:
    y = np.repeat([1, -1], len(scores) // 2)
    with pytest.raises(ConfigurationError, match="pos_label must name the label of the rare rows"):
        ScoreDistributionDisplay.from_estimator(Detector(), scores[:, None], y)
    with pytest.raises(ConfigurationError, match="pos_label must be one of the labels in y; no row has 3"):
        ScoreDistributionDisplay.from_estimator(Detector(), scores[:, None], y, pos_label=3)


@pytest.mark.parametrize("wrong", [[], [[1.0, 2.0]], 3.0])
def test_scores_of_a_wrong_shape_are_refused(wrong: object) -> None:
    with pytest.raises(InvalidTableError, match="scores must be one number a row; got an array of shape"):
        ScoreDistributionDisplay(wrong)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_refused(bad: float) -> None:
    with pytest.raises(InvalidTableError, match="scores must be finite; 1 of 3 are not"):
        ScoreDistributionDisplay([0.0, bad, 1.0])


def test_a_mask_of_another_length_is_refused(scores: np.ndarray) -> None:
    with pytest.raises(InvalidTableError, match="is_rare must hold one bool for each of the 400 scores"):
        ScoreDistributionDisplay(scores, is_rare=[True])


def test_no_bins_are_refused(scores: np.ndarray) -> None:
    with pytest.raises(ConfigurationError, match="n_bins must be at least 1; got 0"):
        ScoreDistributionDisplay(scores).plot(n_bins=0)
