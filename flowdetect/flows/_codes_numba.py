"""Log-probabilities of rows of codes by a masked network, with their gradient, compiled by numba.

Blocks of rows and weights as in `_layer_numba` and `_network_numba`; the first layer is a table with a row of
``width`` numbers for each code of each column, followed by the bias. Columns of one code only are left out of
the network; *place* is the number of a column among the others.
"""

from typing import Any

import numpy as np

from flowdetect._utils.jit import cached, compiled
from flowdetect.flows._dense_numba import (
    ZERO,
    add_rows,
    clear,
    flat,
    load_rows,
)
from flowdetect.flows._kernels_numba import BLOCK
from flowdetect.flows._math_numba import exp_nonpositive, log_positive
from flowdetect.flows._network_numba import (
    add_first,
    first_gradient,
    first_size,
    hidden_gradient,
    hidden_layers,
    last_gradient,
    last_layer,
)
from flowdetect.flows._products_numba import EVERYTHING, padded, turn

__all__ = ["codes_backward", "codes_forward"]


@cached
def codes_forward(
    codes: Any,
    context: Any,
    weights: Any,
    layout: Any,
    shape: Any,
    spans: Any,
    settings: Any,
    blocks: Any,
    found: Any,
    kept_hidden: Any,
    kept_shares: Any,
) -> None:
    """Write the log-probabilities of some blocks of rows.

    Parameters
    ----------
    codes : array of shape (C, n)
        Numbers; those that are no code of their column give NaN.
    context : array of shape (K, n), K = 0 without one
    weights : array of all weights
    layout : (cardinalities, columns, offsets, order, first_units)
        Cardinalities of all columns; the columns with more than one code; for each place where its codes
        start in the table, and where the last end; the places in the order of the last layer's outputs; width
        of first_network or 0.
    shape : (0, K, width, n_blocks, mode, activation)
    spans : (in_rows, in_columns)
        As in `layer_forward`.
    settings : array of (smoothing, reach)
    blocks : (first, last)
    found : array of shape (C, n)
    kept_hidden : array of shape (N, 2 * n_blocks + 1, width, BLOCK)
    kept_shares : array of shape (N, n_outputs, BLOCK)
        For the gradient: N is the number of all blocks; or 1, which keeps nothing that lasts.
    """
    cardinalities, columns, offsets, order, first_units = layout
    _, n_context, width, n_blocks, _, activation = shape
    dtype, n_rows, n_outputs = codes.dtype, codes.shape[1], kept_shares.shape[1]
    keep = len(kept_hidden) > 1
    given, every = np.empty((n_context, BLOCK), dtype), np.arange(n_context)
    scratch, work = np.empty((2, width, BLOCK), dtype), np.zeros((3, BLOCK), dtype)
    turned = np.empty((BLOCK, padded(width, codes.itemsize)), dtype)
    index, valid = np.empty((len(columns), BLOCK), np.int64), np.empty((len(codes), BLOCK), dtype)
    hidden, shares = np.empty_like(kept_hidden[0]), np.empty_like(kept_shares[0])
    for number in range(blocks[0], blocks[1]):
        start = number * BLOCK
        count = min(BLOCK, n_rows - start)
        if keep:
            hidden, shares = kept_hidden[number], kept_shares[number]
        load_rows(context, every, start, count, settings[1], given)
        _read_codes(codes, cardinalities, start, count, columns, index, valid)
        for j in range(len(codes)):
            for i in range(count):
                found[j, start + i] = valid[j, i]
        at = _look_up(weights, offsets, index, turned, hidden[0])
        at = hidden_layers(weights, at, given, shape, spans[0], hidden, scratch)
        last_layer(weights, at, n_outputs, ZERO, EVERYTHING, hidden[2 * n_blocks], shares)
        begin = 0
        for place in order:
            own = shares[begin : begin + cardinalities[columns[place]]]
            if place == 0 and first_units:
                add_first(given, weights, first_units, activation, own)
            _log_share(own, index[place], settings[0], start, count, found[columns[place]], work)
            begin += len(own)


@compiled
def _read_codes(
    codes: Any, cardinalities: Any, start: int, count: int, columns: Any, index: Any, valid: Any
) -> None:
    """Write the codes of a block as whole numbers within their range; 0 to valid where they are, else NaN."""
    for j in range(len(codes)):
        for i in range(count):
            value = codes[j, start + i]
            known = value >= 0 and value < cardinalities[j] and value == np.floor(value)
            valid[j, i] = 0.0 if known else np.nan
    for place in range(len(columns)):
        for i in range(count):
            known = valid[columns[place], i] == 0
            index[place, i] = np.int64(codes[columns[place], start + i]) if known else 0
        for i in range(count, BLOCK):
            index[place, i] = 0


@compiled
def _look_up(weights: Any, offsets: Any, index: Any, turned: Any, out: Any) -> int:
    """Write the sums of the codes' rows in the table (width, BLOCK), and the bias; return the end of both."""
    width = len(out)
    bias = offsets[len(index)] * width
    for i in range(BLOCK):
        row = turned[i]
        for u in range(width):
            row[u] = weights[bias + u]
        for place in range(len(index)):
            at = (offsets[place] + index[place, i]) * width
            for u in range(width):
                row[u] += weights[at + u]
    for u in range(width):
        for i in range(BLOCK):
            out[u, i] = turned[i, u]
    return bias + width


@compiled
def _find_largest(values: Any, largest: Any) -> None:
    """Write the largest of each column (BLOCK,), NaN where one of them is NaN."""
    for i in range(BLOCK):
        largest[i] = values[0, i]
    for k in range(1, len(values)):
        for i in range(BLOCK):
            value = values[k, i]
            largest[i] = largest[i] if value <= largest[i] or largest[i] != largest[i] else value


@compiled
def _log_share(
    logits: Any, index: Any, smoothing: Any, start: int, count: int, found: Any, work: Any
) -> None:
    """Turn the logits (size, BLOCK) of a column into shares, and add the logarithm of its code's share."""
    real = logits.dtype.type
    largest, total, chosen = work[0], work[1], work[2]
    size = len(logits)
    _find_largest(logits, largest)
    for i in range(BLOCK):
        total[i] = real(0)
    for k in range(size):
        for i in range(BLOCK):
            below = logits[k, i] - largest[i]
            chosen[i] = below if index[i] == k else chosen[i]
            logits[k, i] = exp_nonpositive(below)
            total[i] += logits[k, i]
    for k in range(size):
        for i in range(BLOCK):
            logits[k, i] /= total[i]
    if smoothing > 0:
        rest, floor = real(1) - smoothing, smoothing / real(size)
        for i in range(count):
            found[start + i] += log_positive(rest * logits[index[i], i] + floor)
    else:
        for i in range(count):
            found[start + i] += chosen[i] - log_positive(total[i])


@cached
def codes_backward(
    codes: Any,
    context: Any,
    weights: Any,
    layout: Any,
    shape: Any,
    spans: Any,
    settings: Any,
    blocks: Any,
    kept: Any,
    of_found: Any,
    gradients: Any,
) -> None:
    """Add to the gradients of context and weights for some blocks.

    Parameters
    ----------
    codes, context, weights, layout, shape, spans, settings, blocks
        As in `codes_forward`.
    kept : (kept_hidden, kept_shares)
        What it has kept; the shares are overwritten.
    of_found : array of shape (C, n)
        Gradient of the log-probabilities, 0 where these are NaN for a code that is not valid.
    gradients : (of_context, of_weights)
        Of the shapes of context (no rows if it is not wanted) and weights.
    """
    cardinalities, columns, offsets, order, first_units = layout
    of_context, of_weights = gradients
    _, n_context, width, n_blocks, _, activation = shape
    dtype, n_rows, n_outputs = codes.dtype, codes.shape[1], kept[1].shape[1]
    wants = len(of_context) > 0
    given, every = np.empty((n_context, BLOCK), dtype), np.arange(n_context)
    of_given, of_hidden = np.empty_like(given), np.empty((width, BLOCK), dtype)
    turned = np.empty((BLOCK, padded(width, codes.itemsize)), dtype)
    scratch = np.empty((3, width, BLOCK), dtype)
    index, valid = np.empty((len(columns), BLOCK), np.int64), np.empty((len(codes), BLOCK), dtype)
    n_first = first_size(first_units, n_context, cardinalities[columns[0]]) if first_units else 0
    end = len(weights) - n_first
    matrix = end - n_outputs * (width + 1)
    first_end = (offsets[len(columns)] + 1) * width
    for number in range(blocks[0], blocks[1]):
        start = number * BLOCK
        count = min(BLOCK, n_rows - start)
        hidden, shares = kept[0][number], kept[1][number]
        load_rows(context, every, start, count, settings[1], given)
        clear(flat(of_given))
        clear(flat(of_hidden))
        _read_codes(codes, cardinalities, start, count, columns, index, valid)
        begin = 0
        for place in order:
            own = shares[begin : begin + cardinalities[columns[place]]]
            _logit_gradient(own, index[place], settings[0], start, count, of_found[columns[place]])
            if place == 0 and first_units:
                first_gradient(given, weights, first_units, activation, own, of_given, of_weights)
            begin += len(own)
        turn(hidden[2 * n_blocks], turned)
        last_gradient(weights, matrix, n_outputs, ZERO, EVERYTHING, shares, turned, of_hidden, of_weights)
        inner = (of_given, of_weights)
        hidden_gradient(weights, first_end, given, shape, spans, hidden, of_hidden, scratch, inner, wants)
        turn(of_hidden, turned)
        _add_to_table(turned, offsets, index, width, of_weights)
        if wants:
            add_rows(of_given, context, every, start, count, settings[1], of_context)


@compiled
def _logit_gradient(shares: Any, index: Any, smoothing: Any, start: int, count: int, of_found: Any) -> None:
    """Turn the shares (size, BLOCK) of a column into the gradient of its logits."""
    real = shares.dtype.type
    rest, floor = real(1) - smoothing, smoothing / real(len(shares))
    for i in range(count):
        share = rest * shares[index[i], i]
        # Without smoothing the quotient is 1, also where the share has become 0.
        factor = of_found[start + i] * (share / (share + floor) if smoothing > 0 else real(1))
        for k in range(len(shares)):
            shares[k, i] = factor * ((real(1) if index[i] == k else real(0)) - shares[k, i])
    for i in range(count, BLOCK):
        for k in range(len(shares)):
            shares[k, i] = real(0)


@compiled
def _add_to_table(turned: Any, offsets: Any, index: Any, width: int, of_weights: Any) -> None:
    """Add the gradient (BLOCK, width) of what `_look_up` wrote to those of the table and the bias."""
    bias = offsets[len(index)] * width
    for i in range(BLOCK):
        row = turned[i]
        for u in range(width):
            of_weights[bias + u] += row[u]
        for place in range(len(index)):
            at = (offsets[place] + index[place, i]) * width
            for u in range(width):
                of_weights[at + u] += row[u]
