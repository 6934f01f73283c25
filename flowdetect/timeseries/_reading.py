"""From what the caller passes to stretches of rows one step apart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flowdetect.exceptions import ConfigurationError, InvalidTableError
from flowdetect.preprocessing._schema import shown
from flowdetect.timeseries._time import Clock, read_stamps

__all__ = ["SeriesReader", "SeriesRows", "Stretch", "as_array", "as_series_frame", "check_name"]


@dataclass(frozen=True)
class Stretch:
    """Rows of one entity, one step apart.

    Attributes
    ----------
    entity : object
        None without an entity column.
    rows : ndarray of int, shape (n,)
        The place of each row among the caller's; -1 for a row that a short gap lacks.
    """

    entity: Any
    rows: NDArray[np.intp]

    @property
    def given(self) -> NDArray[np.bool_]:
        """Which rows the caller gave."""
        mask: NDArray[np.bool_] = self.rows >= 0
        return mask


@dataclass(frozen=True)
class SeriesRows:
    """A series, or several, as the caller gave them, and the stretches they consist of.

    Attributes
    ----------
    table : DataFrame or ndarray of shape (n_rows, n_channels)
        The columns to be modelled, in the caller's order.
    stamps : Index or None
        Time of each row, in the caller's order.
    entities : Series or None
        Entity of each row, in the caller's order.
    stretches : list of Stretch
    """

    table: Any
    stamps: pd.Index | None
    entities: pd.Series | None
    stretches: list[Stretch]

    def __len__(self) -> int:
        return len(self.table)

    def row(self, position: int) -> Any:
        """Return one row as a table."""
        rows = slice(position, position + 1)
        return self.table.iloc[rows] if isinstance(self.table, pd.DataFrame) else self.table[rows]


class SeriesReader:
    """Learn how a series comes, and read others that come in the same way.

    Parameters
    ----------
    time : column name or None
        Column of the time stamps. None takes the index of a DataFrame or Series if it holds dates; without
        dates rows are one step apart, in the order given.
    entity : column name or None
        Column that tells several series apart.
    """

    def __init__(self, *, time: Any = None, entity: Any = None) -> None:
        self.time = time
        self.entity = entity
        self.clock: Clock | None = None
        self.known: frozenset[Any] | None = None

    def learn(self, series: Any) -> SeriesReader:
        """Learn the step and the entities.

        Raises
        ------
        InvalidTableError
            If the series cannot be read, see `read`.
        """
        table, stamps, entities = self._parts(series)
        groups = list(_groups(entities, len(table)))
        self.known = None if entities is None else frozenset(entity for entity, _ in groups)
        self.clock = None
        if stamps is not None:
            self.clock = Clock.learn([_sorted(stamps[rows], entity)[0] for entity, rows in groups])
        return self

    def read(self, series: Any, *, longest_gap: int, strict: bool = True) -> SeriesRows:
        """Return the series as stretches.

        Parameters
        ----------
        series : array-like, Series or DataFrame
        longest_gap : int
            A gap of more absent rows than this begins a new stretch; a shorter one is filled.
        strict : bool
            Whether an entity unknown from `learn` is refused.

        Raises
        ------
        InvalidTableError
            If it comes in another way than what was learnt, or has repeated, missing or irregular stamps.
        """
        table, stamps, entities = self._parts(series)
        if (stamps is None) != (self.clock is None):
            raise InvalidTableError(
                "The series must have time stamps as in fit; it has none."
                if stamps is None
                else "The series must come without time stamps, as in fit; it has some."
            )
        stretches: list[Stretch] = []
        for entity, rows in _groups(entities, len(table)):
            if strict and self.known is not None and entity not in self.known:
                raise InvalidTableError(
                    f"Entities must be among those of fit; {entity!r} in column {self.entity!r} was not. "
                    "Fit again with it, or score its rows with a detector of its own."
                )
            stretches += self._cut(entity, rows, stamps, longest_gap)
        return SeriesRows(table, stamps, entities, stretches)

    def _parts(self, series: Any) -> tuple[Any, pd.Index | None, pd.Series | None]:
        frame = as_series_frame(series)
        if not isinstance(frame, pd.DataFrame):
            if self.time is not None or self.entity is not None:
                raise InvalidTableError(
                    "time and entity name columns of a DataFrame; got an array. Pass a DataFrame, or leave "
                    "them out."
                )
            return frame, None, None
        named = [name for name in (self.time, self.entity) if name is not None]
        absent = [name for name in named if name not in frame.columns]
        if absent:
            raise InvalidTableError(
                f"The series has no column {shown(absent[0])}, which time or entity names; it has "
                f"{', '.join(map(shown, frame.columns[:20]))}."
            )
        stamps: pd.Index | None = None
        if self.time is not None:
            stamps = read_stamps(frame[self.time], f"column {self.time!r}")
        elif isinstance(frame.index, pd.DatetimeIndex | pd.PeriodIndex):
            stamps = read_stamps(frame.index, "the index")
        elif isinstance(frame.index, pd.MultiIndex):
            raise InvalidTableError(
                f"The index must have one level, or time= must name a column; it has {frame.index.nlevels}. "
                "Turn them into columns with reset_index(), and name these by time= and entity=."
            )
        entities = None if self.entity is None else frame[self.entity]
        if entities is not None and entities.isna().any():
            raise InvalidTableError(
                f"Column {self.entity!r} has {int(entities.isna().sum())} missing entries; it must say for "
                "each row which series it belongs to."
            )
        table = frame.drop(columns=named)
        if not table.shape[1]:
            raise InvalidTableError("The series has no column besides those that time and entity name.")
        return table, stamps, entities

    def _cut(
        self, entity: Any, rows: NDArray[np.intp], stamps: pd.Index | None, longest_gap: int
    ) -> Iterator[Stretch]:
        if stamps is None or self.clock is None:
            yield Stretch(entity, rows)
            return
        in_order, order = _sorted(stamps[rows], entity)
        rows, ticks = rows[order], self.clock.count(in_order)
        ends = np.flatnonzero(np.diff(ticks) > longest_gap + 1) + 1
        for part in np.split(np.arange(len(rows)), ends):
            places = ticks[part] - ticks[part[0]]
            filled = np.full(places[-1] + 1, -1, dtype=np.intp)
            filled[places] = rows[part]
            yield Stretch(entity, filled)


def as_array(values: Any) -> NDArray[Any]:
    """Return an array.

    Raises
    ------
    InvalidTableError
        If lists differ in length.
    """
    try:
        return np.asarray(values)
    except ValueError as error:
        raise InvalidTableError(
            "Rows, and series of a collection, must have one length; got lists of several. Pad them with NaN,"
            " or pass several series as one DataFrame with a column that entity= names."
        ) from error


def as_series_frame(series: Any) -> Any:
    """Return a DataFrame as it is, a Series as one column, and anything else as a 2-D array.

    Raises
    ------
    InvalidTableError
        If it has three dimensions or more, or no rows.
    """
    if isinstance(series, pd.Series):
        series = series.to_frame("value" if series.name is None else series.name)
    if not isinstance(series, pd.DataFrame):
        array = as_array(series)
        if array.ndim == 1:
            array = array.reshape(-1, 1)
        if array.ndim != 2:
            raise InvalidTableError(
                "A series must have shape (n_timestamps,) or (n_timestamps, n_channels); got "
                f"{array.shape}. Several series are one DataFrame with a column that entity= names."
            )
        series = array
    if not len(series):
        raise InvalidTableError("The series has no rows; at least one is needed.")
    return series


def check_name(name: str, value: Any) -> None:
    """Refuse a list of columns where one is meant.

    Raises
    ------
    ConfigurationError
    """
    if isinstance(value, list | tuple | set | dict | np.ndarray | pd.Index):
        raise ConfigurationError(f"{name} must be the name of one column, or None; got {value!r}.")


def _groups(entities: pd.Series | None, n_rows: int) -> Iterator[tuple[Any, NDArray[np.intp]]]:
    if entities is None:
        yield None, np.arange(n_rows)
        return
    codes, names = pd.factorize(entities)
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.diff(codes[order])) + 1
    labels = names.tolist() if hasattr(names, "tolist") else list(names)
    yield from zip(labels, np.split(order, starts), strict=True)


def _sorted(stamps: pd.Index, entity: Any) -> tuple[pd.Index, NDArray[np.intp]]:
    order = np.argsort(stamps.to_numpy(), kind="stable") if not stamps.is_monotonic_increasing else None
    in_order = stamps if order is None else stamps[order]
    repeated = in_order[in_order.duplicated()]
    if len(repeated):
        whose = "" if entity is None else f" of {entity!r}"
        raise InvalidTableError(
            f"Each time stamp{whose} must occur once; {repeated[0]} occurs more often ({len(repeated)} rows "
            "too many). Aggregate these rows, or name the column that tells several series apart by entity=."
        )
    return in_order, np.arange(len(stamps)) if order is None else order
