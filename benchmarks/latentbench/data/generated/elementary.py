"""Sine, cosine and exponential of float32 in the same bits on every processor.

Numpy's differ in the last bit between processors with and without fused multiply-adds. These take the steps that it
takes where there are some (reduction of Cody and Waite 1980, then polynomials; for the exponential, their quotient),
each fused step computed by float64, so they are the bits that numpy gives on processors with AVX2.
"""

from __future__ import annotations

from functools import reduce

import numpy as np

_TO_WHOLE = np.float32(1.5 * 2**23)  # added and taken away again, it rounds to a whole number
_TWO_OVER_PI, _LOG2_E = np.float32(2 / np.pi), np.float32(np.log2(np.e))
#: -pi/2 and -log 2 as sums of float32.
_HALF_PI = tuple(np.float32(float.fromhex(v)) for v in ("-0x1.921fb0p0", "-0x1.5110b4p-22", "-0x1.846988p-48"))
_LOG_2 = tuple(np.float32(v) for v in (-6.93145752e-1, -1.42860677e-6))
#: Coefficients, the highest power first: cosine and sine / x in x², exponential as a quotient in x.
_COSINE = ("0x1.98e616p-16", "-0x1.6c06dcp-10", "0x1.55553cp-5", "-0x1p-1", "0x1p0")
_SINE = ("0x1.7d3bbcp-19", "-0x1.a06bbap-13", "0x1.11119ap-7", "-0x1.555556p-3", "0x0p0")
_ABOVE = (5.082762527590693718e-4, 6.757896990527504603e-3, 5.114512081637298353e-2, 2.473615434895520811e-1,
          7.257664613233124478e-1, 9.999999999980870925e-1)  # fmt: skip
_BELOW = (2.159509375685829852e-2, -2.742335390411667453e-1, 1.0)


def sine(x: np.ndarray) -> np.ndarray:
    """Of float32 below 70,000 in size, (...) float32."""
    return _wave(x, 0)


def cosine(x: np.ndarray) -> np.ndarray:
    """As `sine`."""
    return _wave(x, 1)


def exponential(x: np.ndarray) -> np.ndarray:
    """Of float32 from -80 to 80, (...) float32."""
    whole = (x * _LOG2_E + _TO_WHOLE) - _TO_WHOLE
    rest = reduce(lambda left, part: _fused(whole, part, left), _LOG_2, x)
    ratio: np.ndarray = _polynomial(_ABOVE, rest) / _polynomial(_BELOW, rest)
    return np.ldexp(ratio, whole.astype(np.int32))


def _wave(x: np.ndarray, quarters: int) -> np.ndarray:
    """sin(x + quarters * pi/2)."""
    whole = _fused(x, _TWO_OVER_PI, _TO_WHOLE) - _TO_WHOLE
    rest = reduce(lambda left, part: _fused(whole, part, left), _HALF_PI, x)
    square = rest * rest
    cos = _polynomial([float.fromhex(c) for c in _COSINE], square)
    sin = _fused(_polynomial([float.fromhex(c) for c in _SINE], square), rest, rest)
    quarter = whole.astype(np.int64) + quarters
    found = np.where(quarter & 1, cos, sin)
    return np.where(quarter & 2, -found, found)


def _polynomial(coefficients: list[float] | tuple[float, ...], x: np.ndarray) -> np.ndarray:
    first, *others = (np.float32(c) for c in coefficients)
    return reduce(lambda sum_, c: _fused(sum_, x, c), others, np.full_like(x, first))


def _fused(a: np.ndarray, b: np.ndarray | np.float32, c: np.ndarray | np.float32) -> np.ndarray:
    """a b + c of float32, rounded once.

    The product is exact in float64. Of the sum, what float64 rounds away is kept in the last bit (rounding to odd), so
    that rounding to float32 afterwards is what it would be of the exact sum (Boldo and Melquiond 2008).
    """
    product, added = np.multiply(a, b, dtype=np.float64), np.asarray(c, np.float64)
    total = np.atleast_1d(product + added)
    part = total - product
    lost = (product - (total - part)) + (added - part)
    bits = total.view(np.int64)
    nearer = np.where((lost > 0) == (total > 0), 1, -1)
    return np.where((lost != 0) & (bits & 1 == 0), bits + nearer, bits).view(np.float64).astype(np.float32)
