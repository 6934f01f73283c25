import datetime
import decimal

import numpy as np
import pandas as pd
import pytest

from flowdetect.exceptions import InvalidTableError
from flowdetect.preprocessing import TableEncoder

N = 300
rng = np.random.default_rng(0)
WHOLE = rng.integers(0, 100, N)
TIMES = pd.Series(pd.date_range("1900-01-01", periods=N, freq="37min"))

NUMBER_DTYPES = (
    *("int8", "uint16", "int64", "uint64", "float16", "float32"),
    *("Int8", "UInt64", "Float32", "int64[pyarrow]", "double[pyarrow]"),
)
TEXT_DTYPES = ("string[python]", "string[pyarrow]", "category")
COLUMNS = {
    **{dtype: pd.Series(WHOLE).astype(dtype) for dtype in NUMBER_DTYPES},
    **{dtype: pd.Series(WHOLE).astype(str).astype(dtype) for dtype in TEXT_DTYPES},
    **{dtype: pd.Series(WHOLE % 2).astype(dtype) for dtype in ("bool", "boolean", "bool[pyarrow]")},
    "text": pd.Series(WHOLE).astype(str),
    "text object": pd.Series(WHOLE).astype(str).astype(object),
    "sparse float": pd.Series(np.where(WHOLE < 50, np.nan, WHOLE)).astype("Sparse[float64]"),
    "sparse int": pd.Series(np.where(WHOLE < 50, 0, WHOLE)).astype("Sparse[int64]"),
    "int beyond float": pd.Series(10**17 + WHOLE),
    "Int64 beyond float": pd.Series(10**17 + WHOLE).astype("Int64"),
    "object int beyond float": pd.Series([*(10**17 + WHOLE).tolist(), None], dtype=object),
    "object float": pd.Series([1, 2.5, np.nan] * 100, dtype=object),
    "object int": pd.Series([3, 2, 8, None] * 100, dtype=object),
    "object bool": pd.Series([True, False, None] * 100, dtype=object),
    "object mixed": pd.Series([1, "a", None, 2.5] * 100, dtype=object),
    "object NA": pd.Series(["a", pd.NA] * 100, dtype=object),
    "object NaT": pd.Series([datetime.date(2020, 1, 1), pd.NaT] * 100, dtype=object),
    "object none": pd.Series([None] * N, dtype=object),
    "decimal": pd.Series([decimal.Decimal("1.5"), decimal.Decimal(2)] * 100),
    "tuples": pd.Series([(1, 2), (3, "a")] * 100),
    **{f"time {unit}": TIMES.dt.as_unit(unit) for unit in ("s", "ms", "us", "ns")},
    **{f"time {tz}": TIMES.dt.tz_localize(tz) for tz in ("UTC", "Asia/Tokyo")},
    "time offset": TIMES.dt.tz_localize(datetime.timezone(datetime.timedelta(hours=2))),
    "time pyarrow": TIMES.astype("timestamp[us][pyarrow]"),
    "time pyarrow utc": TIMES.dt.tz_localize("UTC").astype("timestamp[us, tz=UTC][pyarrow]"),
    "time days": pd.Series(pd.Timestamp("2020") + pd.to_timedelta(WHOLE, unit="D")),
    "span": pd.Series(pd.to_timedelta(rng.integers(-(10**9), 10**9, N), unit="s")),
    "no time": pd.Series([pd.NaT] * N),
    "period": pd.Series(pd.period_range("2020", periods=N, freq="D")),
    "interval": pd.Series(pd.arrays.IntervalArray.from_breaks(range(N + 1))),
    "cut": pd.Series(pd.cut(WHOLE, 5)),
    "category int": pd.Series(pd.Categorical(WHOLE % 3, categories=[2, 0, 9, 1], ordered=True)),
    "category time": pd.Series(pd.Categorical(pd.to_datetime(["2020", "2021"] * 150, utc=True))),
    "huge": pd.Series(rng.normal(size=N) * 1e300),
    "tiny": pd.Series(rng.normal(size=N) * 1e-300),
    "far from zero": pd.Series(1e9 + rng.normal(size=N) * 1e-3),
    "heavy": pd.Series(np.r_[1e8, -1e300, rng.normal(size=N)]),
    "zeros of both signs": pd.Series([0.0, -0.0, 1.5] * 100),
}  # fmt: skip


# numpy's whole numbers cannot be missing, sparse columns cannot be written to, two markers become one.
WITH_HOLES = [
    name
    for name, column in COLUMNS.items()
    if not str(column.dtype).startswith(("int", "uint", "bool", "Sparse", "interval"))
    or str(column.dtype).endswith("[pyarrow]")
    if name not in ("object float", "object NA", "object NaT")
]


@pytest.mark.parametrize(
    ("name", "holes"), [*((name, False) for name in COLUMNS), *((name, True) for name in WITH_HOLES)]
)
def test_columns_of_every_dtype_come_back(name, holes):
    column = COLUMNS[name].copy()
    if holes:
        column[::7] = None
    table = pd.DataFrame({"c": column, "other": np.arange(len(column))})
    encoder = TableEncoder().fit(table)
    matrix, log_det = encoder.encode(table)
    assert np.isfinite(matrix).all()
    assert np.isfinite(log_det).all()
    pd.testing.assert_frame_equal(encoder.decode(matrix), table, rtol=1e-9)


def test_nanoseconds_of_whole_seconds_are_exact_and_others_close():
    stamps = TIMES.astype("datetime64[ns]") + pd.to_timedelta(np.arange(N) ** 3, unit="ns")
    table = pd.DataFrame({"t": stamps})
    encoder = TableEncoder().fit(table)
    decoded = encoder.decode(encoder.encode(table)[0])
    assert (decoded["t"] - stamps).abs().max() <= pd.Timedelta("1us")


def test_missing_entries_keep_their_object():
    for marker in (None, pd.NA, pd.NaT):
        table = pd.DataFrame({"c": pd.Series(["a", "b", marker] * 9, dtype=object)})
        encoder = TableEncoder().fit(table)
        assert encoder.decode(encoder.encode(table)[0])["c"].iloc[2] is marker


def test_times_are_read_in_any_resolution_and_zone():
    table = pd.DataFrame({"t": TIMES.dt.tz_localize("UTC")})
    encoder = TableEncoder().fit(table)
    other = pd.DataFrame({"t": table["t"].dt.tz_convert("Asia/Tokyo").dt.as_unit("ns")})
    np.testing.assert_array_equal(encoder.encode(other)[0], encoder.encode(table)[0])


def test_numbers_are_read_from_any_dtype_that_holds_numbers():
    table = pd.DataFrame({"n": WHOLE})
    encoder = TableEncoder().fit(table)
    for dtype in (float, object, "Int64", "category", "int64[pyarrow]", "Sparse[int64]"):
        np.testing.assert_array_equal(encoder.encode(table.astype(dtype))[0], encoder.encode(table)[0])


def test_floats_around_large_whole_numbers_are_read():
    table = pd.DataFrame({"n": 10**17 + 64 * np.arange(N)})
    encoder = TableEncoder().fit(table)
    np.testing.assert_allclose(encoder.encode(table.astype(float))[0], encoder.encode(table)[0], atol=1e-2)
    np.testing.assert_array_equal(encoder.encode(table.astype(object))[0], encoder.encode(table)[0])


NUMBERS = pd.DataFrame({"n": WHOLE.astype(float)})
STAMPS = pd.DataFrame({"n": TIMES})


@pytest.mark.parametrize(
    ("fitted", "column", "message"),
    [
        (
            NUMBERS,
            [1.0, "abc", 2.0],
            r"Column 'n' was numeric in training.*row 1 holds 'abc' \(str\).*to_numeric",
        ),
        (NUMBERS, [None, "7", 2.0], r"row 1 holds '7' \(str\)"),
        (NUMBERS, pd.Categorical(["a", "b", "c"]), "row 0 holds 'a'"),
        (NUMBERS, pd.date_range("2020", periods=3), "row 0 holds Timestamp"),
        (NUMBERS, [1j, 2, 3], "row 0 holds 1j"),
        (NUMBERS, [1.0, np.inf, -np.inf], r"column 'n' holds infinity \(inf\) in 2 row\(s\), first in row 1"),
        (
            STAMPS,
            ["2020", "2021", "2022"],
            "Column 'n' was datetime64.*such times; it came as.*'2020'.*to_datetime",
        ),
        (STAMPS, TIMES[:3].dt.tz_localize("UTC"), "was datetime64.*came as datetime64.*UTC"),
        (pd.DataFrame({"n": TIMES - TIMES[0]}), [1, 2, 3], "was timedelta64.*to_timedelta"),
        (
            pd.DataFrame({"n": ["a", "b"] * 5}),
            [[1], [2], [3]],
            "hashable values; column 'n'.*columns of their own",
        ),
    ],
)
def test_entries_of_another_kind_are_refused_by_name(fitted, column, message):
    encoder = TableEncoder().fit(fitted)
    with pytest.raises(InvalidTableError, match=message):
        encoder.encode(pd.DataFrame({"n": column}))


def test_infinity_is_refused_in_training_too():
    with pytest.raises(InvalidTableError, match="column 'n' holds infinity"):
        TableEncoder().fit(pd.DataFrame({"n": [1.0, np.inf]}))


def test_messages_show_the_columns_of_arrays_by_plain_numbers():
    with pytest.raises(InvalidTableError, match="column 1 holds infinity"):
        TableEncoder().fit(np.array([[0.0, np.inf], [1.0, 2.0]]))
    encoder = TableEncoder().fit(np.random.default_rng(0).normal(size=(9, 2)))
    with pytest.raises(InvalidTableError, match="Column 1 was numeric in training"):
        encoder.encode(np.array([[0.0, "a"]], dtype=object))
    with pytest.raises(InvalidTableError, match=r"NaN came in: 0 \(1 row"):
        encoder.encode(np.array([[np.nan, 1.0]]))


ARRAYS = [
    np.arange(6, dtype=np.float32).reshape(3, 2),
    np.arange(6).reshape(3, 2),
    np.array([[True, False], [True, True]]),
    np.array([[1, "a"], [2, "b"]]),
    np.array([[1, "a"], [2, None]], dtype=object),
    np.arange(6).astype("datetime64[D]").reshape(3, 2),
    [[1, 2.5], [3, 4]],
    [["a", None], ["b", "c"]],
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: str(np.asarray(array).dtype))
def test_arrays_come_back_in_their_dtype(array):
    encoder = TableEncoder().fit(array)
    decoded = encoder.decode(encoder.encode(array)[0])
    assert decoded.dtype == np.asarray(array).dtype
    np.testing.assert_array_equal(decoded, array)
