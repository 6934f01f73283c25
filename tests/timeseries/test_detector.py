import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import flowdetect
from flowdetect.exceptions import ConfigurationError, InvalidTableError
from flowdetect.timeseries import SeriesOutlierDetector

QUICK: dict[str, Any] = {"window": 24, "max_steps": 15, "random_state": 0}
ODD = slice(300, 312)


def waves(n: int, *, phase: float = 0.0, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.sin((np.arange(n) + phase) * 2 * np.pi / 12) + 0.1 * rng.normal(size=n)


def with_odd_stretch() -> np.ndarray:
    series = waves(600)
    series[ODD] = 0.0
    return series


@pytest.fixture(scope="module")
def detector() -> SeriesOutlierDetector:
    return SeriesOutlierDetector(**QUICK).fit(with_odd_stretch())


def tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Two series of mixed columns with gaps, in no order, and a flag that is context."""
    parts = []
    for k, who in enumerate("ab"):
        v = waves(420, phase=4 * k, seed=k)
        stamps = pd.date_range("2024-01-01", periods=420, freq="h", tz="Europe/Berlin")
        parts.append(pd.DataFrame({"t": stamps, "who": who, "v": v, "mode": np.where(v > 0, "on", "off")}))
    table = pd.concat(parts, ignore_index=True)
    table["w"] = 2.0 * table["v"] + 0.1 * np.random.default_rng(2).normal(size=840)
    table.loc[200:215, "v"] = 4.0
    table.loc[100:104, "w"] = np.nan
    table = table.drop(index=[50, 51, *range(600, 640)]).sample(frac=1, random_state=0)
    return table, pd.DataFrame({"holiday": table["t"].dt.day.to_numpy() == 6})


@pytest.fixture(scope="module")
def of_tables() -> SeriesOutlierDetector:
    table, context = tables()
    return SeriesOutlierDetector(time="t", entity="who", **QUICK).fit(table, context=context)


# --- scores ------------------------------------------------------------------------------------------


def test_the_odd_stretch_scores_lowest(detector: SeriesOutlierDetector) -> None:
    scores = detector.score_samples(with_odd_stretch())
    assert scores.dtype == np.float64
    assert scores.shape == (600,)
    assert np.isfinite(scores).all()
    assert ODD.start - 6 <= scores.argmin() < ODD.stop + 6


def test_training_scores_are_the_scores_of_fit(detector: SeriesOutlierDetector) -> None:
    np.testing.assert_allclose(
        detector.score_samples(with_odd_stretch()), detector.training_scores_, rtol=1e-9
    )


def test_methods_agree(detector: SeriesOutlierDetector) -> None:
    series = with_odd_stretch()
    decision = detector.decision_function(series)
    np.testing.assert_array_equal(decision, detector.score_samples(series) - detector.offset_)
    np.testing.assert_array_equal(detector.predict(series), np.where(decision < 0, -1, 1))


def test_contamination_is_the_share_of_odd_rows() -> None:
    series = with_odd_stretch()
    predicted = SeriesOutlierDetector(contamination=0.05, **QUICK).fit_predict(series)
    assert (predicted < 0).sum() == 30


@pytest.mark.parametrize(("n_rows", "window"), [(16, "auto"), (28, "auto"), (40, 4), (200, 9), (200, 13)])
def test_windows_of_few_rows(n_rows: int, window: int | str) -> None:
    series = np.random.default_rng(0).normal(size=n_rows)
    fitted = SeriesOutlierDetector(**QUICK | {"window": window}).fit(series)
    series[n_rows // 2] = 30.0
    assert abs(int(fitted.score_samples(series).argmin()) - n_rows // 2) <= fitted.windows_[-1]


def test_an_odd_stretch_that_occurs_twice_is_still_odd() -> None:
    series = with_odd_stretch()
    series[480:492] = 0.0
    scores = SeriesOutlierDetector(**QUICK).fit(series).score_samples(series)
    odd = np.zeros(600, dtype=bool)
    odd[290:322] = odd[470:502] = True
    assert scores[[306, 486]].max() < np.quantile(scores[~odd], 0.1)


def test_random_state_makes_everything_reproducible() -> None:
    series = with_odd_stretch()
    first, second = (SeriesOutlierDetector(**QUICK).fit(series).training_scores_ for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_survives_clone_and_pickle(detector: SeriesOutlierDetector) -> None:
    assert clone(detector).get_params() == detector.get_params()
    copy = pickle.loads(pickle.dumps(detector))
    np.testing.assert_array_equal(
        copy.score_samples(with_odd_stretch()), detector.score_samples(with_odd_stretch())
    )


@pytest.mark.parametrize("n_rows", [1, 5, 24, 47, 49])
def test_stretches_shorter_than_a_window_have_scores(detector: SeriesOutlierDetector, n_rows: int) -> None:
    scores = detector.score_samples(waves(n_rows, seed=3))
    assert scores.shape == (n_rows,)
    assert np.isfinite(scores).all()


@pytest.mark.parametrize(
    "series",
    [
        np.zeros(200),
        np.r_[np.zeros(150), np.ones(50)],
        np.tile([0.0, 1.0], 100),
        1e12 + waves(200),
        1e-12 * waves(200),
        np.r_[waves(199), 1e6],
        list(waves(200)),
        (waves(200) > 0),
        np.where(np.arange(200) % 9 == 0, np.nan, waves(200)),
        np.column_stack([waves(200), np.full(200, np.nan)]),
    ],
    ids=["constant", "step", "alternating", "far", "tiny", "spike", "list", "bool", "missing", "empty"],
)
def test_awkward_series_have_finite_scores(series: Any) -> None:
    fitted = SeriesOutlierDetector(**QUICK).fit(series)
    assert np.isfinite(fitted.training_scores_).all()
    np.testing.assert_allclose(fitted.score_samples(series), fitted.training_scores_, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("value", [1.0, 7.3, 1e6, np.nan])
def test_a_series_that_keeps_still_has_no_event_until_it_moves(value: float) -> None:
    still = np.full(200, value)
    fitted = SeriesOutlierDetector(window=10, max_steps=5, random_state=0).fit(still)
    assert fitted.events(still).empty
    assert (fitted.predict(still) == 1).all()
    moved = np.where(np.arange(200) // 5 == 20, 2.0 * (1.0 if np.isnan(value) else value), value)
    [event] = fitted.events(moved).to_dict("records")
    assert event["start"] <= 100 <= event["end"]
    assert event["channels"] == (0,)


def test_a_change_of_a_constant_channel_is_odd() -> None:
    series = np.column_stack([waves(400), np.full(400, 7.0)])
    fitted = SeriesOutlierDetector(**QUICK).fit(series)
    later = np.column_stack([waves(400, seed=1), np.where(np.arange(400) // 10 == 20, 8.0, 7.0)])
    scores = fitted.score_samples(later)
    assert 180 <= scores.argmin() < 230
    event = fitted.events(later).sort_values("severity").iloc[-1]
    assert event["channels"][0] == 1


# --- tables, time and entities -----------------------------------------------------------------------


def test_scores_come_in_the_order_of_the_rows(of_tables: SeriesOutlierDetector) -> None:
    table, context = tables()
    scores = pd.Series(of_tables.score_samples(table, context=context), index=table.index)
    order = np.argsort(table["t"].to_numpy(), kind="stable")
    sorted_scores = of_tables.score_samples(table.iloc[order], context=context.iloc[order])
    np.testing.assert_allclose(sorted_scores, scores.to_numpy()[order], rtol=1e-9)
    assert scores.idxmin() in range(190, 226)


def test_events_name_series_times_and_columns(of_tables: SeriesOutlierDetector) -> None:
    table, context = tables()
    events = of_tables.events(table, context=context)
    assert list(events.columns) == ["who", "start", "end", "peak", "n_rows", "severity", "channels"]
    worst = events.loc[events["severity"].idxmax()]
    assert worst["who"] == "a"
    assert worst["start"] <= worst["peak"] <= worst["end"]
    assert (
        pd.Timestamp("2024-01-09", tz="Europe/Berlin")
        < worst["peak"]
        < pd.Timestamp("2024-01-10 12:00", tz="Europe/Berlin")
    )
    assert worst["channels"][0] == "v"
    odd = of_tables.predict(table, context=context) < 0
    assert events["n_rows"].sum() >= odd.sum() > 0


def test_no_events_is_an_empty_table(detector: SeriesOutlierDetector) -> None:
    unmoved = clone(detector).set_params(contamination=0.002).fit(waves(600))
    events = unmoved.events(waves(600)[:30])
    assert list(events.columns) == ["start", "end", "peak", "n_rows", "severity", "channels"]
    assert not len(events)
    assert events["severity"].dtype == np.float64


def test_context_and_calendar_reach_the_flow(of_tables: SeriesOutlierDetector) -> None:
    assert of_tables.window_density_.context_encoder_.schema_.names == [
        "entity",
        "time of day, sine",
        "time of day, cosine",
        "weekday",
        "context holiday",
        "rows of a window",
    ]
    table, context = tables()
    without = SeriesOutlierDetector(time="t", entity="who", calendar=False, **QUICK).fit(table)
    assert without.window_density_.context_encoder_.schema_.names == ["entity", "rows of a window"]
    with pytest.raises(InvalidTableError, match="fitted without context"):
        without.score_samples(table, context=context)
    with pytest.raises(InvalidTableError, match="needs one; got none"):
        of_tables.score_samples(table)
    with pytest.raises(InvalidTableError, match="one row per row of the series; got 3 for 798"):
        of_tables.score_samples(table, context=context.head(3))
    with pytest.raises(InvalidTableError, match="must have the columns of fit"):
        of_tables.score_samples(table, context=context.set_axis(["other"], axis=1))


# --- as time goes on ---------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [[600], [1] * 3 + [597], [10, 1, 300, 50, 1, 238], [47, 48, 505]])
def test_rows_one_after_the_other_score_as_the_whole(
    detector: SeriesOutlierDetector, sizes: list[int]
) -> None:
    series = with_odd_stretch()
    ends = np.cumsum(sizes)
    told = pd.concat(
        [
            detector.score_next(series[end - size : end], restart=end == ends[0])
            for size, end in zip(sizes, ends, strict=True)
        ]
    )
    last = told.drop_duplicates("row", keep="last").sort_values("row")
    np.testing.assert_array_equal(last["row"], np.arange(600))
    np.testing.assert_allclose(last["score"], detector.score_samples(series), rtol=0, atol=1e-9)
    assert told["is_new"].sum() == 600


def test_a_model_file_saved_between_two_calls_must_begin_again(
    detector: SeriesOutlierDetector, tmp_path: Path
) -> None:
    series = with_odd_stretch()
    detector.score_next(series[:300], restart=True)
    flowdetect.save(detector, tmp_path / "m.flow")
    loaded = flowdetect.load(tmp_path / "m.flow")
    with pytest.raises(ConfigurationError, match="begin again after loading.*with the last 192 rows"):
        loaded.score_next(series[300:400])
    loaded.score_next(series[300 - 192 : 300], restart=True)
    told = loaded.score_next(series[300:400])
    pickled = pickle.loads(pickle.dumps(detector)).score_next(series[300:400])
    np.testing.assert_allclose(told["score"], pickled["score"], rtol=0, atol=1e-9)


def test_tables_one_after_the_other_score_as_the_whole(of_tables: SeriesOutlierDetector) -> None:
    table, context = tables()
    order = np.argsort(table["t"].to_numpy(), kind="stable")
    table, context = table.iloc[order], context.iloc[order]
    told = pd.concat(
        [
            of_tables.score_next(table.iloc[i : i + 61], context=context.iloc[i : i + 61], restart=i == 0)
            for i in range(0, len(table), 61)
        ]
    )
    assert isinstance(told.index, pd.DatetimeIndex)
    last = told.drop_duplicates("row", keep="last").sort_values("row")
    whole = of_tables.score_samples(table, context=context)
    np.testing.assert_allclose(last["score"], whole, rtol=0, atol=1e-9)
    np.testing.assert_array_equal(last["who"], table["who"])
    np.testing.assert_array_equal(last.index, pd.DatetimeIndex(table["t"]))


@pytest.mark.parametrize("kind", [pd.Series, np.asarray, list])
def test_context_may_be_one_column_of_any_kind(kind: Any) -> None:
    series = pd.Series(waves(300), index=pd.date_range("2024", periods=300, freq="D"))
    flag = (np.arange(300) % 7 == 0).astype(float)
    fitted = SeriesOutlierDetector(**QUICK).fit(series, context=kind(flag))
    whole = fitted.score_samples(series, context=kind(flag))
    fitted.score_next(series[:200], context=kind(flag[:200]))
    told = fitted.score_next(series[200:], context=kind(flag[200:]))
    np.testing.assert_allclose(told["score"], whole[told["row"]], rtol=0, atol=1e-9)


def test_refuses_rows_that_come_too_late(of_tables: SeriesOutlierDetector) -> None:
    table, context = tables()
    order = np.argsort(table["t"].to_numpy(), kind="stable")
    table, context = table.iloc[order], context.iloc[order]
    of_tables.score_next(table.iloc[100:200], context=context.iloc[100:200], restart=True)
    with pytest.raises(InvalidTableError, match="must come after those of earlier calls"):
        of_tables.score_next(table.iloc[:50], context=context.iloc[:50])
    after = of_tables.score_next(table.iloc[200:210], context=context.iloc[200:210])
    assert after["row"].max() == 109


# --- thresholds --------------------------------------------------------------------------------------


def test_time_between_false_alarms() -> None:
    series = pd.Series(waves(600), index=pd.date_range("2024-01-01", periods=600, freq="h"))
    seldom = SeriesOutlierDetector(time_between_false_alarms="15D", **QUICK).fit(series)
    often = SeriesOutlierDetector(time_between_false_alarms=50, **QUICK).fit(series)
    assert seldom.offset_ < often.offset_
    with pytest.raises(ConfigurationError, match="cannot be judged by 600 rows"):
        SeriesOutlierDetector(time_between_false_alarms="100D", **QUICK).fit(series)


# --- refusals ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"window": 3}, "window must be a whole number of at least 4; got 3"),
        ({"window": "wide"}, "window must be a whole number"),
        ({"max_gap": -1}, "max_gap must be a whole number of at least 0"),
        ({"contamination": 0.7}, "contamination must be 'auto' or a fraction"),
        ({"contamination": 0.1, "time_between_false_alarms": 10}, "are two thresholds"),
        ({"entity": ["a", "b"]}, "entity must be the name of one column"),
        ({"time_between_false_alarms": "1D"}, "the series has no dates"),
    ],
)
def test_refuses_parameters_that_make_no_sense(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        SeriesOutlierDetector(**{**QUICK, **parameters}).fit(waves(200))


def test_refuses_before_fit_and_infinity(detector: SeriesOutlierDetector) -> None:
    with pytest.raises(NotFittedError):
        SeriesOutlierDetector().score_samples(waves(10))
    with pytest.raises(InvalidTableError, match="holds infinity"):
        detector.score_samples(np.r_[waves(50), np.inf])
    with pytest.raises(InvalidTableError, match="features"):
        detector.score_samples(np.ones((50, 2)))
