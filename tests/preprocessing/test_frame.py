import numpy as np
import pandas as pd
import pytest

from flowdetect.exceptions import InvalidTableError, TableWarning
from flowdetect.preprocessing import TableEncoder


@pytest.fixture
def table():
    rng = np.random.default_rng(0)
    return pd.DataFrame({"a": rng.normal(size=30), "b": rng.choice(["x", "y"], 30), "c": rng.normal(size=30)})


@pytest.fixture
def encoder(table):
    return TableEncoder().fit(table)


def test_reordered_columns_are_put_right(encoder, table):
    np.testing.assert_array_equal(encoder.encode(table[["c", "a", "b"]])[0], encoder.encode(table)[0])


def test_extra_columns_are_ignored_with_one_warning_that_names_them_all(encoder, table):
    wider = table.assign(first=1, second=2)[["second", "c", "b", "first", "a"]]
    with pytest.warns(TableWarning, match="ignored: 'second', 'first'") as caught:
        matrix, _ = encoder.encode(wider)
    assert len(caught) == 1
    np.testing.assert_array_equal(matrix, encoder.encode(table)[0])


def test_missing_and_extra_columns_are_named_in_one_message(encoder, table):
    with pytest.raises(
        InvalidTableError, match="missing: 'a', 'b'.*unknown from training: 'd'.*Add or rename"
    ):
        encoder.encode(table[["c"]].assign(d=1))


def test_arrays_after_a_frame_go_by_position(encoder, table):
    np.testing.assert_array_equal(encoder.encode(table.to_numpy(dtype=object))[0], encoder.encode(table)[0])
    with pytest.raises(InvalidTableError, match="X has 2 features, but .* is expecting 3 features as input"):
        encoder.encode(table.to_numpy(dtype=object)[:, :2])


def test_frames_after_an_array_go_by_position():
    array = np.random.default_rng(0).normal(size=(20, 2))
    encoder = TableEncoder().fit(array)
    np.testing.assert_array_equal(
        encoder.encode(pd.DataFrame(array, columns=["p", "q"]))[0], encoder.encode(array)[0]
    )
    with pytest.raises(InvalidTableError, match="X has 1 features, but .* is expecting 2 features as input"):
        encoder.encode(pd.DataFrame(array[:, :1]))


class Sparse:
    nnz = 0

    def toarray(self):
        return np.zeros((2, 2))


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.arange(3.0), r"Expected 2D array, got 1D array of shape \(3,\).*Reshape your data"),
        (pd.Series([1.0, 2.0]), r"Reshape your data.*to_frame"),
        (3.0, "Expected 2D array, got 0D"),
        (np.zeros((2, 2, 2)), "Expected 2D array, got 3D"),
        (
            np.zeros((0, 2)),
            r"Found array with 0 sample\(s\) \(shape=\(0, 2\)\) while a minimum of 1 is required",
        ),
        (np.zeros((2, 0)), r"0 feature\(s\) \(shape=\(2, 0\)\) while a minimum of 1 is required"),
        (np.zeros((2, 2), dtype=complex), "Complex data not supported"),
        (pd.DataFrame({"c": [1j, 2.0]}), "column 'c' is complex"),
        (Sparse(), "X must be dense; got a sparse Sparse.*toarray"),
        (pd.DataFrame(np.zeros((2, 3)), columns=["a", "b", "a"]), "must be unique; repeated: 'a'. Rename"),
        (
            pd.DataFrame(np.zeros((2, 1)), columns=pd.MultiIndex.from_tuples([("a", "b")])),
            "MultiIndex with 2. Flatten",
        ),
    ],
)
def test_what_is_no_table_is_refused(X, message):
    with pytest.raises(InvalidTableError, match=message):
        TableEncoder().fit(X)


@pytest.mark.parametrize(
    "names", [["a", "b"], [0, 1], [("a", 1), ("b", 2)], [1, "b"], [2.5, pd.Timestamp("2020")]]
)
def test_names_come_back_and_only_text_makes_feature_names(names):
    values = np.random.default_rng(0).normal(size=(20, 2))
    table = pd.DataFrame(values, columns=pd.Index(names, tupleize_cols=False))
    encoder = TableEncoder().fit(table)
    pd.testing.assert_frame_equal(encoder.decode(encoder.encode(table)[0]), table)
    assert hasattr(encoder, "feature_names_in_") == (names == ["a", "b"])
    assert encoder.n_features_in_ == 2


def test_fitting_again_on_an_array_forgets_the_names(encoder, table):
    encoder.fit(table[["a", "c"]].to_numpy())
    assert not hasattr(encoder, "feature_names_in_")


def test_no_rows_are_encoded_as_no_rows(encoder, table):
    matrix, log_det = encoder.encode(table[:0])
    assert matrix.shape == (0, encoder.layout_.n_columns)
    assert log_det.shape == (0,)
    assert list(encoder.decode(matrix).columns) == ["a", "b", "c"]
