"""Encoded rows as entries, each known or missing: the matrix without the codes that say so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from flowdetect._utils.layout import MatrixLayout
from flowdetect.estimators._rows import EncodedRows
from flowdetect.preprocessing import ColumnSchema, TableEncoder, TableSchema

if TYPE_CHECKING:
    from flowdetect.training import Batch

__all__ = ["Entries", "KnownEntries", "encode_with_copies"]

# Categories of a column with more levels than this are no coordinates of the normal distribution.
_MAX_ONE_HOT = 16


@dataclass(frozen=True)
class Entries:
    """What an encoded matrix says of each entry of the table, for a table whose columns may all be missing.

    A unit is a column of the table that can be known, missing or asked for: all but those that are always
    missing, and copies of other columns.

    Attributes
    ----------
    layout : MatrixLayout
        Of the encoder's matrix.
    units : ndarray of int, shape (n_units,)
        Table position of each unit.
    value_units, code_units : list of int
        The unit of each value and of each code.
    gates : list of int
        For each value the code (by its number) that is 0 where the value exists, or -1.
    n_drawn : list of int
        How many codes, the first ones, an entry of the column can be. Behind them stand, for columns of
        levels, one for any other entry, and for all columns one for an entry that is not known.
    columns : list of int
        Matrix column of each code.
    recoded : list of ndarray
        For each code column the code here of each code of the matrix.
    missing : list of (int, int)
        For each unit the matrix column, and its code, that say that an entry is missing.
    levels : list of tuple or None
        For each code column its numbers, None where its codes are no numbers.
    """

    layout: MatrixLayout
    units: np.ndarray
    value_units: list[int]
    code_units: list[int]
    gates: list[int]
    n_drawn: list[int]
    columns: list[int]
    recoded: list[np.ndarray]
    missing: list[tuple[int, int]]
    levels: list[tuple[Any, ...] | None]

    @classmethod
    def of(cls, encoder: TableEncoder) -> Entries:
        """Return the entries of an encoder that lets every column be missing."""
        schema = encoder.schema_
        positions = [
            k for k, column in enumerate(schema.columns) if column.copy_of is None and column.kind != "empty"
        ]
        unit_of = {position: unit for unit, position in enumerate(positions)}
        value_at = {position: k for k, position in enumerate(schema.value_positions)}
        column_of = {
            position: encoder.layout_.n_values + k for k, position in enumerate(schema.code_positions)
        }
        coded = [k for k in positions if schema.columns[k].values is None or _atoms(schema.columns[k])]
        gates = [-1] * len(value_at)
        for number, position in enumerate(coded):
            if position in value_at:
                gates[value_at[position]] = number
        columns = [schema.columns[k] for k in coded]
        return cls(
            layout=encoder.layout_,
            units=np.array(positions, dtype=np.intp),
            value_units=[unit_of[k] for k in value_at],
            code_units=[unit_of[k] for k in coded],
            gates=gates,
            n_drawn=[_n_drawn(column) for column in columns],
            columns=[column_of[k] for k in coded],
            recoded=[_recoded(column) for column in columns],
            missing=[(column_of[k], _missing_code(schema.columns[k])) for k in positions],
            levels=[_numbers(schema, k) for k in coded],
        )

    @property
    def n_columns(self) -> int:
        """Number of values and codes."""
        return self.layout.n_values + len(self.columns)

    @property
    def cardinalities(self) -> list[int]:
        """Number of codes of each code column, with the one for an entry that is not known."""
        return [int(table.max()) + 1 for table in self.recoded]

    def split(self, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows without codes for missing entries, and which entries are known.

        Parameters
        ----------
        matrix : ndarray of shape (n, layout.n_columns)

        Returns
        -------
        rows : ndarray of shape (n, n_values + n_codes)
            ``[values | codes]``.
        known : ndarray of bool, shape (n, n_units)
        """
        codes = matrix[:, self.columns].astype(np.intp)
        for k, table in enumerate(self.recoded):
            codes[:, k] = table[codes[:, k]]
        known = np.column_stack([matrix[:, column] != code for column, code in self.missing])
        return np.hstack([matrix[:, : self.layout.n_values], codes]).astype(matrix.dtype), known

    def join(self, rows: np.ndarray) -> np.ndarray:
        """Return the encoder's matrix of rows ``[values | codes]`` all of whose entries are known."""
        n_values = self.layout.n_values
        matrix = np.zeros((len(rows), self.layout.n_columns))
        matrix[:, :n_values] = rows[:, :n_values]
        codes = rows[:, n_values:].astype(np.intp)
        for k, column in enumerate(self.columns):
            matrix[:, column] = _inverse(self.recoded[k])[codes[:, k]]
        return matrix

    def coordinates(self) -> list[np.ndarray]:
        """Return for each code column what each of its codes is in a normal distribution."""
        return [
            _points(n, size, levels)
            for n, size, levels in zip(self.n_drawn, self.cardinalities, self.levels, strict=True)
        ]

    def points(self, rows: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return rows as coordinates of a normal distribution, and which of these are known.

        Parameters
        ----------
        rows : ndarray of shape (n, n_values + n_codes)
        known : ndarray of bool, shape (n, n_units)
        """
        n_values = self.layout.n_values
        codes = rows[:, n_values:].astype(np.intp)
        there = known[:, self.value_units].copy()
        for value, gate in enumerate(self.gates):
            if gate >= 0:
                there[:, value] &= codes[:, gate] == 0
        points, masks = [rows[:, :n_values]], [there]
        for k, table in enumerate(self.coordinates()):
            points.append(table[codes[:, k]])
            seen = known[:, self.code_units[k]] & (codes[:, k] < self.n_drawn[k])
            masks.append(np.repeat(seen[:, None], table.shape[1], axis=1))
        return np.hstack(points).astype(np.float64), np.hstack(masks)


class KnownEntries:
    """The rows of `EncodedRows` for training: without codes for missing entries, and with which are known."""

    def __init__(self, source: EncodedRows, entries: Entries) -> None:
        self._source = source
        self.entries = entries
        self.weights = source.weights

    def __len__(self) -> int:
        return len(self._source)

    def rows(self, index: np.ndarray, rng: np.random.Generator | None) -> Batch:
        """Return rows, and as context which of their entries are known."""
        import torch

        from flowdetect.training import Batch

        rows, known = self.entries.split(self._source.rows(index, rng).inputs.numpy())
        return Batch(torch.from_numpy(rows), torch.from_numpy(known.astype(rows.dtype)))

    def known_rows(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return rows without noise, in float64, and which of their entries are known."""
        return self.entries.split(self._source.encoded(index).astype(np.float64))

    def code_frequencies(self) -> list[list[float]]:
        """Return how often each code comes, by code column, and one half for each value to be asked for."""
        entries = self.entries
        rows, _ = self.known_rows(np.arange(len(self)))
        codes = rows[:, entries.layout.n_values :].astype(np.intp)
        weights = np.ones(len(self)) if self.weights is None else self.weights
        found = []
        for k, size in enumerate(entries.cardinalities):
            counts = np.bincount(codes[:, k], weights=weights, minlength=size)
            counts[-1] = 0.0
            found.append(((counts + 1e-3) / (counts + 1e-3).sum()).tolist())
        return found + [[0.5, 0.5]] * entries.layout.n_values


def encode_with_copies(frame: pd.DataFrame, encoder: TableEncoder) -> np.ndarray:
    """Return the encoded rows, with what copies of a column know of it where it is missing itself."""
    matrix = encoder.encode(frame)[0]
    missing = frame.isna().to_numpy(copy=True)
    for position, column in enumerate(encoder.schema_.columns):
        if column.copy_of is None:
            continue
        rows = np.flatnonzero(missing[:, column.copy_of] & ~missing[:, position])
        if len(rows):
            copied, known = encoder.encode_given(frame.iloc[rows, [position]])
            matrix[np.ix_(rows, known)] = copied[:, known]
            missing[rows, column.copy_of] = False
    return matrix


def _atoms(column: ColumnSchema) -> int:
    return 0 if column.values is None else len(column.values.atoms)


def _n_drawn(column: ColumnSchema) -> int:
    return 1 + _atoms(column) if column.values is not None else len(column.levels)


def _missing_code(column: ColumnSchema) -> int:
    return 1 if column.values is not None else len(column.levels)


def _recoded(column: ColumnSchema) -> np.ndarray:
    n_drawn, missing = _n_drawn(column), _missing_code(column)
    table = np.arange(column.cardinality)
    table[missing + 1 :] -= 1
    table[missing] = n_drawn + (column.values is None)
    return table


def _inverse(table: np.ndarray) -> np.ndarray:
    return np.argsort(table)


def _numbers(schema: TableSchema, position: int) -> tuple[Any, ...] | None:
    """Return the levels of a column of a few numbers, None for other columns."""
    column = schema.columns[position]
    return column.levels if column.kind == "levels" and len(column.levels) > 1 else None


def _points(n_drawn: int, size: int, levels: tuple[Any, ...] | None) -> np.ndarray:
    """Return the coordinates of the codes of a column: of numbers themselves, in a range of 1."""
    if levels is not None:
        numbers = np.array(levels, dtype=np.float64)
        halves = numbers / 2 - numbers[0] / 2
        return np.concatenate([halves / halves[-1], np.zeros(size - n_drawn)])[:, None]
    if n_drawn > _MAX_ONE_HOT:
        return np.zeros((size, 0))
    return np.eye(size, max(n_drawn - 1, 0))
