"""MuLAN with its context, against an enumeration of all contexts."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from latentbench.core.types import DataInfo
from latentbench.papers.mulan import mulan
from latentbench.papers.mulan.mulan import MuLAN
from torch import Tensor

SMALL = {"mlp": {"width": 8, "layers": 1}}


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def made(latents: int, chosen: int) -> MuLAN:
    torch.manual_seed(2)
    model = MuLAN(
        DataInfo((2,), "real", 9),
        network=SMALL,
        encoder=SMALL,
        latents=latents,
        chosen=chosen,
        schedule_width=8,
        gamma=(-4.0, 4.0),
    )
    for p in model.parameters():
        p.data = 1.5 * p.data + 0.4 * torch.randn(p.shape)
    return model.eval()


def logits_of(model: MuLAN, x: Tensor) -> Tensor:
    features = torch.nn.functional.silu(model.encoder(x, x.new_zeros(len(x))))
    return model.logits(features.flatten(1))


def sets(logits: Tensor, k: int) -> dict[tuple[int, ...], float]:
    """Probability of each set of the first k of a Plackett-Luce order, summed over its orders."""
    found: dict[tuple[int, ...], float] = {}
    for order in itertools.permutations(range(len(logits)), k):
        left, total = list(range(len(logits))), torch.zeros(())
        for i in order:
            total = total + logits[i] - torch.logsumexp(logits[left], 0)
            left.remove(i)
        key = tuple(sorted(order))
        found[key] = found.get(key, 0.0) + float(total.exp())
    return found


def test_contexts_are_drawn_as_enumerated():
    model, x = made(4, 2), torch.tensor([[0.7, -1.1]])
    with torch.no_grad():
        wanted = sets(logits_of(model, x)[0], 2)
        n = 20_000
        drawn, _ = model.draw_context(x.expand(n, -1), gen())
    assert sum(wanted.values()) == pytest.approx(1.0, abs=1e-5)
    assert max(wanted.values()) > 2 * min(wanted.values())
    for members, p in wanted.items():
        flags = torch.zeros(4)
        flags[list(members)] = 1.0
        share = float((drawn.round() == flags).all(1).float().mean())
        assert share == pytest.approx(p, abs=5 * (p * (1 - p) / n) ** 0.5 + 1e-4)


def test_the_bound_is_the_mean_over_all_contexts():
    """Diffusion and latent terms of one datum, by all contexts of one of three, each with its own schedule."""
    model, x = made(3, 1), torch.tensor([[0.5, -0.4]])
    n = 4000

    def terms(rows: Tensor, seed: int) -> dict[str, float]:
        with torch.no_grad():
            return {k: float(v.double().mean()) for k, v in model.bound_terms(rows, gen(seed)).items()}

    found = [terms(x.expand(n, -1), seed) for seed in range(4)]
    with torch.no_grad():
        q = logits_of(model, x)[0].softmax(0)
    diffusion, own = 0.0, MuLAN.draw_context
    each = []
    for i in range(3):
        context = torch.eye(3)[i].expand(n, -1)
        model.draw_context = lambda y, g, c=context: (c, torch.zeros(n))  # type: ignore[method-assign]
        each.append(sum(terms(x.expand(n, -1), 10 + s)["diffusion"] for s in range(2)) / 2)
        diffusion += float(q[i]) * each[-1]
    assert max(each) - min(each) > 0.1 * diffusion, "the contexts differ"
    assert sum(f["diffusion"] for f in found) / 4 == pytest.approx(diffusion, rel=0.03)
    kl = float((q * (q * 3).log()).sum())
    assert sum(f["latent"] for f in found) / 4 == pytest.approx(kl, abs=1e-4)
    assert own is MuLAN.draw_context


def test_a_contexts_cost_is_the_kl_of_all_its_choices_in_their_order():
    """The mean over draws of 2 of 4, against all ordered draws; it differs from that of the first choice alone."""
    model, x = made(4, 2), torch.tensor([[0.7, -1.1]])
    with torch.no_grad():
        q = logits_of(model, x)[0].double().softmax(0)
        _, cost = model.draw_context(x.expand(20_000, -1), gen(1))
    p = {(i, j): float(q[i] * q[j] / (1.0 - q[i])) for i, j in itertools.permutations(range(4), 2)}
    exact = sum(v * math.log(v * 12) for v in p.values())
    assert exact > float((q * (4 * q).log()).sum()) + 0.05
    assert float(cost.mean()) == pytest.approx(exact, abs=5 * float(cost.std()) / 20_000**0.5 + 1e-4)


def test_the_prior_draws_sets_uniformly():
    model = made(4, 2)
    drawn = model.prior_context(12_000, gen(), torch.zeros(1))
    assert torch.equal(drawn.sum(1), torch.full((12_000,), 2.0))
    shares = [float((drawn[:, list(pair)].sum(1) == 2).float().mean()) for pair in itertools.combinations(range(4), 2)]
    assert all(abs(s - 1 / 6) < 0.02 for s in shares)


def test_the_gradient_of_a_choice_is_that_of_centred_scores():
    """Adding one number to all scores changes nothing, and raising a score raises its own membership."""
    scores = torch.tensor([[0.4, -0.2, 1.0, 0.1]], requires_grad=True)
    soft = mulan.straight_through(scores, scores.detach().argsort(1, descending=True)[:, :2])
    assert soft.detach().round().tolist() == [[1.0, 0.0, 1.0, 0.0]]
    (slope,) = torch.autograd.grad(soft[0, 1], scores)
    assert float(slope.sum()) == pytest.approx(0.0, abs=1e-6)
    assert slope[0, 1] > 0
