from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.datasets import make_circles
from sklearn.metrics import adjusted_rand_score

import flowdetect
from flowdetect.exceptions import ConfigurationError, InvalidTableError, ModelFileError
from flowdetect.inference import FlowMixture
from flowdetect.inference._partitions import first_guesses, given_responsibilities
from flowdetect.persistence._checks import check_object

QUICK = {"max_steps": 8, "max_iter": 3, "hidden_features": 8, "n_bins": 4, "random_state": 0}


def blobs(n_rows: int = 120, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(n_rows) % 3
    return rng.normal(size=(n_rows, 2)) + np.array([[0.0, 0.0], [8.0, 0.0], [0.0, 8.0]])[labels], labels


def mixed(n_rows: int = 90) -> tuple[pd.DataFrame, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = np.arange(n_rows) % 2
    size = rng.normal(size=n_rows) + 8.0 * labels
    size[::10] = np.nan
    colour = np.where(rng.random(n_rows) < 0.9, np.array(["red", "blue"])[labels], "green")
    return pd.DataFrame(
        {"size": size, "weight": rng.normal(size=n_rows) - 5.0 * labels, "colour": colour}
    ), labels


@pytest.fixture(scope="module")
def fitted() -> FlowMixture:
    return FlowMixture(3, **QUICK).fit(blobs()[0])


@pytest.fixture(scope="module")
def fitted_mixed() -> FlowMixture:
    return FlowMixture(2, **QUICK).fit(mixed()[0])


# --- clusters ---------------------------------------------------------------------------------------------


def test_clusters_apart_are_found(fitted: FlowMixture) -> None:
    assert adjusted_rand_score(blobs()[1], fitted.labels_) == 1.0
    new, labels = blobs(60, seed=1)
    assert adjusted_rand_score(labels, fitted.predict(new)) == 1.0
    np.testing.assert_allclose(fitted.weights_, 1 / 3, atol=0.08)


def test_rings_are_found_by_the_guess_that_makes_held_out_rows_likeliest() -> None:
    X, labels = make_circles(240, noise=0.04, factor=0.4, random_state=0)
    mixture = FlowMixture(2, max_iter=2, hidden_features=16, random_state=0).fit(X)
    assert mixture.init_ in ("density", "spectral")
    assert adjusted_rand_score(labels, mixture.labels_) > 0.95


def test_mixed_and_missing_columns_are_clustered(fitted_mixed: FlowMixture) -> None:
    X, labels = mixed()
    assert adjusted_rand_score(labels, fitted_mixed.labels_) > 0.9
    drawn = fitted_mixed.sample(50, random_state=0)
    assert list(drawn.columns) == list(X.columns)
    assert set(drawn["colour"]) <= {"red", "blue", "green"}
    assert drawn["size"].isna().any()


def test_a_table_of_categories_alone_is_clustered() -> None:
    labels = np.arange(80) % 2
    words = np.array(["a", "b"])[labels]
    X = pd.DataFrame({"one": words, "two": words, "three": words})
    mixture = FlowMixture(2, **{**QUICK, "max_steps": 40, "learning_rate": 2e-2}).fit(X)
    assert adjusted_rand_score(labels, mixture.labels_) == 1.0
    assert set(mixture.sample(20, random_state=0)["one"]) == {"a", "b"}


# --- numbers against their definitions --------------------------------------------------------------------


def test_answers_follow_from_the_densities_of_the_components(fitted: FlowMixture) -> None:
    X = blobs(30, seed=2)[0]
    joint = fitted._score_classes(X) + np.log(fitted.weights_)
    total = np.log(np.exp(joint).sum(axis=1))
    np.testing.assert_allclose(fitted.score_samples(X), total)
    np.testing.assert_allclose(fitted.predict_proba(X), np.exp(joint - total[:, None]))
    np.testing.assert_array_equal(fitted.predict(X), joint.argmax(axis=1))
    n_parameters = sum(p.numel() for p in fitted.density_.parameters()) + 2
    assert fitted.bic(X) == pytest.approx(-2 * total.sum() + n_parameters * np.log(30))
    assert fitted.aic(X) == pytest.approx(-2 * total.sum() + 2 * n_parameters)
    weights = np.arange(30.0)
    assert fitted.score(X) == pytest.approx(total.mean())
    assert fitted.score(X, sample_weight=weights) == pytest.approx(np.average(total, weights=weights))


@pytest.mark.parametrize("name", ["fitted", "fitted_mixed"])
def test_the_density_is_the_one_that_was_judged(name: str, request: pytest.FixtureRequest) -> None:
    mixture = request.getfixturevalue(name)
    assert mixture.n_iter_ == len(mixture.lower_bounds_) <= QUICK["max_iter"]
    assert mixture.lower_bound_ in mixture.lower_bounds_
    assert isinstance(mixture.converged_, bool)


def test_the_density_of_a_plane_integrates_to_one(fitted: FlowMixture) -> None:
    axis = np.linspace(-8.0, 16.0, 161)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    total = np.exp(fitted.score_samples(grid)).sum() * (axis[1] - axis[0]) ** 2
    assert total == pytest.approx(1.0, abs=0.02)


def test_rounds_raise_the_likelihood_of_learning_rows() -> None:
    mixture = FlowMixture(3, **{**QUICK, "max_iter": 6, "patience": None, "tol": 0.0}).fit(blobs()[0])
    assert mixture.lower_bounds_[-1] > mixture.lower_bounds_[0] - 0.05


def test_drawn_rows_follow_their_components(fitted: FlowMixture) -> None:
    drawn, labels = fitted.sample(400, return_labels=True, random_state=0)
    assert np.mean(fitted.predict(drawn) == labels) > 0.98
    np.testing.assert_array_equal(drawn, fitted.sample(400, random_state=0))
    assert not np.array_equal(drawn, fitted.sample(400, random_state=1))


# --- settings ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("init", ["gaussian", "density", "spectral", "kmeans"])
def test_a_named_guess_is_taken(init: str) -> None:
    mixture = FlowMixture(3, init=init, **QUICK).fit(blobs()[0])
    assert mixture.init_ == init
    assert adjusted_rand_score(blobs()[1], mixture.labels_) == 1.0


def test_a_guess_may_be_given() -> None:
    X, labels = blobs()
    by_number = FlowMixture(3, init=labels, **QUICK).fit(X)
    by_probability = FlowMixture(3, init=np.eye(3)[labels], **QUICK).fit(X)
    assert by_number.init_ == "given"
    np.testing.assert_array_equal(by_number.labels_, labels)
    np.testing.assert_array_equal(by_number.score_samples(X), by_probability.score_samples(X))


def test_one_component_is_one_density() -> None:
    mixture = FlowMixture(1, **QUICK).fit(blobs()[0])
    assert mixture.weights_.tolist() == [1.0]
    assert set(mixture.labels_) == {0}


def test_rows_of_weight_zero_are_not_learnt_from_but_get_a_label() -> None:
    X, _ = blobs()
    far = np.vstack([X, [[500.0, 500.0]] * 30])
    weights = np.r_[np.ones(len(X)), np.zeros(30)]
    mixture = FlowMixture(3, **QUICK).fit(far, sample_weight=weights)
    assert mixture.labels_.shape == (150,)
    assert np.abs(mixture.sample(50, random_state=0)).max() < 100.0


@pytest.mark.parametrize("changes", [{"validation_fraction": 0.0}, {"kind": "autoregressive"}])
def test_other_settings_work(changes: dict[str, Any]) -> None:
    mixture = FlowMixture(3, **{**QUICK, **changes}).fit(blobs()[0])
    assert adjusted_rand_score(blobs()[1], mixture.labels_) == 1.0


def test_the_same_seed_gives_the_same_mixture(fitted: FlowMixture) -> None:
    X = blobs()[0]
    np.testing.assert_array_equal(clone(fitted).fit(X).score_samples(X), fitted.score_samples(X))


def test_large_tables_are_divided_by_some_of_their_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowdetect.inference._partitions._MOST_ROWS", 40)
    X, labels = blobs()
    for _, found in first_guesses(X, X, 3, ("kmeans", "spectral"), 0):
        assert adjusted_rand_score(labels, found) == 1.0


# --- refusals ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"n_components": 0}, "n_components must be a whole number of at least 1; got 0"),
        ({"max_iter": 1.5}, "max_iter must be a whole number"),
        ({"tol": -1.0}, "tol must be a number of at least 0; got -1.0"),
        ({"init": "best"}, r"init must be one of .* got 'best'"),
        ({"init": [0, 1]}, "got an array of shape"),
        ({"init": np.full(120, 7)}, "a component from 0 to 2 for each of 120 rows"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        FlowMixture(**{"n_components": 3, **QUICK, **settings}).fit(blobs()[0])


def test_probabilities_must_sum_to_one() -> None:
    with pytest.raises(ConfigurationError, match="the probabilities of the 2 components"):
        given_responsibilities(np.full((4, 2), 0.7), 4, 2)


def test_fewer_rows_than_components_are_refused() -> None:
    with pytest.raises(InvalidTableError, match="for each component; got n_samples=3 for n_components=4"):
        FlowMixture(4, **QUICK).fit(np.arange(6.0).reshape(3, 2))


# --- files ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "rows"), [("fitted", lambda: blobs(20)[0]), ("fitted_mixed", lambda: mixed(20)[0])]
)
def test_a_saved_mixture_answers_as_before(
    name: str, rows: Callable[[], Any], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    mixture = request.getfixturevalue(name)
    flowdetect.save(mixture, tmp_path / "mixture.flow")
    loaded = flowdetect.load(tmp_path / "mixture.flow")
    np.testing.assert_array_equal(loaded.score_samples(rows()), mixture.score_samples(rows()))
    np.testing.assert_array_equal(loaded.labels_, mixture.labels_)
    assert loaded.get_params() == mixture.get_params()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"weights_": np.array([0.5, 0.5])}, "weights are not those of the components"),
        ({"labels_": np.array([5])}, "a label is of no component"),
        ({"_whitening": None}, "whitening of the classes is absent"),
    ],
)
def test_parts_that_do_not_fit_are_refused(fitted: FlowMixture, change: dict[str, Any], words: str) -> None:
    broken = clone(fitted)
    broken.__dict__.update({**vars(fitted), **change})
    with pytest.raises(ModelFileError, match=words):
        check_object("FlowMixture", broken)
