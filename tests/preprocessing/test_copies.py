import numpy as np
import pandas as pd
import pytest

from flowdetect.exceptions import InvalidTableError
from flowdetect.preprocessing import TableEncoder

rng = np.random.default_rng(0)
ORIGINALS = {
    "float": pd.Series(rng.normal(size=60)),
    "float with holes": pd.Series(rng.normal(size=60)).where(rng.random(60) < 0.8),
    "int": pd.Series(rng.integers(0, 1000, 60)),
    "text": pd.Series(rng.choice(["a", "b", None], 60)),
    "time": pd.Series(pd.date_range("2020", periods=60)),
    "bool": pd.Series(rng.random(60) < 0.5),
}


@pytest.mark.parametrize("name", ORIGINALS)
def test_a_column_that_repeats_another_is_a_copy(name):
    table = pd.DataFrame({"first": ORIGINALS[name], "between": np.arange(60.0), "again": ORIGINALS[name]})
    encoder = TableEncoder().fit(table)
    assert encoder.schema_.columns[2].kind == "copy"
    assert encoder.schema_.columns[2].copy_of == 0
    assert encoder.layout_.cardinalities[-1] == 2
    matrix, _ = encoder.encode(table)
    np.testing.assert_array_equal(matrix[:, -1], 0)
    pd.testing.assert_frame_equal(encoder.decode(matrix), table)
    changed = table.copy()
    changed.loc[3, "again"] = (
        changed.loc[changed["first"] != changed.loc[3, "first"], "again"].dropna().iloc[0]
    )
    expected = np.zeros(60)
    expected[3] = 1
    np.testing.assert_array_equal(encoder.encode(changed)[0][:, -1], expected)


def test_equal_numbers_of_another_dtype_are_a_copy_in_their_own_dtype():
    table = pd.DataFrame(
        {"a": np.arange(50), "b": np.arange(50.0), "c": pd.array(np.arange(50), dtype="Int16")}
    )
    encoder = TableEncoder().fit(table)
    assert [column.copy_of for column in encoder.schema_.columns] == [None, 0, 0]
    pd.testing.assert_frame_equal(encoder.decode(encoder.encode(table)[0]), table)


def test_other_columns_are_no_copies():
    table = pd.DataFrame({"a": np.arange(50), "b": np.r_[np.arange(49), 7], "one": 1, "also": 1})
    table["bool"] = np.arange(50) % 2 == 0
    table["number"] = table["bool"].astype(int)
    assert all(column.copy_of is None for column in TableEncoder().fit(table).schema_.columns)


def test_a_copy_refuses_missing_values_it_never_had():
    table = pd.DataFrame({"a": rng.normal(size=50)}).assign(b=lambda frame: frame["a"])
    encoder = TableEncoder().fit(table)
    with pytest.raises(InvalidTableError, match=r"NaN came in: 'b' \(50 row"):
        encoder.encode(table.assign(b=np.nan))
