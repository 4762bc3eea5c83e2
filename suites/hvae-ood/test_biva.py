"""BIVA's factorisation, bounds and scores: against their definition layer by layer, and against sums over all codes."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo
from latentbench.models import densities
from latentbench.papers.hvae_ood import scores
from latentbench.papers.hvae_ood.biva import BIVA
from torch import distributions as td

INFO = DataInfo((1, 6, 5), "binary", 40)
X = (torch.rand(4, 1, 6, 5, generator=torch.Generator().manual_seed(0)) < 0.4).float()
SMALL = {"latents": (2, 3, 2), "channels": 4, "kernels": (3, 1, 3), "strides": (2, 1, 2), "blocks": 2, "maps": 1}
BITS = torch.tensor(list(itertools.product((0.0, 1.0), repeat=4))).reshape(-1, 1, 2, 2)


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make(info: DataInfo = INFO, scale: float = 1.0, **params: object) -> BIVA:
    torch.manual_seed(1)
    model = BIVA(info, **{**SMALL, **params})
    with torch.no_grad():
        for part in (model.inference["q_bu"], model.inference["q_td"], model.parts["p"]):
            for p in part.parameters():
                p.mul_(scale)
    return model


def normal(head: torch.nn.Module, d: torch.Tensor) -> td.Normal:
    mean, log_std = head(d)
    return td.Normal(mean, log_std.exp())


def by_hand(model: BIVA, x: torch.Tensor, skip: int, below: str, g: torch.Generator) -> torch.Tensor:
    """log p(x|z) + log p(z_>k) - log q(z_>k|x) at the draws that the model makes, (N,)."""
    parts, inference, total = model.parts, model.inference, torch.zeros(len(x))

    def drawn(law: td.Normal, quiet: bool = False) -> torch.Tensor:
        return law.mean if quiet else law.mean + law.stddev * torch.randn(law.mean.shape, generator=g)

    d = model.stem(x)
    bu, side, z_bu, features = d, d, [], []
    for i in range(3):
        if i:
            bu = inference["join_up"][i - 1](torch.cat([inference["z_bu"][i - 1](z_bu[i - 1]), bu, side], 1))
        bu = parts["up"][i](bu)
        side = inference["join_beside"][i](torch.cat([inference["beside"][i](side), bu], 1))
        features.append(side)
        if i < 2:
            q = normal(inference["q_bu"][i], bu)
            z_bu.append(drawn(q, below == "mode" and i < skip))
            if i >= skip:
                total = total - q.log_prob(z_bu[i]).flatten(1).sum(1)
    q = normal(inference["q_td"][2], inference["merge"][2](torch.cat([side, bu], 1)))
    z = drawn(q)
    total = total + (td.Normal(0.0, 1.0).log_prob(z) - q.log_prob(z)).flatten(1).sum(1)
    e = parts["down"][2](parts["zp"][2](z))
    for i in (1, 0):
        p = normal(parts["p"][i], e)
        if i < skip:
            z = drawn(p, below == "mode")
        else:
            q = normal(inference["q_td"][i], inference["merge"][i](torch.cat([features[i], e], 1)))
            z_td = drawn(q)
            z = torch.cat([z_bu[i], z_td], 1)
            total = total + p.log_prob(z).flatten(1).sum(1) - q.log_prob(z_td).flatten(1).sum(1)
        e = parts["down"][i](parts["join_p"][i](torch.cat([parts["zp"][i](z), e], 1)))
    return total + td.Bernoulli(logits=model.last(e)).log_prob(x.flatten(1)).sum(1)


@pytest.mark.parametrize(("skip", "below"), [(0, "mode"), (1, "mode"), (2, "mode"), (1, "sample"), (2, "sample")])
def test_the_bound_above_k_is_the_definition(skip: int, below: str):
    model = make(scale=2.0)
    found = model.log_weights_above(X, model.posterior(X), skip, 1, gen(3), below)
    torch.testing.assert_close(found[0], by_hand(model, X, skip, below, gen(3)))


#: Which of the laws (head, layer) hang on each variable, whatever the others are.
HANGS = {
    "z_1^BU": {("q_bu", 1), ("q_td", 1), ("q_td", 2)},
    "z_2^BU": {("q_td", 2), ("p", 0), ("q_td", 0)},
    "z_3": {("p", 1), ("q_td", 1), ("p", 0), ("q_td", 0)},
    "z_2^TD": {("p", 0), ("q_td", 0)},
    "z_1^TD": set(),
}


@pytest.mark.parametrize("moved", range(5), ids=HANGS)
def test_every_law_hangs_on_what_the_factorisation_says(moved: int, monkeypatch):
    """Codes in the order of inference: up, then down. One of them is put elsewhere, and the others stay."""
    model, answers = make(), {}
    for name, heads in [*((k, model.inference[k]) for k in ("q_bu", "q_td")), ("p", model.parts["p"])]:
        for i, head in enumerate(heads):
            head.register_forward_hook(
                lambda module, args, out, key=(name, i): answers.setdefault(key, []).append(torch.cat(out, 1))
            )
    for at in (None, moved):
        turn = itertools.count()

        def put(mean, log_std, generator, at=at, turn=turn):
            return torch.full_like(mean, 1.5 if next(turn) == at else 0.3)

        monkeypatch.setattr(densities, "normal_draw", put)
        model.elbo(X, gen())
        assert next(turn) == 5
    changed = {key for key, (before, after) in answers.items() if not torch.equal(before, after)}
    assert changed == HANGS[list(HANGS)[moved]]
    assert len(answers) == 7


@pytest.fixture
def summed(monkeypatch):
    """A model of four bits with codes of one unit, and what sums it over a grid of all its draws."""
    info = DataInfo((1, 2, 2), "binary", 9)
    params = {"latents": (1, 1), "kernels": (1, 1), "strides": (1, 2), "channels": 3, "maps": 0}
    model = make(info, 1.0, **params, activation="softplus", warmup=0.0)
    nodes, weights = np.polynomial.hermite_e.hermegauss(9)
    with torch.no_grad():  # a q wider than p, whose weights are bounded
        for head in (*model.inference["q_bu"], *model.inference["q_td"]):
            head.net[-1].bias[1] += 0.3

    def over(what, dims: int) -> torch.Tensor:
        """The mean of `what(rows)` over standard normal noise of so many units, (16, ...)."""
        noise = torch.tensor(list(itertools.product(nodes, repeat=dims)), dtype=torch.float64)
        mass = torch.tensor(list(itertools.product(weights, repeat=dims)), dtype=torch.float64).prod(1)
        used = itertools.count()

        def draw(mean, log_std, generator):
            eps = torch.stack([noise[:, next(used)] for _ in range(mean.shape[1])], 1)
            return mean + log_std.exp() * eps.repeat_interleave(16, 0)

        monkeypatch.setattr(densities, "normal_draw", draw)
        found = what(BITS.double().repeat(len(noise), 1, 1, 1)).unflatten(-1, (len(noise), 16))
        assert next(used) == dims
        return (found * (mass / mass.sum())[:, None]).sum(-2)

    with torch.no_grad():
        yield model.double(), over


def likelihood(model: BIVA) -> torch.Tensor:
    """p(x) of each row of BITS by a sum over the prior's codes, (16,)."""
    nodes, weights = (torch.tensor(t) for t in np.polynomial.hermite_e.hermegauss(20))
    eps = torch.cartesian_prod(nodes, nodes, nodes)
    mass = torch.cartesian_prod(weights, weights, weights).prod(1)
    parts = model.parts
    e = parts["down"][1](parts["zp"][1](eps[:, :1]))
    mean, log_std = parts["p"][0](e)
    u = parts["zp"][0](mean + log_std.exp() * eps[:, 1:])
    e = parts["down"][0](parts["join_p"][0](torch.cat([u, e], 1)))
    log_p = td.Bernoulli(logits=model.last(e)[:, None]).log_prob(BITS.double().flatten(1)).sum(-1)
    return (log_p.exp() * (mass / mass.sum())[:, None]).sum(0)


def test_the_bound_is_the_sum_over_its_codes(summed):
    model, over = summed
    whole = over(lambda x: model.log_importance_weights(x, model.posterior(x), 1, gen())[0], 3)
    torch.testing.assert_close(over(lambda x: model.elbo(x, gen()).value, 3), whole, rtol=1e-4, atol=0)

    def ratios(x):  # of each variable, at the draw
        _, rate, terms = model._terms(x, model.posterior(x), gen())
        return torch.stack([rate, *terms])

    rate, bu, td_, top = over(ratios, 3)
    torch.testing.assert_close(rate, bu + td_ + top, rtol=1e-3, atol=1e-4)
    assert (td_ > 0.01).all()
    assert (top > 0.01).all()
    p = likelihood(model)
    torch.testing.assert_close(p.sum(), torch.ones_like(p.sum()))
    assert (whole < p.log()).all()


@pytest.mark.parametrize(("skip", "dims"), [(0, 3), (1, 4)])
def test_weights_average_to_the_likelihood(summed, skip: int, dims: int):
    """Those of L>k with draws, too: the codes of the lowest layers on the way up are only a way to a proposal."""
    model, over = summed

    def weights(x):
        log_weight = model.log_weights_above(x, model.posterior(x), skip, 1, gen(), "sample")[0]
        return torch.stack([log_weight, log_weight.exp()])

    bound, average = over(weights, dims)
    p = likelihood(model)
    torch.testing.assert_close(average, p, rtol=0.02, atol=1e-4)
    assert (bound < p.log()).all()


def test_samples_follow_the_likelihood(summed):
    model, _ = summed
    drawn = model.float().sample(40000, gen())
    share = torch.stack([(drawn == row).flatten(1).all(1).double().mean() for row in BITS])
    torch.testing.assert_close(share, likelihood(model.double()), rtol=0, atol=0.01)


def test_gradients_reach_both_ways_of_inference():
    """Each of the two alone: of the term of a bottom-up variable, and of the KL of a top-down one."""
    model = make()
    _, _, terms = model._terms(X, model.posterior(X), gen(3))
    for term, (name, layer) in {0: ("q_bu", 0), 1: ("q_td", 0), 2: ("q_bu", 1), 3: ("q_td", 1), 4: ("q_td", 2)}.items():
        own = list(model.inference[name][layer].parameters())
        reached = torch.autograd.grad(terms[term].sum(), own, retain_graph=True, allow_unused=True)
        assert all(g is not None and bool((g != 0).any()) for g in reached)
    # the top's KL hangs on z_1^BU through its draw, so on the network that made it
    (through,) = torch.autograd.grad(terms[4].sum(), [next(iter(model.inference["q_bu"][0].parameters()))])
    assert bool((through != 0).any())


def test_loss_warms_up_and_lets_each_variable_have_its_nats():
    whole = make().loss(Batch(X, 40), gen(3))
    kls = [whole[f"kl_{i}"] for i in range(1, 6)]
    torch.testing.assert_close(whole["rate"], torch.stack(kls).sum())
    torch.testing.assert_close(whole["loss"], whole["rate"] + whole["distortion"])
    elbo = make().elbo(X, gen(3))
    torch.testing.assert_close(whole["loss"], -elbo.value.mean())
    half = make(warmup=0.2).loss(Batch(X, 40, progress=0.1), gen(3))
    torch.testing.assert_close(half["loss"], whole["distortion"] + 0.5 * whole["rate"])
    lots = make(free_nats=4e4).loss(Batch(X, 40, progress=0.1), gen(3))
    torch.testing.assert_close(lots["loss"], whole["distortion"] + 5 * 4e4)
    torch.testing.assert_close(lots["rate"], whole["rate"])
    later = make(free_nats=4e4).loss(Batch(X, 40, progress=0.3), gen(3))
    torch.testing.assert_close(later["loss"], whole["distortion"] + 5 * 2e4)
    over = make(free_nats=4e4).loss(Batch(X, 40, progress=0.4), gen(3))
    torch.testing.assert_close(over["loss"], whole["loss"])


def test_a_draws_term_below_zero_is_kept():
    """That of a bottom-up variable is no KL; cut at nought it would be no bound."""
    model = make(scale=0.1)
    rows = torch.stack([model._terms(X, model.posterior(X), gen(i))[2][0] for i in range(20)])
    assert (rows < 0).any()
    found = [model.loss(Batch(X, 40), gen(i)) for i in range(20)]
    torch.testing.assert_close(torch.stack([f["kl_1"] for f in found]), rows.mean(1))
    torch.testing.assert_close(found[0]["loss"], found[0]["distortion"] + found[0]["rate"])


def test_scores_are_those_of_the_bounds():
    model, g = make(), gen(5)
    whole, above = (
        torch.cat([model.log_weights_above(X, model.posterior(X), skip, n, g)]).logsumexp(0) - math.log(n)
        for skip, n in ((0, 3), (2, 2))
    )
    ask = {"skip": 2, "samples": 3, "samples_above": 2, "below": "sample"}
    torch.testing.assert_close(model.outlier_score(X, gen(5), **ask), whole - above)
    scorer = scores._scorer(model, {**scores.SCORE, **ask})
    torch.testing.assert_close(scorer.outlier_score(X, gen(5)), whole - above)
    with pytest.raises(UserError, match="topmost"):
        model.outlier_score(X, gen(), skip=3)


def test_widths_below_the_top_are_of_each_variable():
    model = make()
    codes = [spread.code for spread in model.parts["zp"]]
    assert codes == [(4, 3, 3), (6,), (2,)]
    assert [spread.code for spread in model.inference["z_bu"]] == [(2, 3, 3), (3,)]
    with pytest.raises(UserError, match="2, 3, 3 entries"):
        make(latents=(2, 3))
