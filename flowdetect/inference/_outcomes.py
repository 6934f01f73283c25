"""What simulations came out as: which observations can be used, and which are unlike all of them."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd

from flowdetect.estimators._rows import about_context, column_of
from flowdetect.exceptions import TableWarning
from flowdetect.inference._columns import as_numbers
from flowdetect.inference._parameters import about_simulations, as_observed, in_order, refuse_missing
from flowdetect.preprocessing import TableEncoder
from flowdetect.preprocessing._schema import shown

__all__ = ["Outcomes"]

_MOST_NAMED = 3


@dataclass
class Outcomes:
    """The columns of the outcomes, and the range of each over all simulations.

    Attributes
    ----------
    encoder : TableEncoder
    may_miss : ndarray of bool, shape (n_outcomes,)
        Which columns had missing values.
    low, high : ndarray of shape (n_outcomes,)
        Least and largest number of each column; infinite for columns that hold none.
    """

    encoder: TableEncoder
    may_miss: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @classmethod
    def learn(cls, encoder: TableEncoder, x: Any) -> Self:
        """Return the outcomes of simulations, a table that the encoder was fitted on."""
        columns = encoder.schema_.columns
        low, high = np.full(len(columns), -np.inf), np.full(len(columns), np.inf)
        for j, column in enumerate(columns):
            if column.storage.family == "number" and column.kind != "empty":
                numbers = as_numbers(column_of(x, j))
                low[j], high[j] = np.nanmin(numbers), np.nanmax(numbers)
        return cls(encoder, np.asarray(pd.isna(x).any(axis=0), dtype=bool), low, high)

    def check(self, x_observed: Any) -> Any:
        """Return observations as a table whose columns are those of fit.

        Raises
        ------
        InvalidTableError
            If they cannot be used.
        """
        names = list(self.encoder.schema_.names)
        x = as_observed(x_observed, names)
        with about_simulations(), about_context():
            x = in_order(self.encoder, x)
            self.encoder.encode(x)
        refuse_missing(x, self.may_miss, names)
        return x

    def warn_of_unseen(self, x: Any) -> None:
        """Warn of checked observations beyond all simulations: there is nothing there to learn from."""
        found = []
        codes = self.encoder.encode(x)[0][:, self.encoder.layout_.n_values :]
        numbers = {position: k for k, position in enumerate(self.encoder.schema_.code_positions)}
        for j, column in enumerate(self.encoder.schema_.columns):
            values = column_of(x, j)
            if np.isfinite(self.low[j]):
                entries = as_numbers(values)
                odd = (entries < self.low[j]) | (entries > self.high[j])
                seen = f"simulated from {self.low[j]:.6g} to {self.high[j]:.6g}"
            elif column.values is None and column.copy_of is None and j in numbers:
                odd = (codes[:, numbers[j]] == column.cardinality - 1) & values.notna().to_numpy()
                seen = "never simulated"
            else:
                continue
            if odd.any():
                found.append(f"column {shown(column.name)} = {values[odd].iloc[0]!s}, {seen}")
        if found:
            more = f", and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
            warnings.warn(
                f"x_observed lies beyond all simulations: {'; '.join(found[:_MOST_NAMED])}{more}. There the "
                "posterior is a guess: the simulator or the prior may not be able to give what was observed.",
                TableWarning,
                stacklevel=3,
            )
