"""Products of small matrices in the caller's thread, compiled by numba.

The networks of a flow multiply matrices of some 64 x 64 numbers, thousands of times a second. For BLAS
libraries that is the small end: with their own threads they are slower than one thread without. Here a *tile*
of the result, a few rows of two vectors each, stays in registers while its sums are formed (Goto, van de
Geijn 2008, "Anatomy of High-Performance Matrix Multiplication", section 3). Packing is not worth it at this
size.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from flowdetect._utils.jit import compiled

__all__ = ["ADD", "BIAS", "EVERYTHING", "SET", "multiply", "padded", "turn"]

# What the sums start from: zero, what the result holds, a bias for each row.
SET: Any = np.int64(0)
ADD: Any = np.int64(1)
BIAS: Any = np.int64(2)

# Spans for a matrix without zeros that are known.
EVERYTHING: Any = np.array([[0, 2**62]])

_VECTOR_BYTES = 32
_VECTORS = 2


def _make_tile(n_rows: int) -> Callable[..., None]:
    @intrinsic
    def tile(
        typing_context: Any,
        a: Any,
        a_at: Any,
        a_row: Any,
        a_column: Any,
        b: Any,
        b_at: Any,
        b_row: Any,
        bias: Any,
        bias_at: Any,
        start: Any,
        out: Any,
        out_at: Any,
        out_row: Any,
        depth: Any,
    ) -> Any:
        place = types.intp
        signature = types.void(
            *(a, place, place, place), *(b, place, place), *(bias, place, place), *(out, place, place, place)
        )
        return signature, lambda *given: _TileWriter(n_rows, a.dtype, *given).write()

    return tile


_TILE_ARGUMENTS = (
    *("a", "a_at", "a_row", "a_column", "b", "b_at", "b_row", "bias", "bias_at", "start"),
    *("out", "out_at", "out_row", "depth"),
)


class _TileWriter:
    """Writes the instructions of one tile: ``out (n_rows, 2 vectors) = start + a (n_rows, depth) @ b``."""

    def __init__(
        self, n_rows: int, dtype: Any, context: Any, builder: Any, signature: Any, arguments: Any
    ) -> None:
        self.n_rows, self.dtype, self.context, self.builder = n_rows, dtype, context, builder
        self.given = dict(zip(_TILE_ARGUMENTS, arguments, strict=True))
        for name, kind in zip(_TILE_ARGUMENTS, signature.args, strict=True):
            if isinstance(kind, types.Array):
                array = context.make_array(kind)(context, builder, value=self.given[name])
                self.given[name] = array.data
        self.lanes = _VECTOR_BYTES * 8 // dtype.bitwidth
        self.vector = ir.VectorType(context.get_value_type(dtype), self.lanes)
        self.sums = [
            [cgutils.alloca_once(builder, self.vector) for _ in range(_VECTORS)] for _ in range(n_rows)
        ]

    def write(self) -> Any:
        builder, given = self.builder, self.given
        self._start()
        with cgutils.for_range(builder, given["depth"]) as loop:
            b_at = builder.add(given["b_at"], builder.mul(loop.index, given["b_row"]))
            b = [self._load(given["b"], self._plus(b_at, v * self.lanes)) for v in range(_VECTORS)]
            a_at = builder.add(given["a_at"], builder.mul(loop.index, given["a_column"]))
            for r in range(self.n_rows):
                factor = self._repeat(given["a"], builder.add(a_at, self._times(given["a_row"], r)))
                for v in range(_VECTORS):
                    total = builder.load(self.sums[r][v])
                    builder.store(self._multiply_add(factor, b[v], total), self.sums[r][v])
        for r, v in self._places():
            self._store(builder.load(self.sums[r][v]), given["out"], self._out_at(r, v))
        return self.context.get_dummy_value()

    def _start(self) -> None:
        builder, given = self.builder, self.given
        with builder.if_else(self._starts_from(ADD)) as (add, other):
            with add:
                for r, v in self._places():
                    builder.store(self._load(given["out"], self._out_at(r, v)), self.sums[r][v])
            with other, builder.if_else(self._starts_from(BIAS)) as (bias, nothing):
                with bias:
                    for r in range(self.n_rows):
                        value = self._repeat(given["bias"], self._plus(given["bias_at"], r))
                        for v in range(_VECTORS):
                            builder.store(value, self.sums[r][v])
                with nothing:
                    for r, v in self._places():
                        builder.store(ir.Constant(self.vector, [0.0] * self.lanes), self.sums[r][v])

    def _places(self) -> list[tuple[int, int]]:
        return [(r, v) for r in range(self.n_rows) for v in range(_VECTORS)]

    def _starts_from(self, kind: Any) -> Any:
        return self.builder.icmp_signed("==", self.given["start"], self._whole(int(kind)))

    def _out_at(self, row: int, vector: int) -> Any:
        start = self.builder.add(self.given["out_at"], self._times(self.given["out_row"], row))
        return self._plus(start, vector * self.lanes)

    def _whole(self, value: int) -> Any:
        return ir.Constant(self.context.get_value_type(types.intp), value)

    def _plus(self, place: Any, offset: int) -> Any:
        return self.builder.add(place, self._whole(offset))

    def _times(self, stride: Any, count: int) -> Any:
        return self.builder.mul(stride, self._whole(count))

    def _vector_pointer(self, data: Any, at: Any) -> Any:
        return self.builder.bitcast(self.builder.gep(data, [at]), self.vector.as_pointer())

    def _load(self, data: Any, at: Any) -> Any:
        return self.builder.load(self._vector_pointer(data, at), align=self.dtype.bitwidth // 8)

    def _store(self, value: Any, data: Any, at: Any) -> None:
        self.builder.store(value, self._vector_pointer(data, at), align=self.dtype.bitwidth // 8)

    def _repeat(self, data: Any, at: Any) -> Any:
        """Return one number in all lanes."""
        number = self.builder.load(self.builder.gep(data, [at]))
        whole = ir.IntType(32)
        undefined = ir.Constant(self.vector, ir.Undefined)
        first = self.builder.insert_element(undefined, number, ir.Constant(whole, 0))
        lanes = ir.Constant(ir.VectorType(whole, self.lanes), [0] * self.lanes)
        return self.builder.shuffle_vector(first, undefined, lanes)

    def _multiply_add(self, a: Any, b: Any, c: Any) -> Any:
        kind = ir.FunctionType(self.vector, [self.vector] * 3)
        name = f"llvm.fmuladd.v{self.lanes}f{self.dtype.bitwidth}"
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, kind, name), [a, b, c])


# Six rows of two vectors, with what they are made from, fill the 16 vector registers of AVX2.
_tile_6, _tile_5, _tile_2, _tile_1 = _make_tile(6), _make_tile(5), _make_tile(2), _make_tile(1)


@compiled
def padded(n_columns: int, itemsize: int) -> int:
    """Return the next number of columns that `multiply` can work on."""
    step = _VECTORS * _VECTOR_BYTES // itemsize
    return (n_columns + step - 1) // step * step


@compiled
def multiply(
    a: Any,
    a_at: int,
    a_row: int,
    a_col: int,
    spans: Any,
    shape: Any,
    b: Any,
    b_row: int,
    bias: Any,
    bias_at: int,
    start: int,
    out: Any,
    out_at: int,
    out_row: int,
) -> None:
    """Write ``a @ b``, plus what `start` says, to out. All arrays but spans are one-dimensional.

    Parameters
    ----------
    a, a_at, a_row, a_col
        An array, and where in its memory the first number lies, the next row and the next column (in
        numbers): so a transposed matrix needs no copy.
    spans : array of shape (m, 2), or (1, 2) for all rows
        In each row of a, numbers outside the columns ``first .. last - 1`` are 0. Neither falls from row to
        row. `EVERYTHING` where nothing is known.
    shape : (m, k, n)
        a is (m, k), b is (k, n); n as `padded` gives.
    b, b_row
        An array, and where in it the next row lies; columns are contiguous.
    bias, bias_at
        An array, and where in it the m biases start; read only with ``start=BIAS``.
    start : int
        SET, ADD or BIAS.
    out, out_at, out_row
        As for a; columns are contiguous.
    """
    m, k, n = shape
    step = _VECTORS * _VECTOR_BYTES // out.itemsize
    j = 0
    while j < m:
        left = m - j
        rows = left if left < 6 else 6
        rows = 2 if 2 <= rows < 5 else rows
        first = spans[min(j, len(spans) - 1), 0]
        depth = min(k, spans[min(j + rows, len(spans)) - 1, 1]) - first
        now, bias_now, to, top = (
            a_at + j * a_row + first * a_col,
            bias_at + j,
            out_at + j * out_row,
            first * b_row,
        )
        for i in range(0, n, step):
            x, y = top + i, to + i
            if rows == 6:
                _tile_6(a, now, a_row, a_col, b, x, b_row, bias, bias_now, start, out, y, out_row, depth)
            elif rows == 5:
                _tile_5(a, now, a_row, a_col, b, x, b_row, bias, bias_now, start, out, y, out_row, depth)
            elif rows == 2:
                _tile_2(a, now, a_row, a_col, b, x, b_row, bias, bias_now, start, out, y, out_row, depth)
            else:
                _tile_1(a, now, a_row, a_col, b, x, b_row, bias, bias_now, start, out, y, out_row, depth)
        j += rows


@compiled
def turn(values: Any, out: Any) -> None:
    """Write the transpose of values (q, n) to the first q columns of out (n, q or more); 0 behind them."""
    n_columns = values.shape[0]
    whole = n_columns // 8 * 8
    for j in range(0, whole, 8):
        for i in range(values.shape[1]):
            for lane in range(j, j + 8):
                out[i, lane] = values[lane, i]
    for i in range(values.shape[1]):
        for j in range(whole, n_columns):
            out[i, j] = values[j, i]
        for j in range(n_columns, out.shape[1]):
            out[i, j] = 0
