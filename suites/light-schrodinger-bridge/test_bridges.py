"""Models of transport: objectives and plans against the papers' formulas, Gaussian bridges, and what all must do."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from latentbench.core.capabilities import Transporter, capabilities_of
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo
from latentbench.papers.light_schrodinger_bridge.dsbm import DSBM
from latentbench.papers.light_schrodinger_bridge.light_sb import LightSB
from latentbench.papers.light_schrodinger_bridge.pairs import between
from latentbench.papers.light_schrodinger_bridge.plans import EntropicPlan
from latentbench.papers.light_schrodinger_bridge.sinkhorn import Sinkhorn
from torch import Tensor
from torch import distributions as td

INFO = DataInfo((2, 3), "real", 60)
PLAIN = {
    "dims": 3,
    "components": 2,
    "epsilon": 0.7,
    "radius": 2.0,
    "scales": (0.2, 0.8),
    "rotated": True,
    "structure_seed": 1,
}
CASES = {
    "light": (LightSB, {"components": 4, "epsilon": 0.5}),
    "light-full": (LightSB, {"components": 3, "epsilon": 0.5, "covariance": "full", "scale": 0.3}),
    "sinkhorn": (Sinkhorn, {"rows": 40, "epsilon": 0.5}),
    "barycentric": (Sinkhorn, {"rows": 40, "epsilon": 0.5, "lookup": "barycentric"}),
    "dsbm": (DSBM, {"hidden": (8,), "steps": 4, "epsilon": 0.5}),
}
LEARNT = ["light", "light-full", "dsbm"]


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rows(n: int = 60, seed: int = 1) -> Tensor:
    x = torch.randn(n, 2, 3, generator=gen(seed))
    x[:, 1] = 0.5 * x[:, 1] + torch.tensor([2.0, -1.0, 0.0]) * (torch.arange(n) % 2)[:, None]
    return x


def build(name: str, seed: int = 0, steps: int = 3, **params: object) -> torch.nn.Module:
    torch.manual_seed(seed)
    cls, given = CASES[name]
    model, g = cls(INFO, **{**given, **params}), gen(seed)
    if isinstance(model, Sinkhorn):
        model.fit(rows(), g)
        return model
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    model.train()
    for step in range(steps):
        optimiser.zero_grad()
        model.loss(Batch(rows(), 60, step, step / steps), g)["loss"].backward()
        optimiser.step()
    if getattr(model, "below", None) is not None:
        model.below.data += 0.5 * torch.randn(model.below.shape, generator=g)  # roots far from diagonal
    return model.eval()


@pytest.mark.parametrize("name", CASES)
class TestEveryTransporter:
    def test_capabilities(self, name: str):
        assert capabilities_of(build(name)) == {
            "Transporter",
            "Fittable" if issubclass(CASES[name][0], Sinkhorn) else "Trainable",
        }
        assert isinstance(build(name), Transporter)

    @pytest.mark.parametrize("time", [0.0, 0.3, 1.0])
    def test_shapes_and_determinism(self, name: str, time: float):
        x = torch.randn(7, 3, generator=gen(9))
        a, b = (build(name).transport(x, gen(3), time) for _ in range(2))
        assert a.shape == x.shape
        assert a.dtype == torch.float32
        assert a.isfinite().all()
        assert torch.equal(a, b)
        if time == 0.0:
            torch.testing.assert_close(a, x)
        assert build(name).transport(x[:1], gen(3), time).shape == (1, 3)

    def test_draws_come_from_the_generator_alone(self, name: str):
        model = build(name)
        before = torch.get_rng_state()
        x = torch.randn(50, 3, generator=gen(9))
        with torch.no_grad():
            draws = [model.transport(x, gen(i), 0.5) for i in (0, 1)]
            if isinstance(model, Sinkhorn):
                model.fit(rows(), gen())
            else:
                model.loss(Batch(rows(), 60), gen())
        assert torch.equal(torch.get_rng_state(), before)
        assert not torch.equal(*draws)

    @pytest.mark.parametrize("shape", [(6,), (3, 4), (1, 2, 4)])
    def test_other_data_are_refused(self, name: str, shape: tuple[int, ...]):
        cls, params = CASES[name]
        with pytest.raises(UserError, match="rows of two points"):
            cls(DataInfo(shape, "real", 60), **params)
        with pytest.raises(UserError, match="support"):
            cls(DataInfo((2, 3), "binary", 60), **params)

    def test_a_time_outside_is_refused(self, name: str):
        with pytest.raises(UserError, match="time"):
            build(name).transport(torch.zeros(1, 3), gen(), 1.5)


@pytest.mark.parametrize("name", LEARNT)
@pytest.mark.parametrize("progress", [0.0, 0.9])
def test_gradients_reach_every_parameter(name: str, progress: float):
    model = build(name)
    model.zero_grad()
    out = model.loss(Batch(rows(), 60, 3, progress), gen())
    assert [key for key, value in out.items() if value.requires_grad] == ["loss"]
    out["loss"].backward()
    for key, p in model.named_parameters():
        assert p.grad is not None, key
        assert p.grad.abs().max() > 0, key


@pytest.mark.parametrize("name", LEARNT)
def test_seeds_can_be_stacked(name: str):
    models = [_Loss(build(name, seed)) for seed in (0, 1)]
    parameters, buffers = torch.func.stack_module_state(models)
    x = torch.stack([rows(seed=s) for s in (3, 4)])

    def loss(parameters: dict, buffers: dict, x: Tensor) -> Tensor:
        return torch.func.functional_call(models[0], (parameters, buffers), (x, gen()))

    stacked = torch.func.vmap(torch.func.grad_and_value(loss), randomness="same")
    gradients, losses = stacked(parameters, copy.deepcopy(buffers), x)
    for i, model in enumerate(models):
        model.zero_grad()
        alone = model(x[i], gen())
        alone.backward()
        torch.testing.assert_close(losses[i], alone.detach(), rtol=1e-4, atol=1e-4)
        for key, p in model.named_parameters():
            torch.testing.assert_close(gradients[key][i], p.grad, rtol=1e-3, atol=1e-4, msg=key)


class _Loss(torch.nn.Module):
    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, generator: torch.Generator) -> Tensor:
        return self.model.loss(Batch(x, 60, 5, 0.9), generator)["loss"]


@pytest.mark.parametrize("name", ["light", "light-full"])
class TestLightSB:
    def parts(self, model: LightSB) -> tuple[Tensor, Tensor, Tensor]:
        root = model._roots() if model.full else torch.diag_embed(model.log_root.exp())
        return (model.potential / model.epsilon).exp(), model.centres, root @ root.mT

    def test_potential_is_the_mixture(self, name: str):
        """Korotin et al. 2024, eq. 9."""
        model = build(name)
        alpha, r, s = self.parts(model)
        y = rows()[:, 1]
        density = td.MultivariateNormal(r, model.epsilon * s).log_prob(y[:, None]).exp()
        torch.testing.assert_close(model.log_potential(y), (alpha * density).sum(-1).log(), rtol=1e-4, atol=1e-4)

    def test_loss(self, name: str):
        """Their eq. 8, with c(x) as in proposition 3.2."""
        model = build(name)
        alpha, r, s = self.parts(model)
        x = rows()[:, 0]
        inner = torch.stack([torch.einsum("ni,ij,nj->n", x, m, x) + 2 * x @ c for m, c in zip(s, r)], 1)
        log_c = (alpha * (inner / (2 * model.epsilon)).exp()).sum(-1).log()
        expected = log_c.mean() - model.log_potential(rows()[:, 1]).mean()
        torch.testing.assert_close(model.loss(Batch(rows(), 60, 1), gen())["loss"], expected, rtol=1e-4, atol=1e-4)

    def test_plan_is_normalised(self, name: str):
        """c(x) is the integral of exp(x'y / ε) v(y): by importance sampling from the plan's own mixture."""
        torch.manual_seed(0)
        cls, params = CASES[name]
        model = cls(DataInfo((2, 1), "real", 60), **params)
        y = torch.linspace(-30, 30, 20001)[:, None]
        for point in (-1.0, 0.3, 2.0):
            mass = model.log_plan(torch.full_like(y, point), y).exp().sum() * (y[1] - y[0])
            assert mass.item() == pytest.approx(1.0, abs=1e-4)

    def test_draws_have_the_plans_moments(self, name: str):
        model = build(name)
        x = torch.tensor([[0.5, -1.0, 0.2]])
        _, r, s = self.parts(model)
        weights = model.log_weights(x).softmax(-1)[0]
        means = r + (s @ x[0])
        mean = weights @ means
        apart = means - mean
        covariance = torch.einsum("k,kij->ij", weights, model.epsilon * s + apart[:, :, None] * apart[:, None])
        with torch.no_grad():
            y = model.transport(x.expand(200_000, -1), gen())
        torch.testing.assert_close(y.mean(0), mean, rtol=0, atol=0.02)
        torch.testing.assert_close(y.T.cov(), covariance, rtol=0, atol=0.03)

    def test_finds_a_known_plan(self, name: str):
        """Trained on unpaired points, its plan's log-density nears the true one, which is of its form."""
        plan = EntropicPlan(**PLAIN)
        g, rng = gen(), np.random.default_rng(0)
        source = rng.standard_normal((4000, 3))
        target = plan.sample_conditional(rng.standard_normal((4000, 3)), rng)
        x = torch.from_numpy(np.stack([source, target], 1)).float()
        torch.manual_seed(0)
        model = LightSB(INFO, epsilon=0.7, components=6, covariance=CASES[name][1].get("covariance", "diag")).train()
        optimiser = torch.optim.Adam(model.parameters(), 3e-2)
        for step in range(400):
            batch = x[torch.randint(4000, (256,), generator=g)]
            optimiser.zero_grad()
            model.loss(Batch(batch, 4000, step, step / 400), g)["loss"].backward()
            optimiser.step()
        a = rng.standard_normal((2000, 3))
        b = plan.sample_conditional(a, rng)
        with torch.no_grad():
            ours = model.log_plan(torch.from_numpy(a).float(), torch.from_numpy(b).float()).numpy()
        gap = (plan.log_conditional(a, b) - ours).mean()  # KL(π* || π)
        assert -0.02 < gap < (0.05 if model.full else 0.15)

    def test_centres_start_at_targets(self, name: str):
        torch.manual_seed(0)
        cls, params = CASES[name]
        model, x = cls(INFO, **params).train(), rows()
        model.loss(Batch(x, 60), gen())
        assert (torch.cdist(model.centres, x[:, 1]).min(1).values == 0).all()
        kept = model.centres.clone()
        model.loss(Batch(rows(seed=5), 60), gen())
        assert torch.equal(kept, model.centres), "once only"
        torch.manual_seed(0)
        other = cls(INFO, **params, init="normal").train()
        kept = other.centres.clone()
        other.loss(Batch(x, 60), gen())
        assert torch.equal(kept, other.centres)
        few = cls(INFO, **params).train()
        few.loss(Batch(x[:2], 60), gen())
        assert few.centres.isfinite().all(), "fewer rows than components"


class TestSinkhorn:
    def test_plan_on_the_samples_has_their_marginals(self):
        model, x = build("sinkhorn"), rows()
        plan = model._log_weights(x[:40, 0]).exp()  # rows normalised; columns must then average to 1 / n
        torch.testing.assert_close(plan.mean(0), torch.full((40,), 1 / 40).double(), rtol=0, atol=1e-5)

    def test_optimality(self):
        """log π + cost / ε is a sum of a function of x and one of y: the plan is entropic-optimal."""
        model, x = build("sinkhorn"), rows()
        cost = 0.5 * torch.cdist(x[:40, 0].double(), x[:40, 1].double()).square()
        residue = model._log_weights(x[:40, 0]) + cost / 0.5
        residue = residue - residue.mean(0) - residue.mean(1, keepdim=True) + residue.mean()
        assert residue.abs().max() < 1e-9

    def test_lookups(self):
        x = torch.randn(1, 3, generator=gen(4))
        drawn = build("sinkhorn").transport(x.expand(40_000, -1), gen())
        mean = build("barycentric").transport(x, gen())
        torch.testing.assert_close(drawn.mean(0), mean[0], rtol=0, atol=0.03)
        assert (torch.cdist(drawn[:50], rows()[:40, 1]).min(1).values < 1e-5).all(), "draws are training targets"

    def test_refusals(self):
        with pytest.raises(UserError, match="has not been fitted"):
            Sinkhorn(INFO).transport(torch.zeros(1, 3), gen())
        with pytest.raises(UserError, match="samples"):
            Sinkhorn(INFO).fit(rows(10), gen())
        with pytest.raises(UserError, match="lookup"):
            Sinkhorn(INFO, lookup="nearest")


class TestDSBM:
    def test_matching_has_its_minimum_at_the_conditional_mean(self):
        """For a network that knows the far end exactly, the loss is zero; it is ‖error‖² otherwise."""
        model, x = build("dsbm"), rows()
        near, far = x.unbind(1)
        target = torch.tensor([0.3, 0.1, -0.2])

        def off(z: Tensor) -> Tensor:  # sees x_t, returns far - x_t + a constant error
            return far - z[:, :3] + target

        loss = model._matching(off, near, far, gen())
        assert loss.item() == pytest.approx(target.square().sum().item(), rel=1e-4)

    def test_simulation_with_the_exact_drift_is_the_gaussian_bridge(self):
        """Between N(0, 1) and N(m, 1) the bridge for variance ε has correlation c = (1 + ε²/4)^½ - ε/2 (Janati et al.
        2020); its forward drift is known, and Euler-Maruyama with many steps gives its moments."""
        eps, m = 0.5, 2.0
        c = math.sqrt(1 + eps**2 / 4) - eps / 2
        torch.manual_seed(0)
        model = DSBM(DataInfo((2, 1), "real", 60), epsilon=eps, steps=400)

        def exact(model_x: Tensor, left: Tensor) -> Tensor:
            t = 1 - left
            mean_t = t * m
            var_t = (1 - t) ** 2 + t**2 + 2 * t * (1 - t) * c + eps * t * (1 - t)
            cov = (1 - t) * c + t  # of X_t and X_1
            return m + cov / var_t * (model_x - mean_t)

        model._end = lambda net, x, left: exact(x, left)
        x = torch.randn(40_000, 1, generator=gen())
        y = model.transport(x, gen(1))
        assert y.mean().item() == pytest.approx(m, abs=0.03)
        assert y.var().item() == pytest.approx(1.0, abs=0.04)
        assert torch.corrcoef(torch.cat([x, y], 1).T)[0, 1].item() == pytest.approx(c, abs=0.02)

    def test_the_gaussian_bridge_is_its_fixed_point_both_ways(self):
        """With both exact drifts of the bridge between N(0, 1) and N(m, s^2), the pairs that training simulates have
        the plan's coupling whichever way, and no linear change of either drift lowers its loss."""
        eps, m, s = 0.5, 2.0, 1.5
        c = math.sqrt(s**2 + eps**2 / 4) - eps / 2  # covariance of the plan (Janati et al. 2020)
        torch.manual_seed(0)
        model = DSBM(DataInfo((2, 1), "real", 60), epsilon=eps, steps=200)
        slope = {k: torch.zeros((), requires_grad=True) for k in ("forth", "back")}
        offset = {k: torch.zeros((), requires_grad=True) for k in ("forth", "back")}

        def end(net, x, left):
            way = "forth" if net is model.forth else "back"
            t = (1 - left) if way == "forth" else left  # time since the source
            var = (1 - t) ** 2 + t**2 * s**2 + 2 * t * (1 - t) * c + eps * t * (1 - t)
            far, cov = (m, (1 - t) * c + t * s**2) if way == "forth" else (0.0, (1 - t) + t * c)
            return far + (cov / var + slope[way]) * (x - t * m) + offset[way]

        model._end = end
        x = torch.randn(20_000, 1, generator=gen())
        y = m + s * torch.randn(20_000, 1, generator=gen(1))
        with torch.no_grad():
            ends, starts = model._simulate(model.forth, x, 1.0, gen(2)), model._simulate(model.back, y, 1.0, gen(3))
        for pairs in (torch.cat([x, ends], 1), torch.cat([starts, y], 1)):
            wanted = torch.tensor([[1.0, c], [c, s**2]])
            torch.testing.assert_close(torch.cov(pairs.T), wanted, rtol=0.06, atol=0.05)
            torch.testing.assert_close(pairs.mean(0), torch.tensor([0.0, m]), rtol=0, atol=0.05)
        loss = model.loss(Batch(torch.stack([x, y], 1), 60, progress=0.99), gen(4))["loss"]
        for way in ("forth", "back"):
            pull = torch.autograd.grad(loss, [slope[way], offset[way]], retain_graph=True)
            assert max(abs(float(g)) for g in pull) < 0.08, way

    def test_each_direction_learns_from_what_the_other_simulates(self, monkeypatch):
        """Forth from (simulated backward from y, y), back from (simulated forward from x, x); at first from (x, y)."""
        model, x = build("dsbm"), rows()
        pairs = {}

        def matching(net, near, far, generator):
            pairs["forth" if net is model.forth else "back"] = (near, far)
            return near.sum() * 0.0

        monkeypatch.setattr(model, "_matching", matching)
        monkeypatch.setattr(
            model, "_simulate", lambda net, x, until, generator: x + (7.0 if net is model.back else 9.0)
        )
        source, target = x.unbind(1)
        model.loss(Batch(x, 60, progress=0.99), gen())
        wanted = {"forth": (target + 7.0, target), "back": (source + 9.0, source)}
        assert all(torch.equal(a, b) for k in wanted for a, b in zip(pairs[k], wanted[k], strict=True))
        model.loss(Batch(x, 60, progress=0.0), gen())
        wanted = {"forth": (source, target), "back": (target, source)}
        assert all(torch.equal(a, b) for k in wanted for a, b in zip(pairs[k], wanted[k], strict=True))

    def test_learns_a_gaussian_bridge(self):
        torch.manual_seed(0)
        g = gen()
        x = torch.stack([torch.randn(4000, 1, generator=g), 2 + torch.randn(4000, 1, generator=g)], 1)
        model = DSBM(DataInfo((2, 1), "real", 4000), epsilon=0.5, hidden=(32, 32), steps=10).train()
        optimiser = torch.optim.Adam(model.parameters(), 1e-2)
        for step in range(800):
            batch = x[torch.randint(4000, (256,), generator=g)]
            optimiser.zero_grad()
            model.loss(Batch(batch, 4000, step, step / 800), g)["loss"].backward()
            optimiser.step()
        with torch.no_grad():
            y = model.transport(x[:, 0], g)
        c = math.sqrt(1 + 0.25 / 4) - 0.25
        assert y.mean().item() == pytest.approx(2.0, abs=0.15)
        assert torch.corrcoef(torch.cat([x[:, 0], y], 1).T)[0, 1].item() == pytest.approx(
            c, abs=0.05
        )  # 0.70 by bridge matching alone


def test_brownian_bridge():
    x, y = torch.zeros(50_000, 1), torch.ones(50_000, 1)
    z = between(x, y, 0.3, 2.0, gen())
    assert z.mean().item() == pytest.approx(0.3, abs=0.02)
    assert z.var().item() == pytest.approx(2.0 * 0.3 * 0.7, abs=0.02)


@pytest.mark.parametrize(
    ("cls", "params", "message"),
    [
        (LightSB, {"epsilon": 0.0}, "epsilon is 0"),
        (LightSB, {"components": 0}, "components is 0"),
        (LightSB, {"covariance": "tied"}, "covariance"),
        (LightSB, {"init": "zero"}, "init"),
        (LightSB, {"scale": -1.0}, "scale"),
        (Sinkhorn, {"rows": 1}, "rows is 1"),
        (Sinkhorn, {"iterations": 0}, "iterations"),
        (DSBM, {"steps": 0}, "steps is 0"),
        (DSBM, {"pretrain": 1.5}, "pretrain"),
        (DSBM, {"activation": "x"}, "activation"),
    ],
)
def test_refusals(cls: type, params: dict, message: str):
    with pytest.raises(UserError, match=message):
        cls(INFO, **params)
