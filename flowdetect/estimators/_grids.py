"""How the numbers of a column were rounded, so that drawn ones can be rounded alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from flowdetect.preprocessing import TableEncoder
from flowdetect.preprocessing._numeric import Distinct, find_lattice

__all__ = ["Grid", "as_floats", "find_grids"]

# Equal spacing of so many distinct values per row is no accident.
_FEW_SHARE = 0.5
# Numbers with more decimals than this are taken for measured, not for rounded.
_MOST_DECIMALS = 8
# Of a step: what lies that near to an observed number is meant to be it.
_SLACK = 2e-3


@dataclass(frozen=True)
class Grid:
    """Numbers on which the entries of a column lie.

    Parameters
    ----------
    observed : ndarray of float64
        The numbers of the training rows, ascending.
    decimals : int or None
        To how many decimals all are rounded.
    anchor, step : float
        The numbers are ``anchor + k * step``, for a step above 0.
    """

    observed: np.ndarray
    decimals: int | None = None
    anchor: float = 0.0
    step: float = 0.0

    def snap(self, numbers: np.ndarray) -> np.ndarray:
        """Return the nearest numbers on the grid; of two that differ by rounding errors, the observed one."""
        if self.step > 0.0:
            numbers = self.anchor + np.rint((numbers - self.anchor) / self.step) * self.step
        if self.decimals is not None:
            numbers = np.round(numbers, self.decimals)
        if self.step == 0.0 or self.decimals is not None:
            return numbers
        after = np.searchsorted(self.observed, numbers).clip(1, len(self.observed) - 1)
        low, high = self.observed[after - 1], self.observed[after]
        near = np.where(numbers - low < high - numbers, low, high)
        return np.where(np.abs(near - numbers) <= _SLACK * self.step, near, numbers)


def find_grids(table: Any, encoder: TableEncoder) -> dict[int, Grid]:
    """Return the grid of each column of fractional numbers that has one, by position."""
    grids: dict[int, Grid] = {}
    for position, column in enumerate(encoder.schema_.columns):
        if column.copy_of in grids:
            grids[position] = grids[column.copy_of]
        if column.storage.family != "number" or column.storage.integer or column.values is None:
            continue
        entries = table.iloc[:, position] if isinstance(table, pd.DataFrame) else table[:, position]
        grid = _grid(as_floats(entries))
        if grid is not None:
            grids[position] = grid
    return grids


def as_floats(entries: Any) -> np.ndarray:
    """Return entries of a column of numbers as float64, NaN where one is missing."""
    return pd.to_numeric(pd.Series(entries), errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)


def _grid(numbers: np.ndarray) -> Grid | None:
    numbers = numbers[~np.isnan(numbers)]
    distinct = Distinct(numbers)
    observed = distinct.values
    if len(observed) < 2:
        return None
    found = find_lattice(distinct, few_share=_FEW_SHARE)
    if found is not None:
        anchor, step, decimals = found
        return Grid(observed, decimals, anchor, step)
    with np.errstate(over="ignore"):
        single = np.array_equal(observed.astype(np.float32), observed)
    rounding = np.finfo(np.float32).eps * np.abs(observed) if single else 0.0
    for decimals in range(_MOST_DECIMALS + 1):
        if np.all(np.abs(np.round(observed, decimals) - observed) <= rounding):
            return Grid(observed, decimals)
    return None
