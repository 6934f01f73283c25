"""exp and log, written out so that the compiler can turn loops over them into vector instructions."""

import math
from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic, overload

__all__ = ["exp_nonpositive", "log_positive"]


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
