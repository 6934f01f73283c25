"""Rows to start from, and bounds of encoded values."""

import numpy as np
import pandas as pd
import pytest

from flowdetect.estimators import _sources
from flowdetect.estimators._sources import Sources, ValueBounds, within_bounds
from flowdetect.exceptions import ConfigurationError
from flowdetect.preprocessing import TableEncoder

# --- rows to start from ------------------------------------------------------------------------------------


def test_all_rows_of_a_table_of_common_size_are_kept():
    assert Sources.choose(np.zeros(50, dtype=int), np.random.default_rng(0)).tolist() == list(range(50))


def test_of_a_large_table_each_class_keeps_at_most_an_equal_share(monkeypatch):
    monkeypatch.setattr(_sources, "_MOST_ROWS", 30)
    classes = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [100, 40, 6]))
    kept = Sources.choose(classes, np.random.default_rng(1))
    assert np.bincount(classes[kept]).tolist() == [10, 10, 6]
    assert len(np.unique(kept)) == len(kept)
    assert (np.diff(kept) > 0).all()
    assert not np.array_equal(kept, Sources.choose(classes, np.random.default_rng(2)))


def test_rows_of_the_class_are_picked_equally_often():
    classes = np.array([0, 1, 0, 1, 0, 2])
    sources = Sources(np.zeros((6, 1)), classes)
    asked = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [31, 8, 3]))
    picked = sources.pick(asked, np.random.default_rng(0))
    np.testing.assert_array_equal(classes[picked], asked)
    counts = np.bincount(picked, minlength=6)
    assert sorted(counts[[0, 2, 4]].tolist()) == [10, 10, 11]
    assert counts[[1, 3, 5]].tolist() == [4, 4, 3]
    np.testing.assert_array_equal(picked, sources.pick(asked, np.random.default_rng(0)))
    assert not np.array_equal(picked, sources.pick(asked, np.random.default_rng(1)))


def test_no_rows_are_picked_if_none_are_asked_for():
    sources = Sources(np.zeros((2, 1)), np.zeros(2, dtype=int))
    assert sources.pick(np.zeros(0, dtype=int), np.random.default_rng(0)).shape == (0,)


# --- bounds ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "number": 50.0 + 7.0 * rng.normal(size=90),
            "holes": np.where(rng.random(90) < 0.4, np.nan, rng.normal(size=90) + 20.0),
            "whole": rng.integers(10, 60, 90),
            "kind": rng.choice(["x", "y"], 90),
            "time": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 300, 90), unit="D"),
        }
    )


@pytest.fixture(scope="module")
def encoder(table):
    return TableEncoder().fit(table)


@pytest.fixture(scope="module")
def far(encoder, table):
    """Encoded rows with values up to nine scales away, half of them below and half above."""
    matrix = np.repeat(encoder.encode(table)[0], 20, axis=0)
    n_values = encoder.layout_.n_values
    matrix[:, :n_values] += np.random.default_rng(1).uniform(-9.0, 9.0, size=(len(matrix), n_values))
    return matrix


def assert_inside(column, low, high):
    present = column.dropna()
    size = 1e-9 * (np.ptp(present) if present.dtype.kind == "f" else 1)
    slack = size if present.dtype.kind == "f" else present.iloc[0] - present.iloc[0]
    assert (present >= low - slack).all()
    assert (present <= high + slack).all()
    assert present.nunique() > 5


def test_observed_bounds_are_the_range_of_what_is_present(encoder, table, far):
    bounds = ValueBounds.build(encoder, encoder.encode(table)[0], "observed")
    drawn = encoder.decode(bounds.reflect(far))
    for name in ("number", "holes", "whole", "time"):
        assert_inside(drawn[name], table[name].min(), table[name].max())
    assert drawn["holes"].min() > 15.0  # 0 stands in the values that are missing, and is not one of them
    assert set(drawn["whole"]) >= {table["whole"].min(), table["whole"].max()}


def test_what_lies_inside_and_all_codes_stay_as_they_are(encoder, table, far):
    bounds = ValueBounds.build(encoder, encoder.encode(table)[0], "observed")
    matrix = encoder.encode(table)[0]
    np.testing.assert_array_equal(bounds.reflect(matrix), matrix)
    n_values = encoder.layout_.n_values
    np.testing.assert_array_equal(bounds.reflect(far)[:, n_values:], far[:, n_values:])


def test_what_lies_a_little_beyond_is_mirrored():
    bounds = ValueBounds(np.array([-1.0, -np.inf]), np.array([2.0, 0.5]))
    rows = np.array([[-1.25, -7.0, 3.0], [2.5, 0.75, 4.0], [0.0, 0.0, 5.0], [-99.0, 99.0, 6.0]])
    expected = [[-0.75, -7.0, 3.0], [1.5, 0.25, 4.0], [0.0, 0.0, 5.0], [-1.0, -98.0, 6.0]]
    np.testing.assert_allclose(bounds.reflect(rows), expected)


def test_no_bounds(encoder, table, far):
    bounds = ValueBounds.build(encoder, encoder.encode(table)[0], None)
    np.testing.assert_array_equal(bounds.reflect(far), far)


def test_declared_bounds_replace_the_observed_range_of_their_columns(encoder, table, far):
    declared = {
        "number": (45.0, 52.0),
        "holes": (None, 20.5),
        "whole": (20, 30),
        "time": (pd.Timestamp("2024-02-01"), None),
    }
    matrix = encoder.encode(table)[0]
    drawn = encoder.decode(ValueBounds.build(encoder, matrix, declared).reflect(far))
    assert_inside(drawn["number"], 45.0, 52.0)
    assert set(drawn["whole"]) == set(range(20, 31))
    assert_inside(drawn["holes"], -np.inf, 20.5)
    assert drawn["holes"].min() < table["holes"].min()
    assert_inside(drawn["time"], pd.Timestamp("2024-02-01"), pd.Timestamp("2262-01-01"))
    others = ValueBounds.build(encoder, matrix, {"whole": (20, 30)}).reflect(far)
    assert_inside(encoder.decode(others)["number"], table["number"].min(), table["number"].max())


def test_wider_bounds_than_the_observed_range(encoder, table, far):
    matrix = encoder.encode(table)[0]
    drawn = encoder.decode(ValueBounds.build(encoder, matrix, {"number": (0.0, 100.0)}).reflect(far))
    assert_inside(drawn["number"], 0.0, 100.0)
    assert drawn["number"].min() < table["number"].min()
    assert drawn["number"].max() > table["number"].max()


def test_columns_of_an_array_are_named_by_position():
    array = np.random.default_rng(0).normal(size=(60, 2))
    encoder = TableEncoder().fit(array)
    bounds = ValueBounds.build(encoder, encoder.encode(array)[0], {1: (-0.5, 0.5)})
    drawn = encoder.decode(bounds.reflect(encoder.encode(array)[0]))
    np.testing.assert_allclose(drawn[:, 0], array[:, 0])
    assert np.abs(drawn[:, 1]).max() <= 0.5 + 1e-9


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ("seen", r"bounds must be 'observed', None, or a mapping of columns to \(low, high\); got 'seen'"),
        ([("number", 0, 1)], r"bounds must be 'observed', None, or a mapping"),
        (
            {"kind": (0, 1)},
            r"bounds must name columns of numbers or times; got 'kind'. These are \['number',",
        ),
        ({"size": (0, 1)}, "bounds must name columns of numbers or times; got 'size'"),
        ({"number": 3.0}, r"bounds of 'number' must be \(low, high\), None for no bound; got 3.0"),
        (
            {"number": (1, 2, 3)},
            r"bounds of 'number' must be \(low, high\), None for no bound; got \(1, 2, 3\)",
        ),
        ({"number": (2.0, 1.0)}, r"bounds of 'number' must be .* with low <= high; got \(2.0, 1.0\)"),
        ({"number": (np.nan, 1.0)}, r"bounds of 'number' must be .*, None for no bound; got \(nan, 1.0\)"),
        ({"number": ("a", "b")}, "bounds of 'number' cannot be used: .* must hold numbers; row 0 holds 'a'"),
        ({"number": (np.inf, None)}, "bounds of 'number' cannot be used: .* column 'number' holds infinity"),
        ({"time": ("2024-02-01", None)}, "bounds of 'time' cannot be used: .* must hold such times"),
        ({"number": "ab"}, r"bounds of 'number' must be \(low, high\), None for no bound; got 'ab'"),
    ],
)
def test_bounds_that_are_none(encoder, table, bounds, message):
    with pytest.raises(ConfigurationError, match=message):
        ValueBounds.build(encoder, encoder.encode(table)[0], bounds)


def test_infinite_ends_are_open(encoder, table):
    matrix = encoder.encode(table)[0]
    closed = ValueBounds.build(encoder, matrix, "observed")
    bounds = ValueBounds.build(encoder, matrix, {"number": (-np.inf, np.inf)})
    assert (bounds.low[0], bounds.high[0]) == (-np.inf, np.inf)
    np.testing.assert_array_equal(bounds.low[1:], closed.low[1:])
    assert within_bounds(table, encoder, {"number": (-np.inf, np.inf)}).all()


def test_names_of_columns_may_be_tuples():
    names = pd.Index([("a", 1), ("a", 2)], tupleize_cols=False)
    table = pd.DataFrame(np.random.default_rng(0).normal(size=(60, 2)), columns=names)
    encoder = TableEncoder().fit(table)
    bounds = ValueBounds.build(encoder, encoder.encode(table)[0], {("a", 2): (-0.5, 0.5)})
    drawn = encoder.decode(bounds.reflect(encoder.encode(table)[0]))
    assert drawn.iloc[:, 1].abs().max() <= 0.5 + 1e-9
    assert drawn.iloc[:, 0].abs().max() > 0.5


def test_bounds_leave_the_matrix_alone(encoder, table, far):
    matrix, before = encoder.encode(table)[0], far.copy()
    kept = matrix.copy()
    ValueBounds.build(encoder, matrix, "observed").reflect(far)
    np.testing.assert_array_equal(matrix, kept)
    np.testing.assert_array_equal(far, before)


def test_rows_within_declared_bounds(encoder, table):
    rows = table.head(4).assign(
        number=[0.0, 5.0, 10.0, 5.0], holes=[np.nan, 1.0, 1.0, 3.0], whole=[1, 2, 3, 4]
    )
    declared = {"number": (1.0, 10.0), "holes": (None, 2.0), "whole": (None, None)}
    assert within_bounds(rows, encoder, declared).tolist() == [False, True, True, False]
    assert within_bounds(rows, encoder, {}).all()
    assert within_bounds(rows.convert_dtypes(), encoder, declared).tolist() == [False, True, True, False]


def test_rows_of_an_array_within_declared_bounds():
    array = np.array([[0.0, 1.0], [2.0, np.nan], [4.0, 9.0]])
    encoder = TableEncoder().fit(array)
    assert within_bounds(array, encoder, {0: (1, None), 1: (None, 5)}).tolist() == [False, True, False]
