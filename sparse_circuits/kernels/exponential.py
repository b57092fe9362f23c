"""exp for float32 in compiled code, of operations that vector units have, so that loops over it become vector code.

1. exp(x) = 2^n * exp(r), n the integer nearest to x / ln 2. Adding 1.5 * 2^23 rounds to an integer and leaves it in
   the low bits; adding 126 more makes these bits the exponent of 2^(n - 1), once they are shifted into place.
2. r = x - n * ln 2, with ln 2 in two parts so that nothing is lost; |r| is at most ln 2 / 2.
3. 2 * exp(r) by a polynomial of least relative error (2e-9), and the product of it with 2^(n - 1).

Ends: the clamps let NaN through; above 88.72 the product overflows to infinity by itself; below -86.99 the factor
2^(n - 1) is 0, so that results below 2^-125.5 are 0. Elsewhere the error is below 1.1 ulp, and exp(0) is 1.
"""

from typing import no_type_check

import numpy as np
from numba import njit

_LOWEST, _HIGHEST = np.float32(-87.3), np.float32(89.0)
_PER_LN2 = np.float32(1.4426950408889634)
_ROUND = np.float32(1.5 * 2**23 + 126)
# The first part has 9 trailing zero bits, so its product with n is exact without fused operations too.
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
_C0, _C1, _C2 = np.float32(2.0), np.float32(2.0), np.float32(0.9999998211860657)
_C3, _C4 = np.float32(0.33332839608192444), np.float32(0.08333645761013031)
_C5, _C6 = np.float32(0.016749713569879532), np.float32(0.002767358673736453)


@njit(fastmath={"contract"})
@no_type_check
def exponential(x):
    """exp(x) of a float32, as the module says."""
    # Written so that a comparison with NaN is False and keeps it.
    x = _LOWEST if x < _LOWEST else x
    x = _HIGHEST if x > _HIGHEST else x
    rounded = np.float32(x * _PER_LN2 + _ROUND)
    n = rounded - _ROUND
    r = (x - n * _LN2_HIGH) - n * _LN2_LOW
    doubled = _C0 + r * (_C1 + r * (_C2 + r * (_C3 + r * (_C4 + r * (_C5 + r * _C6)))))
    factor = np.int32(rounded.view(np.int32) << 23).view(np.float32)
    return doubled * factor
