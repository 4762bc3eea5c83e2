"""Models with discrete latent variables against enumeration."""

from __future__ import annotations

import math

import pytest
import torch
from latentbench.core.capabilities import capabilities_of
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo
from latentbench.models.discrete.vae import DiscreteVAE
from latentbench.papers.gumbel_softmax.class_vae import ClassVAE
from latentbench.papers.gumbel_softmax.structured import StructuredPredictor
from latentbench.papers.reinmax.programme import PolynomialProgramme
from torch import Tensor, nn
from torch import distributions as td

from tests.models.discrete.problems import gen

BINARY = DataInfo((6,), "binary", 40, mean=torch.full((6,), 0.4))
X = (torch.rand(8, 6, generator=torch.Generator().manual_seed(0)) < 0.4).float()
BATCH = Batch(X, 40)


def vae(estimator: object = "enumerate", layout: str = "3x2", **params: object) -> DiscreteVAE:
    torch.manual_seed(1)
    model = DiscreteVAE(BINARY, layout=layout, hidden=(7,), estimator=estimator, prior="learned", **params)
    with torch.no_grad():
        model.prior.add_(0.5 * torch.randn(model.prior.shape))
        for p in model.parameters():
            p.mul_(2.0)
    return model


def joint(model: DiscreteVAE, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """log p(x | z), log p(z) and log q(z | x) of every code, (S, N) each but the prior's (S, 1), by the definition."""
    states = model.layout.states()
    index = states.argmax(-1)
    logits = model.layout.logits(model.encoder(x))
    q = td.Categorical(logits=logits)
    log_q = torch.stack([q.log_prob(i.expand(len(x), -1)).sum(-1) for i in index])
    prior = td.Categorical(logits=model.prior)
    log_p = torch.stack([prior.log_prob(i).sum() for i in index])[:, None]
    out = model.decoder(states[..., 1] if model.layout.categories == 2 else states.flatten(1))
    log_px = td.Bernoulli(logits=out[:, None]).log_prob(x).sum(-1)
    return log_px, log_p, log_q


@pytest.mark.parametrize("layout", ["3x2", "2x3", "5x1"])
class TestVAE:
    def test_the_enumerated_loss_is_the_elbo_with_its_gradient(self, layout: str):
        model = vae(layout=layout)
        log_px, log_p, log_q = joint(model, X)
        wanted = -(log_q.exp() * (log_px + log_p - log_q)).sum(0).mean()
        out = model.loss(BATCH, gen())
        torch.testing.assert_close(out["loss"], wanted)
        ours = torch.autograd.grad(out["loss"], list(model.parameters()))
        for mine, theirs in zip(ours, torch.autograd.grad(wanted, list(model.parameters()))):
            torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-5)

    def test_bounds_approach_the_likelihood_from_below(self, layout: str):
        model = vae(layout=layout)
        with torch.no_grad():
            log_px, log_p, log_q = joint(model, X)
            exact = (log_px + log_p).logsumexp(0)
            elbo = (log_q.exp() * (log_px + log_p - log_q)).sum(0)
            draws = torch.stack([model.elbo(X, gen(i)).value for i in range(2000)])
            torch.testing.assert_close(draws.mean(0), elbo, rtol=0, atol=0.15)
            weights = model.log_importance_weights(X, model.posterior(X), 20_000, gen(1))
            torch.testing.assert_close(weights.logsumexp(0) - math.log(20_000), exact, rtol=0, atol=0.1)
            assert (elbo < exact).all()
        assert log_p.exp().sum().item() == pytest.approx(1.0, abs=1e-5)
        torch.testing.assert_close(log_q.exp().sum(0), torch.ones(8), rtol=1e-4, atol=1e-5)

    def test_samples_follow_the_model(self, layout: str):
        model = vae(layout=layout)
        with torch.no_grad():
            _, log_p, _ = joint(model, X)
            out = model.decoder(model.layout.flat(model.layout.states()))
            mean = (log_p.exp() * torch.sigmoid(out)).sum(0)
            torch.testing.assert_close(model.sample(20_000, gen()).mean(0), mean, rtol=0, atol=0.02)

    def test_the_exact_gradient_is_that_of_the_enumerated_cost(self, layout: str):
        model = vae(layout=layout)
        logits = model.posterior(X).detach().requires_grad_()
        log_px, _, _ = joint(model, X)
        states = model.layout.states()
        q = (states[:, None] * logits.log_softmax(-1)).sum((-1, -2)).exp()
        (wanted,) = torch.autograd.grad(-(q * log_px.detach()).sum(), logits)
        torch.testing.assert_close(model.exact_gradient(X), wanted.flatten(1), rtol=1e-3, atol=1e-5)

    def test_gradient_estimates_are_independent_and_unbiased_where_their_estimator_is(self, layout: str):
        model = vae({"reinforce": {"baseline": "none"}}, layout)
        with torch.no_grad():
            sample = model.eval().gradient_estimates(X[:2], 30_000, gen())
        assert sample.shape == (30_000, 2, model.layout.latents * model.layout.categories)
        se = sample.std(0) / math.sqrt(len(sample))
        assert ((sample.mean(0) - model.exact_gradient(X[:2])).abs() < 4.5 * se + 1e-5).all()
        assert len(sample[:500, 0].unique(dim=0)) > 1


def test_relaxed_codes_stay_in_training():
    """Gumbel-Softmax trains on relaxed codes, and its bound is measured on hard ones."""
    seen: list[Tensor] = []
    model = vae("gumbel_softmax")
    model.decoder.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))
    model.loss(BATCH, gen())
    model.elbo(X, gen())
    relaxed, hard = seen
    assert ((relaxed > 0.01) & (relaxed < 0.99)).any()
    assert ((hard == 0) | (hard == 1)).all()


def test_unbiased_estimators_agree_on_every_parameter():
    """Mean loss gradients of score-function estimators against enumeration, decoder and prior included."""
    model = vae()
    wanted = torch.autograd.grad(model.loss(BATCH, gen())["loss"], list(model.parameters()))
    many = Batch(X.repeat(4000, 1), 40)
    for choice in ({"reinforce": {"baseline": "none"}}, "muprop"):
        other = vae(choice)
        found = torch.autograd.grad(other.loss(many, gen(3))["loss"], list(other.parameters()))
        for mine, theirs in zip(found, wanted):
            torch.testing.assert_close(mine, theirs, rtol=0.0, atol=0.05 * float(theirs.abs().max()) + 0.01)


@pytest.mark.parametrize("name", ["reinforce", "nvil", "muprop"])
def test_normalisation_scales_the_whole_gradient_of_the_encoder(name: str):
    """Both halves of the bound alike: else the KL term, at full weight, would close the code (Mnih & Gregor 2014)."""
    many = Batch(X.repeat(4000, 1), 40)
    means = []
    for normalise in (False, True):
        model = vae({name: {"normalise": normalise}})
        with torch.no_grad():
            for p in model.decoder.parameters():
                p.mul_(6.0)  # costs that spread by several nats
            for seed in range(20):  # settles the running averages
                model.loss(Batch(X.repeat(50, 1), 40), gen(seed))
        parameters = [*model.encoder.parameters()]
        means.append(
            torch.cat([g.flatten() for g in torch.autograd.grad(model.loss(many, gen(3))["loss"], parameters)])
        )
    plain, scaled = means
    share = float(scaled.norm() / plain.norm())
    assert share < 0.7
    torch.testing.assert_close(scaled, share * plain, rtol=0.0, atol=0.05 * float(scaled.abs().max()))


def structured(estimator: object = "enumerate", layout: str = "3x2", layers: int = 2) -> StructuredPredictor:
    torch.manual_seed(2)
    model = StructuredPredictor(BINARY, layout=layout, layers=layers, estimator=estimator)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.5 * torch.randn(p.shape))
    return model


def paths(model: StructuredPredictor, x: Tensor) -> tuple[Tensor, Tensor]:
    """log p(h_1, h_2 | upper) and log p(lower | h_2) of every pair of codes, (S * S, N)."""
    upper, lower = x[:, :3], x[:, 3:]
    states = model.layout.states()

    def log_q(out: Tensor, state: Tensor) -> Tensor:
        return (model.layout.logits(out).log_softmax(-1) * state).sum((-1, -2))

    prior, fit = [], []
    for first in states:
        for second in states:
            below = model.layout.flat(first)
            log_p = log_q(model.layers[0](upper), first) + log_q(model.layers[1](below), second)
            prior.append(log_p)
            out = model.out(model.layout.flat(second))
            fit.append(td.Bernoulli(logits=out).log_prob(lower).sum(-1))
    return torch.stack(prior), torch.stack(fit)


@pytest.mark.parametrize("layout", ["3x2", "2x2"])
def test_structured_prediction_against_all_paths(layout: str):
    model = structured(layout=layout)
    prior, fit = paths(model, X)
    torch.testing.assert_close(prior.exp().sum(0), torch.ones(8), rtol=1e-4, atol=1e-5)
    wanted = -(prior.exp() * fit).sum(0).mean()
    loss = model.loss(BATCH, gen())["loss"]
    torch.testing.assert_close(loss, wanted)
    ours = torch.autograd.grad(loss, list(model.parameters()), retain_graph=True)
    exact = torch.autograd.grad(wanted, list(model.parameters()))
    for mine, theirs in zip(ours, exact):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-5)
    with torch.no_grad():
        weights = model.log_conditional_weights(X, 20_000, gen())
        bound = weights.logsumexp(0) - math.log(20_000)
        torch.testing.assert_close(bound, (prior + fit).logsumexp(0), rtol=0, atol=0.05)


@pytest.mark.parametrize("choice", [{"reinforce": {"baseline": "none"}}, "muprop"], ids=str)
def test_estimators_nest_over_layers_without_bias(choice: object):
    """A surrogate as the cost of another: the mean gradient of both layers is the enumerated one."""
    model = structured()
    wanted = torch.autograd.grad(model.loss(BATCH, gen())["loss"], list(model.parameters()))
    other = structured(choice)
    found = torch.autograd.grad(other.loss(Batch(X.repeat(6000, 1), 40), gen(5))["loss"], list(other.parameters()))
    for mine, theirs in zip(found, wanted):
        torch.testing.assert_close(mine, theirs, rtol=0.0, atol=0.03)


@pytest.mark.parametrize("name", ["gumbel_softmax", "reinmax", "nvil", "muprop", "darn", "slope_annealed"])
@pytest.mark.parametrize("cls", [StructuredPredictor, PolynomialProgramme, DiscreteVAE, ClassVAE])
def test_gradients_reach_every_parameter_and_training_helps(name: str, cls: type[nn.Module]):
    torch.manual_seed(0)
    small = {"latents": 6} if cls is PolynomialProgramme else {"classes": 4} if cls is ClassVAE else {"layout": "3x4"}
    model = cls(BINARY, estimator=name, **small)
    optimiser, losses, g = torch.optim.Adam(model.parameters(), 0.02), [], gen()
    for step in range(150):
        loss = model.loss(Batch(X.repeat(8, 1), 40, step, step / 150), g)["loss"]
        optimiser.zero_grad()
        loss.backward()
        if step == 3:
            for key, p in model.named_parameters():
                assert p.grad is not None, key
                assert p.grad.abs().max() > 0, key
        optimiser.step()
        losses.append(loss.item())
    assert sum(losses[-20:]) < sum(losses[:20])


@pytest.mark.parametrize("cls", [DiscreteVAE, ClassVAE])
def test_an_annealed_slope_is_part_of_the_trained_model(cls: type[nn.Module]):
    """Rate and posterior see the slope that training ended with; the same logits without it give another rate."""
    torch.manual_seed(0)
    small = {"classes": 4} if cls is ClassVAE else {"layout": "3x4", "hidden": (7,)}
    model = cls(BINARY, estimator={"slope_annealed": {"slope": 3.0}}, **small)
    plain = cls(BINARY, estimator="straight_through", **small)
    plain.load_state_dict({k: v for k, v in model.state_dict().items() if k != "estimator.reached"})
    torch.testing.assert_close(model.posterior(X), plain.posterior(X))
    model.loss(Batch(X, 40, 9, 1.0), gen())
    torch.testing.assert_close(model.posterior(X), 3.0 * plain.posterior(X))
    assert (model.elbo(X, gen()).rate - plain.elbo(X, gen()).rate).abs().max() > 1e-3


def class_bounds(model: ClassVAE) -> Tensor:
    """L(x, y) of every row and class, (8, K), with the draw of the style that generator 4 gives; Jang et al., eq. 8."""
    noise = torch.randn(8, 2, generator=gen(4))
    each = []
    for c in range(model.layout.categories):
        y = torch.eye(model.layout.categories)[c].expand(8, -1)
        mean, log_std = model.style(torch.cat([X, y], -1))
        z = mean + log_std.exp() * noise
        log_px = td.Bernoulli(logits=model.decoder(torch.cat([y, z], -1))).log_prob(X).sum(-1)
        divergence = td.kl_divergence(td.Normal(mean, log_std.exp()), td.Normal(0.0, 1.0)).sum(-1)
        each.append(divergence - log_px + math.log(model.layout.categories))
    return torch.stack(each, -1)


def test_class_vae_marginalises():
    """Without labels the loss is eq. 10 of Jang et al. 2017, with one sample of the style."""
    torch.manual_seed(0)
    model = ClassVAE(BINARY, classes=3, latent_dim=2, hidden=(7,), estimator="enumerate")
    q = model.classify(X).softmax(-1)
    wanted = (q * (class_bounds(model) + q.log())).sum(-1).mean()
    torch.testing.assert_close(model.loss(BATCH, gen(4))["loss"], wanted)


def test_class_vae_learns_from_labelled_rows_and_others():
    """Eq. 11 of Jang et al. 2017: means over either kind of row, and the classifier's own loss with its weight."""
    torch.manual_seed(0)
    model = ClassVAE(BINARY, classes=3, latent_dim=2, hidden=(7,), estimator="enumerate", alpha=0.7)
    y = torch.tensor([2, -1, 0, -1, -1, 1, 2, -1])
    known, log_q, bounds = y >= 0, model.classify(X).log_softmax(-1), class_bounds(model)
    labelled = bounds[known, y[known]].mean() - 0.7 * log_q[known, y[known]].mean()
    others = (log_q.exp() * (bounds + log_q)).sum(-1)[~known].mean()
    found = model.loss(Batch(X, 40, columns={"y": y}), gen(4))["loss"]
    torch.testing.assert_close(found, labelled + others)


@pytest.mark.parametrize("estimator", ["gumbel_softmax", "st_gumbel", "muprop", "enumerate"])
def test_labelled_rows_take_their_class_whatever_is_drawn(estimator: str):
    torch.manual_seed(0)
    model = ClassVAE(BINARY, classes=3, latent_dim=2, hidden=(7,), estimator=estimator, alpha=0.0)
    y = torch.tensor([2, 1, 0, 0, 1, 1, 2, 0])
    found = model.loss(Batch(X, 40, columns={"y": y}), gen(4))["loss"]
    torch.testing.assert_close(found, class_bounds(model).gather(1, y[:, None]).mean())


def test_class_vaes_weights_are_those_of_its_density():
    """Against quadrature over a style of one dimension."""
    torch.manual_seed(3)
    model = ClassVAE(BINARY, classes=3, latent_dim=1, hidden=(7,))
    grid = torch.linspace(-8.0, 8.0, 2001)[:, None]
    with torch.no_grad():
        parts = []
        for c in range(3):
            y = torch.eye(3)[c].expand(len(grid), -1)
            out = model.decoder(torch.cat([y, grid], -1))
            log_px = td.Bernoulli(logits=out[:, None]).log_prob(X).sum(-1)
            parts.append((log_px + td.Normal(0.0, 1.0).log_prob(grid)).logsumexp(0) + math.log(16.0 / 2000 / 3))
        weights = model.log_importance_weights(X, model.posterior(X), 5000, gen())
        exact = torch.stack(parts).logsumexp(0)
        torch.testing.assert_close(weights.logsumexp(0) - math.log(5000), exact, rtol=0, atol=0.05)


def test_programme_knows_its_expectation_and_gradient():
    torch.manual_seed(0)
    model = PolynomialProgramme(BINARY, latents=5, power=3.0, start=0.3, estimator={"reinforce": {"baseline": "none"}})
    p = model.logits.softmax(-1)[:, 0]
    torch.testing.assert_close(p, torch.full((5,), 0.3), rtol=0, atol=0.01)
    torch.testing.assert_close(model.expected_cost(), (p * 0.55**3 + (1 - p) * 0.45**3).mean())
    sample = model.eval().gradient_estimates(X[:1], 40_000, gen())[:, 0]
    se = sample.std(0) / math.sqrt(len(sample))
    assert ((sample.mean(0) - model.exact_gradient(X[:1])[0]).abs() < 4.5 * se).all()


def test_reinmax_solves_the_quadratic_programme_and_straight_through_stops_short():
    """Its slope 2 (p - 0.45) changes sign at p = 0.45, where the cost is 0.2475; the optimum is 0.2025."""

    def solved(name: str) -> float:
        torch.manual_seed(0)
        model = PolynomialProgramme(BINARY, latents=16, estimator=name)
        optimiser, g = torch.optim.Adam(model.parameters(), 0.02), gen()
        for _ in range(500):
            loss = model.loss(Batch(X.repeat(8, 1), 40), g)["loss"]
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        return model.expected_cost().item()

    assert solved("reinmax") < 0.215
    assert solved("straight_through") == pytest.approx(0.2475, abs=0.006)


def test_capabilities():
    assert capabilities_of(structured()) == {"Trainable", "ConditionalBound"}
    assert capabilities_of(PolynomialProgramme(BINARY)) == {"Trainable", "EstimatedGradient", "ExpectedCost"}


def test_bad_input():
    odd, image = DataInfo((5,), "binary", 9), DataInfo((1, 4, 4), "binary", 9)
    real = DataInfo((6,), "real", 9)
    for build in (
        lambda: StructuredPredictor(odd),
        lambda: StructuredPredictor(image),
        lambda: StructuredPredictor(real),
        lambda: StructuredPredictor(BINARY, layers=0),
        lambda: ClassVAE(BINARY, classes=2),
        lambda: DiscreteVAE(BINARY, layout="10"),
        lambda: DiscreteVAE(BINARY, prior="flat"),
        lambda: DiscreteVAE(real, likelihood="bernoulli"),
        lambda: DiscreteVAE(DataInfo((1, 8, 8), "binary", 9), network="conv", bias_from_mean=True),
        lambda: PolynomialProgramme(BINARY, power=0.5),
        lambda: PolynomialProgramme(BINARY, start=1.0),
        lambda: vae("reinmax", "4x24").exact_gradient(X),
    ):
        with pytest.raises(UserError):
            build()
