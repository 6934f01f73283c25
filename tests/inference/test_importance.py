import numpy as np
import pytest
from scipy.stats import genpareto

from flowdetect.inference._importance import fit_pareto, smooth_weights


@pytest.mark.parametrize("k", [-0.3, 0.0, 0.4, 0.8])
def test_the_shape_of_a_pareto_tail_is_found(k: float) -> None:
    values = np.sort(genpareto.rvs(k, scale=2.0, size=20_000, random_state=0))
    shape, scale = fit_pareto(values)
    # The standard error of the shape is about (1 + k) / sqrt(n) = 0.013 at most.
    assert shape == pytest.approx(k, abs=0.05)
    assert scale == pytest.approx(2.0, rel=0.05)


@pytest.mark.parametrize(("width", "expected"), [(np.sqrt(0.6), 0.4), (0.5, 0.75)])
def test_k_of_a_gaussian_that_is_narrower_than_its_target_is_known(width: float, expected: float) -> None:
    # log p - log q = (1 / s^2 - 1) x^2 / 2 for q of width s: tails of shape 1 - s^2.
    x = width * np.random.default_rng(1).standard_normal(400_000)
    weights = smooth_weights(0.5 * (1.0 / width**2 - 1.0) * x**2)
    assert weights.pareto_k == pytest.approx(expected, abs=0.15)


def test_smoothing_takes_variance_out_of_the_mean() -> None:
    rng = np.random.default_rng(2)
    raw, smooth = [], []
    for _ in range(200):
        x = 0.65 * rng.standard_normal(300)
        log_ratios = np.log(0.65) + 0.5 * (1.0 / 0.65**2 - 1.0) * x**2
        raw.append(np.exp(log_ratios).mean())
        smooth.append(np.exp(smooth_weights(log_ratios).log_mean()[0]))
    assert np.mean(np.square(np.array(smooth) - 1.0)) < 0.8 * np.mean(np.square(np.array(raw) - 1.0))


def test_order_of_rows_and_constants_do_not_matter() -> None:
    ratios = np.random.default_rng(3).normal(size=500)
    weights, turned = smooth_weights(ratios), smooth_weights(ratios[::-1] + 700.0)
    np.testing.assert_allclose(turned.log_weights[::-1], weights.log_weights + 700.0)
    assert turned.pareto_k == pytest.approx(weights.pareto_k)
    assert weights.normalised.sum() == pytest.approx(1.0)
    assert np.array_equal(np.argsort(weights.log_weights), np.argsort(ratios))


def test_equal_weights_are_worth_all_draws_and_few_draws_have_no_known_tail() -> None:
    equal = smooth_weights(np.full(100, 3.0))
    assert equal.effective_size == pytest.approx(100.0)
    assert equal.log_mean() == (pytest.approx(3.0), pytest.approx(0.0))
    assert equal.pareto_k == -np.inf
    assert smooth_weights(np.arange(8.0)).pareto_k == np.inf


def test_a_tail_counts_where_weights_are_large() -> None:
    heavy = np.log(genpareto.rvs(1.2, size=2000, random_state=0))
    assert smooth_weights(heavy).pareto_k > 0.7 and not smooth_weights(heavy).trustworthy
    # The same tail, of weights that are all but equal.
    slight = np.log1p(1e-6 * np.exp(heavy))
    assert smooth_weights(slight).pareto_k > 0.7 and smooth_weights(slight).trustworthy
    assert smooth_weights(np.random.default_rng(0).normal(size=2000)).trustworthy


def test_draws_of_no_weight_leave_a_finite_rest() -> None:
    ratios = np.random.default_rng(4).normal(size=400)
    ratios[:40] = -np.inf
    weights = smooth_weights(ratios)
    assert (weights.normalised[:40] == 0.0).all()
    assert np.isfinite(weights.pareto_k)
    # So many that the tail is all there is: nothing can be said of it.
    assert smooth_weights(np.r_[np.full(390, -np.inf), np.arange(10.0)]).pareto_k == np.inf


def test_mean_and_its_error_by_weights() -> None:
    weights = smooth_weights(np.zeros(1000))
    values = np.random.default_rng(5).normal(size=(1000, 2))
    mean, error = weights.mean_of(values)
    np.testing.assert_allclose(mean, values.mean(axis=0))
    np.testing.assert_allclose(error, values.std(axis=0) / np.sqrt(1000))
