"""Views of made-up data, for the tests of evaluators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from latentbench.data.preprocess import build
from latentbench.data.registry import Column
from latentbench.evaluation.view import View, make_view


def view_of(
    test: np.ndarray,
    steps: Sequence[Any] = (),
    *,
    train: np.ndarray | None = None,
    levels: int | None = None,
    columns: Mapping[str, np.ndarray] | None = None,
    oracle: Any = None,
    seed: int = 0,
) -> View:
    """The view of `test` under preprocessing fitted on `train` (itself, if left out)."""
    train = test if train is None else train
    pipeline = build(list(steps), Column(shape=test.shape[1:], dtype=str(test.dtype), levels=levels))
    pipeline.fit(train)
    info = pipeline.info(train, columns or {})

    def make(raw: np.ndarray, split: str, further: Any = None) -> View:
        return make_view(raw, columns or {}, pipeline, info, None, oracle, seed, split, torch.device("cpu"), further)

    return make(test, "test", lambda: make(train, "train"))


def pixels(n: int, shape: tuple[int, ...] = (2, 3), seed: int = 0) -> np.ndarray:
    """(n, *shape) uint8, uniform."""
    return np.random.default_rng(seed).integers(0, 256, (n, *shape)).astype(np.uint8)
