import math
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from flowdetect.exceptions import ConfigurationError
from flowdetect.inference._bounds import free_values, inside, resolve_bounds, within_bounds

INFINITY = math.inf
KINDS = [(-2.0, 3.0), (1.0, INFINITY), (-INFINITY, 1.0), (-INFINITY, INFINITY), (-1e-9, 1e-9), (0.0, 1e12)]


def some_values(low: float, high: float) -> np.ndarray:
    shares = np.linspace(0.01, 0.99, 25)
    if math.isfinite(low) and math.isfinite(high):
        return low + (high - low) * shares
    if math.isfinite(low):
        return low + 10.0 ** np.linspace(-6, 6, 25)
    return high - 10.0 ** np.linspace(-6, 6, 25) if math.isfinite(high) else np.linspace(-5, 5, 25)


@pytest.mark.parametrize(("low", "high"), KINDS)
def test_the_map_is_undone(low: float, high: float) -> None:
    values = some_values(low, high)
    free, _ = free_values(values, low, high)
    assert (np.diff(free[np.argsort(values)]) > 0.0).all()
    np.testing.assert_allclose(within_bounds(free, low, high), values, rtol=1e-9, atol=1e-12 * np.ptp(values))


@pytest.mark.parametrize(("low", "high"), KINDS)
def test_the_log_slope_is_that_of_small_steps(low: float, high: float) -> None:
    free, log_slope = free_values(some_values(low, high), low, high)
    step = 1e-5
    change = within_bounds(free + step, low, high) - within_bounds(free - step, low, high)
    np.testing.assert_allclose(-np.log(change / (2 * step)), log_slope, atol=1e-4)


def test_what_is_uniform_becomes_standard_normal() -> None:
    values = np.linspace(-2.0, 3.0, 11)[1:-1]
    free, log_slope = free_values(values, -2.0, 3.0)
    np.testing.assert_allclose(norm.logpdf(free) + log_slope, -math.log(5.0))


@pytest.mark.parametrize(("low", "high"), KINDS[:3])
def test_values_on_a_bound_and_far_out_stay_finite_and_inside(low: float, high: float) -> None:
    ends = np.array([end for end in (low, high) if math.isfinite(end)])
    free, log_slope = free_values(ends, low, high)
    assert np.isfinite(free).all()
    assert np.isfinite(log_slope).all()
    drawn = within_bounds(np.array([-1e6, -50.0, 0.0, 50.0, 1e6]), low, high)
    assert np.isfinite(drawn).all()
    assert inside(drawn, low, high).all()


def test_inside_counts_the_bounds_and_not_nan() -> None:
    assert inside(np.array([0.0, 1.0, 1.1, np.nan]), 0.0, 1.0).tolist() == [True, True, False, False]


@pytest.mark.parametrize(
    "bounds",
    [
        {"b": (0, None)},
        [None, (0.0, INFINITY)],
        [(None, None), np.array([0.0, INFINITY])],
        np.array([[-INFINITY, INFINITY], [0.0, INFINITY]]),
    ],
)
def test_bounds_by_name_and_in_order_are_the_same(bounds: Any) -> None:
    low, high = resolve_bounds(bounds, ["a", "b"])
    assert low.tolist() == [-INFINITY, 0.0]
    assert high.tolist() == [INFINITY, INFINITY]


def test_without_bounds_all_ends_are_open() -> None:
    assert np.isinf(resolve_bounds(None, ["a"])).all()


@pytest.mark.parametrize(
    ("bounds", "sentence"),
    [
        ({"c": (0, 1)}, r"bounds must name parameters, which are \['a', 'b'\]; got \['c'\]"),
        ([(0, 1)], r"one \(low, high\) for each of 2 parameter\(s\); got 1"),
        ("ab", "bounds must be a dict, or a list"),
        (7, "bounds must be a dict, or a list"),
        ((0, 1), r"The bounds of parameter 'a' must be two numbers \(low, high\)"),
        ([(0, 1), (0, "high")], "The bounds of parameter 'b' must be two numbers"),
        ([(0, 1), (2, 1)], r"must be \(low, high\) with low < high"),
        ([(0, 1), (1, 1)], r"must be \(low, high\) with low < high"),
        ([(0, 1), (np.nan, 1)], r"must be \(low, high\) with low < high"),
        ([(-1.7e308, 1.7e308), None], "less than the largest number apart"),
    ],
)
def test_bounds_that_do_not_fit_are_refused(bounds: Any, sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        resolve_bounds(bounds, ["a", "b"])
