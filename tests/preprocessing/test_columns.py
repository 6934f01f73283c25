"""Some of the columns of a table, encoded as in the whole table."""

import numpy as np
import pandas as pd
import pytest

from flowdetect.exceptions import InvalidTableError
from flowdetect.preprocessing import TableEncoder


def build_table(n_rows=80):
    """Every kind of column; `again` and `also` repeat `number` and `text`."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "number": rng.normal(size=n_rows),
            "holes": np.where(rng.random(n_rows) < 0.3, np.nan, rng.normal(size=n_rows)),
            "atoms": np.where(rng.random(n_rows) < 0.4, 0.0, rng.gamma(1.0, size=n_rows)),
            "whole": rng.integers(0, 500, n_rows),
            "few": rng.integers(0, 3, n_rows),
            "text": rng.choice(np.array(["a", "b", None], dtype=object), n_rows),
            "kind": pd.Categorical(rng.choice(["x", "y"], n_rows), categories=["z", "y", "x"], ordered=True),
            "time": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 10**6, n_rows), unit="s"),
            "flag": rng.random(n_rows) < 0.5,
            "constant": 3.0,
            "empty": np.nan,
        }
    )
    return table.assign(again=table["number"], also=table["text"])


TABLE = build_table()


@pytest.fixture(scope="module")
def encoder():
    return TableEncoder().fit(TABLE)


def expected_known(encoder, names):
    return np.isin(encoder.column_of_, [encoder.schema_.names.index(name) for name in names])


@pytest.mark.parametrize("name", [name for name in TABLE if name not in ("again", "also")])
def test_one_column_is_encoded_as_in_the_whole_table(encoder, name):
    whole, _ = encoder.encode(TABLE)
    matrix, known = encoder.encode_given(TABLE[[name]])
    np.testing.assert_array_equal(known, expected_known(encoder, [name]))
    assert known.any()
    np.testing.assert_array_equal(matrix[:, known], whole[:, known])
    assert (matrix[:, ~known] == 0.0).all()
    assert matrix.dtype == np.float64


@pytest.mark.parametrize("seed", range(5))
def test_any_columns_in_any_order_are_encoded_as_in_the_whole_table(encoder, seed):
    rng = np.random.default_rng(seed)
    originals = [name for name in TABLE if name not in ("again", "also")]
    names = rng.permutation(originals)[: rng.integers(2, len(originals) + 1)].tolist()
    rows = TABLE.iloc[rng.permutation(len(TABLE))]
    matrix, known = encoder.encode_given(rows[names])
    np.testing.assert_array_equal(known, expected_known(encoder, names))
    np.testing.assert_array_equal(matrix[:, known], encoder.encode(rows)[0][:, known])


def test_all_columns_are_the_whole_table(encoder):
    matrix, known = encoder.encode_given(TABLE)
    assert known.all()
    np.testing.assert_array_equal(matrix, encoder.encode(TABLE)[0])


@pytest.mark.parametrize(("copy", "original"), [("again", "number"), ("also", "text")])
def test_a_copy_gives_its_original(encoder, copy, original):
    matrix, known = encoder.encode_given(TABLE[[copy]])
    np.testing.assert_array_equal(known, expected_known(encoder, [copy, original]))
    np.testing.assert_array_equal(matrix[:, known], encoder.encode(TABLE)[0][:, known])


@pytest.mark.parametrize(("copy", "original"), [("again", "number"), ("also", "text")])
def test_an_original_does_not_give_its_copy(encoder, copy, original):
    _, known = encoder.encode_given(TABLE[[original]])
    np.testing.assert_array_equal(known, expected_known(encoder, [original]))


@pytest.mark.parametrize(("copy", "original"), [("again", "number"), ("also", "text")])
def test_a_copy_that_differs_from_its_given_original_is_marked(encoder, copy, original):
    given = TABLE[[copy, original]].iloc[::-1].reset_index(drop=True)
    given[copy] = TABLE[copy].to_numpy()
    matrix, known = encoder.encode_given(given)
    whole, _ = encoder.encode(TABLE.assign(**{copy: given[copy], original: given[original]}))
    np.testing.assert_array_equal(matrix[:, known], whole[:, known])
    column = np.flatnonzero(encoder.column_of_ == encoder.schema_.names.index(copy))[-1]
    assert 0 < matrix[:, column].sum() <= len(given)


def test_the_index_of_the_given_rows_does_not_matter(encoder):
    given = TABLE[["number", "text"]].set_axis(np.repeat([7, 9], len(TABLE) // 2), axis=0)
    np.testing.assert_array_equal(
        encoder.encode_given(given)[0], encoder.encode_given(TABLE[["number", "text"]])[0]
    )


def test_columns_of_an_array_are_named_by_position():
    array = np.random.default_rng(0).normal(size=(30, 3))
    encoder = TableEncoder().fit(array)
    matrix, known = encoder.encode_given(pd.DataFrame({2: array[:, 2], 0: array[:, 0]}))
    assert known.tolist() == [True, False, True]
    np.testing.assert_array_equal(matrix[:, known], encoder.encode(array)[0][:, known])


def test_names_that_are_no_text():
    names = pd.Index([("a", 1), 2, "b"], tupleize_cols=False)
    table = pd.DataFrame(np.random.default_rng(0).normal(size=(30, 3)), columns=names)
    encoder = TableEncoder().fit(table)
    matrix, known = encoder.encode_given(table.iloc[:, [1, 0]])
    assert known.tolist() == [True, True, False]
    np.testing.assert_array_equal(matrix[:, known], encoder.encode(table)[0][:, known])


def test_given_rows_are_left_alone(encoder):
    given = TABLE[["also", "holes"]].copy()
    before = given.copy(deep=True)
    encoder.encode_given(given)
    pd.testing.assert_frame_equal(given, before)


def test_no_rows_are_encoded_as_no_rows(encoder):
    matrix, known = encoder.encode_given(TABLE[["number"]].head(0))
    assert matrix.shape == (0, encoder.layout_.n_columns)
    assert known.sum() == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (pd.DataFrame({"size": [1.0], "age": [2.0]}), "unknown: 'size', 'age'. Known are 'number', 'holes'"),
        (pd.DataFrame([[1.0, 2.0]], columns=["number", "number"]), "must be unique; repeated: 'number'"),
        (pd.DataFrame({"number": [np.nan, 1.0]}), r"NaN came in: 'number' \(1 row\(s\)\)"),
        (pd.DataFrame({"again": [np.nan]}), r"NaN came in: .*'again' \(1 row\(s\)\)"),
        (pd.DataFrame({"number": [np.inf]}), "column 'number' holds infinity"),
        (pd.DataFrame({"number": ["big"]}), "'number' was numeric in training and must hold numbers"),
        (pd.DataFrame({"time": ["2024-01-01"]}), "'time' was datetime64.* must hold such times"),
    ],
)
def test_what_cannot_be_given_is_refused(encoder, given, message):
    with pytest.raises(InvalidTableError, match=message):
        encoder.encode_given(given)


def test_at_most_twenty_known_columns_are_listed():
    encoder = TableEncoder().fit(pd.DataFrame(np.zeros((2, 25)), columns=[f"c{k}" for k in range(25)]))
    with pytest.raises(InvalidTableError, match=r"unknown: 'x'\. Known are 'c0', .*'c19', \.\.\.\.$"):
        encoder.encode_given(pd.DataFrame({"x": [1.0]}))


def test_an_encoder_that_is_not_fitted_encodes_nothing():
    with pytest.raises(ValueError, match="not fitted yet; call fit"):
        TableEncoder().encode_given(TABLE)
