import numpy as np
import pandas as pd
import pytest

from flowdetect.exceptions import InvalidTableError
from flowdetect.preprocessing import TableEncoder


def table_with(values, **options):
    table = pd.DataFrame({"x": np.asarray(values, dtype=float)})
    return TableEncoder(**options).fit(table), table


def column(values):
    return pd.DataFrame({"x": np.asarray(values, dtype=float)})


def test_missing_and_atoms_gate_the_value():
    rng = np.random.default_rng(0)
    values = np.r_[rng.normal(size=200), np.zeros(50), np.full(40, 9.5), np.full(30, np.nan)]
    encoder, table = table_with(values)
    assert encoder.layout_.cardinalities == (4,)
    assert encoder.layout_.gates == (0,)
    matrix, _ = encoder.encode(table)
    expected = np.r_[np.zeros(200), np.full(50, 2), np.full(40, 3), np.ones(30)]
    np.testing.assert_array_equal(matrix[:, 1], expected)
    np.testing.assert_array_equal(matrix[expected > 0, 0], 0.0)
    assert (matrix[:200, 0] != 0).all()


def test_atoms_alone_need_no_code_for_missing():
    encoder, table = table_with(np.r_[np.random.default_rng(0).normal(size=200), np.zeros(50)])
    assert encoder.layout_.cardinalities == (2,)
    pd.testing.assert_frame_equal(encoder.decode(np.array([[0.0, 1.0]])), column([0.0]))
    with pytest.raises(InvalidTableError, match="none later"):
        encoder.encode(column([np.nan]))
    encoder, _ = table_with(table["x"], atoms=False)
    assert encoder.layout_.cardinalities == ()


def test_the_value_beside_a_special_code_does_not_matter():
    encoder, _ = table_with([*np.random.default_rng(0).normal(size=50), np.nan])
    assert encoder.decode(np.array([[123.0, 1.0]]))["x"].isna().all()


def test_missing_values_never_seen_in_training_are_refused_for_all_columns_at_once():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"a": rng.normal(size=40), "b": rng.integers(0, 2, 40), "c": rng.normal(size=40)})
    encoder = TableEncoder().fit(table)
    holes = table.astype(float)
    holes.loc[:4, "a"] = np.nan
    holes.loc[:1, "b"] = np.nan
    with pytest.raises(InvalidTableError, match=r"'a' \(5 row\(s\)\), 'b' \(2 row\(s\)\)\. Fill or drop"):
        encoder.encode(holes)


def test_missing_always_answers_where_training_had_none():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"a": rng.normal(size=40), "b": np.ones(40), "t": ["x", "y"] * 20})
    encoder = TableEncoder(missing="always").fit(table)
    assert encoder.layout_.cardinalities == (2, 3, 4)
    holes = pd.DataFrame({"a": [np.nan], "b": [np.nan], "t": [None]}, index=[5])
    matrix, log_det = encoder.encode(holes)
    np.testing.assert_array_equal(matrix, [[0.0, 1.0, 1.0, 2.0]])
    assert np.isfinite(log_det).all()
    assert encoder.decode(matrix).isna().all(axis=None)
    pd.testing.assert_frame_equal(encoder.decode(encoder.encode(table)[0]), table)


def test_log_det_carries_the_scale_for_missing_rows_and_atoms_too():
    rng = np.random.default_rng(0)
    values = np.r_[rng.standard_cauchy(300), np.zeros(50), np.full(30, np.nan)]
    encoder, table = table_with(values)
    scale = encoder.schema_.columns[0].values
    assert scale.tail is not None
    matrix, log_det = encoder.encode(table)
    np.testing.assert_allclose(log_det[300:], -np.log(scale.scale))
    inside = np.abs(matrix[:300, 0]) <= scale.tail
    np.testing.assert_allclose(log_det[:300][inside], -np.log(scale.scale))
    assert (log_det[:300][~inside] < -np.log(scale.scale)).all()


def test_log_det_of_a_matrix_is_that_of_encode_and_ignores_what_a_gate_hides():
    values = np.r_[np.random.default_rng(0).standard_cauchy(300), np.full(30, np.nan)]
    encoder, table = table_with(values)
    matrix, log_det = encoder.encode(table)
    np.testing.assert_array_equal(encoder.log_det(matrix), log_det)
    matrix[300:, 0] = 77.0
    np.testing.assert_array_equal(encoder.log_det(matrix), log_det)
