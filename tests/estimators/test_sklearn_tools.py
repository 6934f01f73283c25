"""The estimators inside scikit-learn's own machinery."""

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score, cross_validate
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from flowdetect import FlowDensity, FlowOutlierDetector

TWO_FOLDS = KFold(2, shuffle=True, random_state=0)


@pytest.fixture(scope="module")
def labelled(blob):
    """Rows of which the last ten are far away, and 1 for the others."""
    far = np.random.default_rng(1).normal(8.0, 1.0, size=(10, 3))
    return np.vstack([blob, far]), np.repeat([1, 0], [len(blob), 10])


# --- parameters --------------------------------------------------------------------------------------------


def test_a_clone_has_the_parameters_and_nothing_learnt(fitted):
    copy = clone(fitted)
    assert copy.get_params() == fitted.get_params()
    assert not hasattr(copy, "encoder_")
    assert not hasattr(copy, "n_features_in_")


def test_parameters_are_stored_as_they_are_given(quick, name):
    estimator = quick(name).set_params(n_bins=5, random_state=7)
    assert estimator.get_params()["n_bins"] == estimator.n_bins == 5
    with pytest.raises(ValueError, match="Invalid parameter 'n_bin' for estimator"):
        estimator.set_params(n_bin=5)


def test_the_display_shows_what_is_not_the_default():
    assert repr(FlowDensity(n_layers=3)) == "FlowDensity(n_layers=3)"
    assert repr(FlowOutlierDetector()) == "FlowOutlierDetector()"


def test_fit_returns_itself(quick, name, blob):
    estimator = quick(name, max_steps=1)
    assert estimator.fit(blob, np.zeros(len(blob))) is estimator


def test_fit_leaves_the_parameters_and_the_table_alone(quick, name, table):
    estimator = quick(name, max_steps=1)
    parameters, before = estimator.get_params(), table.copy(deep=True)
    estimator.fit(table)
    assert estimator.get_params() == parameters
    pd.testing.assert_frame_equal(table, before)


# --- pipelines ---------------------------------------------------------------------------------------------


def test_at_the_end_of_a_pipeline(quick, name, blob):
    pipeline = make_pipeline(StandardScaler(), quick(name)).fit(blob)
    scaled = StandardScaler().fit_transform(blob)
    assert np.array_equal(pipeline.score_samples(blob), quick(name).fit(scaled).score_samples(scaled))


@pytest.mark.parametrize("container", ["default", "pandas"])
def test_after_a_column_transformer(quick, name, table, new_rows, container):
    transformer = ColumnTransformer(
        [
            ("number", StandardScaler(), ["size", "weight"]),
            ("category", OneHotEncoder(sparse_output=False, handle_unknown="ignore"), ["colour"]),
            ("other", "passthrough", ["count"]),
        ]
    ).set_output(transform=container)
    pipeline = Pipeline([("columns", transformer), ("model", quick(name))]).fit(table)
    assert np.isfinite(pipeline.score_samples(new_rows)).all()
    assert hasattr(pipeline["model"], "feature_names_in_") == (container == "pandas")


def test_a_detector_at_the_end_of_a_pipeline_predicts(quick, blob):
    pipeline = make_pipeline(StandardScaler(), quick("detector", contamination=0.1))
    assert np.sum(pipeline.fit_predict(blob) == -1) == 12
    assert np.array_equal(pipeline.predict(blob) == 1, pipeline.decision_function(blob) >= 0)


# --- searches ----------------------------------------------------------------------------------------------


def test_a_grid_search_over_a_density_needs_no_scorer(quick, table):
    grid = {"n_layers": [1, 2], "max_steps": np.array([2, 40])}  # of numpy's numbers
    search = GridSearchCV(quick("density"), grid, cv=TWO_FOLDS, error_score="raise").fit(table)
    assert search.best_params_["max_steps"] == 40
    assert search.best_estimator_.score(table) == search.score(table)


def test_a_grid_search_over_a_detector_takes_a_scorer(quick, labelled):
    X, y = labelled

    def area_under_curve(detector, X, y):
        return roc_auc_score(y, detector.score_samples(X))

    search = GridSearchCV(
        quick("detector"),
        {"max_steps": np.array([1, 40])},
        scoring={"ours": area_under_curve, "theirs": "roc_auc"},
        refit="ours",
        cv=TWO_FOLDS,
        error_score="raise",
    ).fit(X, y)
    assert search.best_score_ > 0.8
    assert search.cv_results_["mean_test_ours"] == pytest.approx(search.cv_results_["mean_test_theirs"])


def test_cross_validation(quick, table, labelled):
    assert np.isfinite(cross_val_score(quick("density"), table, cv=TWO_FOLDS, error_score="raise")).all()
    X, y = labelled
    areas = cross_val_score(quick("detector"), X, y, scoring="roc_auc", cv=TWO_FOLDS, error_score="raise")
    assert (areas > 0.8).all()


# --- processes ---------------------------------------------------------------------------------------------


def fit_and_score(estimator, X, rows):
    return estimator.fit(X).score_samples(rows)


def test_joblib_processes_fit_and_score_the_same(quick, name, blob):
    here = fit_and_score(quick(name), blob, blob[:5])
    there = joblib.Parallel(n_jobs=2)(
        joblib.delayed(fit_and_score)(quick(name), blob, blob[:5]) for _ in range(2)
    )
    for scores in there:
        assert scores == pytest.approx(here, abs=1e-3)
    assert np.array_equal(there[0], there[1])


def test_joblib_threads_score_the_same(fitted, new_rows):
    parts = joblib.Parallel(n_jobs=2, backend="threading")(
        joblib.delayed(fitted.score_samples)(new_rows.iloc[rows]) for rows in (slice(0, 15), slice(15, 30))
    )
    assert np.concatenate(parts) == pytest.approx(fitted.score_samples(new_rows), rel=1e-9)


# --- metadata routing --------------------------------------------------------------------------------------


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


@pytest.mark.usefixtures("routing")
def test_context_and_weights_are_routed(quick, blob):
    X, context = blob[:, 1:], blob[:, :1]
    weights = np.random.default_rng(0).uniform(0.5, 2.0, len(X))
    density = (
        quick("density")
        .set_fit_request(context=True, sample_weight=True)
        .set_score_request(context=True, sample_weight=True)
    )
    pipeline = Pipeline(
        [("scale", StandardScaler().set_fit_request(sample_weight=False)), ("model", density)]
    )
    params = {"context": context, "sample_weight": weights}
    scores = cross_validate(pipeline, X, cv=TWO_FOLDS, params=params, error_score="raise")["test_score"]
    for score, (train, test) in zip(scores, TWO_FOLDS.split(X), strict=True):
        scaler = StandardScaler().fit(X[train])
        direct = quick("density").fit(
            scaler.transform(X[train]), context=context[train], sample_weight=weights[train]
        )
        assert score == direct.score(
            scaler.transform(X[test]), context=context[test], sample_weight=weights[test]
        )


@pytest.mark.usefixtures("routing")
def test_weights_are_routed_to_a_detector(quick, blob):
    detector = quick("detector").set_fit_request(sample_weight=True)
    weights = np.arange(len(blob)) % 2 + 1.0
    pipeline = Pipeline([("model", detector)]).fit(blob, sample_weight=weights)
    direct = quick("detector").fit(blob, sample_weight=weights)
    assert np.array_equal(pipeline.score_samples(blob), direct.score_samples(blob))


@pytest.mark.usefixtures("routing")
def test_what_was_not_asked_for_is_refused(quick, blob):
    with pytest.raises(ValueError, match=r"\[context\] are passed but are not explicitly set"):
        cross_validate(quick("density"), blob, cv=TWO_FOLDS, params={"context": blob}, error_score="raise")


# --- callbacks ---------------------------------------------------------------------------------------------


class Recording:
    """A scikit-learn callback that keeps the names of tasks, and what the model scores at each end."""

    def __init__(self, stop_after=None):
        self.ended, self.scores, self.stop_after = [], [], stop_after

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context, *, X=None, fitted_estimator=None, metadata=None):
        self.ended.append(context.task_name)
        if fitted_estimator is not None:
            self.scores.append(np.mean(fitted_estimator.score_samples(X)))
        return len(self.ended) == self.stop_after


def test_callbacks_are_told_of_fit_training_and_evaluations(quick, name, blob):
    pytest.importorskip("sklearn.callback")
    callback = Recording()
    estimator = quick(name).set_callbacks(callback).fit(blob)
    results = estimator.training_results_ if name == "detector" else [estimator.training_result_]
    expected = [task for result in results for task in (*["evaluation"] * len(result.history), "train")]
    assert callback.ended == [*expected, "fit"]
    assert callback.scores[-1] == pytest.approx(estimator.score_samples(blob).mean())


def test_callbacks_see_the_density_at_each_evaluation(quick, blob):
    pytest.importorskip("sklearn.callback")
    callback = Recording()
    quick("density", max_steps=60, validation_fraction=0.0).set_callbacks(callback).fit(blob)
    assert len(callback.scores) == len(callback.ended) - 1
    assert callback.scores[-1] > callback.scores[1] > callback.scores[0]


def test_callbacks_change_nothing(quick, name, blob):
    pytest.importorskip("sklearn.callback")
    told = quick(name).set_callbacks(Recording()).fit(blob)
    assert np.array_equal(told.score_samples(blob), quick(name).fit(blob).score_samples(blob))


def test_callbacks_stop_the_training(quick, blob):
    pytest.importorskip("sklearn.callback")
    density = quick("density", max_steps=10_000, patience=None).set_callbacks(Recording(stop_after=2))
    assert density.fit(blob).training_result_.stop_reason == "callback"


def test_the_scoring_monitor_works(quick, blob):
    callbacks = pytest.importorskip("sklearn.callback")

    def mean_density(density, X, y, sample_weight):
        return {"score": density.score(X, sample_weight=sample_weight)}

    monitor = callbacks.ScoringMonitor(scoring=mean_density)
    weights = np.arange(len(blob)) % 3.0
    density = quick("density").set_callbacks(monitor)
    density.fit(blob, np.zeros(len(blob)), sample_weight=weights)
    scores = [row["score"] for row in monitor.get_logs().data]
    assert len(scores) >= 3
    assert density.score(blob, sample_weight=weights) in scores
