"""Sentence VAE: probabilities sum to one over sentences, padding has no part, and AutoGen's identity."""

from __future__ import annotations

import itertools

import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo
from latentbench.models.baselines import PPCA
from latentbench.papers.autogen.sentence_vae import SentenceVAE, autogen_bound
from torch import distributions as td

INFO = DataInfo((4,), "discrete", 40, levels=3)
X = torch.tensor([[1, 2, 0, 0], [2, 0, 0, 0], [1, 1, 2, 0], [0, 0, 0, 0], [2, 2, 1, 1]]).float()


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make(**params: object) -> SentenceVAE:
    torch.manual_seed(1)
    return SentenceVAE(INFO, **{"latent_dim": 2, "embedding": 5, "width": 6, **params})


def sentences() -> torch.Tensor:
    """Every sentence of up to four words of {1, 2}, closed by 0 where it is shorter."""
    rows = []
    for n in range(5):
        rows += [[*words, *[0] * (4 - n)] for words in itertools.product((1, 2), repeat=n)]
    return torch.tensor(rows).float()


def test_probabilities_sum_to_one():
    model, x = make(), sentences()
    with torch.no_grad():
        for z in torch.randn(3, 2, generator=gen()):
            total = model.log_likelihood(x, z.expand(len(x), -1)).double().exp().sum().item()
            assert total == pytest.approx(1.0, abs=1e-5)


def test_what_stands_after_the_end_has_no_part():
    model, z = make(), torch.randn(2, 2, generator=gen())
    a, b = torch.tensor([[1, 0, 0, 0], [2, 1, 0, 0]]).float(), torch.tensor([[1, 0, 2, 1], [2, 1, 0, 2]]).float()
    torch.testing.assert_close(model.log_likelihood(a, z), model.log_likelihood(b, z))
    for one, other in zip(model.posterior(a), model.posterior(b), strict=True):
        torch.testing.assert_close(one, other)


def test_likelihood_word_by_word():
    model, z = make(), torch.randn(1, 2, generator=gen())
    h, c = torch.tanh(model.first(z)).chunk(2, -1)
    state, before, total = (h[None], c[None]), model.words, torch.zeros(())
    for word in (1, 2, 0):
        out, state = model.decoder(torch.cat([model.embedding.weight[before][None], z], -1)[:, None], state)
        total = total + td.Categorical(logits=model.out(out[0, 0])).log_prob(torch.tensor(word))
        before = word
    torch.testing.assert_close(model.log_likelihood(X[:1], z)[0], total)


@pytest.mark.parametrize("m", [0.0, 1.0, 2.0])
def test_loss_weighs_the_reconstruction(m: float):
    out = make(m=m).loss(Batch(X, 40), gen(3))
    torch.testing.assert_close(out["loss"], (1 + m) * out["distortion"] + out["rate"])
    noise = torch.randn(5, 2, generator=gen(3))
    model = make()
    mean, log_std = model.posterior(X)
    torch.testing.assert_close(out["distortion"], -model.log_likelihood(X, mean + log_std.exp() * noise).mean())


def test_no_bound_carries_m():
    plain, weighed = make(), make(m=2.0, warmup=0.5)
    a, b = (model.elbo(X, gen(3)) for model in (plain, weighed))
    torch.testing.assert_close((a.rate, a.distortion), (b.rate, b.distortion))


def test_annealing():
    model = make(warmup=0.5)
    start, half, done = (model.loss(Batch(X, 40, progress=p), gen(3)) for p in (0.0, 0.25, 0.75))
    torch.testing.assert_close(start["loss"], start["distortion"])
    torch.testing.assert_close(half["loss"], half["distortion"] + 0.5 * half["rate"])
    torch.testing.assert_close(done["loss"], done["distortion"] + done["rate"])


def test_word_dropout_hides_words_from_the_decoder_alone():
    whole, none = make(word_dropout=1.0).loss(Batch(X, 40), gen(3)), make().loss(Batch(X, 40), gen(3))
    torch.testing.assert_close(whole["rate"], none["rate"])
    assert whole["distortion"] != none["distortion"]


def test_dropped_words_are_seen_as_unknown():
    """With every word dropped the decoder sees number 1 wherever it saw one before."""
    model = make(word_dropout=1.0)
    mean, log_std = model.posterior(X)
    z = torch.addcmul(mean, log_std.exp(), torch.randn(5, 2, generator=gen(3)))
    unknown = model.log_likelihood(X, z, torch.ones(5, 3, dtype=torch.long))
    torch.testing.assert_close(model.loss(Batch(X, 40), gen(3))["distortion"], -unknown.mean())


def test_bounds_agree_and_stay_below():
    model, x = make(), sentences()
    with torch.no_grad():
        z = torch.randn(4000, 2, generator=gen(4))
        log_p = torch.stack([model.log_likelihood(x, c.expand(len(x), -1)) for c in z[:500]]).logsumexp(0) - 6.2146
        w = model.log_importance_weights(x, model.posterior(x), 1000, gen(5))
        elbo = torch.stack([model.elbo(x, gen(i)).value for i in range(200)]).mean(0)
    torch.testing.assert_close(w.logsumexp(0) - 6.9078, log_p, rtol=0, atol=0.1)
    torch.testing.assert_close(elbo, w.mean(0), rtol=0, atol=0.12)
    assert (w.mean(0) < log_p + 0.02).all()


@pytest.mark.parametrize("m", [0, 1, 3])
def test_autogen_is_the_likelihood_of_the_datum_and_its_reconstructions(m: int):
    """Linear-Gaussian: with the exact posterior given 1 + m equal copies of x, the AutoGen bound is the exact
    log-density of (x, ..., x) under the model that draws all copies at one code."""
    g = gen(5)
    x = torch.randn(60, 2, generator=g) @ torch.randn(2, 4, generator=g) + 0.3 * torch.randn(60, 4, generator=g)
    ppca = PPCA(DataInfo((4,), "real", 60), latent_dim=2)
    ppca.fit(x, g)
    x, n = x.double(), 1 + m
    w = ppca.directions * (ppca.variances - ppca.noise).sqrt()
    noise = ppca.noise[0] if ppca.noise.dim() else ppca.noise
    stacked = w.repeat(n, 1)
    copies = td.MultivariateNormal(
        ppca.mean.repeat(n), stacked @ stacked.T + noise * torch.eye(4 * n, dtype=torch.float64)
    )
    covariance = torch.linalg.inv(torch.eye(2, dtype=torch.float64) + n * w.T @ w / noise)
    mean = n * (x - ppca.mean) @ w @ covariance / noise
    # E_q log N(x; wz + mu, noise): the square at the mean plus the trace of the code's covariance through w
    expected = (
        td.Normal(mean @ w.T + ppca.mean, noise.sqrt()).log_prob(x).sum(-1)
        - 0.5 * torch.trace(w @ covariance @ w.T) / noise
    )
    kl = td.kl_divergence(
        td.MultivariateNormal(mean, covariance),
        td.MultivariateNormal(torch.zeros(2, dtype=torch.float64), torch.eye(2, dtype=torch.float64)),
    )
    torch.testing.assert_close(autogen_bound(expected, kl, m), copies.log_prob(x.repeat(1, n)))


def test_samples_and_reconstructions_are_sentences():
    model = make()
    with torch.no_grad():
        drawn = model.sample(4000, gen())
        x = sentences()
        known = {tuple(row.tolist()) for row in x}
        assert {tuple(row.tolist()) for row in drawn} <= known
        z = torch.randn(500, 2, generator=gen(8))
        p = torch.stack([model.log_likelihood(x, c.expand(len(x), -1)).exp() for c in z]).mean(0)
        found = torch.stack([(drawn == row).all(1).float().mean() for row in x])
        assert (found - p).abs().max() < 0.03
        assert {tuple(row.tolist()) for row in model.reconstruct(X)} <= known


def test_refusals():
    for params, message in [({"m": -1}, "m is -1"), ({"width": 0}, "width is 0"), ({"warmup": 2}, "warmup is 2")]:
        with pytest.raises(UserError, match=message):
            make(**params)
    with pytest.raises(UserError, match="support 'binary'"):
        SentenceVAE(DataInfo((4,), "binary", 40))
    with pytest.raises(UserError, match="needs vectors"):
        SentenceVAE(DataInfo((1, 2, 2), "discrete", 40, levels=3))
    with pytest.raises(UserError, match="a model of 4 words"):
        make().posterior(X[:, :2])
