import numpy as np
import pandas as pd
import pytest

from flowdetect.exceptions import InvalidTableError
from flowdetect.timeseries import SeriesOutlierDetector
from flowdetect.timeseries._time import Clock, read_stamps


def test_steps_are_counted_over_gaps() -> None:
    stamps = pd.date_range("2024-01-01", periods=8, freq="15min").delete([3, 4])
    clock = Clock.learn([stamps])
    assert clock.describe(clock.step) == "0 days 00:15:00"
    np.testing.assert_array_equal(clock.count(stamps), [0, 1, 2, 5, 6, 7])


CALENDAR = [("MS", 1), ("ME", 1), ("QS", 3), ("QE", 3), ("6MS", 6), ("YS", 12), ("YE", 12), ("BQE", 3)]


@pytest.mark.parametrize("zone", [None, "Europe/Berlin"])
@pytest.mark.parametrize(("freq", "n_months"), CALENDAR)
def test_calendar_months_are_steps(freq: str, n_months: int, zone: str | None) -> None:
    stamps = pd.date_range("2019-01-01", periods=40, freq=freq, tz=zone)
    gaps = np.r_[3, 8:12, 15:33]
    clock = Clock.learn([stamps.delete(gaps)])
    assert clock.months and clock.step == n_months
    np.testing.assert_array_equal(clock.count(stamps.delete(gaps)), np.delete(np.arange(40), gaps))
    np.testing.assert_array_equal(clock.count(stamps), np.arange(40))


@pytest.mark.parametrize("freq", ["ME", "QS", "QE", "YS"])
def test_a_detector_takes_months_quarters_and_years_with_gaps(freq: str) -> None:
    stamps = pd.date_range("1800-01-01", periods=200, freq=freq).delete([50, *range(120, 133)])
    waves = np.sin(np.arange(len(stamps))) + 0.1 * np.random.default_rng(0).normal(size=len(stamps))
    detector = SeriesOutlierDetector(window=12, max_steps=5, random_state=0)
    scores = detector.fit(pd.Series(waves, index=stamps)).score_samples(pd.Series(waves, index=stamps))
    assert scores.shape == stamps.shape and np.isfinite(scores).all()


@pytest.mark.parametrize("freq", ["28D", "30D", "91D", "365D"])
def test_equal_steps_of_many_days_are_no_months(freq: str) -> None:
    stamps = pd.date_range("2019-01-15", periods=40, freq=freq, tz="Europe/Berlin")
    clock = Clock.learn([stamps.delete([3, 4, 5])])
    assert not clock.months
    np.testing.assert_array_equal(clock.count(stamps), np.arange(40))


def test_two_dates_on_one_day_are_months_apart() -> None:
    assert Clock.learn([pd.DatetimeIndex(["2023-01-01", "2024-01-01"])]).step == 12
    assert not Clock.learn([pd.DatetimeIndex(["2023-01-01", "2023-01-31"])]).months


def test_entities_may_keep_to_different_days() -> None:
    groups = [
        pd.date_range(first, periods=3, freq=pd.DateOffset(months=1)) for first in ("2023", "2023-01-05")
    ]
    assert Clock.learn(groups).months


@pytest.mark.parametrize(("freq", "words"), [("ME", "1 month"), ("YS", "12 months")])
def test_months_are_called_so(freq: str, words: str) -> None:
    clock = Clock.learn([pd.date_range("2019-01-31", periods=12, freq=freq)])
    assert clock.describe(clock.step) == words
    assert clock.as_timedelta() == pd.Timedelta(days=365.25 / 12) * clock.step


def test_refuses_stamps_between_months() -> None:
    quarters = pd.date_range("2019", periods=8, freq="QS")
    with pytest.raises(InvalidTableError, match="fixed step apart"):
        Clock.learn([quarters.append(pd.DatetimeIndex(["2021-02-01"]))])
    with pytest.raises(InvalidTableError, match="multiples of 3 months apart, as in fit; some are 1 month"):
        Clock.learn([quarters]).count(pd.DatetimeIndex(["2021-01-01", "2021-02-01"]))


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
