from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import binom, norm
from sklearn.exceptions import NotFittedError

from flowdetect import FlowClassifier, FlowDensity, FlowImputer, FlowOutlierDetector
from flowdetect.exceptions import ConfigurationError, InvalidTableError
from flowdetect.inference import Estimate, FlowMixture, expectation, moments, probability, quantiles
from flowdetect.inference._estimate import RunningMean
from flowdetect.inference._points import Points, make_points

both_methods = pytest.mark.parametrize("method", ["rqmc", "mc"])


def first(rows: np.ndarray) -> np.ndarray:
    return rows[:, 0]


def exact_mean(density: FlowDensity, power: int = 1) -> float:
    """Integrate with the score as the density, a route that draws nothing."""
    axis = np.linspace(-60.0, 90.0, 60_001)
    return float(np.trapezoid(axis**power * np.exp(density.score_samples(axis[:, None])), axis))


@both_methods
def test_mean_is_that_of_quadrature(line: FlowDensity, method: str) -> None:
    found = expectation(line, first, method=method, random_state=0)
    low, high = found.interval(0.999)
    assert low < exact_mean(line) < high
    assert found.standard_error < {"rqmc": 0.005, "mc": 0.1}[method]
    assert found.degrees_of_freedom == {"rqmc": 15, "mc": 4095}[method]
    assert isinstance(found.value, float)


@both_methods
def test_errors_cover_the_exact_value_as_often_as_they_say(line: FlowDensity, method: str) -> None:
    exact, n_tries = exact_mean(line), 100
    hits = 0
    for seed in range(n_tries):
        low, high = expectation(line, first, n_samples=256, method=method, random_state=seed).interval(0.8)
        hits += low < exact < high
    # The flow's tails make the mean of an independent scrambling a little heavier-tailed than normal.
    assert binom.ppf(0.002, n_tries, 0.8) <= hits <= binom.ppf(0.998, n_tries, 0.8)


def test_even_points_are_far_more_precise_than_independent_ones(line: FlowDensity) -> None:
    errors = {
        method: expectation(line, first, n_samples=2048, method=method, random_state=1).standard_error
        for method in ("rqmc", "mc")
    }
    assert errors["rqmc"] < 0.1 * errors["mc"]


def test_several_numbers_contexts_and_methods_go_together(plane: FlowDensity) -> None:
    contexts = np.array([[-1.0], [0.0], [2.0]])
    both = expectation(plane, lambda rows: rows, context=contexts, n_samples=512, random_state=3)
    assert both.value.shape == both.standard_error.shape == (3, 2)
    one = expectation(plane, first, context=contexts[1], n_samples=512, random_state=3)
    assert one.value.shape == (1,)
    np.testing.assert_allclose(one.value[0], both.value[1, 0], rtol=1e-9)
    reference = plane.sample(4000, context=contexts, random_state=0).reshape(3, 4000, 2).mean(axis=1)
    np.testing.assert_allclose(both.value, reference, atol=0.1)
    value, error = both
    assert value is both.value and error is both.standard_error


@both_methods
def test_chunks_do_not_change_the_number(
    plane: FlowDensity, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    contexts = np.linspace(-1.0, 1.0, 5)[:, None]
    settings = {"context": contexts, "n_samples": 1024, "method": method, "random_state": 3}
    whole = [expectation(plane, first, **settings), quantiles(plane, 0.3, **settings)]
    monkeypatch.setattr(FlowDensity, "_chunks", lambda self, n: iter([slice(0, 40)]))
    parts = [expectation(plane, first, **settings), quantiles(plane, 0.3, **settings)]
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_allclose(one.value, other.value, rtol=1e-10)
        np.testing.assert_allclose(one.standard_error, other.standard_error, rtol=1e-6)


def test_seed_decides_and_global_streams_stay(line: FlowDensity) -> None:
    one, same, other = (expectation(line, first, random_state=seed).value for seed in (1, 1, 2))
    assert one == same != other
    assert expectation(line, first).value != expectation(line, first).value


def test_rows_come_as_sample_gives_them(mixed: FlowDensity) -> None:
    seen = []
    expectation(mixed, lambda rows: seen.append(rows) or np.zeros(len(rows)), n_samples=64, random_state=0)
    drawn = mixed.sample(3, random_state=0)
    assert (seen[0].dtypes == drawn.dtypes).all() and list(seen[0]) == list(drawn)


def test_augmenter_takes_classes_as_context(augmenter: Any) -> None:
    value, error = expectation(augmenter, first, context=["a", "b"], random_state=0)
    assert value[1] - value[0] > 2.0 and (error < 0.1).all()
    with pytest.raises(InvalidTableError, match="context cannot be used: y must be one class"):
        expectation(augmenter, first, context=["a", "c"])
    with pytest.raises(InvalidTableError, match="fitted with context, so it needs one"):
        expectation(augmenter, first)


def test_points_fill_the_cube_and_each_is_uniform() -> None:
    points = make_points(1000, "rqmc", 3, 0)
    assert (points.n_groups, points.n_per_group, points.n_points) == (16, 64, 1024)
    first_group = next(points.blocks(64))
    for column in first_group.T:
        np.testing.assert_array_equal(np.sort((column * 64).astype(int)), np.arange(64))
    everything = np.concatenate(list(points.blocks(10**6)))
    np.testing.assert_array_equal(np.concatenate(list(points.blocks(100))), everything)
    np.testing.assert_array_equal(np.concatenate(list(points.blocks(16))), everything)
    assert 0.0 < everything.min() and everything.max() < 1.0
    independent = np.concatenate(list(Points(1000, 1, 3, 0).blocks(300)))
    assert independent.shape == (1000, 3) and 0.0 < independent.min() and independent.max() < 1.0


def test_running_mean_is_that_of_all_groups() -> None:
    numbers = np.random.default_rng(0).normal(1e6, 1.0, size=(2, 50, 3))
    running = RunningMean()
    for part in np.split(numbers, [7, 8, 30], axis=1):
        running.add(part)
    np.testing.assert_allclose(running.mean, numbers.mean(axis=1))
    np.testing.assert_allclose(running.standard_error(), numbers.std(axis=1, ddof=1) / np.sqrt(50))


def test_interval_is_students() -> None:
    low, high = Estimate(1.0, 0.5, 10**6, 10**6).interval(0.9)
    assert (low, high) == pytest.approx((1.0 - 0.5 * norm.ppf(0.95), 1.0 + 0.5 * norm.ppf(0.95)), abs=1e-4)
    with pytest.raises(ConfigurationError, match=r"level must lie between 0 and 1; got 95\."):
        Estimate(1.0, 0.5, 64, 15).interval(95)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda rows: rows[:-1, 0], r"one number per row, shape \(64,\).*got shape \(63,\)"),
        (lambda rows: rows[:, 0].mean(), r"got shape \(\)"),
        (lambda rows: rows[:, :0], r"got shape \(64, 0\)"),
        (lambda rows: rows[:, 0] / 0.0, "must return finite numbers; got NaN or infinity"),
        (lambda rows: np.full(len(rows), "a"), "must return numbers; got dtype <U1"),
    ],
)
def test_wrong_functions_are_refused(line: FlowDensity, function: Any, message: str) -> None:
    with np.errstate(divide="ignore"), pytest.raises(InvalidTableError, match=message):
        expectation(line, function, n_samples=64, random_state=0)


def test_function_must_keep_its_width(line: FlowDensity, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FlowDensity, "_chunks", lambda self, n: iter([slice(0, 32)]))
    widths = iter([1, 2])
    with pytest.raises(InvalidTableError, match="equally many numbers for every row; got 1, then 2"):
        expectation(line, lambda rows: np.zeros((len(rows), next(widths))), n_samples=64)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_samples": 31}, "n_samples must be at least 32 with method='rqmc'"),
        ({"n_samples": 1, "method": "mc"}, "n_samples must be at least 2 with method='mc'"),
        ({"n_samples": 2.5}, "n_samples must be a whole number"),
        ({"method": "qmc"}, r"method must be one of \('rqmc', 'mc'\); got 'qmc'"),
        ({"context": [[1.0]]}, "fitted without context, so it takes none"),
        ({"random_state": "a"}, "random_state must be None"),
    ],
)
def test_wrong_settings_are_refused(line: FlowDensity, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        expectation(line, first, **settings)


def test_wrong_densities_are_refused(line: FlowDensity, plane: FlowDensity) -> None:
    with pytest.raises(
        ConfigurationError, match="density must be a FlowDensity or a FlowAugmenter; got 'flow'"
    ):
        expectation("flow", first)
    with pytest.raises(NotFittedError):
        moments(FlowDensity())
    with pytest.raises(InvalidTableError, match="fitted with context, so it needs one; got none"):
        probability(plane, {0: (0, None)})
    with pytest.raises(ConfigurationError, match="serves at most 21201 columns; got 30000. Use method='mc'"):
        make_points(64, "rqmc", 30_000, 0)
    assert make_points(64, "mc", 30_000, 0).n_points == 64


@pytest.mark.parametrize("estimator", [FlowOutlierDetector, FlowClassifier, FlowMixture, FlowImputer])
def test_densities_of_rows_behind_other_maps_are_refused(estimator: Any) -> None:
    few = {"max_steps": 2, "n_layers": 1, "hidden_features": 4, "random_state": 0}
    few |= {"max_iter": 1} if estimator is FlowMixture else {}
    rows = np.random.default_rng(0).normal(size=(30, 2))
    fitted = estimator(**few).fit(rows, np.arange(30) % 2)
    with pytest.raises(
        ConfigurationError, match=f"got a {estimator.__name__}. Fit a FlowDensity on the same"
    ):
        moments(fitted, context=[[0], [1]])


@pytest.mark.parametrize("with_context", [False, True])
def test_rows_have_the_noise_that_sample_gives_them(with_context: bool) -> None:
    rng = np.random.default_rng(0)
    given = rng.normal(size=(400, 1)) if with_context else None
    X = rng.normal([10.0, -3.0], [2.0, 0.5], size=(400, 2)) + (0.0 if given is None else given)
    density = FlowDensity(
        noise_scales=(1.0, 2.0), max_steps=20, n_layers=2, hidden_features=8, random_state=0
    )
    density.fit(X, context=given)
    asked = None if given is None else [[1.5]]
    drawn = density.sample(4000, context=asked, random_state=0)
    found = moments(density, context=asked, n_samples=1024, random_state=0)
    np.testing.assert_allclose(np.squeeze(found.mean.value), drawn.mean(axis=0), atol=0.15)
    np.testing.assert_allclose(np.squeeze(found.covariance.value), np.cov(drawn.T), atol=0.4)
    share = probability(density, {1: (None, -3.0)}, context=asked, n_samples=1024, random_state=0).value
    np.testing.assert_allclose(share, np.mean(drawn[:, 1] <= -3.0), atol=0.03)


def test_lent_streams_move_by_one_draw(line: FlowDensity) -> None:
    lent = np.random.default_rng(5)
    one, other = (expectation(line, first, n_samples=64, random_state=lent).value for _ in range(2))
    assert one != other
    assert torch.initial_seed() == torch.default_generator.initial_seed()


def test_table_of_constants_has_constant_means() -> None:
    table = pd.DataFrame({"a": np.full(20, 3.0), "b": ["x"] * 20})
    density = FlowDensity(max_steps=3).fit(table)
    value, error = expectation(density, lambda rows: rows["a"], n_samples=64, random_state=0)
    assert (value, error) == (3.0, 0.0)
