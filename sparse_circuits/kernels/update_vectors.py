"""AdamW as instructions for vectors, since it does too much at once for LLVM to make vector code of a loop.

`step` updates LANES entries in memory and says, as bits, which of them the projection has to note down; `change` is the
part of it that can be computed again later, for a single entry. Both are the same instructions, so they agree to the
last bit.
"""

from typing import Any, no_type_check

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from sparse_circuits.kernels.sizes import CEILING, LANES, MAGNITUDE

_FLOAT, _INTEGER, _LONG, _BIT = ir.FloatType(), ir.IntType(32), ir.IntType(64), ir.IntType(1)
_FLOATS, _INTEGERS = ir.VectorType(_FLOAT, LANES), ir.VectorType(_INTEGER, LANES)


def _multiply_add(builder: Any, left: Any, right: Any, added: Any) -> Any:
    return builder.fadd(builder.fmul(left, right, flags=("contract",)), added, flags=("contract",))


def _splat(builder: Any, value: Any) -> Any:
    unknown = ir.Constant(ir.VectorType(value.type, LANES), ir.Undefined)
    first = builder.insert_element(unknown, value, _INTEGER(0))
    return builder.shuffle_vector(first, unknown, ir.Constant(_INTEGERS, [0] * LANES))


def _change(builder: Any, average: Any, square: Any, rate: Any, root: Any, epsilon: Any) -> Any:
    """rate * average / (root * sqrt(square) + epsilon), of floats or vectors."""
    name = f"llvm.sqrt.v{LANES}f32" if square.type == _FLOATS else "llvm.sqrt.f32"
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(square.type, [square.type]), name)
    below = _multiply_add(builder, builder.call(function, [square]), root, epsilon)
    return builder.fdiv(builder.fmul(rate, average), below)


@intrinsic
@no_type_check
def change(context, average, square, rate, root, epsilon):
    """What an entry with these moments loses, but for the decay."""

    def generate(context, builder, signature, arguments):
        return _change(builder, *arguments)

    return types.float32(*[types.float32] * 5), generate


@intrinsic
@no_type_check
def step(context, p, m, v, g, to_p, to_m, to_v, new, rates, live, low, high):
    """Update the LANES entries at the addresses p, m and v by the gradient at g, and write them to to_p, to_m and to_v.

    1. The new values go to the address `new`, and to to_p where their key is from `low` on; +0.0 for the others.
    2. Where `live` is not 0, entries of p that are zero stay, and so do their moments.
    3. `rates`: scale, decay, part, part of the square, rate, root, epsilon, in float32.

    Returns bits: LANES say which keys are from low to high, LANES which are below but were not zero, LANES which are
    from high on.
    """

    def generate(context, builder, signature, arguments):
        places = [builder.inttoptr(address, _FLOATS.as_pointer()) for address in arguments[:8]]
        numbers = [_splat(builder, builder.extract_value(arguments[8], i)) for i in range(7)]
        return _step(builder, places, numbers, arguments[9], *[_splat(builder, key) for key in arguments[10:]])

    numbers = types.UniTuple(types.float32, 7)
    return types.int64(*[types.int64] * 8, numbers, types.int64, types.int32, types.int32), generate


def _step(builder: Any, places: list[Any], rates: list[Any], live: Any, low: Any, high: Any) -> Any:
    scale, decay, part, part_of_square, *others = rates
    p, m, v, g = (builder.load(place, align=4) for place in places[:4])
    zero = ir.Constant(_FLOATS, [0.0] * LANES)
    gradient = builder.fmul(g, scale)
    average = _multiply_add(builder, builder.fsub(gradient, m), part, m)
    square = _multiply_add(builder, builder.fsub(builder.fmul(gradient, gradient), v), part_of_square, v)
    # Adding +0.0 turns -0.0 into it, so that a zero tells nothing of how it came about.
    value = builder.fadd(builder.fsub(builder.fmul(p, decay), _change(builder, average, square, *others)), zero)
    was_zero = builder.fcmp_ordered("==", p, zero)
    still = builder.and_(was_zero, _splat(builder, builder.icmp_signed("!=", live, _LONG(0))))
    average, square, value = (builder.select(still, *pair) for pair in ((m, average), (v, square), (p, value)))
    keys = builder.and_(builder.bitcast(value, _INTEGERS), ir.Constant(_INTEGERS, [MAGNITUDE] * LANES))
    ceiling = ir.Constant(_INTEGERS, [CEILING] * LANES)
    keys = builder.select(builder.icmp_signed("<", keys, ceiling), keys, ceiling)
    from_low, from_high = builder.icmp_signed(">=", keys, low), builder.icmp_signed(">=", keys, high)
    kept = builder.select(from_low, value, zero)
    for vector, place in zip((kept, average, square, value), places[4:], strict=True):
        builder.store(vector, place, align=4)
    window = builder.and_(from_low, builder.not_(from_high))
    dropped = builder.not_(builder.or_(from_low, was_zero))
    bits = _bits(builder, window)
    for number, mask in ((1, dropped), (2, from_high)):
        bits = builder.or_(bits, builder.shl(_bits(builder, mask), _LONG(number * LANES)))
    return bits


def _bits(builder: Any, mask: Any) -> Any:
    return builder.zext(builder.bitcast(mask, ir.IntType(LANES)), _LONG)


@intrinsic
@no_type_check
def first_bit(context, bits):
    """The number of the lowest bit that is set; there is one."""

    def generate(context, builder, signature, arguments):
        return builder.cttz(arguments[0], _BIT(1))

    return types.int64(types.int64), generate


@intrinsic
@no_type_check
def count_bits(context, bits):
    """How many bits are set."""

    def generate(context, builder, signature, arguments):
        return builder.ctpop(arguments[0])

    return types.int64(types.int64), generate
