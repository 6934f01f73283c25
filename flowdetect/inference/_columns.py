"""Columns of a fitted table, by name or position, and their entries as numbers."""

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from flowdetect.estimators._rows import column_of
from flowdetect.exceptions import InvalidTableError
from flowdetect.preprocessing import TableEncoder
from flowdetect.preprocessing._schema import plain_scalar

__all__ = ["as_numbers", "numbers_of", "numeric_columns", "position_of"]

_NUMERIC = ("number", "bool")


def position_of(encoder: TableEncoder, column: Any) -> int:
    """Return the position of a column given by its name or, if there is no such name, by its position.

    Raises
    ------
    InvalidTableError
        If there is none.
    """
    names, column = encoder.schema_.names, plain_scalar(column)
    if isinstance(column, Hashable) and not isinstance(column, bool):
        position = {name: place for place, name in enumerate(names)}.get(column, column)
        if isinstance(position, int) and 0 <= position < len(names):
            return position
    raise InvalidTableError(
        f"Columns must be among those of the table; got {column!r}. Known are "
        f"{', '.join(map(repr, names[:20]))}{', ...' if len(names) > 20 else ''}."
    )


def numeric_columns(encoder: TableEncoder, columns: Any) -> list[int]:
    """Return the positions of columns that hold numbers or booleans; all of those for None.

    Raises
    ------
    InvalidTableError
        If there are none, or one that is asked for is unknown or holds something else.
    """
    schema = encoder.schema_
    fit = [c.storage.family in _NUMERIC and c.kind != "empty" for c in schema.columns]
    if columns is None:
        found = [position for position, fits in enumerate(fit) if fits]
    else:
        several = isinstance(columns, Sequence | np.ndarray | pd.Index) and not isinstance(columns, str)
        single = not several or (isinstance(columns, tuple) and columns in schema.names)
        found = [position_of(encoder, column) for column in ([columns] if single else columns)]
    wrong = [schema.names[position] for position in found if not fit[position]]
    if wrong or not found:
        raise InvalidTableError(
            "columns must hold numbers, at least one of them; got "
            f"{', '.join(map(repr, wrong)) if found else 'none'}. Name numeric columns, or use expectation "
            "with a function that makes numbers of other entries."
        )
    return found


def numbers_of(table: Any, positions: list[int]) -> np.ndarray:
    """Return columns of a drawn table as float64, shape (n_rows, n_columns); NaN where missing."""
    columns = (column_of(table, position) for position in positions)
    return np.column_stack([as_numbers(column) for column in columns])


def as_numbers(column: pd.Series) -> np.ndarray:
    """Return a column of numbers or booleans as float64; NaN where missing."""
    if column.dtype == object:
        column = column.where(column.notna(), np.nan)
    return column.to_numpy(dtype=np.float64, na_value=np.nan)
