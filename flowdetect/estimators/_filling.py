"""Draws of missing entries put into a table: one value for all draws, or each draw by itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

__all__ = ["fill_column", "summarise"]


def summarise(draws: pd.Series, n_rows: int, strategy: str) -> pd.Series:
    """Return one entry for the draws of each row.

    Parameters
    ----------
    draws : Series of shape (n_rows * n_draws,)
        All draws of the first row first.
    n_rows : int
    strategy : {"mean", "median"}
        For numbers and times; for all else it is the most frequent entry.

    Returns
    -------
    Series of shape (n_rows,)
        Numbers as float64, all else in the dtype of the draws.
    """
    dtype = draws.dtype
    if pd.api.types.is_bool_dtype(dtype) or isinstance(dtype, pd.CategoricalDtype):
        return _most_frequent(draws, n_rows)
    if pd.api.types.is_datetime64_any_dtype(dtype) or pd.api.types.is_timedelta64_dtype(dtype):
        return _middle_time(draws, n_rows, strategy)
    if not pd.api.types.is_numeric_dtype(dtype) and not _holds_numbers(draws):
        return _most_frequent(draws, n_rows)
    return pd.Series(_middle(draws.to_numpy(dtype=np.float64).reshape(n_rows, -1), strategy))


def _holds_numbers(draws: pd.Series) -> bool:
    kind = pd.api.types.infer_dtype(draws, skipna=True)
    return kind in ("integer", "floating", "mixed-integer-float", "decimal") and draws.dtype == object


def _middle(numbers: np.ndarray, strategy: str) -> np.ndarray:
    if strategy == "mean":
        # Halves, so that a sum of the largest numbers stays finite.
        return np.asarray((numbers / numbers.shape[1]).sum(axis=1))
    return np.asarray(np.quantile(numbers, 0.5, axis=1, method="lower"))


def _middle_time(draws: pd.Series, n_rows: int, strategy: str) -> pd.Series:
    """Return the middle of times, as offsets from the first draw so that nothing is rounded away."""
    origin = draws.iloc[0]
    seconds = (draws - origin) / pd.Timedelta(1, "s")
    middle = _middle(seconds.to_numpy(dtype=np.float64).reshape(n_rows, -1), strategy)
    return (origin + pd.Series(pd.to_timedelta(middle, unit="s"))).astype(draws.dtype)


def _most_frequent(draws: pd.Series, n_rows: int) -> pd.Series:
    codes, labels = pd.factorize(draws)
    codes = codes.reshape(n_rows, -1)
    counts = np.zeros((n_rows, max(len(labels), 1)), dtype=np.intp)
    for code in range(len(labels)):
        counts[:, code] = (codes == code).sum(axis=1)
    # The first draw of a row's most frequent entries, so that the dtype is the one of the draws.
    best = counts.argmax(axis=1)
    first = (codes == best[:, None]).argmax(axis=1)
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
        In the dtype of the column; in that of the entries where nothing else is in it.
    """
    if missing.all():
        return entries.set_axis(column.index).rename(column.name)
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
    if dtype == object:
        return entries.astype(object).to_numpy()
    return entries.astype(dtype).array
