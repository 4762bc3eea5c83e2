"""Reconstruction error and compression: MSE, PSNR, SSIM, bits per pixel, rate-distortion curves and their gaps.

SSIM and MS-SSIM are own code: torchmetrics, which is at hand, changed its treatment of the border between versions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from latentbench.core.errors import UserError
from latentbench.core.types import MetricValue
from latentbench.declare import of_arrays
from latentbench.metrics.arrays import Floats, matrix, mean_and_se, same_shape, vector

if TYPE_CHECKING:
    from torch import Tensor

Values = Any  # array, list or tensor
SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang et al. 2003, section 3.2
Fit = Literal["cubic", "pchip"]


def _pair(x: Values, y: Values) -> tuple[Floats, Floats]:
    from latentbench.metrics.arrays import to_numpy

    a, b = to_numpy(x), to_numpy(y)
    same_shape(original=a, reconstruction=b)
    if a.ndim == 1:
        a, b = a[:, None], b[:, None]
    return matrix(a, "original", flatten=True), matrix(b, "reconstruction", flatten=True)


def _squared_errors(x: Values, y: Values) -> Floats:
    a, b = _pair(x, y)
    return np.square(a - b).mean(axis=1)


@of_arrays("original reconstruction", "squared data unit", "lower")
def mse(original: Values, reconstruction: Values) -> MetricValue:
    """Mean squared error a coordinate, in squared units of the data, lower is better; standard error over samples.

    Args:
        original, reconstruction: (N, ...) of one shape.
    """
    errors = _squared_errors(original, reconstruction)
    value, se = mean_and_se(errors)
    return MetricValue(value, se, len(errors))


@of_arrays("original reconstruction", "dB", "higher")
def psnr(original: Values, reconstruction: Values, *, data_range: float, pooled: bool = False) -> MetricValue:
    """Peak signal-to-noise ratio 10 log10(range² / MSE) in dB, higher is better; infinite for a perfect copy.

    Mean over images of each image's ratio, as image papers report it. `pooled` takes the MSE over all images first
    (torchmetrics' default); it is lower or equal (Jensen), and another metric.

    Args:
        original, reconstruction: (N, ...).
        data_range: largest minus smallest possible value: 1, or 255.
    """
    if not data_range > 0:
        raise UserError(f"is {data_range}", where="data_range", fix="give the range of pixel values, 1 or 255")
    errors = _squared_errors(original, reconstruction)
    if pooled:
        errors = errors.mean(keepdims=True)
    with np.errstate(divide="ignore"):
        ratios = 10 * np.log10(data_range**2 / errors)
    if np.isinf(ratios).any():
        return MetricValue(math.inf, None, len(ratios))
    value, se = mean_and_se(ratios)
    return MetricValue(value, se, len(ratios))


@of_arrays("original reconstruction", "… 1", "higher", "Wang et al. 2004")
def ssim(original: Values, reconstruction: Values, *, data_range: float) -> MetricValue:
    """Structural similarity (Wang et al. 2004, eq. 13), at most 1, higher is better; mean over images.

    Windows that lie inside the image, as in the authors' code and scikit-image (torchmetrics 1.9 also counts windows
    over a reflected border, which moves the figure by some 1e-4). Channels are averaged.

    Args:
        original, reconstruction: (N, C, H, W), each side of at least 11 pixels.
        data_range: 1, or 255.
    """
    similarity, _ = _similarity(*_images(original, reconstruction, data_range, 11), data_range)
    value, se = mean_and_se(similarity.mean(1).cpu().numpy())
    return MetricValue(value, se, len(similarity))


@of_arrays("original reconstruction", "0 … 1", "higher", "Wang et al. 2003")
def ms_ssim(original: Values, reconstruction: Values, *, data_range: float) -> MetricValue:
    """Multi-scale structural similarity over five scales (Wang et al. 2003, eq. 7), 0 … 1, higher is better.

    Halving by 2 x 2 means; a negative similarity at a scale, which has no root, counts as 0.

    Args:
        original, reconstruction: (N, C, H, W), sides of 176 pixels or more (11, halved four times).
        data_range: 1, or 255.
    """
    from torch.nn.functional import avg_pool2d

    x, y = _images(original, reconstruction, data_range, 11 * 2 ** (len(SCALES) - 1))
    product: Any = 1.0
    for i, weight in enumerate(SCALES):
        whole, contrast = _similarity(x, y, data_range)
        part = whole if i == len(SCALES) - 1 else contrast
        product = product * part.clamp_min(0) ** weight
        x, y = avg_pool2d(x, 2), avg_pool2d(y, 2)
    value, se = mean_and_se(product.mean(1).cpu().numpy())
    return MetricValue(value, se, len(x))


def _images(original: Values, reconstruction: Values, data_range: float, side: int) -> tuple[Tensor, Tensor]:
    import torch

    if not data_range > 0:
        raise UserError(f"is {data_range}", where="data_range", fix="give the range of pixel values, 1 or 255")
    _pair(original, reconstruction)
    x, y = (torch.as_tensor(v).detach().double() for v in (original, reconstruction))
    if x.ndim != 4 or min(x.shape[2:]) < side:
        fix = f"give (N, C, H, W) with sides of {side} pixels or more"
        raise UserError(f"has shape {tuple(x.shape)}", where="original", fix=fix)
    return x, y


def _similarity(x: Tensor, y: Tensor, data_range: float) -> tuple[Tensor, Tensor]:
    """Structural similarity and its contrast-structure part, mean over positions, (N, C) each."""
    import torch
    from torch.nn.functional import conv2d

    window = torch.exp(-torch.arange(-5, 6, dtype=x.dtype, device=x.device).square() / (2 * 1.5**2))
    window = window / window.sum()

    def blur(image: Tensor) -> Tensor:
        flat = image.flatten(0, 1)[:, None]
        flat = conv2d(conv2d(flat, window.view(1, 1, -1, 1)), window.view(1, 1, 1, -1))
        return flat.unflatten(0, image.shape[:2])[:, :, 0]

    mean_x, mean_y = blur(x), blur(y)
    variances = blur(x * x) - mean_x**2 + blur(y * y) - mean_y**2
    covariance = blur(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    contrast = (2 * covariance + c2) / (variances + c2)
    whole = contrast * (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    return whole.mean((2, 3)), contrast.mean((2, 3))


@of_arrays("bits", "bits/pixel", "lower")
def bits_per_pixel(bits: Values, pixels: int) -> MetricValue:
    """Mean bits a pixel (not a channel) of compressed images, lower is better.

    Args:
        bits: (N,) length of each code, in bits.
        pixels: height times width.
    """
    if pixels < 1:
        raise UserError(f"is {pixels}", where="pixels")
    rates = vector(bits, "bits") / pixels
    value, se = mean_and_se(rates)
    return MetricValue(value, se, len(rates))


@dataclass(frozen=True)
class RateDistortion:
    """The points of a rate-distortion curve that no other point beats, rates ascending, distortions descending."""

    rates: Floats
    distortions: Floats


@of_arrays("rates distortions", "as given", "none", "Alemi et al. 2018", from_file=False)
def rate_distortion_curve(rates: Values, distortions: Values) -> RateDistortion:
    """Drop points for which another has neither more rate nor more distortion (Alemi et al. 2018).

    Args:
        rates, distortions: (N,), a point a model, in any units, lower is better.
    """
    r, d = _points(rates, distortions, "distortions", 1)
    keep = d < np.concatenate([[np.inf], np.minimum.accumulate(d)[:-1]])
    return RateDistortion(r[keep], d[keep])


def _points(rates: Values, values: Values, name: str, least: int) -> tuple[Floats, Floats]:
    r, v = vector(rates, "rates", min_rows=least), vector(values, name, min_rows=least)
    same_shape(rates=r, **{name: v})
    order = np.lexsort((v, r))
    return r[order], v[order]


@of_arrays("anchor_rates anchor_quality rates quality", "per cent", "lower", "Bjøntegaard 2001")
def bd_rate(
    anchor_rates: Values, anchor_quality: Values, rates: Values, quality: Values, *, fit: Fit = "cubic"
) -> float:
    """Bjøntegaard's mean difference of rate at equal quality, per cent, negative is better (Bjøntegaard 2001).

    log-rate as a function of quality, a cubic polynomial (`cubic`, the 2001 original) or a monotone piecewise one
    (`pchip`, the JCT-VC spreadsheets'), averaged over the common range of quality.

    Args:
        anchor_rates, anchor_quality: the reference codec's points, (n,): positive rates, qualities in dB.
        rates, quality: the tested codec's.
    """
    (r1, q1), (r2, q2) = _curves(anchor_rates, anchor_quality, rates, quality)
    return float((np.exp(_mean_gap(q1, np.log(r1), q2, np.log(r2), fit)) - 1) * 100)


@of_arrays("anchor_rates anchor_quality rates quality", "dB", "higher", "Bjøntegaard 2001")
def bd_psnr(
    anchor_rates: Values, anchor_quality: Values, rates: Values, quality: Values, *, fit: Fit = "cubic"
) -> float:
    """Bjøntegaard's mean difference of quality at equal rate, in dB, positive is better. Arguments as `bd_rate`."""
    (r1, q1), (r2, q2) = _curves(anchor_rates, anchor_quality, rates, quality)
    return float(_mean_gap(np.log(r1), q1, np.log(r2), q2, fit))


def _curves(r1: Values, q1: Values, r2: Values, q2: Values) -> list[tuple[Floats, Floats]]:
    curves = [_points(r1, q1, "anchor_quality", 4), _points(r2, q2, "quality", 4)]
    for r, q in curves:
        if (r <= 0).any() or not (np.diff(r) > 0).all() or not (np.diff(q) > 0).all():
            raise UserError("rates must be positive, and quality must rise with rate", where="rates")
    return curves


def _mean_gap(x1: Floats, y1: Floats, x2: Floats, y2: Floats, fit: Fit) -> float:
    low, high = max(x1.min(), x2.min()), min(x1.max(), x2.max())
    if high <= low:
        raise UserError("the two curves have no range in common", where="quality")
    return (_integral(x2, y2, low, high, fit) - _integral(x1, y1, low, high, fit)) / (high - low)


def _integral(x: Floats, y: Floats, low: float, high: float, fit: Fit) -> float:
    from scipy.interpolate import PchipInterpolator

    if fit == "pchip":
        return float(PchipInterpolator(x, y).integrate(low, high))
    if fit != "cubic":
        raise UserError(f"unknown fit {fit!r}", where="fit", fix="cubic or pchip")
    polynomial = np.polynomial.Polynomial.fit(x, y, 3).integ()
    return float(polynomial(high) - polynomial(low))
