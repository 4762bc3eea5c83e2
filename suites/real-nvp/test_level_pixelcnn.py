"""A PixelCNN of whole values as a density of their dequantised logits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import DataInfo
from latentbench.data.preprocess import build
from latentbench.data.registry import Column
from latentbench.papers.real_nvp.level_pixelcnn import LevelPixelCNN
from torch.nn.functional import softplus


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make(shape=(1, 2, 2), levels=3, alpha=0.05) -> LevelPixelCNN:
    torch.manual_seed(0)
    return LevelPixelCNN(DataInfo(shape, "real", 50), levels=levels, alpha=alpha, window=3, channels=6, layers=2).eval()


def transformed(stored: np.ndarray, levels: int, alpha: float):
    """(y, log |dy/dx|) of stored whole values under the suite's preprocessing."""
    pipeline = build(["dequantise", {"logit": alpha}], Column(shape=stored.shape[1:], dtype="uint8", levels=levels))
    pipeline.fit(stored)
    return pipeline.forward(stored, gen(1))


@pytest.mark.parametrize(("levels", "alpha"), [(3, 0.05), (17, 0.2)])
def test_bits_of_dequantised_logits_are_those_of_the_whole_values(levels, alpha):
    """Whatever the noise within a value: the Jacobians of preprocessing and model cancel."""
    stored = np.random.default_rng(0).integers(0, levels, (200, 2, 2)).astype(np.uint8)
    y, log_abs_det = transformed(stored, levels, alpha)
    flow = make(levels=levels, alpha=alpha)
    whole = torch.from_numpy(stored.astype(np.float32)).reshape(-1, 1, 2, 2)
    whole = whole + flow.extra
    torch.testing.assert_close(flow.values(y), whole)
    with torch.no_grad():
        torch.testing.assert_close(flow.log_prob(y) + log_abs_det, flow.pixels.log_prob(whole), atol=1e-4, rtol=1e-4)


def test_it_is_normalised_on_the_line():
    """In the quantiles of the logistic law, in which its density is bounded."""
    flow = make(shape=(1, 1, 2), levels=3, alpha=0.2)  # room below 0 of 0.75
    at = torch.logit((torch.arange(1500) + 0.5) / 1500)
    grid = torch.cartesian_prod(at, at).reshape(-1, 1, 1, 2)
    logistic = -(softplus(grid) + softplus(-grid)).flatten(1).sum(1)
    with torch.no_grad():
        total = (flow.log_prob(grid) - logistic).exp().mean()
    assert float(total) == pytest.approx(1.0, abs=2e-3)


def test_samples_have_the_probabilities_of_their_values():
    flow = make(shape=(1, 1, 2), levels=3)
    drawn = flow.values(flow.sample(20000, gen()))[:, 0, 0]
    every = torch.cartesian_prod(torch.arange(4.0), torch.arange(4.0))
    with torch.no_grad():
        p = flow.pixels.log_prob(every.reshape(-1, 1, 1, 2)).exp()
    share = torch.stack([(drawn == v).all(1).float().mean() for v in every])
    assert torch.allclose(share, p, atol=5 * 0.5 / 20000**0.5)
    within = (torch.sigmoid(flow.sample(20000, gen(2))) - 0.05) * (3 / 0.95)
    assert float(within.min()) >= -0.15 / 0.95 - 1e-4
    assert float(within.max()) < 3.0
    rest = within[within > 0] % 1  # uniform between one whole value and the next
    assert float(rest.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(rest.std()) == pytest.approx(12**-0.5, abs=0.01)


def test_data_that_are_no_logits_are_refused():
    with pytest.raises(UserError):
        LevelPixelCNN(DataInfo((1, 2, 2), "discrete", 50, levels=3))
