"""Floats in compiled code: their bits in memory, and the error function's relatives, all as vector code.

Memory holds bits: int32 for fp32, int16 for bf16. Arithmetic is float32.
1. `widened`, `rounded`: from bits to float32 and back; bf16 is rounded to nearest, ties
   to even, NaN stays NaN.
2. `gelu`, `gelu_slope`: x Phi(x) and its derivative, within 1e-7 and 2e-7, from
   - the tail Phi(-z) = 2^P(z), with z = |x|, P a polynomial, and 2^P by another polynomial between whole powers;
   - the slope Phi(-z) - z density(z) = Phi(-z) G(z), with G a third polynomial.
   All three are fitted with weights that make the errors of the products even, on z up to 6; beyond, both are 0.
"""

from typing import Any, no_type_check

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit, types
from numba.extending import intrinsic

_SHORT, _INTEGER, _FLOAT = ir.IntType(16), ir.IntType(32), ir.FloatType()
_QUIET = 0x7FC0  # the bits of a NaN in bf16

_ZERO, _ONE = np.float32(0), np.float32(1)
_FAR = 6.0
# Rounded to float32, highest power first.
_LOG_TAIL = (
    1.5243584527979692e-07,
    -3.831787125818664e-06,
    3.795307202381082e-05,
    -0.00015917902055662125,
    -0.0002228711236966774,
    0.007185908500105143,
    -0.05258132517337799,
    -0.45918118953704834,
    -1.1511083841323853,
    -0.9999999403953552,
)
_POWER = (
    0.0013276472454890609,
    0.009675541892647743,
    0.05550713092088699,
    0.24022120237350464,
    0.6931469440460205,
    1.0000001192092896,
)
_SLOPE = (
    -1.2892969891709072e-07,
    3.7383256312750746e-06,
    -4.5551048970082775e-05,
    0.00029389941482804716,
    -0.00093660136917606,
    -0.0003946638898923993,
    0.019659364596009254,
    -0.10926678031682968,
    -0.636558473110199,
    -0.7978898882865906,
    1.0000001192092896,
)
# Added to a number it rounds it to an integer, which it leaves in the low bits as the exponent of a power of 2.
_ROUND = 1.5 * 2**23 + 127


@intrinsic
@no_type_check
def widened(context, bits):
    """The float32 of the bits of an fp32 (int32) or a bf16 (int16)."""

    def generate(context, builder, signature, arguments):
        return _widened(builder, arguments[0])

    return types.float32(bits), generate


def _widened(builder: Any, value: Any) -> Any:
    if value.type == _SHORT:
        value = builder.shl(builder.zext(value, _INTEGER), _INTEGER(16))
    return builder.bitcast(value, _FLOAT)


@intrinsic
@no_type_check
def rounded(context, value, unit):
    """The bits of the float32 `value`: of an fp32 where `unit` is int32, of the nearest bf16 where it is int16."""

    def generate(context, builder, signature, arguments):
        return _rounded(builder, arguments[0], signature.return_type)

    return unit(types.float32, unit), generate


def _rounded(builder: Any, value: Any, unit: Any) -> Any:
    bits = builder.bitcast(value, _INTEGER)
    if unit == types.int32:
        return bits
    odd = builder.and_(builder.lshr(bits, _INTEGER(16)), _INTEGER(1))
    nearest = builder.lshr(builder.add(bits, builder.add(odd, _INTEGER(0x7FFF))), _INTEGER(16))
    is_nan = builder.fcmp_unordered("uno", value, value)
    return builder.trunc(builder.select(is_nan, _INTEGER(_QUIET), nearest), _SHORT)


def _multiply_add(builder: Any, left: Any, right: Any, added: Any) -> Any:
    return builder.fadd(builder.fmul(left, right, flags=("contract",)), added, flags=("contract",))


def _polynomial(builder: Any, x: Any, coefficients: tuple[float, ...]) -> Any:
    value = _FLOAT(coefficients[0])
    for coefficient in coefficients[1:]:
        value = _multiply_add(builder, value, x, _FLOAT(coefficient))
    return value


@intrinsic
@no_type_check
def _tail(context, x):
    """Phi(-|x|), and the slope of GELU at -|x|."""

    def generate(context, builder, signature, arguments):
        bits = builder.and_(builder.bitcast(arguments[0], _INTEGER), _INTEGER(0x7FFFFFFF))
        z = builder.bitcast(bits, _FLOAT)
        is_far = builder.fcmp_ordered(">", z, _FLOAT(_FAR))
        power = _polynomial(builder, z, _LOG_TAIL)
        exponent = builder.fadd(power, _FLOAT(_ROUND))
        part = builder.fsub(power, builder.fsub(exponent, _FLOAT(_ROUND)))
        whole = builder.bitcast(builder.shl(builder.bitcast(exponent, _INTEGER), _INTEGER(23)), _FLOAT)
        tail = builder.fmul(_polynomial(builder, part, _POWER), whole)
        slope = builder.fmul(_polynomial(builder, z, _SLOPE), tail)
        zero = _FLOAT(0.0)
        both = [builder.select(is_far, zero, value) for value in (tail, slope)]
        return context.make_tuple(builder, signature.return_type, both)

    return types.UniTuple(types.float32, 2)(types.float32), generate


@njit
@no_type_check
def gelu(x):
    """x Phi(x) of a float32."""
    tail, _ = _tail(x)
    return x * (_ONE - tail if x > _ZERO else tail)


@njit
@no_type_check
def gelu_slope(x):
    """The derivative of GELU: Phi(x) + x density(x)."""
    _, slope = _tail(x)
    return _ONE - slope if x > _ZERO else slope


@njit
@no_type_check
def gelu_and_slope(x):
    """Both at once."""
    tail, slope = _tail(x)
    return (x * (_ONE - tail), _ONE - slope) if x > _ZERO else (x * tail, slope)
