"""From pieces of series to the fitted density of their next row, given a past of a chosen form."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowdetect._utils.checks import check_whole
from flowdetect.estimators import FlowDensity
from flowdetect.exceptions import ConfigurationError
from flowdetect.timeseries._next_value import NextValue, Piece
from flowdetect.timeseries._past import plan_past
from flowdetect.timeseries._period import find_season

__all__ = ["check_past", "learn_next_value"]

_VALIDATION_FRACTION, _MOST_VALIDATION_ROWS = 0.15, 10_000


def check_past(window: Any, season: Any) -> None:
    """Refuse a window or season that is neither a number of steps nor chosen by itself.

    Raises
    ------
    ConfigurationError
    """
    if not (isinstance(window, str) and window == "auto"):
        check_whole("window", window)
    if season is None or (isinstance(season, str) and season == "auto"):
        return
    check_whole("season", season)
    if int(season) < 2:
        raise ConfigurationError(f"season must be at least 2 steps, 'auto' or None; got {season!r}.")


def learn_next_value(
    pieces: list[Piece],
    cardinalities: NDArray[np.intp],
    density: FlowDensity,
    *,
    window: int | str,
    season: int | str | None,
    n_told: int | None,
) -> NextValue:
    """Choose the past that is looked at, and fit the density of the next row given it.

    Parameters
    ----------
    pieces : list of Piece
    cardinalities : ndarray of int, shape (n_channels,)
        Number of categories; 0 for a number.
    density : FlowDensity
        Fitted in place, with a share of validation rows that does not grow without bound.
    window : int or "auto"
    season : int, "auto" or None
    n_told : int or None
        See `NextValue`; None for pieces that are no complete series.

    Raises
    ------
    ConfigurationError
        If a season is asked for, and the series or the window is too short to look at one.
    """
    numeric = cardinalities == 0
    steps = season
    if isinstance(steps, str):
        steps = find_season([piece.values[:, numeric] for piece in pieces]) if numeric.any() else None
    longest, most = max(map(len, pieces)), None if isinstance(window, str) else int(window)
    plan = plan_past(longest, int(numeric.sum()), window=most, season=steps)
    if isinstance(season, int | np.integer) and plan.season is None:
        raise ConfigurationError(
            f"season={season} needs a window of more rows, and a series of three times as many; got "
            f"window={window!r}, and {longest} rows. Take a shorter season, or None."
        )
    share = min(_VALIDATION_FRACTION, _MOST_VALIDATION_ROWS / sum(map(len, pieces)))
    density.set_params(validation_fraction=share)
    return NextValue(plan, cardinalities, density, starts=n_told is not None, n_told=n_told).fit(pieces)
