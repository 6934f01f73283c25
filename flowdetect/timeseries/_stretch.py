"""A stretch of a series as models want it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = ["ModelledStretch"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class ModelledStretch:
    """Rows one step apart, without gaps.

    Attributes
    ----------
    values : ndarray of shape (n_rows, n_channels)
        Channels, without holes.
    context : DataFrame of n_rows rows
        What each row is given: entity, calendar, and what the caller adds; it may have no columns.
    """

    values: Array
    context: pd.DataFrame

    def part(self, first: int, last: int) -> ModelledStretch:
        """Return the rows first to last - 1."""
        return ModelledStretch(self.values[first:last], self.context.iloc[first:last].reset_index(drop=True))

    def padded(self, n_rows: int) -> ModelledStretch:
        """Return it at least so long, continued by its mirror image."""
        lacking = n_rows - len(self.values)
        if lacking <= 0:
            return self
        rows = np.pad(np.arange(len(self.values)), (0, lacking), mode="symmetric")
        return ModelledStretch(self.values[rows], self.context.iloc[rows].reset_index(drop=True))
