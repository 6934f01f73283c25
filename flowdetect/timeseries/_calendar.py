"""Where a time stamp lies in the day, the week and the year."""

from __future__ import annotations

import numpy as np
import pandas as pd

__all__ = ["calendar_table"]

_DAY, _WEEK, _YEAR = pd.Timedelta(days=1), pd.Timedelta(weeks=1), pd.Timedelta(days=365)
_LONGEST_QUARTER = pd.Timedelta(days=92)
# A cycle of which fewer have been seen cannot be told from a trend.
_LEAST_CYCLES = 2


def calendar_table(stamps: pd.DatetimeIndex, *, step: pd.Timedelta, span: pd.Timedelta) -> pd.DataFrame:
    """Return what the calendar says of time stamps, in the time zone they have.

    Parameters
    ----------
    stamps : DatetimeIndex
    step : Timedelta
        Distance of neighbouring stamps: what is constant, or has too few values, is left out.
    span : Timedelta
        Time that the rows of fit cover; a cycle must fit in twice.

    Returns
    -------
    DataFrame
        One row per stamp: sine and cosine of the time of day and of the day of the year, and the weekday.
    """
    columns: dict[str, object] = {}
    if step <= _DAY / 4 and span >= _LEAST_CYCLES * _DAY:
        angle = 2.0 * np.pi * np.asarray((stamps - stamps.normalize()) / _DAY)
        columns |= {"time of day, sine": np.sin(angle), "time of day, cosine": np.cos(angle)}
    if step <= _DAY and span >= _LEAST_CYCLES * _WEEK:
        columns["weekday"] = pd.Categorical(stamps.day_of_week, categories=range(7))
    if _DAY / 4 < step <= _LONGEST_QUARTER and span >= _LEAST_CYCLES * _YEAR:
        angle = 2.0 * np.pi * np.asarray(stamps.day_of_year) / 365.25
        columns |= {"time of year, sine": np.sin(angle), "time of year, cosine": np.cos(angle)}
    return pd.DataFrame(columns, index=range(len(stamps)))
