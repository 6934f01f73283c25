"""The columns of a series as channels of about unit scale, without holes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from flowdetect.preprocessing import TableEncoder
from flowdetect.preprocessing._storage import read_numbers

__all__ = ["Channels", "carry_forward"]

Array = NDArray[np.float64]

_ROWS_AT_ONCE = 20_000
_VARIES = 1e-9


class Channels:
    """Turn a table into channels: numbers as they are, categories as points, missing entries as flags.

    A channel has mean 0 and standard deviation 1 in the table it was learnt from, but for flags, which have
    less. What never varied there has no channel of its own: how far a row is from it goes into one last
    channel, which was 0 throughout.

    Attributes
    ----------
    n_channels : int
        The last channel included.
    columns : ndarray of int, shape (n_channels - 1,)
        Position of the table's column that each channel but the last comes from.
    names : list
        Names of the table's columns.
    """

    def __init__(self) -> None:
        self.encoder = TableEncoder(atoms=False, missing="always", lattice="never")

    def learn(self, table: Any) -> Channels:
        """Learn columns, locations and scales.

        Raises
        ------
        InvalidTableError
            If the table cannot be encoded.
        """
        self.encoder.fit(table)
        self.names = self.encoder.schema_.names
        # Each chunk's mean and sum of squares about it, joined exactly (Chan, Golub, LeVeque 1983).
        self._learn_layout()
        count, mean, squares = (np.zeros(len(self._origins)) for _ in range(3))
        for points, holes in self._chunks(table):
            present = (~holes).sum(axis=0)
            total = np.maximum(count + present, 1)
            centre = points.sum(axis=0) / np.maximum(present, 1)
            delta = centre - mean
            squares += (np.where(holes, 0.0, points - centre) ** 2).sum(axis=0)
            squares += delta**2 * count * present / total
            mean += delta * present / total
            count += present
        deviation = np.sqrt(squares / np.maximum(count, 1))
        self._varies = deviation > _VARIES * np.maximum(np.abs(mean), 1e-300)
        self._mean = mean
        # A flag that was hardly ever up would outweigh all numbers, counted in its own deviations.
        n_numbers = len(self._numbers)
        deviation[n_numbers : 2 * n_numbers] = np.maximum(deviation[n_numbers : 2 * n_numbers], 0.5)
        self._scale = np.where(self._varies, deviation, 1.0)
        self.columns = self._origins[self._varies]
        self.n_channels = len(self.columns) + 1
        return self

    def transform(self, table: Any) -> Array:
        """Return the channels of each row, shape (n_rows, n_channels); NaN where a number is missing.

        Raises
        ------
        InvalidTableError
            If the columns are not those learnt.
        """
        channels = np.empty((len(table), self.n_channels))
        start = 0
        for points, holes in self._chunks(table):
            rows = slice(start, start + len(points))
            standard = (points - self._mean) / self._scale
            standard[holes | (~self._varies & ~self._moved(points))] = 0.0
            channels[rows, -1] = np.log1p(np.linalg.norm(standard[:, ~self._varies], axis=1))
            standard[holes] = np.nan
            channels[rows, :-1] = standard[:, self._varies]
            start += len(points)
        return channels

    def strange(self, row: Any) -> list[int]:
        """Return the positions of the columns that never varied and now do, in a table of one row."""
        points, holes = next(self._chunks(row))
        differs = self._moved(points) & ~holes
        return sorted(set(self._origins[~self._varies & differs[0]].tolist()))

    def _moved(self, points: Array) -> NDArray[np.bool_]:
        """Tell which points are further from the mean than its rounding."""
        return np.asarray(np.abs(points - self._mean) > 1e-9 * np.maximum(np.abs(self._mean), 1.0))

    def _learn_layout(self) -> None:
        columns = self.encoder.schema_.columns
        self._numbers = [i for i, column in enumerate(columns) if column.storage.family != "label"]
        origins = np.asarray(self.encoder.coordinate_columns_, dtype=np.intp)
        self._labels = np.flatnonzero(~np.isin(origins, self._numbers))
        self._origins = np.concatenate([self._numbers, self._numbers, origins[self._labels]]).astype(np.intp)

    def _chunks(self, table: Any) -> Iterator[tuple[Array, NDArray[np.bool_]]]:
        """Yield the points of some rows, and which of their entries are missing numbers, here 0."""
        for start in range(0, len(table), _ROWS_AT_ONCE):
            rows = slice(start, start + _ROWS_AT_ONCE)
            part = table.iloc[rows] if isinstance(table, pd.DataFrame) else table[rows]
            labels = self.encoder.coordinates(self.encoder.encode(part)[0])[:, self._labels]
            numbers = self._read(part)
            missing = np.isnan(numbers)
            points = np.column_stack([np.where(missing, 0.0, numbers), missing, labels])
            yield points, np.pad(missing, ((0, 0), (0, points.shape[1] - missing.shape[1])))

    def _read(self, part: Any) -> Array:
        frame = part[self.names] if isinstance(part, pd.DataFrame) else pd.DataFrame(part)
        schema = self.encoder.schema_.columns
        columns = [read_numbers(frame.iloc[:, i], schema[i].storage) for i in self._numbers]
        return np.column_stack(columns) if columns else np.empty((len(part), 0))


def carry_forward(channels: Array, before: Array | None = None) -> Array:
    """Fill holes with the last value before them, or with 0, the mean, where there is none.

    Values after a hole play no part, so that rows which come later never change what was filled.

    Parameters
    ----------
    channels : ndarray of shape (n_rows, n_channels)
        With NaN for holes.
    before : ndarray of shape (n_channels,), optional
        The row before the first, without holes.

    Returns
    -------
    ndarray of shape (n_rows, n_channels)
    """
    holes = np.isnan(channels)
    if not holes.any():
        return channels
    first = np.zeros((1, channels.shape[1])) if before is None else before[None]
    stacked = np.vstack([first, channels])
    rows = np.arange(len(stacked))[:, None]
    last_seen = np.maximum.accumulate(np.where(np.isnan(stacked), 0, rows), axis=0)
    filled: Array = np.take_along_axis(stacked, last_seen, axis=0)[1:]
    return filled


def _rows(table: Any, rows: slice) -> Any:
    return table.iloc[rows] if isinstance(table, pd.DataFrame) else table[rows]
