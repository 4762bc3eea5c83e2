from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.metrics import reconstruction as rc
from scipy.integrate import quad
from scipy.ndimage import correlate1d

RNG = np.random.default_rng(0)
X = RNG.random((4, 1, 24, 20))
Y = np.clip(X + RNG.normal(size=X.shape) * 0.1, 0, 1)


def test_mse_and_psnr():
    assert rc.mse([[0.0, 0.0], [1.0, 1.0]], [[3.0, 0.0], [1.0, 1.0]]).value == 2.25
    per_image = np.square(X - Y).mean(axis=(1, 2, 3))
    assert rc.psnr(X, Y, data_range=1).value == pytest.approx(np.mean(-10 * np.log10(per_image)))
    assert rc.psnr(X, Y, data_range=1, pooled=True).value == pytest.approx(-10 * np.log10(per_image.mean()))
    assert rc.psnr(X * 255, Y * 255, data_range=255).value == pytest.approx(rc.psnr(X, Y, data_range=1).value)
    assert rc.psnr(X, X, data_range=1).value == math.inf
    assert rc.mse(torch.tensor(X), Y).value == pytest.approx(per_image.mean())


def ssim_by_hand(x, y):
    """Wang et al. 2004, eq. 13, on the window positions that lie inside the image."""
    window = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window /= window.sum()

    def blur(a):
        return correlate1d(correlate1d(a, window, axis=0), window, axis=1)[5:-5, 5:-5]

    mx, my = blur(x), blur(y)
    vx, vy, cov = blur(x * x) - mx**2, blur(y * y) - my**2, blur(x * y) - mx * my
    c1, c2 = 0.01**2, 0.03**2
    return (((2 * mx * my + c1) * (2 * cov + c2)) / ((mx**2 + my**2 + c1) * (vx + vy + c2))).mean()


def test_ssim_is_the_formula_of_the_paper():
    expected = np.mean([ssim_by_hand(a[0], b[0]) for a, b in zip(X, Y)])
    assert rc.ssim(X, Y, data_range=1).value == pytest.approx(expected, abs=1e-10)
    assert rc.ssim(X, X, data_range=1).value == pytest.approx(1.0)
    assert rc.ssim(X, RNG.permutation(X.ravel()).reshape(X.shape), data_range=1).value < 0.1


def test_ms_ssim_controls():
    big = RNG.random((2, 1, 176, 176))
    assert rc.ms_ssim(big, big, data_range=1).value == pytest.approx(1.0)
    assert rc.ms_ssim(big, 1 - big, data_range=1).value < 0.3
    one = rc.ms_ssim(big, big * 0.9 + 0.05, data_range=1).value
    assert rc.ms_ssim(big, big * 0.5 + 0.25, data_range=1).value < one < 1
    with pytest.raises(UserError, match="176"):
        rc.ms_ssim(X, Y, data_range=1)


def test_bits_per_pixel():
    assert rc.bits_per_pixel([80.0, 160.0], 40).value == 3.0
    with pytest.raises(UserError, match="pixels"):
        rc.bits_per_pixel([1.0], 0)


def test_rate_distortion_curve_keeps_what_is_not_beaten():
    curve = rc.rate_distortion_curve([1, 2, 3, 2, 4], [5, 3, 3.5, 4, 1])
    assert curve.rates.tolist() == [1, 2, 4]
    assert curve.distortions.tolist() == [5, 3, 1]


RATES, QUALITY = np.array([100.0, 200, 400, 800]), np.array([30.0, 33, 35.5, 38])


@pytest.mark.parametrize("fit", ["cubic", "pchip"])
def test_bjontegaard_of_a_constant_saving_is_that_saving(fit):
    assert rc.bd_rate(RATES, QUALITY, RATES * 0.8, QUALITY, fit=fit) == pytest.approx(-20)
    assert rc.bd_psnr(RATES, QUALITY, RATES, QUALITY + 1.5, fit=fit) == pytest.approx(1.5)
    assert rc.bd_rate(RATES, QUALITY, RATES, QUALITY, fit=fit) == pytest.approx(0, abs=1e-9)
    there, back = rc.bd_rate(RATES, QUALITY, RATES * 0.7, QUALITY, fit=fit), 1 / 0.7
    assert (1 + there / 100) * back == pytest.approx(1)


def test_bjontegaard_against_numerical_integration():
    other_rates, other = np.array([90.0, 210, 390, 700]), np.array([30.5, 33.2, 36, 37.5])
    a, b = np.polyfit(QUALITY, np.log(RATES), 3), np.polyfit(other, np.log(other_rates), 3)
    gap = quad(lambda q: np.polyval(b, q) - np.polyval(a, q), 30.5, 37.5)[0] / 7
    assert rc.bd_rate(RATES, QUALITY, other_rates, other) == pytest.approx((math.exp(gap) - 1) * 100)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: rc.mse(X, Y[:2]), "shape"),
        (lambda: rc.mse(X * np.nan, Y), "NaN"),
        (lambda: rc.psnr(X, Y, data_range=0), "data_range"),
        (lambda: rc.ssim(X[:, :, :8], Y[:, :, :8], data_range=1), "11 pixels"),
        (lambda: rc.bd_rate(RATES[:3], QUALITY[:3], RATES, QUALITY), "at least 4"),
        (lambda: rc.bd_rate(RATES, QUALITY[::-1], RATES, QUALITY), "rise"),
        (lambda: rc.bd_rate(RATES, QUALITY, RATES, QUALITY + 20), "common"),
        (lambda: rc.bd_rate(RATES, QUALITY, RATES, QUALITY, fit="akima"), "fit"),
    ],
)
def test_bad_input(call, says):
    with pytest.raises(UserError, match=says):
        call()
