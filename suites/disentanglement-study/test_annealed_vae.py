"""AnnealedVAE's loss by its formula, at steps before and after its capacity has risen."""

from __future__ import annotations

import pytest
import torch
from latentbench.core.types import Batch, DataInfo
from latentbench.models.vae import VAE
from latentbench.papers.disentanglement_study.annealed_vae import AnnealedVAE

X = (torch.rand(9, 5, generator=torch.Generator().manual_seed(0)) < 0.4).float()
SIZES = {"latent_dim": 3, "hidden": (7,), "decoder_hidden": (6,)}


def made(kind, **params):
    torch.manual_seed(1)
    return kind(DataInfo((5,), "binary", 50), **SIZES, **params)


@pytest.mark.parametrize(("step", "share"), [(0, 0.0), (3, 0.75), (4, 1.0), (90, 1.0)])
@pytest.mark.parametrize("capacity", [0.05, 8.0])
def test_the_rate_is_held_to_the_capacity_of_the_step(step, share, capacity):
    model, plain = made(AnnealedVAE, gamma=3.0, capacity=capacity, rise=4), made(VAE, kl="analytic")
    said, terms = (
        {k: v.item() for k, v in of.loss(Batch(X, 50, step), torch.Generator().manual_seed(2)).items()}
        for of in (model, plain)
    )
    assert said["rate"] == pytest.approx(terms["rate"])
    assert said["loss"] == pytest.approx(terms["distortion"] + 3.0 * abs(terms["rate"] - share * capacity))
    assert said["capacity"] == pytest.approx(share * capacity)
