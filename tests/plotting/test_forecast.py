from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.dates import num2date

from flowdetect.exceptions import ConfigurationError, InvalidTableError
from flowdetect.plotting import ForecastDisplay
from flowdetect.plotting._style import RARE_COLOUR
from flowdetect.timeseries import SeriesAugmenter

N_ROWS = 120


def labels(ax: Axes) -> list[str]:
    return ax.get_legend_handles_labels()[1]


def line(ax: Axes, label: str) -> Any:
    return next(each for each in ax.lines if str(each.get_label()).startswith(label))


def band(ax: Axes, label: str) -> Any:
    return next(each for each in ax.collections if each.get_label() == label)


def wave(n_rows: int, seed: int) -> np.ndarray:
    return np.sin(np.arange(n_rows) / 4.0) + 0.1 * np.random.default_rng(seed).normal(size=n_rows)


def pumps() -> pd.DataFrame:
    stamps = pd.date_range("2024-03-28", periods=N_ROWS, freq="h", tz="Europe/Rome")
    rng = np.random.default_rng(0)
    parts = [
        pd.DataFrame(
            {
                "t": stamps,
                "pump": who,
                "flow": level + wave(N_ROWS, seed),
                "state": rng.choice(["on", "off"], N_ROWS),
                "starts": rng.poisson(3.0, N_ROWS),
            }
        )
        for seed, (who, level) in enumerate((("a", 0.0), ("b", 100.0)))
    ]
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def several() -> SeriesAugmenter:
    table = pumps().groupby("pump").head(N_ROWS - 10)
    return SeriesAugmenter(time="t", entity="pump", window=6, season=None, max_steps=5, random_state=0).fit(
        table
    )


@pytest.fixture(scope="module")
def single() -> SeriesAugmenter:
    return SeriesAugmenter(window=6, season=None, max_steps=5, random_state=0).fit(wave(N_ROWS, 0))


def paths_of(n_paths: int = 101, index: Any = range(50, 53)) -> pd.DataFrame:
    """Return paths whose quantiles are plain: 0 to 100, plus 1000 for each step."""
    column = np.random.default_rng(0).permutation(np.linspace(0.0, 100.0, n_paths))
    return pd.DataFrame(column + 1000.0 * np.arange(len(index))[:, None], index=index)


# --- the fan ---------------------------------------------------------------------------------------------


def test_bands_hold_their_share_of_the_paths_and_open_at_the_last_row() -> None:
    series = pd.Series(np.arange(50.0), name="level")
    display = ForecastDisplay.from_predictions(paths_of(), series, levels=(0.8, 0.5), name="fan")
    quantiles = display.quantiles["level"]
    assert quantiles.columns.tolist() == [0.1, 0.25, 0.5, 0.75, 0.9]
    np.testing.assert_allclose(quantiles.loc[51], [1010.0, 1025.0, 1050.0, 1075.0, 1090.0])
    corners = band(display.ax_, "central 80 %").get_paths()[0].vertices
    assert {(49.0, 49.0), (50.0, 10.0), (50.0, 90.0), (52.0, 2090.0)} <= {tuple(each) for each in corners}
    median = line(display.ax_, "median of 101 paths")
    np.testing.assert_allclose(median.get_xydata(), [[49, 49], [50, 50], [51, 1050], [52, 2050]])
    assert labels(display.ax_) == ["series", "central 80 %", "central 50 %", "median of 101 paths"]
    legend = display.ax_.get_legend()
    assert legend is not None and legend.get_title().get_text() == "fan"
    assert display.ax_.get_ylabel() == "level" and display.ax_.get_xlabel() == "row"


def test_narrower_bands_are_stronger_and_above_the_wider_ones() -> None:
    ax = ForecastDisplay.from_predictions(paths_of()).ax_
    bands = [band(ax, f"central {share} %") for share in (95, 80, 50)]
    assert [ax.collections[:].index(each) for each in bands] == [0, 1, 2]
    lightness = [each.get_facecolor()[0][:3].sum() for each in bands]
    assert lightness == sorted(lightness, reverse=True) and len(set(lightness)) == 3
    assert all(each.get_facecolor()[0][3] == 1.0 for each in bands)
    assert to_hex(line(ax, "median").get_color()) == RARE_COLOUR.lower()


def test_history_is_three_times_the_steps_or_24_rows_or_as_many_as_asked_for() -> None:
    series = pd.Series(np.arange(50.0), name="level")
    assert len(ForecastDisplay(paths_of(), series).series) == 24
    assert len(ForecastDisplay(paths_of(index=range(50, 60)), series).series) == 30
    display = ForecastDisplay.from_predictions(paths_of(), series, history=2)
    np.testing.assert_array_equal(line(display.ax_, "series").get_xydata(), [[48, 48], [49, 49]])
    # Rows that the paths continue end before these.
    assert ForecastDisplay(paths_of(index=range(40, 43)), series, history=1).series.index.tolist() == [39]


def test_what_is_missing_is_left_blank_and_lone_entries_are_dots() -> None:
    series = pd.Series([1.0, 2.0, np.nan, 4.0, np.nan], index=range(45, 50), name="level")
    actual = pd.Series([7.0, np.inf, 8.0], index=range(50, 53), name="level")
    paths = paths_of()
    paths.iloc[1] = np.nan
    paths.iloc[0, ::2] = np.nan
    ax = ForecastDisplay.from_predictions(paths, series, actual=actual).ax_
    dots = [each for each in ax.lines if each.get_linestyle() == "None"]
    drawn = [tuple(point) for each in dots for point in each.get_xydata()]
    assert {(48.0, 4.0), (50.0, 7.0), (52.0, 8.0)} <= set(drawn) and (45.0, 1.0) not in drawn
    median = line(ax, "median").get_ydata()
    assert np.isnan(median[1]) and np.isfinite(median[[0, 2]]).all()
    assert len(median) == 3  # no opening: the last row of the series is missing


def test_one_step_and_one_path_are_drawn() -> None:
    display = ForecastDisplay.from_predictions(paths_of(index=[50]), levels=0.8)
    segments = band(display.ax_, "central 80 %").get_segments()
    np.testing.assert_allclose(segments, [[[50.0, 10.0], [50.0, 90.0]]])
    display = ForecastDisplay.from_predictions(paths_of(n_paths=1), levels=())
    assert labels(display.ax_) == ["median of 1 path"]
    assert display.ax_.get_ylabel() == "value"


def test_dates_are_labelled_in_local_time_and_placed_in_universal_time() -> None:
    index = pd.date_range("2024-03-31", periods=6, freq="h", tz="Europe/Rome")  # clocks go forward
    series = pd.DataFrame(
        {"v": [1.0, 2.0]}, index=(index[:1] - pd.Timedelta("2h")).append(index[:1] - pd.Timedelta("1h"))
    )
    display = ForecastDisplay.from_predictions(paths_of(index=index), series.tz_convert("UTC"))
    assert str(display.series.index.tz) == "Europe/Rome"
    ax = display.ax_
    x = ax.convert_xunits(line(ax, "median").get_xdata())
    np.testing.assert_allclose(np.diff(x), 1.0 / 24.0, rtol=1e-6)
    ax.set_xlim(x[0], x[-1])
    ticks = [each for each in ax.get_xticks() if x[0] <= each <= x[-1]]
    text = ax.xaxis.get_major_formatter().format_ticks(ticks)
    local = [num2date(each, tz=index.tz) for each in ticks]
    assert [f"{each:%H:%M}" for each in local if each.hour] == [
        t for t, each in zip(text, local, strict=True) if each.hour
    ]
    assert not any(each.hour == 2 for each in local) and len(ticks) >= 3


def test_several_channels_have_axes_each_and_six_at_most() -> None:
    columns = pd.MultiIndex.from_product([[f"c{i}" for i in range(8)], range(5)])
    paths = pd.DataFrame(np.arange(120.0).reshape(3, 40), columns=columns)
    display = ForecastDisplay.from_predictions(paths, name="many")
    assert [ax.get_ylabel() for ax in display.axes_] == [f"c{i}" for i in range(6)]
    assert display.ax_ is display.axes_[0] and display.figure_ is display.ax_.figure
    assert display.ax_.get_legend().get_title().get_text() == "many: 6 of 8 channels"
    assert [ax.get_legend() for ax in display.axes_[1:]] == [None] * 5
    np.testing.assert_array_equal(line(display.axes_[2], "median").get_ydata(), [12.0, 52.0, 92.0])
    figure, axes = plt.subplots(2, 4)
    shown = ForecastDisplay.from_predictions(paths, channel="c7", ax=axes[1, 3])
    assert shown.axes_ == [axes[1, 3]] and shown.figure_ is figure
    assert ForecastDisplay.from_predictions(paths, ax=axes.ravel()[:6]).axes_ == axes.ravel()[:6].tolist()
    with pytest.raises(ConfigurationError, match="one matplotlib Axes for each of the 6 channels; got 1"):
        display.plot(ax=axes[0, 0])


# --- with an augmenter -----------------------------------------------------------------------------------


def test_draws_the_paths_of_forecast_behind_the_series_of_fit(single: SeriesAugmenter) -> None:
    display = ForecastDisplay.from_estimator(
        single, steps=4, n_paths=30, actual=[5.0, 6.0, 7.0, 8.0, 9.0], history=7, random_state=3
    )
    expected = single.forecast(steps=4, n_paths=30, random_state=3)
    np.testing.assert_array_equal(display.paths, expected)
    np.testing.assert_allclose(display.series[0], wave(N_ROWS, 0)[-7:])
    np.testing.assert_array_equal(line(display.ax_, "actual").get_xydata()[:, 0], expected.index)
    np.testing.assert_allclose(line(display.ax_, "actual").get_ydata(), [5.0, 6.0, 7.0, 8.0])
    assert display.ax_.get_ylabel() == "column 0" and display.name == "SeriesAugmenter"


def test_continues_another_series_were_it_a_single_row(single: SeriesAugmenter) -> None:
    display = ForecastDisplay.from_estimator(single, [0.5], steps=2, n_paths=5, random_state=0, name="short")
    np.testing.assert_array_equal(display.series, [[0.5]])
    np.testing.assert_allclose(line(display.ax_, "median").get_xydata()[0], [0.0, 0.5])
    assert display.name == "short"


def test_draws_one_of_several_series_and_skips_categories(several: SeriesAugmenter) -> None:
    table = pumps()
    display = ForecastDisplay.from_estimator(
        several, steps=6, n_paths=20, entity="b", actual=table, history=5, random_state=0
    )
    paths = several.forecast(steps=6, n_paths=20, random_state=0).loc["b"]
    assert [ax.get_ylabel() for ax in display.axes_] == ["flow", "starts"]
    np.testing.assert_allclose(display.quantiles["flow"][0.5], paths["flow"].median(axis=1))
    own = table[table["pump"] == "b"]
    np.testing.assert_allclose(display.series["flow"], own["flow"].iloc[-15:-10])
    np.testing.assert_array_equal(display.actual["starts"], own["starts"].iloc[-10:-4])
    assert display.actual.index.tolist() == own["t"].iloc[-10:-4].tolist()
    assert display.name == "SeriesAugmenter: b"
    assert display.ax_.get_xlabel() == ""
    only = ForecastDisplay.from_estimator(several, steps=2, n_paths=5, entity="a", channel="starts")
    assert list(only.quantiles) == ["starts"] and len(only.axes_) == 1


def test_takes_context_and_the_only_series_there_is() -> None:
    series = pd.DataFrame({"v": wave(60, 0), "who": "me"})
    augmenter = SeriesAugmenter(entity="who", window=4, season=None, max_steps=2, random_state=0)
    augmenter.fit(series, context=np.arange(60.0))
    display = ForecastDisplay.from_estimator(
        augmenter, steps=3, n_paths=4, context=np.zeros(3), random_state=0
    )
    assert display.name == "SeriesAugmenter: me" and display.paths.index.tolist() == [60, 61, 62]
    with pytest.raises(InvalidTableError, match="fitted with context"):
        ForecastDisplay.from_estimator(augmenter, steps=3)


# --- refusals --------------------------------------------------------------------------------------------


def test_refuses_an_estimator_that_cannot_be_drawn(single: SeriesAugmenter, several: SeriesAugmenter) -> None:
    with pytest.raises(ConfigurationError, match="entity='a' was given, and the augmenter has no entity"):
        ForecastDisplay.from_estimator(single, steps=2, entity="a")
    for entity in (None, "c"):
        with pytest.raises(ConfigurationError, match="entity must be a value of column 'pump', to say which"):
            ForecastDisplay.from_estimator(several, steps=2, entity=entity)
    with pytest.raises(
        ConfigurationError, match="numeric channels, 'flow', 'starts'; 'state' holds categories"
    ):
        ForecastDisplay.from_estimator(several, steps=2, entity="a", channel="state")
    with pytest.raises(InvalidTableError, match="must have some of entity 'b'; they have none"):
        ForecastDisplay.from_estimator(several, steps=2, entity="b", actual=pumps().head(N_ROWS))
    with pytest.raises(
        InvalidTableError, match="at the steps of the paths, 2024-04-01 .*; it has none there"
    ):
        ForecastDisplay.from_estimator(several, steps=2, entity="a", actual=pumps().head(9))
    collection = SeriesAugmenter(max_steps=2, random_state=0).fit(
        np.random.default_rng(0).normal(size=(9, 8, 1))
    )
    with pytest.raises(ConfigurationError, match="forecast continues one series"):
        ForecastDisplay.from_estimator(collection, steps=2)
    labelled = SeriesAugmenter(max_steps=2, random_state=0).fit(np.array(list("abcd") * 20))
    with pytest.raises(InvalidTableError, match="must have a numeric channel to draw"):
        ForecastDisplay.from_estimator(labelled, steps=2)


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        ([[1.0]], "must be a DataFrame with a column for each path, .* got list"),
        (pd.DataFrame(), r"got shape \(0, 0\)"),
        (pd.DataFrame({0: [1.0]}, index=[["a"], [1]]), "must be those of one series; the index has 2 levels"),
        (pd.DataFrame({0: ["x"], 1: ["y"]}), "must have a numeric channel"),
        (pd.DataFrame({0: [1.0]}, index=["no date"]), "the index of paths must hold dates or numbers"),
    ],
)
def test_refuses_paths_of_another_form(paths: Any, message: str) -> None:
    with pytest.raises(InvalidTableError, match=message):
        ForecastDisplay(paths)


@pytest.mark.parametrize("levels", [(0.5, 1.0), (0.0,), (np.nan,), "half", [[0.5]], (1,)])
def test_refuses_levels_that_are_no_shares(levels: Any) -> None:
    with pytest.raises(ConfigurationError, match="levels must be shares of the paths between 0 and 1"):
        ForecastDisplay(paths_of(), levels=levels)


def test_refuses_tables_that_do_not_go_with_the_paths() -> None:
    dates = pd.date_range("2024-01-01", periods=3)
    values = pd.Series([1.0, 2.0, 3.0], name="v")
    with pytest.raises(InvalidTableError, match="series must be a Series or DataFrame .* got ndarray"):
        ForecastDisplay(paths_of(), np.zeros(3))
    for index in (dates, dates.tz_localize("UTC")):
        other = dates.tz_localize("UTC") if index.tz is None else values.index
        with pytest.raises(
            InvalidTableError, match="index of series must hold stamps like those of the paths"
        ):
            ForecastDisplay(paths_of(index=index), values.set_axis(other))
    with pytest.raises(InvalidTableError, match="series must be one series; its index has 2 levels"):
        ForecastDisplay(paths_of(), values.set_axis(pd.MultiIndex.from_product([["a"], range(3)])))
    with pytest.raises(ConfigurationError, match="channel must name the column that the paths continue"):
        ForecastDisplay(paths_of(), pd.DataFrame({"v": values, "w": values}))
    with pytest.raises(InvalidTableError, match="series must have the column 'z'; it has 'v'"):
        ForecastDisplay(paths_of(), values.to_frame(), channel="z")
    with pytest.raises(InvalidTableError, match="Column 'v' of series must hold numbers"):
        ForecastDisplay(paths_of(), pd.DataFrame({"v": ["x", "y"]}))
    with pytest.raises(ConfigurationError, match="history must be a whole number"):
        ForecastDisplay(paths_of(), values, history=0)
    paths = pd.concat({"v": paths_of(), "w": paths_of()}, axis=1)
    with pytest.raises(ConfigurationError, match="numeric channels, 'v', 'w'; 'z' is no channel"):
        ForecastDisplay(paths, channel="z")
