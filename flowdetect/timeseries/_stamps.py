"""Time stamps so many steps after others."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flowdetect.timeseries._time import Clock

__all__ = ["stamps_after"]

_NANOSECONDS_OF_DAY = 86_400 * 10**9
_DAYS_OF_MONTH = 365.25 / 12


def stamps_after(clock: Clock, stamps: pd.Index, counts: NDArray[np.int_]) -> pd.Index:
    """Return the stamps that lie so many steps after the first of the given ones.

    Months keep their day, the last day of a month stays the last one, and steps of whole days keep the time
    of the day where clocks are changed.

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
    months = _step_in_months(clock, stamps)
    if months:
        return _months_after(stamps, counts * months)
    ahead = pd.to_timedelta(np.rint(counts * clock.step).astype(np.int64), unit="ns")
    zone = stamps.tz
    if zone is None or clock.step % _NANOSECONDS_OF_DAY:
        return pd.DatetimeIndex(stamps[0] + ahead, name=stamps.name).as_unit(stamps.unit)
    local = stamps[:1].tz_localize(None)[0] + ahead
    summer = np.ones(len(local), dtype=bool)
    located = pd.DatetimeIndex(local).tz_localize(zone, ambiguous=summer, nonexistent="shift_forward")
    return located.rename(stamps.name).as_unit(stamps.unit)


def _step_in_months(clock: Clock, stamps: pd.DatetimeIndex) -> int:
    """Return the months of a step; 0 if it is none of whole months."""
    if clock.months:
        return round(clock.step)
    # Quarters and years differ so little in length that a clock takes them for a fixed number of days.
    months = round(clock.step / (_DAYS_OF_MONTH * _NANOSECONDS_OF_DAY))
    if not months or len(stamps) < 2:
        return 0
    numbers = stamps.year * 12 + stamps.month
    regular = not ((numbers - numbers[0]) % months).any()
    same_day = len(set(stamps.day)) == 1 or bool(stamps.is_month_end.all())
    return months if regular and same_day else 0


def _months_after(stamps: pd.DatetimeIndex, months: NDArray[np.int_]) -> pd.DatetimeIndex:
    first = stamps[0]
    later = [first + pd.DateOffset(months=int(count)) for count in months]
    if first.is_month_end:
        later = [stamp + pd.offsets.MonthEnd(0) for stamp in later]
    return pd.DatetimeIndex(later, name=stamps.name).as_unit(stamps.unit)


def _whole(stamps: pd.Index, clock: Clock) -> bool:
    return pd.api.types.is_integer_dtype(stamps.dtype) and float(clock.step).is_integer()
