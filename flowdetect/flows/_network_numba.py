"""The networks of spline layers on blocks of rows, with their gradients, compiled by numba.

All weights come in one flat array, each matrix followed by its bias, in the order of `FusedLayer.weights`:
first layer; the context's layer (SUM); per block two layers and the context's; last layer; first_network.
"""

from typing import Any

import numpy as np

from flowdetect._utils.jit import compiled, inlined
from flowdetect.flows._dense_numba import (
    ONE,
    ZERO,
    activate,
    add_back,
    add_products,
    add_sums,
    add_to,
    affine,
    affine_gradient,
    clear,
    copy_rows,
    flat,
    multiply_by,
    sigmoid,
    through_activation,
)
from flowdetect.flows._kernels_numba import BLOCK
from flowdetect.flows._products_numba import ADD, BIAS, EVERYTHING, multiply, padded, turn

__all__ = [
    "GATE",
    "SUM",
    "add_first",
    "block_places",
    "first_gradient",
    "first_size",
    "hidden_gradient",
    "hidden_layers",
    "last_gradient",
    "last_layer",
]

# How the context enters the blocks: not, as a gate (nflows' ResidualNet), as a sum (nflows' MADE).
GATE, SUM = 1, 2


@inlined
def block_places(first: int, shape: Any) -> Any:
    """Return where the blocks' weights start, and their number a block; the first layer's end at a place."""
    _, n_context, width, _, mode, _ = shape
    own, of_context = width * (width + 1), width * (n_context + 1)
    return first + (of_context if mode == SUM else 0), 2 * own + (of_context if mode != 0 else 0)


@compiled
def hidden_layers(
    weights: Any, at: int, context: Any, shape: Any, spans: Any, hidden: Any, scratch: Any
) -> int:
    """Fill hidden (2 * n_blocks + 1, width, BLOCK); return where the last layer's weights start.

    ``hidden[0]`` holds what the first layer gives, whose weights end at a place. Then ``hidden[2 j]`` is what
    block j gets, ``hidden[2 j + 1]`` lies between its two layers, the last one is what the last layer gets.
    The scratch has the shape (2 or more, width, BLOCK). Spans say what is not 0 in the rows of the blocks'
    matrices, see `multiply`.
    """
    _, _, width, n_blocks, mode, activation = shape
    a, b = scratch[0], scratch[1]
    if mode == SUM:
        at = affine(weights, at, EVERYTHING, context, a)
        activate(a, activation, b)
        add_to(hidden[0], b)
    for block in range(n_blocks):
        before, middle, after = hidden[2 * block], hidden[2 * block + 1], hidden[2 * block + 2]
        activate(before, activation, a)
        second = affine(weights, at, spans, a, middle)
        at = second + width * (width + 1)
        if mode == SUM:
            at = affine(weights, at, EVERYTHING, context, a)
            add_to(middle, a)
        activate(middle, activation, a)
        affine(weights, second, spans, a, after)
        if mode == GATE:
            at = affine(weights, at, EVERYTHING, context, b)
            sigmoid(b)
            multiply_by(after, b)
        add_to(after, before)
    return at


@compiled
def hidden_gradient(
    weights: Any,
    at: int,
    context: Any,
    shape: Any,
    spans: Any,
    hidden: Any,
    of_hidden: Any,
    scratch: Any,
    gradients: Any,
    wants: bool,
) -> None:
    """Turn the gradient of the last hidden layer into that of what the first layer gives.

    The first layer's weights end at a place. Spans say what is not 0 in the rows of the blocks' matrices, and
    in their columns. Gradients are those of context (added to if it is wanted) and of weights (added to).
    """
    of_context, of_weights = gradients
    in_rows, in_columns = spans
    n_context = len(context)
    _, _, width, n_blocks, mode, activation = shape
    a, b, c = scratch[0], scratch[1], scratch[2]
    start, per_block = block_places(at, shape)
    for block in range(n_blocks - 1, -1, -1):
        before, middle, after = hidden[2 * block], hidden[2 * block + 1], hidden[2 * block + 2]
        first = start + block * per_block
        second = first + width * (width + 1)
        third = second + width * (width + 1)
        copy_rows(of_hidden, b)
        if mode == GATE:
            # The gate's gradient needs what the gate multiplied: after - before is the product.
            affine(weights, third, EVERYTHING, context, c)
            sigmoid(c)
            multiply_by(b, c)
            for j in range(width):
                for i in range(BLOCK):
                    a[j, i] = of_hidden[j, i] * (after[j, i] - before[j, i]) * (1 - c[j, i])
            affine_gradient(a, context, EVERYTHING, of_weights, third)
            if wants:
                add_back(weights, third, n_context, EVERYTHING, a, of_context)
        activate(middle, activation, a)
        affine_gradient(b, a, in_rows, of_weights, second)
        clear(flat(c))
        add_back(weights, second, width, in_columns, b, c)
        through_activation(middle, activation, c)
        if mode == SUM:
            affine_gradient(c, context, EVERYTHING, of_weights, third)
            if wants:
                add_back(weights, third, n_context, EVERYTHING, c, of_context)
        activate(before, activation, a)
        affine_gradient(c, a, in_rows, of_weights, first)
        clear(flat(b))
        add_back(weights, first, width, in_columns, c, b)
        through_activation(before, activation, b)
        add_to(of_hidden, b)
    if mode == SUM:
        affine(weights, at, EVERYTHING, context, a)
        copy_rows(of_hidden, b)
        through_activation(a, activation, b)
        affine_gradient(b, context, EVERYTHING, of_weights, at)
        if wants:
            add_back(weights, at, n_context, EVERYTHING, b, of_context)


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
    last = affine(weights, at, EVERYTHING, context, units)
    activate(units, activation, units)
    shape = (n_params, n_units, BLOCK)
    b, to = flat(units), flat(params)
    multiply(weights, last, n_units, ONE, EVERYTHING, shape, b, BLOCK, weights, ZERO, ADD, to, ZERO, BLOCK)


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
    last = affine(weights, at, EVERYTHING, context, before)
    activate(before, activation, units)
    turn(units, turned)
    add_products(of_params, turned, n_units, EVERYTHING, of_weights, last)
    clear(flat(units))
    add_back(weights, last, n_units, EVERYTHING, of_params, units)
    through_activation(before, activation, units)
    affine_gradient(units, context, EVERYTHING, of_weights, at)
    add_back(weights, at, len(context), EVERYTHING, units, of_context)


@compiled
def last_layer(weights: Any, at: int, n_all: int, begin: int, spans: Any, hidden: Any, params: Any) -> None:
    """Write some of the n_all outputs of the last layer, whose weights start at a place."""
    width = len(hidden)
    own, bias = at + begin * width, at + n_all * width + begin
    shape = (len(params), width, BLOCK)
    b, to = flat(hidden), flat(params)
    multiply(weights, own, width, ONE, spans, shape, b, BLOCK, weights, bias, BIAS, to, ZERO, BLOCK)


@compiled
def last_gradient(
    weights: Any,
    at: int,
    n_all: int,
    begin: int,
    span: Any,
    of_params: Any,
    turned: Any,
    of_hidden: Any,
    of_weights: Any,
) -> None:
    """Add to the gradients of the last hidden layer and of weights, given that of what `last_layer` wrote.

    The span is that of all rows of the weights; turned is the transpose of the last hidden layer.
    """
    width = len(of_hidden)
    own = at + begin * width
    add_products(of_params, turned, width, span, of_weights, own)
    add_sums(of_params, of_weights, at + n_all * width + begin)
    add_back(weights, own, width, EVERYTHING, of_params, of_hidden[: min(width, span[0, 1])])
