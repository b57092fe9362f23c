"""How a compiled kernel claims its work, and what Numba lacks for it.

1. `first_turn`, `share`: the next piece of work of a job that `threads.run` has filled.
2. `pointer`, `narrow`, `fetch_add`, `call`: addresses, integer types, atomic addition, calls.
"""

from typing import no_type_check

from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit, types
from numba.extending import intrinsic


@intrinsic
@no_type_check
def pointer(context, address, unit):
    """The address as a pointer to values of the type of `unit`."""

    def generate(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.CPointer(unit)(types.int64, unit), generate


@intrinsic
@no_type_check
def narrow(context, value, unit):
    """The integer in the type of `unit`. Compiled code adds in int64 unless told otherwise."""

    def generate(context, builder, signature, arguments):
        return context.cast(builder, arguments[0], signature.args[0], signature.return_type)

    return unit(value, unit), generate


@intrinsic
@no_type_check
def fetch_add(context, address, amount):
    """Add to the int64 at the address, in one indivisible step; returns what was there before."""

    def generate(context, builder, signature, arguments):
        place = builder.inttoptr(arguments[0], context.get_value_type(types.CPointer(types.int64)))
        return builder.atomic_rmw("add", place, arguments[1], "monotonic")

    return types.int64(types.int64, types.int64), generate


@intrinsic
@no_type_check
def call(context, address):
    """Call the C function at the address, which takes nothing and returns an int."""

    def generate(context, builder, signature, arguments):
        function = ir.FunctionType(ir.IntType(32), [])
        result = builder.call(builder.inttoptr(arguments[0], function.as_pointer()), [])
        return builder.sext(result, ir.IntType(64))

    return types.int64(types.int64), generate


@njit
@no_type_check
def first_turn(job):
    """The segment that the thread begins with: its number in the team, or how many began before it."""
    number = call(job.number) if job.number != 0 else fetch_add(job.shared, 1)
    return number % job.segments


@njit
@no_type_check
def share(job, turn):
    """Claim work: its start, its stop, and the turn to ask with next time. Without any left, start is stop.

    A turn is a segment, counted on beyond the last one, until it has gone around.
    """
    for later in range(job.segments):
        segment = (turn + later) % job.segments
        stop = job.total * (segment + 1) // job.segments
        start = fetch_add(job.shared + 8 + 8 * segment, job.claim)
        if start < stop:
            return start, min(start + job.claim, stop), segment
    return 0, 0, turn
