"""Parameters within bounds, and without: an exact, monotone map of each. numpy only."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import ndtr, ndtri

from flowdetect.exceptions import ConfigurationError

__all__ = ["free_values", "inside", "resolve_bounds", "within_bounds"]

_LOG_ROOT_TAU = 0.5 * math.log(2.0 * math.pi)
# A value on a bound is read as if it lay this share of the width (at an open end: of one unit) inside of it.
_LEAST_SHARE = float(np.finfo(np.float64).eps) / 2.0


def resolve_bounds(bounds: Any, names: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Return the lower and the upper bound of each parameter, infinite where open.

    Parameters
    ----------
    bounds : dict, sequence or None
        By name, or one for each parameter: ``(low, high)``, either of them None or infinite where open; None
        for a parameter without bounds.
    names : sequence
        The parameters.

    Returns
    -------
    low, high : ndarray of float64, shape (n_parameters,)

    Raises
    ------
    ConfigurationError
        If a name is unknown, there is another number of them, or one is no pair with ``low < high``.
    """
    if bounds is None:
        pairs: list[Any] = [None] * len(names)
    elif isinstance(bounds, Mapping):
        pairs = _pairs_by_name(bounds, names)
    else:
        pairs = _pairs_in_order(bounds, names)
    ends = [_ends(pair, name) for pair, name in zip(pairs, names, strict=True)]
    low, high = np.array(ends, dtype=np.float64).reshape(len(names), 2).T
    return low.copy(), high.copy()


def _pairs_by_name(bounds: Mapping[Any, Any], names: Sequence[Any]) -> list[Any]:
    unknown = [name for name in bounds if name not in names]
    if unknown:
        raise ConfigurationError(
            f"bounds must name parameters, which are {list(names)!r}; got {unknown!r}. Rename or drop "
            "them; parameters of an array are named by their position."
        )
    return [bounds.get(name) for name in names]


def _pairs_in_order(bounds: Any, names: Sequence[Any]) -> list[Any]:
    sized = isinstance(bounds, Sequence | np.ndarray) and not isinstance(bounds, str)
    if not sized or len(bounds) != len(names):
        given = f"{len(bounds)}" if sized else repr(bounds)
        raise ConfigurationError(
            f"bounds must be a dict, or a list with one (low, high) for each of {len(names)} parameter(s); "
            f"got {given}. Give None for a parameter without bounds."
        )
    return list(bounds)


def _ends(pair: Any, name: Any) -> tuple[float, float]:
    if pair is None:
        return -math.inf, math.inf
    try:
        low, high = pair
        low = -math.inf if low is None else float(low)
        high = math.inf if high is None else float(high)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            f"The bounds of parameter {name!r} must be two numbers (low, high), None for an open end; "
            f"got {pair!r}."
        ) from error
    if not low < high or (math.isinf(high - low) and math.isfinite(low) and math.isfinite(high)):
        raise ConfigurationError(
            f"The bounds of parameter {name!r} must be (low, high) with low < high, less than the largest "
            f"number apart; got {pair!r}."
        )
    return low, high


def inside(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return which values lie within the bounds, these included; NaN does not."""
    return (values >= low) & (values <= high)


def free_values(values: np.ndarray, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """Map values within bounds to the whole line.

    Parameters
    ----------
    values : ndarray of shape (n,)
        Within the bounds.
    low, high : float
        Infinite where open.

    Returns
    -------
    free : ndarray of shape (n,)
    log_slope : ndarray of shape (n,)
        Log-derivative of the map.

    Notes
    -----
    Between two bounds it is the normal quantile of the share of the width, ``Phi^-1((v - low) / (high -
    low))``: what is uniform becomes standard normal, and a density that ends abruptly at a bound gets a
    normal's tail, as the flow's own base has. With one bound it is ``log(v - low)``, or ``-log(high - v)``.
    """
    if math.isfinite(low) and math.isfinite(high):
        below = np.clip((values - low) / (high - low), _LEAST_SHARE, 1.0)
        above = np.clip((high - values) / (high - low), _LEAST_SHARE, 1.0)
        free = np.where(below <= above, ndtri(below), -ndtri(above))
        return free, 0.5 * free**2 + _LOG_ROOT_TAU - math.log(high - low)
    if math.isfinite(low):
        free = np.log(np.maximum(values - low, _LEAST_SHARE))
        return free, -free
    if math.isfinite(high):
        free = -np.log(np.maximum(high - values, _LEAST_SHARE))
        return free, free
    return values, np.zeros(len(values))


def within_bounds(free: np.ndarray, low: float, high: float) -> np.ndarray:
    """Invert `free_values`; the result lies within the bounds, these included.

    Parameters
    ----------
    free : ndarray of shape (n,)
    low, high : float
        Infinite where open.

    Returns
    -------
    ndarray of shape (n,)
    """
    if math.isfinite(low) and math.isfinite(high):
        # From the nearer end, where the share is exact.
        near_low = low + (high - low) * ndtr(free)
        values = np.where(free <= 0.0, near_low, high - (high - low) * ndtr(-free))
    elif math.isfinite(low):
        values = low + _finite_exp(free)
    elif math.isfinite(high):
        values = high - _finite_exp(-free)
    else:
        values = free
    return np.clip(values, low, high)


def _finite_exp(logs: np.ndarray) -> np.ndarray:
    """Return exp, at most the largest number: what lies beyond would not be finite."""
    return np.exp(np.minimum(logs, math.log(np.finfo(np.float64).max) - 1.0))
