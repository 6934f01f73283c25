"""A whole spline layer, its network included, as one pass over blocks of rows, compiled by numba.

The activations of a block of rows stay in the cache from the first product to the last spline. Nothing here
holds the interpreter's lock, so that blocks can be shared out between threads; what a row becomes does not
depend on the rows beside it. The weights come as `_network_numba` says.
"""

from typing import Any

import numpy as np

from flowdetect._utils.jit import cached, compiled
from flowdetect.flows._dense_numba import (
    ZERO,
    add_back,
    add_rows,
    add_to,
    affine,
    affine_gradient,
    clear,
    copy_rows,
    flat,
    load_rows,
)
from flowdetect.flows._kernels_numba import (
    BLOCK,
    LOG_DET,
    N_SCRATCH,
    OF_LOG_DET,
    OF_X,
    OF_Y,
    X,
    Y,
    evaluate,
    evaluate_inverse,
    gradient,
    locate,
    state_size,
)
from flowdetect.flows._network_numba import (
    GATE,
    add_first,
    first_gradient,
    first_size,
    hidden_gradient,
    hidden_layers,
    last_gradient,
    last_layer,
)
from flowdetect.flows._products_numba import EVERYTHING, padded, turn

__all__ = ["layer_backward", "layer_forward"]

# Parameters of splines computed at once; they should stay in the cache.
_PARAMS_AT_ONCE = 96


@cached
def layer_forward(
    columns: Any,
    context: Any,
    weights: Any,
    layout: Any,
    shape: Any,
    spans: Any,
    settings: Any,
    inverse: bool,
    blocks: Any,
    outputs: Any,
    log_det: Any,
    kept_hidden: Any,
    kept_states: Any,
) -> None:
    """Map some blocks of rows.

    Parameters
    ----------
    columns : array of shape (D, n)
    context : array of shape (C, n), C = 0 without one
    weights : array of all weights
    layout : (read, changed, first, first_units, masked)
        The features that the network reads; those that are transformed; the number among these of the one
        that first_network serves, or -1; its width; whether the first D rows of the context are the observed
        indicator.
    shape : (n_bins, C, width, n_blocks, mode, activation)
    spans : (in_rows, in_columns, in_last)
        What is not 0 in the rows and columns of the blocks' matrices, and for each transformed feature in its
        rows of the last layer, as `multiply` wants it; (1, 2) if the same for all.
    settings : array of (bound, scale, minimum, reach)
    inverse : bool
        Whether to invert the splines, for layers whose network does not read what is transformed.
    blocks : (first, last)
    outputs : array of shape (D, n)
        Already equal to columns where these pass unchanged; may be columns itself.
    log_det : array of shape (n,)
        To be added to.
    kept_hidden : array of shape (N, 2 * n_blocks + 1, width, BLOCK)
    kept_states : array of shape (N, n_changed, state_size(n_bins))
        For the gradient: N is the number of all blocks; or 0, to keep nothing.
    """
    read, changed, first, first_units, masked = layout
    n_bins, n_context, width, n_blocks, mode, activation = shape
    dtype, n_rows, n_params = columns.dtype, columns.shape[1], 3 * n_bins - 1
    keep = len(kept_hidden) > 0
    inputs = np.empty((len(read) + (n_context if mode == GATE else 0), BLOCK), dtype)
    given = np.empty((n_context, BLOCK), dtype)
    scratch = np.empty((2, width, BLOCK), dtype)
    hidden = np.empty((0 if keep else 2 * n_blocks + 1, width, BLOCK), dtype)
    state, t = np.zeros(0 if keep else state_size(n_bins), dtype), np.zeros(N_SCRATCH, dtype)
    at_once = max(1, _PARAMS_AT_ONCE // n_params) if len(spans[2]) == 1 else 1
    params = np.empty((at_once * n_params, BLOCK), dtype)
    for number in range(blocks[0], blocks[1]):
        start = number * BLOCK
        count = min(BLOCK, n_rows - start)
        if keep:
            hidden = kept_hidden[number]
        _load_inputs(columns, context, read, (start, count), settings[3], inputs, given)
        at = affine(weights, ZERO, EVERYTHING, inputs, hidden[0])
        at = hidden_layers(weights, at, given, shape, spans[0], hidden, scratch)
        for begin in range(0, len(changed), at_once):
            now = params[: min(at_once, len(changed) - begin) * n_params]
            span = spans[2][min(begin, len(spans[2]) - 1) :]
            last_layer(
                weights, at, len(changed) * n_params, begin * n_params, span[:1], hidden[2 * n_blocks], now
            )
            for j in range(begin, begin + len(now) // n_params):
                own = now[(j - begin) * n_params : (j - begin + 1) * n_params]
                if j == first:
                    add_first(given, weights, first_units, activation, own)
                if keep:
                    state = kept_states[number, j]
                rows = (start, count, changed[j], masked)
                map_feature(columns, context, rows, own, inverse, settings, state, t, outputs, log_det)


@compiled
def _load_inputs(
    columns: Any, context: Any, read: Any, rows: Any, reach: Any, inputs: Any, given: Any
) -> None:
    """Write what the network reads of a block of rows: features and, where it goes there too, context."""
    start, count = rows
    load_rows(columns, read, start, count, reach, inputs)
    load_rows(context, np.arange(len(given)), start, count, reach, given)
    if len(inputs) > len(read):
        copy_rows(given, inputs[len(read) :])


@compiled
def map_feature(
    columns: Any,
    context: Any,
    rows: Any,
    params: Any,
    inverse: bool,
    settings: Any,
    state: Any,
    t: Any,
    outputs: Any,
    log_det: Any,
) -> None:
    """Map one feature of a block of rows, given its parameters; rows is (start, count, feature, masked)."""
    start, count, feature, masked = rows
    for i in range(count):
        state[X + i] = columns[feature, start + i]
    for i in range(count, BLOCK):
        state[X + i] = 0
    locate(params, (len(params) + 1) // 3, inverse, settings, state, t)
    if inverse:
        evaluate_inverse(settings, state, t)
    else:
        evaluate(settings, state, t)
    for i in range(count):
        if not masked or context[feature, start + i] > 0.5:
            outputs[feature, start + i] = t[Y + i]
            log_det[start + i] += t[LOG_DET + i]


@cached
def layer_backward(
    columns: Any,
    context: Any,
    weights: Any,
    layout: Any,
    shape: Any,
    spans: Any,
    settings: Any,
    blocks: Any,
    kept: Any,
    given_gradients: Any,
    gradients: Any,
) -> None:
    """Write the gradients of columns and context for some blocks, and add to those of the weights.

    Parameters
    ----------
    columns, context, weights, layout, shape, spans, settings, blocks
        As in `layer_forward`, which has been called with inverse False.
    kept : (kept_hidden, kept_states)
        What it has kept.
    given_gradients : (of_outputs, of_log_det)
        Gradients of the results, of their shapes.
    gradients : (of_columns, of_context, of_weights)
        Arrays to write to, of the shapes of columns (already equal to of_outputs; may be of_outputs itself),
        of context (to be added to; no rows if it is not wanted) and of weights (to be added to).
    """
    read, changed, first, first_units, masked = layout
    of_columns, of_context, of_weights = gradients
    n_bins, n_context, width, n_blocks, mode, activation = shape
    dtype, n_rows, n_params = columns.dtype, columns.shape[1], 3 * n_bins - 1
    wants, first_end = len(of_context) > 0, width * (len(read) + (n_context if mode == GATE else 0) + 1)
    inputs = np.empty((len(read) + (n_context if mode == GATE else 0), BLOCK), dtype)
    given, every = np.empty((n_context, BLOCK), dtype), np.arange(n_context)
    of_inputs, of_given = np.empty_like(inputs), np.empty_like(given)
    inner = (of_given, of_weights)
    of_hidden = np.empty((width, BLOCK), dtype)
    turned = np.empty((BLOCK, padded(width, weights.itemsize)), dtype)
    scratch, t = np.empty((3, width, BLOCK), dtype), np.zeros(N_SCRATCH, dtype)
    at_once = max(1, _PARAMS_AT_ONCE // n_params) if len(spans[2]) == 1 else 1
    of_params = np.empty((at_once * n_params, BLOCK), dtype)
    n_last = len(changed) * n_params
    end = len(weights) - (first_size(first_units, n_context, n_params) if first >= 0 else 0)
    at = end - n_last * (width + 1)
    for number in range(blocks[0], blocks[1]):
        start, hidden = number * BLOCK, kept[0][number]
        count = min(BLOCK, n_rows - start)
        _load_inputs(columns, context, read, (start, count), settings[3], inputs, given)
        turn(hidden[2 * n_blocks], turned)
        clear(flat(of_hidden))
        clear(flat(of_inputs))
        clear(flat(of_given))
        for begin in range(0, len(changed), at_once):
            now = of_params[: min(at_once, len(changed) - begin) * n_params]
            for j in range(begin, begin + len(now) // n_params):
                own = now[(j - begin) * n_params : (j - begin + 1) * n_params]
                rows = (start, count, changed[j], masked)
                state = kept[1][number, j]
                _feature_gradient(context, rows, given_gradients, settings, state, t, own, of_columns)
                if j == first:
                    first_gradient(given, weights, first_units, activation, own, of_given, of_weights)
            span = spans[2][min(begin, len(spans[2]) - 1) :]
            last_gradient(weights, at, n_last, begin * n_params, span[:1], now, turned, of_hidden, of_weights)
        hidden_gradient(weights, first_end, given, shape, spans[:2], hidden, of_hidden, scratch, inner, wants)
        affine_gradient(of_hidden, inputs, EVERYTHING, of_weights, ZERO)
        add_back(weights, ZERO, len(inputs), EVERYTHING, of_hidden, of_inputs)
        add_rows(of_inputs, columns, read, start, count, settings[3], of_columns)
        if wants:
            if mode == GATE:
                add_to(of_given, of_inputs[len(read) :])
            add_rows(of_given, context, every, start, count, settings[3], of_context)


@compiled
def _feature_gradient(
    context: Any,
    rows: Any,
    given_gradients: Any,
    settings: Any,
    state: Any,
    t: Any,
    of_params: Any,
    of_columns: Any,
) -> None:
    """Write the gradients of one feature of a block of rows, and of its parameters."""
    start, count, feature, masked = rows
    of_outputs, of_log_det = given_gradients
    for i in range(BLOCK):
        t[OF_Y + i] = 0
        t[OF_LOG_DET + i] = 0
    for i in range(count):
        if not masked or context[feature, start + i] > 0.5:
            t[OF_Y + i] = of_outputs[feature, start + i]
            t[OF_LOG_DET + i] = of_log_det[start + i]
    gradient((len(of_params) + 1) // 3, settings, state, t, of_params)
    for i in range(count):
        if not masked or context[feature, start + i] > 0.5:
            of_columns[feature, start + i] = t[OF_X + i]
