"""The networks of spline layers on blocks of rows, with their gradients, compiled by numba.

Everything lies features first, rows last. All weights come in one flat array, each matrix followed by its
bias, in the order of `FusedLayer.weights`: first layer; the context's layer (SUM); per block two layers and
the context's; last layer; first_network.
"""

from typing import Any

import numpy as np

from flowdetect.flows._kernels_numba import BLOCK, exp_nonpositive
from flowdetect.flows._products_numba import ADD, BIAS, SET, compiled, inlined, multiply, padded, turn

__all__ = [
    "GATE",
    "ONE",
    "SUM",
    "ZERO",
    "activate",
    "add_back",
    "add_first",
    "add_products",
    "add_rows",
    "add_sums",
    "add_to",
    "affine",
    "block_places",
    "clear",
    "copy_rows",
    "first_gradient",
    "first_size",
    "flat",
    "hidden_gradient",
    "hidden_layers",
    "last_layer",
    "load_rows",
]

# How the context enters the blocks: not, as a gate (nflows' ResidualNet), as a sum (nflows' MADE).
GATE, SUM = 1, 2
_SILU = 1
# Of numpy's type: for each literal among the arguments numba would compile a function anew.
ZERO: Any = np.int64(0)
ONE: Any = np.int64(1)


@inlined
def flat(values: Any) -> Any:
    return values.reshape(values.size)


# --- layers of a network --------------------------------------------------------------------------------


@compiled
def affine(weights: Any, at: int, values: Any, out: Any) -> int:
    """Write ``W @ values + bias`` (p, BLOCK); W (p, q) starts at a place, then its bias. Return the end."""
    p, q = len(out), len(values)
    bias = at + p * q
    multiply(
        weights,
        at,
        q,
        ONE,
        (p, q, BLOCK),
        flat(values),
        BLOCK,
        weights,
        bias,
        BIAS,
        flat(out),
        ZERO,
        BLOCK,
    )
    return bias + p


@compiled
def add_back(weights: Any, at: int, of_out: Any, of_values: Any) -> None:
    """Add ``W.T @ of_out`` to of_values (q, BLOCK)."""
    p, q = len(of_out), len(of_values)
    multiply(
        weights,
        at,
        ONE,
        q,
        (q, p, BLOCK),
        flat(of_out),
        BLOCK,
        weights,
        ZERO,
        ADD,
        flat(of_values),
        ZERO,
        BLOCK,
    )


@compiled
def add_products(of_out: Any, turned: Any, q: int, of_weights: Any, at: int) -> None:
    """Add ``of_out @ values.T`` to a gradient (p, q) that starts at a place; turned is values.T."""
    p, wide, a = len(of_out), turned.shape[1], flat(of_out)
    if wide == q:
        multiply(a, ZERO, BLOCK, ONE, (p, BLOCK, q), flat(turned), q, a, ZERO, ADD, of_weights, at, q)
        return
    part = np.empty((p, wide), of_out.dtype)
    multiply(a, ZERO, BLOCK, ONE, (p, BLOCK, wide), flat(turned), wide, a, ZERO, SET, flat(part), ZERO, wide)
    for j in range(p):
        for k in range(q):
            of_weights[at + j * q + k] += part[j, k]


@compiled
def add_sums(of_out: Any, of_weights: Any, at: int) -> None:
    """Add the sums over the rows to the gradient of biases that start at a place."""
    for j in range(len(of_out)):
        total = of_weights[at + j]
        for i in range(BLOCK):
            total += of_out[j, i]
        of_weights[at + j] = total


@compiled
def _affine_gradient(of_out: Any, values: Any, of_weights: Any, at: int) -> None:
    """Add to the gradient of weights and bias of `affine`."""
    q = len(values)
    turned = np.empty((BLOCK, padded(q, values.itemsize)), values.dtype)
    turn(values, turned)
    add_products(of_out, turned, q, of_weights, at)
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
def _through_activation(values: Any, activation: int, of_values: Any) -> None:
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
def _sigmoid(values: Any) -> None:
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
def _multiply_by(values: Any, factors: Any) -> None:
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


# --- the network ----------------------------------------------------------------------------------------


@inlined
def block_places(n_inputs: int, shape: Any) -> Any:
    """Return where the weights of the blocks start, and their number for each block."""
    _, n_context, width, _, mode, _ = shape
    own, of_context = width * (width + 1), width * (n_context + 1)
    first = width * (n_inputs + 1)
    return first + (of_context if mode == SUM else 0), 2 * own + (of_context if mode != 0 else 0)


@compiled
def hidden_layers(inputs: Any, context: Any, weights: Any, shape: Any, hidden: Any, scratch: Any) -> int:
    """Fill hidden (2 * n_blocks + 1, width, BLOCK); return where the last layer's weights start.

    ``hidden[2 j]`` is what block j gets, ``hidden[2 j + 1]`` lies between its two layers, the last one is
    what the last layer gets. The scratch has the shape (2 or more, width, BLOCK).
    """
    _, _, width, n_blocks, mode, activation = shape
    a, b = scratch[0], scratch[1]
    at = affine(weights, ZERO, inputs, hidden[0])
    if mode == SUM:
        at = affine(weights, at, context, a)
        activate(a, activation, b)
        add_to(hidden[0], b)
    for block in range(n_blocks):
        before, middle, after = hidden[2 * block], hidden[2 * block + 1], hidden[2 * block + 2]
        activate(before, activation, a)
        second = affine(weights, at, a, middle)
        at = second + width * (width + 1)
        if mode == SUM:
            at = affine(weights, at, context, a)
            add_to(middle, a)
        activate(middle, activation, a)
        affine(weights, second, a, after)
        if mode == GATE:
            at = affine(weights, at, context, b)
            _sigmoid(b)
            _multiply_by(after, b)
        add_to(after, before)
    return at


@compiled
def hidden_gradient(
    inputs: Any,
    context: Any,
    weights: Any,
    shape: Any,
    hidden: Any,
    of_hidden: Any,
    scratch: Any,
    gradients: Any,
    wants: bool,
) -> None:
    """Add to the gradients of inputs, context and weights; of_hidden is that of the last hidden layer."""
    of_inputs, of_context, of_weights = gradients
    _, _, width, n_blocks, mode, activation = shape
    a, b, c = scratch[0], scratch[1], scratch[2]
    start, per_block = block_places(len(inputs), shape)
    for block in range(n_blocks - 1, -1, -1):
        before, middle, after = hidden[2 * block], hidden[2 * block + 1], hidden[2 * block + 2]
        first = start + block * per_block
        second = first + width * (width + 1)
        third = second + width * (width + 1)
        copy_rows(of_hidden, b)
        if mode == GATE:
            # The gate's gradient needs what the gate multiplied: after - before is the product.
            affine(weights, third, context, c)
            _sigmoid(c)
            _multiply_by(b, c)
            for j in range(width):
                for i in range(BLOCK):
                    a[j, i] = of_hidden[j, i] * (after[j, i] - before[j, i]) * (1 - c[j, i])
            _affine_gradient(a, context, of_weights, third)
            if wants:
                add_back(weights, third, a, of_context)
        activate(middle, activation, a)
        _affine_gradient(b, a, of_weights, second)
        clear(flat(c))
        add_back(weights, second, b, c)
        _through_activation(middle, activation, c)
        if mode == SUM:
            _affine_gradient(c, context, of_weights, third)
            if wants:
                add_back(weights, third, c, of_context)
        activate(before, activation, a)
        _affine_gradient(c, a, of_weights, first)
        clear(flat(b))
        add_back(weights, first, c, b)
        _through_activation(before, activation, b)
        add_to(of_hidden, b)
    _affine_gradient(of_hidden, inputs, of_weights, ZERO)
    add_back(weights, ZERO, of_hidden, of_inputs)
    if mode == SUM:
        at = width * (len(inputs) + 1)
        affine(weights, at, context, a)
        _through_activation(a, activation, of_hidden)
        _affine_gradient(of_hidden, context, of_weights, at)
        if wants:
            add_back(weights, at, of_hidden, of_context)


@compiled
def first_size(n_units: int, n_context: int, n_params: int) -> int:
    """Return the number of weights of first_network; its last layer has no bias."""
    return n_units * (n_context + 1 + n_params)


@compiled
def add_first(context: Any, weights: Any, n_units: int, activation: int, params: Any) -> None:
    """Add what the context alone gives to the parameters of the first feature (n_params, BLOCK)."""
    n_params = len(params)
    units = np.empty((n_units, BLOCK), weights.dtype)
    at = len(weights) - first_size(n_units, len(context), n_params)
    last = affine(weights, at, context, units)
    activate(units, activation, units)
    shape = (n_params, n_units, BLOCK)
    multiply(
        weights,
        last,
        n_units,
        ONE,
        shape,
        flat(units),
        BLOCK,
        weights,
        ZERO,
        ADD,
        flat(params),
        ZERO,
        BLOCK,
    )


@compiled
def first_gradient(
    context: Any,
    weights: Any,
    n_units: int,
    activation: int,
    of_params: Any,
    of_context: Any,
    of_weights: Any,
) -> None:
    """Add to the gradients of context and weights, given that of what `add_first` added to."""
    before, units = np.empty((n_units, BLOCK), weights.dtype), np.empty((n_units, BLOCK), weights.dtype)
    turned = np.empty((BLOCK, padded(n_units, weights.itemsize)), weights.dtype)
    at = len(weights) - first_size(n_units, len(context), len(of_params))
    last = affine(weights, at, context, before)
    activate(before, activation, units)
    turn(units, turned)
    add_products(of_params, turned, n_units, of_weights, last)
    clear(flat(units))
    add_back(weights, last, of_params, units)
    _through_activation(before, activation, units)
    _affine_gradient(units, context, of_weights, at)
    add_back(weights, at, units, of_context)


@compiled
def last_layer(weights: Any, at: int, n_all: int, begin: int, hidden: Any, params: Any) -> None:
    """Write some of the n_all outputs of the last layer, whose weights start at a place."""
    width = len(hidden)
    own, bias = at + begin * width, at + n_all * width + begin
    size = (len(params), width, BLOCK)
    multiply(
        weights,
        own,
        width,
        ONE,
        size,
        flat(hidden),
        BLOCK,
        weights,
        bias,
        BIAS,
        flat(params),
        ZERO,
        BLOCK,
    )
