from collections.abc import Callable

import numpy as np
import pytest

from flowdetect.inference._gaussian import Gaussian, choose_start, fit_gaussian


def normal(location: np.ndarray, covariance: np.ndarray) -> Callable:
    precision = np.linalg.inv(covariance)

    def gradients(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        slopes = -(rows - location) @ precision
        return 0.5 * ((rows - location) * slopes).sum(axis=1), slopes

    return gradients


@pytest.mark.parametrize("temperature", [1.0, 6.0])
@pytest.mark.parametrize("n_features", [1, 3, 12])
def test_a_gaussian_of_any_location_and_units_is_found(n_features: int, temperature: float) -> None:
    rng = np.random.default_rng(n_features)
    root = np.logspace(-2, 4, n_features)[:, None] * rng.normal(size=(n_features, n_features))
    location = 1e4 * rng.normal(size=n_features)
    covariance = root @ root.T
    found = fit_gaussian(normal(location, covariance), np.zeros(n_features), rng, temperature=temperature)
    spread = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose((found.location - location) / spread, 0.0, atol=0.02)
    np.testing.assert_allclose(
        found.scale @ found.scale.T / np.outer(spread, spread),
        covariance / np.outer(spread, spread),
        atol=0.05,
    )
    assert (np.triu(found.scale, 1) == 0).all() and (np.diag(found.scale) > 0).all()


def test_a_high_temperature_looks_over_two_modes() -> None:
    def gradients(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x = rows[:, 0]
        values = np.logaddexp(-0.5 * (x - 4.0) ** 2, -0.5 * (x + 4.0) ** 2)
        return values, (-x + 4.0 * np.tanh(4.0 * x))[:, None]

    start, rng = np.array([1.0]), np.random.default_rng(0)
    assert abs(fit_gaussian(gradients, start, rng, temperature=1.0).location[0]) > 3.0
    assert abs(fit_gaussian(gradients, start, rng, temperature=20.0).location[0]) < 2.0


@pytest.mark.parametrize(("apart", "expected"), [(4.0, 10.0), (0.0, 1.0)])
def test_the_start_is_hot_where_that_covers_more(apart: float, expected: float) -> None:
    def gradients(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x = rows[:, 0]
        values = np.logaddexp(-0.5 * (x - apart) ** 2, -0.5 * (x + apart) ** 2)
        return values, (-x + apart * np.tanh(apart * x))[:, None]

    found, temperature = choose_start(
        gradients, np.ones(1), np.random.default_rng(0), temperatures=[10.0, 40.0]
    )
    assert temperature == expected
    assert np.isfinite(found.location).all()


def test_a_neck_without_a_bottom_does_no_harm() -> None:
    def funnel(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        v, x = rows[:, 0], rows[:, 1:]
        with np.errstate(over="ignore", invalid="ignore"):
            squares = np.exp(-v) * np.square(x).sum(axis=1)
            slopes = np.column_stack([-v / 9.0 - 4.5 + 0.5 * squares, -x * np.exp(-v)[:, None]])
            return -v * v / 18.0 - 4.5 * v - 0.5 * squares, slopes

    found = fit_gaussian(funnel, np.ones(10), np.random.default_rng(0))
    assert np.isfinite(found.location).all() and np.isfinite(found.scale).all()
    # The mode lies at -40.5, where the other columns are 1e-9 wide.
    assert abs(found.location[0]) < 6.0
    assert found.scale[1, 1] > 0.05


def test_draws_stay_where_the_density_can_be_told() -> None:
    days = np.array([12.0, 7.0, 3.0, 30.0, 5.0, 9.0])
    furthest = [0.0]

    def weibull(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the density of the logarithms of shape and scale, with N(0, 2) priors."""
        furthest[0] = max(furthest[0], float(np.abs(rows).max()))
        shape, scale = rows[:, :1], rows[:, 1:]
        with np.errstate(over="ignore", invalid="ignore"):
            k, ratio = np.exp(shape), np.log(days) - scale
            power = np.exp(k * ratio)
            values = (shape + (k - 1.0) * ratio - scale - power).sum(axis=1) - np.square(rows).sum(
                axis=1
            ) / 8.0
            of_shape = (1.0 + k * ratio * (1.0 - power)).sum(axis=1) - rows[:, 0] / 4.0
            of_scale = (k * (power - 1.0)).sum(axis=1) - rows[:, 1] / 4.0
        return values, np.column_stack([of_shape, of_scale])

    for temperature in (1.0, 10.0, 40.0):
        fit_gaussian(weibull, np.zeros(2), np.random.default_rng(0), temperature=temperature)
    assert furthest[0] < 200.0


def test_elbo_of_nan_is_the_worst() -> None:
    gaussian = Gaussian(np.zeros(2), np.eye(2))
    noise = np.zeros((3, 2))
    assert gaussian.elbo(lambda rows: (np.full(len(rows), np.nan), rows), noise) == -np.inf
    assert gaussian.elbo(lambda rows: (np.ones(len(rows)), rows), noise) == 1.0


def test_bound_of_the_density_itself_is_its_constant() -> None:
    gaussian = Gaussian(np.ones(2), 2.0 * np.eye(2))
    gradients = normal(np.ones(2), 4.0 * np.eye(2))
    noise = np.random.default_rng(0).standard_normal((50, 2))
    assert gaussian.bound(gradients, noise) == pytest.approx(np.log(2.0 * np.pi * 4.0))
    # A wider one finds as much, with more noise.
    wide = gaussian.bound(gradients, np.random.default_rng(0).standard_normal((20_000, 2)), 2.0)
    assert wide == pytest.approx(np.log(2.0 * np.pi * 4.0), abs=0.05)
    # Where p is not a number a draw has no weight.
    half = gaussian.bound(
        lambda rows: (np.where(np.arange(50) < 25, np.nan, gradients(rows)[0]), rows), noise
    )
    assert half == pytest.approx(np.log(2.0 * np.pi * 4.0) - np.log(2.0))
