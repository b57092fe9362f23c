"""exp for float32 in compiled code, of operations that vector units have, so that loops over it become vector code.

1. exp(x) = 2^n * exp(r), n the integer nearest to x / ln 2. Adding 1.5 * 2^23 rounds to an integer and leaves it in
   the low bits; adding 126 more makes these bits the exponent of 2^(n - 1), once they are shifted into place.
2. r = x - n * ln 2, with ln 2 in two parts so that nothing is lost; |r| is at most ln 2 / 2.
3. 2 * exp(r) by a polynomial of least relative error (2e-9), and the product of it with 2^(n - 1).

Ends: the clamps let NaN through; above 88.72 the product overflows to infinity by itself; below -86.99 the factor
2^(n - 1) is 0, so that results below 2^-125.5 are 0. Elsewhere the error is below 1.1 ulp, and exp(0) is 1.

`emit_power_of_two` is the same for 2^x with x at most 127: fewer steps, an error below 2 ulp.
"""

from collections.abc import Sequence
from typing import Any, no_type_check

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic

_ROUND = 1.5 * 2**23 + 126
_PER_LN2 = 1.4426950408889634
# The first part has 9 trailing zero bits, so its product with n is exact without fused operations too.
_LN2_HIGH, _LN2_LOW = 0.693359375, -2.12194440e-4
# Twice the function around 0, highest power first, rounded to float32.
_TWICE_EXP = (
    0.002767358673736453,
    0.016749713569879532,
    0.08333645761013031,
    0.33332839608192444,
    0.9999998211860657,
    2.0,
    2.0,
)
_TWICE_POWER = (
    0.00265293987467885,
    0.019343066960573196,
    0.11101467907428741,
    0.4804448485374451,
    1.3862940073013306,
    2.0,
)


@intrinsic
@no_type_check
def exponential(context, x):
    """exp(x) of a float32, as the module says."""

    def generate(context, builder, signature, arguments):
        return emit_exponential(builder, arguments[0])

    return types.float32(types.float32), generate


def emit_exponential(builder: Any, x: Any) -> Any:
    """The instructions for exp of `x`, a float or a vector of floats."""
    # A comparison with NaN is False and keeps it.
    lowest, highest = _constant(x.type, -87.3), _constant(x.type, 89.0)
    x = builder.select(builder.fcmp_ordered("<", x, lowest), lowest, x)
    x = builder.select(builder.fcmp_ordered(">", x, highest), highest, x)
    rounded = _multiply_add(builder, x, _constant(x.type, _PER_LN2), _constant(x.type, _ROUND))
    n = builder.fsub(rounded, _constant(x.type, _ROUND))
    r = _multiply_add(builder, n, _constant(x.type, -_LN2_HIGH), x)
    r = _multiply_add(builder, n, _constant(x.type, -_LN2_LOW), r)
    return _scaled(builder, _polynomial(builder, r, _TWICE_EXP), rounded)


def emit_power_of_two(builder: Any, x: Any) -> Any:
    """The instructions for 2^x, x a float or a vector of floats, each at most 127."""
    lowest = _constant(x.type, -126.0)
    x = builder.select(builder.fcmp_ordered("<", x, lowest), lowest, x)
    rounded = builder.fadd(x, _constant(x.type, _ROUND))
    r = builder.fsub(x, builder.fsub(rounded, _constant(x.type, _ROUND)))
    return _scaled(builder, _polynomial(builder, r, _TWICE_POWER), rounded)


def _constant(kind: Any, value: float) -> Any:
    return ir.Constant(kind, [value] * kind.count if isinstance(kind, ir.VectorType) else value)


def _multiply_add(builder: Any, left: Any, right: Any, added: Any) -> Any:
    return builder.fadd(builder.fmul(left, right, flags=("contract",)), added, flags=("contract",))


def _polynomial(builder: Any, r: Any, coefficients: Sequence[float]) -> Any:
    result = _constant(r.type, coefficients[0])
    for coefficient in coefficients[1:]:
        result = _multiply_add(builder, result, r, _constant(r.type, coefficient))
    return result


def _scaled(builder: Any, doubled: Any, rounded: Any) -> Any:
    """doubled * 2^(n - 1), n + 126 being in the low bits of `rounded`."""
    word = ir.IntType(32)
    integer = ir.VectorType(word, doubled.type.count) if isinstance(doubled.type, ir.VectorType) else word
    places = ir.Constant(integer, [23] * integer.count if isinstance(integer, ir.VectorType) else 23)
    factor = builder.bitcast(builder.shl(builder.bitcast(rounded, integer), places), doubled.type)
    return builder.fmul(doubled, factor)
