"""`FlowAugmenter` as an over-sampler: `fit_resample`, and fitting on any table and any classes."""

import pickle

import numpy as np
import pandas as pd
import pytest
import sklearn
import torch
from imblearn.over_sampling import RandomOverSampler
from imblearn.pipeline import make_pipeline
from scipy import sparse
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.preprocessing import StandardScaler

from flowdetect import FlowAugmenter
from flowdetect.exceptions import ConfigurationError, ConstraintError, InvalidTableError


@pytest.fixture(scope="module")
def two(blob):
    """Classes of the blob: 100 rows of 0, 20 of 1."""
    return np.repeat([0, 1], [100, 20])


@pytest.fixture(scope="module")
def three(blob):
    """Classes of the blob: 80 rows of "a", 30 of "b", 10 of "c"."""
    return np.repeat(["a", "b", "c"], [80, 30, 10])


def counts(y):
    return pd.Series(y).value_counts().to_dict()


def assert_within(drawn, observed):
    """See that the numbers and times of each drawn column are within the range of the observed ones."""
    for name in drawn.columns if isinstance(drawn, pd.DataFrame) else range(drawn.shape[1]):
        new, old = (
            rows[name] if isinstance(rows, pd.DataFrame) else rows[:, name] for rows in (drawn, observed)
        )
        new, old = (pd.Series(entries).dropna() for entries in (new, old))
        assert len(old) or not len(new)
        if old.dtype.kind in "bifuMm":
            assert (new >= old.min()).all() and (new <= old.max()).all()
        else:
            assert set(new) <= set(old)


# --- how many rows of which classes ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ("auto", {"a": 80, "b": 80, "c": 80}),
        ("not majority", {"a": 80, "b": 80, "c": 80}),
        ("all", {"a": 80, "b": 80, "c": 80}),
        ("minority", {"a": 80, "b": 30, "c": 80}),
        ("not minority", {"a": 80, "b": 80, "c": 10}),
        ({"b": 45, "c": 11}, {"a": 80, "b": 45, "c": 11}),
        ({"a": 83, "b": 30, "c": 10}, {"a": 83, "b": 30, "c": 10}),
        (lambda y: {"c": 33}, {"a": 80, "b": 30, "c": 33}),
    ],
)
def test_strategies(quick, blob, three, strategy, expected):
    augmenter = quick("augmenter", sampling_strategy=strategy)
    X, y = augmenter.fit_resample(blob, three)
    assert counts(y) == expected
    assert len(X) == len(y)
    reference = RandomOverSampler(sampling_strategy=strategy, random_state=0)
    assert counts(reference.fit_resample(blob, three)[1]) == expected
    assert augmenter.sampling_strategy_ == reference.sampling_strategy_
    np.testing.assert_array_equal(X[:120], blob)
    np.testing.assert_array_equal(y[:120], three)
    np.testing.assert_array_equal(np.unique(y), augmenter.classes_)


@pytest.mark.parametrize(("ratio", "expected"), [(0.5, 50), (1.0, 100)])
def test_a_float_is_the_ratio_of_two_classes(quick, blob, two, ratio, expected):
    _, y = quick("augmenter", sampling_strategy=ratio).fit_resample(blob, two)
    assert counts(y) == {0: 100, 1: expected}


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        (0.5, "can be a float only when the type of target is binary"),
        ({"a": 3}, "should be greater or equal to the original number of samples"),
        ({"z": 3}, "z"),
        ("majority", "'sampling_strategy' parameter of FlowAugmenter must be"),
        (2.0, "'sampling_strategy' parameter of FlowAugmenter must be"),
    ],
)
def test_strategies_that_are_none(quick, blob, three, strategy, message):
    with pytest.raises(ValueError, match=message):
        quick("augmenter", sampling_strategy=strategy).fit_resample(blob, three)


def test_balanced_classes_get_no_rows(quick, table):
    y = np.tile([0, 1], 100)
    X_resampled, y_resampled = quick("augmenter").fit_resample(table, y)
    pd.testing.assert_frame_equal(X_resampled, table.reset_index(drop=True))
    np.testing.assert_array_equal(y_resampled, y)
    X_resampled.iloc[0, 0] = 9.0
    y_resampled[0] = 9
    assert table.iloc[0, 0] != 9.0 and y[0] == 0


def test_thirty_classes(quick, blob):
    y = np.r_[np.zeros(60, dtype=int), np.arange(60) % 30]
    X_resampled, y_resampled = quick("augmenter").fit_resample(blob, y)
    assert counts(y_resampled) == dict.fromkeys(range(30), 62)
    assert_within(X_resampled[120:], blob)


# --- what comes back ---------------------------------------------------------------------------------------


def test_a_frame_gives_a_frame(quick, table, labels):
    before = table.copy(deep=True)
    X, y = quick("augmenter").fit_resample(table, labels)
    pd.testing.assert_frame_equal(table, before)
    assert X.index.equals(pd.RangeIndex(420))
    assert list(X.columns) == list(table.columns)
    pd.testing.assert_frame_equal(X.head(200), table.reset_index(drop=True))
    np.testing.assert_array_equal(y[:200], labels)
    assert counts(y) == {"common": 140, "medium": 140, "rare": 140}
    drawn = X[200:]
    assert_within(drawn, table)
    assert drawn["size"].nunique() == 220
    assert drawn.drop(columns="weight").notna().all(axis=None)


def test_the_index_is_that_of_imbalanced_learn(quick, table, labels):
    given = table.set_axis([f"row {k}" for k in range(200)], axis=0)
    found, _ = quick("augmenter", max_steps=1).fit_resample(given, labels)
    expected, _ = RandomOverSampler(random_state=0).fit_resample(given, labels)
    assert found.index.equals(expected.index)
    assert (found.dtypes == expected.dtypes).all()


def test_extension_and_sparse_dtypes_come_back(quick, two):
    rng = np.random.default_rng(0)
    holes = rng.random(120) < 0.3
    table = pd.DataFrame(
        {
            "whole": pd.array(np.where(holes, None, rng.integers(0, 90, 120)), dtype="Int8"),
            "single": rng.normal(size=120).astype(np.float32),
            "small": rng.integers(-9, 9, 120).astype(np.int8),
            "flag": pd.array(np.where(holes, None, rng.random(120) < 0.5), dtype="boolean"),
            "text": pd.array(np.where(holes, None, rng.choice(["u", "v"], 120)), dtype="string"),
            "object": np.where(holes, None, rng.choice(["u", "v"], 120)).astype(object),
            "level": pd.Categorical(rng.choice(["lo", "hi"], 120), ["lo", "mid", "hi"], ordered=True),
            "zone": pd.Timestamp("2024-01-01", tz="UTC")
            + pd.to_timedelta(rng.integers(0, 99, 120), unit="h"),
            "span": pd.to_timedelta(rng.integers(0, 4000, 120), unit="s"),
            "sparse": pd.arrays.SparseArray(np.where(holes, rng.normal(size=120), 0.0), fill_value=0.0),
        },
        index=rng.permutation(120),
    )
    X, _ = quick("augmenter").fit_resample(table, two)
    assert (X.dtypes == table.dtypes).all()
    pd.testing.assert_frame_equal(X.head(120), table.reset_index(drop=True))
    drawn = X[120:]
    assert list(drawn["level"].cat.categories) == ["lo", "mid", "hi"]
    assert (drawn["level"] != "mid").all()
    assert drawn["sparse"].eq(0.0).any() and drawn["sparse"].ne(0.0).any()
    for name in ("whole", "flag", "text", "object"):
        assert drawn[name].isna().any() and drawn[name].notna().any()
    assert drawn[["single", "small", "level", "zone", "span", "sparse"]].notna().all(axis=None)


def test_a_frame_of_sparse_columns_alone(quick, blob, two):
    table = pd.DataFrame(np.where(blob > 0.5, blob, 0.0), columns=list("abc")).astype(
        pd.SparseDtype(float, 0.0)
    )
    X, _ = quick("augmenter").fit_resample(table, two)
    assert (X.dtypes == table.dtypes).all()
    pd.testing.assert_frame_equal(X.head(120), table)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64, np.int8, np.uint8, bool])
def test_an_array_gives_an_array_of_its_dtype(quick, blob, two, dtype):
    given = (20.0 * np.abs(blob) if dtype == np.uint8 else 20.0 * blob).astype(dtype)
    X, y = quick("augmenter").fit_resample(given, two)
    assert type(X) is np.ndarray and X.dtype == dtype and y.dtype == two.dtype
    np.testing.assert_array_equal(X[:120], given)
    assert_within(X[120:], given)


def test_lists_give_lists(quick, blob, three):
    X, y = quick("augmenter").fit_resample(blob.tolist(), three.tolist())
    expected, _ = quick("augmenter").fit_resample(blob, three)
    assert type(X) is type(y) is list
    assert X == expected.tolist()
    assert y == [*three.tolist(), *["b"] * 50, *["c"] * 70]


@pytest.mark.parametrize(
    ("classes", "dtype"),
    [
        (["no", "yes"], object),
        (["no", "a longer one"], "str"),
        (["no", "yes"], "string"),
        ([True, False], bool),
        ([True, False], "boolean"),
        ([7, -3], "Int64"),
        ([0.0, 1.0], np.float32),
        ([5, 2], np.int8),
    ],
)
def test_a_series_of_classes_gives_a_series(quick, blob, two, classes, dtype):
    y = pd.Series(np.array(classes, dtype=object)[two], name="class", dtype=dtype).set_axis(two)
    X_resampled, y_resampled = quick("augmenter", max_steps=1).fit_resample(pd.DataFrame(blob), y)
    expected = pd.concat([y, pd.Series([classes[1]] * 80, dtype=y.dtype)], ignore_index=True).rename("class")
    pd.testing.assert_series_equal(y_resampled, expected)
    assert len(X_resampled) == 200


def test_classes_of_a_categorical_series_keep_all_categories(quick, blob, three):
    dtype = pd.CategoricalDtype(["c", "never", "a", "b"], ordered=True)
    _, y = quick("augmenter", max_steps=1).fit_resample(blob, pd.Series(three, dtype=dtype))
    assert y.dtype == dtype
    assert counts(y) == {"a": 80, "b": 80, "c": 80, "never": 0}


def test_classes_in_a_frame_of_one_column(quick, blob, three):
    _, y = quick("augmenter", max_steps=1).fit_resample(blob, pd.DataFrame({"class": three}))
    assert list(y.columns) == ["class"]
    assert counts(y["class"]) == {"a": 80, "b": 80, "c": 80}


def test_one_column_for_each_class(quick, blob, three):
    one_hot = (three[:, None] == np.array(["a", "b", "c"])).astype(int)
    X, y = quick("augmenter").fit_resample(blob, one_hot)
    assert y.shape == (240, 3)
    assert (y.sum(axis=1) == 1).all()
    assert y.sum(axis=0).tolist() == [80, 80, 80]
    expected, _ = quick("augmenter").fit_resample(blob, np.argmax(one_hot, axis=1))
    np.testing.assert_array_equal(X, expected)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.zeros(120), "more than 1 class. Got 1 class"),
        (np.arange(119) % 2, "inconsistent numbers of samples"),
        (np.linspace(0.0, 1.0, 120), "Unknown label type"),
        (np.where(np.arange(120) < 9, np.nan, 1.0), "Input y contains NaN"),
        (np.array([None, "a"], dtype=object)[np.arange(120) % 2], "Unknown label type"),
        (np.ones((120, 3), dtype=int), "Multilabel and multioutput targets are not supported"),
        (None, "got None"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast")
def test_classes_that_cannot_be_resampled(quick, blob, y, message):
    with pytest.raises(ValueError, match=message):
        quick("augmenter").fit_resample(blob, y)


# --- rows of rare classes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("n_rare", [1, 2, 3, 5])
def test_classes_of_few_rows(quick, table, n_rare):
    y = np.repeat(["common", "rare"], [200 - n_rare, n_rare])
    X, y_resampled = quick("augmenter").fit_resample(table, y)
    drawn = X[200:]
    assert (y_resampled[200:] == "rare").all()
    assert len(drawn) == 200 - 2 * n_rare
    assert_within(drawn, table)
    assert drawn["size"].nunique() == len(drawn)
    assert drawn.drop(columns="weight").notna().all(axis=None)
    # They scatter around their rows, closer than all rows do.
    start = table["size"].tail(n_rare)
    nearest = np.abs(drawn["size"].to_numpy()[:, None] - start.to_numpy()).min(axis=1)
    anywhere = np.abs(table["size"].to_numpy()[:, None] - start.to_numpy()).min(axis=1)
    assert 0.0 < nearest.mean() < anywhere.mean()


def test_all_classes_of_one_row_each(quick, blob):
    X, y = quick("augmenter", sampling_strategy={0: 3, 1: 4}).fit_resample(blob[:2], [0, 1])
    assert counts(y) == {0: 3, 1: 4}
    assert_within(np.asarray(X), blob[:2])


def test_rows_drawn_for_a_class_look_like_it(quick):
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.normal(size=(200, 2)), rng.normal(size=(20, 2)) + [6.0, 0.0]])
    X_resampled, _ = quick("augmenter", max_steps=100).fit_resample(X, np.repeat([0, 1], [200, 20]))
    drawn = X_resampled[220:]
    assert (drawn[:, 0] > 3.0).mean() > 0.9
    assert drawn.mean(axis=0) == pytest.approx([6.0, 0.0], abs=1.0)


def test_the_class_filter_prefers_rows_that_look_like_their_class(quick):
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.normal(size=(150, 1)), rng.normal(size=(50, 1)) + 2.0])
    y = np.repeat([0, 1], [150, 50])
    means = {}
    for class_filter in (True, False):
        augmenter = quick("augmenter", class_filter=class_filter, max_steps=100)
        means[class_filter] = augmenter.fit_resample(X, y)[0][200:].mean()
    assert means[True] > means[False] + 0.1
    with pytest.raises(ConfigurationError, match="class_filter must be True or False; got 'yes'"):
        quick("augmenter", class_filter="yes").fit(X, y)


def test_constraints_hold_in_drawn_rows(quick, table, labels):
    augmenter = quick("augmenter", constraints=lambda rows: rows["size"] > 0.5)
    X, y = augmenter.fit_resample(table, labels)
    assert (X["size"][200:] > 0.5).all()
    pd.testing.assert_frame_equal(X.head(200), table.reset_index(drop=True))
    assert counts(y) == {"common": 140, "medium": 140, "rare": 140}


def test_constraints_that_cannot_be_met(quick, blob, two, monkeypatch):
    monkeypatch.setattr("flowdetect.estimators._drawing._MOST_ROUNDS", 6)
    augmenter = quick("augmenter", constraints=lambda rows: rows[:, 0] > 1e6, sampling_strategy={1: 22})
    with pytest.raises(ConstraintError, match="^2 of 2 rows did not fulfil the constraints in 6 draws each"):
        augmenter.fit_resample(blob, two)


def test_declared_bounds_hold_in_drawn_rows(quick, blob, two):
    X, _ = quick("augmenter", bounds={0: (-0.5, None)}).fit_resample(blob, two)
    assert (X[120:, 0] >= -0.5).all()
    np.testing.assert_array_equal(X[:120], blob)


# --- random streams ----------------------------------------------------------------------------------------


def test_the_same_random_state_gives_the_same_rows(quick, table, labels):
    one, same, other = (
        quick("augmenter", random_state=seed).fit_resample(table, labels)[0] for seed in (3, 3, 4)
    )
    pd.testing.assert_frame_equal(one, same)
    assert not one.equals(other)
    augmenter = quick("augmenter", random_state=3)
    augmenter.fit_resample(table, labels)
    pd.testing.assert_frame_equal(augmenter.fit_resample(table, labels)[0], one)


@pytest.mark.parametrize("make", [lambda: None, np.random.RandomState, np.random.default_rng])
def test_other_random_states(quick, blob, two, make):
    random_state = make() if make() is None else make(0)
    augmenter = quick("augmenter", random_state=random_state, max_steps=1)
    first, second = (augmenter.fit_resample(blob, two)[0] for _ in range(2))
    assert not np.array_equal(first[120:], second[120:])
    if random_state is not None:
        again = quick("augmenter", random_state=make(0), max_steps=1).fit_resample(blob, two)[0]
        np.testing.assert_array_equal(again, first)


def test_global_streams_of_numpy_and_torch_do_not_matter(quick, blob, two):
    numpy_stream, torch_stream = np.random.get_state(), torch.get_rng_state()
    one, _ = quick("augmenter", dropout=0.2).fit_resample(blob, two)
    np.random.seed(5)
    torch.default_generator.manual_seed(5)
    try:
        np.testing.assert_array_equal(quick("augmenter", dropout=0.2).fit_resample(blob, two)[0], one)
    finally:
        np.random.set_state(numpy_stream)
        torch.set_rng_state(torch_stream)


# --- an estimator among others -----------------------------------------------------------------------------


def test_a_clone_has_the_parameters_and_nothing_learnt(augmenter):
    copy = clone(augmenter)
    assert copy.get_params() == augmenter.get_params()
    assert not [name for name in vars(copy) if name.endswith("_")]


def test_a_pickled_augmenter_draws_the_same_rows(augmenter):
    copy = pickle.loads(pickle.dumps(augmenter))
    pd.testing.assert_frame_equal(copy.sample(5, random_state=0), augmenter.sample(5, random_state=0))
    given = {"conditions": {"colour": "red"}, "random_state": 0}
    pd.testing.assert_frame_equal(copy.sample(5, **given), augmenter.sample(5, **given))


def test_the_display_shows_what_is_not_the_default():
    assert repr(FlowAugmenter()) == "FlowAugmenter()"
    assert repr(FlowAugmenter(noise_scale=0.5)) == "FlowAugmenter(noise_scale=0.5)"


def test_fit_returns_itself_and_leaves_parameters_and_table_alone(quick, table, labels):
    augmenter = quick("augmenter", max_steps=1)
    parameters, before = augmenter.get_params(), table.copy(deep=True)
    assert augmenter.fit(table, labels) is augmenter
    assert augmenter.get_params() == parameters
    pd.testing.assert_frame_equal(table, before)


def test_what_is_learnt(quick, augmenter, table, labels, blob):
    assert augmenter.classes_.tolist() == ["common", "medium", "rare"]
    assert augmenter.feature_names_in_.tolist() == list(table.columns)
    assert augmenter.n_features_in_ == 6
    assert augmenter.training_result_.n_steps == 12
    assert next(augmenter.density_.parameters()).dtype == torch.float64
    other = quick("augmenter", max_steps=1).fit(table, labels)
    other.fit(blob)
    assert other.classes_ is None
    assert other.n_features_in_ == 3
    assert not hasattr(other, "feature_names_in_")


def test_fit_and_fit_resample_learn_the_same(quick, table, labels):
    fitted, resampled = quick("augmenter").fit(table, labels), quick("augmenter")
    resampled.fit_resample(table, labels)
    pd.testing.assert_frame_equal(fitted.sample(5, random_state=0), resampled.sample(5, random_state=0))


def test_a_fit_that_fails_leaves_nothing_to_draw_from(quick, table, labels):
    augmenter = quick("augmenter", max_steps=1).fit(table, labels)
    with pytest.raises(InvalidTableError, match="holds infinity"):
        augmenter.fit(table.assign(size=np.inf), labels)
    with pytest.raises(sklearn.exceptions.NotFittedError):
        augmenter.sample()


def test_in_a_pipeline(quick, blob, two):
    pipeline = make_pipeline(StandardScaler(), quick("augmenter"), LogisticRegression()).fit(blob, two)
    scaled = StandardScaler().fit_transform(blob)
    direct = LogisticRegression().fit(*quick("augmenter").fit_resample(scaled, two))
    np.testing.assert_allclose(pipeline.predict_proba(blob), direct.predict_proba(scaled))


def test_cross_validation_and_grid_search(quick, blob, two):
    X = blob + 1.5 * two[:, None]
    pipeline = make_pipeline(quick("augmenter"), LogisticRegression())
    scores = cross_val_score(pipeline, X, two, cv=2, scoring="roc_auc", error_score="raise")
    assert scores.shape == (2,) and (scores > 0.6).all()
    grid = {"flowaugmenter__noise_scale": [0.1, "auto"], "flowaugmenter__sampling_strategy": ["auto", 0.5]}
    search = GridSearchCV(pipeline, grid, cv=2, scoring="roc_auc", error_score="raise").fit(X, two)
    assert search.best_score_ > 0.6


def test_callbacks_see_an_augmenter_that_draws(quick, blob, two):
    pytest.importorskip("sklearn.callback")
    drawn = []

    class Drawing:
        def setup(self, estimator, context):
            pass

        def teardown(self, estimator, context):
            pass

        def on_fit_task_begin(self, estimator, context):
            pass

        def on_fit_task_end(self, estimator, context, *, X=None, fitted_estimator=None, metadata=None):
            if fitted_estimator is not None:
                drawn.append(fitted_estimator.sample(2, y=1, random_state=0))

    told = quick("augmenter").set_callbacks(Drawing()).fit(blob, two)
    assert len(drawn) >= 2
    np.testing.assert_array_equal(drawn[-1], told.sample(2, y=1, random_state=0))
    np.testing.assert_array_equal(drawn[-1], quick("augmenter").fit(blob, two).sample(2, y=1, random_state=0))


# --- tables as people have them ----------------------------------------------------------------------------


def check_all(augmenter, X, y):
    """Fit, resample, sample, and see that all drawn numbers are within the range of the table."""
    X_resampled, y_resampled = augmenter.fit_resample(X, y)
    n_new = len(y_resampled) - len(y)
    drawn = X_resampled.iloc[len(X) :] if isinstance(X, pd.DataFrame) else X_resampled[len(X) :]
    assert len(drawn) == n_new > 0
    assert_within(drawn, X)
    assert_within(augmenter.sample(9, random_state=0), X)
    return drawn


def test_constant_empty_and_duplicate_columns(quick, blob, two):
    table = pd.DataFrame(blob, columns=list("abc")).assign(
        same=7.0, empty=np.nan, again=lambda frame: frame["a"], text="x", nothing=None
    )
    drawn = check_all(quick("augmenter"), table, two)
    assert (drawn["same"] == 7.0).all() and (drawn["text"] == "x").all()
    assert drawn[["empty", "nothing"]].isna().all(axis=None)
    assert (drawn["again"] == drawn["a"]).all()


@pytest.mark.parametrize("X", [np.ones((60, 3)), np.full((60, 1), np.nan)], ids=["constant", "empty"])
def test_a_table_without_any_variation(quick, X):
    drawn = check_all(quick("augmenter"), X, np.repeat([0, 1], [50, 10]))
    np.testing.assert_array_equal(drawn, X[:40])


@pytest.mark.parametrize("column", ["size", "colour", "count", "old", "day", "weight"])
def test_one_column(quick, table, labels, column):
    drawn = check_all(quick("augmenter"), table[[column]], labels)
    assert drawn[column].nunique() > 1


def test_more_columns_than_rows(quick):
    X = np.random.default_rng(0).normal(size=(30, 60))
    drawn = check_all(quick("augmenter"), X, np.repeat([0, 1], [22, 8]))
    assert drawn.std(axis=0).min() > 0.0


@pytest.mark.parametrize("unit", [1e300, 1e-300, 1e30])
def test_huge_and_tiny_numbers(quick, blob, two, unit):
    drawn = check_all(quick("augmenter"), unit * blob, two)
    assert 0.2 < (drawn / unit).std() < 3.0


@pytest.mark.parametrize("huge", [1e30, 1e300])
def test_single_huge_numbers(quick, blob, two, huge):
    X = blob.copy()
    X[0, 0], X[1, 2] = huge, -huge
    drawn = check_all(quick("augmenter"), X, two)
    assert np.median(np.abs(drawn)) < 10.0


@pytest.mark.parametrize("names", [[0, 1, 2], [0, "a", 1.5], [("a", 1), ("b", 2), ("c", 3)]])
def test_names_of_columns_that_are_no_text(quick, blob, two, names):
    table = pd.DataFrame(blob, columns=pd.Index(names, tupleize_cols=False))
    drawn = check_all(quick("augmenter"), table, two)
    assert drawn.columns.equals(table.columns)


@pytest.mark.parametrize("n_rows", [3, 4, 6])
def test_tables_of_few_rows(quick, table, n_rows):
    y = np.r_[np.zeros(n_rows - 1, dtype=int), 1]
    drawn = check_all(quick("augmenter"), table[["size", "count", "day"]].head(n_rows), y)
    assert len(drawn) == n_rows - 2


def test_two_rows(quick, blob, table):
    drawn = quick("augmenter").fit(blob[:2]).sample(20, random_state=0)
    assert_within(drawn, blob[:2])
    assert len(np.unique(drawn, axis=0)) > 10
    mixed = quick("augmenter").fit(table.head(2)).sample(20, random_state=0)
    assert_within(mixed, table.head(2))


def test_missing_entries_in_an_array(quick, blob, two):
    X = np.where(np.random.default_rng(0).random(blob.shape) < [0.3, 0.3, 0.0], np.nan, blob)
    drawn = check_all(quick("augmenter"), X, two)
    assert np.isnan(drawn[:, :2]).any(axis=0).all()
    assert not np.isnan(drawn[:, 2]).any()


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        (np.ones((1, 2)), InvalidTableError, r"1 sample\(s\) \(shape=\(1, 2\)\) while a minimum of 2"),
        (np.empty((0, 2)), InvalidTableError, r"0 sample\(s\)"),
        (np.empty((5, 0)), InvalidTableError, r"0 feature\(s\)"),
        ([[1.0, np.inf], [0.0, 1.0]], InvalidTableError, "must be finite or missing; column 1 holds inf"),
        ([["1", "b"], ["2", "c"]], InvalidTableError, "must hold numbers; got dtype <U1 .* pass a DataFrame"),
        (pd.DataFrame([[1, 2], [3, 4]], columns=["a", "a"]), InvalidTableError, "unique; repeated: 'a'"),
        (np.ones(5), ValueError, "Expected 2D array, got 1D array"),
        (None, ValueError, "Expected 2D array"),
        (sparse.csr_matrix(np.eye(4)), TypeError, "[Ss]parse data was passed"),
    ],
)
def test_tables_that_cannot_be_fitted(quick, X, error, message):
    with pytest.raises(error, match=message):
        quick("augmenter").fit(X)


def test_classes_must_go_with_the_rows(quick, blob):
    with pytest.raises(InvalidTableError, match="y must have one class per row of X; got 100 for 120 rows"):
        quick("augmenter").fit(blob, np.zeros(100))
    with pytest.raises(ValueError, match="y should be a 1d array, got an array of shape"):
        quick("augmenter").fit(blob, np.zeros((120, 2), dtype=int))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"kind": "x"}, r"kind must be one of \('coupling', 'autoregressive', 'iaf'\); got 'x'"),
        ({"n_layers": 0}, "n_layers must be a whole number of at least 1; got 0"),
        ({"n_bins": 1}, r"n_bins must be a whole number, within 2\.\.500; got 1"),
        ({"dropout": 1.5}, r"dropout must lie in \[0, 1\); got 1.5"),
        ({"max_steps": 0}, "max_steps must be at least 1; got 0"),
        ({"time_budget": 0}, "time_budget must be positive and finite; got 0"),
        ({"random_state": -1}, "random_state must be None, a non-negative whole number.*got -1"),
    ],
)
def test_parameters_out_of_range(quick, blob, parameters, message):
    with pytest.raises(ValueError, match=message):
        quick("augmenter", **parameters).fit(blob)


@pytest.mark.parametrize("kind", ["coupling", "autoregressive"])
def test_kinds(quick, table, labels, kind):
    augmenter = quick("augmenter", kind=kind, n_layers="auto").fit(table, labels)
    drawn = augmenter.sample(20, y="rare", random_state=0)
    assert_within(drawn, table)
    assert drawn["size"].nunique() == 20
