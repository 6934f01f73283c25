import numpy as np
import pandas as pd
import pytest

from flowdetect.exceptions import ConfigurationError, InvalidTableError
from flowdetect.plotting._plane import (
    as_array,
    as_frame,
    axis_values,
    column_positions,
    numbers,
    plane_rows,
    snapped,
)


@pytest.fixture
def frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "a": [1.5, 2.5, 4.0, np.nan],
            "b": pd.array([1, 2, 3, None], dtype="Int64"),
            "count": [4, 1, 3, 2],
            "label": pd.Categorical(["x", "y", "y", "x"], categories=["z", "y", "x"]),
            "text": ["p", "q", "q", None],
            "mostly_missing": [np.nan, np.nan, np.nan, 1.0],
            "flag": [True, True, False, True],
        }
    )


def test_the_plane_holds_what_is_typical(frame: pd.DataFrame) -> None:
    rows = plane_rows(frame, (0, 1), (np.array([0.0, 1.0, 2.0]), np.array([5.0, 6.0])), None)
    assert rows["a"].tolist() == [0.0, 1.0, 2.0, 0.0, 1.0, 2.0]
    assert rows["b"].tolist() == [5.0, 5.0, 5.0, 6.0, 6.0, 6.0]
    assert set(rows["count"]) == {2}  # the lower median: an entry that there is
    assert set(rows["label"]) == {"x"}
    assert set(rows["text"]) == {"q"}
    assert rows["mostly_missing"].isna().all()
    assert rows["flag"].all()
    held = ["count", "label", "text", "mostly_missing", "flag"]
    pd.testing.assert_series_equal(rows[held].dtypes, frame[held].dtypes)


def test_the_plane_holds_the_content_of_a_row(frame: pd.DataFrame) -> None:
    rows = plane_rows(frame, (1, 0), (np.array([0.0]), np.array([1.0])), 3)
    assert rows.columns.tolist() == frame.columns.tolist()
    assert rows["b"].tolist() == [0.0]
    assert rows["a"].tolist() == [1.0]
    assert rows["count"].tolist() == [2]
    assert rows["text"].isna().all()


def test_arrays_stay_arrays() -> None:
    assert as_array(as_frame([[1, 2], [3, 4]])).dtype == np.float64
    objects = np.array([[1.0, "x"], [None, "y"]], dtype=object)
    assert as_array(as_frame(objects)).dtype == object


def test_numbers_of_nullable_and_object_columns_are_read(frame: pd.DataFrame) -> None:
    assert np.array_equal(numbers(frame, 1), [1.0, 2.0, 3.0, np.nan], equal_nan=True)
    objects = as_frame(np.array([[1, "x"], [None, "y"]], dtype=object))
    assert np.array_equal(numbers(objects, 0), [1.0, np.nan], equal_nan=True)


def test_the_axis_goes_over_the_bulk() -> None:
    axis = axis_values(np.append(np.linspace(0.0, 1.0, 500), [1e6, np.nan]), 11)
    assert len(axis) == 11
    assert axis[[0, -1]] == pytest.approx([-0.05, 1.05])


def test_the_axis_of_a_column_with_one_number_has_a_width() -> None:
    assert axis_values(np.full(5, 3.0), 3).tolist() == [2.5, 3.0, 3.5]


def test_the_axis_of_an_almost_constant_column_holds_all_numbers() -> None:
    axis = axis_values(np.append(np.zeros(1000), 10.0), 5)
    assert axis[0] < 0.0
    assert axis[-1] > 10.0


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([2007.0, 2008.0, 2010.0, np.nan], [2007.0, 2007.0, 2008.0, 2010.0]),  # few: the nearest
        (np.arange(1900.0, 2100.0), [2006.0, 2007.0, 2008.0, 2011.0]),  # whole: rounded
        (np.linspace(-1.0, 1.0, 101), [2006.2, 2007.4, 2008.4, 2010.6]),
    ],
)
def test_the_axis_keeps_to_numbers_that_the_column_can_hold(
    values: np.ndarray, expected: list[float]
) -> None:
    axis = np.array([2006.2, 2007.4, 2008.4, 2010.6])
    assert snapped(axis, np.asarray(values)).tolist() == expected


def test_columns_without_negative_numbers_are_not_asked_for_them() -> None:
    assert snapped(np.array([-0.5, 0.5]), np.linspace(0.0, 1.0, 101)).tolist() == [0.0, 0.5]


def test_columns_are_found_by_name_or_position(frame: pd.DataFrame) -> None:
    assert column_positions(["count", "a"], frame) == (2, 0)
    assert column_positions((1, 0), as_frame(np.zeros((2, 2)))) == (1, 0)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ("ab", r"columns must be two columns of X, such as \('a', 'flag'\); got 'ab'"),
        (("a",), r"columns must be two columns of X"),
        (("a", "a"), r"columns must be two different columns of X; got \('a', 'a'\)"),
        (("a", "zz"), r"columns must be columns of X; got 'zz', but X has 'a', 'b', 'count'"),
        (("a", 1), r"columns must be columns of X; got 1, but X has"),
        (("label", "a"), r"columns must hold numbers; column 'label' holds category: choose two numeric"),
        (("text", "a"), r"columns must hold numbers; column 'text' holds"),
        (("a", "flag"), r"columns must hold numbers; column 'flag' holds bool"),
    ],
)
def test_other_columns_are_refused(frame: pd.DataFrame, columns: object, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        column_positions(columns, frame)


def test_columns_without_numbers_are_refused() -> None:
    with pytest.raises(InvalidTableError, match="column 0 has no finite one: choose another"):
        numbers(as_frame(np.full((3, 2), np.nan)), 0)


@pytest.mark.parametrize("wrong", [np.zeros(3), np.zeros((0, 2)), 1.0])
def test_what_is_no_table_is_refused(wrong: object) -> None:
    with pytest.raises(InvalidTableError, match="X must be a table with rows and columns; got shape"):
        as_frame(wrong)
