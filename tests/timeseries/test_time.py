import numpy as np
import pandas as pd
import pytest

from flowdetect.exceptions import InvalidTableError
from flowdetect.timeseries._time import Clock, read_stamps


def test_steps_are_counted_over_gaps() -> None:
    stamps = pd.date_range("2024-01-01", periods=8, freq="15min").delete([3, 4])
    clock = Clock.learn([stamps])
    assert clock.describe(clock.step) == "0 days 00:15:00"
    np.testing.assert_array_equal(clock.count(stamps), [0, 1, 2, 5, 6, 7])


@pytest.mark.parametrize("freq", ["ME", "MS", "QS", "YS"])
def test_calendar_months_are_steps(freq: str) -> None:
    stamps = pd.date_range("2019-01-31", periods=12, freq=freq)
    clock = Clock.learn([stamps.delete(4)])
    np.testing.assert_array_equal(clock.count(stamps), np.arange(12))


def test_months_are_called_so() -> None:
    clock = Clock.learn([pd.date_range("2019-01-31", periods=12, freq="ME")])
    assert clock.describe(clock.step) == "1 months"
    assert clock.as_timedelta() == pd.Timedelta(days=365.25 / 12)


def test_jitter_is_no_irregular_step() -> None:
    late = pd.to_timedelta(np.random.default_rng(0).integers(0, 900, 50), unit="ms")
    stamps = pd.date_range("2024-01-01", periods=50, freq="1min") + late
    np.testing.assert_array_equal(Clock.learn([stamps]).count(stamps), np.arange(50))


def test_numbers_are_stamps_too() -> None:
    clock = Clock.learn([pd.Index([0.5, 1.0, 1.5, 3.0])])
    np.testing.assert_array_equal(clock.count(pd.Index([10.0, 11.0])), [0, 2])
    assert clock.as_timedelta() is None


def test_daylight_saving_is_no_gap() -> None:
    stamps = pd.date_range("2024-03-30", periods=72, freq="h", tz="Europe/Berlin")
    np.testing.assert_array_equal(Clock.learn([stamps]).count(stamps), np.arange(72))


def test_texts_with_changing_offsets_are_read_in_utc() -> None:
    texts = pd.Series(["2022-03-27T01:00:00+01:00", "2022-03-27T03:00:00+02:00", "2022-03-27T04:00:00+02:00"])
    stamps = read_stamps(texts, "t")
    assert str(stamps.tz) == "UTC"
    np.testing.assert_array_equal(Clock.learn([stamps]).count(stamps), [0, 1, 2])


def test_refuses_irregular_stamps() -> None:
    stamps = pd.DatetimeIndex(
        ["2024-01-01 00:00", "2024-01-01 01:00", "2024-01-01 02:00", "2024-01-01 03:20"]
    )
    with pytest.raises(InvalidTableError, match=r"0 days 01:00:00 apart, but others 0 days 01:20:00"):
        Clock.learn([stamps])
    clock = Clock.learn([stamps[:3]])
    with pytest.raises(InvalidTableError, match=r"multiples of 0 days 01:00:00 apart, as in fit"):
        clock.count(stamps)


def test_refuses_another_kind_of_stamps() -> None:
    clock = Clock.learn([pd.date_range("2024", periods=3, freq="D")])
    with pytest.raises(InvalidTableError, match="must be dates as in fit"):
        clock.count(pd.Index([1.0, 2.0]))


@pytest.mark.parametrize(
    ("stamps", "expected"),
    [
        (pd.Series(["2024-01-01", "2024-01-02"]), pd.DatetimeIndex(["2024-01-01", "2024-01-02"])),
        (pd.period_range("2024-01", periods=2, freq="M"), pd.DatetimeIndex(["2024-01-01", "2024-02-01"])),
        (pd.to_timedelta([1, 2], unit="s"), pd.Index([1.0, 2.0])),
    ],
)
def test_stamps_come_in_several_forms(stamps: pd.Series, expected: pd.Index) -> None:
    assert read_stamps(stamps, "t").equals(expected)


@pytest.mark.parametrize(
    ("stamps", "message"),
    [
        (pd.Series(["soon", "later"]), "must hold dates or numbers"),
        (pd.Series([True, False]), "must hold dates or numbers; got bool"),
        (pd.DatetimeIndex(["2024-01-01", None]), "has 1 missing"),
        (pd.Series([1.0, np.inf]), "has infinite"),
    ],
)
def test_refuses_what_is_no_time(stamps: pd.Series, message: str) -> None:
    with pytest.raises(InvalidTableError, match=message):
        read_stamps(stamps, "column 't'")
