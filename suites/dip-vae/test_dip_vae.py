"""DIP-VAE: covariances by their moments, the loss by its formula, SAP and correlation of known codes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.seeds import generator
from latentbench.core.types import Batch, DataInfo
from latentbench.data.generated.grid import Grid
from latentbench.models.vae import VAE
from latentbench.papers.dip_vae.dip_vae import DIPVAE, covariance_of_codes, covariance_of_means, distance_from_identity
from latentbench.papers.dip_vae.measure import mean_correlation, sap_ordered
from torch import distributions as td

from tests.evaluation.views import view_of

INFO = DataInfo((6,), "binary", 50)
X = (torch.rand(10, 6, generator=torch.Generator().manual_seed(0)) < 0.4).float()
SMALL = {"latent_dim": 3, "hidden": (7,), "decoder_hidden": (7,)}


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def posteriors(n: int = 12, d: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Means with an offset and correlations, log standard deviations that differ: (n, d) each."""
    mix = torch.randn(d, d, generator=gen(1), dtype=torch.float64)
    mean = torch.randn(n, d, generator=gen(2), dtype=torch.float64) @ mix + torch.arange(1.0, d + 1.0)
    return mean, 0.3 * torch.randn(n, d, generator=gen(3), dtype=torch.float64) - 0.5


def make(**params: object) -> DIPVAE:
    torch.manual_seed(0)
    return DIPVAE(INFO, **{**SMALL, **params})


def test_covariances_are_those_of_the_mixture():
    """E[z z'] - E[z] E[z]' of the mixture: its second moment is the mean of mu mu' + diag(sigma^2) over its parts."""
    mean, log_std = posteriors()
    np.testing.assert_allclose(covariance_of_means(mean), np.cov(mean.numpy(), rowvar=False, ddof=0))
    second = sum(torch.outer(m, m) + torch.diag(s.exp() ** 2) for m, s in zip(mean, log_std, strict=True)) / len(mean)
    expected = second - torch.outer(mean.mean(0), mean.mean(0))
    torch.testing.assert_close(covariance_of_codes(mean, log_std), expected)


def test_distance_from_identity_by_a_loop():
    c = covariance_of_means(posteriors()[0])
    terms = [7.0 * (c[i, i] - 1) ** 2 if i == j else 2.0 * c[i, j] ** 2 for i in range(3) for j in range(3)]
    assert distance_from_identity(c, 2.0, 7.0).item() == pytest.approx(float(sum(terms)))
    assert distance_from_identity(torch.eye(4), 2.0, 7.0).item() == 0


@pytest.mark.parametrize(("variant", "beta"), [("i", 1.0), ("ii", 1.0), ("ii", 3.0)])
def test_loss_is_equations_6_and_7(variant: str, beta: float):
    """With the same noise: -log p(x|z) + beta KL, and the penalty, whose diagonal weighs factor * lambda_od."""
    model = make(variant=variant, lambda_od=3.0, factor=5.0, beta=beta)
    out = model.loss(Batch(X, 50), gen(7))
    mean, log_var = model.encode_gaussian(X)
    q = td.Normal(mean, torch.exp(0.5 * log_var))
    z = q.mean + q.stddev * torch.randn(10, 3, generator=gen(7))
    distortion = -td.Bernoulli(logits=model.decoder(z)).log_prob(X).sum(-1).mean()
    rate = td.kl_divergence(q, td.Normal(torch.zeros(3), 1.0)).sum(-1).mean()
    c = torch.cov(mean.T, correction=0)
    if variant == "ii":
        c = c + torch.diag(q.variance.mean(0))
    off = c - torch.diag(torch.diag(c))
    penalty = 3.0 * (off**2).sum() + 15.0 * ((torch.diag(c) - 1) ** 2).sum()
    for name, expected in {"distortion": distortion, "rate": rate, "penalty": penalty}.items():
        torch.testing.assert_close(out[name], expected.detach())
    expected = distortion + beta * rate + penalty
    torch.testing.assert_close(out["loss"], expected)
    ours, theirs = (torch.autograd.grad(loss, model.q[0].head.weight) for loss in (out["loss"], expected))
    torch.testing.assert_close(ours, theirs)


def test_without_weights_it_is_the_vae():
    model = make(lambda_od=0.0)
    vae = VAE(INFO, kl="analytic", **SMALL)
    vae.load_state_dict(model.state_dict())
    ours, theirs = model.loss(Batch(X, 50), gen()), vae.loss(Batch(X, 50), gen())
    torch.testing.assert_close({k: v for k, v in ours.items() if k != "penalty"}, theirs)


@pytest.mark.parametrize(("variant", "penalty"), [("i", 4.0 * 2.0 * 3), ("ii", 0.0)])
def test_a_collapsed_posterior_is_free_in_the_second_variant_alone(variant: str, penalty: float):
    """q(z|x) = p(z) has the inferred prior N(0, I), where eq. 7 is 0; its means do not vary, which eq. 6 charges."""
    model = make(variant=variant, lambda_od=4.0, factor=2.0)
    for parameter in model.q[0].head.parameters():
        torch.nn.init.zeros_(parameter)
    out = model.loss(Batch(X, 50), gen())
    assert (out["penalty"].item(), out["rate"].item()) == (pytest.approx(penalty), 0)


class Codes:
    """A model whose posterior means are given."""

    def __init__(self, means: np.ndarray) -> None:
        self.means, self.at = torch.from_numpy(means).float(), 0

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        self.at += len(x)
        return self.means[self.at - len(x) : self.at]


GRID = Grid((3, 3, 2, 4, 5)).factors(np.arange(360))  # shape, scale, orientation, x, y: every combination once
V = (GRID[:, 1:] - GRID[:, 1:].mean(0)) / GRID[:, 1:].std(0)  # uncorrelated columns of variance 1, for the grid is full


def measured(metric, means: np.ndarray, detail: str = "", **settings: object) -> float:
    view = view_of(np.zeros((360, 2), np.uint8), levels=2, columns={"factors": GRID})
    found = metric(Codes(means), view, {"factors": 4, "active": 0.01, **settings}, generator(0, "evaluation"))
    return found.details[detail] if detail else found.value


def test_sap_of_known_codes():
    assert measured(sap_ordered, V) == pytest.approx(1)
    assert measured(sap_ordered, np.hstack([V, V])) == pytest.approx(0, abs=1e-6), "each factor stands in two codes"
    assert measured(sap_ordered, V[:, :3]) == pytest.approx(3 / 4), "one of four is in no code"
    assert measured(sap_ordered, np.hstack([V, 0.09 * V])) == pytest.approx(1), "copies of variance 0.008 do not count"
    assert measured(sap_ordered, np.hstack([V, 0.09 * V]), active=0.005) == pytest.approx(0, abs=1e-6)
    assert measured(sap_ordered, GRID[:, :1] - 1.0) == pytest.approx(0, abs=1e-6), "shapes have no order: not scored"
    mixed = np.stack([V[:, 0] + V[:, 1], V[:, 0], V[:, 3]], axis=1)
    assert measured(sap_ordered, mixed) == pytest.approx((0.5 + 0.5 + 0 + 1) / 4, abs=1e-6)
    assert measured(sap_ordered, mixed, detail="best") == pytest.approx((1 + 0.5 + 0 + 1) / 4, abs=1e-6)


@pytest.mark.parametrize("angle", [0.0, 0.3, 0.7])
def test_sap_of_turned_codes(angle: float):
    """Two codes turned by an angle hold cos^2 and sin^2 of x's variance and of y's: gaps of cos(2 angle)."""
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    means = np.hstack([V[:, :2], V[:, 2:] @ turn])
    assert measured(sap_ordered, means) == pytest.approx((2 + 2 * np.cos(2 * angle)) / 4, abs=1e-6)
    assert measured(mean_correlation, means) == pytest.approx(0, abs=1e-6), "decorrelation does not choose the axes"


def test_correlation_of_known_codes():
    mixed = np.stack([2.0 * V[:, 0], V[:, 0] + V[:, 1], 5.0 * V[:, 2], 0.05 * V[:, 0]], axis=1)
    # pairs of the three that vary: 1 / sqrt 2, 0 and 0
    assert measured(mean_correlation, mixed) == pytest.approx((0.5 / 3) ** 0.5, abs=1e-6)
    assert measured(mean_correlation, V[:, :1]) == 0


@pytest.mark.parametrize("wrong", [{"variant": "iii"}, {"lambda_od": -1.0}, {"factor": -1.0}, {"objective": "iwae"}])
def test_refusals(wrong: dict):
    with pytest.raises(UserError, match=next(iter(wrong))):
        make(**wrong)
