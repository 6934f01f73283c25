"""The range that filled-in numbers and times stay within, in the table's own units."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd

from flowdetect.estimators._rows import column_of
from flowdetect.exceptions import ConfigurationError
from flowdetect.preprocessing import TableEncoder
from flowdetect.preprocessing._schema import plain_scalar, shown

__all__ = ["ColumnLimits"]

_FAMILIES = ("number", "time")


@dataclass
class ColumnLimits:
    """Least and largest entry that each column may get.

    Attributes
    ----------
    low, high : list
        For each column a number or a time; None for no limit.
    """

    low: list[Any]
    high: list[Any]

    @classmethod
    def build(cls, encoder: TableEncoder, X: Any, bounds: Any) -> Self:
        """Return the limits that a user asks for.

        Parameters
        ----------
        encoder : TableEncoder
        X : DataFrame or ndarray of shape (n_rows, n_features)
            The rows that the encoder was fitted on.
        bounds : "observed", mapping of column to (low, high), or None

        Raises
        ------
        ConfigurationError
            If it is none of these, names columns that are not numbers or times, or pairs are no ranges.
        """
        columns = encoder.schema_.columns
        limits = cls([None] * len(columns), [None] * len(columns))
        if bounds is None:
            return limits
        if not isinstance(bounds, Mapping) and not (isinstance(bounds, str) and bounds == "observed"):
            raise ConfigurationError(
                f"bounds must be 'observed', None, or a mapping of columns to (low, high); got {bounds!r}."
            )
        for position, column in enumerate(columns):
            if column.storage.family in _FAMILIES:
                entries = column_of(X, position).dropna()
                if len(entries):
                    limits.low[position] = plain_scalar(entries.min())
                    limits.high[position] = plain_scalar(entries.max())
        for name, pair in bounds.items() if isinstance(bounds, Mapping) else ():
            limits._declare(encoder, name, pair)
        return limits

    def _declare(self, encoder: TableEncoder, name: Any, pair: Any) -> None:
        columns = encoder.schema_.columns
        fitting = [c.name for c in columns if c.storage.family in _FAMILIES and c.kind != "empty"]
        if name not in fitting:
            raise ConfigurationError(
                f"bounds must name columns of numbers or times; got {name!r}. These are {fitting[:20]!r}."
            )
        position = encoder.schema_.names.index(name)
        try:
            observed = self.low[position]
            low, high = (None if end is None else _read(end, observed) for end in pair)
            ordered = low is None or high is None or low <= high
            pd.Series([observed]).clip(low, high)  # raises for what cannot be compared with an entry
        except (TypeError, ValueError, OverflowError) as error:
            raise ConfigurationError(
                f"bounds of {shown(name)} must be (low, high), None for no bound, each a value that the "
                f"column could hold; got {pair!r}."
            ) from error
        if not ordered:
            raise ConfigurationError(
                f"bounds of {shown(name)} must be (low, high) with low <= high; got {pair!r}."
            )
        self.low[position], self.high[position] = low, high

    def clip(self, entries: pd.Series, position: int) -> pd.Series:
        """Return entries of a column with those beyond its limits at the limits, whole ones as whole ones."""
        low, high = self.low[position], self.high[position]
        if low is None and high is None:
            return entries
        if pd.api.types.is_numeric_dtype(entries.dtype):
            numbers = entries.to_numpy(dtype=np.float64, na_value=np.nan)
            if np.all((numbers == np.rint(numbers)) | np.isnan(numbers)):
                low, high = _whole_range(low, high)
        return entries.clip(low, high)


def _read(end: Any, observed: Any) -> Any:
    """Return a declared end in the kind of an entry of the column; None for an infinite one."""
    if isinstance(observed, pd.Timedelta):
        span: Any = pd.Timedelta(end)
        return _present(span, end)
    if isinstance(observed, pd.Timestamp):
        time: Any = pd.Timestamp(end)
        if observed.tz is not None and time is not pd.NaT and time.tz is None:
            time = time.tz_localize(observed.tz)
        return _present(time, end)
    number = plain_scalar(end)
    if not isinstance(number, str | bytes) and math.isinf(number):
        return None
    return _present(float(number) if isinstance(number, bool) else number, end)


def _present(value: Any, end: Any) -> Any:
    if isinstance(value, str | bytes) or pd.isna(value):
        raise ValueError(f"{end!r} is no entry")
    return value


def _whole_range(low: Any, high: Any) -> tuple[Any, Any]:
    """Return the whole numbers of a range; as it is where it has none."""
    least, most = (None if low is None else math.ceil(low)), (None if high is None else math.floor(high))
    return (low, high) if least is not None and most is not None and least > most else (least, most)
