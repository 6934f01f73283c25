"""What is done to many matrix columns at once: noise in lattice cells, slopes of tails, distances."""

from dataclasses import dataclass

import numpy as np

from flowdetect.preprocessing._numeric import log_slope, squash, unsquash
from flowdetect.preprocessing._schema import TableSchema

__all__ = ["Coordinates", "Dequantizer", "Tails"]

# Codes of up to this many kinds are told apart by a coordinate each, more by random directions.
_MAX_CODE_COORDINATES = 16


def _gates(schema: TableSchema, columns: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return which of the value columns are gated, and the matrix columns of their gates."""
    layout = schema.layout
    gate_of = {value: layout.n_values + k for k, value in enumerate(layout.gates) if value >= 0}
    gated = [j for j, k in enumerate(columns) if k in gate_of]
    return np.array(gated, dtype=np.intp), np.array([gate_of[columns[j]] for j in gated], dtype=np.intp)


@dataclass(frozen=True)
class Tails:
    """The value columns with a tail map, as arrays."""

    columns: np.ndarray
    starts: np.ndarray
    gated: np.ndarray  # which of `columns` have a gate
    gates: np.ndarray  # and the code columns of those

    @classmethod
    def of(cls, schema: TableSchema) -> "Tails":
        scales = [schema.columns[i].values for i in schema.value_positions]
        starts = {k: v.tail for k, v in enumerate(scales) if v is not None and v.tail is not None}
        return cls(
            np.array([*starts], dtype=np.intp), np.array([*starts.values()]), *_gates(schema, [*starts])
        )

    def log_slopes(self, matrix: np.ndarray) -> np.ndarray:
        """Return the sum over columns of the log-derivatives, for each row."""
        slopes = log_slope(matrix[:, self.columns], self.starts)
        if len(self.gates):
            slopes[:, self.gated] *= matrix[:, self.gates] == 0
        return slopes.sum(axis=1)


@dataclass(frozen=True)
class Dequantizer:
    """Lattice columns of the matrix as arrays: those with a plain affine map, then those with a tail map."""

    columns: np.ndarray
    widths: np.ndarray  # of a cell, in standardised units
    n_affine: int
    gated: np.ndarray  # which of `columns` have a gate
    gates: np.ndarray  # and the code columns of those
    starts: np.ndarray  # of the tails

    @classmethod
    def of(cls, schema: TableSchema) -> "Dequantizer":
        scales = [schema.columns[i].values for i in schema.value_positions]
        lattice = [
            (v.tail is not None, k, v) for k, v in enumerate(scales) if v is not None and v.step is not None
        ]
        lattice.sort(key=lambda entry: entry[:2])
        columns = [k for _, k, _ in lattice]
        gated, gates = _gates(schema, columns)
        return cls(
            columns=np.array(columns, dtype=np.intp),
            widths=np.array([(v.step or 0.0) / v.scale for *_, v in lattice]),
            n_affine=sum(not tail for tail, *_ in lattice),
            gated=gated,
            gates=gates,
            starts=np.array([v.tail for *_, v in lattice if v.tail is not None]),
        )

    def apply(self, matrix: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return a noisy copy of the matrix."""
        noise = (rng.random((len(matrix), len(self.columns))) - 0.5) * self.widths
        if len(self.gates):
            noise[:, self.gated] *= matrix[:, self.gates] == 0
        noisy = matrix.copy()
        affine, tailed = self.columns[: self.n_affine], self.columns[self.n_affine :]
        noisy[:, affine] += noise[:, : self.n_affine]
        if len(tailed):
            noisy[:, tailed] = self._move_in_tail(matrix[:, tailed], noise[:, self.n_affine :])
        return noisy

    def _move_in_tail(self, t: np.ndarray, noise: np.ndarray) -> np.ndarray:
        # Beyond 600 a cell is far below the rounding of t, and the inverse near overflow.
        z = unsquash(np.clip(t, -600.0, 600.0), self.starts)
        moved = squash(z + noise, self.starts)
        return np.where((np.abs(t) < 600.0) & (noise != 0.0), moved, t)


@dataclass(frozen=True)
class Coordinates:
    """The matrix as points whose Euclidean distances mean something for codes as well as for values.

    Values stay. The codes of a small set of numbers are ranks. Any two other codes (categories, a missing
    entry, one never seen) lie a distance of 1 apart; among more than 16 codes of a column, about 1.
    """

    n_values: int
    tables: tuple[np.ndarray, ...]  # for each code column the coordinates of its codes

    @classmethod
    def of(cls, schema: TableSchema) -> "Coordinates":
        columns = [schema.columns[i] for i in schema.code_positions]
        ordered = [len(column.levels) if column.kind == "levels" else 0 for column in columns]
        tables = [_code_points(column.cardinality, n) for column, n in zip(columns, ordered, strict=True)]
        return cls(schema.layout.n_values, tuple(tables))

    def apply(self, matrix: np.ndarray) -> np.ndarray:
        """Return the points, shape (n_rows, n_coordinates)."""
        codes = matrix[:, self.n_values :].astype(np.intp)
        parts = [table[codes[:, j]] for j, table in enumerate(self.tables)]
        return np.column_stack([matrix[:, : self.n_values], *parts]).astype(np.float64, copy=False)


def _code_points(cardinality: int, n_ordered: int) -> np.ndarray:
    """Return the points of the codes of a column, the first ``n_ordered`` of them at their ranks."""
    apart = np.eye(cardinality - n_ordered) / np.sqrt(2.0)
    if len(apart) > _MAX_CODE_COORDINATES:
        directions = np.random.default_rng(0).normal(size=(len(apart), _MAX_CODE_COORDINATES))
        apart = directions / np.sqrt(2.0) / np.linalg.norm(directions, axis=1, keepdims=True)
    if not n_ordered:
        return apart
    points = np.zeros((cardinality, 1 + apart.shape[1]))
    points[:n_ordered, 0] = np.arange(n_ordered)
    points[n_ordered:, 0] = (n_ordered - 1) // 2
    points[n_ordered:, 1:] = apart
    return points
