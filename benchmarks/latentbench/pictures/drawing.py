"""Arrays as small PNG files: sheets of images, and drawings in the plane."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

GAP = 2
SMALLEST = 28
"""Pixels that an image is enlarged to at least, by whole factors, so that it can be seen."""
COLOURS = ("#1f5fa8", "#c05a12", "#1b7f5c", "#a8307a", "#7a5cc0", "#8a6d00", "#2a8ca3", "#5c636b")


def sheet(images: NDArray[Any], low: float, high: float, budget: int) -> bytes:
    """Images in rows and columns as one PNG; rows are left out from the end until it fits.

    Args:
        images: (rows, columns, H, W) or (rows, columns, H, W, 3).
        low, high: what is black and what is white.
        budget: bytes at most; one row is kept whatever it takes.
    """
    for rows in range(len(images), 0, -1):
        png = _sheet(images[:rows], low, high)
        if len(png) <= budget:
            break
    return png


def _sheet(images: NDArray[Any], low: float, high: float) -> bytes:
    from PIL import Image

    shades = np.nan_to_num((np.asarray(images, dtype=np.float64) - low) / ((high - low) or 1.0))
    pixels = np.clip(shades * 255, 0, 255).astype(np.uint8)
    factor = max(1, math.ceil(SMALLEST / max(pixels.shape[2:4])))
    pixels = pixels.repeat(factor, axis=2).repeat(factor, axis=3)
    rows, columns, height, width = pixels.shape[:4]
    canvas = np.full((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, *pixels.shape[4:]), 255, np.uint8)
    for i in range(rows):
        for j in range(columns):
            top, left = i * (height + GAP), j * (width + GAP)
            canvas[top : top + height, left : left + width] = pixels[i, j]
    image = Image.fromarray(canvas)
    if canvas.ndim == 3:  # a palette halves it, and hardly shows at this size
        image = image.quantize(128, method=Image.Quantize.MEDIANCUT)
    else:
        image = image.quantize(32, method=Image.Quantize.MEDIANCUT) if len(np.unique(canvas)) > 32 else image
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True)
    return out.getvalue()


def drawn(draw: Callable[[Any], None], *, columns: int = 1, size: float = 3.2, share_axes: bool = False) -> bytes:
    """A drawing by matplotlib as PNG: `draw` is given the axes, an array of them where there are several columns."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(size * columns, size), dpi=90, layout="constrained")
    draw(figure.subplots(1, columns, sharex=share_axes, sharey=share_axes))
    out = io.BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})
    return small(out.getvalue())


def small(png: bytes, colours: int = 64) -> bytes:
    """The same picture with a palette, which is a third of the size."""
    from PIL import Image

    image = Image.open(io.BytesIO(png)).convert("RGB").quantize(colours, method=Image.Quantize.MEDIANCUT)
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True)
    return out.getvalue()


def scatter(axes: Any, points: NDArray[Any], colour: str, name: str) -> None:
    """Points of the plane."""
    axes.scatter(points[:, 0], points[:, 1], s=4, c=colour, alpha=0.6, linewidths=0, label=name)


def clouds(named: Sequence[tuple[str, NDArray[Any]]]) -> bytes:
    """Clouds of points of the plane side by side, on the same axes."""

    def draw(axes: Any) -> None:
        for each, (name, points), colour in zip(np.atleast_1d(axes), named, COLOURS):
            scatter(each, points, colour, name)
            each.set_title(name, fontsize=9)
            each.tick_params(labelsize=7)

    return drawn(draw, columns=len(named), share_axes=True)


def plane_of(rows: NDArray[Any]) -> Callable[[NDArray[Any]], NDArray[np.float64]]:
    """The map to the plane of the first two principal components of rows (N, D); rows of two coordinates stay."""
    flat = np.asarray(rows, dtype=np.float64).reshape(len(rows), -1)
    if flat.shape[1] == 2:
        return lambda x: np.asarray(x, dtype=np.float64).reshape(len(x), -1)
    centre = flat.mean(axis=0)
    axes = np.linalg.svd(flat - centre, full_matrices=False)[2][:2]
    axes = axes * np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])[:, None]
    return lambda x: (np.asarray(x, dtype=np.float64).reshape(len(x), -1) - centre) @ axes.T
