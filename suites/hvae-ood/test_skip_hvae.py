"""LLR>k's bounds against their definition, recomputed layer by layer, and against a likelihood by brute force."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo
from latentbench.papers.hvae_ood.compressed import png_nats
from latentbench.papers.hvae_ood.skip_hvae import SkipHVAE
from torch import distributions as td

INFO = DataInfo((1, 6, 5), "binary", 40)
X = (torch.rand(4, 1, 6, 5, generator=torch.Generator().manual_seed(0)) < 0.4).float()
SMALL = {"latents": (2, 3, 2), "channels": 4, "kernels": (3, 3, 3), "strides": (2, 2, 1), "blocks": 1}


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make(info: DataInfo = INFO, **params: object) -> SkipHVAE:
    torch.manual_seed(1)
    return SkipHVAE(info, **{**SMALL, **params})


def by_hand(model: SkipHVAE, x: torch.Tensor, skip: int, below: str, g: torch.Generator) -> torch.Tensor:
    """log p(x|z) + log p(z_>k) - log q(z_>k|x) at the draws that the model makes, (N,)."""
    parts, d, q, z = model.parts, model.posterior(x), [], []
    for i in range(3):
        if i:
            d = parts["up"][i](parts["join_q"][i - 1](torch.cat([parts["zq"][i - 1](z[-1]), d], 1)))
        mean, log_std = parts["q"][i](d)
        q.append(td.Normal(mean, log_std.exp()))
        quiet = below == "mode" and i < skip
        z.append(mean if quiet else mean + log_std.exp() * torch.randn(mean.shape, generator=g))
    total, e = torch.zeros(len(x)), None
    for i in (2, 1, 0):
        if e is None:
            p = td.Normal(torch.zeros_like(z[i]), 1.0)
        else:
            mean, log_std = parts["p"][i](e)
            p = td.Normal(mean, log_std.exp())
        if i < skip:
            z[i] = p.mean if below == "mode" else p.mean + p.stddev * torch.randn(p.mean.shape, generator=g)
        else:
            total = total + (p.log_prob(z[i]) - q[i].log_prob(z[i])).flatten(1).sum(1)
        u = parts["zp"][i](z[i])
        e = parts["down"][i](u if e is None else parts["join_p"][i](torch.cat([u, e], 1)))
    return total + td.Bernoulli(logits=model.last(e)).log_prob(x.flatten(1)).sum(1)


@pytest.mark.parametrize(("skip", "below"), [(0, "mode"), (1, "mode"), (2, "mode"), (1, "sample"), (2, "sample")])
def test_the_bound_above_k_is_the_definition(skip: int, below: str):
    model = make()
    found = model.log_weights_above(X, model.posterior(X), skip, 1, gen(3), below)
    torch.testing.assert_close(found[0], by_hand(model, X, skip, below, gen(3)))


def bound(model: SkipHVAE, skip: int, chunks: tuple[int, ...], below: str, g: torch.Generator) -> torch.Tensor:
    """L>skip with that many importance samples, (N,): at the draws of `g`, in blocks."""
    w = torch.cat([model.log_weights_above(X, model.posterior(X), skip, k, g, below) for k in chunks])
    return w.logsumexp(0) - math.log(sum(chunks))


@pytest.mark.parametrize("below", ["mode", "sample"])
def test_every_score_is_its_definition(below: str):
    model, g = make(), gen(5)
    ask = {"skip": 2, "samples": 20, "samples_above": 3, "below": below}
    whole, above = bound(model, 0, (16, 4), below, g), bound(model, 2, (3,), below, g)
    torch.testing.assert_close(model.outlier_score(X, gen(5), **ask), whole - above)
    torch.testing.assert_close(model.outlier_score(X, gen(5), score="likelihood", **ask), -whole)
    compressed = model.outlier_score(X, gen(5), score="complexity", **ask)
    torch.testing.assert_close(compressed, -whole - png_nats(X, 2))
    alone = model.outlier_score(X, gen(5), score="above", **ask)
    torch.testing.assert_close(alone, -bound(model, 2, (3,), below, gen(5)))


def test_the_paper_settings_are_the_defaults():
    """LLR>1 at one sample each, the lowest layer at its mean, as in the authors' ood-llr.py."""
    model, g = make(), gen(5)
    expected = bound(model, 0, (1,), "mode", g) - bound(model, 1, (1,), "mode", g)
    torch.testing.assert_close(model.outlier_score(X, gen(5)), expected)


def test_no_layer_skipped_is_no_ratio():
    """LLR>0 with the same draws in both bounds is nothing, and L>0 is the likelihood's bound."""
    model = make()
    zero = model.outlier_score(X, gen(5), score="above", skip=0)
    torch.testing.assert_close(zero, model.outlier_score(X, gen(5), score="likelihood"))


def test_rows_are_scored_apart():
    """More than the 64 rows that are taken at a time, in their order."""
    many = X.repeat(40, 1, 1, 1)
    model = make(latents=(1, 1), kernels=(1, 1), strides=(1, 1), channels=2)
    with torch.no_grad():
        for part in model.parts["q"]:  # codes without noise: scores do not hang on draws
            part.net[-1].bias.fill_(0.0)
        scores = torch.stack([model.outlier_score(many, gen(i), score="above") for i in range(200)]).mean(0)
    assert scores.shape == (160,)
    torch.testing.assert_close(scores.unflatten(0, (40, 4)).std(0), torch.zeros(4), rtol=0, atol=0.5)


def test_loss_is_the_negative_elbo_and_its_closed_forms_match_samples():
    model = make()
    out = model.loss(Batch(X, 40, progress=0.5), gen(3))
    torch.testing.assert_close(out["loss"], out["rate"] + out["distortion"])
    torch.testing.assert_close(out["rate"], out["kl_1"] + out["kl_2"] + out["kl_3"])
    elbo = torch.stack([model.elbo(X, gen(i)).value for i in range(400)]).mean(0)
    weights = model.log_importance_weights(X, model.posterior(X), 4000, gen(9)).mean(0)
    torch.testing.assert_close(elbo, weights, rtol=0.02, atol=0.1)


def test_warm_up_and_free_nats():
    plain = make().loss(Batch(X, 40), gen(3))
    none = make(warmup=0.2).loss(Batch(X, 40, progress=0.0), gen(3))
    torch.testing.assert_close(none["loss"], plain["distortion"])
    half = make(warmup=0.2).loss(Batch(X, 40, progress=0.1), gen(3))
    torch.testing.assert_close(half["loss"], plain["distortion"] + 0.5 * plain["rate"])
    done = make(warmup=0.2).loss(Batch(X, 40, progress=0.9), gen(3))
    torch.testing.assert_close(done["loss"], plain["loss"])
    # A budget above every KL makes all of it constant: 4e4 a vector layer, and that a place (3 x 3) of the map.
    lots = make(free_nats=4e4).loss(Batch(X, 40, progress=0.1), gen(3))
    torch.testing.assert_close(lots["loss"], plain["distortion"] + 4e4 * (9 + 1 + 1))
    later = make(free_nats=4e4).loss(Batch(X, 40, progress=0.3), gen(3))
    torch.testing.assert_close(later["loss"], plain["distortion"] + 2e4 * (9 + 1 + 1))
    over = make(free_nats=4e4).loss(Batch(X, 40, progress=0.4), gen(3))
    torch.testing.assert_close(over["loss"], plain["loss"])


def test_every_bound_is_below_the_likelihood():
    """On 2x2 bits p(x) is known by sampling the prior, and sums to one; L and L>k with draws stay below it."""
    info = DataInfo((1, 2, 2), "binary", 9)
    model = make(info, latents=(1, 1), kernels=(1, 1), strides=(1, 2), channels=3)
    x = torch.tensor(list(itertools.product((0.0, 1.0), repeat=4))).reshape(-1, 1, 2, 2)
    with torch.no_grad():
        drawn = model.sample(200000, gen())
        log_p = torch.stack([(drawn == row).flatten(1).all(1).double().mean() for row in x]).log().float()
        for skip in (0, 1):
            elbo = model.log_weights_above(x, model.posterior(x), skip, 4000, gen(2)).mean(0)
            assert (elbo < log_p + 0.1).all()
            tight = model.log_weights_above(x, model.posterior(x), skip, 20000, gen(3)).logsumexp(0) - math.log(20000)
            assert (tight < log_p + 0.1).all()
            if skip == 0:
                torch.testing.assert_close(tight, log_p, rtol=0, atol=0.15)


def test_png_length():
    noise = torch.randint(256, (2, 3, 32, 32), generator=gen()).float()
    flat = torch.full((2, 3, 32, 32), 7.0)
    assert (png_nats(noise, 256) > 3 * 32 * 32 * 8 * math.log(2)).all()  # noise does not compress
    assert (png_nats(flat, 256) < 1000).all()
    assert png_nats(X, 2).shape == (4,)
    for bad in (noise + 0.5, noise[:, :2], noise[0]):
        with pytest.raises(UserError):
            png_nats(bad, 256)


def test_patches_change_the_layout_alone():
    """A network that says "on" of one pixel of every 2x2 patch says so of those pixels of the image."""
    model = make(DataInfo((1, 6, 4), "binary", 40), patch=2)
    conv = model.last[1]
    with torch.no_grad():
        conv.parametrizations.weight.original0.zero_()
        conv.bias.copy_(torch.tensor([0.0, 0.0, 30.0, 0.0]))  # the lower left pixel of a patch
        x = model.sample(200, gen())
    mean = x.mean((0, 1))
    assert (mean[1::2, ::2] == 1.0).all()
    assert (mean[::2] - 0.5).abs().max() < 0.15
    with pytest.raises(UserError, match="patch is 2"):
        make(patch=2)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"latents": (2, 3)}, "entries"),
        ({"kernels": (2, 3, 3)}, "odd"),
        ({"strides": (3, 1, 1)}, "strides of 1 or 2"),
        ({"warmup": 2.0}, "warmup is 2.0"),
        ({"likelihood": "gaussian"}, "support 'binary'"),
    ],
)
def test_refusals(params: dict, message: str):
    with pytest.raises(UserError, match=message):
        make(**params)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"skip": 3}, "topmost"),
        ({"skip": -1}, "skip is -1"),
        ({"score": "elbo"}, "score is 'elbo'"),
        ({"below": "mean"}, "below is 'mean'"),
        ({"samples": 0}, "samples is 0"),
        ({"samples_above": 0}, "samples_above is 0"),
    ],
)
def test_scores_that_are_none(settings: dict, message: str):
    with pytest.raises(UserError, match=message):
        make().outlier_score(X, gen(), **settings)


def test_vectors_are_refused():
    with pytest.raises(UserError, match="needs images"):
        SkipHVAE(DataInfo((30,), "binary", 40))
