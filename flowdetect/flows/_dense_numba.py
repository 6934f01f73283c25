"""Dense layers on blocks of rows, with their gradients, compiled by numba.

Everything lies features first, rows last. Weights come in one flat array; a layer is a place in it, where a
matrix starts, followed by its bias.
"""

from typing import Any

import numpy as np

from flowdetect._utils.jit import compiled, inlined
from flowdetect.flows._kernels_numba import BLOCK
from flowdetect.flows._math_numba import exp_nonpositive
from flowdetect.flows._products_numba import ADD, BIAS, EVERYTHING, SET, multiply, padded, turn

__all__ = [
    "ONE",
    "ZERO",
    "activate",
    "add_back",
    "add_products",
    "add_rows",
    "add_sums",
    "add_to",
    "affine",
    "affine_gradient",
    "clear",
    "copy_rows",
    "flat",
    "load_rows",
    "multiply_by",
    "sigmoid",
    "through_activation",
]

_SILU = 1
# Of numpy's type: for each literal among the arguments numba would compile a function anew.
ZERO: Any = np.int64(0)
ONE: Any = np.int64(1)


@inlined
def flat(values: Any) -> Any:
    return values.reshape(values.size)


@compiled
def affine(weights: Any, at: int, spans: Any, values: Any, out: Any) -> int:
    """Write ``W @ values + bias`` (p, BLOCK); W (p, q) starts at a place, then its bias. Return the end.

    Spans say what is not 0 in the rows of W, see `multiply`.
    """
    p, q = len(out), len(values)
    bias = at + p * q
    shape = (p, q, BLOCK)
    b, to = flat(values), flat(out)
    multiply(weights, at, q, ONE, spans, shape, b, BLOCK, weights, bias, BIAS, to, ZERO, BLOCK)
    return bias + p


@compiled
def add_back(weights: Any, at: int, row: int, spans: Any, of_out: Any, of_values: Any) -> None:
    """Add ``W.T @ of_out`` to of_values (q, BLOCK).

    The rows of W have a length, of which q are of interest; spans say what is not 0 in its columns.
    """
    shape = (len(of_values), len(of_out), BLOCK)
    b, to = flat(of_out), flat(of_values)
    multiply(weights, at, ONE, row, spans, shape, b, BLOCK, weights, ZERO, ADD, to, ZERO, BLOCK)


@compiled
def add_products(of_out: Any, turned: Any, q: int, spans: Any, of_weights: Any, at: int) -> None:
    """Add ``of_out @ values.T`` to a gradient (p, q) that starts at a place; turned is values.T.

    Spans say, as for `multiply`, what of the gradient's rows is of interest.
    """
    p, wide, a = len(of_out), turned.shape[1], flat(of_out)
    part = np.empty((6, 0 if wide == q else wide), of_out.dtype)
    for j in range(0, p, 6):
        rows = min(6, p - j)
        last = min(q, spans[min(j + rows, len(spans)) - 1, 1])
        shape = (rows, BLOCK, padded(last, of_out.itemsize))
        row, here = j * BLOCK, at + j * q
        if wide == q:
            multiply(
                a, row, BLOCK, ONE, EVERYTHING, shape, flat(turned), q, a, ZERO, ADD, of_weights, here, q
            )
        else:
            to = flat(part)
            multiply(a, row, BLOCK, ONE, EVERYTHING, shape, flat(turned), wide, a, ZERO, SET, to, ZERO, wide)
            for r in range(rows):
                for k in range(last):
                    of_weights[here + r * q + k] += part[r, k]


@compiled
def add_sums(of_out: Any, of_weights: Any, at: int) -> None:
    """Add the sums over the rows to the gradient of biases that start at a place."""
    for j in range(len(of_out)):
        total = of_weights[at + j]
        for i in range(BLOCK):
            total += of_out[j, i]
        of_weights[at + j] = total


@compiled
def affine_gradient(of_out: Any, values: Any, spans: Any, of_weights: Any, at: int) -> None:
    """Add to the gradient of weights and bias of `affine`."""
    q = len(values)
    turned = np.empty((BLOCK, padded(q, values.itemsize)), values.dtype)
    turn(values, turned)
    add_products(of_out, turned, q, spans, of_weights, at)
    add_sums(of_out, of_weights, at + len(of_out) * q)


@compiled
def activate(values: Any, activation: int, out: Any) -> None:
    real = values.dtype.type
    zero, one = real(0), real(1)
    for j in range(len(values)):
        if activation == _SILU:
            for i in range(BLOCK):
                v = values[j, i]
                small = exp_nonpositive(-abs(v))
                out[j, i] = v * (small if v < zero else one) / (one + small)
        else:
            for i in range(BLOCK):
                v = values[j, i]
                out[j, i] = zero if v < zero else v


@compiled
def through_activation(values: Any, activation: int, of_values: Any) -> None:
    """Multiply a gradient (h, BLOCK) by the derivative of the activation at the values."""
    real = values.dtype.type
    zero, one = real(0), real(1)
    for j in range(len(values)):
        if activation == _SILU:
            for i in range(BLOCK):
                v = values[j, i]
                small = exp_nonpositive(-abs(v))
                share = (small if v < zero else one) / (one + small)
                of_values[j, i] *= share * (one + v * (one - share))
        else:
            for i in range(BLOCK):
                # With values first, so that NaN passes through.
                of_values[j, i] = zero if values[j, i] <= zero else of_values[j, i]


@compiled
def sigmoid(values: Any) -> None:
    real = values.dtype.type
    zero, one = real(0), real(1)
    for j in range(len(values)):
        for i in range(BLOCK):
            v = values[j, i]
            small = exp_nonpositive(-abs(v))
            values[j, i] = (small if v < zero else one) / (one + small)


@compiled
def clear(values: Any) -> None:
    for i in range(values.size):
        values[i] = 0


@compiled
def copy_rows(values: Any, out: Any) -> None:
    for j in range(len(values)):
        for i in range(BLOCK):
            out[j, i] = values[j, i]


@compiled
def multiply_by(values: Any, factors: Any) -> None:
    for j in range(len(values)):
        for i in range(BLOCK):
            values[j, i] *= factors[j, i]


@compiled
def add_to(values: Any, terms: Any) -> None:
    for j in range(len(values)):
        for i in range(BLOCK):
            values[j, i] += terms[j, i]


@compiled
def load_rows(columns: Any, chosen: Any, start: int, count: int, reach: Any, out: Any) -> None:
    """Copy chosen features of a block of rows, cut to the reach of the networks; 0 behind the last row."""
    for j in range(len(chosen)):
        source = columns[chosen[j]]
        for i in range(count):
            v = source[start + i]
            v = -reach if v < -reach else v
            out[j, i] = reach if v > reach else v
        for i in range(count, BLOCK):
            out[j, i] = 0


@compiled
def add_rows(values: Any, columns: Any, chosen: Any, start: int, count: int, reach: Any, out: Any) -> None:
    """Add the gradient of what `load_rows` read to that of the columns."""
    for j in range(len(chosen)):
        source, target = columns[chosen[j]], out[chosen[j]]
        for i in range(count):
            if not abs(source[start + i]) > reach:
                target[start + i] += values[j, i]
