import copy
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kstest, norm, truncnorm
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV

import flowdetect
from flowdetect.exceptions import ConfigurationError, InvalidTableError, ModelFileError, TableWarning
from flowdetect.inference import FlowPosterior

# Noise of the outcomes, of a parameter uniform on -1..1 and a standard normal one.
NOISE = 0.5
BOUNDS = [(-1.0, 1.0), None]
TINY = {"n_models": 1, "max_steps": 5, "n_layers": 2, "hidden_features": 8, "n_bins": 4, "random_state": 0}


def simulations(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    theta = np.column_stack([rng.uniform(-1.0, 1.0, n), rng.standard_normal(n)])
    # On scales of their own, and with a column that says nothing.
    x = np.column_stack([1e3 * (theta + NOISE * rng.standard_normal((n, 2))), rng.standard_normal(n)])
    return theta, x


def true_marginals(x: np.ndarray) -> list[Any]:
    first, second = x[0] / 1e3, x[1] / 1e3
    share = 1.0 / (1.0 + NOISE**2)
    return [
        truncnorm((-1.0 - first) / NOISE, (1.0 - first) / NOISE, loc=first, scale=NOISE),
        norm(share * second, np.sqrt(share) * NOISE),
    ]


def frames(n: int = 60, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    theta, x = simulations(n, seed)
    return pd.DataFrame(theta, columns=["share", "level"]), pd.DataFrame(x, columns=["a", "b", "c"])


@pytest.fixture(scope="module")
def fitted() -> FlowPosterior:
    settings = {"n_layers": 2, "hidden_features": 24, "n_bins": 6, "max_steps": 300, "n_models": 1}
    return FlowPosterior(bounds=BOUNDS, **settings, random_state=0).fit(*simulations(3000, 0))


@pytest.fixture(scope="module")
def tiny() -> FlowPosterior:
    return FlowPosterior(bounds={"share": (-1.0, 1.0)}, **TINY | {"n_models": 2}).fit(*frames())


# --- the numbers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("observed", [(0.0, 0.0), (900.0, -1500.0), (-1400.0, 500.0)])
def test_the_density_is_the_exact_posterior(fitted: FlowPosterior, observed: tuple[float, float]) -> None:
    x = np.array([*observed, 0.0])
    draws = [marginal.rvs(2000, random_state=1) for marginal in true_marginals(x)]
    exact = sum(m.logpdf(d) for m, d in zip(true_marginals(x), draws, strict=True))
    divergence = np.mean(exact - fitted.log_prob(np.column_stack(draws), x))
    assert -0.01 < divergence < 0.1


def test_draws_follow_the_exact_posterior_within_the_bounds(fitted: FlowPosterior) -> None:
    x = np.array([900.0, -1500.0, 0.0])
    drawn = fitted.sample(x, 4000, random_state=0)
    assert drawn.shape == (4000, 2)
    assert np.abs(drawn[:, 0]).max() <= 1.0
    for column, marginal in zip(drawn.T, true_marginals(x), strict=True):
        assert kstest(column, marginal.cdf).statistic < 0.08


def test_the_density_integrates_to_one_and_is_zero_outside(fitted: FlowPosterior) -> None:
    first, second = np.linspace(-1.0, 1.0, 201), np.linspace(-4.0, 4.0, 161)
    grid = np.stack(np.meshgrid(first, second, indexing="ij"), axis=-1).reshape(-1, 2)
    density = np.exp(fitted.log_prob(grid, [600.0, 0.0, 0.0])).reshape(201, 161)
    assert np.trapezoid(np.trapezoid(density, second, axis=1), first) == pytest.approx(1.0, abs=0.01)
    assert np.isneginf(fitted.log_prob([[1.01, 0.0], [-2.0, 0.0]], [600.0, 0.0, 0.0])).all()


def test_ranks_are_uniform_and_regions_cover(fitted: FlowPosterior) -> None:
    statistics = fitted.rank_statistics(*simulations(300, 5), n_samples=49, random_state=0)
    assert statistics.ranks.shape == (300, 2)
    assert statistics.p_values.min() > 0.005
    assert statistics.region_p_value > 0.005
    # Four standard deviations of a share of 300.
    levels = np.array([0.5, 0.9])
    band = 4.0 * np.sqrt(levels * (1.0 - levels) / 300)
    assert (np.abs(statistics.coverage(levels) - levels) < band).all()


def test_ranks_under_another_noise_are_not_uniform(fitted: FlowPosterior) -> None:
    theta, x = simulations(300, 6)
    shifted = x + np.array([300.0, 0.0, 0.0])
    assert fitted.rank_statistics(theta, shifted, n_samples=49, random_state=0).p_values[0] < 0.01


def test_an_ensemble_is_the_mean_of_its_flows(tiny: FlowPosterior) -> None:
    theta, x = frames(10, 1)
    free, log_det = tiny._map.free(theta)
    free = tiny._trend.take_off(free, x)
    each = [density.score_samples(free, context=x) for density in tiny.densities_]
    expected = log_det + np.log(np.mean(np.exp(each), axis=0))
    np.testing.assert_allclose(tiny.log_prob(theta, x), expected, rtol=1e-9)
    assert not np.allclose(*each)


def test_weights_change_the_prior() -> None:
    rng = np.random.default_rng(0)
    theta = rng.uniform(0.0, 1.0, 2000)
    x = rng.standard_normal(2000)
    settings = TINY | {"max_steps": 60, "learning_rate": 0.03}
    posterior = FlowPosterior(bounds=[(0.0, 1.0)], **settings).fit(theta, x, sample_weight=theta < 0.5)
    assert np.mean(posterior.sample(0.0, 500, random_state=0) < 0.55) > 0.95


# --- shapes and containers ----------------------------------------------------------------------------------


def test_several_observations_have_a_posterior_each(fitted: FlowPosterior) -> None:
    drawn = fitted.sample([[900.0, 0.0, 0.0], [-900.0, 0.0, 0.0]], 200, random_state=0)
    assert drawn.shape == (400, 2)
    assert drawn[:200, 0].mean() > 0.2 > -0.2 > drawn[200:, 0].mean()


def test_one_observation_stands_for_all_rows(fitted: FlowPosterior) -> None:
    theta, x = simulations(5, 1)
    np.testing.assert_array_equal(fitted.log_prob(theta, x[0]), fitted.log_prob(theta, x[[0] * 5]))
    assert fitted.score(theta, x) == pytest.approx(fitted.log_prob(theta, x).mean())
    assert fitted.score(theta, x, sample_weight=[0, 0, 1, 0, 0]) == pytest.approx(
        fitted.log_prob(theta, x)[2]
    )


def test_frames_come_back_as_frames_whatever_the_order_of_columns(tiny: FlowPosterior) -> None:
    theta, x = frames(4, 1)
    drawn = tiny.sample(x.iloc[0], 7, random_state=0)
    assert drawn.columns.tolist() == ["share", "level"]
    assert drawn.index.tolist() == list(range(7))
    assert drawn["share"].between(-1.0, 1.0).all()
    np.testing.assert_array_equal(
        tiny.log_prob(theta[["level", "share"]], x[["c", "a", "b"]]), tiny.log_prob(theta, x)
    )
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        by_position = tiny.log_prob(theta.to_numpy(), x.to_numpy())
    np.testing.assert_array_equal(by_position, tiny.log_prob(theta, x))
    assert tiny.rank_statistics(theta[["level", "share"]], x, n_samples=9).names == ["share", "level"]


def test_vectors_are_one_parameter_and_one_outcome() -> None:
    theta, x = np.linspace(0.1, 5.0, 50), np.linspace(0.0, 1.0, 50)
    posterior = FlowPosterior(bounds=[(0.0, None)], **TINY).fit(theta, x)
    assert posterior.sample(0.3, 5).shape == (5, 1)
    assert posterior.sample([0.3, 0.4], 5).shape == (10, 1)
    assert posterior.sample(pd.Series([0.3, 0.4]), 5).shape == (10, 1)
    assert posterior.sample([0.3], 300, random_state=0).min() >= 0.0
    assert posterior.log_prob(theta, x).shape == (50,)


def test_discrete_parameters_are_drawn_from_what_was_seen() -> None:
    rng = np.random.default_rng(0)
    theta = pd.DataFrame(
        {"model": np.array(["linear", "square"])[np.arange(80) % 2], "count": rng.integers(0, 9, 80)}
    )
    posterior = FlowPosterior(bounds={"count": (0, 20)}, **TINY).fit(theta, rng.normal(size=(80, 3)))
    drawn = posterior.sample([0.0, 0.0, 0.0], 50, random_state=0)
    assert set(drawn["model"]) == {"linear", "square"}
    assert drawn["count"].dtype == theta["count"].dtype
    assert drawn["count"].between(0, 8).all()
    beyond = theta.head(1).assign(count=21)
    assert np.isneginf(posterior.log_prob(beyond, [0.0, 0.0, 0.0])).all()


def test_missing_outcomes_are_learnt_where_fit_had_some() -> None:
    theta, x = simulations(60, 0)
    x[::5, 2] = np.nan
    posterior = FlowPosterior(bounds=BOUNDS, **TINY).fit(theta, x)
    assert np.isfinite(posterior.log_prob(theta, x)).all()
    with pytest.raises(
        InvalidTableError, match=r"a value in columns that had one in every simulation.*\[0\]"
    ):
        posterior.sample([np.nan, 0.0, 0.0])


# --- conventions --------------------------------------------------------------------------------------------


def test_random_states_decide_everything(tiny: FlowPosterior) -> None:
    again = clone(tiny).fit(*frames())
    theta, x = frames(5, 1)
    np.testing.assert_array_equal(again.log_prob(theta, x), tiny.log_prob(theta, x))
    pd.testing.assert_frame_equal(tiny.sample(x, 3, random_state=1), again.sample(x, 3, random_state=1))
    assert not tiny.sample(x, 3).equals(tiny.sample(x, 3))


def test_settings_can_be_searched() -> None:
    theta, x = simulations(60, 0)
    search = GridSearchCV(FlowPosterior(bounds=BOUNDS, **TINY), {"n_layers": [1, 2]}, cv=2)
    assert np.isfinite(search.fit(theta, x).best_score_)


def test_nothing_works_before_fit_or_after_one_that_failed(tiny: FlowPosterior) -> None:
    posterior = clone(tiny)
    for method in (posterior.sample, lambda x: posterior.log_prob(x, x), lambda x: posterior.score(x, x)):
        with pytest.raises(NotFittedError):
            method([[0.0]])
    posterior.fit(*frames())
    with pytest.raises(InvalidTableError):
        posterior.fit(frames()[0] * 10.0, frames()[1])
    with pytest.raises(NotFittedError):
        posterior.rank_statistics(*frames())


def test_the_time_budget_is_for_all_flows() -> None:
    settings = TINY | {"max_steps": 100_000, "patience": None, "n_models": 2, "time_budget": 0.4}
    posterior = FlowPosterior(**settings).fit(*simulations(60, 0))
    assert {str(d.training_result_.stop_reason) for d in posterior.densities_} == {"time_budget"}


def test_a_saved_posterior_answers_as_before(tiny: FlowPosterior, tmp_path: Path) -> None:
    flowdetect.save(tiny, tmp_path / "posterior.flow")
    loaded = flowdetect.load(tmp_path / "posterior.flow")
    theta, x = frames(5, 1)
    np.testing.assert_array_equal(loaded.log_prob(theta, x), tiny.log_prob(theta, x))
    pd.testing.assert_frame_equal(loaded.sample(x, 3, random_state=1), tiny.sample(x, 3, random_state=1))
    assert loaded.get_params() == tiny.get_params()


@pytest.mark.parametrize(
    ("part", "attribute", "value", "sentence"),
    [
        ("", "densities_", [], "there is no density"),
        ("_outcomes", "may_miss", np.zeros(1, dtype=bool), "not those of the densities"),
        ("_outcomes", "high", np.zeros(1), "not those of the densities"),
        ("_map", "centre", np.zeros(1), "there is not one map for each parameter"),
        ("_map", "low", np.array([2.0, -np.inf]), "a lower bound is not below the upper one"),
        ("_trend", "intercepts", np.zeros(1), "the trend is of other outcomes, or of other parameters"),
    ],
)
def test_a_file_whose_parts_do_not_go_together_is_refused(
    tiny: FlowPosterior, tmp_path: Path, part: str, attribute: str, value: Any, sentence: str
) -> None:
    broken = copy.deepcopy(tiny)
    setattr(getattr(broken, part) if part else broken, attribute, value)
    flowdetect.save(broken, tmp_path / "broken.flow")
    with pytest.raises(ModelFileError, match=sentence):
        flowdetect.load(tmp_path / "broken.flow")


# --- observations beyond all simulations --------------------------------------------------------------------


def test_an_observation_beyond_all_simulations_is_warned_of() -> None:
    rng = np.random.default_rng(0)
    theta = rng.normal(size=(60, 1))
    x = pd.DataFrame(
        {
            "height": theta[:, 0] + rng.normal(size=60),
            "kind": np.where(rng.random(60) < 0.5, "low", "high"),
            "count": rng.integers(3, size=60),
        }
    )
    posterior = FlowPosterior(**TINY).fit(theta, x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        posterior.sample(x, 1, random_state=0)
        posterior.log_prob(theta[:1], x[:1].assign(height=99.0))
    with pytest.warns(
        TableWarning, match=r"beyond all simulations: column 'height' = 99.0, simulated from -\d"
    ) as record:
        posterior.sample(x[:3].assign(height=[0.0, 99.0, -99.0]), 1, random_state=0)
    assert record[0].filename == __file__
    with pytest.warns(
        TableWarning,
        match=r"'kind' = none, never simulated; column 'count' = 7, simulated from 0 to 2\. T",
    ):
        posterior.sample(x[:1].assign(kind="none", count=7), 1, random_state=0)
    with pytest.warns(TableWarning, match=r"column 0 = 9000000000\.0, simulated from"):
        FlowPosterior(**TINY).fit(theta, theta).sample([9e9], 1, random_state=0)


# --- refusals -----------------------------------------------------------------------------------------------

THETA, X = simulations(20, 0)
ROW = np.zeros((1, 3))


@pytest.mark.parametrize(
    ("theta", "x", "sentence"),
    [
        (THETA, X[:5], "x must have one row per row of theta; got 5 rows of x for 20 of theta"),
        (THETA, X.reshape(20, 3, 1), r"x must be a table of two dimensions.*got shape \(20, 3, 1\)"),
        (THETA[:, :0], X, r"theta must be a table of two dimensions.*got shape \(20, 0\)"),
        (
            np.where(THETA > 0.9, np.nan, THETA),
            X,
            "theta must have a value for every parameter; 1 is missing",
        ),
        (3.0 * THETA, X, r"theta must lie within the bounds; parameter 0 has \d+ values outside \[-1, 1\]"),
        (np.where(THETA < -0.9, np.inf, THETA), X, "theta cannot be used: .*infinit"),
        (THETA, np.where(X > 900, np.inf, X), "x cannot be used: .*infinit"),
        (THETA[:1], X[:1], "theta cannot be used: .*minimum of 2"),
        (THETA.astype(str), X, "theta cannot be used: |has bounds, so it must hold numbers"),
    ],
)
def test_simulations_that_cannot_be_used_are_refused(theta: Any, x: Any, sentence: str) -> None:
    with pytest.raises(InvalidTableError, match=sentence):
        FlowPosterior(bounds=BOUNDS, **TINY).fit(theta, x)


def test_settings_that_cannot_be_used_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="n_models must be a whole number"):
        FlowPosterior(n_models=0).fit(THETA, X)
    with pytest.raises(ConfigurationError, match="each of 2 parameter"):
        FlowPosterior(bounds=[(0, 1)]).fit(THETA, X)
    with pytest.raises(InvalidTableError, match="sample_weight must be finite and not negative"):
        FlowPosterior(**TINY).fit(THETA, X, sample_weight=-np.ones(20))
    words = pd.DataFrame({"word": ["a", "b"] * 10})
    with pytest.raises(InvalidTableError, match="Parameter 'word' has bounds, so it must hold numbers"):
        FlowPosterior(bounds={"word": (0, 1)}, **TINY).fit(words, X)


def test_observations_that_cannot_be_used_are_refused(tiny: FlowPosterior, fitted: FlowPosterior) -> None:
    with pytest.raises(InvalidTableError, match=r"x_observed must have 3 column\(s\).*got shape \(1, 2\)"):
        fitted.sample([0.0, 1.0])
    with pytest.raises(InvalidTableError, match="x cannot be used: .*infinit"):
        fitted.sample([np.inf, 0.0, 0.0])
    with pytest.raises(InvalidTableError, match="x cannot be used: .*missing: 'c'"):
        tiny.sample(frames(2)[1][["a", "b"]])
    with pytest.raises(ConfigurationError, match="n_samples must be a whole number"):
        fitted.sample(ROW, 0)
    with pytest.raises(ConfigurationError, match="n_samples must be a whole number"):
        fitted.rank_statistics(THETA, X, n_samples=0)
    with pytest.raises(
        InvalidTableError, match="x must have one row per row of theta; got 2 rows of x for 20"
    ):
        fitted.log_prob(THETA, X[:2])
    with pytest.raises(InvalidTableError, match="theta cannot be used: .*missing: 'share'"):
        tiny.log_prob(frames(2)[0][["level"]], frames(2)[1])
