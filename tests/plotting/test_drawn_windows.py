from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import StepPatch
from sklearn.exceptions import NotFittedError

from flowdetect.exceptions import ConfigurationError, InvalidTableError
from flowdetect.plotting import WindowsDisplay
from flowdetect.plotting._style import COMMON_COLOUR, RARE_COLOUR
from flowdetect.timeseries import SeriesAugmenter, compare_series


def noise(n_series: int, n_rows: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n_series, n_rows))


def waves(n_series: int, n_rows: int, period: float, seed: int = 0) -> np.ndarray:
    starts = np.random.default_rng(seed).uniform(0.0, period, n_series)
    return np.sin((np.arange(n_rows) + starts[:, None]) * 2.0 * np.pi / period)


def drawn_lines(axes: Any) -> list[np.ndarray]:
    return [ax.lines[0].get_ydata() for ax in axes]


def small(**settings: Any) -> SeriesAugmenter:
    return SeriesAugmenter(**{"window": 6, "season": None, "max_steps": 5, "random_state": 0, **settings})


# --- the picture -----------------------------------------------------------------------------------------


def test_real_series_stand_above_drawn_ones_on_common_axes() -> None:
    real, drawn = noise(9, 20), noise(7, 20, 1)
    display = WindowsDisplay.from_predictions(real, drawn, n_shown=3, label="level", name="title")
    assert [len(display.real_axes_), len(display.drawn_axes_)] == [3, 3]
    np.testing.assert_array_equal(drawn_lines(display.real_axes_), real[[0, 4, 8]])
    np.testing.assert_array_equal(drawn_lines(display.drawn_axes_), drawn[[0, 3, 6]])
    assert {ax.lines[0].get_color() for ax in display.real_axes_} == {COMMON_COLOUR}
    assert {ax.lines[0].get_color() for ax in display.drawn_axes_} == {RARE_COLOUR}
    limits = {(ax.get_xlim(), ax.get_ylim()) for ax in display.real_axes_ + display.drawn_axes_}
    assert len(limits) == 1
    assert display.real_axes_[0].get_ylabel() == "real" and display.drawn_axes_[0].get_ylabel() == "drawn"
    top = display.figure_.subfigs[0]
    assert top.get_suptitle() == "title: level, real above and drawn below"
    assert top.get_supxlabel() == "row"


def test_distance_and_autocorrelations_are_those_of_compare_series() -> None:
    real, drawn = waves(8, 64, 16.0), waves(8, 64, 8.0, 1) + 3.0
    display = WindowsDisplay(real, drawn)
    measures = compare_series(real[:, :, None], drawn[:, :, None], window=8, random_state=0)["value"]
    assert display.marginal_distance == pytest.approx(measures["marginal distance, 0"]) == 1.0
    assert len(display.real_autocorrelation) == 33
    errors = np.abs(display.real_autocorrelation - display.drawn_autocorrelation)
    assert errors[1:9].max() == pytest.approx(measures["autocorrelation error, 0"])
    assert display.autocorrelation_error == pytest.approx(errors[1:].max())
    # At lag 8 one is at its lowest, the other at its highest.
    assert display.real_autocorrelation[8] < -0.8 < 0.8 < display.drawn_autocorrelation[8]
    same = WindowsDisplay(real, real)
    assert same.marginal_distance == same.autocorrelation_error == 0.0


def test_lower_pictures_show_both_and_say_how_far_apart_they_are() -> None:
    real, drawn = noise(9, 40), noise(5, 40, 1) + 0.5
    display = WindowsDisplay.from_predictions(real, drawn)
    steps = [patch for patch in display.marginal_ax_.patches if isinstance(patch, StepPatch)]
    assert len(steps) == 3
    assert display.marginal_ax_.get_title(loc="left") == f"marginal distance: {display.marginal_distance:.2f}"
    assert display.marginal_ax_.get_xlabel() == "column 0"
    ax = display.autocorrelation_ax_
    assert ax.get_legend_handles_labels()[1] == ["real (9 series)", "drawn (5 series)"]
    curves = [each.get_ydata() for each in ax.lines[1:]]
    np.testing.assert_array_equal(curves, [display.real_autocorrelation, display.drawn_autocorrelation])
    text = ax.get_legend().get_title().get_text()
    assert text == f"autocorrelation error: {display.autocorrelation_error:.2f}"


def test_missing_entries_break_lines_and_are_counted() -> None:
    real = waves(4, 32, 8.0)
    holed = real.copy()
    holed[0, [3, 5]] = np.nan
    holed[1] = np.nan
    display = WindowsDisplay.from_predictions(holed, real)
    dots = display.real_axes_[0].lines[1]
    np.testing.assert_array_equal(dots.get_xydata(), [[4.0, real[0, 4]]])
    assert len(display.drawn_axes_[0].lines) == 1
    assert "missing: 27 % of real, 0 % of drawn" in display.marginal_ax_.get_title(loc="left")
    assert np.isfinite(display.real_autocorrelation).all()
    # Three of four series, one with two entries carried on: a series that is all missing tells nothing.
    np.testing.assert_allclose(display.real_autocorrelation[0], 0.75)


def test_an_outlier_does_not_squeeze_the_others_and_is_counted() -> None:
    real = noise(4, 40)
    real[0, 7] = 1e6
    display = WindowsDisplay.from_predictions(real, noise(4, 40, 1))
    low, high = display.real_axes_[0].get_ylim()
    assert -10.0 < low < -1.0 < 1.0 < high < 10.0
    assert display.figure_.subfigs[0].get_supxlabel() == "row (1 entries outside the picture)"
    constant = WindowsDisplay.from_predictions(np.ones((2, 8)), np.ones((2, 8)))
    assert constant.real_axes_[0].get_ylim() == (0.5, 1.5) and constant.autocorrelation_error == 0.0


def test_a_channel_is_chosen_among_numbers() -> None:
    real = np.empty((5, 12, 3), dtype=object)
    real[:, :, 0] = "a"
    real[:, :, 1] = noise(5, 12)
    real[:, :, 2] = noise(5, 12, 1)
    first, second = WindowsDisplay(real, real), WindowsDisplay(real, real, channel=2)
    np.testing.assert_array_equal(first.real, noise(5, 12))
    np.testing.assert_array_equal(second.drawn, noise(5, 12, 1))
    assert [first.label, second.label] == ["column 1", "column 2"]
    with pytest.raises(ConfigurationError, match="numeric channels, 1, 2; 0 holds categories"):
        WindowsDisplay(real, real, channel=0)
    with pytest.raises(InvalidTableError, match="must have a numeric channel"):
        WindowsDisplay(real[:, :, :1], real[:, :, :1])


def test_lengths_and_numbers_may_differ_and_one_series_is_enough() -> None:
    display = WindowsDisplay.from_predictions(noise(1, 30)[0], noise(3, 9), figure=Figure())
    assert display.real.shape == (1, 30) and len(display.drawn_axes_) == 1
    assert len(display.real_autocorrelation) == len(display.drawn_autocorrelation) == 5


# --- with an augmenter -----------------------------------------------------------------------------------


def test_windows_of_a_series_are_spread_over_it_and_as_long_as_drawn_ones() -> None:
    series = np.arange(100.0) + noise(1, 100)[0]
    augmenter = small().fit(series)
    display = WindowsDisplay.from_estimator(augmenter, series, n_series=5, random_state=1)
    assert display.real.shape == display.drawn.shape == (5, 12)  # twice the rows looked back at
    starts = np.linspace(0, 88, 5).astype(int)
    np.testing.assert_array_equal(display.real, [series[start : start + 12] for start in starts])
    np.testing.assert_array_equal(display.drawn, augmenter.sample(5, length=12, random_state=1)[:, :, 0])
    assert display.name == "SeriesAugmenter"
    longer = WindowsDisplay.from_estimator(augmenter, series, n_series=200, length=90, name="long")
    assert longer.real.shape == (11, 90) and longer.drawn.shape == (200, 90) and longer.name == "long"


def test_reads_entities_stamps_gaps_and_columns_by_name() -> None:
    stamps = pd.date_range("2024-03-30", periods=120, freq="h", tz="Europe/Rome")
    rng = np.random.default_rng(0)
    parts = [
        pd.DataFrame(
            {
                "t": stamps,
                "who": who,
                "state": rng.choice(["on", "off"], 120),
                "series": level + noise(1, 120)[0],
            }
        )
        for who, level in (("a", 0.0), ("b", 50.0))
    ]
    table = pd.concat(parts, ignore_index=True)
    kept = table.drop(index=[10, *range(60, 100)]).sample(frac=1.0, random_state=0)
    augmenter = small(time="t", entity="who").fit(kept)
    display = WindowsDisplay.from_estimator(augmenter, kept, n_series=150, length=20, random_state=0)
    # Of a: 60 rows, one of them absent, and after a long gap 20; of b all 120.
    assert display.real.shape == (41 + 1 + 101, 20)
    assert np.isnan(display.real).sum() == 11 and np.isnan(display.real[0, 10])
    np.testing.assert_array_equal(display.real[0, :10], table["series"][:10])
    np.testing.assert_array_equal(display.real[41], table["series"][100:120])
    drawn = augmenter.sample(150, length=20, random_state=0)["series"].to_numpy().reshape(150, 20)
    np.testing.assert_array_equal(display.drawn, drawn)
    assert display.label == "series"
    with pytest.raises(ConfigurationError, match="numeric channels, 'series'; 'state' holds categories"):
        WindowsDisplay.from_estimator(augmenter, kept, channel="state")


def test_a_collection_is_shown_whole_or_class_by_class() -> None:
    series, y = (
        np.concatenate([waves(30, 24, 12.0), 9.0 + waves(30, 24, 6.0)]),
        np.repeat(["slow", "fast"], 30),
    )
    augmenter = SeriesAugmenter(max_steps=60, random_state=0).fit(series, y)
    whole = WindowsDisplay.from_estimator(augmenter, series, random_state=0)
    np.testing.assert_array_equal(whole.real, series)
    assert whole.drawn.shape == (60, 24)
    fast = WindowsDisplay.from_estimator(
        augmenter, series[30:], y="fast", n_series=10, length=8, random_state=0
    )
    assert fast.real.shape == fast.drawn.shape == (10, 8)
    np.testing.assert_array_equal(fast.real[[0, -1]], series[[30, 59], :8])
    assert fast.drawn.min() > 4.0
    both = small().fit(np.stack([series, -series], axis=2))
    shown = WindowsDisplay.from_estimator(both, np.stack([series, -series], axis=2), channel=1, n_series=5)
    np.testing.assert_array_equal(shown.real[0], -series[0])


# --- refusals --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("series", "came"),
    [
        (pd.DataFrame({"a": [1.0, 2.0]}), "a DataFrame"),
        (np.zeros((3, 1)), r"shape \(3, 1\)"),
        (np.zeros((0, 4)), r"shape \(0, 4\)"),
        (np.zeros((2, 2, 2, 2)), r"shape \(2, 2, 2, 2\)"),
        (3.0, r"shape \(\)"),
    ],
)
def test_refuses_what_is_no_collection(series: Any, came: str) -> None:
    with pytest.raises(InvalidTableError, match=f"real must be an array .* two rows; got {came}"):
        WindowsDisplay(series, noise(2, 8))
    with pytest.raises(InvalidTableError, match=f"drawn must be an array .* got {came}"):
        WindowsDisplay(noise(2, 8), series)


def test_refuses_what_cannot_be_compared() -> None:
    with pytest.raises(InvalidTableError, match="the channels of the real ones, 1; got 2"):
        WindowsDisplay(noise(2, 8), np.zeros((2, 8, 2)))
    with pytest.raises(InvalidTableError, match="must hold entries of the channel; some hold none"):
        WindowsDisplay(noise(2, 8), np.full((2, 8), np.nan))
    with pytest.raises(ConfigurationError, match="n_shown must be a whole number"):
        WindowsDisplay(noise(2, 8), noise(2, 8), n_shown=0)


def test_refuses_an_augmenter_that_is_not_fitted() -> None:
    with pytest.raises(NotFittedError):
        WindowsDisplay.from_estimator(small(), noise(1, 40)[0])


def test_refuses_windows_that_the_series_has_not() -> None:
    series = noise(1, 40)[0]
    augmenter = small().fit(series)
    with pytest.raises(InvalidTableError, match="longest stretch without a long gap, 40 rows; got 41"):
        WindowsDisplay.from_estimator(augmenter, series, length=41)
    with pytest.raises(InvalidTableError, match="real must be an array .* two rows"):
        WindowsDisplay.from_estimator(augmenter, series[:1])
    with pytest.raises(ConfigurationError, match="n_series must be a whole number"):
        WindowsDisplay.from_estimator(augmenter, series, n_series=0)
    with pytest.raises(ConfigurationError, match="length must be a whole number"):
        WindowsDisplay.from_estimator(augmenter, series, length=2.5)
    with pytest.raises(ConfigurationError, match="was fitted without classes"):
        WindowsDisplay.from_estimator(augmenter, series, y="a")
