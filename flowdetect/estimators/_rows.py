"""Tables as the estimators see them: checked at the door, encoded on the way to the model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from sklearn.utils.validation import validate_data

from flowdetect.exceptions import InvalidTableError
from flowdetect.preprocessing import TableEncoder

if TYPE_CHECKING:
    from flowdetect.training import Batch

__all__ = [
    "EncodedRows",
    "RowSubset",
    "about_context",
    "as_context_frame",
    "check_table",
    "check_weights",
    "chunk_slices",
    "column_of",
    "known_columns",
    "take_rows",
]

# Up to this many numbers (64 MiB in float32) the encoded table is kept; a larger one is encoded in blocks.
_MAX_CACHED = 2**24
# Scoring holds intermediate results of about this many numbers at a time.
_CHUNK_ELEMENTS = 2**22
_MAX_CHUNK_ROWS = 8192


def check_table(estimator: Any, X: Any, *, fitting: bool) -> Any:
    """Return X as a DataFrame or a numeric array; set the estimator's number of columns, or compare with it.

    What is inside a DataFrame, and that numbers are finite, is checked by the encoder.

    Raises
    ------
    InvalidTableError, ValueError, TypeError
        If there are too few rows or columns, or an array is sparse, complex or holds text.
    """
    if not isinstance(X, pd.DataFrame):
        X = _check_array(estimator, X, fitting)
    for length, what, least in zip(X.shape, ("sample", "feature"), (2 if fitting else 1, 1), strict=True):
        if length < least:
            raise InvalidTableError(
                f"Found array with {length} {what}(s) (shape={X.shape}) while a minimum of {least} is "
                f"required by {type(estimator).__name__}. Pass a table with more {what}s."
            )
    return X


def _check_array(estimator: Any, X: Any, fitting: bool) -> np.ndarray:
    try:
        return validate_data(
            estimator,
            X,
            reset=fitting,
            ensure_all_finite=False,
            ensure_min_samples=0,
            ensure_min_features=0,
        )
    except ValueError as error:
        array = np.asarray(X)
        if array.ndim != 2 or array.dtype.kind not in "OUS":
            raise
        raise InvalidTableError(
            f"An array must hold numbers; got dtype {array.dtype} with text in it. Convert it to numbers, or "
            "pass a DataFrame, whose columns may be of any type."
        ) from error


def check_weights(sample_weight: Any, n_rows: int, *, least: int) -> np.ndarray:
    """Return the weights of the rows as float64, shape (n_rows,).

    Raises
    ------
    InvalidTableError
        If they are not one finite number of at least 0 per row, or fewer than ``least`` of them exceed 0.
    """
    try:
        weights = np.asarray(sample_weight, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidTableError(f"sample_weight must hold numbers; got text or objects: {error}.") from error
    if weights.shape != (n_rows,):
        raise InvalidTableError(
            f"sample_weight must have shape ({n_rows},), one number per row of X; got shape {weights.shape}."
        )
    wrong = ~(np.isfinite(weights) & (weights >= 0.0))
    if wrong.any():
        raise InvalidTableError(
            f"sample_weight must be finite and not negative; got {weights[wrong][0]} in row "
            f"{np.argmax(wrong)}. Give a row the weight 0 to leave it out."
        )
    if np.count_nonzero(weights) < least:
        raise InvalidTableError(
            f"sample_weight must be above zero for at least {least} row(s); "
            f"got {np.count_nonzero(weights)} of {n_rows}."
        )
    return weights


def as_context_frame(context: Any, n_rows: int | None) -> Any:
    """Return context as a two-dimensional table; a vector or a Series is one column.

    Raises
    ------
    InvalidTableError
        If it is no table, has no rows, or has not n_rows rows.
    """
    given = context
    if isinstance(context, pd.Series):
        context = context.to_frame()
    elif not isinstance(context, pd.DataFrame):
        context = np.asarray(context)
        context = context.reshape(-1, 1) if context.ndim == 1 else context
    if context.ndim != 2 or not len(context):
        raise InvalidTableError(
            "context must be a DataFrame, a two-dimensional array or a vector, with at least one row; "
            f"got {type(given).__name__} of shape {context.shape}."
        )
    if n_rows is not None and len(context) != n_rows:
        raise InvalidTableError(
            f"context must have one row per row of X; got {len(context)} rows of context for {n_rows} of X."
        )
    return context


@contextmanager
def about_context() -> Iterator[None]:
    """Say that what is wrong with a table is wrong with the context."""
    try:
        yield
    except InvalidTableError as error:
        raise InvalidTableError(f"context cannot be used: {error}") from error


def known_columns(encoder: TableEncoder, table: Any) -> Any:
    """Return the table without the columns of a DataFrame that the encoder does not know.

    It is called before the table is cut into chunks, for one warning or error instead of one per chunk.

    Raises
    ------
    InvalidTableError
        If columns are absent; all are named.
    """
    if not isinstance(table, pd.DataFrame):
        return table
    encoder.encode(table.iloc[:0])
    if table.shape[1] == encoder.n_features_in_:
        return table
    names = pd.Index(encoder.schema_.names, tupleize_cols=False)
    return table.iloc[:, table.columns.get_indexer(names)]


def column_of(table: Any, position: int) -> pd.Series:
    """Return a column of a table, a DataFrame or an array, by its position."""
    return table.iloc[:, position] if isinstance(table, pd.DataFrame) else pd.Series(table[:, position])


def take_rows(X: Any, rows: Any) -> Any:
    """Return the rows of a DataFrame or array by position (an index array or a slice)."""
    return X.iloc[rows] if isinstance(X, pd.DataFrame) else X[rows]


def chunk_slices(n_rows: int, row_elements: int) -> Iterator[slice]:
    """Cut n_rows into slices whose intermediate results, row_elements numbers a row, stay bounded."""
    size = int(np.clip(_CHUNK_ELEMENTS // max(row_elements, 1), 1, _MAX_CHUNK_ROWS))
    for start in range(0, n_rows, size):
        yield slice(start, min(start + size, n_rows))


class EncodedRows:
    """The rows of a table, encoded, for the training loop.

    A small table is encoded once. A large one is encoded block by block as rows are asked for, so that memory
    beyond the table itself stays bounded. Lattice values get fresh noise each time they are asked for.

    Parameters
    ----------
    encoder : TableEncoder
        Fitted.
    table : DataFrame or ndarray
        The rows.
    context_encoder, context
        The same for the context; None without one.
    weights : ndarray of shape (n,) or None
        Weight of each row.
    """

    def __init__(
        self,
        encoder: TableEncoder,
        table: Any,
        *,
        context_encoder: TableEncoder | None = None,
        context: Any = None,
        weights: np.ndarray | None = None,
    ) -> None:
        self.encoder = encoder
        self.table = table
        self.weights = weights
        self._inputs = _Part(encoder, table)
        self._context = None if context_encoder is None else _Part(context_encoder, context)

    def __len__(self) -> int:
        return len(self.table)

    def rows(self, index: np.ndarray, rng: np.random.Generator | None) -> Batch:
        """Return the rows ``index``, lattice values spread over their cells, without rng always alike."""
        import torch

        from flowdetect.training import Batch

        rng = np.random.default_rng(0) if rng is None else rng
        inputs = self.encoder.dequantize(self.encoded(index), rng)
        context = None if self._context is None else torch.from_numpy(self._context.take(index))
        weights = None if self.weights is None else torch.from_numpy(self.weights[index])
        return Batch(torch.from_numpy(inputs), context, weights)

    def encoded(self, index: np.ndarray) -> np.ndarray:
        """Return the encoded rows ``index`` without noise, float32, shape (n, n_columns)."""
        return self._inputs.take(index)

    def subset(self, index: np.ndarray) -> RowSubset:
        """Return the rows ``index`` as a source of their own."""
        return RowSubset(self, index)


class RowSubset:
    """Some of the rows of `EncodedRows`."""

    def __init__(self, source: EncodedRows, index: np.ndarray) -> None:
        self._source = source
        self._index = index
        self.weights = None if source.weights is None else source.weights[index]

    def __len__(self) -> int:
        return len(self._index)

    def rows(self, index: np.ndarray, rng: np.random.Generator | None) -> Batch:
        """Return rows by their position within the subset."""
        return self._source.rows(self._index[index], rng)


class _Part:
    """One encoded table, kept if it is small."""

    def __init__(self, encoder: TableEncoder, table: Any) -> None:
        self._encoder = encoder
        self._table = table
        self._matrix: np.ndarray | None = None
        if len(table) * encoder.layout_.n_columns <= _MAX_CACHED:
            self._matrix = encoder.encode(table)[0].astype(np.float32)

    def take(self, index: np.ndarray) -> np.ndarray:
        if self._matrix is not None:
            return self._matrix[index]
        return self._encoder.encode(take_rows(self._table, index))[0].astype(np.float32)
