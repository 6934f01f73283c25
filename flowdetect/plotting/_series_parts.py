"""What pictures of series share: lines with gaps, the channels to draw, paths and the rows beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flowdetect.exceptions import ConfigurationError, InvalidTableError
from flowdetect.preprocessing._storage import describe
from flowdetect.timeseries._time import read_stamps

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "among_steps",
    "channel_paths",
    "chosen_channels",
    "chosen_entity",
    "draw_line",
    "numbers",
    "read_paths",
    "read_table",
    "rows_of",
]

_Array = NDArray[np.float64]

_NO_GAP = 2**40


def draw_line(ax: Axes, x: NDArray[Any], y: _Array, *, color: str, label: str | None = None) -> None:
    """Draw a line that is broken where entries are missing; one between two missing ones is a dot."""
    ax.plot(x, y, color=color, linewidth=1.2, label=label)
    absent = np.concatenate([[True], np.isnan(y), [True]])
    alone = ~absent[1:-1] & absent[:-2] & absent[2:]
    if alone.any():
        ax.plot(x[alone], y[alone], color=color, linestyle="", marker=".", markersize=5.0)


# --- what the caller chooses -----------------------------------------------------------------------------


def chosen_channels(channel: Any, numeric: dict[Any, bool]) -> list[Any]:
    """Return the chosen channel, or all that are numeric.

    Raises
    ------
    InvalidTableError
        If none is numeric.
    ConfigurationError
        If the chosen one is not.
    """
    drawable = [each for each, is_numeric in numeric.items() if is_numeric]
    if not drawable:
        raise InvalidTableError("The series must have a numeric channel to draw; it has none.")
    if channel is None:
        return drawable
    if channel not in drawable:
        what = "holds categories" if channel in list(numeric) else "is no channel"
        raise ConfigurationError(
            f"channel must be one of the numeric channels, {', '.join(map(repr, drawable[:20]))}; "
            f"{channel!r} {what}."
        )
    return [channel]


def chosen_entity(column: Any, index: pd.Index, entity: Any) -> Any:
    """Return which of the series in a forecast to draw; None where the augmenter has no entity column.

    Raises
    ------
    ConfigurationError
        If it does not say which one.
    """
    if column is None:
        if entity is not None:
            raise ConfigurationError(f"entity={entity!r} was given, and the augmenter has no entity column.")
        return None
    known = index.unique(level=0).tolist()
    if entity is None and len(known) == 1:
        return known[0]
    if entity not in known:
        raise ConfigurationError(
            f"entity must be a value of column {column!r}, to say which series to draw; got {entity!r}."
        )
    return entity


# --- tables that the caller gives ------------------------------------------------------------------------


def read_paths(paths: Any) -> pd.DataFrame:
    """Return paths with dates or numbers in the index.

    Raises
    ------
    InvalidTableError
        If they are no DataFrame of one series.
    """
    if not isinstance(paths, pd.DataFrame) or not paths.size:
        came = f"shape {paths.shape}" if isinstance(paths, pd.DataFrame) else type(paths).__name__
        raise InvalidTableError(
            f"paths must be a DataFrame with a column for each path, as forecast returns it; got {came}."
        )
    if paths.index.nlevels > 1:
        raise InvalidTableError(
            f"paths must be those of one series; the index has {paths.index.nlevels} levels. Choose one "
            "with paths.xs(entity)."
        )
    return paths.set_axis(read_stamps(paths.index, "the index of paths"), axis=0)


def read_table(table: Any, steps: pd.Index, what: str) -> pd.DataFrame:
    """Return the rows of a series in the order of their stamps.

    Parameters
    ----------
    table : Series or DataFrame
    steps : Index
        Of the paths.
    what : str
        What the table is called in errors.

    Raises
    ------
    InvalidTableError
        If it is no table, or its stamps are not like those of the paths.
    """
    if not isinstance(table, pd.DataFrame | pd.Series):
        raise InvalidTableError(
            f"{what} must be a Series or DataFrame with stamps in its index; got {type(table).__name__}."
        )
    name = getattr(table, "name", None)
    frame = table.to_frame("value" if name is None else name) if isinstance(table, pd.Series) else table
    if frame.index.nlevels > 1:
        raise InvalidTableError(f"{what} must be one series; its index has {frame.index.nlevels} levels.")
    index = read_stamps(frame.index, f"the index of {what}")
    zone, zone_of_steps = (getattr(each, "tz", None) for each in (index, steps))
    of_dates = [isinstance(each, pd.DatetimeIndex) for each in (index, steps)]
    if of_dates[0] != of_dates[1] or (zone is None) != (zone_of_steps is None):
        raise InvalidTableError(
            f"The index of {what} must hold stamps like those of the paths, {steps.dtype}; it holds "
            f"{index.dtype}."
        )
    if isinstance(index, pd.DatetimeIndex) and zone is not None:
        index = index.tz_convert(zone_of_steps)
    return frame.set_axis(index, axis=0).sort_index(kind="stable")


def among_steps(actual: pd.DataFrame, steps: pd.Index) -> pd.DataFrame:
    """Return the rows from the first step to the last one.

    Raises
    ------
    InvalidTableError
        If there are none.
    """
    among = actual[(actual.index >= steps[0]) & (actual.index <= steps[-1])]
    if among.empty:
        raise InvalidTableError(
            f"actual must have rows at the steps of the paths, {steps[0]} to {steps[-1]}; it has none there."
        )
    return among


def channel_paths(
    paths: pd.DataFrame, tables: dict[str, pd.DataFrame], channel: Any
) -> dict[Any, pd.DataFrame]:
    """Return the paths of each channel to draw, as float64.

    Parameters
    ----------
    paths : DataFrame
        With one level of columns or two, channel and path.
    tables : dict of str to DataFrame
        Series and actual rows; they name the channel of paths with one level.
    channel : object
        None for all.

    Raises
    ------
    InvalidTableError
        If none is numeric.
    ConfigurationError
        If the channel is not numeric, or nothing tells which one the paths are of.
    """
    if paths.columns.nlevels > 1:
        names = dict.fromkeys(paths.columns.get_level_values(0))
        blocks = {name: paths[[name]].droplevel(0, axis=1) for name in names}
    else:
        own = [table.columns.tolist() for table in tables.values() if table.shape[1]]
        if channel is None and max(map(len, own), default=1) > 1:
            raise ConfigurationError(
                "channel must name the column that the paths continue, for series or actual has several; got "
                "None."
            )
        blocks = {(own[0][0] if own else "value") if channel is None else channel: paths}
    numeric = {name: any(_is_number(path) for _, path in block.items()) for name, block in blocks.items()}
    return {
        name: pd.DataFrame({path: numbers(blocks[name], path, "paths") for path in blocks[name]}, paths.index)
        for name in chosen_channels(channel, numeric)
    }


def numbers(table: pd.DataFrame, column: Any, what: str) -> _Array:
    """Return a column as float64, NaN where it has no finite entry.

    Raises
    ------
    InvalidTableError
        If there is no such column, or it does not hold numbers.
    """
    if column not in table.columns.tolist():
        listed = ", ".join(map(repr, table.columns[:20]))
        raise InvalidTableError(f"{what} must have the column {column!r}; it has {listed}.")
    entries = table[column]
    if not _is_number(entries) and entries.notna().any():
        raise InvalidTableError(f"Column {column!r} of {what} must hold numbers; it holds {entries.dtype}.")
    values = pd.to_numeric(entries).to_numpy(dtype=np.float64, na_value=np.nan)
    return np.where(np.isfinite(values), values, np.nan)


def _is_number(column: pd.Series) -> bool:
    return describe(column).family == "number"


# --- tables that an augmenter knows ----------------------------------------------------------------------


def rows_of(augmenter: Any, series: Any, entity: Any, *, steps: pd.Index | None = None) -> pd.DataFrame:
    """Return the numeric channels of one entity, with the stamps that the augmenter reads.

    Parameters
    ----------
    augmenter : SeriesAugmenter
        Fitted on one series or several.
    series : array-like, Series, DataFrame or None
        None takes that of fit, from its last long gap on.
    entity : object
    steps : Index, optional
        Where rows without stamps stand; by default they are counted from 0.

    Returns
    -------
    DataFrame of shape (n_rows, n_numeric_channels)
        Absent rows are there, and missing.

    Raises
    ------
    InvalidTableError
        If the series does not come as in fit, or has no row of the entity.
    """
    reader, placed = augmenter._paths.reader, augmenter._paths.placed
    if series is not None:
        placed = reader.read(series, longest_gap=_NO_GAP, context_needed=False)
    own = [each for each in placed if each.stretch.entity == entity]
    if not own:
        raise InvalidTableError(f"The actual rows must have some of entity {entity!r}; they have none.")
    last, contents = own[-1], reader.contents
    values, index = last.range.original(last.piece.values), last.stamps
    if index is None:
        index = pd.RangeIndex(len(values)) if steps is None else steps[: len(values)]
    columns = {}
    for channel in np.flatnonzero(contents.cardinalities == 0):
        here = ~np.isnan(values[:, channel])
        entries = np.full(len(values), np.nan)
        # As they were given: units, origin and decimals.
        entries[here] = pd.to_numeric(contents.write(values[here, channel], channel)).to_numpy(np.float64)
        columns[contents.names[channel]] = entries[: len(index)]
    return pd.DataFrame(columns, index=index)
