"""Declared examples whose rows are one tensor, for tests of training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from latentbench.contracts import synthetic
from latentbench.contracts.synthetic import KINDS, Kind, N
from latentbench.core.capabilities import capabilities_of
from latentbench.core.imports import load
from latentbench.core.types import Batch, DataInfo
from latentbench.spec.registry import models
from torch import Tensor, nn

BINARY = synthetic.rows(KINDS["binary-vector"]).info

#: Learnt without data, or slow to train.
APART = ("cnf", "lattice-arm", "lattice-mam", "marginalization-model", "planar-flow", "polynomial-programme")


@dataclass(frozen=True)
class Case:
    name: str
    cls: Callable[..., nn.Module]
    info: DataInfo
    can: frozenset[str]
    params: Mapping[str, Any]


CASES = [
    Case(f"{name}/{i}", load(entry.target), synthetic.rows(KINDS[example.data]).info, entry.can, example.params)
    for name, entry in models().items()
    for i, example in enumerate(entry.examples)
    if name not in APART and example.data in KINDS and example.data not in ("pairs", "labelled", "sequence")
]


def data(info: DataInfo, seed: int = 1) -> Tensor:
    """Samples of the support with some structure."""
    return synthetic.rows(Kind(info.shape, info.support, info.levels), seed=seed).x


def train(model: nn.Module, info: DataInfo, steps: int) -> None:
    """A few steps of Adam."""
    x, draws = data(info), torch.Generator().manual_seed(0)
    if "Preparable" in capabilities_of(model):
        model.prepare(x, draws)
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    model.train()
    for step in range(steps):
        optimiser.zero_grad()
        model.loss(Batch(x, N, step), draws)["loss"].backward()
        optimiser.step()
    model.eval()
