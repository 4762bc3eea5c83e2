"""What early stopping and the choice of weights look at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch

from latentbench.core.capabilities import Validated
from latentbench.core.seeds import Seeds, generator

if TYPE_CHECKING:
    from latentbench.training.source import Source


@torch.no_grad()
def validation_loss(
    model: Any, valid_set: Source, batch_size: int | Literal["whole"], seed: int | Seeds, stage: tuple[str, ...] = ()
) -> float:
    """Mean loss over the validation rows, with the same noise each time it is asked."""
    model.eval()
    device = next(model.parameters()).device
    noise = generator(seed, "evaluation", "validation", *stage, device=str(device))
    total, rows = 0.0, len(valid_set)
    size = rows if batch_size == "whole" else max(batch_size, 256)
    for start in range(0, rows, size):
        index = torch.arange(start, min(start + size, rows), device=device)
        batch = valid_set.whole(noise, 0, 1.0) if size == rows else valid_set.batch(index, noise, 0, 1.0)
        loss = model.validation_loss(batch, noise) if isinstance(model, Validated) else model.loss(batch, noise)["loss"]
        total += float(loss) * len(index)
    return total / rows
