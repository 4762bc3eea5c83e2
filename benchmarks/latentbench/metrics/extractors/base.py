"""What turns images into the features that sample metrics compare: part of a metric's name and identity."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from latentbench.core.errors import UserError
from latentbench.metrics.arrays import NotFiniteError


@dataclass(frozen=True)
class Extractor:
    """Features of images, under a name that a metric takes on (`fid_<name>`).

    Attributes:
        name: e.g. ``pixels``, ``lenet_mnist``, ``inception``.
        identity: hash of the code's version and all weights: two extractors with one identity give one result.
        network: (N, C, H, W) float32 pixels 0 … 255 -> (N, D) features.
        classify: the same to (N, classes) logits, where the extractor is a classifier (inception score).
    """

    name: str
    identity: str
    network: Callable[[Tensor], Tensor]
    classify: Callable[[Tensor], Tensor] | None = None

    def features(self, images: Any, *, batch: int = 256, device: str | torch.device = "cpu") -> np.ndarray:
        """(N, D) float32 features of images (N, H, W), (N, C, H, W) or (N, H, W, C), pixels 0 … 255."""
        return _in_batches(self.network, images, batch, device)

    def logits(self, images: Any, *, batch: int = 256, device: str | torch.device = "cpu") -> np.ndarray:
        """(N, classes) float32 logits."""
        if self.classify is None:
            raise UserError(f"{self.name} is no classifier", where="extractor", fix="use lenet or inception")
        return _in_batches(self.classify, images, batch, device)


def _in_batches(network: Callable[[Tensor], Tensor], images: Any, batch: int, device: str | torch.device) -> np.ndarray:
    x = as_images(images)
    if isinstance(network, nn.Module):
        network.to(device).eval()
    with torch.inference_mode():
        parts = [network(part.to(device, torch.float32)).float().cpu() for part in x.split(batch)]
    out = torch.cat(parts).numpy()
    if not np.isfinite(out).all():
        raise NotFiniteError("features are NaN or infinite", where="extractor")
    return out


def as_images(images: Any) -> Tensor:
    """(N, C, H, W) of the dtype given; a last axis of 1 or 3 after three others is taken for channels."""
    x = torch.as_tensor(images)
    if x.ndim == 3:
        x = x[:, None]
    if x.ndim != 4 or not len(x):
        raise UserError(
            f"has shape {tuple(x.shape)}", where="images", fix="give (N, H, W), (N, C, H, W) or (N, H, W, C)"
        )
    if x.shape[1] not in (1, 3) and x.shape[3] in (1, 3):
        x = x.permute(0, 3, 1, 2)
    low, high = float(x.min()), float(x.max())
    if not (low >= 0 and high <= 255):
        raise UserError(f"pixels range over {low:g} … {high:g}", where="images", fix="give 0 … 255")
    return x.contiguous()


def weights_identity(name: str, version: int, weights: Mapping[str, Tensor]) -> str:
    """Sixteen hexadecimal digits of a hash of the name, the code's version, and every weight with its shape."""
    digest = hashlib.sha256(f"{name}:{version}".encode())
    for key in sorted(weights):
        array = weights[key].detach().cpu().contiguous().numpy()
        digest.update(f"{key}:{array.dtype}:{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()[:16]
