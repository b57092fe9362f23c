"""The compiled exp: its error in units in the last place, and its ends."""

import numpy as np
import pytest
from numba import njit

from sparse_circuits.kernels.exponential import exponential


@njit
def _many(x: np.ndarray, y: np.ndarray) -> None:
    for place in range(x.size):
        y[place] = exponential(x[place])


def computed(x: np.ndarray) -> np.ndarray:
    y = np.empty_like(x)
    _many(x, y)
    return y


def test_error_is_about_one_unit_in_the_last_place() -> None:
    x = np.linspace(-86.98, 88.72, 2_000_001).astype(np.float32)
    exact = np.exp(x.astype(np.float64))
    unit = np.spacing(exact.astype(np.float32)).astype(np.float64)
    assert (np.abs(computed(x) - exact) / unit).max() < 1.25


def test_powers_of_two_around_each_switch_of_the_exponent() -> None:
    """Half way between two multiples of ln 2, where the range reduction changes sides."""
    middle = ((np.arange(-125, 127) + 0.5) * np.log(2)).astype(np.float32)
    x = np.concatenate([np.nextafter(middle, np.float32(-200)), middle, np.nextafter(middle, np.float32(200))])
    np.testing.assert_allclose(computed(x), np.exp(x.astype(np.float64)), rtol=1.2e-7)


@pytest.mark.parametrize(
    ("x", "expected"),
    [
        (0.0, 1.0),
        (-0.0, 1.0),
        (1e-30, 1.0),
        (-np.inf, 0.0),
        (-1e30, 0.0),
        (-87.0, 0.0),
        (88.73, np.inf),
        (1e30, np.inf),
        (np.inf, np.inf),
        (np.nan, np.nan),
    ],
)
def test_ends(x: float, expected: float) -> None:
    np.testing.assert_array_equal(computed(np.full(33, x, np.float32)), np.full(33, expected, np.float32))


def test_every_kind_of_nan_stays_one() -> None:
    x = np.array([0x7F800001, 0x7FC01234, 0xFF800001, 0xFFFFFFFF] * 8, np.uint32).view(np.float32)
    assert np.isnan(computed(x)).all()
