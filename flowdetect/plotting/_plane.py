"""Rows over the plane of two columns of a table, all other columns held. Pure functions of DataFrames."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api import types

from flowdetect.exceptions import ConfigurationError, InvalidTableError
from flowdetect.plotting._style import drawn_range

__all__ = ["as_array", "as_frame", "axis_values", "column_positions", "numbers", "plane_rows", "snapped"]

# The plane keeps what lies within three times the distance to the 1 % and 99 % quantile of either column.
_PLANE_TAIL = 0.01
_PLANE_MARGIN = 0.05

# A column of at most this many distinct numbers is scored at these numbers only: between them lies nothing.
_FEW_NUMBERS = 32

_OBJECTS_THAT_ARE_NUMBERS = ("integer", "floating", "mixed-integer-float")


def as_frame(X: Any) -> pd.DataFrame:
    """Return the table as a DataFrame; the columns of an array are named by their positions.

    Raises
    ------
    InvalidTableError
        If it is not two-dimensional or has no rows.
    """
    table = X if isinstance(X, pd.DataFrame) else np.asarray(X)
    if len(table.shape) != 2 or not table.shape[0]:
        raise InvalidTableError(f"X must be a table with rows and columns; got shape {table.shape}.")
    return table if isinstance(table, pd.DataFrame) else pd.DataFrame(table)


def as_array(rows: pd.DataFrame) -> NDArray[Any]:
    """Return rows of an array's DataFrame as an array: of numbers, or of objects if it was one of objects."""
    plain = all(types.is_numeric_dtype(dtype) for dtype in rows.dtypes)
    return rows.to_numpy(dtype=np.float64 if plain else object)


def column_positions(columns: Any, frame: pd.DataFrame) -> tuple[int, int]:
    """Return the positions of the two chosen columns.

    Raises
    ------
    ConfigurationError
        If they are not two different columns of the table, or do not hold numbers.
    """
    if not isinstance(columns, tuple | list) or len(columns) != 2:
        raise ConfigurationError(
            f"columns must be two columns of X, such as ({frame.columns[0]!r}, {frame.columns[-1]!r}); "
            f"got {columns!r}."
        )
    first, second = (_position(column, frame) for column in columns)
    if first == second:
        raise ConfigurationError(f"columns must be two different columns of X; got {columns!r}.")
    return first, second


def _position(column: Any, frame: pd.DataFrame) -> int:
    names = frame.columns.tolist()
    if isinstance(column, bool) or names.count(column) != 1:
        listed = ", ".join(repr(name) for name in names)
        raise ConfigurationError(f"columns must be columns of X; got {column!r}, but X has {listed}.")
    position = names.index(column)
    if not _is_numeric(frame.iloc[:, position]):
        raise ConfigurationError(
            f"columns must hold numbers; column {column!r} holds {frame.dtypes.iloc[position]}: choose two "
            "numeric columns."
        )
    return position


def _is_numeric(column: pd.Series) -> bool:
    dtype = column.dtype
    if types.is_object_dtype(dtype):
        return types.infer_dtype(column, skipna=True) in _OBJECTS_THAT_ARE_NUMBERS
    return (
        types.is_numeric_dtype(dtype) and not types.is_bool_dtype(dtype) and not types.is_complex_dtype(dtype)
    )


def numbers(frame: pd.DataFrame, position: int) -> NDArray[np.float64]:
    """Return a numeric column with NaN for missing entries.

    Raises
    ------
    InvalidTableError
        If it holds no finite number.
    """
    values = pd.to_numeric(frame.iloc[:, position]).to_numpy(dtype=np.float64, na_value=np.nan)
    if not np.isfinite(values).any():
        raise InvalidTableError(
            f"columns must hold numbers; column {frame.columns[position]!r} has no finite one: "
            "choose another."
        )
    return values


def axis_values(values: NDArray[np.float64], n_steps: int) -> NDArray[np.float64]:
    """Return equally spaced numbers over the bulk of a column, with a margin."""
    finite = values[np.isfinite(values)]
    low, high = drawn_range(finite, tail=_PLANE_TAIL)
    if low == high:  # a column that is almost constant has no bulk to keep to
        low, high = float(finite.min()), float(finite.max())
    margin = _PLANE_MARGIN * (high - low) or 0.5
    return np.linspace(low - margin, high + margin, n_steps)


def snapped(axis: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the numbers of an axis as the column could hold them.

    The nearest ones of a column of few distinct numbers, and whole ones of a column of whole numbers: a
    detector rightly calls everything between them unheard of. Nor any below zero of a column that
    has none, since logarithms may be taken.
    """
    distinct = np.unique(values[np.isfinite(values)])
    if len(distinct) <= _FEW_NUMBERS:
        return distinct[np.searchsorted((distinct[1:] + distinct[:-1]) / 2.0, axis)]
    allowed = np.maximum(axis, 0.0) if distinct[0] >= 0.0 else axis
    return np.round(allowed) if np.array_equal(distinct, np.round(distinct)) else allowed


def plane_rows(
    frame: pd.DataFrame,
    pair: tuple[int, int],
    plane: tuple[NDArray[np.float64], NDArray[np.float64]],
    row: int | None,
) -> pd.DataFrame:
    """Return a row for each point of the plane: the first column runs fastest, other columns are held.

    Parameters
    ----------
    frame : DataFrame of shape (n_rows, n_columns)
        Where the held content comes from.
    pair : tuple of two int
        Positions of the columns of the plane.
    plane : tuple of two ndarray, of shapes (n_x,) and (n_y,)
        The numbers along either axis.
    row : int or None
        Position of the row whose content is held; None takes what is typical of each column.

    Returns
    -------
    DataFrame of shape (n_y * n_x, n_columns)
    """
    x, y = (axis.ravel() for axis in np.meshgrid(*plane))
    running = {pair[0]: x, pair[1]: y}
    columns = []
    for position in range(frame.shape[1]):
        column = frame.iloc[:, position]
        if position in running:
            columns.append(pd.Series(running[position]))
        else:
            source = _typical_row(column) if row is None else row
            # Taken, not filled: the entry keeps its type, a category its categories.
            columns.append(column.take(np.full(len(x), source)).reset_index(drop=True))
    return pd.concat(columns, axis=1).set_axis(frame.columns, axis=1)


def _typical_row(column: pd.Series) -> int:
    """Return where a typical entry stands: the lower median of numbers, else the most frequent entry."""
    missing = column.isna().to_numpy()
    if _is_numeric(column) and 2 * missing.sum() <= len(column):
        present = np.flatnonzero(~missing)
        order = np.argsort(
            pd.to_numeric(column).to_numpy(np.float64, na_value=np.nan)[present], kind="stable"
        )
        return int(present[order[(len(present) - 1) // 2]])
    codes = pd.factorize(column, use_na_sentinel=False)[0]
    return int(np.argmax(codes == np.bincount(codes).argmax()))
