"""How long an image is once it is compressed: what complexity-corrected outlier scores take off."""

from __future__ import annotations

import io
import math

import torch
from latentbench.core.errors import UserError
from torch import Tensor


def png_nats(x: Tensor, levels: int) -> Tensor:
    """Length of each image as PNG, (N,) nats (bits times ln 2); an upper bound on its Kolmogorov complexity.

    Serra et al. 2020 (arXiv 1909.11480), section 3, with PNG of Pillow at its highest compression. Bits take one bit a
    pixel.

    Args:
        x: (N, C, H, W) whole numbers 0 .. levels - 1, with one channel or three.
        levels: at most 256.

    Raises:
        UserError: other values or shapes.
    """
    from PIL import Image

    if x.dim() != 4 or x.shape[1] not in (1, 3) or not 2 <= levels <= 256:
        raise UserError(
            f"images of shape {tuple(x.shape)} and {levels} levels", fix="(N, 1 or 3, H, W), 2 to 256 levels"
        )
    if not bool(((x == x.round()) & (x >= 0) & (x < levels)).all()):
        raise UserError("a compressed length of values that are no levels", fix="binary or discrete data")
    lengths = []
    for image in x.to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy():
        if image.shape[2] == 3:
            picture = Image.fromarray(image)
        else:
            picture = Image.fromarray(image[:, :, 0] * (255 if levels == 2 else 1))
            picture = picture.convert("1") if levels == 2 else picture
        stream = io.BytesIO()
        picture.save(stream, "PNG", optimize=True)
        lengths.append(8.0 * len(stream.getvalue()) * math.log(2.0))
    return torch.tensor(lengths, device=x.device)
