"""Time stamps so many steps after others."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flowdetect.timeseries._time import Clock

__all__ = ["stamps_after"]

_NANOSECONDS_OF_DAY = 86_400 * 10**9


def stamps_after(clock: Clock, stamps: pd.Index, counts: NDArray[np.int_]) -> pd.Index:
    """Return the stamps that lie so many steps after the first of the given ones.

    Months keep their usual day, the last day of a month stays the last one, and steps of whole days or
    months keep the time of the day where clocks are changed.

    Parameters
    ----------
    clock : Clock
    stamps : Index
        Dates or numbers, as those the clock has learnt, in order.
    counts : ndarray of int

    Returns
    -------
    Index

    Examples
    --------
    >>> clock = Clock(1.0, months=True, dates=True)
    >>> stamps_after(clock, pd.DatetimeIndex(["2024-01-31"]), np.arange(3)).strftime("%d %b").tolist()
    ['31 Jan', '29 Feb', '31 Mar']
    """
    if not isinstance(stamps, pd.DatetimeIndex):
        numbers = stamps[0] + counts * clock.step
        return pd.Index(numbers.astype(stamps.dtype) if _whole(stamps, clock) else numbers, name=stamps.name)
    if clock.months:
        return _located(_months_after(stamps, counts * round(clock.step)), stamps)
    ahead = pd.to_timedelta(np.rint(counts * clock.step).astype(np.int64), unit="ns")
    if stamps.tz is None or clock.step % _NANOSECONDS_OF_DAY:
        return pd.DatetimeIndex(stamps[0] + ahead, name=stamps.name).as_unit(stamps.unit)
    return _located(stamps[0].tz_localize(None) + ahead, stamps)


def _months_after(stamps: pd.DatetimeIndex, months: NDArray[np.int_]) -> pd.DatetimeIndex:
    """Return local times so many months after the first stamp, on the stamps' usual day of the month."""
    first = stamps[0].tz_localize(None)
    days, often = np.unique(stamps.day, return_counts=True)
    usual = 31 if stamps.is_month_end.all() else int(days[often == often.max()].max())
    begins = pd.DatetimeIndex([first.replace(day=1) + pd.DateOffset(months=int(count)) for count in months])
    return begins + pd.to_timedelta(np.minimum(usual, begins.days_in_month) - 1, unit="D")


def _located(local: pd.DatetimeIndex, stamps: pd.DatetimeIndex) -> pd.DatetimeIndex:
    """Return local times in the zone of the stamps, with their name and unit."""
    if stamps.tz is not None:
        summer = np.ones(len(local), dtype=bool)
        local = local.tz_localize(stamps.tz, ambiguous=summer, nonexistent="shift_forward")
    return local.rename(stamps.name).as_unit(stamps.unit)


def _whole(stamps: pd.Index, clock: Clock) -> bool:
    return pd.api.types.is_integer_dtype(stamps.dtype) and float(clock.step).is_integer()
