import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from flowdetect.exceptions import ConfigurationError, InvalidTableError
from flowdetect.plotting import SeriesDisplay
from flowdetect.timeseries import SeriesOutlierDetector


@pytest.fixture
def series() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    columns = {f"c{i}": rng.normal(size=300) for i in range(8)}
    return pd.DataFrame(columns, index=pd.date_range("2024-01-01", periods=300, freq="h"))


def events_of(series: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "start": series.index[[50, 200]],
            "end": series.index[[60, 200]],
            "channels": [("c5",), ("c7", "c5")],
        }
    )


def test_columns_to_blame_come_first_and_six_at_most(series: pd.DataFrame) -> None:
    display = SeriesDisplay.from_predictions(series, np.zeros(300), events_of(series), threshold=-1.0)
    labels = [ax.get_ylabel() for ax in display.axes_]
    assert labels == ["c5", "c7", "c0", "c1", "c2", "c3", "score"]
    assert display.axes_[0].get_title(loc="left") == "2 odd stretches, 6 of 8 columns"
    assert len(display.axes_[-1].lines) == 2
    assert all(len(ax.patches) == 2 for ax in display.axes_)


def test_a_stretch_of_one_row_is_a_step_wide(series: pd.DataFrame) -> None:
    display = SeriesDisplay.from_predictions(
        series[["c0"]], np.zeros(300), events_of(series)[["start", "end"]]
    )
    widths = [patch.get_width() for patch in display.axes_[0].patches]
    np.testing.assert_allclose(widths, [11 / 24, 1 / 24], rtol=1e-6)
    assert len(display.axes_[-1].lines) == 1


def test_draws_a_fitted_detector_and_one_of_several_series() -> None:
    stamps = pd.date_range("2024-01-01", periods=200, freq="h").astype(str)
    wave = np.sin(np.arange(200) / 4.0)
    table = pd.concat(
        [
            pd.DataFrame({"t": stamps, "who": who, "v": wave + shift})
            for who, shift in (("a", 0.0), ("b", 1.0))
        ]
    )
    detector = SeriesOutlierDetector(time="t", entity="who", window=12, max_steps=5, random_state=0).fit(
        table
    )
    figure = Figure()
    display = SeriesDisplay.from_estimator(detector, table, entity="b", figure=figure)
    assert display.figure_ is figure
    assert display.threshold == detector.offset_
    np.testing.assert_array_equal(display.scores, detector.score_samples(table)[200:])
    assert isinstance(display.series.index, pd.DatetimeIndex)
    assert display.axes_[0].get_title(loc="left").startswith("SeriesOutlierDetector: b: ")
    with pytest.raises(ConfigurationError, match="must be a value of column 'who'"):
        SeriesDisplay.from_estimator(detector, table)


def test_draws_an_array_and_refuses_an_entity_of_it() -> None:
    series = np.sin(np.arange(200) / 4.0)
    detector = SeriesOutlierDetector(window=12, max_steps=5, random_state=0).fit(series)
    display = SeriesDisplay.from_estimator(detector, series, figure=Figure(), name="waves")
    assert display.axes_[0].get_ylabel() == "column 0"
    assert display.axes_[0].get_title(loc="left").startswith("waves: ")
    with pytest.raises(ConfigurationError, match="has no entity column"):
        SeriesDisplay.from_estimator(detector, series, entity="a")


def test_refuses_what_cannot_be_drawn(series: pd.DataFrame) -> None:
    with pytest.raises(
        InvalidTableError, match=r"one number per row of the series; got shape \(3,\) for 300"
    ):
        SeriesDisplay(series, np.zeros(3), events_of(series))
    with pytest.raises(InvalidTableError, match="must have a numeric column"):
        SeriesDisplay(pd.DataFrame({"a": ["x"]}), np.zeros(1), events_of(series))
