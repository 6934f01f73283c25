"""The inverse of an autoregressive spline layer, compiled by numba; weights as `_network_numba` says."""

from typing import Any

import numpy as np

from flowdetect._utils.jit import cached, compiled
from flowdetect.flows._dense_numba import ZERO, activate, affine, clear, flat, load_rows
from flowdetect.flows._kernels_numba import BLOCK, N_SCRATCH, state_size
from flowdetect.flows._layer_numba import map_feature
from flowdetect.flows._network_numba import SUM, add_first, block_places, first_size, last_layer
from flowdetect.flows._products_numba import EVERYTHING

__all__ = ["order_inverse"]


@cached
def order_inverse(
    inputs: Any,
    context: Any,
    weights: Any,
    layout: Any,
    units: Any,
    shape: Any,
    settings: Any,
    inverse: bool,
    blocks: Any,
    outputs: Any,
    log_det: Any,
) -> None:
    """Invert an autoregressive layer for some blocks of rows, each unit of its network computed once.

    A unit of degree d reads the first d features of the order, and units of degree at most d: as soon as the
    d-th feature is known, so is the unit.

    Parameters
    ----------
    inputs : array of shape (D, n)
    context, weights, shape, settings, blocks, log_det
        As in `layer_forward`.
    layout : (order, first_units, masked)
        The features in their order, the width of first_network or 0, and as in `layer_forward`.
    units : (sorted, ends)
        The units of a hidden layer by degree, and how many of them have at most the degree 0 .. D - 1.
    inverse : bool
        True: an argument, so that what it is passed on to is compiled once.
    outputs : array of shape (D, n)
        Already equal to inputs; may be inputs itself.
    """
    order, first_units, masked = layout
    n_bins, n_context, width, n_blocks, _, activation = shape
    dtype, n_rows, n_params = inputs.dtype, inputs.shape[1], 3 * n_bins - 1
    n_features, reach = len(inputs), settings[3]
    given, every = np.empty((n_context, BLOCK), dtype), np.arange(n_context)
    known, params = np.zeros((n_features, BLOCK), dtype), np.empty((n_params, BLOCK), dtype)
    hidden = np.zeros((2 * n_blocks + 1, width, BLOCK), dtype)
    active = np.zeros((2 * n_blocks, width, BLOCK), dtype)
    extra = np.zeros((n_blocks + 1, width, BLOCK), dtype)
    state, t = np.zeros(state_size(n_bins), dtype), np.zeros(N_SCRATCH, dtype)
    end = len(weights) - (first_size(first_units, n_context, n_params) if first_units else 0)
    matrix = end - n_features * n_params * (width + 1)
    for number in range(blocks[0], blocks[1]):
        start = number * BLOCK
        count = min(BLOCK, n_rows - start)
        load_rows(context, every, start, count, reach, given)
        clear(flat(known))
        clear(flat(hidden))
        clear(flat(active))
        _context_terms(given, weights, n_features, shape, extra)
        _reveal(known, weights, order, ZERO, units, shape, hidden, active, extra)
        for place in range(n_features):
            feature = order[place]
            now = feature * n_params
            last_layer(weights, matrix, n_features * n_params, now, EVERYTHING, hidden[2 * n_blocks], params)
            if place == 0 and first_units:
                add_first(given, weights, first_units, activation, params)
            rows = (start, count, feature, masked)
            map_feature(inputs, context, rows, params, inverse, settings, state, t, outputs, log_det)
            load_rows(outputs, order[place : place + 1], start, count, reach, known[feature : feature + 1])
            if place + 1 < n_features:
                _reveal(known, weights, order, place + 1, units, shape, hidden, active, extra)


@compiled
def _context_terms(context: Any, weights: Any, n_inputs: int, shape: Any, extra: Any) -> None:
    """Write what the context adds before each block (0: to the first layer)."""
    _, _, width, n_blocks, mode, activation = shape
    if mode == SUM:
        at = width * (n_inputs + 1)
        for block in range(n_blocks + 1):
            at = affine(weights, at, EVERYTHING, context, extra[block]) + 2 * width * (width + 1)
        activate(extra[0], activation, extra[0])


@compiled
def _reveal(
    known: Any,
    weights: Any,
    order: Any,
    degree: int,
    units: Any,
    shape: Any,
    hidden: Any,
    active: Any,
    extra: Any,
) -> None:
    """Compute the units of one degree in all layers, given those of lower degrees."""
    _, _, width, n_blocks, _, activation = shape
    by_degree, ends = units
    new = by_degree[(ends[degree - 1] if degree else 0) : ends[degree]]
    seen = by_degree[: ends[degree]]
    at, per_block = block_places(width * (len(known) + 1), shape)
    _unit_sums(weights, ZERO, known, order[:degree], new, extra[0], hidden[0])
    for block in range(n_blocks):
        before, middle, after = hidden[2 * block], hidden[2 * block + 1], hidden[2 * block + 2]
        _activate_units(before, new, activation, active[2 * block])
        _unit_sums(weights, at, active[2 * block], seen, new, extra[block + 1], middle)
        _activate_units(middle, new, activation, active[2 * block + 1])
        _unit_sums(weights, at + width * (width + 1), active[2 * block + 1], seen, new, before, after)
        at += per_block


@compiled
def _unit_sums(weights: Any, at: int, inputs: Any, read: Any, new: Any, terms: Any, out: Any) -> None:
    """Write bias, term and weighted inputs of the new units of a layer whose weights start there."""
    n_inputs = len(inputs)
    bias = at + len(out) * n_inputs
    for u in new:
        row, term = out[u], terms[u]
        for i in range(BLOCK):
            row[i] = weights[bias + u] + term[i]
        for v in read:
            weight, values = weights[at + u * n_inputs + v], inputs[v]
            for i in range(BLOCK):
                row[i] += weight * values[i]


@compiled
def _activate_units(values: Any, new: Any, activation: int, out: Any) -> None:
    for u in new:
        activate(values[u : u + 1], activation, out[u : u + 1])
