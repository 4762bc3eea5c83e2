"""Monomials, worlds and bounds by plain recomputation, training replayed, scores of answers made by hand."""

from __future__ import annotations

from itertools import permutations
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import DataInfo
from latentbench.papers.latent_polynomial_crl import polynomial_vae as p
from latentbench.papers.latent_polynomial_crl import worlds as w
from torch.distributions import Normal, kl_divergence

INFO = DataInfo((1,), "real", 1)
#: Monomials of three latents in the order of coefficients: z_i, then z_i z_j for j <= i.
TERMS = [(0,), (0, 0), (1,), (0, 1), (1, 1), (2,), (0, 2), (1, 2), (2, 2)]


def draws(seed=0):
    return torch.Generator().manual_seed(seed)


def normals(*shape, seed=0):
    return torch.randn(shape, generator=draws(seed), dtype=torch.float64)


def test_monomials_and_latents_follow_the_model_and_keep_volumes():
    z, noise = normals(7, 3), normals(2, 5, 3, seed=1)
    torch.testing.assert_close(w.monomials(z), torch.stack([z[:, list(t)].prod(1) for t in TERMS], 1))
    assert w.holds(3).tolist() == [[j in t for t in TERMS] for j in range(3)]
    graph = torch.tensor([[0, 1, 0], [0, 0, 1], [0, 0, 0]], dtype=torch.bool)
    assert w.admissible(graph).tolist() == [[set(t) <= causes for t in TERMS] for causes in (set(), {0}, {1})]
    c = normals(2, 5, 3, 9, seed=2) * w.admissible(torch.ones(3, 3).triu(1).bool())
    plain = torch.zeros_like(noise)
    for i in range(3):
        causes = [c[..., i, k] * plain[..., list(t)].prod(-1) for k, t in enumerate(TERMS) if max(t) < i]
        plain[..., i] = noise[..., i] + sum(causes, torch.zeros(()))
    torch.testing.assert_close(w.latents(noise, c), plain)
    torch.testing.assert_close(plain - w.caused(plain, c), noise)
    jacobian = torch.autograd.functional.jacobian(lambda n: w.latents(n, c[0, 0]), noise[0, 0])
    assert jacobian.det().item() == pytest.approx(1.0)


def test_worlds():
    made = [w.World(np.random.default_rng(seed), 4, 3, seed % 2 == 1) for seed in range(100)]
    graphs, sizes, means, scales = (
        torch.stack([getattr(one, of) for one in made]) for of in ("graph", "coefficients", "mean", "scale")
    )
    assert not graphs.tril().any()
    assert graphs.any(1).float().mean(0).tolist() == [0, 1, 1, 1], "all others have a cause"
    assert graphs[:, 0, 2].float().mean().item() == pytest.approx(0.75, abs=0.1)
    assert all(((one != 0).any(0) == w.admissible(graph)).all() for one, graph in zip(sizes, graphs, strict=True))
    assert not sizes[:, 0, :-1].any(), "no causes in the reference environment"
    assert not sizes[::2, 0].any()
    assert (sizes[1::2, :, -1] == sizes[1::2, 1:2, -1]).all(), "constant"
    some, other, used = sizes[:, 1, :-1], sizes[:, 2, :-1], sizes[:, 1, :-1] != 0
    assert (some != other)[used].all()
    assert (some.sign() == other.sign()).all()
    assert (some[used] > 0).float().mean().item() == pytest.approx(0.5, abs=0.08)
    for values, ends in ((means, [-2.0, 2.0]), (scales, [0.5, 2.0])):
        np.testing.assert_allclose(torch.stack(values.flatten(0, 1).aminmax(dim=0), 1), [ends] * 4, atol=0.1)
    world = w.World(np.random.default_rng(5), 3, 4, False)
    z, u = world.draw(np.random.default_rng(6), 20_000)
    assert u.bincount().tolist() == [20_000] * 4
    x = world.mix(z) @ world.mixing[0].T
    torch.testing.assert_close(torch.where(x < 0, x / 0.2, x), z)
    effects = w.caused(z, world.coefficients[u])
    for e in range(4):
        noise = (z - effects)[u == e]
        np.testing.assert_allclose(noise.mean(0), world.mean[e], atol=0.05)
        np.testing.assert_allclose(np.cov(noise.T), np.diag(world.scale[e] ** 2), atol=0.1)
        if e:
            ratio = effects[u == e].std(0)[1:] / world.scale[e][1:]
            assert 0.85 < ratio.min() < ratio.max() < 2.9
            parts = (world.coefficients[e] * w.monomials(z[u == e]).std(0)).abs()[1:]
            assert 1.0 < (parts.max(1).values / parts.where(parts > 0, torch.inf).min(1).values).max() < 2.4


def plain(layers, x):
    for i in range(0, len(layers), 2):
        x = x @ layers[i] + layers[i + 1][0]
        x = torch.maximum(x, 0.2 * x) if i + 2 < len(layers) else x
    return x


@pytest.mark.parametrize(("prior", "degree"), [("polynomial", 2), ("linear", 1), ("independent", 0), ("normal", 0)])
def test_terms_of_the_bound_start_by_start_and_row_by_row(prior, degree):
    one, x, u = p.LatentCausalVAEs(2, 3, 4, 5, prior, draws(1)), normals(6, 4).float(), torch.tensor([0, 1, 2, 3, 4, 1])
    with torch.no_grad():
        for i, part in enumerate(one.parameters):
            part += 0.3 * torch.randn(part.shape, generator=draws(i))
    hot, e = torch.eye(5)[u], torch.randn(2, 6, 3, generator=draws(4))
    error, kl = one.terms(x, hot, draws(4))
    for s, r in ((s, r) for s in range(2) for r in range(6)):
        code, spread, decoder = ([layer[s] for layer in net] for net in (one.code, one.spread, one.decoder))
        allowed = [[max(t) < i and len(t) <= degree and u[r] > 0 for t in TERMS] for i in range(3)]
        c, h, noise = one.table[s, u[r]] * torch.tensor(allowed), plain(code, x)[r], one.noise[s, u[r]]
        scale = plain(spread, (x if prior == "normal" else torch.cat([x, hot], 1)))[r].exp()
        q, z = Normal(h - c @ torch.stack([h[list(t)].prod() for t in TERMS]), scale), []
        for i, n in enumerate(q.mean + q.stddev * e[s, r]):
            z.append(
                n + sum(c[i, k] * torch.stack([z[j] for j in t]).prod() for k, t in enumerate(TERMS) if max(t) < i)
            )
        own = Normal(0.0, 1.0) if prior == "normal" else Normal(noise[:3], noise[3:].exp())
        assert kl[s, r].item() == pytest.approx(kl_divergence(q, own).sum().item(), rel=1e-4)
        log_p = Normal(plain(decoder, torch.stack(z)), 0.1).log_prob(x[r]).sum() + 4 * np.log(0.1 * np.sqrt(2 * np.pi))
        assert error[s, r].item() == pytest.approx(-log_p.item(), rel=1e-4)


def test_starts_and_clipping():
    x, z = normals(5, 4, seed=5).float(), normals(5, 3, seed=6).float()
    made = p.LatentCausalVAEs(8, 3, 4, 5, "polynomial", draws(2))
    h, v = p.forward(made.code, x), p.forward(made.spread, torch.cat([x, torch.zeros(5, 5)], 1))
    for s, order in enumerate([*permutations(range(3)), (0, 1, 2), (0, 2, 1)]):
        torch.testing.assert_close(h[s], h[0][:, order])
        torch.testing.assert_close(v[s], torch.full((5, 3), np.log(0.1)))
        torch.testing.assert_close(p.forward(made.decoder, z[:, order])[s], p.forward(made.decoder, z)[0])
    free = p.LatentCausalVAEs(2, 3, 4, 5, "independent", draws(2))
    assert not torch.isclose(free.code[0][0], free.code[0][1]).any()
    assert p.network(1, [300, 500], draws())[0].std().item() == pytest.approx(0.05, rel=0.02)
    for one in free.parameters:
        one.grad = torch.randn(one.shape, generator=draws()) * torch.tensor([1e-3, 9.0]).view(-1, *[1] * (one.ndim - 1))
    before = [torch.cat([one.grad[s].flatten().clone() for one in free.parameters]) for s in range(2)]
    free.clip()
    after = [torch.cat([one.grad[s].flatten() for one in free.parameters]) for s in range(2)]
    torch.testing.assert_close(after, [before[0], before[1] * 5.0 / before[1].norm()])


@pytest.mark.parametrize(
    "settings", [{}, {"prior": "linear"}, {"prior": "normal", "beta": 4.0}, {"prior": "ica"}, {"informed": True}]
)
def test_training_replayed_and_the_best_start_taken(settings, monkeypatch):
    monkeypatch.setattr(p, "FIT", 2)
    prior, beta, informed = ({"prior": "polynomial", "beta": 1.0, "informed": False} | settings).values()
    study = p.LatentPolynomialVAE(INFO, environments=4, rows=50, steps=3, **settings)
    study.start(None, draws(7))
    study.advance(None, None)
    ((truth, answer),), stream = study.answered(), study._stream(0, "problem")
    assert ("z" in study.problem(study._stream(0, "problem")).given) == informed
    world = w.World(stream, 3, 4, False)
    (z, u), (new, _) = world.draw(stream, 50), world.draw(stream, 300)
    x, tests = world.mix(z), world.mix(new)
    np.testing.assert_array_equal(truth["latents"], new)
    np.testing.assert_array_equal(truth["graph"], world.graph)
    if prior == "ica":
        seed = int(study._stream(0, "answer").integers(2**31))
        np.testing.assert_allclose(answer["latents"], p.components(x.numpy(), tests.numpy(), seed))
        return
    own = draws(int(study._stream(0, "answer").integers(2**62)))
    x, tests, z, u = x.float(), tests.float(), z.float(), torch.eye(4)[u]
    made = p.LatentCausalVAEs(6, 3, 3, 4, prior, own)

    def train(parameters, rates, loss):
        adam = torch.optim.Adam(parameters)
        for rate in rates:
            adam.param_groups[0]["lr"] = rate
            chosen, _ = torch.randint(200, (256,), generator=own), adam.zero_grad()
            loss(chosen).sum().backward()
            made.clip() if len(rates) == 3 else None
            adam.step()

    if informed:
        made.table.data[:], made.noise.data[:] = world.coefficients, torch.cat([world.mean, world.scale.log()], 1)
        pairs = ((made.code, x, z), (made.decoder, z, x))
        train(
            [*made.code, *made.decoder],
            (5e-3, 2.5e-3),
            lambda rows: sum((p.forward(net, a[rows]) - b[rows]).square().sum(2).mean(1) for net, a, b in pairs),
        )

    def bound(rows):
        error, kl = made.terms(x[rows], u[rows], own)
        return (error + beta * kl).mean(1)

    train(made.parameters, (5e-3, 5e-3 * 2 / 3, 5e-3 / 3), bound)
    values = bound(slice(None)).detach()
    s = int(values.argmin())
    assert answer["bound"] == pytest.approx(float(values[s]), rel=1e-3)
    codes, h = (plain([layer[s] for layer in made.code], part).detach() for part in (tests, x))
    np.testing.assert_allclose(answer["latents"], codes, atol=1e-3)
    c = made.coefficients(u)[s].detach()
    for j, i in ((j, i) for j in range(3) for i in range(3)):
        parts = sum(c[:, i, k] * h[:, list(t)].prod(1) for k, t in enumerate(TERMS) if j in t)
        assert answer["causes"][j, i] == pytest.approx(float(parts.square().mean().sqrt() / h[:, i].std()), rel=1e-2)
    assert (answer["causes"][0, 1] > 0) == (prior != "normal")


def test_constant_coefficients_start_at_the_noise_of_the_last_latent():
    study = p.LatentPolynomialVAE(INFO, environments=4, rows=50, informed=True, constant=True)
    given, rng = study.problem(np.random.default_rng(7)).given, np.random.default_rng(7)
    world = w.World(rng, 3, 4, True)
    z, u = world.draw(rng, 50)
    residual = (z - w.caused(z, world.coefficients[u]))[:, 2]
    np.testing.assert_allclose(given["z"], torch.cat([z[:, :2], residual[:, None]], 1))
    np.testing.assert_array_equal(given["table"][:, :2], world.coefficients[:, :2])
    assert not given["table"][:, 2].any()


def test_ica_and_scores_of_matched_codes():
    z, causes = np.random.default_rng(3).uniform(-1, 1, (5000, 3)), np.zeros((3, 3))
    mixed = z @ [[1, 2, 0], [0, 1, 1], [1, 0, 3]]
    truth = {"latents": z, "graph": np.array([[0, 1, 1], [0, 0, 0], [0, 0, 0]], dtype=bool)}
    answer = {"latents": p.components(mixed[50:], mixed[:50], 1), "causes": causes, "bound": np.array(0.25)}
    found = p.scores({**truth, "latents": z[:50]}, answer)
    assert min(found["last"], found["others"]) > 0.995
    blurred = z[:, 2] + z.std() * np.random.default_rng(4).standard_normal(5000)  # correlation of 0.71
    causes[2, 0], causes[0, 1], causes[2, 1] = 0.3, 0.11, 0.09  # 0 -> 1, 1 -> 2; too small: 0 -> 2
    answer["latents"], study = np.column_stack([-z[:, 1], blurred, 5 * z[:, 0] + 1]), p.LatentPolynomialVAE(INFO)
    study.answered = lambda: iter([(truth, answer)])
    assert p.correlation_by_latent(study, None, {"of": "last"}, None).value == pytest.approx(0.71, abs=0.02)
    assert p.correlation_by_latent(study, None, {"of": "others"}, None).value == pytest.approx(1.0, abs=1e-3)
    assert p.cause_errors(study, None, {}, None).value == 2.0, "1 -> 2 is added, 0 -> 2 is missing"
    assert p.negative_bound(study, None, {"slack": 0.5}, None).value == 0.75
    with pytest.raises(UserError, match="environments"):
        p.negative_bound(SimpleNamespace(), None, {"slack": 0.0}, None)
