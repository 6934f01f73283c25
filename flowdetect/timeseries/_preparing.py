"""From a series as the caller gives it to stretches of channels with their context."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flowdetect.exceptions import InvalidTableError
from flowdetect.timeseries._calendar import calendar_table
from flowdetect.timeseries._channels import Channels, carry_forward
from flowdetect.timeseries._reading import SeriesReader, SeriesRows, Stretch
from flowdetect.timeseries._stretch import ModelledStretch

__all__ = ["PreparedStretch", "Preparer", "as_context_frame"]

_ENTITY = "entity"


@dataclass(frozen=True)
class PreparedStretch:
    """A stretch with its channels, which may have holes.

    Attributes
    ----------
    stretch : Stretch
    values : ndarray of shape (n_rows, n_channels)
        NaN where a number is missing, and in rows that a gap lacks.
    context : DataFrame of n_rows rows
    stamps : Index or None
        The time of each row.
    """

    stretch: Stretch
    values: NDArray[np.float64]
    context: pd.DataFrame
    stamps: pd.Index | None

    def filled(self, before: NDArray[np.float64] | None = None) -> ModelledStretch:
        """Fill the holes from the rows before them."""
        return ModelledStretch(carry_forward(self.values, before), self.context)


class Preparer:
    """Learn how a series comes and what its columns are like, and prepare others of the kind.

    Parameters
    ----------
    time, entity : column name or None
        See `SeriesReader`.
    calendar : bool
        Whether the time of day, the weekday and the time of year are context.
    max_gap : int
        Most absent rows that are filled.
    """

    def __init__(self, *, time: Any, entity: Any, calendar: bool, max_gap: int) -> None:
        self.reader = SeriesReader(time=time, entity=entity)
        self.channels = Channels()
        self.calendar = calendar
        self.max_gap = max_gap
        self._context_names: list[Any] | None = None

    def learn(self, series: Any, context: Any) -> tuple[SeriesRows, list[PreparedStretch]]:
        """Learn from a series, and return it prepared.

        Raises
        ------
        InvalidTableError
            If the series or its context cannot be used.
        """
        self.reader.learn(series)
        rows = self.reader.read(series, longest_gap=self.max_gap)
        self.channels.learn(rows.table)
        self._context_names = None if context is None else list(_context_frame(context, len(rows)).columns)
        self._span: pd.Timedelta | None = None
        self._step: pd.Timedelta | None = None
        if isinstance(rows.stamps, pd.DatetimeIndex) and self.reader.clock is not None:
            self._span = rows.stamps.max() - rows.stamps.min()
            self._step = self.reader.clock.as_timedelta()
        return rows, self._prepare(rows, context)

    def prepare(self, series: Any, context: Any) -> tuple[SeriesRows, list[PreparedStretch]]:
        """Return another series prepared.

        Raises
        ------
        InvalidTableError
            If it does not come as the one that was learnt.
        """
        rows = self.reader.read(series, longest_gap=self.max_gap)
        if (context is None) != (self._context_names is None):
            raise InvalidTableError(
                "The series was fitted with context, so it needs one; got none. Pass context=."
                if context is None
                else "The series was fitted without context, so it takes none; got one."
            )
        return rows, self._prepare(rows, context)

    def _prepare(self, rows: SeriesRows, context: Any) -> list[PreparedStretch]:
        channels = self.channels.transform(rows.table)
        given = None if context is None else _context_frame(context, len(rows))
        if given is not None and list(given.columns) != self._context_names:
            raise InvalidTableError(
                f"context must have the columns of fit, {self._context_names!r}; got {list(given.columns)!r}."
            )
        return [self._prepare_stretch(stretch, channels, given, rows.stamps) for stretch in rows.stretches]

    def _prepare_stretch(
        self,
        stretch: Stretch,
        channels: NDArray[np.float64],
        given: pd.DataFrame | None,
        stamps: pd.Index | None,
    ) -> PreparedStretch:
        values = np.full((len(stretch.rows), channels.shape[1]), np.nan)
        values[stretch.given] = channels[stretch.rows[stretch.given]]
        times = None if stamps is None else _times(stretch, stamps)
        parts = []
        if self.reader.known is not None and len(self.reader.known) > 1:
            parts.append(pd.DataFrame({_ENTITY: [stretch.entity] * len(values)}, dtype=object))
        if self.calendar and isinstance(times, pd.DatetimeIndex) and self._step and self._span:
            parts.append(calendar_table(times, step=self._step, span=self._span))
        if given is not None:
            parts.append(given.iloc[_last_given(stretch)].reset_index(drop=True))
        table = pd.concat(parts, axis=1) if parts else pd.DataFrame(index=range(len(values)))
        return PreparedStretch(stretch, values, table, times)


def as_context_frame(context: Any) -> pd.DataFrame:
    """Return a DataFrame as it is, a Series as one column, and anything else as an array."""
    if isinstance(context, pd.DataFrame):
        return context
    if isinstance(context, pd.Series):
        return context.to_frame("context" if context.name is None else context.name)
    array = np.asarray(context)
    return pd.DataFrame(array.reshape(-1, 1) if array.ndim == 1 else array)


def _context_frame(context: Any, n_rows: int) -> pd.DataFrame:
    context = as_context_frame(context)
    if len(context) != n_rows:
        raise InvalidTableError(
            f"context must have one row per row of the series; got {len(context)} for {n_rows}."
        )
    return context.set_axis([f"context {name}" for name in context.columns], axis=1)


def _last_given(stretch: Stretch) -> NDArray[np.intp]:
    places = np.maximum.accumulate(np.where(stretch.given, np.arange(len(stretch.rows)), 0))
    rows: NDArray[np.intp] = stretch.rows[places]
    return rows


def _times(stretch: Stretch, stamps: pd.Index) -> pd.Index:
    """Return the time of every row, in equal steps across the rows that a gap lacks."""
    known = stamps[stretch.rows[stretch.given]]
    if stretch.given.all():
        return known
    places = np.flatnonzero(stretch.given)
    everywhere = np.arange(len(stretch.rows))
    if not isinstance(known, pd.DatetimeIndex):
        return pd.Index(np.interp(everywhere, places, known.to_numpy(dtype=np.float64)))
    since = (known - known[0]) / pd.Timedelta(1, unit="ns")
    return known[0] + pd.to_timedelta(np.interp(everywhere, places, since).round(), unit="ns")
