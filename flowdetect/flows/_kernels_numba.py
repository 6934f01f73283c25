"""The spline as one pass over the data, compiled by numba. Imported only where it is used.

Rows lie on the inner, contiguous axis, and every loop over them is kept so small that the compiler turns it
into vector instructions: few arrays a loop, selections instead of branches. Only the loop that works in each
element's own bin stays scalar. float32 and float64 run through the same code: constants come from an array of
the data's dtype, see `constants`.

Notation as in `rational_quadratic_spline`; ``E`` are the softmax shares of the bins, ``C`` the lower knots.
"""

import math
from collections.abc import Callable
from typing import Any

import numba
import numpy as np

__all__ = ["constants", "spline_backward", "spline_forward", "spline_inverse"]

# Everything but nnan and ninf: NaN has to pass through.
_FASTMATH = {"contract", "arcp", "nsz", "reassoc", "afn"}


def _jit(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile on the first call; keep the result on disk where some folder can be written."""
    options: dict[str, Any] = {"nogil": True, "fastmath": _FASTMATH, "error_model": "numpy"}
    try:
        compiled: Callable[..., Any] = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # numba found no folder that it may write to
        compiled = numba.njit(**options)(function)
    return compiled


def constants(dtype: np.dtype, least: float) -> tuple[np.ndarray, np.ndarray]:
    """Return what the kernels need in the dtype of the data, and the layout of its numbers.

    Parameters
    ----------
    dtype : float32 or float64
    least : float
        Smallest bin as a share of the box, and smallest derivative.

    Returns
    -------
    floats : ndarray of that dtype
        Zero, one, two, the smallest size, the raw derivative of the identity, the lowest exponent, log2(e),
        ln 2 in two parts (the first short enough for exact products), then the Taylor coefficients of exp.
    layout : ndarray of two integers of the same width
        Exponent bias and number of mantissa bits.
    """
    single = dtype == np.float32
    high = 0.693359375
    head = [0.0, 1.0, 2.0, least, math.log(math.expm1(1.0 - least)), -87.0 if single else -708.0]
    split = [1.0 / math.log(2.0), high, math.log(2.0) - high]
    taylor = [1.0 / math.factorial(k) for k in range(13)]
    layout = np.array([127, 23], np.int32) if single else np.array([1023, 52], np.int64)
    return np.array(head + split + taylor, dtype=dtype), layout


@_jit
def _exp(x: Any, c: Any, layout: Any, bits: Any, powers: Any, out: Any) -> None:
    """Write exp(x) for x <= 0; x and out must not overlap, and powers is bits seen as floats."""
    real, whole = x.dtype.type, bits.dtype.type
    half, lowest, log2e, ln2_high, ln2_low = c[1] / c[2], c[5], c[6], c[7], c[8]
    c2, c3, c4, c5, c6 = c[11], c[12], c[13], c[14], c[15]
    c7, c8, c9, c10, c11, c12 = c[16], c[17], c[18], c[19], c[20], c[21]
    one, bias, shift = c[1], layout[0], layout[1]
    for i in range(x.size):
        v = lowest if x[i] < lowest else x[i]
        k = whole(v * log2e - half)
        r = (v - real(k) * ln2_high) - real(k) * ln2_low
        p = c8 + r * (c9 + r * (c10 + r * (c11 + r * c12)))
        p = c3 + r * (c4 + r * (c5 + r * (c6 + r * (c7 + r * p))))
        out[i] = one + r * (one + r * (c2 + r * p))
        bits[i] = (k + bias) << shift
    for i in range(x.size):
        out[i] *= powers[i]


@_jit
def _raise_to(largest: Any, x: Any) -> None:
    for i in range(x.size):
        largest[i] = x[i] if x[i] > largest[i] else largest[i]


@_jit
def _shift(x: Any, largest: Any, scale: Any, out: Any) -> None:
    for i in range(x.size):
        out[i] = (x[i] - largest[i]) * scale


@_jit
def _add(total: Any, x: Any) -> None:
    for i in range(x.size):
        total[i] += x[i]


@_jit
def _multiply(x: Any, factor: Any) -> None:
    for i in range(x.size):
        x[i] *= factor[i]


@_jit
def _softmax(
    params: Any, scale: Any, c: Any, layout: Any, scratch: Any, bits: Any, powers: Any, shares: Any
) -> None:
    """Write the shares (K, n) of the logits ``scale * params`` (K, n)."""
    largest, shifted, total = scratch[0], scratch[1], scratch[2]
    largest[:] = params[0]
    for k in range(1, len(params)):
        _raise_to(largest, params[k])
    total[:] = c[0]
    for k in range(len(params)):
        _shift(params[k], largest, scale, shifted)
        _exp(shifted, c, layout, bits, powers, shares[k])
        _add(total, shares[k])
    for i in range(total.size):
        total[i] = c[1] / total[i]
    for k in range(len(params)):
        _multiply(shares[k], total)


@_jit
def _next_knot(knot: Any, share: Any, least: Any, spread: Any, out: Any) -> None:
    for i in range(knot.size):
        out[i] = knot[i] + (least + spread * share[i])


@_jit
def _count_passed(x: Any, knot: Any, index: Any) -> None:
    for i in range(x.size):
        index[i] += index.dtype.type(x[i] >= knot[i])


@_jit
def _workspace(n_bins: int, n_rows: int, c: Any, layout: Any) -> Any:
    """Return arrays for one feature: scratch, bits of numbers, and what is known of each row's bin."""
    scratch, bits = np.empty((3, n_rows), c.dtype), np.empty(n_rows, layout.dtype)
    shares, knots = np.empty((2, n_bins, n_rows), c.dtype), np.empty((2, n_bins, n_rows), c.dtype)
    raw, decay = np.empty((2, n_rows), c.dtype), np.empty((2, n_rows), c.dtype)
    slopes, index = np.empty((2, n_rows), c.dtype), np.empty(n_rows, layout.dtype)
    return scratch, bits, bits.view(c.dtype), shares, knots, raw, decay, slopes, index


@_jit
def _bin_sizes(n_bins: int, bound: Any, c: Any) -> Any:
    """Return the smallest bin, and what all bins share out beyond it, on the scale of the box."""
    box = c[2] * bound
    return box * c[3], box * (c[1] - c.dtype.type(n_bins) * c[3])


@_jit
def _find_bins(
    x: Any, params: Any, side: int, bound: Any, scale: Any, c: Any, layout: Any, space: Any
) -> None:
    """Find shares and lower knots (2, K, n) of both axes, and the bin of each x on the axis ``side``."""
    scratch, bits, powers, shares, knots, _, _, _, index = space
    n_bins = shares.shape[1]
    least, spread = _bin_sizes(n_bins, bound, c)
    index[:] = 0
    for axis in range(2):
        logits = params[axis * n_bins : (axis + 1) * n_bins]
        _softmax(logits, scale, c, layout, scratch, bits, powers, shares[axis])
        knots[axis, 0][:] = -bound
        for k in range(1, n_bins):
            _next_knot(knots[axis, k - 1], shares[axis, k - 1], least, spread, knots[axis, k])
    for k in range(1, n_bins):
        _count_passed(x, knots[side, k], index)


@_jit
def _pick_raw(params: Any, n_bins: int, index: Any, shift: int, raw: Any) -> None:
    """Gather the raw derivative at the lower (shift -1) or upper (shift 0) knot of each element's bin."""
    for i in range(index.size):
        raw[i] = params[2 * n_bins + min(max(index[i] + shift, 0), n_bins - 2), i]


@_jit
def _minus_size(x: Any, out: Any) -> None:
    for i in range(x.size):
        out[i] = -abs(x[i])


@_jit
def _softplus(raw: Any, decay: Any, c: Any, out: Any) -> None:
    """Write ``least + log(1 + exp(raw))``, given ``decay = exp(-|raw|)``, by the series of 2 artanh."""
    real = raw.dtype.type
    zero, two, least = c[0], c[2], c[3]
    for i in range(raw.size):
        z = decay[i] / (two + decay[i])
        y = z * z
        high = real(2 / 25) + y * (real(2 / 27) + y * (real(2 / 29) + y * (real(2 / 31) + y * real(2 / 33))))
        high = real(2 / 17) + y * (real(2 / 19) + y * (real(2 / 21) + y * (real(2 / 23) + y * high)))
        low = real(2 / 9) + y * (real(2 / 11) + y * (real(2 / 13) + y * (real(2 / 15) + y * high)))
        low = two + y * (real(2 / 3) + y * (real(2 / 5) + y * (real(2 / 7) + y * low)))
        out[i] = least + (zero if raw[i] < zero else raw[i]) + z * low


@_jit
def _set_where(index: Any, k: int, value: Any, out: Any) -> None:
    for i in range(index.size):
        out[i] = value if index[i] == k else out[i]


@_jit
def _find_slopes(params: Any, c: Any, layout: Any, space: Any) -> None:
    """Find the derivatives (2, n) at both knots of each row's bin, with what their gradient needs."""
    scratch, bits, powers, shares, _, raw, decay, slopes, index = space
    n_bins = shares.shape[1]
    for end in range(2):
        _pick_raw(params, n_bins, index, end - 1, raw[end])
        _minus_size(raw[end], scratch[0])
        _exp(scratch[0], c, layout, bits, powers, decay[end])
        _softplus(raw[end], decay[end], c, slopes[end])
        # Outside the box the map is the identity: derivative 1 at both ends.
        _set_where(index, end * (n_bins - 1), c[1], slopes[end])


@_jit
def spline_forward(
    inputs: Any, params: Any, bound: Any, scale: Any, c: Any, layout: Any, outputs: Any, log_det: Any
) -> None:
    """Write outputs and log-derivatives (m, n) for inputs (m, n) and params (m, 3 K - 1, n)."""
    n_bins = (params.shape[1] + 1) // 3
    space = _workspace(n_bins, inputs.shape[1], c, layout)
    for f in range(len(inputs)):
        _find_bins(inputs[f], params[f], 0, bound, scale, c, layout, space)
        _find_slopes(params[f], c, layout, space)
        _evaluate(inputs[f], bound, c, space, outputs[f], log_det[f])


@_jit
def _evaluate(inputs: Any, bound: Any, c: Any, space: Any, outputs: Any, log_det: Any) -> None:
    """Evaluate equations 4 and 5 of Durkan et al. in each row's bin."""
    _, _, _, shares, knots, _, _, slopes, index = space
    zero, one, two = c[0], c[1], c[2]
    least, spread = _bin_sizes(shares.shape[1], bound, c)
    for i in range(inputs.size):
        x, k = inputs[i], index[i]
        if abs(x) <= bound:
            w, h = least + spread * shares[0, k, i], least + spread * shares[1, k, i]
            d0, d1 = slopes[0, i], slopes[1, i]
            s = h / w
            t = min(max((x - knots[0, k, i]) / w, zero), one)
            q = t * (one - t)
            denominator = s + (d0 + d1 - two * s) * q
            rest = d1 * t * t + two * s * q + d0 * (one - t) * (one - t)
            ratio = s / denominator
            outputs[i] = knots[1, k, i] + h * (s * t * t + d0 * q) / denominator
            log_det[i] = math.log(ratio * ratio * rest)
        else:
            outputs[i] = x
            log_det[i] = zero if x == x else x


@_jit
def spline_inverse(
    inputs: Any, params: Any, bound: Any, scale: Any, c: Any, layout: Any, outputs: Any, log_det: Any
) -> None:
    """Do what `spline_forward` does, for the inverse map."""
    n_bins = (params.shape[1] + 1) // 3
    space = _workspace(n_bins, inputs.shape[1], c, layout)
    for f in range(len(inputs)):
        _find_bins(inputs[f], params[f], 1, bound, scale, c, layout, space)
        _find_slopes(params[f], c, layout, space)
        _evaluate_inverse(inputs[f], bound, c, space, outputs[f], log_det[f])


@_jit
def _evaluate_inverse(inputs: Any, bound: Any, c: Any, space: Any, outputs: Any, log_det: Any) -> None:
    """Solve the quadratic of Durkan et al. (equations 6 to 8) in each row's bin."""
    _, _, _, shares, knots, _, _, slopes, index = space
    zero, one, two = c[0], c[1], c[2]
    least, spread = _bin_sizes(shares.shape[1], bound, c)
    for i in range(inputs.size):
        y, k = inputs[i], index[i]
        if abs(y) <= bound:
            w, h = least + spread * shares[0, k, i], least + spread * shares[1, k, i]
            d0, d1 = slopes[0, i], slopes[1, i]
            s = h / w
            rise = y - knots[1, k, i]
            bend = d0 + d1 - two * s
            quadratic = h * (s - d0) + rise * bend
            linear = h * d0 - rise * bend
            constant = -s * rise
            # Non-negative in exact arithmetic; rounding may take it below.
            discriminant = max(linear * linear - two * two * quadratic * constant, zero)
            bottom = -linear - math.sqrt(discriminant)
            t = min(max(two * constant / bottom, zero), one) if bottom < zero else zero
            q = t * (one - t)
            rest = d1 * t * t + two * s * q + d0 * (one - t) * (one - t)
            ratio = s / (s + bend * q)
            # The product carries the NaN of a parameter past min and max, which may lose it.
            outputs[i] = (t * w + knots[0, k, i]) + zero * bend
            log_det[i] = -math.log(ratio * ratio * rest)
        else:
            outputs[i] = y
            log_det[i] = zero if y == y else y


@_jit
def spline_backward(
    inputs: Any,
    params: Any,
    of_outputs: Any,
    of_log_det: Any,
    bound: Any,
    scale: Any,
    c: Any,
    layout: Any,
    of_inputs: Any,
    of_params: Any,
) -> None:
    """Write the gradients of inputs and params, given those of what `spline_forward` returns."""
    n_rows, n_bins = inputs.shape[1], (params.shape[1] + 1) // 3
    space = _workspace(n_bins, n_rows, c, layout)
    of_end, of_size = np.empty((2, n_rows), c.dtype), np.empty((2, n_rows), c.dtype)
    of_slope, mean = np.empty((2, n_rows), c.dtype), np.empty((2, n_rows), c.dtype)
    for f in range(len(inputs)):
        _find_bins(inputs[f], params[f], 0, bound, scale, c, layout, space)
        _find_slopes(params[f], c, layout, space)
        given = (inputs[f], of_outputs[f], of_log_det[f])
        _bin_gradient(given, bound, c, space, of_inputs[f], of_end, of_size, of_slope)
        _mean_gradient(bound, c, space, of_end, of_size, mean)
        _, spread = _bin_sizes(n_bins, bound, c)
        for axis in range(2):
            for k in range(n_bins):
                ends, sizes, means = of_end[axis], of_size[axis], mean[axis]
                out = of_params[f, axis * n_bins + k]
                _share_gradient(space[3][axis, k], ends, sizes, space[8], means, k, spread * scale, c[0], out)
        _slope_gradient(c, space, of_slope, of_params[f])


@_jit
def _bin_gradient(
    given: Any, bound: Any, c: Any, space: Any, of_inputs: Any, of_end: Any, of_size: Any, of_slope: Any
) -> None:
    """Write the gradients of the inputs, and of lower knot, size and derivatives of each row's bin."""
    inputs, of_outputs, of_log_det = given
    _, _, _, shares, knots, _, _, slopes, index = space
    zero, one, two = c[0], c[1], c[2]
    least, spread = _bin_sizes(shares.shape[1], bound, c)
    for i in range(inputs.size):
        x, k, gy, gl = inputs[i], index[i], of_outputs[i], of_log_det[i]
        if abs(x) > bound:
            of_inputs[i] = gy
            for axis in range(2):
                of_end[axis, i] = of_size[axis, i] = of_slope[axis, i] = zero
            continue
        w, h = least + spread * shares[0, k, i], least + spread * shares[1, k, i]
        d0, d1 = slopes[0, i], slopes[1, i]
        inverse_w = one / w
        s = h * inverse_w
        t = (x - knots[0, k, i]) * inverse_w
        u = one - t
        q, turn = t * u, one - two * t
        bend = d0 + d1 - two * s
        inverse_d = one / (s + bend * q)
        top = s * t * t + d0 * q
        # Gradients of numerator, denominator and bracket of equation 5, then of slope and place in the bin.
        g_top = gy * h * inverse_d
        g_bottom = -(g_top * top + two * gl) * inverse_d
        g_rest = gl / (d1 * t * t + two * s * q + d0 * u * u)
        g_s = g_top * t * t + g_bottom * (one - two * q) + two * (gl / s + g_rest * q)
        g_t = g_top * (two * s * t + d0 * turn) + g_bottom * bend * turn
        g_t += two * g_rest * (d1 * t + s * turn - d0 * u)
        of_inputs[i] = g_t * inverse_w
        of_end[0, i], of_end[1, i] = -g_t * inverse_w, gy
        of_size[0, i] = -(g_s * s + g_t * t) * inverse_w
        of_size[1, i] = gy * top * inverse_d + g_s * inverse_w
        of_slope[0, i] = (g_top + g_bottom) * q + g_rest * u * u
        of_slope[1, i] = g_bottom * q + g_rest * t * t


@_jit
def _mean_gradient(bound: Any, c: Any, space: Any, of_end: Any, of_size: Any, mean: Any) -> None:
    """Write the mean, over the shares, of the gradients of the shares: what softmax takes off each."""
    _, _, _, shares, knots, _, _, _, index = space
    real = c.dtype.type
    box = c[2] * bound
    left = c[1] - real(shares.shape[1]) * c[3]
    for axis in range(2):
        for i in range(index.size):
            k = index[i]
            below = ((knots[axis, k, i] + bound) / box - c[3] * real(k)) / left
            mean[axis, i] = of_end[axis, i] * below + of_size[axis, i] * shares[axis, k, i]


@_jit
def _share_gradient(
    shares: Any, of_end: Any, of_size: Any, index: Any, mean: Any, k: int, factor: Any, zero: Any, out: Any
) -> None:
    for i in range(out.size):
        own = of_size[i] if index[i] == k else zero
        own = of_end[i] if index[i] > k else own
        out[i] = factor * shares[i] * (own - mean[i])


@_jit
def _slope_gradient(c: Any, space: Any, of_slope: Any, of_params: Any) -> None:
    """Write the gradients of the raw derivatives; those at the ends of the box are fixed."""
    _, _, _, shares, _, raw, decay, _, index = space
    n_bins = shares.shape[1]
    for k in range(2 * n_bins, 3 * n_bins - 1):
        of_params[k][:] = c[0]
    for end in range(2):
        for i in range(index.size):
            k = index[i] + end - 1
            if 0 <= k < n_bins - 1:
                # d softplus / d raw = sigmoid(raw)
                top = c[1] if raw[end, i] >= c[0] else decay[end, i]
                of_params[2 * n_bins + k, i] = of_slope[end, i] * top / (c[1] + decay[end, i])
