"""Numbers as the bundle writes them: six digits, which is what float32 is worth after a sum or two."""

from collections.abc import Iterable

from torch import Tensor

DIGITS = 6
Number = float | int


def number(value: Number | Tensor) -> Number:
    """`value` to six significant digits; a whole number without its point, to save room.

    A number that is not finite has no JSON: it becomes the largest of float32 (NaN becomes 0).
    """
    value = float(value)
    if value != value:
        return 0
    value = float(f"{max(-3.4e38, min(3.4e38, value)):.{DIGITS}g}")
    return int(value) if value.is_integer() and abs(value) < 1e15 else value


def numbers(values: Tensor | Iterable[Number]) -> list[Number]:
    """Each of `values`, flat."""
    return [number(value) for value in (values.flatten().tolist() if isinstance(values, Tensor) else values)]


def decimals(values: Tensor, places: int = 4) -> list[Number]:
    """Each of `values`, such as probabilities, to so many places."""
    found = [round(value, places) for value in values.flatten().tolist()]
    return [int(value) if value.is_integer() else value for value in found]
