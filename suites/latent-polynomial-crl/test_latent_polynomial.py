"""Monomials, worlds and bounds by plain recomputation, training replayed, metrics on answers made by hand."""

from __future__ import annotations

from itertools import combinations_with_replacement, permutations
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import DataInfo
from latentbench.papers.latent_polynomial_crl import polynomial_vae as p
from latentbench.papers.latent_polynomial_crl import worlds as w
from torch.distributions import Normal, kl_divergence

INFO, PRIORS = DataInfo((1,), "real", 1), ["polynomial", "linear", "independent", "normal"]
#: Monomials of three latents in the order of coefficients: z_i, then z_i z_j for j <= i.
TERMS = [(0,), (0, 0), (1,), (0, 1), (1, 1), (2,), (0, 2), (1, 2), (2, 2)]


def draws(seed=0):
    return torch.Generator().manual_seed(seed)


def normals(*shape, seed=0):
    return torch.randn(shape, generator=draws(seed), dtype=torch.float64)


def test_monomials_and_what_they_hold():
    z, expected = normals(7, 3), {(i,) for i in range(3)} | set(combinations_with_replacement(range(3), 2))
    assert set(TERMS) == expected
    torch.testing.assert_close(w.monomials(z), torch.stack([z[:, list(t)].prod(1) for t in TERMS], 1))
    assert w.holds(3).tolist() == [[j in t for t in TERMS] for j in range(3)]
    assert w.degrees(3).tolist() == [len(t) for t in TERMS]
    graph = torch.tensor([[0, 1, 0], [0, 0, 1], [0, 0, 0]], dtype=torch.bool)
    assert w.admissible(graph).tolist() == [[set(t) <= causes for t in TERMS] for causes in (set(), {0}, {1})]


def test_latents_follow_equation_3_and_keep_volumes():
    noise, free = normals(2, 5, 3, seed=1), normals(2, 5, 3, 9, seed=2)
    c = free * w.admissible(torch.ones(3, 3).triu(1).bool())
    z = w.latents(noise, c)
    plain = torch.zeros_like(noise)
    for i in range(3):
        causes = [k for k, t in enumerate(TERMS) if max(t) < i]
        parts = [c[..., i, k] * plain[..., list(TERMS[k])].prod(-1) for k in causes]
        plain[..., i] = noise[..., i] + sum(parts, torch.zeros(2, 5, dtype=torch.float64))
    torch.testing.assert_close(z, plain)
    torch.testing.assert_close(z - w.caused(z, c), noise)
    jacobian = torch.autograd.functional.jacobian(lambda n: w.latents(n, c[0, 0]), noise[0, 0])
    assert jacobian.det().item() == pytest.approx(1.0)


def test_worlds():
    made = [w.World(np.random.default_rng(seed), 4, 3, seed % 2 == 1) for seed in range(300)]
    graphs = torch.stack([one.graph for one in made])
    assert not graphs.tril().any()
    assert graphs.any(1).float().mean(0).tolist() == [0, 1, 1, 1], "all others have a cause"
    assert graphs[:, 0, 2].float().mean().item() == pytest.approx(0.75, abs=0.06)
    for one in made:
        there = (one.coefficients != 0).any(0)
        assert (there == w.admissible(one.graph)).all()
        assert not one.coefficients[0, :-1].any(), "no causes in the reference environment"
    sizes = torch.cat([one.coefficients[1:].flatten() for one in made[::2]])
    sizes = sizes[sizes != 0]
    assert 0.5 <= sizes.abs().min() < 0.51 < 0.99 < sizes.abs().max() <= 1.0
    assert sizes.gt(0).float().mean().item() == pytest.approx(0.5, abs=0.03)
    assert all((one.coefficients[:, -1] == one.coefficients[0, -1]).all() for one in made[1::2])
    assert all((one.coefficients[1, :-1] != one.coefficients[2, :-1]).any() for one in made[1::2])
    assert not any(one.coefficients[0, -1].any() for one in made[::2])
    for part, (low, high) in (("mean", (-1.0, 1.0)), ("scale", (0.3, 1.0))):
        values = torch.cat([getattr(one, part) for one in made]) / torch.tensor([1.0, 0.3, 0.3, 0.3])
        np.testing.assert_allclose([values.amin(0), values.amax(0)], [[low] * 4, [high] * 4], atol=0.02)


def test_draws_of_a_world_and_its_mixing():
    world = w.World(np.random.default_rng(5), 3, 4, False)
    z, u = world.draw(np.random.default_rng(6), 20_000)
    assert u.bincount().tolist() == [20_000] * 4
    for e in range(4):
        own, x = z[u == e], world.mix(z[u == e][:50])
        noise = own - w.caused(own, world.coefficients[e].expand(len(own), -1, -1))
        np.testing.assert_allclose(noise.mean(0), world.mean[e], atol=0.03)
        np.testing.assert_allclose(np.cov(noise.T), np.diag(world.scale[e] ** 2), atol=0.03)
        for matrix in world.mixing.flip(0):
            x = x @ torch.linalg.inv(matrix)
            x = torch.where(x < 0, x / 0.2, x)
        torch.testing.assert_close(x, own[:50])


def vaes(prior, starts=2, reference=True):
    """Of 3 latents, 4 features and 5 environments, with tables and biases that are not 0."""
    made = p.LatentCausalVAEs(starts, 3, 4, 5, prior, reference, draws(1))
    with torch.no_grad():
        for i, one in enumerate(made.parameters()):
            one += 0.3 * torch.randn(one.shape, generator=draws(i))
    return made


def plain(layers, x):
    for i in range(0, len(layers), 2):
        x = x @ layers[i] + layers[i + 1][0]
        x = torch.maximum(x, 0.2 * x) if i + 2 < len(layers) else x
    return x


@pytest.mark.parametrize("prior", PRIORS)
def test_terms_of_the_bound_start_by_start_and_row_by_row(prior):
    one, x, u = vaes(prior), normals(6, 4, seed=3).float(), torch.tensor([0, 1, 2, 3, 4, 1])
    hot = torch.eye(5)[u]
    error, kl = one.terms(x, hot, draws(4))
    e = torch.randn(2, 6, 3, generator=draws(4))
    degree = {"polynomial": 2, "linear": 1}.get(prior, 0)
    for s in range(2):
        h = plain([layer[s] for layer in one.code], x)
        seen = x if prior == "normal" else torch.cat([x, hot], 1)
        scale = plain([layer[s] for layer in one.spread], seen).exp()
        for r in range(6):
            c = torch.zeros(3, 9)
            for i in range(3):
                for k, t in enumerate(TERMS):
                    if max(t) < i and len(t) <= degree and u[r] > 0:
                        c[i, k] = one.table[s, u[r], i, k]
            given = c @ torch.stack([h[r, list(t)].prod() for t in TERMS])
            q, z = Normal(h[r] - given, scale[r]), []
            for i, n in enumerate(q.mean + q.stddev * e[s, r]):
                own = [c[i, k] * torch.stack([z[j] for j in t]).prod() for k, t in enumerate(TERMS) if max(t) < i]
                z.append(n + sum(own))
            out = plain([layer[s] for layer in one.decoder], torch.stack(z)[None])[0]
            noise = one.noise[s, u[r]]
            own = Normal(0.0, 1.0) if prior == "normal" else Normal(noise[:3], noise[3:].exp())
            assert kl[s, r].item() == pytest.approx(kl_divergence(q, own).sum().item(), rel=1e-4)
            log_p = Normal(out, 0.1).log_prob(x[r]).sum() + 4 * np.log(0.1 * np.sqrt(2 * np.pi))
            assert error[s, r].item() == pytest.approx(-log_p.item(), rel=1e-4)


def test_starts_are_the_orders_of_codes_where_there_are_causes():
    x, z = normals(5, 4, seed=5).float(), normals(5, 3, seed=6).float()
    made = p.LatentCausalVAEs(8, 3, 4, 5, "polynomial", True, draws(2))
    h, v = p.forward(made.code, x), p.forward(made.spread, torch.cat([x, torch.zeros(5, 5)], 1))
    for s, order in enumerate([*permutations(range(3)), (0, 1, 2), (0, 2, 1)]):
        torch.testing.assert_close(h[s], h[0][:, order])
        torch.testing.assert_close(v[s], v[0][:, order])
        torch.testing.assert_close(p.forward(made.decoder, z[:, order])[s], p.forward(made.decoder, z)[0])
    free = p.LatentCausalVAEs(2, 3, 4, 5, "independent", True, draws(2))
    assert not torch.isclose(free.code[0][0], free.code[0][1]).any()
    wide = p.network(1, [300, 500], draws())
    assert wide[0].std().item() == pytest.approx(0.05, rel=0.02)
    assert vaes("polynomial", reference=False).coefficients(torch.eye(5)[:1])[:, 0, 1:].any(1).any(1).all()


@pytest.mark.parametrize(("prior", "beta"), [("polynomial", 1.0), ("linear", 1.0), ("normal", 4.0)])
def test_training_replayed_and_the_best_start_taken(prior, beta):
    sizes = {"latents": 3, "environments": 4, "rows": 50, "starts": 3, "steps": 3, "prior": prior, "beta": beta}
    study = p.LatentPolynomialVAE(INFO, **sizes)
    study.start(None, draws(7))
    study.advance(None, None)
    ((truth, answer),) = study.answered()
    stream, own = study._stream(0, "problem"), draws(int(study._stream(0, "answer").integers(2**62)))
    world = w.World(stream, 3, 4, False)
    (z, u), (new, _) = world.draw(stream, 50), world.draw(stream, 100)
    x, tests = world.mix(z), world.mix(new)
    tests, x = ((part - x.mean(0)) / x.std(0) for part in (tests, x))
    x, tests, u = x.float(), tests.float(), torch.eye(4)[u]
    np.testing.assert_array_equal(truth["latents"], new)
    np.testing.assert_array_equal(truth["graph"], world.graph)
    made = p.LatentCausalVAEs(3, 3, 3, 4, prior, True, own)
    adam = torch.optim.Adam(made.parameters())
    for rate in (5e-3, 5e-3 * 2 / 3, 5e-3 / 3):
        adam.param_groups[0]["lr"] = rate
        chosen = torch.randint(200, (256,), generator=own)
        error, kl = made.terms(x[chosen], u[chosen], own)
        adam.zero_grad()
        (error + beta * kl).mean(1).sum().backward()
        adam.step()
    error, kl = made.terms(x, u, own)
    bounds = (error + beta * kl).mean(1).detach()
    np.testing.assert_allclose(answer["bounds"], bounds, rtol=1e-4)
    s = int(bounds.argmin())
    codes, h = (plain([layer[s] for layer in made.code], part).detach() for part in (tests, x))
    np.testing.assert_allclose(answer["latents"], codes, atol=1e-4)
    left = plain([layer[s] for layer in made.decoder], codes).detach() - tests
    ratio = left.square().sum() / (tests - tests.mean(0)).square().sum()
    assert answer["unexplained"] == pytest.approx(float(ratio), rel=1e-3)
    c = made.coefficients(u)[s].detach()
    for j, i in ((j, i) for j in range(3) for i in range(3)):
        parts = sum(c[:, i, k] * h[:, list(t)].prod(1) for k, t in enumerate(TERMS) if j in t)
        expected = parts.square().mean().sqrt() / h[:, i].std()
        assert answer["causes"][j, i] == pytest.approx(float(expected), abs=1e-4)
    assert (answer["causes"][0, 1] > 0) == (prior != "normal")


def test_ica_finds_components_and_no_causes():
    s = np.random.default_rng(3).uniform(-1, 1, (4000, 3))
    found = p.components(s[:3000] @ [[1, 2, 0], [0, 1, 1], [1, 0, 3]], s[3000:] @ [[1, 2, 0], [0, 1, 1], [1, 0, 3]], 1)
    assert p.matched(found, s[3000:])[1].min() > 0.99
    study = p.LatentPolynomialVAE(INFO, prior="ica", environments=3, rows=100)
    study.start(None, draws(7))
    study.advance(None, None)
    answer = next(study.answered())[1]
    given = study.problem(study._stream(0, "problem")).given
    seed = int(study._stream(0, "answer").integers(2**31))
    np.testing.assert_allclose(answer["latents"], p.components(given["x"], given["tests"], seed))
    assert not answer["causes"].any()


def test_metrics_match_codes_first():
    rng, study = np.random.default_rng(4), p.LatentPolynomialVAE(INFO)
    z, causes = rng.standard_normal((5000, 3)), np.zeros((3, 3))
    blurred = z[:, 2] + rng.standard_normal(5000)  # correlation of 0.71
    codes = np.column_stack([-z[:, 1], blurred, 5 * z[:, 0] + 1])  # of latents 1, 2 and 0
    causes[2, 0], causes[0, 1], causes[2, 1] = 0.3, 0.11, 0.09  # 0 -> 1, 1 -> 2; too small: 0 -> 2
    truth = {"latents": z, "graph": np.array([[0, 1, 1], [0, 0, 0], [0, 0, 0]], dtype=bool)}
    answer = {"latents": codes, "causes": causes, "unexplained": np.array(0.25)}
    study.answered = lambda: iter([(truth, answer)])
    assert p.environment_latents_mcc(study, None, {"last": True}, None).value == pytest.approx(0.71, abs=0.02)
    assert p.environment_latents_mcc(study, None, {"last": False}, None).value == pytest.approx(1.0)
    assert p.environment_graph_shd(study, None, {}, None).value == 2.0, "1 -> 2 is added, 0 -> 2 is missing"
    assert p.environment_unexplained(study, None, {}, None).value == 0.25
    with pytest.raises(UserError, match="environments"):
        p.environment_unexplained(SimpleNamespace(), None, {}, None)
    with pytest.raises(UserError, match="latents is 1"):
        p.LatentPolynomialVAE(INFO, latents=1)
