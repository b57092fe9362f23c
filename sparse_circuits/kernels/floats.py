"""Floats in compiled code: their bits in memory, and the error function's relatives, all as vector code.

Memory holds bits: int32 for fp32, int16 for bf16. Arithmetic is float32.
1. `widened`, `rounded`, `converted`: from bits to float32, back, and to other bits; bf16 is rounded to nearest, ties
   to even, NaN stays NaN.
2. `multiply_add`: one rounding where the processor can.
3. `normal_tail`: the standard normal distribution beyond z, and its density at z, which give GELU and its derivative:
   Phi(-z) = exp(-z^2 / 2) t P(t) with t = 1 / (1 + 0.35 z) and P a polynomial of least relative error (3e-8).
"""

from typing import Any, no_type_check

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit, types
from numba.extending import intrinsic

from sparse_circuits.kernels.exponential import exponential

_SHORT, _INTEGER, _FLOAT = ir.IntType(16), ir.IntType(32), ir.FloatType()
_QUIET = 0x7FC0  # the bits of a NaN in bf16

_STEEPNESS = np.float32(0.35)
_HALF, _ONE = np.float32(0.5), np.float32(1)
_DENSITY = np.float32(0.3989422804014327)  # 1 / sqrt(2 pi)
_TAIL = tuple(
    np.float32(coefficient)
    for coefficient in (
        -0.0291459079673082,
        0.14397161231269054,
        -0.2557141244350343,
        0.15917406394754946,
        -0.02310980339940064,
        0.10550800466842276,
        0.11983286411429289,
        0.13986187059426747,
        0.13962140422223665,
    )
)


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


@intrinsic
@no_type_check
def converted(context, bits, unit):
    """The bits of a float as those of another dtype; the same bits where it is the same dtype."""

    def generate(context, builder, signature, arguments):
        if signature.args[0] == signature.return_type:
            return arguments[0]
        return _rounded(builder, _widened(builder, arguments[0]), signature.return_type)

    return unit(bits, unit), generate


@intrinsic
@no_type_check
def multiply_add(context, left, right, added):
    """left * right + added of float32, as a single operation where there is one."""

    def generate(context, builder, signature, arguments):
        product = builder.fmul(arguments[0], arguments[1], flags=("contract",))
        return builder.fadd(product, arguments[2], flags=("contract",))

    return types.float32(types.float32, types.float32, types.float32), generate


# Python's division would look for zeros, and that is no vector code.
@njit(error_model="numpy")
@no_type_check
def normal_tail(z):
    """Phi(-z) and the density at z of the standard normal distribution, for z of 0 or more."""
    power = exponential(-_HALF * z * z)
    t = _ONE / multiply_add(_STEEPNESS, z, _ONE)
    tail = _TAIL[0]
    for coefficient in _TAIL[1:]:
        tail = multiply_add(tail, t, coefficient)
    return tail * t * power, _DENSITY * power


@njit
@no_type_check
def gelu(x):
    """x Phi(x) of a float32."""
    tail, _ = normal_tail(abs(x))
    return x * (_ONE - tail if x > np.float32(0) else tail)


@njit
@no_type_check
def gelu_slope(x):
    """The derivative of GELU: Phi(x) + x density(x)."""
    tail, density = normal_tail(abs(x))
    return multiply_add(x, density, _ONE - tail if x > np.float32(0) else tail)
