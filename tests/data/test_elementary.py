"""Sine, cosine and exponential of float32: near the truth, and the very bits on any processor."""

from __future__ import annotations

import hashlib
from fractions import Fraction

import numpy as np
import pytest
from latentbench.data.generated import elementary
from latentbench.data.generated.elementary import cosine, exponential, sine


@pytest.mark.parametrize(
    ("ours", "true", "bits"),
    [
        (sine, np.sin, "74c1c26c32b2a959"),
        (cosine, np.cos, "bc44a4b07096c554"),
        (exponential, np.exp, "80a13b04cb18ba95"),
    ],
)
def test_values_and_bits(ours, true, bits):
    x = np.linspace(-20, 20, 10_001, dtype=np.float32)
    found = ours(x)
    assert found.dtype == np.float32
    assert (abs(found - true(x.astype(np.float64))) / np.spacing(abs(found))).max() < 2.1
    assert hashlib.sha256(found.tobytes()).hexdigest()[:16] == bits


def test_shapes_are_kept():
    x = np.linspace(0, 3, 12, dtype=np.float32).reshape(3, 4)
    for ours in (sine, cosine, exponential):
        np.testing.assert_array_equal(ours(x).ravel(), ours(x.ravel()))


def test_a_fused_step_is_rounded_once():
    """Against exact fractions, with sums that cancel, and that lie half way between two float32 but for a trace."""
    rng = np.random.default_rng(0)
    a, b, c = rng.standard_normal((3, 4_000)).astype(np.float32)
    c[:1_000] = -a[:1_000] * b[:1_000]
    c[1_000:2_000] *= np.float32(1e7)
    a[2_000:2_100], b[2_000:2_100], c[2_000:2_100] = 1 + 2.0**-23, 1 - 2.0**-23, 2.0**24 + 2
    a[2_100:2_200], b[2_100:2_200], c[2_100:2_200] = 1 + 2.0**-12, 1 + 2.0**-12, -(2.0**-30)
    found = elementary._fused(a, b, c)
    for f, x, y, z in zip(found, a, b, c, strict=True):
        exact = Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z))
        error = abs(Fraction(float(f)) - exact)
        for other in (np.nextafter(f, np.float32(np.inf)), np.nextafter(f, np.float32(-np.inf))):
            assert error <= abs(Fraction(float(other)) - exact)
