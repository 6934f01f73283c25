"""The training rows that drawn rows start from, and the bounds within which these stay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from flowdetect.estimators._rows import column_of
from flowdetect.exceptions import ConfigurationError, InvalidTableError
from flowdetect.preprocessing import TableEncoder

__all__ = ["Sources", "ValueBounds", "within_bounds"]

# More rows than these are not kept, of several classes an equal number.
_MOST_ROWS = 100_000
# So often noise is drawn inside a lattice cell to find its edges.
_EDGE_DRAWS = 256


@dataclass(frozen=True)
class Sources:
    """Encoded training rows without noise, and the number of the class of each.

    Parameters
    ----------
    matrix : ndarray of shape (n_rows, n_columns)
    classes : ndarray of int, shape (n_rows,)
        0 in every row of a table without classes.
    """

    matrix: np.ndarray
    classes: np.ndarray

    @staticmethod
    def choose(classes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return the positions of the rows to keep: all, or of each class at most an equal share."""
        if len(classes) <= _MOST_ROWS:
            return np.arange(len(classes))
        present = np.unique(classes)
        share = _MOST_ROWS // len(present)
        kept = [rng.permutation(np.flatnonzero(classes == k))[:share] for k in present]
        return np.sort(np.concatenate(kept))

    def pick(self, classes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return the position of a row of each class asked for; the rows of a class come equally often."""
        picked = np.empty(len(classes), dtype=np.intp)
        for k in np.unique(classes):
            asked, own = np.flatnonzero(classes == k), np.flatnonzero(self.classes == k)
            rounds = [rng.permutation(own) for _ in range(-(-len(asked) // len(own)))]
            picked[asked] = np.concatenate(rounds)[: len(asked)]
        return picked


class ValueBounds:
    """Bounds of the values of encoded rows. What lies beyond is mirrored: cut off, it would pile up there.

    Parameters
    ----------
    low, high : ndarray of shape (n_values,)
        In encoded units; infinite where there is no bound.
    """

    def __init__(self, low: np.ndarray, high: np.ndarray) -> None:
        self.low, self.high = low, high

    @classmethod
    def build(cls, encoder: TableEncoder, matrix: np.ndarray, bounds: Any) -> ValueBounds:
        """Return the bounds that a user asks for.

        Parameters
        ----------
        encoder : TableEncoder
        matrix : ndarray of shape (n_rows, n_columns)
            Encoded training rows.
        bounds : "observed", mapping of column to (low, high), or None
            A mapping overrides the observed range of its columns, in units of the table; None there is no
            bound. None for all of it: no bounds.

        Raises
        ------
        ConfigurationError
            If it is none of these, or names columns that are not numbers or times.
        """
        n_values = encoder.layout_.n_values
        if bounds is None:
            return cls(np.full(n_values, -np.inf), np.full(n_values, np.inf))
        found = cls(*_observed(encoder, matrix))
        if isinstance(bounds, Mapping):
            for name, pair in bounds.items():
                found._declare(encoder, name, _check_pair(encoder, name, pair))
        elif bounds != "observed":
            raise ConfigurationError(
                f"bounds must be 'observed', None, or a mapping of columns to (low, high); got {bounds!r}."
            )
        return found

    def _declare(self, encoder: TableEncoder, name: Any, pair: tuple[Any, Any]) -> None:
        n_values = encoder.layout_.n_values
        at = encoder.column_of_[:n_values] == encoder.schema_.names.index(name)
        for ends, end, side, free in zip((self.low, self.high), pair, (0, 1), (-np.inf, np.inf), strict=True):
            if _is_open(end, free):
                ends[at] = free
                continue
            row = pd.DataFrame([[end]], columns=pd.Index([name], tupleize_cols=False))
            try:
                matrix, _ = encoder.encode_given(row)
            except InvalidTableError as error:
                raise ConfigurationError(f"bounds of {name!r} cannot be used: {error}") from error
            ends[at] = _edges(encoder, matrix[0, :n_values], side)[at]
        if (self.low[at] > self.high[at]).any():
            raise ConfigurationError(
                f"bounds of {name!r} must be (low, high) with low <= high; got {pair!r}."
            )

    def reflect(self, matrix: np.ndarray) -> np.ndarray:
        """Return the rows with all values inside the bounds."""
        n_values = len(self.low)
        values = matrix[:, :n_values]
        values = np.where(values < self.low, 2.0 * self.low - values, values)
        values = np.where(values > self.high, 2.0 * self.high - values, values)
        return np.concatenate([np.clip(values, self.low, self.high), matrix[:, n_values:]], axis=1)


def _is_open(end: Any, free: float) -> bool:
    return end is None or (isinstance(end, float) and end == free)


def _observed(encoder: TableEncoder, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the range of the values that are present in encoded rows."""
    layout = encoder.layout_
    values = np.array(matrix[:, : layout.n_values], dtype=np.float64)
    for position, gate in enumerate(layout.gates):
        if gate >= 0:
            values[matrix[:, layout.n_values + position] != 0, gate] = np.nan
    nowhere = np.isnan(values).all(axis=0)
    values[:, nowhere] = 0.0
    low = _edges(encoder, np.nanmin(values, axis=0), 0)
    high = _edges(encoder, np.nanmax(values, axis=0), 1)
    return np.where(nowhere, -np.inf, low), np.where(nowhere, np.inf, high)


def _edges(encoder: TableEncoder, values: np.ndarray, side: int) -> np.ndarray:
    """Return the lower (0) or upper (1) edge of the lattice cell of each value, or the value itself."""
    layout = encoder.layout_
    rows = np.tile(np.concatenate([values, np.zeros(layout.n_codes)]), (_EDGE_DRAWS, 1))
    noisy = encoder.dequantize(rows, np.random.default_rng(0))[:, : layout.n_values]
    return np.asarray(noisy.max(axis=0) if side else noisy.min(axis=0))


def _check_pair(encoder: TableEncoder, name: Any, pair: Any) -> tuple[Any, Any]:
    numeric = [c.name for c in encoder.schema_.columns if c.storage.family in ("number", "time")]
    if name not in numeric:
        raise ConfigurationError(
            f"bounds must name columns of numbers or times; got {name!r}. These are {numeric[:20]!r}."
        )
    if (
        not isinstance(pair, tuple | list)
        or len(pair) != 2
        or any(pd.isna(end) for end in pair if end is not None)
    ):
        raise ConfigurationError(f"bounds of {name!r} must be (low, high), None for no bound; got {pair!r}.")
    return pair[0], pair[1]


def within_bounds(table: Any, encoder: TableEncoder, bounds: Any) -> np.ndarray:
    """Return which rows lie within the declared bounds; a missing entry does."""
    inside = np.ones(len(table), dtype=bool)
    for name, (low, high) in (bounds if isinstance(bounds, Mapping) else {}).items():
        position = encoder.schema_.names.index(name)
        column = column_of(table, position)
        for end, beyond, free in ((low, column.lt, -np.inf), (high, column.gt, np.inf)):
            if not _is_open(end, free):
                inside &= ~beyond(end).fillna(False).to_numpy(dtype=bool)
    return inside
