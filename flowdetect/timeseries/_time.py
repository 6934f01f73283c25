"""Time stamps as whole numbers of steps."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flowdetect.exceptions import InvalidTableError

__all__ = ["Clock", "read_stamps"]

# A stamp may be off by this share of a step, and of a tenth of a gap: loggers are late by milliseconds.
_JITTER = 0.05
# Steps of days rather than of months are equal within this share: an hour of summer time in 28 days is less,
# a leap day in a year is more.
_EXACT = 2e-3
_DAYS_OF_SHORTEST_MONTH = 28
_NANOSECONDS_OF_DAY = 86_400 * 10**9


def read_stamps(stamps: pd.Series | pd.Index, name: str) -> pd.Index:
    """Return time stamps as a DatetimeIndex, or as an Index of numbers.

    Raises
    ------
    InvalidTableError
        If they are neither dates nor finite numbers, or one is missing.
    """
    index = pd.Index(stamps)
    if isinstance(index, pd.PeriodIndex):
        index = index.to_timestamp()
    if isinstance(index, pd.TimedeltaIndex):
        index = pd.Index(index.total_seconds())
    if index.dtype == object or isinstance(index.dtype, pd.StringDtype):
        index = _read_texts(index, name)
    if not isinstance(index, pd.DatetimeIndex) and (
        not pd.api.types.is_numeric_dtype(index.dtype) or pd.api.types.is_bool_dtype(index.dtype)
    ):
        raise InvalidTableError(f"{name} must hold dates or numbers; got {index.dtype}.")
    if index.hasnans or not (isinstance(index, pd.DatetimeIndex) or np.isfinite(index.to_numpy(float)).all()):
        raise InvalidTableError(
            f"{name} has {int(index.isna().sum()) or 'infinite'} missing entries; drop these rows: a row "
            "without a time has no neighbours."
        )
    return index


def _read_texts(texts: pd.Index, name: str) -> pd.DatetimeIndex:
    with warnings.catch_warnings():
        # Texts of no format that pandas knows; either they can be read one by one, or are refused.
        warnings.simplefilter("ignore", UserWarning)
        try:
            return pd.DatetimeIndex(pd.to_datetime(texts))
        except (ValueError, TypeError) as error:
            reason = error
        try:
            # Local times with their offset from UTC, which daylight saving changes.
            return pd.DatetimeIndex(pd.to_datetime(texts, utc=True))
        except (ValueError, TypeError):
            raise InvalidTableError(
                f"{name} must hold dates or numbers; {str(reason).splitlines()[0].rstrip('.')}. Convert it "
                "first, for example with pandas.to_datetime and its format."
            ) from reason


class Clock:
    """The step of a series: turns time stamps into whole numbers of steps.

    Parameters
    ----------
    step : float
        In nanoseconds for dates, else in the unit of the stamps; with ``months``, in months.
    months : bool
        Whether steps are calendar months (or quarters, years), which differ in length.
    dates : bool
        Whether the stamps are dates.
    """

    def __init__(self, step: float, *, months: bool, dates: bool) -> None:
        self.step = step
        self.months = months
        self.dates = dates

    @classmethod
    def learn(cls, groups: list[pd.Index]) -> Clock:
        """Take the commonest distance of neighbouring stamps as the step.

        Dates that keep to one day of the month, or to its end, are counted in months, of which a quarter has
        3 and a year 12; so are dates on other days, at least 28 days apart, if their distances differ.

        Parameters
        ----------
        groups : list of Index
            Sorted stamps without duplicates, one Index for each entity.

        Raises
        ------
        InvalidTableError
            If distances are not multiples of the commonest one.
        """
        dates = isinstance(groups[0], pd.DatetimeIndex)
        distances = np.concatenate([np.diff(_numbers(group)) for group in groups])
        if not len(distances):
            return cls(1.0, months=False, dates=dates)
        clock = cls(_commonest(distances), months=False, dates=dates)
        if dates and distances.min() >= _DAYS_OF_SHORTEST_MONTH * _NANOSECONDS_OF_DAY:
            months = np.concatenate([np.diff(_month_numbers(group)) for group in groups])
            monthly = cls(max(_commonest(months), 1.0), months=True, dates=True)
            by_calendar = all(map(_keeps_its_day, groups)) or not clock._all_exact(distances)
            if by_calendar and monthly._all_whole(months):
                return monthly
        if clock._all_whole(distances):
            return clock
        raise InvalidTableError(
            "Time stamps must be a fixed step apart, gaps aside; most are "
            f"{clock.describe(clock.step)} apart, but others {clock._odd(distances)}. Resample the series "
            "first, for example with series.resample(...).mean()."
        )

    def count(self, stamps: pd.Index) -> NDArray[np.int64]:
        """Return the number of steps from the first of the sorted stamps to each.

        Raises
        ------
        InvalidTableError
            If stamps are of another kind than those learnt, or not a multiple of the step apart.
        """
        if isinstance(stamps, pd.DatetimeIndex) != self.dates:
            raise InvalidTableError(
                f"Time stamps must be {'dates' if self.dates else 'numbers'} as in fit; got {stamps.dtype}."
            )
        distances = np.diff(_month_numbers(stamps) if self.months else _numbers(stamps))
        if not self._all_whole(distances):
            raise InvalidTableError(
                f"Time stamps must be multiples of {self.describe(self.step)} apart, as in fit; some are "
                f"{self._odd(distances)}. Resample the series to the step of fit."
            )
        counts = np.rint(distances / self.step).astype(np.int64)
        return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)

    def as_timedelta(self) -> pd.Timedelta | None:
        """Return the step of dates, with months of the mean length; None for numbers."""
        if not self.dates:
            return None
        return (
            pd.Timedelta(days=365.25 / 12.0 * self.step)
            if self.months
            else pd.Timedelta(self.step, unit="ns")
        )

    def describe(self, distance: float) -> str:
        """Return a distance of stamps in words."""
        if self.months:
            return f"{distance:g} month{'s' if distance != 1 else ''}"
        return str(pd.Timedelta(int(distance), unit="ns")) if self.dates else f"{distance:g}"

    def _all_whole(self, distances: NDArray[np.float64]) -> bool:
        return bool(self._whole(distances).all())

    def _whole(self, distances: NDArray[np.float64]) -> NDArray[np.bool_]:
        steps = distances / self.step
        slack = _JITTER * np.maximum(steps / 10.0, 1.0)
        whole: NDArray[np.bool_] = (np.abs(steps - np.rint(steps)) <= slack) & (np.rint(steps) >= 1)
        return whole

    def _all_exact(self, distances: NDArray[np.float64]) -> bool:
        steps = distances / self.step
        return bool((np.abs(steps - np.rint(steps)) <= _EXACT).all())

    def _odd(self, distances: NDArray[np.float64]) -> str:
        return self.describe(float(distances[~self._whole(distances)][0]))


def _numbers(stamps: pd.Index) -> NDArray[np.float64]:
    if isinstance(stamps, pd.DatetimeIndex):
        stamps = stamps.tz_convert("UTC").tz_localize(None) if stamps.tz is not None else stamps
        ticks = stamps.as_unit("ns").to_numpy().astype(np.int64)
        # From the first stamp on: float64 has no room for nanoseconds since 1970.
        return (ticks - ticks[0]).astype(np.float64) if len(ticks) else ticks.astype(np.float64)
    return stamps.to_numpy(dtype=np.float64)


def _month_numbers(stamps: pd.Index) -> NDArray[np.float64]:
    dates = pd.DatetimeIndex(stamps)
    months: NDArray[np.float64] = np.asarray(dates.year * 12 + dates.month, dtype=np.float64)
    return months


def _keeps_its_day(stamps: pd.Index) -> bool:
    dates = pd.DatetimeIndex(stamps)
    return len(set(dates.day)) <= 1 or bool(dates.is_month_end.all())


def _commonest(distances: NDArray[np.float64]) -> float:
    values, counts = np.unique(distances, return_counts=True)
    commonest = float(values[counts.argmax()])
    alike = distances[np.abs(distances - commonest) <= _JITTER * commonest]
    return float(np.median(alike))
