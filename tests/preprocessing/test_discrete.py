import numpy as np
import pandas as pd
import pytest

from flowdetect.exceptions import TableWarning
from flowdetect.preprocessing import TableEncoder


def fit(column, **options):
    table = pd.DataFrame({"c": column})
    encoder = TableEncoder(**options).fit(table)
    return encoder, encoder.schema_.columns[0]


def codes(encoder, column):
    return encoder.encode(pd.DataFrame({"c": column}))[0][:, -1].tolist()


def decoded(encoder, *rows):
    return encoder.decode(np.array(rows, dtype=float).reshape(-1, 1))["c"].tolist()


def test_categories_have_codes_in_their_order_then_unseen():
    encoder, column = fit(["b", "a", "c", "a"])
    assert (column.kind, column.levels, column.cardinality) == ("categories", ("a", "b", "c"), 4)
    assert codes(encoder, ["c", "a", "unseen", None]) == [2, 0, 3, 3]


def test_missing_has_a_code_if_it_was_seen():
    encoder, column = fit(["b", None, "a"])
    assert column.cardinality == 4
    assert codes(encoder, ["a", "b", None, "unseen"]) == [0, 1, 2, 3]


def test_declared_order_holds_and_declared_categories_without_rows_are_unseen():
    encoder, column = fit(
        pd.Categorical(["low", "high"] * 3, categories=["low", "mid", "high"], ordered=True)
    )
    assert column.levels == ("low", "high")
    assert codes(encoder, pd.Categorical(["mid", "high"])) == [2, 1]
    assert encoder.decode(np.array([[0.0]]))["c"].cat.categories.tolist() == ["low", "mid", "high"]


def test_labels_of_different_types_are_ordered_and_told_apart():
    encoder, column = fit(pd.Series(["1", 1, (1,), 2.5, None] * 2, dtype=object))
    assert column.levels == (1, 2.5, "1", (1,))
    assert codes(encoder, pd.Series([1, "1", 1.0, "2.5"], dtype=object)) == [0, 2, 0, 5]


def test_code_of_anything_else_decodes_to_missing_or_to_the_most_frequent():
    encoder, _ = fit(["b", "a", "b"])
    assert pd.isna(decoded(encoder, 2)[0])
    encoder, column = fit(np.repeat([4, 2, 3], [20, 30, 10]))
    assert (column.kind, column.levels) == ("levels", (2.0, 3.0, 4.0))
    assert decoded(encoder, 0, 1, 2, 3) == [2, 3, 4, 2]
    encoder, _ = fit([True, True, False])
    assert decoded(encoder, 0, 1, 2) == [False, True, True]
    encoder, _ = fit([2.0, 3.0, np.nan] * 20)
    assert pd.isna(decoded(encoder, 2, 3)).all()


def test_where_the_dtype_has_no_missing_value_anything_else_is_the_most_frequent():
    text = TableEncoder().fit(np.array([["b"], ["a"], ["b"]]))
    np.testing.assert_array_equal(text.decode(np.array([[0.0], [2.0]])), [["a"], ["b"]])
    encoder, column = fit(pd.arrays.IntervalArray.from_tuples([(2, 3), (0, 1), (2, 3)]))
    assert decoded(encoder, column.cardinality - 1) == [pd.Interval(2, 3)]


def test_sampled_codes_outside_of_their_range_are_clipped():
    encoder, _ = fit(["b", "a"])
    assert decoded(encoder, -3, 1.2)[:2] == ["a", "b"]


@pytest.mark.parametrize("values", [[7] * 5, [0.1] * 5, ["x"] * 5, [True] * 5, [pd.Timestamp("2020")] * 5])
def test_constant(values):
    encoder, column = fit(values)
    assert (column.kind, column.cardinality) == ("constant", 2)
    assert encoder.layout_.n_values == 0
    assert codes(encoder, values) == [0] * 5
    assert decoded(encoder, 0) == values[:1]


def test_constant_notices_anything_else():
    encoder, _ = fit([7] * 5)
    assert codes(encoder, [7, 8, -1e300]) == [0, 1, 1]


@pytest.mark.parametrize(("empty", "present"), [(np.nan, 3.0), (None, "x"), (pd.NaT, pd.Timestamp("2020"))])
def test_all_missing(empty, present):
    encoder, column = fit([empty] * 5)
    assert (column.kind, column.cardinality) == ("empty", 2)
    assert codes(encoder, [empty, present]) == [0, 1]


def test_few_whole_numbers_are_codes_and_others_unseen():
    encoder, column = fit([1, 2, 3] * 10)
    assert column.kind == "levels"
    assert codes(encoder, [3, 1, 9]) == [2, 0, 3]
    assert codes(encoder, [1.0, 1.5, 2.0]) == [0, 3, 1]


def test_bool_columns_may_come_with_missing_entries():
    encoder, _ = fit([True, False] * 5)
    assert codes(encoder, pd.Series([True, None, False], dtype=object)) == [1, 2, 0]


def test_rare_categories_share_a_code():
    labels = ["often"] * 9 + ["twice"] * 2 + [f"once {k}" for k in range(5)]
    with pytest.warns(
        TableWarning, match="'c' has more than max_categories=3 categories; 5 rare ones share one"
    ):
        encoder, column = fit(labels, max_categories=3)
    assert column.levels == ("often", "twice")
    assert codes(encoder, ["twice", "once 3", "unseen"]) == [1, 2, 2]
    assert pd.isna(decoded(encoder, 2)[0])


def test_identifiers_keep_one_code_and_the_rest():
    with pytest.warns(TableWarning, match="only identifies rows"):
        encoder, column = fit([f"id {k}" for k in range(1500)])
    assert column.cardinality == 2
    assert codes(encoder, ["id 0", "id 77"]) == [0, 1]
