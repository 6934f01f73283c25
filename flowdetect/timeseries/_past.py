"""What is known of the past of a row: a few features of the rows before it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

__all__ = ["PastPlan", "past_features", "pasts_of", "plan_past"]

_Array = NDArray[np.float64]

_MOST_SEASONS = 6
_WINDOW_WITHOUT_SEASON = 24


@dataclass(frozen=True)
class PastPlan:
    """Which of the rows before a row are looked at.

    Attributes
    ----------
    lags : tuple of int
        The last value is compared with the one so many steps before it.
    blocks : tuple of int
        The last value is compared with the mean of so many last rows.
    season : int or None
        Steps of a season.
    n_seasons : int
        How many seasons ago values are looked at; their mean counts.
    """

    lags: tuple[int, ...]
    blocks: tuple[int, ...]
    season: int | None
    n_seasons: int

    @property
    def window(self) -> int:
        """How many rows of the past are needed."""
        seasonal = 0 if self.season is None else self.season * self.n_seasons + 1
        return max(1 + max(self.lags), max(self.blocks, default=1), seasonal)


def plan_past(n_rows: int, n_channels: int, *, window: int | None, season: int | None) -> PastPlan:
    """Choose few features, the fewer the more channels there are.

    Parameters
    ----------
    n_rows : int
        Length of the longest stretch.
    n_channels : int
        Numeric channels.
    window : int or None
        How many rows may be looked at; None for as many as needed.
    season : int or None
    """
    room = max(1, n_rows // 3)
    if window is not None:
        room = window
    elif season is None:
        room = min(room, _WINDOW_WITHOUT_SEASON)
    n_lags = 5 if n_channels <= 2 else 3 if n_channels <= 5 else 1
    lags = tuple(range(1, max(1, min(n_lags, room - 1)) + 1))
    n_seasons = 0 if season is None else min(_MOST_SEASONS, max((room - 1) // season, 0))
    if season is None or not n_seasons:
        season, n_seasons = None, 0
    wanted = (8, 24) if season is None else (min(8, season // 2), season)
    blocks = tuple(block for block in wanted if max(lags) + 1 < block <= room)
    return PastPlan(lags, blocks, season, n_seasons)


def past_features(past: _Array, plan: PastPlan) -> _Array:
    """Return features of the past: the last value, and what else there was compared with it.

    All but the last value itself stay the same when a constant is added to the past: what is learnt of them
    holds at levels never seen.

    Parameters
    ----------
    past : ndarray of shape (n_rows, window, n_channels)
        The newest row last; NaN where the series had not begun.
    plan : PastPlan

    Returns
    -------
    ndarray of shape (n_rows, n_features)
        0 where nothing is known.
    """
    last = past[:, -1]
    parts = [last, *(last - past[:, -1 - lag] for lag in plan.lags)]
    parts += [last - _mean(past[:, -block:]) for block in plan.blocks]
    recent = past[:, -1 - max(plan.lags) :]
    parts.append(_mean(np.abs(np.diff(recent, axis=1))))
    if plan.season is not None:
        ago = plan.season * np.arange(1, plan.n_seasons + 1)
        parts += [past[:, -plan.season] - last, past[:, -plan.season - 1] - last]
        if plan.n_seasons > 1:
            parts += [_mean(past[:, -ago]) - last, _mean(past[:, -ago - 1]) - last]
    features: _Array = np.nan_to_num(np.concatenate(parts, axis=1), nan=0.0)
    return features


def pasts_of(states: _Array, window: int, rows: NDArray[np.intp]) -> _Array:
    """Return the window of rows before each of the given rows; NaN before the first row of the series.

    Parameters
    ----------
    states : ndarray of shape (n_rows, n_channels)
    window : int
    rows : ndarray of int, shape (n_wanted,)
        From 0 to n_rows: n_rows asks for the past of the row after the last.

    Returns
    -------
    ndarray of shape (n_wanted, window, n_channels)
    """
    padded = np.concatenate([np.full((window, states.shape[1]), np.nan), states])
    views = sliding_window_view(padded, window, axis=0)
    pasts: _Array = views[rows].transpose(0, 2, 1)
    return pasts


def _mean(values: _Array) -> _Array:
    """Return the mean over the rows that there are; NaN where there are none."""
    known = ~np.isnan(values)
    if known.all():
        return np.asarray(values.mean(axis=1))
    counts = known.sum(axis=1)
    sums = np.where(known, values, 0.0).sum(axis=1)
    return np.asarray(np.where(counts > 0, sums / np.maximum(counts, 1), np.nan))
