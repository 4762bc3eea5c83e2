"""How far two computations of the same numbers may be apart for rounding alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

#: Of the size of all gradients: below it, a parameter's own gradient may be the rounding of larger numbers.
FLOOR = 1e-2


def tolerance(device: str) -> float:
    """Largest relative difference of a loss; ten times as much for a gradient. Reduced precision may have more."""
    coarse = torch.is_autocast_enabled(device) or (device == "cuda" and torch.backends.cuda.matmul.allow_tf32)
    return 1e-2 if coarse else 1e-4


def close(a: Tensor, b: Tensor, tolerance: float) -> bool:
    """Whether two tensors are equal but for rounding; whole numbers must be equal."""
    if a.shape != b.shape:
        return False
    if not (a.is_floating_point() or b.is_floating_point()):
        return torch.equal(a, b)
    return torch.allclose(a.float(), b.float(), rtol=tolerance, atol=tolerance, equal_nan=True)


def apart(found: Sequence[Tensor], right: Sequence[Tensor]) -> float:
    """The largest difference of a parameter's gradient, relative to its size and, with weight `FLOOR`, to that of all.

    0 where the right ones are not finite: there is nothing to hold them against.
    """
    sizes = torch.stack([torch.linalg.vector_norm(r.float()) for r in right])
    gaps = torch.stack([torch.linalg.vector_norm(f.float() - r.float()) for f, r in zip(found, right, strict=True)])
    if not bool(sizes.isfinite().all()):
        return 0.0
    return float((gaps / (sizes + FLOOR * sizes.norm() + 1e-12)).max())
