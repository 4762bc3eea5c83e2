"""What the harness is timed on: IWAE's VAE with one stochastic layer, and images like MNIST's."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from latentbench.core.seeds import derive
from latentbench.core.types import DataInfo
from latentbench.models.vae import VAE

ROWS, SIDE = 60_000, 28
#: Burda et al. 2016: two tanh layers of 200 units each way, 50 latent units, 784 Bernoulli pixels.
PARAMS: dict[str, Any] = {"latent_dim": 50, "hidden": [200, 200], "activation": "tanh"}
PREPROCESS: list[Any] = ["flatten", {"binarise": "dynamic"}]
LEARNING_RATE = 1e-3


def generate(n: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Grey images of MNIST's shape and sparsity (four pixels in five are black); the loader of the bench's dataset."""
    ink = rng.integers(1, 256, size=(n, SIDE, SIDE), dtype=np.uint8)
    return {"x": np.where(rng.random((n, SIDE, SIDE), dtype=np.float32) < 0.2, ink, np.uint8(0))}


def build(seed: int = 0) -> VAE:
    """The model with the initial weights of a run with `seed`."""
    info = DataInfo((SIDE * SIDE,), "binary", ROWS, levels=2, mean=torch.full((SIDE * SIDE,), 0.1))
    with torch.random.fork_rng():
        torch.manual_seed(derive(seed, "init"))
        return VAE(info, **PARAMS)
