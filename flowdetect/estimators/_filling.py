"""Draws of missing entries put into a table: one value for all draws, or each draw by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.special import ndtri

from flowdetect.estimators._entries import Entries, encode_with_copies
from flowdetect.estimators._limits import ColumnLimits
from flowdetect.estimators._rows import chunk_slices
from flowdetect.preprocessing import TableEncoder

if TYPE_CHECKING:
    from flowdetect.flows import CompletionModel

__all__ = ["Random", "TableFiller", "fill_column", "summarise"]

# Gives for so many rows uniform numbers, (n_rows, n_draws, n_columns).
Random = Callable[[int], np.ndarray]
_LEAST = 1e-12


def summarise(draws: pd.Series, n_rows: int, strategy: str, step: pd.Timedelta | None = None) -> pd.Series:
    """Return one entry for the draws of each row.

    Parameters
    ----------
    draws : Series of shape (n_rows * n_draws,)
        All draws of the first row first.
    n_rows : int
    strategy : {"mean", "median"}
        For numbers and times; for all else it is the most frequent entry.
    step : Timedelta, optional
        Times are a whole number of these away from the first draw of their row.

    Returns
    -------
    Series of shape (n_rows,)
        Numbers as float64, all else in the dtype of the draws.
    """
    dtype = draws.dtype
    if pd.api.types.is_bool_dtype(dtype) or isinstance(dtype, pd.CategoricalDtype):
        return _most_frequent(draws, n_rows)
    if pd.api.types.is_datetime64_any_dtype(dtype) or pd.api.types.is_timedelta64_dtype(dtype):
        return _middle_time(draws, n_rows, strategy, step)
    if not pd.api.types.is_numeric_dtype(dtype) and not _holds_numbers(draws):
        return _most_frequent(draws, n_rows)
    return pd.Series(_middle(draws.to_numpy(dtype=np.float64).reshape(n_rows, -1), strategy))


def _holds_numbers(draws: pd.Series) -> bool:
    kind = pd.api.types.infer_dtype(draws, skipna=True)
    return kind in ("integer", "floating", "mixed-integer-float") and draws.dtype == object


def _middle(numbers: np.ndarray, strategy: str) -> np.ndarray:
    if strategy == "mean":
        # Halves, so that a sum of the largest numbers stays finite.
        return np.asarray((numbers / numbers.shape[1]).sum(axis=1))
    return np.asarray(np.quantile(numbers, 0.5, axis=1, method="lower"))


def _middle_time(draws: pd.Series, n_rows: int, strategy: str, step: pd.Timedelta | None) -> pd.Series:
    """Return the middle of times, by their clock where they have a zone."""
    times = pd.api.types.is_datetime64_any_dtype(draws.dtype)
    index: Any = pd.DatetimeIndex(draws) if times else pd.TimedeltaIndex(draws)
    zone = index.tz if times else None
    clock = (index if zone is None else index.tz_localize(None)).asi8.reshape(n_rows, -1)
    width = 1 if step is None else max(int(step / pd.Timedelta(1, unit=index.unit)), 1)
    first = clock[:, :1]
    middle = first[:, 0] + np.rint(_middle((clock - first) / width, strategy)).astype(np.int64) * width
    moved = pd.Series(middle.astype(f"{'M' if times else 'm'}8[{index.unit}]"))
    if zone is not None:
        # Where clocks are put forward a time may not exist, where they are put back it exists twice.
        earlier = np.ones(n_rows, dtype=bool)
        moved = moved.dt.tz_localize(zone, ambiguous=earlier, nonexistent="shift_forward")
    return moved.astype(draws.dtype)


def _most_frequent(draws: pd.Series, n_rows: int) -> pd.Series:
    positions, labels = pd.factorize(draws)
    codes = positions.reshape(n_rows, -1)
    counts = np.zeros((n_rows, max(len(labels), 1)), dtype=np.intp)
    for code in range(len(labels)):
        counts[:, code] = (codes == code).sum(axis=1)
    # Of the most frequent entries the one that the row draws first: the others' draws do not matter, and
    # the dtype is the one of the draws.
    often = np.where(codes < 0, -1, np.take_along_axis(counts, codes, axis=1))
    first = often.argmax(axis=1)
    return draws.iloc[np.arange(n_rows) * codes.shape[1] + first].reset_index(drop=True)


def fill_column(column: pd.Series, missing: np.ndarray, entries: pd.Series) -> pd.Series:
    """Return a column with entries in place of what is missing.

    Parameters
    ----------
    column : Series of shape (n,)
    missing : ndarray of bool, shape (n,)
    entries : Series of shape (missing.sum(),)
        In the dtype of the column that was fitted on.

    Returns
    -------
    Series of shape (n,)
        In the dtype of the column; in that of the entries where nothing else is in it, unless it is one of
        whole numbers.
    """
    whole = pd.api.types.is_integer_dtype(column.dtype) and pd.api.types.is_numeric_dtype(entries.dtype)
    if missing.all() and not whole:
        return pd.Series(entries.array, index=column.index, name=column.name)
    if isinstance(column.dtype, pd.SparseDtype):  # which takes no assignments
        dense = pd.Series(np.asarray(column), index=column.index, name=column.name)
        return fill_column(dense, missing, pd.Series(np.asarray(entries))).astype(column.dtype)
    filled = column.copy()
    if pd.api.types.is_integer_dtype(column.dtype) and pd.api.types.is_float_dtype(entries.dtype):
        entries = np.rint(entries)
    if isinstance(column.dtype, pd.CategoricalDtype):
        new = pd.Index(entries.dropna().unique()).difference(column.cat.categories, sort=False)
        filled = filled.cat.add_categories(new) if len(new) else filled
        entries = entries.astype(filled.dtype)
    filled[missing] = _as_held(entries, filled.dtype)
    return filled


def _as_held(entries: pd.Series, dtype: Any) -> Any:
    if pd.api.types.is_object_dtype(dtype):
        return entries.astype(object).to_numpy()
    return entries.astype(dtype).array


class TableFiller:
    """Put draws of missing entries into tables.

    Parameters
    ----------
    model : CompletionModel
    encoder : TableEncoder
    entries : Entries
        Of the encoder.
    limits : ColumnLimits
        What numbers and times stay within.
    """

    def __init__(
        self, model: CompletionModel, encoder: TableEncoder, entries: Entries, limits: ColumnLimits
    ) -> None:
        self._model = model
        self._encoder = encoder
        self._entries = entries
        self._limits = limits

    def fill(self, X: Any, random: Random, n_draws: int, strategy: str | None) -> list[pd.DataFrame]:
        """Fill what is missing, where its column was not missing throughout in training.

        Parameters
        ----------
        X : DataFrame or ndarray of shape (n_rows, n_features)
        random : callable n_rows -> ndarray of shape (n_rows, n_draws, n_columns)
            Gives the random numbers, uniform in 0..1.
        n_draws : int
        strategy : {"mean", "median"} or None
            See `summarise`; None for each draw by itself.

        Returns
        -------
        list of DataFrame
            One table with summaries, or one of each draw.
        """
        frame = _in_order(X, self._encoder)
        fillable = np.array([column.kind != "empty" for column in self._encoder.schema_.columns])
        missing = frame.isna().to_numpy() & fillable
        n_tables = n_draws if strategy is None else 1
        found: list[list[list[pd.Series]]] = [[[] for _ in fillable] for _ in range(n_tables)]
        incomplete = np.flatnonzero(missing.any(axis=1))
        for part in chunk_slices(len(incomplete), self._row_elements(n_draws)):
            rows = incomplete[part]
            draws = self._draw(frame.iloc[rows], random(len(rows)))
            for column in np.flatnonzero(missing[rows].any(axis=0)):
                position = int(column)
                # What was known may lie beyond the limits; it is not read again.
                drawn = self._limits.clip(draws.iloc[:, position], position)
                entries = _parts(drawn, missing[rows, column], strategy, self._step(position))
                for table, entry in zip(found, entries, strict=True):
                    # A mean of equal draws may be off by its last bit.
                    table[column].append(self._limits.clip(entry, position))
        return [_fill(frame, missing, table) for table in found]

    def _step(self, column: int) -> pd.Timedelta | None:
        """Return the step between the times of a column in training; None for one of something else."""
        storage = self._encoder.schema_.columns[column].storage
        resolution: Any = storage.resolution
        return None if resolution is None else pd.Timedelta(storage.tick, unit=resolution)

    def _row_elements(self, n_draws: int) -> int:
        """Return about how many numbers the draws of one row need."""
        matrices = len(self._model.mean) ** 2 * (n_draws if self._entries.columns else 1)
        return n_draws * (self._encoder.layout_.n_columns + 1) * 32 + matrices

    def _draw(self, frame: pd.DataFrame, uniform: np.ndarray) -> pd.DataFrame:
        """Return all draws of the rows, (n * n_draws, n_features), those of the first row first."""
        import torch

        from flowdetect.flows import GIVEN, TARGET

        rows, known = self._entries.split(encode_with_copies(frame, self._encoder))
        roles = torch.from_numpy(np.where(known, GIVEN, TARGET))
        n_values = self._entries.layout.n_values
        normal = ndtri(np.clip(uniform[:, :, :n_values], _LEAST, 1.0 - _LEAST))
        random = torch.from_numpy(normal), torch.from_numpy(uniform[:, :, n_values:])
        drawn = self._model.complete(torch.from_numpy(rows), roles, *random)
        table = self._encoder.decode(self._entries.join(drawn.flatten(0, 1).numpy()))
        return table if isinstance(table, pd.DataFrame) else pd.DataFrame(table)


def _in_order(X: Any, encoder: TableEncoder) -> pd.DataFrame:
    """Return the table as a DataFrame, its columns in the order and with the names of the encoder."""
    names = pd.Index(encoder.schema_.names, tupleize_cols=False)
    if not isinstance(X, pd.DataFrame):
        return pd.DataFrame(X, columns=names)
    if encoder.schema_.container == "array":
        return X.set_axis(names, axis=1)
    return X.iloc[:, X.columns.get_indexer(names)]


def _parts(
    draws: pd.Series, asked: np.ndarray, strategy: str | None, step: pd.Timedelta | None
) -> list[pd.Series]:
    """Return the entries of the rows asked for: their summary, or without a strategy each draw."""
    n_draws = len(draws) // len(asked)
    if strategy is not None:
        return [summarise(draws[np.repeat(asked, n_draws)], int(asked.sum()), strategy, step)]
    return [draws.iloc[np.flatnonzero(asked) * n_draws + k] for k in range(n_draws)]


def _fill(frame: pd.DataFrame, missing: np.ndarray, found: list[list[pd.Series]]) -> pd.DataFrame:
    columns = []
    for position, parts in enumerate(found):
        column = frame.iloc[:, position]
        if parts:
            column = fill_column(column, missing[:, position], pd.concat(parts, ignore_index=True))
        columns.append(column)
    filled = pd.concat(columns, axis=1)
    filled.columns = frame.columns
    return filled
