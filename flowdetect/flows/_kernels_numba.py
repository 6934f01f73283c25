"""The spline as one pass over the data, compiled by numba. Imported only where it is used.

Rows are taken in blocks of `BLOCK` and lie on the inner, contiguous axis, so that the compiler turns every
loop over a block into vector instructions: loops of known length, selections instead of branches,
exponentials and logarithms written out. What is known of a block is kept in a flat array, a *slot* of `BLOCK`
numbers for each quantity.

Notation as in `rational_quadratic_spline`. In numba's functions ``real`` is the type of the data, float32 or
float64: through it constants get that type too.
"""

import math
from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic, overload

from flowdetect.flows._products_numba import cached, compiled, inlined

__all__ = [
    "BLOCK",
    "N_SCRATCH",
    "evaluate",
    "evaluate_inverse",
    "exp_nonpositive",
    "gradient",
    "locate",
    "state_size",
    "spline_backward",
    "spline_forward",
    "spline_inverse",
]

# Numbers of numpy's type: for each literal among the arguments numba would compile a function anew.
BLOCK: Any = np.int64(64)

# Slots of the state, which the gradient needs again; behind them lie the unnormalised shares of the 2 K bins.
X, INVERSE_0, INVERSE_1, LOW_0, LOW_1, SIZE_0, SIZE_1, INDEX, SLOPE_0, SLOPE_1 = (
    BLOCK * i for i in range(10)
)
_SHARES = 10
# Slots of the scratch.
Y, LOG_DET, _LARGEST, _KNOT = (BLOCK * i for i in range(4))
OF_Y, OF_LOG_DET, OF_X = (BLOCK * i for i in range(4, 7))
_OF_LOW_0, _OF_LOW_1, _OF_SIZE_0, _OF_SIZE_1, _OF_SLOPE_0, _OF_SLOPE_1, _MEAN = (
    BLOCK * i for i in range(7, 14)
)
N_SCRATCH = 14 * BLOCK


# --- exp and log that the compiler can vectorise --------------------------------------------------------


def _reinterpret(typing_context: Any, value: Any, results: dict[Any, Any]) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], context.get_value_type(signature.return_type))

    return results[value](value), generate


@intrinsic
def _bits_of(typing_context: Any, value: Any) -> Any:
    return _reinterpret(typing_context, value, {types.float32: types.int32, types.float64: types.int64})


@intrinsic
def _number_of(typing_context: Any, value: Any) -> Any:
    return _reinterpret(typing_context, value, {types.int32: types.float32, types.int64: types.float64})


# Called without the context that numba adds.
_to_bits: Any = _bits_of
_from_bits: Any = _number_of

_LOG2_E, _LN2 = 1.0 / math.log(2.0), math.log(2.0)
# ln 2 in two parts, the first short enough for exact products with exponents.
_LN2_HIGH_32, _LN2_LOW_32 = np.float32(0.693359375), np.float32(_LN2 - 0.693359375)
_LN2_HIGH_64, _LN2_LOW_64 = 0.6931471803691238, 1.9082149292705877e-10
_LOG2_E_32, _HALF_32, _ONE_32 = np.float32(_LOG2_E), np.float32(0.5), np.float32(1.0)
_LOWEST_32, _ROOT2_32 = np.float32(-87.0), np.float32(math.sqrt(2.0))
_ROOT2_64 = math.sqrt(2.0)
_TAYLOR_32 = tuple(np.float32(1.0 / math.factorial(k)) for k in range(7))
_TAYLOR_64 = tuple(1.0 / math.factorial(k) for k in range(14))
# log m = 2 artanh z = z (2 + 2 z^2 / 3 + 2 z^4 / 5 + ...) with z = (m - 1) / (m + 1)
_ARTANH_32 = tuple(np.float32(2.0 / (2 * k + 1)) for k in range(5))
_ARTANH_64 = tuple(2.0 / (2 * k + 1) for k in range(12))


def exp_nonpositive(value: Any) -> Any:
    """Return exp(value) for value <= 0, to the precision of its type; NaN stays NaN."""
    raise NotImplementedError("only for compiled code")


def log_positive(value: Any) -> Any:
    """Return log(value) for positive normal numbers, to the precision of its type; NaN stays NaN."""
    raise NotImplementedError("only for compiled code")


@overload(exp_nonpositive)
def _exp_of_type(value: Any) -> Any:
    return _exp_32 if value == types.float32 else _exp_64


def _exp_32(value: Any) -> Any:
    c = _TAYLOR_32
    value = _LOWEST_32 if value < _LOWEST_32 else value
    power = np.int32(value * _LOG2_E_32 - _HALF_32)
    r = (value - np.float32(power) * _LN2_HIGH_32) - np.float32(power) * _LN2_LOW_32
    series = _ONE_32 + r * (_ONE_32 + r * (c[2] + r * (c[3] + r * (c[4] + r * (c[5] + r * c[6])))))
    return series * _from_bits(np.int32((power + 127) << 23))


def _exp_64(value: Any) -> Any:
    c = _TAYLOR_64
    value = -708.0 if value < -708.0 else value
    power = np.int32(value * _LOG2_E - 0.5)
    r = (value - power * _LN2_HIGH_64) - power * _LN2_LOW_64
    # Estrin's scheme: short chains of dependent operations.
    r2 = r * r
    r4 = r2 * r2
    low = (c[0] + c[1] * r) + r2 * (c[2] + c[3] * r)
    middle = (c[4] + c[5] * r) + r2 * (c[6] + c[7] * r)
    high = (c[8] + c[9] * r) + r2 * (c[10] + c[11] * r)
    series = (low + r4 * middle) + (r4 * r4) * (high + r4 * (c[12] + c[13] * r))
    return series * _from_bits((np.int64(power) + 1023) << 52)


@overload(log_positive)
def _log_of_type(value: Any) -> Any:
    return _log_32 if value == types.float32 else _log_64


def _log_32(value: Any) -> Any:
    c = _ARTANH_32
    bits = _to_bits(value)
    power = np.float32(np.int32((bits >> 23) - 127))
    m = _from_bits(np.int32((bits & 0x7FFFFF) | 0x3F800000))
    large = m > _ROOT2_32
    m = m * _HALF_32 if large else m
    power = power + _ONE_32 if large else power
    z = (m - _ONE_32) / (m + _ONE_32)
    y = z * z
    series = z * (c[0] + y * (c[1] + y * (c[2] + y * (c[3] + y * c[4]))))
    result = power * _LN2_HIGH_32 + (series + power * _LN2_LOW_32)
    # The bits have lost NaN.
    return result if value == value else value


def _log_64(value: Any) -> Any:
    c = _ARTANH_64
    bits = _to_bits(value)
    power = np.float64(np.int32((bits >> 52) - 1023))
    m = _from_bits((bits & 0xFFFFFFFFFFFFF) | 0x3FF0000000000000)
    large = m > _ROOT2_64
    m = m * 0.5 if large else m
    power = power + 1.0 if large else power
    z = (m - 1.0) / (m + 1.0)
    y = z * z
    y2 = y * y
    y4 = y2 * y2
    low = (c[0] + c[1] * y) + y2 * (c[2] + c[3] * y)
    middle = (c[4] + c[5] * y) + y2 * (c[6] + c[7] * y)
    high = (c[8] + c[9] * y) + y2 * (c[10] + c[11] * y)
    series = z * ((low + y4 * middle) + (y4 * y4) * high)
    result = power * _LN2_HIGH_64 + (series + power * _LN2_LOW_64)
    return result if value == value else value


# --- one block of elements ------------------------------------------------------------------------------


@inlined
def state_size(n_bins: int) -> int:
    """Return the length of the state of one block."""
    return (_SHARES + 2 * n_bins) * BLOCK


@compiled
def _exponentials(params: Any, scale: Any, shares: Any, inverse: Any, t: Any) -> None:
    """Write exp of the logits (K, BLOCK), less the largest, and the inverse of their sum."""
    real = t.dtype.type
    for i in range(BLOCK):
        t[_LARGEST + i] = params[0, i]
        t[_KNOT + i] = real(0)
    for k in range(1, len(params)):
        for i in range(BLOCK):
            value = params[k, i]
            t[_LARGEST + i] = value if value > t[_LARGEST + i] else t[_LARGEST + i]
    for k in range(len(params)):
        own = shares[k * BLOCK : (k + 1) * BLOCK]
        for i in range(BLOCK):
            value = exp_nonpositive((params[k, i] - t[_LARGEST + i]) * scale)
            own[i] = value
            t[_KNOT + i] += value
    for i in range(BLOCK):
        inverse[i] = real(1) / t[_KNOT + i]


@inlined
def _bin_sizes(n_bins: int, bound: Any, minimum: Any) -> Any:
    """Return the smallest bin, and what all bins share out beyond it, on the scale of the box."""
    real = type(bound)
    box = bound + bound
    return box * minimum, box - box * minimum * real(n_bins)


@compiled
def _search(values: Any, shares: Any, sizes: Any, bound: Any, index: Any, axis: Any, t: Any) -> None:
    """Find the bin of each value on one axis: its index, lower knot and size."""
    real = t.dtype.type
    (least, spread), (inverse, low, size) = sizes, axis
    for i in range(BLOCK):
        width = least + spread * (shares[i] * inverse[i])
        low[i] = -bound
        size[i] = width
        index[i] = real(0)
        t[_KNOT + i] = width - bound
    for k in range(1, len(shares) // BLOCK):
        own = shares[k * BLOCK : (k + 1) * BLOCK]
        number = real(k)
        for i in range(BLOCK):
            width = least + spread * (own[i] * inverse[i])
            knot = t[_KNOT + i]
            passed = values[i] >= knot
            low[i] = knot if passed else low[i]
            size[i] = width if passed else size[i]
            index[i] = number if passed else index[i]
            t[_KNOT + i] = knot + width


@compiled
def _pick(shares: Any, sizes: Any, bound: Any, index: Any, axis: Any, t: Any) -> None:
    """Find lower knot and size of the bins that are known, on the other axis."""
    real = t.dtype.type
    (least, spread), (inverse, low, size) = sizes, axis
    for i in range(BLOCK):
        t[_KNOT + i] = -bound
        low[i] = -bound
        size[i] = real(1)
    for k in range(len(shares) // BLOCK):
        own = shares[k * BLOCK : (k + 1) * BLOCK]
        number = real(k)
        for i in range(BLOCK):
            width = least + spread * (own[i] * inverse[i])
            knot = t[_KNOT + i]
            here = index[i] == number
            low[i] = knot if here else low[i]
            size[i] = width if here else size[i]
            t[_KNOT + i] = knot + width


@inlined
def _slot(state: Any, place: int) -> Any:
    return state[place : place + BLOCK]


@inlined
def _find_slopes(params: Any, n_bins: int, minimum: Any, state: Any) -> None:
    """Find the derivatives at both knots of each bin; 1 at the ends of the box."""
    real = state.dtype.type
    zero, one, last = real(0), real(1), real(n_bins - 1)
    for i in range(BLOCK):
        state[SLOPE_0 + i] = zero
        state[SLOPE_1 + i] = zero
    for k in range(n_bins - 1):
        number = real(k)
        for i in range(BLOCK):
            value = params[2 * n_bins + k, i]
            state[SLOPE_0 + i] = value if state[INDEX + i] == number + one else state[SLOPE_0 + i]
            state[SLOPE_1 + i] = value if state[INDEX + i] == number else state[SLOPE_1 + i]
    for i in range(BLOCK):
        low, high, index = state[SLOPE_0 + i], state[SLOPE_1 + i], state[INDEX + i]
        # softplus, without overflow
        low = minimum + (zero if low < zero else low) + log_positive(one + exp_nonpositive(-abs(low)))
        high = minimum + (zero if high < zero else high) + log_positive(one + exp_nonpositive(-abs(high)))
        state[SLOPE_0 + i] = one if index == zero else low
        state[SLOPE_1 + i] = one if index == last else high


@compiled
def locate(params: Any, n_bins: int, inverse: bool, settings: Any, state: Any, t: Any) -> None:
    """Fill the state of a block whose values are in the slot X.

    Parameters
    ----------
    params : array of shape (3 * n_bins - 1, BLOCK)
    n_bins : int
    inverse : bool
        Whether the values lie on the axis of the outputs.
    settings : array of (bound, scale, minimum)
        Half-width of the box, factor on the logits, smallest share of a bin and smallest derivative.
    state : array of shape (state_size(n_bins),)
    t : array of shape (N_SCRATCH,)
    """
    bound, scale, minimum = settings[0], settings[1], settings[2]
    sizes = _bin_sizes(n_bins, bound, minimum)
    shares_0 = state[_SHARES * BLOCK : (_SHARES + n_bins) * BLOCK]
    shares_1 = state[(_SHARES + n_bins) * BLOCK : (_SHARES + 2 * n_bins) * BLOCK]
    axis_0 = (_slot(state, INVERSE_0), _slot(state, LOW_0), _slot(state, SIZE_0))
    axis_1 = (_slot(state, INVERSE_1), _slot(state, LOW_1), _slot(state, SIZE_1))
    _exponentials(params[:n_bins], scale, shares_0, axis_0[0], t)
    _exponentials(params[n_bins : 2 * n_bins], scale, shares_1, axis_1[0], t)
    index = _slot(state, INDEX)
    if inverse:
        shares_0, shares_1 = shares_1, shares_0
        axis_0, axis_1 = axis_1, axis_0
    _search(_slot(state, X), shares_0, sizes, bound, index, axis_0, t)
    _pick(shares_1, sizes, bound, index, axis_1, t)
    _find_slopes(params, n_bins, minimum, state)


@compiled
def evaluate(settings: Any, state: Any, t: Any) -> None:
    """Write the slots Y and LOG_DET: equations 4 and 5 of Durkan et al. in each element's bin."""
    real = state.dtype.type
    zero, one, two, bound = real(0), real(1), real(2), settings[0]
    for i in range(BLOCK):
        x, d0, d1, h = state[X + i], state[SLOPE_0 + i], state[SLOPE_1 + i], state[SIZE_1 + i]
        inverse_w = one / state[SIZE_0 + i]
        s = h * inverse_w
        theta = (x - state[LOW_0 + i]) * inverse_w
        theta = zero if theta < zero else theta
        theta = one if theta > one else theta
        rest = one - theta
        mixed = theta * rest
        # At least s / 2, as mixed <= 1/4 and derivatives are positive.
        inverse_d = one / (s + (d0 + d1 - two * s) * mixed)
        ratio = s * inverse_d
        inner = d1 * theta * theta + two * s * mixed + d0 * rest * rest
        y = state[LOW_1 + i] + h * (s * theta * theta + d0 * mixed) * inverse_d
        log_det = log_positive(ratio * ratio * inner)
        outside = abs(x) > bound
        t[Y + i] = x if outside else y
        t[LOG_DET + i] = zero if outside else log_det


@compiled
def evaluate_inverse(settings: Any, state: Any, t: Any) -> None:
    """Write the slots Y and LOG_DET of the inverse map: equations 6 to 8, without cancellation.

    See `_splines._evaluate_inverse` for the form in which the quadratic is solved.
    """
    real = state.dtype.type
    zero, one, two, bound = real(0), real(1), real(2), settings[0]
    for i in range(BLOCK):
        x, d0, d1 = state[X + i], state[SLOPE_0 + i], state[SLOPE_1 + i]
        w, inverse_h = state[SIZE_0 + i], one / state[SIZE_1 + i]
        s = state[SIZE_1 + i] / w
        share = (x - state[LOW_1 + i]) * inverse_h
        share = zero if share < zero else share
        share = one if share > one else share
        both = d0 + d1
        bend = both - two * s
        b = d0 - share * bend
        root = d0 - share * both
        total = abs(b) + math.sqrt(root * root + two * two * s * s * (share * (one - share)))
        theta = two * s * share / total if b >= zero else total / (two * (s + abs(b)))
        theta = one if theta > one else theta
        rest = one - theta
        mixed = theta * rest
        ratio = s / (s + bend * mixed)
        inner = d1 * theta * theta + two * s * mixed + d0 * rest * rest
        y = theta * w + state[LOW_0 + i]
        log_det = -log_positive(ratio * ratio * inner)
        outside = abs(x) > bound
        t[Y + i] = x if outside else y
        t[LOG_DET + i] = zero if outside else log_det


@compiled
def gradient(n_bins: int, settings: Any, state: Any, t: Any, of_params: Any) -> None:
    """Write the slot OF_X and of_params, given OF_Y and OF_LOG_DET and the state of the forward map."""
    bound, scale, minimum = settings[0], settings[1], settings[2]
    sizes = _bin_sizes(n_bins, bound, minimum)
    _bin_gradient(bound, minimum, state, t)
    axis = (_slot(state, INVERSE_0), _slot(state, LOW_0), _slot(state, SIZE_0))
    given = (_slot(t, _OF_LOW_0), _slot(t, _OF_SIZE_0))
    shares = state[_SHARES * BLOCK : (_SHARES + n_bins) * BLOCK]
    _share_gradient(shares, sizes, scale, bound, _slot(state, INDEX), axis, given, t, of_params[:n_bins])
    axis = (_slot(state, INVERSE_1), _slot(state, LOW_1), _slot(state, SIZE_1))
    given = (_slot(t, _OF_LOW_1), _slot(t, _OF_SIZE_1))
    shares = state[(_SHARES + n_bins) * BLOCK : (_SHARES + 2 * n_bins) * BLOCK]
    out = of_params[n_bins : 2 * n_bins]
    _share_gradient(shares, sizes, scale, bound, _slot(state, INDEX), axis, given, t, out)
    _slope_gradient(n_bins, state, t, of_params)


@inlined
def _bin_gradient(bound: Any, minimum: Any, state: Any, t: Any) -> None:
    """Write the gradients of the inputs, and of lower knots, sizes and raw derivatives of each bin."""
    real = state.dtype.type
    zero, one, two = real(0), real(1), real(2)
    for i in range(BLOCK):
        x, gy, gl = state[X + i], t[OF_Y + i], t[OF_LOG_DET + i]
        d0, d1, h = state[SLOPE_0 + i], state[SLOPE_1 + i], state[SIZE_1 + i]
        inverse_w = one / state[SIZE_0 + i]
        s = h * inverse_w
        theta = (x - state[LOW_0 + i]) * inverse_w
        rest = one - theta
        mixed, turn = theta * rest, one - two * theta
        bend = d0 + d1 - two * s
        inverse_d = one / (s + bend * mixed)
        top = s * theta * theta + d0 * mixed
        # Gradients of numerator, denominator and bracket of equation 5, then of slope and place in the bin.
        g_top = gy * h * inverse_d
        g_bottom = -(g_top * top + two * gl) * inverse_d
        g_inner = gl / (d1 * theta * theta + two * s * mixed + d0 * rest * rest)
        g_s = g_top * theta * theta + g_bottom * (one - two * mixed) + two * (gl / s + g_inner * mixed)
        g_theta = g_top * (two * s * theta + d0 * turn) + g_bottom * bend * turn
        g_theta += two * g_inner * (d1 * theta + s * turn - d0 * rest)
        outside = abs(x) > bound
        t[OF_X + i] = gy if outside else g_theta * inverse_w
        t[_OF_LOW_0 + i] = zero if outside else -g_theta * inverse_w
        t[_OF_LOW_1 + i] = zero if outside else gy
        t[_OF_SIZE_0 + i] = zero if outside else -(g_s * s + g_theta * theta) * inverse_w
        t[_OF_SIZE_1 + i] = zero if outside else gy * top * inverse_d + g_s * inverse_w
        # The derivative of softplus(r) is 1 - exp(-softplus(r)).
        raw_0 = one - exp_nonpositive(minimum - d0)
        raw_1 = one - exp_nonpositive(minimum - d1)
        t[_OF_SLOPE_0 + i] = zero if outside else ((g_top + g_bottom) * mixed + g_inner * rest * rest) * raw_0
        t[_OF_SLOPE_1 + i] = zero if outside else (g_bottom * mixed + g_inner * theta * theta) * raw_1


@compiled
def _share_gradient(
    shares: Any, sizes: Any, scale: Any, bound: Any, index: Any, axis: Any, given: Any, t: Any, out: Any
) -> None:
    """Write the gradients of the logits (K, BLOCK) of one axis, through the softmax."""
    real = t.dtype.type
    (least, spread), (inverse, low, size), (of_low, of_size) = sizes, axis, given
    zero, factor, inverse_spread = real(0), spread * scale, real(1) / spread
    for i in range(BLOCK):
        below = (low[i] + bound - least * index[i]) * inverse_spread
        t[_MEAN + i] = of_low[i] * below + of_size[i] * ((size[i] - least) * inverse_spread)
        t[_KNOT + i] = factor * inverse[i]
    for k in range(len(out)):
        share, target = shares[k * BLOCK : (k + 1) * BLOCK], out[k]
        number = real(k)
        for i in range(BLOCK):
            own = of_size[i] if index[i] == number else zero
            own = of_low[i] if index[i] > number else own
            target[i] = t[_KNOT + i] * share[i] * (own - t[_MEAN + i])


@inlined
def _slope_gradient(n_bins: int, state: Any, t: Any, of_params: Any) -> None:
    real = state.dtype.type
    zero, one = real(0), real(1)
    for k in range(n_bins - 1):
        number = real(k)
        for i in range(BLOCK):
            value = t[_OF_SLOPE_0 + i] if state[INDEX + i] == number + one else zero
            of_params[2 * n_bins + k, i] = t[_OF_SLOPE_1 + i] if state[INDEX + i] == number else value


# --- whole arrays ---------------------------------------------------------------------------------------


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
