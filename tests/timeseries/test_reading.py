import numpy as np
import pandas as pd
import pytest

from flowdetect.exceptions import ConfigurationError, InvalidTableError
from flowdetect.timeseries._reading import SeriesReader, check_name


def hourly(n: int, start: str = "2024-01-01") -> pd.DatetimeIndex:
    return pd.date_range(start, periods=n, freq="h")


@pytest.mark.parametrize(
    "series", [[1.0, 2.0, 3.0], np.ones((3, 2)), pd.Series([1, 2, 3]), pd.DataFrame({"a": [1, 2, 3]})]
)
def test_rows_without_stamps_are_one_stretch(series: object) -> None:
    rows = SeriesReader().learn(series).read(series, longest_gap=0)
    assert rows.stamps is None
    (stretch,) = rows.stretches
    np.testing.assert_array_equal(stretch.rows, [0, 1, 2])


def test_unsorted_rows_are_put_in_order() -> None:
    series = pd.Series([1.0, 2.0, 3.0], index=hourly(3)[[2, 0, 1]])
    (stretch,) = SeriesReader().learn(series).read(series, longest_gap=0).stretches
    np.testing.assert_array_equal(stretch.rows, [1, 2, 0])


def test_short_gaps_are_filled_and_long_ones_cut() -> None:
    series = pd.Series(np.arange(6.0), index=hourly(12)[[0, 1, 3, 4, 10, 11]])
    reader = SeriesReader().learn(series)
    first, second = reader.read(series, longest_gap=3).stretches
    np.testing.assert_array_equal(first.rows, [0, 1, -1, 2, 3])
    np.testing.assert_array_equal(first.given, [True, True, False, True, True])
    np.testing.assert_array_equal(second.rows, [4, 5])
    assert len(reader.read(series, longest_gap=0).stretches) == 3


def test_entities_are_told_apart() -> None:
    frame = pd.DataFrame({"t": hourly(3).repeat(2), "who": list("ab") * 3, "v": range(6)})
    rows = SeriesReader(time="t", entity="who").learn(frame).read(frame, longest_gap=0)
    assert [stretch.entity for stretch in rows.stretches] == ["a", "b"]
    np.testing.assert_array_equal(rows.stretches[1].rows, [1, 3, 5])
    assert list(rows.table.columns) == ["v"]


def test_refuses_repeated_stamps() -> None:
    series = pd.Series([1.0, 2.0, 3.0], index=hourly(3)[[0, 1, 1]])
    with pytest.raises(InvalidTableError, match=r"must occur once; 2024-01-01 01:00:00 occurs more often"):
        SeriesReader().learn(series)


@pytest.mark.parametrize(
    ("series", "options", "message"),
    [
        (np.ones((2, 2, 2)), {}, r"shape \(n_timestamps,\) or \(n_timestamps, n_channels\); got \(2, 2, 2\)"),
        ([], {}, "no rows"),
        (np.ones(3), {"time": "t"}, "name columns of a DataFrame; got an array"),
        (pd.DataFrame({"v": [1]}), {"entity": "who"}, "no column 'who'"),
        (pd.DataFrame({"t": [1]}), {"time": "t"}, "no column besides"),
        (pd.DataFrame({"who": ["a", None], "v": [1, 2]}), {"entity": "who"}, "has 1 missing entries"),
    ],
)
def test_refuses_what_is_no_series(series: object, options: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidTableError, match=message):
        SeriesReader(**options).learn(series)


def test_refuses_what_comes_otherwise_than_in_fit() -> None:
    plain = pd.DataFrame({"v": [1.0, 2.0]})
    dated = plain.set_index(hourly(2))
    with pytest.raises(InvalidTableError, match="must have time stamps as in fit"):
        SeriesReader().learn(dated).read(plain, longest_gap=0)
    with pytest.raises(InvalidTableError, match="must come without time stamps"):
        SeriesReader().learn(plain).read(dated, longest_gap=0)


def test_refuses_unknown_entities_unless_told() -> None:
    frame = pd.DataFrame({"who": ["a", "a"], "v": [1.0, 2.0]})
    reader = SeriesReader(entity="who").learn(frame)
    other = frame.assign(who="z")
    with pytest.raises(InvalidTableError, match="among those of fit; 'z' in column 'who' was not"):
        reader.read(other, longest_gap=0)
    assert reader.read(other, longest_gap=0, strict=False).stretches[0].entity == "z"


def test_a_name_is_no_list() -> None:
    check_name("time", "t")
    with pytest.raises(ConfigurationError, match="time must be the name of one column"):
        check_name("time", ["t"])
