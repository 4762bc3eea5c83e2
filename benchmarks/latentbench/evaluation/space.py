"""Rows as they are stored, from what models see and give: where samples and reconstructions are judged."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from latentbench.core.capabilities import Sampler
from latentbench.core.errors import UserError
from latentbench.evaluation.view import View
from latentbench.metrics.arrays import NotFiniteError

#: Rows that are sampled or mapped at once: part of a seed's meaning, as each block draws in turn.
BLOCK = 500


def stored(view: View, y: Tensor) -> Tensor:
    """Rows of model space as stored, on the CPU: images (N, C, H, W) in 0 … 1, other data (N, …) in stored units.

    Images are those that `Pipeline.arrange` puts channels first and whose number of levels is known.

    Raises:
        NotFiniteError: a row holds NaN or an infinity.
    """
    if not bool(torch.isfinite(y).all()):
        raise NotFiniteError("rows hold NaN or infinite values", where="samples or reconstructions")
    rows = torch.cat([view.pipeline.arrange(view.pipeline.inverse(part.cpu())) for part in y.split(BLOCK)])
    return rows / levels_top(view) if is_image(view) else rows


def levels_top(view: View) -> float:
    """The largest value of a stored row's range, 255 for 8-bit images; infinity where no range is known."""
    # `inverse` cuts to the range of the levels: what stays as large as it was has none
    largest = float(view.pipeline.inverse(torch.full((1, *view.x.shape[1:]), 1e30)).max())
    return largest if largest < 1e20 else float("inf")


def is_image(view: View) -> bool:
    """Whether rows are images with a known number of levels."""
    row = view.pipeline.arrange(view.pipeline.inverse(view.x[:1].cpu()))
    return row.ndim == 4 and levels_top(view) < float("inf")


def require_images(view: View) -> None:
    """Raise `UserError` unless rows are images."""
    if not is_image(view):
        raise UserError("this metric needs images", fix="leave the dataset out with `datasets:`")


def samples(model: Sampler, n: int, generator: Generator) -> Tensor:
    """(n, *shape) draws in model space, a block at a time."""
    sizes = [min(BLOCK, n - start) for start in range(0, n, BLOCK)]
    return torch.cat([model.sample(size, generator) for size in sizes])


def some_rows(view: View, n: int, generator: Generator) -> Tensor:
    """Row numbers (min(n, N),) on the CPU, drawn without replacement; all in order where there are no more."""
    if n >= len(view):
        return torch.arange(len(view))
    return torch.randperm(len(view), generator=generator, device=generator.device)[:n].cpu()
