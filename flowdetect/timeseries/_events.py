"""From scores of rows to events, and thresholds by how often events may occur."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from flowdetect.exceptions import ConfigurationError

__all__ = ["event_depths", "event_spans", "offset_for_events"]


def event_spans(scores: NDArray[np.float64], offset: float, *, merge: int) -> list[tuple[int, int]]:
    """Return the runs of rows that score below the offset.

    Parameters
    ----------
    scores : ndarray of shape (n_rows,)
        Of neighbouring rows; NaN for a row that was not given, which neither begins nor ends a run.
    offset : float
    merge : int
        Runs with at most this many rows between them are one.

    Returns
    -------
    list of tuple of int
        First and last row of each run, both included.
    """
    below = np.flatnonzero(scores < offset)
    if not len(below):
        return []
    runs = np.split(below, np.flatnonzero(np.diff(below) > merge + 1) + 1)
    return [(int(run[0]), int(run[-1])) for run in runs]


def event_depths(scores: NDArray[np.float64], *, merge: int) -> NDArray[np.float64]:
    """Return the lowest scores that lie more than ``merge`` rows apart, the lowest first.

    However low an offset is, `event_spans` finds no more events than there are depths below it.
    """
    left = np.where(np.isnan(scores), np.inf, scores)
    depths = []
    order = np.argsort(left, kind="stable")
    taken = np.zeros(len(left), dtype=bool)
    for row in order[np.isfinite(left[order])]:
        if not taken[row]:
            depths.append(left[row])
            taken[max(0, row - merge) : row + merge + 1] = True
    return np.array(depths, dtype=np.float64)


def offset_for_events(stretches: Sequence[NDArray[np.float64]], *, rows_between: float, merge: int) -> float:
    """Return the offset below which held-out stretches have fewer than one event in so many rows.

    With k whole spans of ``rows_between`` rows in the held-out stretches, at most ``k - 1`` events lie below
    the offset: one less than would be allowed, in place of the event that the future may bring.

    Parameters
    ----------
    stretches : sequence of ndarray
        Scores of neighbouring rows, none of which the model was fitted on.
    rows_between : float
        Mean number of rows between false alarms that is asked for.
    merge : int
        See `event_spans`.

    Raises
    ------
    ConfigurationError
        If the stretches together are shorter than ``rows_between``.
    """
    n_rows = sum(len(scores) for scores in stretches)
    n_spans = int(n_rows / rows_between)
    if n_spans < 1:
        raise ConfigurationError(
            f"One false alarm in {rows_between:g} rows cannot be judged by {n_rows} rows of fit: give more "
            "rows, or ask for a shorter time between false alarms."
        )
    depths = np.sort(np.concatenate([event_depths(scores, merge=merge) for scores in stretches]))
    return float(depths[min(n_spans, len(depths)) - 1])
