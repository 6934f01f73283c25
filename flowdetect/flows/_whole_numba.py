"""The spline on whole arrays of inputs and parameters, compiled by numba."""

from typing import Any

import numpy as np

from flowdetect._utils.jit import cached, compiled, inlined
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

__all__ = ["spline_backward", "spline_forward", "spline_inverse"]


@inlined
def _load(params: Any, x: Any, start: int, count: int, block: Any, state: Any) -> None:
    """Copy a block of at most BLOCK columns; what is behind them keeps what it had, finite numbers."""
    for k in range(len(params)):
        for i in range(count):
            block[k, i] = params[k, start + i]
    for i in range(count):
        state[X + i] = x[start + i]


@cached
def spline_forward(inputs: Any, params: Any, settings: Any, outputs: Any, log_det: Any) -> None:
    """Write outputs and log-derivatives (m, n) for inputs (m, n) and params (m, 3 K - 1, n)."""
    _map_all(inputs, params, False, settings, outputs, log_det)


@cached
def spline_inverse(inputs: Any, params: Any, settings: Any, outputs: Any, log_det: Any) -> None:
    """Do what `spline_forward` does, for the inverse map."""
    _map_all(inputs, params, True, settings, outputs, log_det)


@compiled
def _map_all(inputs: Any, params: Any, inverse: bool, settings: Any, outputs: Any, log_det: Any) -> None:
    n_params, n_rows = params.shape[1], params.shape[2]
    n_bins = (n_params + 1) // 3
    block = np.zeros((n_params, BLOCK), inputs.dtype)
    state, t = np.zeros(state_size(n_bins), inputs.dtype), np.zeros(N_SCRATCH, inputs.dtype)
    for f in range(len(inputs)):
        for start in range(0, n_rows, BLOCK):
            count = min(BLOCK, n_rows - start)
            _load(params[f], inputs[f], start, count, block, state)
            locate(block, n_bins, inverse, settings, state, t)
            if inverse:
                evaluate_inverse(settings, state, t)
            else:
                evaluate(settings, state, t)
            for i in range(count):
                outputs[f, start + i] = t[Y + i]
                log_det[f, start + i] = t[LOG_DET + i]


@cached
def spline_backward(
    inputs: Any,
    params: Any,
    of_outputs: Any,
    of_log_det: Any,
    settings: Any,
    of_inputs: Any,
    of_params: Any,
) -> None:
    """Write the gradients of inputs and params, given those of what `spline_forward` returns."""
    n_params, n_rows = params.shape[1], params.shape[2]
    n_bins = (n_params + 1) // 3
    block = np.zeros((n_params, BLOCK), inputs.dtype)
    state, t = np.zeros(state_size(n_bins), inputs.dtype), np.zeros(N_SCRATCH, inputs.dtype)
    for f in range(len(inputs)):
        for start in range(0, n_rows, BLOCK):
            count = min(BLOCK, n_rows - start)
            _load(params[f], inputs[f], start, count, block, state)
            locate(block, n_bins, False, settings, state, t)
            for i in range(count):
                t[OF_Y + i] = of_outputs[f, start + i]
                t[OF_LOG_DET + i] = of_log_det[f, start + i]
            gradient(n_bins, settings, state, t, block)
            for k in range(n_params):
                for i in range(count):
                    of_params[f, k, start + i] = block[k, i]
            for i in range(count):
                of_inputs[f, start + i] = t[OF_X + i]
