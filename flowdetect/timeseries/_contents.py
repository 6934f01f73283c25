"""The columns of a series as numbers and codes, and back to the caller's types."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flowdetect.exceptions import InvalidTableError
from flowdetect.preprocessing import Storage
from flowdetect.preprocessing._frame import as_frame
from flowdetect.preprocessing._schema import shown
from flowdetect.preprocessing._storage import (
    describe,
    factorize,
    read_numbers,
    restore_labels,
    restore_numbers,
)

__all__ = ["Contents"]

_Array = NDArray[np.float64]

# Numbers with at most so many decimals are drawn with as many.
_MOST_DECIMALS = 4


class Contents:
    """Learn what the columns of a table hold, read them as numbers and codes, and write drawn ones.

    Parameters
    ----------
    what : str, default="The series"
        What messages call the table.

    Attributes
    ----------
    names : list
        Column names; positions for arrays.
    is_array : bool
    cardinalities : ndarray of int, shape (n_columns,)
        Number of categories; 0 for a column of numbers.
    low, high : ndarray of shape (n_columns,)
        Range of the numbers seen.
    decimals : ndarray of shape (n_columns,)
        Decimals of the numbers seen; NaN for more than 4, and for categories.
    """

    def __init__(self, what: str = "The series") -> None:
        self._what = what

    def learn(self, table: Any) -> Contents:
        """Learn the columns.

        Raises
        ------
        InvalidTableError
            If a column has no entries, or holds times.
        """
        frame, array_dtype = as_frame(table)
        self.is_array = not isinstance(table, pd.DataFrame)
        self.array_dtype = array_dtype
        self.names = frame.columns.tolist()
        self._storages: list[Storage] = []
        self._levels: list[tuple[Any, ...]] = []
        for j in range(frame.shape[1]):
            storage, levels = _describe(frame.iloc[:, j])
            self._storages.append(storage)
            self._levels.append(levels)
        self.cardinalities = np.array([len(levels) for levels in self._levels], dtype=np.intp)
        values = self.read(table)
        numbers = np.where(self.cardinalities == 0, values, 0.0)
        self.low, self.high = np.nanmin(numbers, axis=0), np.nanmax(numbers, axis=0)
        self.decimals = np.array(
            [
                np.nan if n_categories else _decimals(column)
                for n_categories, column in zip(self.cardinalities, values.T, strict=True)
            ]
        )
        return self

    def levels(self, column: int) -> tuple[Any, ...]:
        """Return the categories of a column; none for numbers."""
        return self._levels[column]

    def read(self, table: Any) -> _Array:
        """Return numbers and codes, shape (n_rows, n_columns); NaN where missing, or a category was not seen.

        Raises
        ------
        InvalidTableError
            If the columns are not those learnt.
        """
        frame, _ = as_frame(table)
        frame = self._aligned(frame, isinstance(table, pd.DataFrame))
        values = np.empty(frame.shape)
        for j, (storage, levels) in enumerate(zip(self._storages, self._levels, strict=True)):
            column = frame.iloc[:, j]
            values[:, j] = _codes(column, levels) if levels else read_numbers(column, storage)
        return values

    def write(self, values: _Array, column: int) -> pd.Series:
        """Return the numbers or codes of one column in its type.

        Parameters
        ----------
        values : ndarray of shape (n_rows,)
        column : int
        """
        storage, levels = self._storages[column], self._levels[column]
        if levels:
            return restore_labels(np.nan_to_num(values, nan=-1.0).astype(np.intp), levels, storage)
        decimals = self.decimals[column]
        return restore_numbers(values if np.isnan(decimals) else np.round(values, int(decimals)), storage)

    def write_table(self, values: _Array) -> Any:
        """Return a table of the kind learnt from numbers and codes of shape (n_rows, n_columns)."""
        columns = [self.write(values[:, j], j) for j in range(values.shape[1])]
        if self.is_array:
            return np.column_stack([column.to_numpy() for column in columns])
        frame = pd.concat(columns, axis=1)
        frame.columns = pd.Index(self.names, tupleize_cols=False)
        return frame

    def settle(self, values: _Array, low: _Array, high: _Array) -> _Array:
        """Return drawn numbers within bounds, with as many decimals as those seen."""
        settled = np.clip(values, low, high)
        for j in np.flatnonzero(~np.isnan(self.decimals)):
            settled[:, j] = np.round(settled[:, j], int(self.decimals[j]))
        return np.where(self.cardinalities == 0, settled, values)

    def _aligned(self, frame: pd.DataFrame, named: bool) -> pd.DataFrame:
        if self.is_array or not named:
            if frame.shape[1] != len(self.names):
                raise InvalidTableError(
                    f"{self._what} must have the {len(self.names)} columns of fit; got {frame.shape[1]}."
                )
            return frame
        absent = [name for name in self.names if name not in frame.columns]
        if absent:
            raise InvalidTableError(
                f"{self._what} must have the columns of fit; it lacks {', '.join(map(shown, absent[:20]))}."
            )
        return frame[self.names]


def _describe(column: pd.Series) -> tuple[Storage, tuple[Any, ...]]:
    """Return how a column is stored, and its categories; none for numbers."""
    if column.isna().all():
        raise InvalidTableError(
            f"Column {shown(column.name)} has no entries, all {len(column)} are missing; drop it."
        )
    storage = describe(column)
    if storage.family == "time":
        raise InvalidTableError(
            f"Columns must hold numbers or categories; column {shown(column.name)} holds times. Name it with "
            "time= if it says when each row was taken, else drop it or turn it into a number."
        )
    if storage.family == "number":
        return storage, ()
    codes, labels = factorize(column)
    present = np.unique(codes[codes >= 0])
    return storage, tuple(sorted((labels[code] for code in present), key=str))


def _codes(column: pd.Series, levels: tuple[Any, ...]) -> _Array:
    codes, labels = factorize(column)
    place = {level: position for position, level in enumerate(levels)}
    positions = np.array([*(place.get(label, np.nan) for label in labels), np.nan], dtype=np.float64)
    return positions[codes]


def _decimals(values: _Array) -> float:
    entries = values[~np.isnan(values)]
    # Numbers all near 0 are not whole for that.
    slack = 1e-9 * min(float(np.abs(entries).max()), 1.0)
    for decimals in range(_MOST_DECIMALS + 1):
        rounded = np.round(entries, decimals)
        if np.allclose(rounded, entries, rtol=1e-12, atol=slack):
            return float(decimals)
    return float("nan")
