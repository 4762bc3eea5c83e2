"""What MuLAN and NFDM learn besides a denoiser: a latent set with its cost, a forward map, straight paths."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo
from latentbench.models.diffusion.bound import amplitudes
from latentbench.papers.mulan import mulan
from latentbench.papers.mulan.mulan import MuLAN
from latentbench.papers.nfdm.nfdm import NFDM
from torch import Tensor, nn

from .gaussians import gen, rows

REAL = DataInfo((3,), "real", 100)
DISCRETE_IMAGE = DataInfo((1, 4, 4), "discrete", 100, levels=8)
UNET = {"unet": {"width": 8, "multipliers": [1, 2], "patch": 1, "attention": True}}


def plackett_luce(logits: Tensor, order: tuple[int, ...]) -> float:
    """log-probability of drawing `order` one after the other without putting back."""
    left, total = list(range(len(logits))), 0.0
    for i in order:
        total += float(logits[i] - torch.logsumexp(logits[left], 0))
        left.remove(i)
    return total


def test_the_latents_cost_is_the_kl_of_the_ordered_draw_and_bounds_that_of_the_set():
    """Against all ordered draws of 2 of 4, and all sets; the first choice's KL alone would be no bound."""
    logits, k = torch.tensor([1.5, -0.5, 0.8, -1.0]), 2
    n = len(logits)
    orders = list(itertools.permutations(range(n), k))
    log_q = {order: plackett_luce(logits, order) for order in orders}
    assert sum(math.exp(v) for v in log_q.values()) == pytest.approx(1.0, abs=1e-5)
    log_p = -math.log(len(orders))
    exact = sum(math.exp(v) * (v - log_p) for v in log_q.values())
    rest = [[*order, *(i for i in range(n) if i not in order)] for order in orders]
    costs = mulan.ordered_kl(logits[torch.tensor(rest)], k)
    mean = sum(math.exp(log_q[order]) * cost.item() for order, cost in zip(orders, costs, strict=True))
    assert mean == pytest.approx(exact, abs=1e-5)
    sets: dict[frozenset[int], float] = {}
    for order, value in log_q.items():
        sets[frozenset(order)] = sets.get(frozenset(order), 0.0) + math.exp(value)
    of_sets = sum(q * math.log(q * math.comb(n, k)) for q in sets.values())
    first = float((logits.softmax(0) * (logits.log_softmax(0) + math.log(n))).sum())
    assert first < of_sets <= mean

    # the perturbed scores' order is such a draw
    scores = logits + mulan.gumbel(logits.expand(60_000, n), gen())
    drawn = scores.argsort(1, descending=True)[:, :k].tolist()
    share = sum(tuple(pair) == (0, 2) for pair in drawn) / 60_000
    assert share == pytest.approx(math.exp(log_q[0, 2]), abs=0.008)


def test_uniform_logits_cost_nothing():
    torch.testing.assert_close(mulan.ordered_kl(torch.zeros(3, 10), 4), torch.zeros(3), atol=1e-5, rtol=0)


def test_a_context_is_a_set_of_the_right_size_with_a_gradient():
    torch.manual_seed(0)
    model = MuLAN(REAL, latents=7, chosen=3)
    nn.init.normal_(model.encoder.head.weight)
    x = rows(20)
    context, cost = model.draw_context(x, gen())
    assert torch.allclose(context, context.round(), atol=1e-6)
    assert torch.allclose(context.sum(1), torch.full((20,), 3.0), atol=1e-5)
    assert (cost > 0).all()
    prior = model.prior_context(5000, gen(), x)
    assert torch.equal(prior.sum(1), torch.full((5000,), 3.0))
    assert (prior.mean(0) - 3 / 7).abs().max() < 0.03
    (context * torch.arange(7)).sum().backward()
    assert model.logits.weight.grad.abs().max() > 0


def test_schedule_and_denoiser_see_the_context_and_the_bound_counts_it():
    torch.manual_seed(0)
    model = MuLAN(REAL, latents=6, chosen=2)
    for p in model.parameters():
        p.data = 0.3 * torch.randn(p.shape)
    a, b = torch.eye(6)[:1], torch.eye(6)[1:2]
    t = torch.tensor([0.4])
    assert (model.noise(t, a).gamma - model.noise(t, b).gamma).abs().min() > 1e-3
    assert model.noise(t, a).gamma.unique().numel() == 3
    z, gamma = torch.zeros(1, 3), torch.zeros(1, 1)
    assert (model.predict(z, gamma, a) - model.predict(z, gamma, b)).abs().max() > 1e-3
    for at in (0.0, 1.0):
        expected = torch.full((1, 3), model.low if at == 0 else model.high)
        torch.testing.assert_close(model.noise(torch.tensor([at]), a).gamma, expected)
    terms = model.bound_terms(rows(8), gen())
    assert set(terms) == {"prior", "reconstruction", "diffusion", "latent"}
    out = model.loss(Batch(rows(8), 8), gen())
    assert out["loss"].item() == pytest.approx(sum(t.mean().item() for t in terms.values()), rel=1e-5)


def test_a_latent_that_tells_all_is_paid_for_in_full():
    """A fair bit that c names and the denoiser reads off c: the bound is its entropy, ln 2, not nothing."""

    class Telling(MuLAN):
        def draw_context(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
            logits = 12.0 * torch.cat([x, -x], 1)
            order = (logits + mulan.gumbel(logits, generator)).argsort(1, descending=True)
            return mulan.members(order[:, :1], logits), mulan.ordered_kl(logits.gather(1, order), 1)

        def predict(self, z: Tensor, gamma: Tensor, context: Tensor | None = None) -> Tensor:
            assert context is not None
            alpha, sigma = amplitudes(gamma)
            x = 0.5 * (context[:, :1] - context[:, 1:])  # bits lie at -1/2 and 1/2
            return alpha * (z - alpha * x) / sigma - sigma * x

    model = Telling(DataInfo((1,), "binary", 9), latents=2, chosen=1, gamma=(-6.0, 9.0))
    x = torch.tensor([[0.0], [1.0]]).repeat(500, 1)
    terms = {name: term.mean().item() for name, term in model.bound_terms(x, gen()).items()}
    assert terms["latent"] == pytest.approx(math.log(2), abs=1e-3)
    assert sum(terms.values()) == pytest.approx(math.log(2), abs=1e-2)


def learned(info: DataInfo = REAL, **params: object) -> NFDM:
    torch.manual_seed(1)
    model = NFDM(info, **params)
    for p in model.parameters():
        p.data = p.data + 0.1 * torch.randn(p.shape)
    return model


def test_the_map_keeps_its_ends_and_its_rates_are_derivatives():
    model, x = learned(delta=0.02), rows(5)
    for at, mean, std in ((0.0, x, 0.02), (1.0, torch.zeros_like(x), 1.0)):
        path = model.map(x, torch.full((5,), at))
        torch.testing.assert_close(path.mean, mean)
        torch.testing.assert_close(path.log_std.exp(), torch.full_like(x, std))
    path, h = model.map(x, torch.full((5,), 0.4)), 1e-2
    up, down = (model.map(x, torch.full((5,), 0.4 + s)) for s in (h, -h))
    torch.testing.assert_close(path.mean_rate, (up.mean - down.mean) / (2 * h), atol=2e-2, rtol=2e-2)
    torch.testing.assert_close(path.log_std_rate, (up.log_std - down.log_std) / (2 * h), atol=2e-2, rtol=2e-2)
    middle = path.mean - 0.6 * x
    assert middle.abs().max() > 1e-3  # it has learned something


def test_the_maps_rates_are_derivatives_where_its_scale_bends():
    """With weights so large that log sigma nears its reach, in float64."""
    model, x = learned(delta=0.02).double(), rows(5).double()
    for p in model.parameters():
        p.data = 6.0 * p.data
    path, h = model.map(x, torch.full((5,), 0.4).double()), 1e-6
    up, down = (model.map(x, torch.full((5,), 0.4 + s).double()) for s in (h, -h))
    for rate, measured in (
        (path.mean_rate, (up.mean - down.mean) / (2 * h)),
        (path.log_std_rate, (up.log_std - down.log_std) / (2 * h)),
    ):
        assert (rate - measured).abs().max() < 0.01 * measured.abs().max()
    bent = (path.log_std - 0.6 * math.log(0.02)) / 0.24
    assert bent.abs().max() > 1.5


def test_nfdms_integrand_is_its_formula():
    """NFDM eq. 10 (reverse drifts at x and x_hat over 2 g^2), with the score by autograd and drifts by finite steps."""
    model, x = learned(delta=0.05), rows(6)
    terms = model.bound_terms(x, gen(2))
    from latentbench.models.diffusion.ends import stratified

    g = gen(2)
    t, eps = stratified(6, g, x), torch.randn(x.shape, generator=g)
    at = model.map(x, t)
    z = at.mean + at.log_std.exp() * eps
    model_x = model.predict(z, t)
    model.double()
    z, t, x, g2 = z.double(), t.double(), x.double(), model.squared_volatility(t.double())

    def drift(x: Tensor) -> Tensor:
        centre = model.map(x, t)
        eps = ((z - centre.mean) / centre.log_std.exp()).detach()
        h = 1e-4
        up, down = (model.map(x, t + s) for s in (h, -h))
        flow = ((up.mean + up.log_std.exp() * eps) - (down.mean + down.log_std.exp() * eps)) / (2 * h)
        leaf = z.detach().clone().requires_grad_()
        density = torch.distributions.Normal(centre.mean.detach(), centre.log_std.exp().detach()).log_prob(leaf).sum()
        (score,) = torch.autograd.grad(density, leaf)
        return flow - 0.5 * g2 * score

    expected = ((drift(x) - drift(model_x.double())).square() / (2 * g2)).sum(1)
    torch.testing.assert_close(terms["diffusion"].double(), expected, rtol=2e-3, atol=2e-3)


def test_bending_is_the_acceleration_along_the_deterministic_path():
    model = learned(delta=0.1)
    z, t, h = torch.randn(6, 3, generator=gen()), torch.full((6,), 0.5), 1e-3
    model.double()
    z, t = z.double(), t.double()
    still = model.flow(z, t)
    ahead, behind = model.flow(z + h * still, t + h), model.flow(z - h * still, t - h)
    expected = ((ahead - behind) / (2 * h)).square().sum(1)
    torch.testing.assert_close(model.bending(z, t), expected, rtol=1e-3, atol=1e-6)


def test_the_penalty_straightens_paths():
    from latentbench.papers.nfdm.measure import straightness

    x = torch.randn(200, 3, generator=gen()).sign() * torch.tensor([1.0, 1.0, 0.1])
    found = {}
    for weight in (0.0, 1.0):
        torch.manual_seed(0)
        small = {"mlp": {"width": 32, "layers": 2}}
        model = NFDM(REAL, network=small, forward_network=small, delta=0.05, curvature=weight)
        optimiser, g = torch.optim.Adam(model.parameters(), 3e-3), gen()
        for _ in range(100):
            out = model.loss(Batch(x, 200), g)
            optimiser.zero_grad()
            out["loss"].backward()
            optimiser.step()
        assert ("curvature" in out) == bool(weight)
        with torch.no_grad():
            t = torch.rand(200, generator=gen())
            found[weight] = (
                model.bending(torch.randn(200, 3, generator=gen()), t).mean().item(),
                straightness(model.sample_path(300, 40, gen())).mean().item(),
            )
    assert found[1.0][0] < 0.5 * found[0.0][0]
    assert found[1.0][1] > found[0.0][1]


@pytest.mark.parametrize("make", [MuLAN, NFDM], ids=lambda m: m.__name__)
def test_unets_with_attention_on_discrete_images(make: type[nn.Module]):
    extra = {"encoder": UNET, "latents": 4, "chosen": 2} if make is MuLAN else {"forward_network": UNET}
    torch.manual_seed(0)
    model = make(DISCRETE_IMAGE, network=UNET, sampling_steps=3, **extra)
    x = torch.randint(8, (6, 1, 4, 4), generator=gen()).float()
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(4):
        optimiser.zero_grad()
        model.loss(Batch(x, 6), gen())["loss"].backward()
        optimiser.step()
    assert all(p.grad.abs().max() > 0 for p in model.parameters())
    path = model.sample_path(5, 4, gen())
    assert path.shape == (5, 5, 1, 4, 4)
    drawn = model.sample(5, gen())
    assert torch.equal(drawn, drawn.round().clamp(0, 7))


@pytest.mark.parametrize(
    ("make", "params", "fix"),
    [
        (MuLAN, {"latents": 5, "chosen": 5}, "fewer"),
        (MuLAN, {"latents": 1}, "2 or more"),
        (MuLAN, {"encoder": "cnn"}, "unet"),
        (NFDM, {"delta": 0.0}, "above"),
        (NFDM, {"curvature": -1.0}, "at least 0"),
        (NFDM, {"forward_network": "flow"}, "mlp"),
    ],
)
def test_what_they_cannot_take_is_named(make: type[nn.Module], params: dict, fix: str):
    with pytest.raises(UserError, match=fix):
        make(REAL, **params)
