"""A model's contract tests without a suite: on made-up rows of each kind that it accepts."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from latentbench.contracts.finding import Finding
from latentbench.contracts.models import check_model
from latentbench.core.errors import UserError
from latentbench.core.imports import load
from latentbench.core.types import DataInfo, Support
from latentbench.spec.registry import ModelEntry

N = 32
#: Kinds of data that a model may accept: name -> (shape of a row, support, levels).
KINDS: dict[str, tuple[tuple[int, ...], Support, int | None]] = {
    "real vectors": ((6,), "real", None),
    "binary vectors": ((12,), "binary", None),
    "grey images": ((1, 8, 8), "real", None),
    "binary images": ((1, 8, 8), "binary", None),
    "discrete vectors": ((5,), "discrete", 6),
}


def check_on_synthetic_data(name: str, entry: ModelEntry) -> Iterator[Finding]:
    """The findings on a model with its default parameters, for each kind of data whose constructor it passes."""
    factory = load(entry.target)
    refused: dict[str, str] = {}
    for kind, (shape, support, levels) in KINDS.items():
        x = rows(shape, support, levels)
        info = DataInfo(shape, support, N, levels=levels, mean=x.mean(0))
        try:
            with torch.random.fork_rng():
                factory(info)
        except UserError as e:
            refused[kind] = str(e)
            continue
        except TypeError as e:
            yield Finding(name, "it can be built with its default parameters", str(e))
            return
        yield from check_model(f"{name} on {kind}", lambda info=info: factory(info), x, entry.can, {})  # type: ignore[misc]
    if len(refused) == len(KINDS):
        first = next(iter(refused.items()))
        yield Finding(name, "it accepts some kind of data", f"it refuses all, {first[0]} with: {first[1]}")
    for kind, why in refused.items():
        yield Finding(f"{name} on {kind}", "it is built", skipped=f"refused: {why}")


def rows(shape: tuple[int, ...], support: Support, levels: int | None) -> Tensor:
    """Rows of a support with two clusters in them."""
    draws = torch.Generator().manual_seed(1)
    middle = torch.randn(2, *shape, generator=draws)[torch.arange(N) % 2]
    y = middle + 0.5 * torch.randn(N, *shape, generator=draws)
    if support == "binary":
        return (y > 0).float()
    return torch.floor(torch.sigmoid(y) * (levels or 1)) if support == "discrete" else y
