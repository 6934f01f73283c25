from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import binom, norm

from flowdetect import FlowDensity
from flowdetect.exceptions import ConfigurationError, InvalidTableError
from flowdetect.inference import Moments, expectation, moments, quantiles
from flowdetect.inference._moments import _column_quantiles, _pair_moments

both_methods = pytest.mark.parametrize("method", ["rqmc", "mc"])


def exact_quantile(density: FlowDensity, q: float) -> float:
    noise = torch.full((1, 1), norm.ppf(q), dtype=torch.float64)
    matrix = density.density_.flow._transform.inverse(noise, None)[0].detach().numpy()
    return float(density.encoder_.decode(matrix)[0, 0])


@both_methods
def test_moments_are_the_expectations_they_stand_for(plane: FlowDensity, method: str) -> None:
    settings = {"context": [[0.5], [-1.0]], "n_samples": 1024, "method": method, "random_state": 0}
    found = moments(plane, **settings)
    mean = expectation(plane, lambda rows: rows, **settings)
    np.testing.assert_allclose(found.mean.value, mean.value, rtol=1e-9)
    np.testing.assert_allclose(found.mean.standard_error, mean.standard_error, rtol=1e-6)
    assert found.covariance.value.shape == (2, 2, 2)
    for k in range(2):
        centre = mean.value[k]
        product = expectation(
            plane,
            lambda rows, m=centre: np.prod(rows - m, axis=1),
            **{**settings, "context": [[0.5], [-1.0]][k]},
        )
        np.testing.assert_allclose(found.covariance.value[k, 0, 1], product.value[0], rtol=1e-9)
        # The mean's own error counts only to second order.
        np.testing.assert_allclose(
            found.covariance.standard_error[k, 0, 1], product.standard_error[0], rtol=0.05
        )
    sd = found.standard_deviation
    np.testing.assert_allclose(sd.value[0, 0] ** 2, found.covariance.value[0, 0, 0])
    np.testing.assert_allclose(
        2.0 * sd.value[0, 0] * sd.standard_error[0, 0], found.covariance.standard_error[0, 0, 0]
    )


def test_moments_of_missing_entries_are_those_of_the_present_ones(mixed: FlowDensity) -> None:
    found = moments(mixed, random_state=0)
    rows = mixed.sample(20_000, random_state=1)[list(found.columns)].astype(float)
    assert found.columns == ("size", "weight", "count", "old")
    np.testing.assert_allclose(found.mean.value, rows.mean(), atol=5.0 * rows.std().max() / 140.0)
    np.testing.assert_allclose(found.covariance.value, rows.cov(), atol=0.6)
    np.testing.assert_allclose(found.covariance.value, found.covariance.value.T, atol=1e-12)


def test_error_of_a_ratio_is_its_spread() -> None:
    rng = np.random.default_rng(0)

    def draw() -> np.ndarray:
        numbers = rng.normal(size=(400, 1, 2)) @ np.array([[1.0, 0.7], [0.0, 1.0]])
        return np.where(rng.random((400, 1, 2)) < 0.3, np.nan, numbers)

    found = [_pair_moments(draw()) for _ in range(300)]
    mean, mean_error, covariance, covariance_error = (np.stack(part) for part in zip(*found, strict=True))
    np.testing.assert_allclose(mean.std(axis=0), mean_error.mean(axis=0), rtol=0.15)
    np.testing.assert_allclose(covariance.std(axis=0), covariance_error.mean(axis=0), rtol=0.15)


@both_methods
def test_quantiles_of_one_column_are_exact(line: FlowDensity, method: str) -> None:
    levels = [0.01, 0.25, 0.5, 0.9, 0.99]
    value, error = quantiles(line, levels, n_samples=8192, method=method, random_state=0)
    exact = np.array([exact_quantile(line, level) for level in levels])
    assert value.shape == (5, 1)
    assert (np.abs(value[:, 0] - exact) < 5.0 * error[:, 0]).all()
    assert quantiles(line, 0.5, n_samples=64).value.shape == (1,)


@both_methods
def test_errors_of_quantiles_cover(line: FlowDensity, method: str) -> None:
    exact, hits, n_tries = exact_quantile(line, 0.7), 0, 100
    for seed in range(n_tries):
        low, high = quantiles(line, 0.7, n_samples=512, method=method, random_state=seed).interval(0.8)
        hits += bool(low[0] < exact < high[0])
    assert binom.ppf(0.001, n_tries, 0.8) <= hits <= binom.ppf(0.999, n_tries, 0.8)


def test_quantiles_with_context(plane: FlowDensity) -> None:
    found = quantiles(plane, [0.1, 0.9], columns=1, context=[0.0, 2.0], n_samples=512, random_state=0)
    assert found.value.shape == (2, 2, 1) and found.columns == (1,)
    assert (found.value[1] > found.value[0]).all() and (found.value[:, 1] > found.value[:, 0]).all()


def test_quantiles_of_whole_numbers_are_whole() -> None:
    value, error = _column_quantiles(
        np.array([[1.0, 2.0], [2.0, np.nan], [3.0, 5.0]])[:, :, None],
        np.array([0.2, 0.5, 1.0 - 1e-6]),
        [False],
    )
    assert value[:, 0].tolist() == [1.0, 2.0, 5.0]
    assert (error >= 0.0).all()


@pytest.mark.parametrize("q", [0.0, 1.0, [0.5, 1.5], [], float("nan"), [[0.5]]])
def test_wrong_levels_are_refused(line: FlowDensity, q: Any) -> None:
    with pytest.raises(ConfigurationError, match="q must be numbers between 0 and 1, the ends excluded"):
        quantiles(line, q)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (["weight", "colour"], "columns must hold numbers, at least one of them; got 'colour'"),
        (["day"], "got 'day'. Name numeric columns"),
        ([], "got none"),
        (["height"], "must be among those of the table; got 'height'"),
    ],
)
def test_wrong_columns_are_refused(mixed: FlowDensity, columns: Any, message: str) -> None:
    for function in (moments, lambda density, **rest: quantiles(density, 0.5, **rest)):
        with pytest.raises(InvalidTableError, match=message):
            function(mixed, columns=columns)


def test_columns_missing_in_all_rows_drawn_are_named() -> None:
    table = pd.DataFrame({"a": [1.0, 2.5, 3.25] + [np.nan] * 4000, "b": np.arange(4003) % 7 / 3.0})
    density = FlowDensity(max_steps=5, n_layers=1, hidden_features=4, random_state=0).fit(table)
    with pytest.raises(InvalidTableError, match="Column 'a' is missing in all of 64 rows drawn"):
        moments(density, n_samples=64, random_state=0)


def test_columns_never_present_together_are_refused() -> None:
    draws = np.array([[[1.0, np.nan]], [[np.nan, 2.0]], [[3.0, np.nan]]])
    with pytest.raises(InvalidTableError, match="Some two columns are never both present"):
        _pair_moments(draws)


def test_products_too_large_are_refused() -> None:
    with pytest.raises(InvalidTableError, match="Some two columns have products too large in the rows drawn"):
        _pair_moments(np.array([[[1e300]], [[-1e300]]]))


def test_names_may_be_tuples_and_whole_numbers() -> None:
    rng = np.random.default_rng(0)
    table = pd.DataFrame({("size", 1): rng.normal(size=40), 7: rng.normal(size=40)})
    density = FlowDensity(max_steps=3, n_layers=1, hidden_features=4, random_state=0).fit(table)
    asked = {
        ("size", 1): (("size", 1),),
        7: (7,),
        0: (("size", 1),),
        np.int64(1): (7,),
        (7, 0): (7, ("size", 1)),
    }
    for columns, names in asked.items():
        assert moments(density, columns=columns, n_samples=64).columns == names
    for wrong in (True, [[0]], 2.5, -1):
        with pytest.raises(InvalidTableError, match="must be among those of the table; got"):
            moments(density, columns=wrong, n_samples=64)


def test_constant_column_has_a_deviation_of_zero() -> None:
    density = FlowDensity(max_steps=3).fit(
        np.column_stack([np.full(30, 2.0), np.linspace(0.0, 1.0, 30) ** 2])
    )
    found = moments(density, columns=[0], n_samples=64, random_state=0)
    assert isinstance(found, Moments)
    assert found.standard_deviation.value == 0.0 == found.standard_deviation.standard_error
