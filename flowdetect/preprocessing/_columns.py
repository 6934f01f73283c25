"""One column of a table as values and codes of the matrix; and a matrix of some of the columns."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from flowdetect.preprocessing import _numeric as numeric
from flowdetect.preprocessing._copies import differs
from flowdetect.preprocessing._discrete import label_codes, number_codes
from flowdetect.preprocessing._missing import gate_codes, refuse_missing
from flowdetect.preprocessing._schema import ColumnSchema, TableSchema
from flowdetect.preprocessing._storage import read_numbers

__all__ = ["encode_column", "encode_given"]


def encode_column(
    frame: pd.DataFrame, position: int, column: ColumnSchema, never_missing: dict[Any, int]
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Return the values and the codes of one column, None where it has none."""
    series = frame.iloc[:, position]
    if column.copy_of is not None and column.storage.family == "label":
        return None, differs(frame.iloc[:, column.copy_of], series, column)
    if column.storage.family == "label":
        return None, label_codes(series, column)
    numbers = read_numbers(series, column.storage)
    if column.refuses_missing and np.isnan(numbers).any():
        never_missing[column.name] = int(np.isnan(numbers).sum())
        return None, None
    if column.copy_of is not None:
        return None, differs(frame.iloc[:, column.copy_of], series, column)
    if column.values is None:
        return None, number_codes(numbers, column)
    values = numeric.encode_values(numbers, column.values)
    if not column.cardinality:
        return values, None
    codes = gate_codes(numbers, column)
    values[codes > 0] = 0.0
    return values, codes


def encode_given(
    given: Mapping[int, pd.Series], schema: TableSchema, n_rows: int
) -> tuple[np.ndarray, np.ndarray]:
    """Encode some columns of a table.

    Parameters
    ----------
    given : mapping of position to Series of shape (n_rows,)
        Table columns by their position in the schema.
    schema : TableSchema
    n_rows : int

    Returns
    -------
    matrix : ndarray of float64, shape (n_rows, n_columns)
        0 in the columns that are not given.
    known : ndarray of bool, shape (n_columns,)
        Which columns of the matrix are given. A copy that is given without its original gives the original.

    Raises
    ------
    InvalidTableError
        As `TableEncoder.encode`.
    """
    layout = schema.layout
    matrix, known = np.zeros((n_rows, layout.n_columns)), np.zeros(layout.n_columns, dtype=bool)
    given = {**{_original(schema, position): series for position, series in given.items()}, **given}
    unknown = pd.Series(np.nan, index=pd.RangeIndex(n_rows))
    columns = [given.get(k, unknown).reset_index(drop=True) for k in range(len(schema.columns))]
    table = pd.concat(columns, axis=1)
    never_missing: dict[Any, int] = {}
    for position in given:
        values, codes = encode_column(table, position, schema.columns[position], never_missing)
        places = (schema.value_positions, 0), (schema.code_positions, layout.n_values)
        for part, (positions, start) in zip((values, codes), places, strict=True):
            if part is not None:
                at = start + positions.index(position)
                matrix[:, at], known[at] = part, True
    refuse_missing(never_missing)
    return matrix, known


def _original(schema: TableSchema, position: int) -> int:
    copied = schema.columns[position].copy_of
    return position if copied is None else copied
