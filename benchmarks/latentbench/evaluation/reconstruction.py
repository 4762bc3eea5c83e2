"""How well a trained model gives rows back, as stored: images in 0 … 1, other data in stored units.

Detail `mean_row` is the same figure for the mean training row in the place of every reconstruction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Generator, Tensor

from latentbench.core.capabilities import Reconstructor
from latentbench.core.types import MetricValue
from latentbench.declare import metric as declared_metric
from latentbench.evaluation.space import BLOCK, require_images, stored
from latentbench.evaluation.view import View
from latentbench.metrics import reconstruction as metric

Settings = Mapping[str, Any]


@declared_metric(
    "reconstruction_mse",
    "Reconstructor",
    "squared data unit",
    "lower",
    "mean squared error of reconstructions as stored, images in 0 … 1",
    within=(0.0, None),
)
def reconstruction_mse(model: Reconstructor, view: View, settings: Settings, generator: Generator) -> MetricValue:  # noqa: ARG001
    """Mean squared error a coordinate."""
    return _compared(model, view, metric.mse)


@declared_metric(
    "reconstruction_psnr",
    "Reconstructor",
    "dB",
    "higher",
    "peak signal-to-noise ratio of reconstructed images",
    data=("images",),
)
def reconstruction_psnr(model: Reconstructor, view: View, settings: Settings, generator: Generator) -> MetricValue:  # noqa: ARG001
    """Peak signal-to-noise ratio of images in dB, mean over images."""
    require_images(view)
    return _compared(model, view, partial(metric.psnr, data_range=1.0))


@declared_metric(
    "reconstruction_ssim",
    "Reconstructor",
    "1",
    "higher",
    "structural similarity of reconstructed images",
    data=("images",),
    within=(-1.0, 1.0),
)
def reconstruction_ssim(model: Reconstructor, view: View, settings: Settings, generator: Generator) -> MetricValue:  # noqa: ARG001
    """Structural similarity of images, mean over images; sides of 11 pixels or more."""
    require_images(view)
    return _compared(model, view, partial(metric.ssim, data_range=1.0))


def _compared(model: Reconstructor, view: View, score: Callable[[Tensor, Tensor], MetricValue]) -> MetricValue:
    back = torch.cat([model.reconstruct(view.x[rows]) for rows in view.blocks(BLOCK)])
    original = stored(view, view.x)
    found = score(original, stored(view, back))
    details = dict(found.details)
    if view.info.mean is not None:
        mean = torch.as_tensor(view.info.mean, dtype=torch.float32)[None]
        details["mean_row"] = score(original, stored(view, mean).expand_as(original)).value
    return MetricValue(found.value, found.se, found.n, details)
