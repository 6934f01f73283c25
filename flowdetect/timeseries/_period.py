"""The period of a series, by its autocorrelation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["autocorrelation", "find_period"]

_LEAST_CORRELATION = 0.3


def autocorrelation(values: NDArray[np.float64], n_lags: int) -> NDArray[np.float64]:
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
    correlations: NDArray[np.float64] = covariances / variance if variance > 0.0 else np.zeros(n_lags + 1)
    return correlations


def find_period(values: NDArray[np.float64], *, longest: int) -> int | None:
    """Return the lag of the highest peak of the autocorrelation, or None if there is none to speak of.

    Parameters
    ----------
    values : ndarray of shape (n_rows, n_channels)
        Without missing entries.
    longest : int
        Longest period to look for.

    Returns
    -------
    int or None
        At least 2. Of several peaks of about the same height, multiples of one period, the first.
    """
    n_lags = min(longest + 1, len(values) // 2)
    if n_lags < 3:
        return None
    r = autocorrelation(values, n_lags)
    lags = np.arange(1, n_lags)
    peaks = lags[(r[lags] > r[lags - 1]) & (r[lags] >= r[lags + 1]) & (lags >= 2)]
    if not len(peaks) or r[peaks].max() < _LEAST_CORRELATION:
        return None
    return int(peaks[r[peaks] >= 0.9 * r[peaks].max()][0])
