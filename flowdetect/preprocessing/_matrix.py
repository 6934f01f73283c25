"""What is done to many matrix columns at once: noise inside lattice cells, slopes of the tail maps."""

from dataclasses import dataclass

import numpy as np

from flowdetect.preprocessing._numeric import log_slope, squash, unsquash
from flowdetect.preprocessing._schema import TableSchema

__all__ = ["Dequantizer", "Tails"]


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
