import numpy as np
import pandas as pd
import pytest

from flowdetect.exceptions import ConfigurationError, InvalidTableError
from flowdetect.timeseries._calendar import calendar_table
from flowdetect.timeseries._choices import choose_windows, rows_between
from flowdetect.timeseries._events import event_depths, event_spans, offset_for_events
from flowdetect.timeseries._period import autocorrelation, find_period
from flowdetect.timeseries._stretch import ModelledStretch
from flowdetect.timeseries._time import Clock


def test_runs_with_little_between_are_one_event() -> None:
    scores = np.array([0, -2, 0, -2, 0, 0, 0, -2, -2.0])
    assert event_spans(scores, -1.0, merge=1) == [(1, 3), (7, 8)]
    assert event_spans(scores, -1.0, merge=3) == [(1, 8)]
    assert event_spans(scores, -5.0, merge=1) == []


def test_there_are_never_more_events_than_depths() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        scores = np.round(rng.normal(size=80), 1)
        scores[rng.random(80) < 0.1] = np.nan
        depths = event_depths(scores, merge=3)
        for offset in (-2.0, -1.0, 0.0, 1.0):
            assert len(event_spans(scores, offset, merge=3)) <= (depths < offset).sum()


def test_the_offset_leaves_one_event_fewer_than_allowed() -> None:
    rng = np.random.default_rng(0)
    stretches = [rng.normal(size=500) for _ in range(4)]
    offset = offset_for_events(stretches, rows_between=100, merge=5)
    assert sum(len(event_spans(scores, offset, merge=5)) for scores in stretches) <= 19
    assert sum((event_depths(scores, merge=5) < offset).sum() for scores in stretches) == 19


def test_false_alarms_come_as_seldom_as_asked() -> None:
    rng = np.random.default_rng(0)

    def series(n: int) -> np.ndarray:
        return np.convolve(rng.normal(size=n + 9), np.ones(10) / 10.0, mode="valid")

    counts = []
    for _ in range(40):
        offset = offset_for_events([series(500) for _ in range(4)], rows_between=200, merge=10)
        counts.append(len(event_spans(series(4000), offset, merge=10)))
    # 20 in 4,000 rows are asked for; the mean of 40 trials has a standard error of about 1.2.
    assert 12.0 < np.mean(counts) < 22.4


def test_refuses_a_time_longer_than_the_series() -> None:
    with pytest.raises(ConfigurationError, match="cannot be judged by 50 rows"):
        offset_for_events([np.zeros(50)], rows_between=51, merge=1)


def stretch_of(values: np.ndarray) -> ModelledStretch:
    return ModelledStretch(values, pd.DataFrame(index=range(len(values))))


def test_the_window_is_a_multiple_of_the_period() -> None:
    days = np.column_stack([np.sin(np.arange(4000) * 2 * np.pi / 24), np.zeros(4000)])
    assert choose_windows([stretch_of(days)], "auto", max_gap=10) == (192, 384)
    assert choose_windows([stretch_of(days[:800])], "auto", max_gap=10) == (48, 96)
    assert choose_windows([stretch_of(days[:320])], "auto", max_gap=10) == (20, 40)
    assert choose_windows([stretch_of(days)], 30, max_gap=10) == (30, 60)


def test_refuses_too_few_rows() -> None:
    with pytest.raises(InvalidTableError, match=r"at least 16 rows .* the longest stretch has 15"):
        choose_windows([stretch_of(np.zeros((15, 2)))], "auto", max_gap=10)
    with pytest.raises(InvalidTableError, match="window=30 needs a stretch of 120 rows"):
        choose_windows([stretch_of(np.zeros((119, 2)))], 30, max_gap=10)


def test_the_period_is_the_first_of_its_multiples() -> None:
    t = np.arange(2000)
    noisy = np.sin(t * 2 * np.pi / 48)[:, None] + 0.5 * np.random.default_rng(0).normal(size=(2000, 1))
    assert find_period(noisy, longest=300) in (47, 48, 49)
    assert find_period(np.random.default_rng(0).normal(size=(500, 1)), longest=100) is None
    assert find_period(np.zeros((50, 1)), longest=20) is None
    assert find_period(np.zeros((4, 1)), longest=20) is None


def test_autocorrelation_of_a_first_order_process() -> None:
    rng = np.random.default_rng(0)
    x = np.zeros(50_000)
    for i, e in enumerate(rng.normal(size=len(x) - 1)):
        x[i + 1] = 0.8 * x[i] + e
    np.testing.assert_allclose(autocorrelation(x[:, None], 5), 0.8 ** np.arange(6), atol=0.03)


def test_times_become_rows() -> None:
    clock = Clock.learn([pd.date_range("2024", periods=9, freq="h")])
    assert rows_between("2D", clock) == 48.0
    assert rows_between(pd.Timedelta(hours=5), clock) == 5.0
    assert rows_between(7, None) == 7.0


@pytest.mark.parametrize(
    ("asked", "clock", "message"),
    [
        ("2D", None, "the series has no dates"),
        ("often", Clock(1.0, months=False, dates=True), "a number of rows or a time such as '30D'"),
        (0, None, "at least one row"),
    ],
)
def test_refuses_what_is_no_time_between_alarms(asked: object, clock: Clock | None, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        rows_between(asked, clock)


@pytest.mark.parametrize(
    ("freq", "n", "expected"),
    [
        ("h", 24 * 21, ["time of day, sine", "time of day, cosine", "weekday"]),
        ("h", 30, []),
        ("D", 60, ["weekday"]),
        ("D", 800, ["weekday", "time of year, sine", "time of year, cosine"]),
        ("MS", 48, ["time of year, sine", "time of year, cosine"]),
        ("YS", 48, []),
    ],
)
def test_the_calendar_has_the_cycles_that_were_seen(freq: str, n: int, expected: list[str]) -> None:
    stamps = pd.date_range("2024-01-01", periods=n, freq=freq)
    step = stamps[1] - stamps[0]
    table = calendar_table(stamps, step=step, span=stamps[-1] - stamps[0])
    assert list(table.columns) == expected
    assert len(table) == n
