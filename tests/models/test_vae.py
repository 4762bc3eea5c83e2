"""VAE objectives against the papers' formulas, and bounds against likelihoods that are known."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo
from latentbench.models.baselines import PPCA
from latentbench.models.vae import VAE, HierarchicalVAE
from torch import Tensor
from torch import distributions as td

BINARY = DataInfo((6,), "binary", 40, mean=torch.tensor([0.0, 0.1, 0.5, 0.5, 0.9, 1.0]))
X = (torch.rand(8, 6, generator=torch.Generator().manual_seed(0)) < 0.4).float()
BATCH = Batch(X, 40)


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(layer: torch.nn.Module, h: Tensor) -> td.Normal:
    """A GaussianLayer's distribution, from its parts."""
    mean, log_std = layer.head(layer.body(h)).chunk(2, -1)
    return td.Normal(mean, log_std.exp())


def log_weights(model: HierarchicalVAE, x: Tensor, k: int, seed: int) -> tuple[Tensor, Tensor]:
    """log p(x, h) - log q(h | x) and log p(x | h_1), (k, N), by the definition, layer by layer."""
    noise = torch.randn(k, len(x), sum(model.latent_dims), generator=gen(seed)).split(model.latent_dims, -1)
    q = [normal(model.q[0], x)]
    h = [q[0].mean + q[0].stddev * noise[0]]
    for layer, eps in zip(model.q[1:], noise[1:]):
        q.append(normal(layer, h[-1]))
        h.append(q[-1].mean + q[-1].stddev * eps)
    log_q = sum(d.log_prob(z).sum(-1) for d, z in zip(q, h))
    log_p = td.Normal(0.0, 1.0).log_prob(h[-1]).sum(-1)
    for layer, below, above in zip(model.p, h, h[1:]):
        log_p = log_p + normal(layer, above).log_prob(below).sum(-1)
    log_px = td.Bernoulli(logits=model.decoder(h[0])).log_prob(x).sum(-1)
    return log_px + log_p - log_q, log_px


def make(layers: int, **params: object) -> HierarchicalVAE:
    torch.manual_seed(1)
    if layers == 1:
        return VAE(BINARY, latent_dim=3, hidden=(7,), **params)
    dims, hidden = (4, 3, 2)[:layers], ((7,), (6, 5), ())[:layers]
    model = HierarchicalVAE(BINARY, latent_dims=dims, hidden=hidden, **params)
    with torch.no_grad():  # layers this narrow start with scales so wide that float32 could not tell formulas apart
        for layer in (*model.q, *model.p):
            layer.head.weight.mul_(0.3)
    return model


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("k", [1, 6])
class TestObjectives:
    def test_elbo(self, layers: int, k: int):
        """The k-sample average of log p(x, h) / q(h | x): IWAE eq. 3."""
        model = make(layers, k=k)
        log_w, log_px = log_weights(model, X, k, seed=3)
        out = model.loss(BATCH, gen(3))
        torch.testing.assert_close(out["loss"], -log_w.mean())
        torch.testing.assert_close(out["distortion"], -log_px.mean())
        torch.testing.assert_close(out["rate"], (log_px - log_w).mean())

    def test_iwae(self, layers: int, k: int):
        """L_k, IWAE eq. 8, and its gradient: the normalised weights times those of the log weights."""
        model = make(layers, k=k, objective="iwae")
        log_w, _ = log_weights(model, X, k, seed=3)
        loss = model.loss(BATCH, gen(3))["loss"]
        torch.testing.assert_close(loss, -(log_w.exp().mean(0).log()).mean())
        loss.backward()
        weights = torch.softmax(log_w, 0).detach()
        surrogate = torch.autograd.grad(-(weights * log_w).sum(0).mean(), list(model.parameters()))
        for p, g in zip(model.parameters(), surrogate):
            torch.testing.assert_close(p.grad, g, rtol=1e-3, atol=1e-6)

    def test_importance_weights(self, layers: int, k: int):
        model = make(layers)
        expected, _ = log_weights(model, X, k, seed=3)
        torch.testing.assert_close(model.log_importance_weights(X, model.posterior(X), k, gen(3)), expected)

    def test_beta_weighs_the_rate(self, layers: int, k: int):
        out = make(layers, k=k, beta=3.0).loss(BATCH, gen(3))
        torch.testing.assert_close(out["loss"], out["distortion"] + 3.0 * out["rate"])


@pytest.mark.parametrize("layers", [1, 2])
def test_no_bound_carries_beta(layers: int):
    """Only the training loss does: what is reported is the bound on log p(x)."""
    plain, weighed = make(layers), make(layers, beta=3.0)
    ours, theirs = (m.elbo(X, gen(3)) for m in (plain, weighed))
    torch.testing.assert_close((ours.rate, ours.distortion), (theirs.rate, theirs.distortion))
    log_w = [m.log_importance_weights(X, m.posterior(X), 4, gen(3)) for m in (plain, weighed)]
    torch.testing.assert_close(*log_w)


def test_iwae_with_one_sample_is_the_elbo():
    losses = [make(2, objective=o).loss(BATCH, gen())["loss"].item() for o in ("elbo", "iwae")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_analytic_kl_agrees_with_samples():
    sampled, exact = make(1, k=20000), make(1, k=20000, kl="analytic")
    a, b = sampled.loss(BATCH, gen())["rate"], exact.loss(BATCH, gen())["rate"]
    assert a.item() == pytest.approx(b.item(), abs=0.02)
    q = normal(exact.q[0], X)
    expected = td.kl_divergence(q, td.Normal(torch.zeros(3), torch.ones(3))).sum(-1)
    torch.testing.assert_close(exact.elbo(X, gen()).rate, expected)


def test_one_layer_of_the_hierarchy_is_the_vae():
    one = make(1)
    torch.manual_seed(1)
    many = HierarchicalVAE(BINARY, latent_dims=(3,), hidden=((7,),))
    many.load_state_dict(one.state_dict())
    torch.testing.assert_close(one.loss(BATCH, gen())["loss"], many.loss(BATCH, gen())["loss"])


def test_encode_puts_the_bottom_layer_first():
    model = make(3)
    code, draw = model.encode(X), model.encode_sample(X, gen())
    assert code.shape == draw.shape == (8, 9)
    first, second = normal(model.q[0], X).mean, normal(model.q[1], normal(model.q[0], X).mean).mean
    torch.testing.assert_close(code[:, :4], first)
    torch.testing.assert_close(code[:, 4:7], second)
    # The second layer's draw is around q's mean given the first layer's draw.
    second = normal(model.q[1], draw[:, :4])
    eps = torch.randn(1, 8, 9, generator=gen())[0, :, 4:7]
    torch.testing.assert_close(draw[:, 4:7], second.mean + second.stddev * eps)


def test_sampling_is_ancestral():
    """Sample frequencies match the marginals that decoding many prior draws gives."""
    model = make(2)
    with torch.no_grad():
        x = model.sample(20000, gen())
        h1 = normal(model.p[0], torch.randn(20000, 3, generator=gen(1)))
        mean = torch.sigmoid(model.decoder(h1.mean + h1.stddev * torch.randn(20000, 4, generator=gen(2)))).mean(0)
    torch.testing.assert_close(x.mean(0), mean, rtol=0, atol=0.02)


def test_samples_are_those_of_every_layers_draw():
    """With the same random numbers, from the top down: a layer that passed its mean on would give other pixels."""
    model, g = make(3), gen(6)
    top, middle, bottom = torch.randn(500, 9, generator=g).split((2, 3, 4), -1)
    with torch.no_grad():
        p = normal(model.p[1], top)
        p = normal(model.p[0], p.mean + p.stddev * middle)
        probability = torch.sigmoid(model.decoder(p.mean + p.stddev * bottom))
        torch.testing.assert_close(model.sample(500, gen(6)), torch.bernoulli(probability, generator=g))


def test_the_encoders_gaussian_is_the_posterior_in_mean_and_log_variance():
    mean, log_variance = make(1).encode_gaussian(X)
    q = normal(make(1).q[0], X)
    torch.testing.assert_close(mean, q.mean)
    torch.testing.assert_close(log_variance, q.variance.log())


def test_the_decoder_has_its_own_widths_and_mirrors_the_encoder_otherwise():
    def widths(*parts: torch.nn.Module) -> list[int]:
        return [m.out_features for part in parts for m in part.modules() if isinstance(m, torch.nn.Linear)]

    hidden = ((8, 7), (6, 5))
    mirrored = HierarchicalVAE(BINARY, latent_dims=(4, 3), hidden=hidden)
    own = HierarchicalVAE(BINARY, latent_dims=(4, 3), hidden=hidden, decoder_hidden=((9, 10, 11), (12,)))
    assert widths(mirrored.decoder, *mirrored.p) == [7, 8, 6, 5, 6, 8]
    assert widths(own.decoder, *own.p) == [9, 10, 11, 6, 12, 8]
    assert widths(*own.q) == widths(*mirrored.q)


def homogeneous(function, at: Tensor) -> bool:
    """Whether it doubles where its argument does, as networks of rectifiers do while their biases are 0."""
    return torch.allclose(function(2 * at), 2 * function(at), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize(("up", "down"), [("tanh", "relu"), ("relu", "tanh"), ("relu", None), ("tanh", None)])
def test_each_side_has_its_own_activation(layers, up, down):
    model = make(layers, activation=up, decoder_activation=down)
    codes = torch.randn(5, model.latent_dims[-1], generator=gen())
    mean = torch.randn(5, model.latent_dims[0], generator=gen(1))
    assert homogeneous(model.encode, X) == (up == "relu")
    assert homogeneous(lambda z: torch.logit(model.decode(z).double()), codes) == ((down or up) == "relu")
    assert homogeneous(model.decoder, mean) == ((down or up) == "relu")


def test_output_starts_at_the_training_mean():
    model = make(1, bias_from_mean=True)
    torch.nn.init.zeros_(model.decoder[-1].weight)
    torch.testing.assert_close(model.decode(torch.randn(2, 3))[0], BINARY.mean.clamp(0.001, 0.999))


@pytest.mark.parametrize(("support", "levels"), [("binary", 2), ("discrete", 3)])
def test_probabilities_that_the_model_implies_sum_to_one(support: str, levels: int):
    """p(x) by quadrature over a one-dimensional code sums to one over all x, and bounds stay below log p(x)."""
    torch.manual_seed(0)
    model = VAE(DataInfo((3,), support, 9, levels=levels), latent_dim=1, hidden=(5,))
    x = torch.tensor(list(itertools.product(range(levels), repeat=3))).float()
    z = torch.linspace(-8, 8, 2001)
    with torch.no_grad():
        model.q[0].head.weight.mul_(0.2)  # near the prior, so that the importance weights have light tails
        joint = model.likelihood.log_prob(x, model.decoder(z[:, None])[:, None].expand(-1, len(x), -1))
        log_p = torch.logsumexp(joint + td.Normal(0.0, 1.0).log_prob(z)[:, None], 0) + math.log(z[1] - z[0])
        assert log_p.exp().sum().item() == pytest.approx(1.0, abs=1e-4)
        log_w = model.log_importance_weights(x, model.posterior(x), 20000, gen())
        elbo = torch.stack([model.elbo(x, gen(i)).value for i in range(400)]).mean(0)
    torch.testing.assert_close(log_w.logsumexp(0) - math.log(20000), log_p, rtol=0, atol=0.05)
    torch.testing.assert_close(elbo, log_w.mean(0), rtol=0, atol=0.15)
    assert (log_w.mean(0) < log_p).all()


class TestLinearGaussian:
    """A linear VAE with the parameters of probabilistic PCA: everything is known exactly."""

    def setup_method(self):
        g = gen(5)
        self.x = torch.randn(60, 2, generator=g) @ torch.randn(2, 5, generator=g) + 0.3 * torch.randn(
            60, 5, generator=g
        )
        self.info = DataInfo((5,), "real", 60)
        self.ppca = PPCA(self.info, latent_dim=2)
        self.ppca.fit(self.x, g)
        self.model = VAE(self.info, latent_dim=2, hidden=(), likelihood={"gaussian": {"scale": "shared"}})
        p = self.ppca
        w = p.directions * (p.variances - p.noise).sqrt()
        with torch.no_grad():
            self.model.decoder[0].weight.copy_(w)
            self.model.decoder[0].bias.copy_(p.mean)
            self.model.likelihood.log_std.copy_(0.5 * p.noise.log()[0])
            posterior = (w / p.variances).T
            self.model.q[0].head.weight.copy_(torch.cat([posterior, torch.zeros(2, 5).double()]))
            self.model.q[0].head.bias.copy_(torch.cat([-posterior @ p.mean, 0.5 * (p.noise / p.variances).log()]))

    def test_with_the_exact_posterior_every_weight_is_the_likelihood(self):
        log_w = self.model.log_importance_weights(self.x, self.model.posterior(self.x), 7, gen())
        torch.testing.assert_close(log_w, self.ppca.log_prob(self.x).expand(7, -1), rtol=1e-4, atol=1e-3)

    def test_elbo_equals_the_likelihood_on_average(self):
        elbo = torch.stack([self.model.elbo(self.x, gen(i)).value for i in range(300)]).mean()
        assert elbo.item() == pytest.approx(self.ppca.log_prob(self.x).mean().item(), abs=0.03)

    def test_iwae_rises_with_k_towards_the_likelihood(self):
        with torch.no_grad():
            self.model.q[0].head.bias += torch.tensor([0.1, -0.1, 0.8, 0.5])
            exact = self.ppca.log_prob(self.x).mean()
            log_w = self.model.log_importance_weights(self.x, self.model.posterior(self.x), 40000, gen())
        bounds = [
            (log_w.unflatten(0, (-1, k)).logsumexp(1) - math.log(k)).mean().item() for k in (1, 2, 5, 50, 500, 5000)
        ]
        assert bounds == sorted(bounds)
        assert bounds[0] < exact - 0.3
        assert exact - 0.01 < bounds[-1] < exact + 0.005

    def test_training_finds_the_optimum(self):
        """Lucas et al. 2019: a linear VAE's global optimum is probabilistic PCA."""
        torch.manual_seed(0)
        model = VAE(
            self.info, latent_dim=2, hidden=(), kl="analytic", k=8, likelihood={"gaussian": {"scale": "shared"}}
        )
        with torch.no_grad():
            model.q[0].head.weight.mul_(0.1)
        optimiser, g = torch.optim.Adam(model.parameters(), 0.03), gen()
        for _ in range(300):
            optimiser.zero_grad()
            model.loss(Batch(self.x, 60), g)["loss"].backward()
            optimiser.step()
        elbo = torch.stack([model.elbo(self.x, gen(i)).value for i in range(100)]).mean().item()
        exact = self.ppca.log_prob(self.x).mean().item()
        assert exact - 0.06 < elbo < exact + 0.03


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"objective": "elbow"}, "did you mean 'elbo'"),
        ({"k": 0}, "k is 0"),
        ({"latent_dim": 0}, "latent_dim is 0"),
        ({"hidden": (8, 0)}, r"hidden\[1\] is 0"),
        ({"hidden": 8}, "hidden is 8"),
        ({"beta": -1}, "beta is -1"),
        ({"beta": 2.0, "objective": "iwae"}, "no separate KL"),
        ({"kl": "analytic", "objective": "iwae"}, "sampled form"),
        ({"kl": "exact"}, "kl is 'exact'"),
        ({"activation": "rely"}, "did you mean 'relu'"),
        ({"decoder_activation": "x"}, "decoder_activation"),
        ({"init": "he"}, "init is 'he'"),
        ({"likelihood": "gaussian"}, "support 'binary'"),
        ({"network": "conv"}, "needs images"),
        ({"bias_from_mean": 1}, "true or false"),
    ],
)
def test_refusals(params: dict, message: str):
    with pytest.raises(UserError, match=message):
        VAE(BINARY, **params)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"latent_dims": ()}, "latent_dims is empty"),
        ({"latent_dims": (3,)}, "hidden is .*1 lists"),
        ({"hidden": ((5,),)}, "2 lists"),
        ({"decoder_hidden": ((5,),)}, "decoder_hidden"),
        ({"hidden": ((5,), 4)}, r"hidden\[1\] is 4"),
    ],
)
def test_hierarchy_refusals(params: dict, message: str):
    with pytest.raises(UserError, match=message):
        HierarchicalVAE(BINARY, **params)


def test_bias_from_an_unknown_mean_is_refused():
    with pytest.raises(UserError, match="training mean"):
        VAE(DataInfo((6,), "binary", 9), bias_from_mean=True)
    info = DataInfo((2,), "discrete", 9, levels=3, mean=torch.ones(2))
    with pytest.raises(UserError, match="categorical"):
        VAE(info, bias_from_mean=True, likelihood="categorical")


def test_after_its_noise_the_loss_is_one_graph():
    """torch.compile cannot trace a generator's draw; everything after it is traced whole."""
    torch._dynamo.reset()
    explained = torch._dynamo.explain(make(2, k=3, objective="iwae").loss)(BATCH, gen())
    torch._dynamo.reset()
    assert explained.graph_count == 1
    assert explained.op_count > 30
