"""Vectors of floats in compiled code against NumPy: what is done lane by lane, across lanes, and in tiles."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from sparse_circuits.kernels import vectors
from sparse_circuits.kernels.vectors import HALF, LANES


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


@njit
def _lanes(x: int, y: int, count: int, out: int) -> None:
    left, right = vectors.load(x, LANES), vectors.load(y, LANES)
    step = 4 * LANES
    vectors.store(out, left + right)
    vectors.store(out + step, left - right)
    vectors.store(out + 2 * step, left * right)
    vectors.store(out + 3 * step, vectors.maximum(left, right))
    vectors.store(out + 4 * step, vectors.hide(left, count))
    vectors.store(out + 5 * step, vectors.splat(np.float32(count), LANES))


@pytest.mark.parametrize("count", [0, 1, 7, 16, 40])
def test_lane_by_lane(count: int) -> None:
    x, y, out = random(LANES), random(2, LANES)[1], np.zeros((6, LANES), np.float32)
    _lanes(x.ctypes.data, y.ctypes.data, count, out.ctypes.data)
    np.testing.assert_array_equal(out[:3], [x + y, x - y, x * y])
    np.testing.assert_array_equal(out[3], np.maximum(x, y))
    np.testing.assert_array_equal(out[4], np.where(np.arange(LANES) < count, -np.inf, x))
    np.testing.assert_array_equal(out[5], np.full(LANES, count))


def test_the_larger_of_a_number_and_nan_is_the_right_one() -> None:
    x, y, out = random(LANES), np.full(LANES, np.nan, np.float32), np.zeros((6, LANES), np.float32)
    _lanes(x.ctypes.data, y.ctypes.data, 0, out.ctypes.data)
    assert np.isnan(out[3]).all()
    _lanes(y.ctypes.data, x.ctypes.data, 0, out.ctypes.data)
    np.testing.assert_array_equal(out[3], x)


@njit
def _powers(x: int, count: int, out: int) -> None:
    for at in range(0, 4 * count, 4 * LANES):
        vectors.store(out + at, vectors.power_of_two(vectors.load(x + at, LANES)))


def test_powers_of_two() -> None:
    x = np.linspace(-125.4, 127, LANES * 50_000).astype(np.float32)
    out = np.empty_like(x)
    _powers(x.ctypes.data, x.size, out.ctypes.data)
    np.testing.assert_allclose(out, np.exp2(x.astype(np.float64)), rtol=2e-7)
    ends = np.array([0, -0.0, -126, -1e30, -math.inf, math.nan, 1, -3] * 2, np.float32)
    found = np.empty_like(ends)
    _powers(ends.ctypes.data, LANES, found.ctypes.data)
    np.testing.assert_array_equal(found, [1, 1, 0, 0, 0, math.nan, 2, 0.125] * 2)


@njit
def _across_lanes(x: int, row: int, turned: int, y: int, count: int, products: int) -> None:
    vectors.transpose(x, row, turned, HALF + 3)
    vectors.store(products, vectors.inner_products(y, x, row, count))


@pytest.mark.parametrize("count", [0, HALF, 3 * HALF])
def test_across_lanes(count: int) -> None:
    x, y, turned, products = random(HALF, 30), random(30), np.zeros((HALF, HALF + 3), np.float32), random(HALF)
    _across_lanes(x.ctypes.data, 30, turned.ctypes.data, y.ctypes.data, count, products.ctypes.data)
    np.testing.assert_array_equal(turned[:, :HALF], x[:, :HALF].T)
    assert not turned[:, HALF:].any()
    np.testing.assert_allclose(products, x[:, :count] @ y[:count], atol=1e-5)


_tile, _column = vectors.product(3, 2), vectors.product(5, 1, HALF)


@njit
def _multiply(a: int, a_row: int, a_step: int, b: int, c: int, steps: int, keep: int, wide: bool) -> None:
    if wide:
        _tile(a, a_row, a_step, b, 40, c, 50, steps, keep)
    else:
        _column(a, a_row, a_step, b, 40, c, 50, steps, keep)


@given(steps=st.integers(0, 9), keep=st.booleans(), wide=st.booleans(), by_column=st.booleans())
@settings(max_examples=30, deadline=None)
def test_products(steps: int, keep: bool, wide: bool, by_column: bool) -> None:
    rows, columns = (3, 2 * LANES) if wide else (5, HALF)
    a, b, c = random(rows, 9), random(9, 40), random(rows, 50)
    expected = c.copy()
    expected[:, :columns] = a[:, :steps] @ b[:steps, :columns] + (c[:, :columns] if keep else 0)
    stored, strides = (a.T.copy(), (1, rows)) if by_column else (a, (9, 1))
    _multiply(stored.ctypes.data, *strides, b.ctypes.data, c.ctypes.data, steps, int(keep), wide)
    np.testing.assert_allclose(c, expected, atol=1e-5)
