import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from torch import Tensor
from torch.distributions import MultivariateNormal, Normal

import flowdetect
from flowdetect.exceptions import ConfigurationError, InvalidTableError, ModelFileError, TrainingWarning
from flowdetect.inference import VariationalFlow
from flowdetect.inference._target import Target

SMALL = {"n_layers": 2, "hidden_features": 8, "n_bins": 4, "batch_size": 64, "random_state": 0}
LOCATION = torch.tensor([1e3, -2.0, 0.01], dtype=torch.float64)
COVARIANCE = torch.tensor([[1e4, 30.0, 0.0], [30.0, 1.0, 5e-4], [0.0, 5e-4, 1e-6]], dtype=torch.float64)
CONSTANT = 3.5
GAUSSIAN = MultivariateNormal(LOCATION, COVARIANCE)


def gaussian(x: Tensor) -> Tensor:
    return GAUSSIAN.log_prob(x) + CONSTANT


def two_modes(x: Tensor) -> Tensor:
    """Two standard normals at (-3, -3) and (3, 3), of which the second is of weight 0.7."""
    parts = [Normal(m, 1.0).log_prob(x).sum(1) + np.log(share) for m, share in ((-3.0, 0.3), (3.0, 0.7))]
    return torch.logsumexp(torch.stack(parts), dim=0)


def simple(x: Tensor) -> Tensor:
    return -0.5 * (x - 1.0).square().sum(1)


@pytest.fixture(scope="module")
def fitted() -> VariationalFlow:
    return VariationalFlow(3, max_steps=20, n_importance=4000, **SMALL).fit(gaussian)


@pytest.fixture(scope="module")
def bimodal() -> VariationalFlow:
    flow = VariationalFlow(2, max_steps=250, n_layers=3, hidden_features=16, n_bins=6, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TrainingWarning)
        return flow.fit(two_modes)


# --- a density whose answers are known -----------------------------------------------------------------


def test_a_gaussian_is_learnt_exactly_whatever_its_units(fitted: VariationalFlow) -> None:
    spread, rows = COVARIANCE.diagonal().sqrt().numpy(), fitted.sample(20_000, random_state=1)
    n_errors = 5.0 / np.sqrt(len(rows))
    assert np.abs((rows.mean(axis=0) - LOCATION.numpy()) / spread).max() < n_errors + 0.02
    found = np.cov(rows.T) / np.outer(spread, spread)
    assert np.abs(found - COVARIANCE.numpy() / np.outer(spread, spread)).max() < 2.0 * n_errors + 0.02
    np.testing.assert_allclose(
        fitted.score_samples(rows[:50]), GAUSSIAN.log_prob(torch.from_numpy(rows[:50])).numpy(), atol=0.2
    )
    assert fitted.effective_sample_size_ > 0.98


def test_evidence_is_the_constant_and_the_elbo_lies_below(fitted: VariationalFlow) -> None:
    assert fitted.log_evidence_ == pytest.approx(CONSTANT, abs=5.0 * fitted.log_evidence_error_ + 1e-3)
    assert 0.0 < fitted.log_evidence_error_ < 0.01
    assert fitted.elbo_ <= fitted.log_evidence_ + 1e-9
    assert fitted.elbo_history_.shape == (len(fitted.training_result_.history),)
    assert fitted.elbo_history_.max() == pytest.approx(-fitted.training_result_.best_validation_loss)
    assert fitted.elbo_history_.max() == pytest.approx(CONSTANT, abs=0.05)


@pytest.mark.parametrize("fresh", [False, True])
def test_expectations_lie_within_their_errors(fitted: VariationalFlow, fresh: bool) -> None:
    options = {"log_density": gaussian, "n_samples": 3000, "random_state": 2} if fresh else {}
    value, error = fitted.expectation(lambda x: (x[:, 1] + 2.0) ** 2, **options)
    assert isinstance(value, float) and 0.0 < error < 0.05
    assert abs(value - 1.0) < 4.0 * error
    means, errors = fitted.expectation(lambda x: x, **options)
    assert (np.abs(means - LOCATION.numpy()) < 4.0 * errors).all()


def test_corrected_draws_are_chosen_by_weight(fitted: VariationalFlow) -> None:
    rows = fitted.sample(500, corrected=True, random_state=0)
    kept = {tuple(row) for row in fitted.draws_}
    assert rows.shape == (500, 3) and all(tuple(row) in kept for row in rows)
    again = clone(fitted)
    vars(again).update({**vars(fitted), "log_weights_": np.where(np.arange(4000) == 7, 0.0, -np.inf)})
    assert (again.sample(5, corrected=True) == fitted.draws_[7]).all()


def test_both_modes_are_found_with_annealing(bimodal: VariationalFlow) -> None:
    assert bimodal.temperature_ > 1.0
    share = (bimodal.sample(4000, random_state=0).sum(axis=1) > 0).mean()
    assert share == pytest.approx(0.7, abs=0.12)
    assert bimodal.log_evidence_ == pytest.approx(0.0, abs=0.1)
    assert bimodal.expectation(lambda x: x[:, 0])[0] == pytest.approx(1.2, abs=0.25)


def test_one_mode_is_lost_without_annealing() -> None:
    cold = VariationalFlow(2, temperature=1.0, start=[3.0, 2.0], max_steps=10, **SMALL).fit(two_modes)
    assert cold.temperature_ == 1.0
    assert (cold.sample(2000, random_state=0).sum(axis=1) > 0).mean() > 0.99


@pytest.mark.parametrize("gradient", ["path", "total"])
@pytest.mark.parametrize("kind", ["coupling", "iaf"])
def test_kinds_and_gradients_learn_what_a_gaussian_is_not(kind: str, gradient: str) -> None:
    def bent(x: Tensor) -> Tensor:
        return Normal(0.0, 1.0).log_prob(x[:, 0]) + Normal(0.7 * x[:, 0] ** 2, 0.5).log_prob(x[:, 1])

    flow = VariationalFlow(
        2, kind=kind, gradient=gradient, learning_rate=2e-2, max_steps=50, n_importance=500, temperature=1.0,
        **SMALL,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TrainingWarning)
        flow.fit(bent)
    assert flow.elbo_history_.max() - flow.elbo_history_[0] > 0.2
    assert flow.elbo_history_.max() > -0.2
    rows = flow.sample(100, random_state=0)
    assert np.mean(bent(torch.from_numpy(rows)).numpy() - flow.score_samples(rows)) > -0.4


def test_one_feature() -> None:
    flow = VariationalFlow(1, max_steps=20, **SMALL).fit(simple)
    assert flow.sample(2000, random_state=0).mean() == pytest.approx(1.0, abs=0.15)
    assert flow.log_evidence_ == pytest.approx(0.5 * np.log(2.0 * np.pi), abs=0.02)


# --- the contract -------------------------------------------------------------------------------------


def test_save_and_load(fitted: VariationalFlow, tmp_path: Path) -> None:
    flowdetect.save(fitted, tmp_path / "model.flow")
    loaded = flowdetect.load(tmp_path / "model.flow")
    np.testing.assert_array_equal(loaded.sample(5, random_state=0), fitted.sample(5, random_state=0))
    rows = fitted.draws_[:5]
    np.testing.assert_array_equal(loaded.score_samples(rows), fitted.score_samples(rows))
    assert loaded.expectation(lambda x: x[:, 0]) == fitted.expectation(lambda x: x[:, 0])
    public = {name for name in vars(fitted) if name.endswith("_")}
    assert public == {name for name in vars(loaded) if name.endswith("_")}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"location_": np.zeros(2)}, "another width than the flow"),
        ({"scale_": -np.eye(3)}, "not triangular and positive"),
        ({"draws_": np.zeros((3, 3))}, "not one weight for each draw"),
        ({"log_weights_": np.full(4000, -np.inf)}, "no draw has a weight"),
    ],
)
def test_a_file_whose_parts_do_not_fit_is_refused(
    fitted: VariationalFlow, change: dict, message: str, tmp_path: Path
) -> None:
    broken = clone(fitted)
    vars(broken).update({**vars(fitted), **change})
    flowdetect.save(broken, tmp_path / "model.flow")
    with pytest.raises(ModelFileError, match=message):
        flowdetect.load(tmp_path / "model.flow")


def test_random_state_decides(fitted: VariationalFlow) -> None:
    one, same = (VariationalFlow(2, max_steps=5, **SMALL).fit(simple) for _ in range(2))
    np.testing.assert_array_equal(one.draws_, same.draws_)
    assert one.log_evidence_ == same.log_evidence_
    other = VariationalFlow(2, max_steps=5, **{**SMALL, "random_state": 1}).fit(simple)
    assert not np.array_equal(one.draws_, other.draws_)
    assert np.array_equal(one.sample(3, random_state=4), one.sample(3, random_state=4))
    assert not np.array_equal(one.sample(3), one.sample(3))


def test_no_callable_is_kept(fitted: VariationalFlow) -> None:
    assert not [name for name, value in vars(fitted).items() if callable(value) and name != "density_"]


def test_a_time_budget_ends_training_and_the_temperature_falls_with_it() -> None:
    flow = VariationalFlow(2, max_steps=100_000, time_budget=0.5, **SMALL).fit(simple)
    assert flow.training_result_.stop_reason == "time_budget"
    assert flow.effective_sample_size_ > 0.9


def test_float32_is_given_to_a_function_that_refuses_float64() -> None:
    weights, given = torch.ones(2, 1), []

    def log_density(x: Tensor) -> Tensor:
        value = -0.5 * (x - 1.0).square() @ weights
        given.append(x.dtype)
        return value[:, 0]

    flow = VariationalFlow(2, max_steps=10, **SMALL).fit(log_density)
    assert set(given) == {torch.float32}
    assert flow.log_evidence_ == pytest.approx(np.log(2.0 * np.pi), abs=0.05)
    doubles: list[torch.dtype] = []
    VariationalFlow(2, max_steps=2, **SMALL).fit(lambda x: (doubles.append(x.dtype), simple(x))[1])  # type: ignore[func-returns-value]
    assert set(doubles) == {torch.float64}


def test_values_that_are_not_finite_here_and_there_do_no_harm() -> None:
    def log_density(x: Tensor) -> Tensor:
        return torch.where(x[:, 0] > 2.5, torch.nan, simple(x))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TrainingWarning)
        flow = VariationalFlow(2, max_steps=30, **SMALL).fit(log_density)
    assert np.isfinite(flow.log_evidence_) and np.isfinite(flow.elbo_history_).all()
    assert (flow.log_weights_[flow.draws_[:, 0] > 2.5] == -np.inf).all()
    assert (flow.sample(200, corrected=True, random_state=0)[:, 0] <= 2.5).all()


def test_a_flow_that_misses_much_is_warned_of() -> None:
    heavy = torch.distributions.StudentT(0.5)
    with pytest.warns(TrainingWarning, match="pareto_k_ is .* above 0.7, .* Raise max_steps"):
        VariationalFlow(2, max_steps=5, **SMALL).fit(lambda x: heavy.log_prob(x).sum(1))


# --- refusals -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("log_density", "message"),
    [
        (3.0, "log_density must be a function from a tensor .* got 3.0"),
        (lambda x: x, r"must return a tensor of shape \(17,\), .* got \(17, 2\). Sum over"),
        (lambda x: simple(x).sum(), r"must return a tensor of shape \(17,\), .* got \(\)"),
        (lambda x: simple(x).detach().numpy(), r"must return a tensor of shape \(17,\), .* got ndarray"),
        (lambda x: simple(x.detach()), "log_density must be differentiable by torch"),
        (lambda x: torch.zeros(len(x), requires_grad=True) * 1.0, "does not depend on them"),
        (lambda x: simple(x) * torch.nan, "log_density must be finite somewhere .* all of 17 values"),
        (lambda x: simple(x) - torch.inf, "log_density must be finite somewhere"),
    ],
)
def test_refuses_what_is_no_log_density(log_density: Callable, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        VariationalFlow(2, **SMALL).fit(log_density)


@pytest.mark.parametrize(
    ("far", "message"),
    [(torch.inf, r"got \+infinity in some of 50 draws"), (torch.nan, "got NaN or -infinity")],
)
def test_refuses_a_log_density_that_gives_no_weights(far: float, message: str) -> None:
    target = Target(simple, np.zeros((1, 2)))
    rows = np.random.default_rng(0).normal(size=(50, 2))
    # Infinite in some rows, no number in any.
    target._function = lambda x: torch.where((x[:, 0] > 0.0) | bool(np.isnan(far)), far, simple(x))
    with pytest.raises(ConfigurationError, match=message):
        target.log_ratios(rows, np.zeros(50))


def test_errors_of_the_function_itself_come_through() -> None:
    def log_density(x: Tensor) -> Tensor:
        raise RuntimeError("the model is down")

    with pytest.raises(RuntimeError, match="the model is down"):
        VariationalFlow(2, **SMALL).fit(log_density)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_features": 0}, "n_features must be a whole number of at least 1; got 0"),
        ({"n_features": 2.0}, "n_features must be a whole number of at least 1; got 2.0"),
        ({"kind": "autoregressive"}, "kind must be one of .* got 'autoregressive'"),
        ({"gradient": "score"}, "gradient must be one of .* got 'score'"),
        ({"temperature": 0.5}, "temperature must be 'auto', or finite and at least 1; got 0.5"),
        ({"temperature": "hot"}, "temperature must be 'auto', or finite .* got 'hot'"),
        ({"annealing": 1.5}, r"annealing must lie in 0..1; got 1.5"),
        ({"annealing": "slow"}, r"annealing must lie in 0..1; got 'slow'"),
        ({"temperature": None}, "temperature must be 'auto', or finite .* got None"),
        ({"n_importance": 0}, "n_importance must be a whole number of at least 1; got 0"),
        ({"start": [1.0]}, "start must be 2 finite numbers"),
        ({"start": [1.0, np.nan]}, "start must be 2 finite numbers"),
        ({"max_steps": 0}, "max_steps must be at least 1; got 0"),
        ({"n_bins": 1}, "n_bins must be a whole number"),
        ({"random_state": "x"}, "random_state must be None"),
    ],
)
def test_refuses_parameters_out_of_range(parameters: dict, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        VariationalFlow(**{"n_features": 2, **parameters}).fit(simple)


def test_refuses_rows_and_functions_that_do_not_fit(fitted: VariationalFlow) -> None:
    with pytest.raises(InvalidTableError, match="X must have 3 columns, .* got 2"):
        fitted.score_samples(np.zeros((4, 2)))
    with pytest.raises(ValueError, match="NaN"):
        fitted.score_samples(np.full((1, 3), np.nan))
    with pytest.raises(ConfigurationError, match="n_samples must be a whole number"):
        fitted.sample(0)
    with pytest.raises(ConfigurationError, match="n_samples must come with log_density"):
        fitted.expectation(lambda x: x, n_samples=10)
    with pytest.raises(ConfigurationError, match=r"function must return shape \(4000,\) .* got \(\)"):
        fitted.expectation(lambda x: 1.0)
    for method in ("sample", "score_samples", "expectation"):
        with pytest.raises(NotFittedError):
            getattr(VariationalFlow(2), method)(*([] if method == "sample" else [lambda x: x]))
