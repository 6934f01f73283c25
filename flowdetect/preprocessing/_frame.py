"""From what the caller passes to a DataFrame whose columns are those of the schema."""

import warnings
from typing import Any

import numpy as np
import pandas as pd

from flowdetect.exceptions import InvalidTableError, TableWarning
from flowdetect.preprocessing._schema import TableSchema, shown

__all__ = ["align", "as_frame", "find_columns"]


def as_frame(X: Any) -> tuple[pd.DataFrame, str | None]:
    """Return the table as a DataFrame, numbers uncopied, and the dtype of the array it was (or None).

    Raises
    ------
    InvalidTableError
        If it is sparse, complex, not two-dimensional, or has repeated or nested column names.
    """
    if isinstance(X, pd.DataFrame):
        _check_names(X)
        return X, None
    if hasattr(X, "toarray") and hasattr(X, "nnz"):
        raise InvalidTableError(
            f"X must be dense; got a sparse {type(X).__name__}. Sparse data was passed: call X.toarray() "
            "first if it fits into memory."
        )
    array = X if isinstance(X, np.ndarray) else np.asarray(X)
    if array.ndim != 2:
        raise InvalidTableError(
            f"X must be a table with rows and columns. Expected 2D array, got {array.ndim}D array of shape "
            f"{array.shape} instead. Reshape your data using X.reshape(-1, 1) for a single column or "
            "X.reshape(1, -1) for a single row; a pandas Series becomes a table with to_frame()."
        )
    if array.dtype.kind == "c":
        raise InvalidTableError(f"X must be real; got {array.dtype}. Complex data not supported.")
    if array.dtype.kind in "OUS":
        # Without the dtype pandas 3 would turn text into its own, and None into NaN with it.
        return pd.DataFrame(array.astype(object), dtype=object), str(array.dtype)
    return pd.DataFrame(array, copy=False), str(array.dtype)


def _check_names(frame: pd.DataFrame) -> None:
    if isinstance(frame.columns, pd.MultiIndex):
        raise InvalidTableError(
            f"Column names must have one level; got a MultiIndex with {frame.columns.nlevels}. Flatten it, "
            "for example X.columns = ['_'.join(map(str, names)) for names in X.columns]."
        )
    if not frame.columns.is_unique:
        repeated = frame.columns[frame.columns.duplicated()].unique().tolist()
        raise InvalidTableError(
            f"Column names must be unique; repeated: {_listed(repeated)}. Rename or drop them."
        )


def align(frame: pd.DataFrame, array_dtype: str | None, schema: TableSchema) -> pd.DataFrame:
    """Return the columns of the schema in its order: by name between DataFrames, by position otherwise.

    Raises
    ------
    InvalidTableError
        If columns are absent; all are named.

    Warns
    -----
    TableWarning
        If there are other columns as well, which are ignored; all are named.
    """
    expected = len(schema.columns)
    if schema.container == "array" or array_dtype is not None:
        if frame.shape[1] != expected:
            raise InvalidTableError(
                f"X has {frame.shape[1]} features, but this encoder is expecting {expected} features as "
                "input: give the columns it was fitted on, in the same order."
            )
        return frame.set_axis(pd.Index(schema.names, tupleize_cols=False), axis=1)
    positions = frame.columns.get_indexer(pd.Index(schema.names, tupleize_cols=False))
    extra = frame.columns.delete(positions[positions >= 0]).tolist()
    absent = [name for name, position in zip(schema.names, positions, strict=True) if position < 0]
    if absent:
        also = f" The table also has columns unknown from training: {_listed(extra)}." if extra else ""
        raise InvalidTableError(
            f"X must have the columns seen in training; missing: {_listed(absent)}.{also} Add or rename "
            "them, or fit again without them."
        )
    if extra:
        warnings.warn(
            f"X has columns that were not there in training; they are ignored: {_listed(extra)}.",
            TableWarning,
            stacklevel=4,
        )
    in_order = np.array_equal(positions, np.arange(frame.shape[1]))
    return frame if in_order else frame.iloc[:, positions]


def find_columns(given: pd.DataFrame, schema: TableSchema) -> list[int]:
    """Return the position in the schema of each column, found by name.

    Raises
    ------
    InvalidTableError
        If names are repeated or unknown; all unknown ones are named.
    """
    _check_names(given)
    positions = pd.Index(schema.names, tupleize_cols=False).get_indexer(given.columns)
    unknown = given.columns[positions < 0].tolist()
    if unknown:
        raise InvalidTableError(
            f"Columns must be among those seen in training; unknown: {_listed(unknown)}. Known are "
            f"{_listed(schema.names[:20])}{', ...' if len(schema.names) > 20 else ''}."
        )
    return [int(position) for position in positions]


def _listed(names: list[Any]) -> str:
    return ", ".join(map(shown, names))
