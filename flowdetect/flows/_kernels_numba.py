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

from flowdetect._utils.jit import compiled, inlined
from flowdetect.flows._math_numba import exp_nonpositive, log_positive

__all__ = [
    "BLOCK",
    "N_SCRATCH",
    "evaluate",
    "evaluate_inverse",
    "gradient",
    "locate",
    "state_size",
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
