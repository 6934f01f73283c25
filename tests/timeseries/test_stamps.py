import numpy as np
import pandas as pd
import pytest

from flowdetect.timeseries._stamps import stamps_after
from flowdetect.timeseries._time import Clock


@pytest.mark.parametrize("zone", [None, "Europe/Berlin"])
@pytest.mark.parametrize("freq", ["MS", "ME", "QS", "QE", "YS", "YE", "30D", "D", "7h"])
def test_are_those_of_the_clock(freq: str, zone: str | None) -> None:
    stamps = pd.date_range("2024-01-31", periods=20, freq=freq, tz=zone, name="when")
    clock, first = Clock.learn([stamps.delete(5)]), stamps[:8].delete(5)
    after = stamps_after(clock, first, np.arange(20))
    assert after.equals(stamps) and after.name == "when"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["2023-02-28", "2023-03-28"], "28"),
        (["2023-02-28", "2023-03-31"], "30"),
        (["2023-01-30", "2023-02-28", "2023-03-30"], "30"),
    ],
)
def test_months_keep_their_day(given: list[str], expected: str) -> None:
    stamps = pd.DatetimeIndex(given)
    after = stamps_after(Clock.learn([stamps]), stamps, np.array([0, len(given)]))
    assert after[0] == stamps[0] and after[1] == pd.Timestamp(f"2023-04-{expected}")


def test_days_keep_their_hour_where_clocks_change() -> None:
    stamps = pd.date_range("2024-03-25", periods=20, freq="D", tz="Europe/Berlin")
    clock = Clock.learn([stamps[:5]])
    assert stamps_after(clock, stamps[:5], np.arange(20)).equals(stamps)


def test_numbers_stay_whole() -> None:
    stamps = pd.Index([3, 5, 7])
    assert stamps_after(Clock.learn([stamps]), stamps, np.arange(4)).tolist() == [3, 5, 7, 9]
