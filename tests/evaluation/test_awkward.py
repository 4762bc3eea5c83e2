"""Likelihood evaluators on awkward data, against loops over rows: RGB of unequal sides, a Jacobian of each row, more
rows than a block, a training split that is another distribution."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from latentbench.core.seeds import generator
from latentbench.core.types import Elbo
from latentbench.evaluation import bounds, likelihood
from latentbench.evaluation.view import BLOCK, View

from tests.evaluation.views import view_of

HEIGHT, WIDTH, COLOURS = 4, 2, 3
DIMS = HEIGHT * WIDTH * COLOURS
ROWS = BLOCK + 7
LN2 = math.log(2.0)


class Slanted(torch.nn.Module):
    """A density that tells channels, rows and columns of (N, C, H, W) apart, and bounds on it with a known gap."""

    def __init__(self) -> None:
        super().__init__()
        self.centre = torch.linspace(-1.0, 2.0, DIMS).view(COLOURS, HEIGHT, WIDTH)

    def log_prob(self, x):
        return torch.distributions.Normal(self.centre, 1.5).log_prob(x).flatten(1).sum(1)

    def posterior(self, x):
        return self.log_prob(x)

    def log_importance_weights(self, x, posterior, k, g):
        return posterior + 0.3 * torch.randn(k, len(x), generator=g) - 0.045  # weights average to one

    def elbo(self, x, g):
        rate = 1.0 + torch.rand(len(x), generator=g)
        return Elbo(rate=rate, distortion=-self.log_prob(x))

    def bound_terms(self, x, g):
        return {"a": 2.0 * torch.rand(len(x), generator=g), "b": -self.log_prob(x)}


@pytest.fixture(scope="module")
def view() -> View:
    rng = np.random.default_rng(3)
    bright = rng.integers(0, 2, (ROWS, 1, 1, 1))  # dark and bright images: their Jacobians differ by many nats
    test = (rng.integers(0, 60, (ROWS, HEIGHT, WIDTH, COLOURS)) + 190 * bright).astype(np.uint8)
    train = rng.integers(100, 140, (50, HEIGHT, WIDTH, COLOURS)).astype(np.uint8)
    return view_of(test, ["dequantise", {"logit": 0.05}], train=train, levels=256)


@pytest.fixture(scope="module")
def by_hand(view) -> list[float]:
    """log-density of each row as stored, plus its noise, in nats: one row and one coordinate at a time."""
    found = []
    for row in view.x.double():
        total = 0.0
        for c in range(COLOURS):
            for h in range(HEIGHT):
                for w in range(WIDTH):
                    y = float(row[c, h, w])
                    centre = -1.0 + 3.0 * (c * HEIGHT * WIDTH + h * WIDTH + w) / (DIMS - 1)
                    p = 1.0 / (1.0 + math.exp(-y))
                    slope = 0.95 / 256 / (p * (1.0 - p))  # of logit(0.05 + 0.95 x / 256)
                    total += -0.5 * ((y - centre) / 1.5) ** 2 - math.log(1.5) - 0.5 * math.log(2 * math.pi)
                    total += math.log(slope)
        found.append(total)
    return found


def measured(evaluator, view, **settings):
    return evaluator(Slanted(), view, settings, generator(0, "evaluation"))


def test_the_rows_are_awkward(view):
    assert tuple(view.x.shape) == (ROWS, COLOURS, HEIGHT, WIDTH)
    assert view.dims == DIMS
    assert float(view.log_abs_det.std()) > 3.0
    assert len(list(view.blocks(100))) > 10
    pixels = torch.from_numpy(view.raw[5].astype("float64"))
    back = view.pipeline.inverse(view.x[5:6])[0]
    assert torch.equal(back.double(), pixels)


def test_exact_likelihoods(view, by_hand):
    nll, bits = measured(likelihood.nll, view), measured(likelihood.bits_per_dim, view)
    assert nll.value == pytest.approx(-np.mean(by_hand), rel=1e-5)
    assert nll.se == pytest.approx(np.std(by_hand, ddof=1) / math.sqrt(ROWS), rel=1e-4)
    assert bits.value * DIMS * LN2 == pytest.approx(nll.value, rel=1e-9)
    assert bits.se * DIMS * LN2 == pytest.approx(nll.se, rel=1e-9)


def test_importance_bounds(view, by_hand):
    nll, bits = measured(likelihood.nll_iw, view, k=120), measured(likelihood.bits_per_dim_iw, view, k=120)
    gap = 0.5 * (math.exp(0.09) - 1.0) / 120  # variance of a mean weight, halved
    assert nll.value == pytest.approx(-np.mean(by_hand) + gap, abs=0.005)
    assert nll.details["k"] == 120
    assert bits.value * DIMS * LN2 == pytest.approx(nll.value, rel=1e-9)
    one = measured(likelihood.nll_iw, view, k=1)
    assert one.value == pytest.approx(-np.mean(by_hand) + 0.045, abs=5 * 0.3 / math.sqrt(ROWS))


@pytest.mark.parametrize("samples", [2, 40])
def test_the_elbo_and_its_parts(view, by_hand, samples):
    found = measured(likelihood.elbo, view, samples=samples)
    noise = 5 * math.sqrt(1 / 12 / samples / ROWS)
    assert found.value == pytest.approx(np.mean(by_hand) - 1.5, abs=noise)
    assert found.details["rate"] == pytest.approx(1.5, abs=noise)
    assert found.value == pytest.approx(
        -found.details["rate"] - found.details["distortion"] + float(view.log_abs_det.double().mean()), rel=1e-6
    )
    spread = math.sqrt(np.var(by_hand, ddof=1) + 1 / 12 / samples) / math.sqrt(ROWS)
    assert found.se == pytest.approx(spread, rel=0.02)


@pytest.mark.parametrize("samples", [3, 30])
def test_bounds_of_parts(view, by_hand, samples):
    nll, bits = (measured(e, view, samples=samples) for e in (bounds.nll_elbo, bounds.bits_per_dim_elbo))
    assert nll.value == pytest.approx(-np.mean(by_hand) + 1.0, abs=5 * math.sqrt(1 / 3 / samples / ROWS))
    assert nll.details["a"] == pytest.approx(1.0, abs=5 * math.sqrt(1 / 3 / samples / ROWS))
    assert bits.value * DIMS * LN2 == pytest.approx(nll.value, rel=1e-9)
    spread = measured(bounds.bound_spread, view, samples=samples)
    assert spread.value * DIMS * LN2 == pytest.approx(math.sqrt(1 / 3), rel=0.05)
