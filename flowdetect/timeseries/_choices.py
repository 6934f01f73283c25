"""What the detector chooses, and checks, before it learns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from flowdetect.exceptions import ConfigurationError, InvalidTableError
from flowdetect.timeseries._period import find_period
from flowdetect.timeseries._stretch import ModelledStretch
from flowdetect.timeseries._time import Clock

__all__ = ["LEAST_WINDOW", "choose_windows", "rows_between"]

LEAST_WINDOW = 4
_USUAL_WINDOW = 200
_WINDOWS_IN_STRETCH = 4
_LEAST_ROWS = LEAST_WINDOW * _WINDOWS_IN_STRETCH


def choose_windows(
    stretches: Sequence[ModelledStretch], window: int | str, *, max_gap: int
) -> tuple[int, ...]:
    """Return the lengths of windows for these stretches.

    Raises
    ------
    InvalidTableError
        If the longest stretch is too short.
    """
    longest = max((stretch.values for stretch in stretches), key=len)
    limit = len(longest) // _WINDOWS_IN_STRETCH
    if limit < LEAST_WINDOW:
        raise InvalidTableError(
            f"A series must have at least {_LEAST_ROWS} rows without a gap of more than "
            f"max_gap={max_gap}; the longest stretch has {len(longest)}."
        )
    if not isinstance(window, str):
        if window > limit:
            raise InvalidTableError(
                f"window={window} needs a stretch of {window * _WINDOWS_IN_STRETCH} rows, four "
                f"windows, without a gap of more than max_gap={max_gap}; the longest has {len(longest)}."
            )
        chosen = int(window)
    else:
        most = min(_USUAL_WINDOW, max(limit // 4, LEAST_WINDOW))
        period = find_period(longest[:, :-1], longest=most) or 1
        chosen = min(round(_USUAL_WINDOW / period), most // period) * period
    return tuple(sorted({chosen, min(2 * chosen, limit)}))


def rows_between(asked: Any, clock: Clock | None) -> float:
    """Return a time, as a number of rows or such as "30D", as a number of rows.

    Raises
    ------
    ConfigurationError
        If it is neither, or a time and the rows have no dates.
    """
    if isinstance(asked, int | np.integer) and not isinstance(asked, bool):
        rows = float(asked)
    else:
        step = None if clock is None else clock.as_timedelta()
        if step is None:
            raise ConfigurationError(
                f"time_between_false_alarms={asked!r} is a time, and the series has no dates; give a "
                "number of rows."
            )
        try:
            rows = pd.Timedelta(asked) / step
        except ValueError as error:
            raise ConfigurationError(
                f"time_between_false_alarms must be a number of rows or a time such as '30D'; got {asked!r}."
            ) from error
    if not rows >= 1.0:
        raise ConfigurationError(f"time_between_false_alarms must be at least one row; got {asked!r}.")
    return rows
