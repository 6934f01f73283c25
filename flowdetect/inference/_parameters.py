"""Parameters and outcomes of a simulator as tables, and the parameters on the whole line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd

from flowdetect.estimators._rows import column_of, known_columns
from flowdetect.exceptions import InvalidTableError
from flowdetect.inference._bounds import free_values, inside, resolve_bounds, within_bounds
from flowdetect.inference._columns import as_numbers
from flowdetect.preprocessing import TableEncoder

__all__ = [
    "ParameterMap",
    "about_simulations",
    "as_observed",
    "as_table",
    "in_order",
    "with_columns",
]

_ABOUT_CONTEXT = "context cannot be used: "


def as_table(name: str, table: Any) -> Any:
    """Return a DataFrame as it is, anything else as an array of two dimensions; a vector is one column.

    Raises
    ------
    InvalidTableError
        If it has another number of dimensions, no rows or no columns.
    """
    if isinstance(table, pd.Series):
        table = table.to_frame()
    if not isinstance(table, pd.DataFrame):
        table = np.asarray(table)
        table = table.reshape(-1, 1) if table.ndim == 1 else table
    if table.ndim != 2 or 0 in table.shape:
        raise InvalidTableError(
            f"{name} must be a table of two dimensions, with rows and columns; got shape {table.shape}. "
            "Flatten what one simulation gives to one row."
        )
    return table


def as_observed(x: Any, names: list[Any]) -> Any:
    """Return observed outcomes as a table; a vector with as many entries as there are columns is one row.

    Parameters
    ----------
    x : DataFrame, Series or array-like
    names : list
        The columns that fit saw.

    Raises
    ------
    InvalidTableError
        If it is no such table.
    """
    if isinstance(x, pd.Series) and len(names) > 1:
        x = pd.DataFrame([x.to_dict()])
    if not isinstance(x, pd.DataFrame | pd.Series):
        x = np.asarray(x)
        x = x.reshape(1, -1) if x.ndim == 0 or (x.ndim == 1 and len(names) > 1) else x
    x = as_table("x_observed", x)
    if not isinstance(x, pd.DataFrame) and x.shape[1] != len(names):
        raise InvalidTableError(
            f"x_observed must have {len(names)} column(s), as x in fit; got shape {x.shape}. Give one row "
            "for each observation."
        )
    return x


def check_lengths(theta: Any, x: Any) -> None:
    """Refuse outcomes that are not one row for each row of parameters."""
    if len(x) != len(theta):
        raise InvalidTableError(
            f"x must have one row per row of theta; got {len(x)} rows of x for {len(theta)} of theta."
        )


def in_order(encoder: TableEncoder, table: Any) -> Any:
    """Return the columns that the encoder knows, in its order.

    Raises
    ------
    InvalidTableError
        If columns are absent.
    """
    table = known_columns(encoder, table)
    if not isinstance(table, pd.DataFrame) or encoder.schema_.container != "frame":
        return table
    names = pd.Index(encoder.schema_.names, tupleize_cols=False)
    return table.iloc[:, pd.Index(table.columns, tupleize_cols=False).get_indexer(names)]


def refuse_missing(x: Any, may_miss: np.ndarray, names: list[Any]) -> None:
    """Refuse missing values in columns that had none in fit.

    Raises
    ------
    InvalidTableError
    """
    missing = np.asarray(pd.isna(x).any(axis=0), dtype=bool) & ~may_miss
    if missing.any():
        wrong = [name for name, absent in zip(names, missing, strict=True) if absent]
        raise InvalidTableError(
            "x_observed must have a value in columns that had one in every simulation; missing in "
            f"{wrong!r}. Simulate with such values missing, or leave these columns out of fit."
        )


@contextmanager
def about_simulations() -> Iterator[None]:
    """Say of what is wrong with the table or the context of a density that it is theta's, or x's."""
    try:
        yield
    except InvalidTableError as error:
        text = str(error)
        name = "x" if text.startswith(_ABOUT_CONTEXT) else "theta"
        raise InvalidTableError(f"{name} cannot be used: {text.removeprefix(_ABOUT_CONTEXT)}") from error


@dataclass
class ParameterMap:
    """Exact map between parameters and what the flow learns: bounded ones on the whole line.

    Tables have the columns of fit, in their order.

    Attributes
    ----------
    names : list
        The parameters; positions in an array.
    low, high : ndarray of shape (n_parameters,)
        Bounds, infinite where open.
    mapped : ndarray of bool, shape (n_parameters,)
        Which are mapped: continuous ones with a bound. Others are drawn from the values seen, or have none.
    centre : ndarray of shape (n_parameters,)
        What is taken off a mapped one, so that 0 is nothing special.
    """

    names: list[Any]
    low: np.ndarray
    high: np.ndarray
    mapped: np.ndarray
    centre: np.ndarray

    @classmethod
    def learn(cls, theta: Any, bounds: Any) -> Self:
        """Return the map of these parameters.

        Parameters
        ----------
        theta : DataFrame or ndarray of shape (n, n_parameters)
        bounds : dict, sequence or None
            See `resolve_bounds`.

        Raises
        ------
        ConfigurationError
            If the bounds do not fit the parameters.
        InvalidTableError
            If a parameter is missing somewhere, or outside its bounds.
        """
        with about_simulations():
            columns = TableEncoder(lattice="decimal").fit(theta).schema_.columns
        names = [column.name for column in columns]
        low, high = resolve_bounds(bounds, names)
        mapped = np.array([column.kind == "continuous" for column in columns], dtype=bool)
        mapped &= np.isfinite(low) | np.isfinite(high)
        learnt = cls(names, low, high, mapped, np.zeros(len(names)))
        learnt._refuse_outside(theta)
        for j in np.flatnonzero(mapped).tolist():
            learnt.centre[j] = np.median(learnt._free_column(theta, j)[0])
        return learnt

    def inside(self, theta: Any) -> np.ndarray:
        """Return which rows lie within all bounds, shape (n,); NaN does not."""
        kept = np.ones(len(theta), dtype=bool)
        for j in np.flatnonzero(np.isfinite(self.low) | np.isfinite(self.high)).tolist():
            kept &= inside(self._numbers(theta, j), self.low[j], self.high[j])
        return kept

    def free(self, theta: Any) -> tuple[Any, np.ndarray]:
        """Map parameters within the bounds to what the flow learns.

        Returns
        -------
        free : DataFrame or ndarray of shape (n, n_parameters)
        log_det : ndarray of shape (n,)
            To be added to the log-density of free.
        """
        log_det = np.zeros(len(theta))
        columns = {}
        for j in np.flatnonzero(self.mapped).tolist():
            columns[j], log_slope = self._free_column(theta, j)
            columns[j] = columns[j] - self.centre[j]
            log_det += log_slope
        return with_columns(theta, columns), log_det

    def bounded(self, free: Any) -> Any:
        """Invert `free`."""
        columns = {
            j: within_bounds(self._numbers(free, j) + self.centre[j], self.low[j], self.high[j])
            for j in np.flatnonzero(self.mapped).tolist()
        }
        return with_columns(free, columns)

    def _free_column(self, theta: Any, j: int) -> tuple[np.ndarray, np.ndarray]:
        return free_values(self._numbers(theta, j), float(self.low[j]), float(self.high[j]))

    def _numbers(self, theta: Any, j: int) -> np.ndarray:
        try:
            return as_numbers(column_of(theta, j))
        except (TypeError, ValueError) as error:
            raise InvalidTableError(
                f"Parameter {self.names[j]!r} has bounds, so it must hold numbers; got {error}."
            ) from error

    def _refuse_outside(self, theta: Any) -> None:
        for j, name in enumerate(self.names):
            column = theta.iloc[:, j] if isinstance(theta, pd.DataFrame) else theta[:, j]
            n_missing = int(pd.isna(column).sum())
            if n_missing:
                raise InvalidTableError(
                    f"theta must have a value for every parameter; {name!r} is missing in {n_missing} of "
                    f"{len(theta)} rows. Leave these simulations out."
                )
            if not np.isfinite([self.low[j], self.high[j]]).any():
                continue
            outside = ~inside(self._numbers(theta, j), self.low[j], self.high[j])
            if outside.any():
                raise InvalidTableError(
                    f"theta must lie within the bounds; parameter {name!r} has {int(outside.sum())} values "
                    f"outside [{self.low[j]:g}, {self.high[j]:g}], such as "
                    f"{self._numbers(theta, j)[outside][0]:g}. Widen the bounds, or drop these simulations."
                )


def with_columns(table: Any, columns: dict[int, np.ndarray]) -> Any:
    """Return a copy of a table, a DataFrame or an array of numbers, with other numbers in some columns."""
    if not columns:
        return table
    if not isinstance(table, pd.DataFrame):
        table = np.array(table, dtype=np.float64)
        for j, values in columns.items():
            table[:, j] = values
        return table
    table = table.copy(deep=False)
    for j, values in columns.items():
        table.isetitem(j, values)
    return table
