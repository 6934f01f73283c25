"""The period of a series, by its autocorrelation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from flowdetect.timeseries._channels import carry_forward

__all__ = ["autocorrelation", "find_period", "find_season"]

_Array = NDArray[np.float64]

_LEAST_CORRELATION, _LEAST_CLEAR_CORRELATION = 0.3, 0.25
# Peaks are about as high as the highest one from this share of it on.
_ALIKE, _ALIKE_CLEAR = 0.9, 0.7
# A clear peak stands so far above the valley before it, and this share of that again at twice the lag.
_CLEAR_RISE, _AGAIN = 0.3, 0.5
_LONGEST_SEASON, _LEAST_SEASONS = 800, 4
_MOST_STRETCHES = 8
# Robust z-values beyond this are cut before autocorrelations: a few outliers must not hide a season.
_CUT = 3.0
_TINY = 1e-6


def autocorrelation(values: _Array, n_lags: int) -> _Array:
    """Return the mean autocorrelation of channels at the lags 0 to n_lags.

    Parameters
    ----------
    values : ndarray of shape (n_rows, n_channels)
        Without missing entries.
    n_lags : int
        Less than n_rows.

    Returns
    -------
    ndarray of shape (n_lags + 1,)
        Each channel counts by its variance; 1 at lag 0, and 0 throughout for constant channels.
    """
    centred = values - values.mean(axis=0)
    size = 1 << int(np.ceil(np.log2(2 * len(centred))))
    spectrum = np.abs(np.fft.rfft(centred, n=size, axis=0)) ** 2
    covariances = np.fft.irfft(spectrum.sum(axis=1), n=size)[: n_lags + 1]
    variance = covariances[0]
    correlations: _Array = covariances / variance if variance > 0.0 else np.zeros(n_lags + 1)
    return correlations


def find_period(values: _Array, *, longest: int, clear: bool = False) -> int | None:
    """Return the lag of the highest peak of the autocorrelation, or None if there is none to speak of.

    Parameters
    ----------
    values : ndarray of shape (n_rows, n_channels)
        Without missing entries.
    longest : int
        Longest period to look for.
    clear : bool, default=False
        Whether only peaks count that stand well above the valley before them, and come again at twice the
        lag.

    Returns
    -------
    int or None
        At least 2. Of several peaks of about the same height, multiples of one period, the first.
    """
    n_lags = min(longest + 1, len(values) // 2)
    if n_lags < 3:
        return None
    least, alike = (_LEAST_CLEAR_CORRELATION, _ALIKE_CLEAR) if clear else (_LEAST_CORRELATION, _ALIKE)
    r = autocorrelation(values, min(2 * n_lags, len(values) - 1))
    lags = np.arange(1, n_lags)
    peaks = lags[(r[lags] > r[lags - 1]) & (r[lags] >= r[lags + 1]) & (lags >= 2)]
    if clear:
        peaks = np.array([lag for lag in peaks if _is_clear(r, lag)], dtype=np.intp)
    if not len(peaks) or r[peaks].max() < least:
        return None
    first = int(peaks[r[peaks] >= alike * r[peaks].max()][0])
    return _settled(r, peaks, first) if clear else first


def find_season(stretches: Sequence[_Array]) -> int | None:
    """Return the clear period of those channels together that have one, or None if none has.

    Parameters
    ----------
    stretches : sequence of ndarray, each of shape (n_rows, n_channels)
        Of about one scale; NaN where missing. The longest ones are looked at.

    Returns
    -------
    int or None
        At most a quarter of the rows.
    """
    chosen = sorted(stretches, key=len, reverse=True)[:_MOST_STRETCHES]
    chosen = [stretch for stretch in chosen if 2 * len(stretch) >= len(chosen[0])]
    n_rows = len(chosen[-1])
    longest = min(n_rows // _LEAST_SEASONS, _LONGEST_SEASON)
    levelled = np.stack([_levelled(stretch[-n_rows:]) for stretch in chosen], axis=1)
    periods = [find_period(channel, longest=longest, clear=True) for channel in np.moveaxis(levelled, 2, 0)]
    seasonal = [period is not None for period in periods]
    return find_period(levelled[:, :, seasonal].reshape(n_rows, -1), longest=longest, clear=True)


def _is_clear(r: _Array, lag: int) -> bool:
    rise = r[lag] - r[:lag].min()
    again = r[2 * lag - _slack(lag) : 2 * lag + _slack(lag) + 1].max() - r[lag : 2 * lag].min()
    return bool(rise > _CLEAR_RISE and again > _AGAIN * rise)


def _settled(r: _Array, peaks: NDArray[np.intp], first: int) -> int:
    """Return the period that the peaks about the first one stand for: noise breaks a peak into several."""
    near = peaks[peaks - first <= first // 4]
    highest = int(near[r[near].argmax()])
    # ... and shifts it by a step or two, but hardly the one at twice the lag in the same direction.
    slack = min(_slack(highest), 2)
    lags = np.arange(max(highest - slack, 2), min(highest + slack, (len(r) - 1) // 2) + 1)
    return int(lags[(r[lags] + r[2 * lags]).argmax()])


def _slack(lag: int) -> int:
    return max(1, lag // 10)


def _levelled(values: _Array) -> _Array:
    """Return values without holes, straight trends, and extremes; what is constant otherwise as 0."""
    filled = carry_forward(values)
    time = np.linspace(-1.0, 1.0, len(filled))
    slope = time @ (filled - filled.mean(axis=0)) / (time @ time)
    detrended = filled - time[:, None] * slope
    centred = detrended - np.median(detrended, axis=0)
    spread = np.median(np.abs(centred), axis=0)
    cut = _CUT * 1.4826 * np.where(spread > 0.0, spread, np.inf)
    levelled: _Array = np.clip(centred, -cut, cut) * (centred.std(axis=0) > _TINY)
    return levelled
