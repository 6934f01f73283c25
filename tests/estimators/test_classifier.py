from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import accuracy_score

import flowdetect
from flowdetect import FlowClassifier
from flowdetect.estimators._decisions import choose_temperature, rejection_levels, with_rejections
from flowdetect.estimators._whitening import Whitening
from flowdetect.exceptions import ConfigurationError, InvalidTableError, ModelFileError
from flowdetect.persistence._checks import check_object

QUICK = {"max_steps": 10, "n_layers": 2, "hidden_features": 8, "n_bins": 4, "random_state": 0}


def plane(n_rows: int = 200, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two Gaussian classes, a quarter and three quarters of the rows."""
    rng = np.random.default_rng(seed)
    y = np.where(np.arange(n_rows) % 4 == 0, "few", "many")
    return rng.normal(size=(n_rows, 2)) + np.where(y == "few", 4.0, 0.0)[:, None], y


@pytest.fixture(scope="module")
def fitted() -> FlowClassifier:
    return FlowClassifier(reject_below=0.05, **QUICK).fit(*plane())


@pytest.fixture(scope="module")
def fitted_mixed(table: pd.DataFrame, labels: np.ndarray) -> FlowClassifier:
    return FlowClassifier(**QUICK).fit(table, labels)


# --- Bayes' rule ------------------------------------------------------------------------------------------


def test_classes_are_told_apart(fitted: FlowClassifier) -> None:
    X, y = plane(400, seed=1)
    assert accuracy_score(y, fitted.predict_proba(X).argmax(axis=1).choose(fitted.classes_)) > 0.97
    np.testing.assert_allclose(fitted.class_prior_, [0.25, 0.75])


def test_probabilities_follow_from_densities(fitted: FlowClassifier) -> None:
    X = plane(50, seed=2)[0]
    joint = fitted.class_log_densities(X) + np.log([0.25, 0.75])
    np.testing.assert_allclose(fitted.score_samples(X), np.logaddexp(*joint.T))
    members = fitted._member_log_densities(X)
    assert len(members) == 3
    np.testing.assert_allclose(np.exp(members).mean(axis=0), np.exp(fitted.class_log_densities(X)))
    odds = np.log(3.0) + (members[:, :, 1] - members[:, :, 0]) / fitted.temperature_
    few, many = (np.mean(1.0 / (1.0 + np.exp(sign * odds)), axis=0) for sign in (1.0, -1.0))
    np.testing.assert_allclose(fitted.predict_proba(X), np.column_stack([few, many]))
    np.testing.assert_allclose(fitted.decision_function(X), np.log(many / few))
    np.testing.assert_allclose(np.exp(fitted.predict_log_proba(X)), fitted.predict_proba(X))


def test_the_density_integrates_to_one(fitted: FlowClassifier) -> None:
    axis = np.linspace(-7.0, 11.0, 121)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    area = (axis[1] - axis[0]) ** 2
    np.testing.assert_allclose(np.exp(fitted.class_log_densities(grid)).sum(axis=0) * area, 1.0, atol=0.02)


def test_three_classes_have_a_decision_each(fitted_mixed: FlowClassifier, table: pd.DataFrame) -> None:
    decisions = fitted_mixed.decision_function(table)
    assert decisions.shape == (len(table), 3)
    np.testing.assert_array_equal(
        fitted_mixed.classes_[decisions.argmax(axis=1)], fitted_mixed.predict(table)
    )


def test_mixed_and_missing_columns_are_classified(
    fitted_mixed: FlowClassifier, table: pd.DataFrame, labels: np.ndarray, new_rows: pd.DataFrame
) -> None:
    assert fitted_mixed.score(table, labels) > 0.8
    probabilities = fitted_mixed.predict_proba(new_rows)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0)


def test_given_priors_change_the_odds_alone(fitted: FlowClassifier) -> None:
    X, y = plane()
    equal = FlowClassifier(priors=[0.5, 0.5], **QUICK).fit(X, y)
    np.testing.assert_allclose(equal.class_log_densities(X), fitted.class_log_densities(X))
    shift = equal.decision_function(X) - fitted.decision_function(X)
    assert (shift < 0.0).all()
    alone = [FlowClassifier(priors=priors, n_models=1, **QUICK).fit(X, y) for priors in ([0.5, 0.5], None)]
    shift = alone[0].decision_function(X) - alone[1].decision_function(X)
    np.testing.assert_allclose(shift, -np.log(3.0), atol=1e-8)


def test_a_prior_of_zero_rules_a_class_out() -> None:
    X, y = plane()
    sure = FlowClassifier(priors=[0.0, 1.0], **QUICK).fit(X, y)
    assert set(sure.predict(X)) == {"many"}
    assert not sure.predict_proba(X)[:, 0].any()


def test_rows_of_weight_zero_and_their_classes_are_left_out() -> None:
    X, y = plane()
    weights = np.where(np.arange(200) < 180, 2.0, 0.0)
    strange = np.where(np.arange(200) < 180, y, "none")
    model = FlowClassifier(**QUICK).fit(X, strange, sample_weight=weights)
    assert model.classes_.tolist() == ["few", "many"]


@pytest.mark.parametrize("size", [1e-30, 1e-3, 1e30])
def test_the_scale_of_weights_does_not_matter(size: float) -> None:
    X, y = plane()
    weights = np.random.default_rng(0).uniform(1.0, 2.0, size=200)
    models = [FlowClassifier(**QUICK).fit(X, y, sample_weight=scale * weights) for scale in (1.0, size)]
    np.testing.assert_allclose(*(model.predict_proba(X) for model in models), rtol=1e-3, atol=1e-6)


def test_a_refused_refit_leaves_no_fitted_classifier() -> None:
    model = FlowClassifier(**QUICK).fit(*plane())
    with pytest.raises(ConfigurationError, match="priors"):
        model.set_params(priors=[0.2, 0.2]).fit(plane()[0], np.arange(200) % 2)
    with pytest.raises(NotFittedError):
        model.predict(plane()[0])


def test_one_class_and_few_rows_work() -> None:
    one = FlowClassifier(**QUICK).fit(plane(8)[0], np.ones(8, dtype=int))
    assert one.predict(plane(3)[0]).tolist() == [1, 1, 1]
    assert one.temperature_ == 1.0
    few = FlowClassifier(reject_below=0.2, **QUICK).fit(*plane(8))
    assert np.isfinite(few.predict_proba(plane(3)[0])).all()


def test_a_table_of_categories_alone_is_classified() -> None:
    X = pd.DataFrame({"word": ["a", "b"] * 40, "other": ["c", "c", "d", "d"] * 20})
    model = FlowClassifier(**{**QUICK, "max_steps": 40, "learning_rate": 2e-2}).fit(X, X["word"] + "!")
    assert model.score(X, X["word"] + "!") == 1.0
    assert model._whitenings == [None] * 3


# --- temperature ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("truth", [0.5, 1.0, 4.0])
def test_the_temperature_is_found_again(truth: float) -> None:
    rng = np.random.default_rng(0)
    densities = rng.normal(scale=4.0 * truth, size=(20_000, 3))
    probabilities = np.exp(densities / truth)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    classes = (probabilities.cumsum(axis=1) < rng.random((20_000, 1))).sum(axis=1)
    assert choose_temperature(densities, classes, np.zeros(3), None, 4) == pytest.approx(truth, rel=0.05)


def test_rows_all_told_apart_leave_the_temperature_at_the_root_of_the_columns() -> None:
    densities, classes = np.eye(2)[np.arange(40) % 2] * 900.0, np.arange(40) % 2
    assert choose_temperature(densities, classes, np.zeros(2), None, 9) == pytest.approx(3.0, rel=0.01)


def test_weights_count_in_the_temperature() -> None:
    densities = np.array([[5.0, 0.0], [5.0, 0.0]])
    classes, log_priors = np.array([0, 1]), np.log([0.5, 0.5])
    surer = choose_temperature(densities, classes, log_priors, np.array([9.0, 1.0]), 1)
    assert surer < choose_temperature(densities, classes, log_priors, np.array([1.0, 1.0]), 1)


def test_calibration_may_be_left_out(fitted: FlowClassifier) -> None:
    assert FlowClassifier(calibrate=False, **QUICK).fit(*plane()).temperature_ == 1.0
    assert fitted.temperature_ != 1.0


# --- rows like no class -----------------------------------------------------------------------------------


def test_rows_unlike_every_class_are_refused(fitted: FlowClassifier) -> None:
    assert fitted.predict([[0.0, 0.0], [4.0, 4.0], [80.0, -80.0]]).tolist() == ["many", "few", "rejected"]
    assert 0.0 < np.mean(fitted.predict(plane()[0]) == "rejected") < 0.1


def test_refused_rows_keep_their_probabilities(fitted: FlowClassifier) -> None:
    plain = clone(fitted).set_params(reject_below=None).fit(*plane())
    X = np.vstack([plane()[0], [[80.0, -80.0]]])
    np.testing.assert_array_equal(plain.predict_proba(X), fitted.predict_proba(X))
    assert plain.rejection_levels_ is None
    assert set(plain.predict(X)) == {"few", "many"}


@pytest.mark.parametrize(
    ("classes", "given", "expected"),
    [
        ([0, 1], None, -1),
        ([-1, 1], None, -2),
        ([0, 1], 9, 9),
        ([0, 1], "?", "?"),
        ([True, False], None, "rejected"),
    ],
)
def test_the_label_of_refused_rows(classes: list[Any], given: Any, expected: Any) -> None:
    X, y = plane()
    numbers = np.array(classes)[(y == "few").astype(int)]
    model = FlowClassifier(reject_below=0.05, reject_label=given, **QUICK).fit(X, numbers)
    found = model.predict([[0.0, 0.0], [80.0, -80.0]])
    assert found.tolist() == [classes[0], expected]
    assert model.reject_label_ == expected
    # The second row is like no class: whatever class it is said to be, it is wrong.
    assert model.score([[0.0, 0.0], [80.0, -80.0]], np.array(classes)[[0, 0]]) == 0.5
    assert model.score([[0.0, 0.0], [80.0, -80.0]], np.array([classes[0], expected], dtype=object)) == 1.0
    assert model.score([[0.0, 0.0], [80.0, -80.0]], np.array(classes)[[0, 0]], sample_weight=[3, 1]) == 0.75


def test_long_labels_are_not_cut() -> None:
    found = with_rejections(np.array(["a", "b"]), np.array([False, True]), "a long one")
    assert found.tolist() == ["a", "a long one"]


def test_levels_are_quantiles_of_held_out_rows_where_these_are_enough() -> None:
    scores, classes = np.arange(40.0), np.repeat([0, 1], 20)
    held_out = np.r_[np.arange(20) >= 10, np.arange(20) >= 18]
    fresh = (scores[held_out], classes[held_out])
    levels = rejection_levels(fresh, (scores, classes), 0.1, 2)
    np.testing.assert_allclose(levels, [np.quantile(scores[10:20], 0.1), np.quantile(scores[20:], 0.1)])


# --- whitening --------------------------------------------------------------------------------------------


def test_an_untrained_density_is_the_gaussian_of_each_class() -> None:
    X, y = plane(4000)
    model = FlowClassifier(calibrate=False, **{**QUICK, "max_steps": 1}).fit(X, y)
    for k, centre in enumerate((4.0, 0.0)):
        own = X[y == model.classes_[k]]
        expected = multivariate_normal([centre, centre], np.eye(2)).logpdf(own)
        assert np.abs(model.class_log_densities(own)[:, k] - expected).mean() < 0.15


def test_many_rows_give_the_covariance_of_each_class() -> None:
    rng = np.random.default_rng(0)
    factors = np.array([[[1.0, 0.0], [0.8, 0.6]], [[2.0, 0.0], [0.0, 0.5]]])
    classes = np.arange(40_000) % 2
    X = np.einsum("nij,nj->ni", factors[classes], rng.normal(size=(40_000, 2))) + classes[:, None]
    found = Whitening.fit(X, np.ones_like(X, dtype=bool), np.eye(2)[classes])
    np.testing.assert_allclose(found.centres, [[0.0, 0.0], [1.0, 1.0]], atol=0.05)
    np.testing.assert_allclose(found.spreads, factors, atol=0.03)


def test_a_class_without_rows_has_the_shape_of_all() -> None:
    X = np.random.default_rng(0).normal(loc=3.0, size=(500, 2))
    found = Whitening.fit(X, np.ones_like(X, dtype=bool), np.repeat([[1.0, 0.0]], 500, axis=0))
    np.testing.assert_allclose(found.centres[1], X.mean(axis=0), rtol=1e-3)
    np.testing.assert_allclose(found.spreads[1] @ found.spreads[1].T, np.cov(X.T), atol=0.05)


def test_missing_values_leave_covariances_diagonal() -> None:
    X = np.random.default_rng(0).normal(size=(2000, 2)) * [1.0, 3.0]
    observed = np.random.default_rng(1).random(X.shape) < 0.7
    found = Whitening.fit(np.where(observed, X, 99.0), observed, np.ones((2000, 1)))
    np.testing.assert_allclose(found.spreads[0], np.diag([1.0, 3.0]), rtol=0.08)


def test_whitened_rows_are_drawn_and_scored_alike(fitted: FlowClassifier) -> None:
    whole, contexts = fitted._whole_densities()[1], fitted._class_context(np.array([0, 1]))
    rows = whole.sample_rows(4000, contexts.repeat(2000, 1), torch.Generator().manual_seed(0)).numpy()
    drawn = fitted.encoder_.decode(rows)
    np.testing.assert_allclose(drawn[::2].mean(axis=0), 4.0, atol=0.5)
    np.testing.assert_allclose(drawn[1::2].mean(axis=0), 0.0, atol=0.5)
    assert Whitening.of(fitted.densities_[1]) is None
    np.testing.assert_array_equal(Whitening.of(whole).centres, fitted._whitenings[1].centres)


# --- refusals ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"priors": [0.5, 0.6]}, "priors must be 2 probabilities that sum to 1"),
        ({"priors": [1.0]}, "in the order of the sorted classes"),
        ({"calibrate": "yes"}, "calibrate must be True or False; got 'yes'"),
        ({"n_models": 0}, "n_models must be a whole number of at least 1; got 0"),
        ({"reject_below": 1.0}, "reject_below must be None or a share between 0 and 1"),
        ({"reject_below": 0.1, "reject_label": "few"}, "none of the classes; got 'few', which is one"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        FlowClassifier(**QUICK, **settings).fit(*plane())


@pytest.mark.parametrize(
    ("y", "words"),
    [
        (None, "requires y to be passed, but the target y is None"),
        (["a"] * 3, "one class per row of X; got 3 for 40 rows"),
        (["a", None] * 20, "row 1 contains NaN or None"),
        (np.linspace(0, 1, 40), "Unknown label type: continuous"),
    ],
)
def test_wrong_classes_are_refused(y: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        FlowClassifier(**QUICK).fit(plane(40)[0], y)


def test_other_tables_are_refused(fitted: FlowClassifier) -> None:
    with pytest.raises(ValueError, match="expecting 2 features"):
        fitted.predict(np.zeros((3, 5)))
    with pytest.raises(NotFittedError):
        FlowClassifier().predict(np.zeros((3, 5)))
    with pytest.raises(InvalidTableError, match="not negative"):
        FlowClassifier(**QUICK).fit(*plane(40), sample_weight=-np.ones(40))


# --- files ------------------------------------------------------------------------------------------------


def test_a_saved_classifier_answers_as_before(
    fitted: FlowClassifier, fitted_mixed: FlowClassifier, new_rows: pd.DataFrame, tmp_path: Path
) -> None:
    array = FlowClassifier(priors=np.array([0.5, 0.5]), n_models=1, **QUICK).fit(*plane())
    flowdetect.save(array, tmp_path / "array.flow")
    assert flowdetect.load(tmp_path / "array.flow").priors == [0.5, 0.5]
    for model, rows in ((fitted, plane(20)[0]), (fitted_mixed, new_rows)):
        flowdetect.save(model, tmp_path / "model.flow")
        loaded = flowdetect.load(tmp_path / "model.flow")
        np.testing.assert_array_equal(loaded.predict_proba(rows), model.predict_proba(rows))
        np.testing.assert_array_equal(loaded.predict(rows), model.predict(rows))
        assert loaded.get_params() == model.get_params()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"class_prior_": np.array([1.0])}, "classes and their shares differ"),
        ({"rejection_levels_": np.array([1.0])}, "classes and their levels differ"),
        ({"temperature_": 0.0}, "temperature is not positive"),
        ({"_whitenings": []}, "densities and their whitenings differ"),
        ({"_whitenings": [None] * 3}, "whitening of the classes is absent"),
        (
            {"_whitenings": [Whitening(np.zeros((1, 2)), np.eye(2)[None])] * 3},
            "whitening is of other classes",
        ),
        ({"_whitenings": [Whitening(np.zeros((2, 2)), np.ones((2, 2, 2)))] * 3}, "whitening has no inverse"),
    ],
)
def test_parts_that_do_not_fit_are_refused(fitted: FlowClassifier, change: dict, words: str) -> None:
    broken = clone(fitted)
    broken.__dict__.update({**vars(fitted), **change})
    with pytest.raises(ModelFileError, match=words):
        check_object("FlowClassifier", broken)


def test_priors_that_are_text_are_refused_in_a_sentence():
    X = np.random.default_rng(0).normal(size=(20, 2))
    with pytest.raises(ConfigurationError, match="priors must be 2 probabilities that sum to 1"):
        FlowClassifier(priors="balanced", max_steps=3).fit(X, X[:, 0] > 0.0)
