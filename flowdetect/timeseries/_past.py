"""What is known of the past of a row: a few features of the rows before it, and the season of a series."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

__all__ = ["PastPlan", "carried", "find_season", "past_features", "pasts_of", "plan_past"]

_Array = NDArray[np.float64]

_MOST_SEASONS = 6
_LONGEST_SEASON = 800
# The autocorrelation at a season is at least this.
_CLEAR_SEASON = 0.2
_WINDOW_WITHOUT_SEASON = 24
# Robust z-values beyond this are cut before autocorrelations: a few outliers must not hide a season.
_CUT = 3.0


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


def carried(values: _Array) -> _Array:
    """Fill missing values with the last one before them, with 0 before the first one."""
    holes = np.isnan(values)
    places = np.where(holes, 0, np.arange(len(values))[:, None])
    last_seen = np.maximum.accumulate(places, axis=0)
    filled: _Array = np.nan_to_num(np.take_along_axis(values, last_seen, axis=0), nan=0.0)
    return filled


def find_season(stretches: list[_Array], *, longest: int | None = None) -> int | None:
    """Return the length of a season in steps, from the autocorrelations of the longest stretches.

    A season is a lag at which the autocorrelation has a peak clearly above the valley before it; the shortest
    of peaks about as high is taken.

    Parameters
    ----------
    stretches : list of ndarray, each of shape (n_rows, n_channels)
        Numbers; may be missing.
    longest : int, optional
        No season is longer.

    Returns
    -------
    int or None
    """
    chosen = sorted(stretches, key=len, reverse=True)[:8]
    most = min(len(chosen[0]) // 4, _LONGEST_SEASON if longest is None else longest)
    if most < 3:
        return None
    chosen = [stretch for stretch in chosen if len(stretch) >= 4 * most]
    correlations = np.mean([_autocorrelations(stretch, 2 * most + 2) for stretch in chosen], axis=0)
    n_rows = sum(map(len, chosen))
    found = [_clear_season(channel, most, n_rows) for channel in correlations.T]
    rise, season = max(found)
    return season if rise > 0.0 else None


def _clear_season(correlation: _Array, most: int, n_rows: int) -> tuple[float, int]:
    """Return how clear the season of a channel is, and its length; 0 without a season."""
    # Bartlett's standard error of an autocorrelation, from those at shorter lags.
    errors = np.sqrt((1.0 + 2.0 * np.cumsum(correlation[1:] ** 2)) / n_rows)
    lags = np.arange(2, most + 1)
    peaks = lags[(correlation[lags] >= correlation[lags - 1]) & (correlation[lags] > correlation[lags + 1])]
    rise = correlation - np.minimum.accumulate(correlation)
    clear = [
        int(lag)
        for lag in peaks
        if correlation[lag] > max(_CLEAR_SEASON, 3.0 * errors[lag // 2])
        and rise[lag] > 4.0 * errors[lag // 2]
        and _again(correlation, int(lag)) > 0.5 * rise[lag]
    ]
    if not clear:
        return 0.0, 0
    first = next(lag for lag in clear if rise[lag] >= 0.7 * rise[clear].max())
    near = [lag for lag in clear if abs(lag - first) <= first // 4]
    season = max(near, key=lambda lag: float(correlation[lag]))
    return float(rise[season]), season


def _again(correlation: _Array, lag: int) -> float:
    """Return how far the autocorrelation rises around twice the lag above the valley on the way there."""
    slack = max(1, lag // 10)
    around = correlation[2 * lag - slack : min(2 * lag + slack + 1, len(correlation))]
    return float(around.max() - correlation[lag : 2 * lag].min())


def _autocorrelations(values: _Array, most: int) -> _Array:
    """Return the autocorrelation of each channel at lags 0 to most, free of straight trends."""
    filled = carried(values)
    time = np.linspace(-1.0, 1.0, len(filled))
    slope = time @ (filled - filled.mean(axis=0)) / (time @ time)
    detrended = filled - time[:, None] * slope
    centred = detrended - np.median(detrended, axis=0)
    spread = np.median(np.abs(centred), axis=0)
    cut = _CUT * 1.4826 * np.where(spread > 0.0, spread, np.inf)
    centred = np.clip(centred, -cut, cut)
    centred = centred - centred.mean(axis=0)
    size = 2 ** int(np.ceil(np.log2(2 * len(centred))))
    power = np.abs(np.fft.rfft(centred, size, axis=0)) ** 2
    covariance = np.fft.irfft(power, size, axis=0)[: most + 1]
    varying = covariance[0] > 1e-12 * len(centred)
    # Fewer pairs at long lags: their mean, not their sum, is compared.
    pairs = (len(centred) / (len(centred) - np.arange(most + 1)))[:, None]
    return np.asarray(np.where(varying, covariance * pairs / np.where(varying, covariance[0], 1.0), 0.0))


def _mean(values: _Array) -> _Array:
    """Return the mean over the rows that there are; NaN where there are none."""
    known = ~np.isnan(values)
    if known.all():
        return np.asarray(values.mean(axis=1))
    counts = known.sum(axis=1)
    sums = np.where(known, values, 0.0).sum(axis=1)
    return np.asarray(np.where(counts > 0, sums / np.maximum(counts, 1), np.nan))
