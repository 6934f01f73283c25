"""From what the caller passes to standardised pieces of series, and what is known beforehand of each row."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flowdetect.exceptions import InvalidTableError
from flowdetect.timeseries._calendar import calendar_table
from flowdetect.timeseries._contents import Contents
from flowdetect.timeseries._next_value import Piece
from flowdetect.timeseries._reading import SeriesReader, SeriesRows, Stretch, as_array
from flowdetect.timeseries._stamps import stamps_after

__all__ = ["PieceReader", "PlacedPiece", "Range", "range_of"]

_Array = NDArray[np.float64]

_MOST_CATEGORIES = 12
# A gap of more absent rows ends a stretch: what came before says little of what comes behind.
_LONGEST_GAP = 24


@dataclass(frozen=True)
class Range:
    """Location, scale and bounds of each channel of one series; 0 and 1 for categories.

    Attributes
    ----------
    location, scale, low, high : ndarray of shape (n_channels,)
    """

    location: _Array
    scale: _Array
    low: _Array
    high: _Array

    def standard(self, values: _Array) -> _Array:
        """Return values of about unit scale."""
        standard: _Array = (values - self.location) / self.scale
        return standard

    def widened(self, values: _Array) -> Range:
        """Return the range with bounds that hold the given rows as well."""
        low, high = np.vstack([self.low, values]), np.vstack([self.high, values])
        return replace(self, low=np.nanmin(low, axis=0), high=np.nanmax(high, axis=0))

    def original(self, values: _Array) -> _Array:
        """Return standardised values in their own units."""
        original: _Array = values * self.scale + self.location
        return original


@dataclass(frozen=True)
class PlacedPiece:
    """A piece, and where it comes from.

    Attributes
    ----------
    piece : Piece
    stretch : Stretch
    stamps : Index or None
        Of each row, those that a gap lacks included.
    range : Range
    """

    piece: Piece
    stretch: Stretch
    stamps: pd.Index | None
    range: Range


def range_of(values: _Array, cardinalities: NDArray[np.intp]) -> Range:
    """Return location, scale and bounds of numbers; columns of categories are left as they are."""
    numeric = (cardinalities == 0) & ~np.isnan(values).all(axis=0)
    numbers = np.where(numeric, values, 0.0)
    low, high = np.nanmin(numbers, axis=0), np.nanmax(numbers, axis=0)
    width = np.where(high > low, high - low, 1.0)
    # From 0 to 1: squares of very large or small numbers are none.
    shares = (numbers - low) / width
    return Range(
        low + width * np.nanmean(shares, axis=0),
        np.where(high > low, width * np.nanstd(shares, axis=0), 1.0),
        low,
        high,
    )


class PieceReader:
    """Learn how a series comes, and read others that come in the same way as pieces.

    Parameters
    ----------
    time, entity : column name or None
        As in `SeriesReader`.

    Attributes
    ----------
    contents : Contents
        The columns to be modelled.
    ranges : dict
        Of each entity.
    context : Contents or None
        The columns of the caller's context.
    """

    def __init__(self, *, time: Any = None, entity: Any = None) -> None:
        self.reader = SeriesReader(time=time, entity=entity)
        self.context: Contents | None = None

    def learn(self, series: Any, context: Any) -> list[PlacedPiece]:
        """Learn from a series, and return its pieces.

        Raises
        ------
        InvalidTableError
            If the series or context cannot be read.
        """
        rows = self.reader.learn(series).read(series, longest_gap=_LONGEST_GAP)
        self.contents = Contents().learn(rows.table)
        values = self.contents.read(rows.table)
        self._learn_ranges(rows, values)
        self._learn_calendar(rows)
        self.context = None
        if context is not None:
            _check_length(context, len(rows))
            self.context = Contents("context").learn(_as_table(context))
            self._context_range = range_of(self.context.read(_as_table(context)), self.context.cardinalities)
        return self._pieces(rows, values, context)

    def read(
        self, series: Any, context: Any = None, *, longest_gap: int, context_needed: bool = True
    ) -> list[PlacedPiece]:
        """Return the pieces of another series.

        Raises
        ------
        InvalidTableError
            If it does not come as the one of fit did, or context is missing, or given in vain.
        """
        rows = self.reader.read(series, longest_gap=longest_gap)
        if context_needed:
            self.check_context(context, len(rows))
        return self._pieces(rows, self.contents.read(rows.table), context)

    def check_context(self, context: Any, n_rows: int) -> None:
        """Refuse context where fit had none, and the other way round.

        Raises
        ------
        InvalidTableError
        """
        if (context is None) != (self.context is None):
            raise InvalidTableError(
                f"This SeriesAugmenter was fitted with context, so it needs {n_rows} rows of it here; got "
                "none. Pass context=."
                if context is None
                else "This SeriesAugmenter was fitted without context, so it takes none; leave context= out."
            )
        if context is not None:
            _check_length(context, n_rows)

    def known(self, entity: Any, stamps: pd.Index | None, n_rows: int, told: _Array | None) -> _Array:
        """Return what is known beforehand of rows of one entity: calendar, entity, context.

        Parameters
        ----------
        entity : object
        stamps : Index or None
        n_rows : int
        told : ndarray of shape (n_rows, n_context) or None
            What `context_values` gave for them.

        Returns
        -------
        ndarray of shape (n_rows, n_known)
        """
        parts = [np.empty((n_rows, 0))]
        if self._step is not None and isinstance(stamps, pd.DatetimeIndex):
            calendar = calendar_table(stamps, step=self._step, span=self._span)
            # Without columns there is nothing that get_dummies takes.
            parts += [pd.get_dummies(calendar).to_numpy(dtype=np.float64)] if len(calendar.columns) else []
        parts.append(np.tile([float(entity == name) for name in self._told_entities], (n_rows, 1)))
        if self.context is not None and told is not None:
            parts.append(self._context_columns(self.context, told))
        return np.concatenate(parts, axis=1)

    def context_values(self, context: Any) -> _Array | None:
        """Return the caller's context as numbers and codes; None where there is none."""
        return None if self.context is None or context is None else self.context.read(_as_table(context))

    def stamps_after(self, placed: PlacedPiece, n_steps: int) -> pd.Index | None:
        """Return the stamps that follow those of a piece; None without stamps."""
        if placed.stamps is None or self.reader.clock is None:
            return None
        return stamps_after(self.reader.clock, placed.stamps, np.arange(n_steps) + len(placed.stamps))

    def _learn_ranges(self, rows: SeriesRows, values: _Array) -> None:
        places: dict[Any, list[NDArray[np.intp]]] = {}
        for stretch in rows.stretches:
            places.setdefault(stretch.entity, []).append(stretch.rows[stretch.given])
        whole = range_of(values, self.contents.cardinalities)
        self.ranges = {}
        for entity, parts in places.items():
            own = range_of(values[np.concatenate(parts)], self.contents.cardinalities)
            # A channel that one entity lacks, or that is constant there, keeps the scale of all.
            flat = own.high <= own.low
            self.ranges[entity] = replace(own, scale=np.where(flat, whole.scale, own.scale))
        sizes = {entity: sum(map(len, parts)) for entity, parts in places.items()}
        often = sorted(sizes, key=lambda entity: -sizes[entity])[:_MOST_CATEGORIES]
        self._told_entities = often if len(sizes) > 1 else []

    def _learn_calendar(self, rows: SeriesRows) -> None:
        clock = self.reader.clock
        self._step = None
        if rows.stamps is None or clock is None or not isinstance(rows.stamps, pd.DatetimeIndex):
            return
        self._step = clock.as_timedelta()
        self._span = rows.stamps.max() - rows.stamps.min()

    def _pieces(self, rows: SeriesRows, values: _Array, context: Any) -> list[PlacedPiece]:
        told = self.context_values(context)
        return [self._piece(rows, stretch, values, told) for stretch in rows.stretches]

    def _piece(self, rows: SeriesRows, stretch: Stretch, values: _Array, told: _Array | None) -> PlacedPiece:
        given = stretch.given
        here = np.full((len(given), values.shape[1]), np.nan)
        here[given] = values[stretch.rows[given]]
        stamps = None
        if rows.stamps is not None and self.reader.clock is not None:
            own = rows.stamps[stretch.rows[given]]
            stamps = stamps_after(self.reader.clock, own, np.arange(len(given)))
        if told is not None:
            # Absent rows have the context of the row before them.
            last = np.maximum.accumulate(np.where(given, np.arange(len(given)), 0))
            told = told[stretch.rows[last]]
        range_ = self.ranges[stretch.entity].widened(here)
        known = self.known(stretch.entity, stamps, len(given), told)
        return PlacedPiece(Piece(range_.standard(here), known), stretch, stamps, range_)

    def _context_columns(self, context: Contents, told: _Array) -> _Array:
        standard = np.nan_to_num(self._context_range.standard(told), nan=0.0)
        columns = []
        for column, n_categories in enumerate(context.cardinalities):
            if n_categories:
                codes = np.arange(min(n_categories, _MOST_CATEGORIES))
                columns.append((told[:, column, None] == codes).astype(np.float64))
            else:
                columns.append(standard[:, column, None])
        return np.concatenate(columns, axis=1)


def _as_table(context: Any) -> Any:
    if isinstance(context, pd.Series):
        return context.to_frame("context" if context.name is None else context.name)
    if isinstance(context, pd.DataFrame):
        return context
    array = as_array(context)
    return array.reshape(-1, 1) if array.ndim == 1 else array


def _check_length(context: Any, n_rows: int) -> None:
    table = _as_table(context)
    if table.ndim != 2:
        raise InvalidTableError(
            f"context must have shape ({n_rows},) or ({n_rows}, n_context); got {np.shape(context)}."
        )
    if len(table) != n_rows:
        raise InvalidTableError(
            f"context must have one row per row of the series, {n_rows}; got {len(table)}."
        )
