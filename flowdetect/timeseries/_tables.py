"""Drawn numbers and codes as tables in the caller's types, with their time stamps and entities."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.tseries.api import guess_datetime_format

from flowdetect.timeseries._pieces import PieceReader, PlacedPiece
from flowdetect.timeseries._reading import as_series_frame
from flowdetect.timeseries._time import read_stamps

__all__ = ["filled_table", "forecast_table", "sample_table"]

_Array = NDArray[np.float64]


def forecast_table(reader: PieceReader, values: _Array, index: pd.Index, entity: Any) -> pd.DataFrame:
    """Return paths of shape (n_steps, n_paths, n_channels) with one column for each channel and path."""
    contents = reader.contents
    columns = {
        (name, path): contents.write(values[:, path, channel], channel)
        for channel, name in enumerate(contents.names)
        for path in range(values.shape[1])
    }
    frame = pd.concat(list(columns.values()), axis=1)
    frame.columns = pd.MultiIndex.from_tuples(list(columns), names=["channel", "path"])
    if len(contents.names) == 1:
        frame.columns = pd.RangeIndex(values.shape[1], name="path")
    frame.index = index
    if reader.reader.entity is not None:
        levels = [pd.Index([entity] * len(index)), index]
        frame.index = pd.MultiIndex.from_arrays(levels, names=[reader.reader.entity, index.name])
    return frame


def sample_table(
    reader: PieceReader, values: Sequence[_Array], stamps: Sequence[pd.Index | None]
) -> NDArray[Any] | pd.DataFrame:
    """Return drawn series, each of shape (n_rows, n_channels), as one array or one DataFrame."""
    table = reader.contents.write_table(np.concatenate(values))
    if not isinstance(table, pd.DataFrame):
        return np.asarray(table).reshape(len(values), -1, table.shape[1])
    time, entity = reader.reader.time, reader.reader.entity
    numbers = np.repeat(np.arange(len(values)), [len(one) for one in values])
    table.insert(0, _free_name("series" if entity is None else entity, table), numbers)
    known = [each for each in stamps if each is not None]
    if known:
        joined = known[0].append(list(known[1:]))
        if time is None:
            table.index = joined
        else:
            table.insert(1, time, joined)
    return table


def _free_name(name: Any, table: pd.DataFrame) -> Any:
    while name in table.columns:
        name = f"{name} number"
    return name


def filled_table(reader: PieceReader, series: Any, placed: Sequence[PlacedPiece]) -> Any:
    """Return the caller's series with the values of pieces put in where it has none."""
    frame = as_series_frame(series)
    is_array = not isinstance(frame, pd.DataFrame)
    table = pd.DataFrame(frame) if is_array else frame
    rows = np.concatenate([each.stretch.rows for each in placed])
    values = np.concatenate([each.range.original(each.piece.values) for each in placed])
    if (rows >= 0).all():
        # Nothing was absent: the caller's order stays.
        order = np.empty(len(rows), dtype=np.intp)
        order[rows] = np.arange(len(rows))
        rows, values = np.arange(len(rows)), values[order]
        filled = table.copy()
    else:
        filled = _with_absent_rows(reader, table, placed, rows)
    for channel, name in enumerate(reader.contents.names):
        column = filled[name] if not is_array else filled.iloc[:, channel]
        lacking = column.isna().to_numpy() | (rows < 0)
        if lacking.any():
            filled[column.name] = _put(column, lacking, reader.contents.write(values[:, channel], channel))
    if is_array:
        return filled.to_numpy().reshape((len(filled), *np.shape(series)[1:]))
    if not isinstance(series, pd.Series):
        return filled
    column = filled.iloc[:, 0]
    column.name = series.name
    return column


def _put(column: pd.Series, lacking: NDArray[np.bool_], drawn: pd.Series) -> pd.Series:
    """Return the column with drawn entries where it lacks some, in its own type."""
    entries = drawn.astype(column.dtype) if drawn.dtype != column.dtype else drawn
    completed = column.copy()
    completed[lacking] = entries.to_numpy()[lacking] if entries.dtype == object else entries.array[lacking]
    return completed


def _with_absent_rows(
    reader: PieceReader, table: pd.DataFrame, placed: Sequence[PlacedPiece], rows: NDArray[np.intp]
) -> pd.DataFrame:
    """Return the table sorted by entity and time, absent rows put in with their stamps."""
    time, entity = reader.reader.time, reader.reader.entity
    # An absent row holds what the first row does until it is filled: types stay.
    taken = table.take(np.maximum(rows, 0))
    stamps = [each.stamps for each in placed if each.stamps is not None]
    joined = stamps[0].append(list(stamps[1:]))
    whole = _stamps_with_absent(pd.Index(table[time]) if time is not None else table.index, joined, rows)
    if time is None:
        taken.index = whole.rename(table.index.name)
    else:
        taken = taken.reset_index(drop=True)
        taken[time] = whole
    if entity is not None:
        names = np.repeat([str(k) for k in range(len(placed))], [len(each.stretch.rows) for each in placed])
        entities = [each.stretch.entity for each in placed]
        taken[entity] = pd.Series(
            [entities[int(name)] for name in names], index=taken.index, dtype=table[entity].dtype
        )
    return taken


def _stamps_with_absent(own: pd.Index, joined: pd.Index, rows: NDArray[np.intp]) -> pd.Index:
    """Return the caller's stamps with those of absent rows among them, in the caller's form."""
    given, places = rows >= 0, np.maximum(rows, 0)
    if isinstance(own, pd.PeriodIndex):
        return pd.PeriodIndex(joined, freq=own.freq)
    if isinstance(own, pd.TimedeltaIndex):
        joined = pd.to_timedelta(joined, unit="s")
    if own.dtype == object or isinstance(own.dtype, pd.StringDtype):
        read = pd.DatetimeIndex(read_stamps(own, "the time stamps"))
        write = _writer(own, read)
        if write is None:
            return joined.where(~given, read.take(places))
        return pd.Index(np.where(given, own.take(places), write(pd.DatetimeIndex(joined))), dtype=own.dtype)
    return joined.astype(own.dtype).where(~given, own.take(places))


def _writer(written: pd.Index, read: pd.DatetimeIndex) -> Callable[[pd.DatetimeIndex], pd.Index] | None:
    """Return what writes dates as the caller wrote all of them; None if nothing known does."""
    writers: list[Callable[[pd.DatetimeIndex], pd.Index]] = [
        lambda stamps: stamps.map(str),
        lambda stamps: stamps.map(pd.Timestamp.isoformat),
        lambda stamps: stamps.map(pd.Timestamp.date),
    ]
    with warnings.catch_warnings():
        # That a day comes first was settled when the texts were read.
        warnings.simplefilter("ignore", UserWarning)
        form = guess_datetime_format(written[0]) if isinstance(written[0], str) else None
    if form is not None:
        writers.insert(0, lambda stamps: stamps.strftime(form))
    return next((write for write in writers if (write(read).to_numpy() == written.to_numpy()).all()), None)
