"""Tables as people have them: mixed, short, wide, constant, extreme."""

import warnings

import numpy as np
import pandas as pd
import pytest

from flowdetect.exceptions import InvalidTableError, TableWarning


def check_all(estimator, X):
    """Fit, and see that everything the estimator says about the table is finite."""
    estimator.fit(X)
    assert np.isfinite(estimator.score_samples(X)).all()
    if hasattr(estimator, "offset_"):
        assert np.isfinite(estimator.offset_)
        assert np.isfinite(estimator.training_scores_).all()
        assert np.isfinite(estimator.explain(X[:2])).all(axis=None)
    else:
        drawn = estimator.sample(3, random_state=0)
        assert drawn.shape == (3, X.shape[1])
        assert np.isfinite(estimator.score_samples(drawn)).all()
    return estimator


# --- columns -----------------------------------------------------------------------------------------------


def test_unseen_categories_are_unlikely_not_an_error(fitted, new_rows):
    known = fitted.score_samples(new_rows)
    unseen = new_rows.assign(colour=["green and blue"] * 30)
    scores = fitted.score_samples(unseen)
    assert np.isfinite(scores).all()
    assert (scores < known).all()


def test_extra_columns_are_ignored_with_one_warning(fitted, new_rows, monkeypatch):
    monkeypatch.setattr("flowdetect.estimators._rows._MAX_CHUNK_ROWS", 7)
    scores = fitted.score_samples(new_rows)
    with pytest.warns(TableWarning, match="not there in training; they are ignored: 'price'") as caught:
        with_more = fitted.score_samples(new_rows.assign(price=1.0))
    assert len(caught) == 1
    assert np.array_equal(with_more, scores)


def test_columns_in_another_order_are_put_right(fitted, new_rows):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(
            fitted.score_samples(new_rows[new_rows.columns[::-1]]), fitted.score_samples(new_rows)
        )


def test_missing_columns_are_all_named(fitted, new_rows):
    with pytest.raises(InvalidTableError, match="missing: 'size', 'day'.*unknown from training: 'dia'"):
        fitted.score_samples(new_rows.rename(columns={"day": "dia"}).drop(columns="size"))


def test_missing_values_where_none_were_are_refused(fitted, new_rows):
    with pytest.raises(InvalidTableError, match=r"NaN came in: 'size' \(30 row\(s\)\)\. Fill or drop"):
        fitted.score_samples(new_rows.assign(size=np.nan))


def test_missing_values_where_some_were_are_scored(fitted, new_rows):
    scores = fitted.score_samples(new_rows.assign(weight=np.nan, colour=None))
    assert np.isfinite(scores).all()


def test_text_in_a_numeric_column(fitted, new_rows):
    with pytest.raises(InvalidTableError, match="'size' was numeric in training and must hold numbers"):
        fitted.score_samples(new_rows.assign(size="big"))


def test_names_of_columns(fitted, table, quick, name, blob):
    assert fitted.feature_names_in_.tolist() == list(table.columns)
    assert fitted.n_features_in_ == 6
    estimator = quick(name, max_steps=1).fit(table)
    estimator.fit(pd.DataFrame(blob))  # names that are numbers are no feature names
    assert not hasattr(estimator, "feature_names_in_")
    assert estimator.n_features_in_ == 3
    assert not hasattr(estimator.fit(table).fit(blob), "feature_names_in_")


def test_an_array_where_a_table_was_fitted_warns(quick, name, blob):
    frame = pd.DataFrame(blob, columns=["a", "b", "c"])
    estimator = quick(name).fit(frame)
    with pytest.warns(UserWarning, match="X does not have valid feature names"):
        scores = estimator.score_samples(blob)
    assert np.array_equal(scores, estimator.score_samples(frame))


@pytest.mark.parametrize("convert", [np.ndarray.tolist, np.asfortranarray, lambda X: X.astype(object)])
def test_the_container_does_not_matter(quick, name, blob, convert):
    estimator = quick(name).fit(convert(blob))
    assert np.array_equal(estimator.score_samples(convert(blob)), quick(name).fit(blob).score_samples(blob))


def test_float32_rows_score_almost_as_float64_ones(quick, name, blob):
    estimator = quick(name).fit(blob.astype(np.float32))
    assert estimator.score_samples(blob) == pytest.approx(
        estimator.score_samples(blob.astype(np.float32)), abs=1e-3
    )


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8, bool])
def test_whole_numbers_in_an_array(quick, name, dtype):
    X = np.random.default_rng(0).integers(0, 30, size=(60, 2)).astype(dtype)
    estimator = check_all(quick(name), X)
    assert np.array_equal(estimator.score_samples(X.astype(float)), estimator.score_samples(X))


# --- sizes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_rows", [2, 3, 10])
def test_few_rows(quick, name, blob, table, n_rows):
    check_all(quick(name), blob[:n_rows])
    quick(name).fit(table[:n_rows]).score_samples(table[:n_rows])


@pytest.mark.parametrize("column", ["size", "colour", "count", "old"])
def test_one_column(quick, name, table, column):
    X = table[[column]]
    estimator = quick(name).fit(X)
    assert np.isfinite(estimator.score_samples(X)).all()


@pytest.mark.parametrize("n_rows", [60, 5])
def test_many_columns(quick, name, n_rows):
    X = np.random.default_rng(0).normal(size=(n_rows, 500))
    few = {"n_models": 1} if name == "detector" else {}
    estimator = quick(name, max_steps=3, n_bins=4, **few).fit(X)
    assert np.isfinite(estimator.score_samples(X)).all()


# --- values ------------------------------------------------------------------------------------------------


def test_constant_and_duplicate_columns(quick, name, blob):
    X = np.column_stack([blob, np.full(len(blob), 7.0), blob[:, 0]])
    estimator = check_all(quick(name), X)
    odd = X[:1].copy()
    odd[0, 3] = 8.0
    assert estimator.score_samples(odd) < estimator.score_samples(X[:1])
    odd = X[:1].copy()
    odd[0, 4] += 1.0
    assert estimator.score_samples(odd) < estimator.score_samples(X[:1])


def test_a_table_without_any_variation(quick, name):
    X = np.ones((30, 3))
    estimator = check_all(quick(name), X)
    assert estimator.score_samples(X) == pytest.approx(0.0, abs=0.2)
    assert (estimator.score_samples([[1.0, 1.0, 2.0]]) < estimator.score_samples(X).min()).all()
    if name == "detector":
        assert (estimator.predict(X) == 1).all()


def test_all_rows_the_same(quick, name, table):
    X = pd.concat([table.iloc[[0]]] * 40, ignore_index=True)
    estimator = quick(name).fit(X)
    assert np.isfinite(estimator.score_samples(X)).all()
    assert np.ptp(estimator.score_samples(X)) == pytest.approx(0.0, abs=1e-9)


def test_an_empty_column(quick, name, blob):
    X = np.column_stack([blob, np.full(len(blob), np.nan)])
    estimator = quick(name).fit(X)
    assert np.isfinite(estimator.score_samples(X)).all()
    filled = X[:5].copy()
    filled[:, 3] = 1.0
    assert (estimator.score_samples(filled) < estimator.score_samples(X[:5])).all()


@pytest.mark.parametrize("huge", [1e8, 1e30, 1e300, np.finfo(float).max])
def test_huge_values_have_finite_scores(quick, name, blob, huge):
    estimator = quick(name).fit(blob)
    X = blob[:3].copy()
    X[0, 0], X[1, 1], X[2, :] = huge, -huge, [huge, -huge, huge]
    scores = estimator.score_samples(X)
    assert np.isfinite(scores).all()
    assert (scores < estimator.score_samples(blob).min()).all()


@pytest.mark.parametrize("huge", [1e30, 1e300])
def test_huge_values_in_training(quick, name, blob, huge):
    X = blob.copy()
    X[0, 0], X[1, 2] = huge, -huge
    estimator = check_all(quick(name), X)
    assert np.argsort(estimator.score_samples(X))[:2].tolist() in ([0, 1], [1, 0])


def test_tiny_and_offset_values(quick, name, blob):
    check_all(quick(name), blob * 1e-300)
    check_all(quick(name), blob + 1e12)


# --- what cannot be used -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        (np.empty((0, 2)), InvalidTableError, r"0 sample\(s\) .* minimum of 2 .* Pass a table with more"),
        (np.ones((1, 2)), InvalidTableError, r"1 sample\(s\) \(shape=\(1, 2\)\) while a minimum of 2"),
        (np.empty((5, 0)), InvalidTableError, r"0 feature\(s\) .* Pass a table with more features"),
        (pd.DataFrame({"a": [1.0]}), InvalidTableError, r"1 sample\(s\) .* minimum of 2"),
        (pd.DataFrame(index=range(5)), InvalidTableError, r"0 feature\(s\)"),
        ([[1.0, np.inf], [0.0, 1.0]], InvalidTableError, r"must be finite or missing; column 1 holds inf"),
        (pd.DataFrame({"a": [1.0, -np.inf]}), InvalidTableError, "column 'a' holds infinity .* Replace it"),
        ([["1", "b"], ["2", "c"]], InvalidTableError, "must hold numbers; got dtype <U1 .* pass a DataFrame"),
        (np.array([[1, "b"], [2, "c"]], dtype=object), InvalidTableError, "got dtype object with text in it"),
        (np.ones(5), ValueError, "Expected 2D array, got 1D array"),
        (np.ones((5, 2, 2)), ValueError, "Found array with dim 3"),
        (pd.Series([1.0, 2.0]), ValueError, "Expected a 2-dimensional container"),
        (None, ValueError, "Expected 2D array"),
        (np.ones((5, 2)) * 1j, ValueError, "Complex data not supported"),
        (pd.DataFrame([[1, 2], [3, 4]], columns=["a", "a"]), InvalidTableError, "unique; repeated: 'a'"),
    ],
)
def test_tables_that_cannot_be_fitted(quick, name, X, error, message):
    with pytest.raises(error, match=message):
        quick(name).fit(X)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.ones((4, 2)), "X has 2 features, but Flow.* is expecting 3 features"),
        (np.empty((0, 3)), r"0 sample\(s\) .* minimum of 1"),
        ([[1.0, 2.0, np.nan]], r"had no missing values in training .* 2 \(1 row\(s\)\)"),
        ([[1.0, 2.0, np.inf]], r"must be finite or missing"),
        ([["a", "b", "c"]], "must hold numbers; got dtype <U1"),
    ],
)
def test_tables_that_cannot_be_scored(quick, name, blob, X, message):
    with pytest.raises(ValueError, match=message):
        quick(name, max_steps=1).fit(blob).score_samples(X)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"kind": "x"}, r"kind must be one of \('coupling', 'autoregressive', 'iaf'\); got 'x'"),
        ({"n_layers": 0}, "n_layers must be a whole number of at least 1; got 0"),
        ({"hidden_features": 2.5}, "hidden_features must be a whole number of at least 1; got 2.5"),
        ({"n_bins": 1}, r"n_bins must be a whole number, within 2\.\.500; got 1"),
        ({"max_steps": 0}, "max_steps must be at least 1; got 0"),
        ({"max_steps": 2.5}, "max_steps must be a whole number; got 2.5"),
        ({"batch_size": 0}, "batch_size must be at least 1; got 0"),
        ({"learning_rate": -1.0}, "learning_rate must be positive and finite; got -1.0"),
        ({"validation_fraction": 1.0}, r"validation_fraction must lie in \[0, 1\); got 1.0"),
        ({"patience": 0}, "patience must be at least 1; got 0"),
        ({"time_budget": 0}, "time_budget must be positive and finite; got 0"),
        ({"device": "gpu!"}, "device must be 'auto' or a name that torch knows; got 'gpu!'"),
        ({"random_state": -1}, "random_state must be None, a non-negative whole number.*got -1"),
    ],
)
def test_parameters_out_of_range(quick, name, blob, parameters, message):
    with pytest.raises(ValueError, match=message):
        quick(name, **parameters).fit(blob)


def test_dropout_out_of_range(quick, blob):
    with pytest.raises(ValueError, match=r"dropout must lie in \[0, 1\); got 1.5"):
        quick("density", dropout=1.5).fit(blob)
