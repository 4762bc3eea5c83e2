"""Problems, matching and tests of rank by plain recomputation, the loss by loops, its schedule by a spy."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import DataInfo
from latentbench.papers.diff_latent_hierarchical import hierarchies as h
from latentbench.papers.diff_latent_hierarchical import learner as le
from latentbench.spec.loading import load_suite
from scipy.stats import chi2
from torch import Generator

from tests.project import REPOSITORY

INFO = DataInfo((1,), "real", 1)
DESIGNS = pytest.mark.parametrize(
    ("roots", "collider"), [(1, "none"), (1, "measured"), (2, "latent"), (3, "latent"), (2, "measured")]
)


def rng(seed=0):
    return np.random.default_rng(seed)


def generator(seed=0):
    return Generator().manual_seed(seed)


def study(kind=h.RandomHierarchy, **settings):
    return kind(INFO, **{"rows": 50, **settings})


def rows_with(s):
    """Rows (2 n, n) whose correlations are `s`."""
    root = np.linalg.cholesky(s).T
    return np.concatenate([root, -root])


@DESIGNS
def test_every_latent_has_two_pure_children(roots, collider):
    _, upper, lower = study(roots=roots, collider=collider).one(rng(3))
    assert upper.shape == h.sizes(lower.shape[1]) == (roots, 2 * roots + (collider == "latent"))
    for edges, shared in (upper, "latent"), (lower, "measured"):
        np.testing.assert_array_equal(edges[:, edges.sum(0) == 1].sum(1), 2)
        assert edges.all(0).sum() == (len(edges) > 1 and collider == shared) + (len(edges) == 1) * edges.shape[1]
    assert lower.argmax(0).tolist() != sorted(lower.argmax(0)), "measured variables are shuffled"


@pytest.mark.parametrize(("mechanism", "g"), [("tanh", np.tanh), ("leaky", lambda t: max(t, 0.2 * t))])
def test_children_are_made_one_by_one(mechanism, g):
    """The first draws are sizes of weights, then signs, then noises."""
    edges, parents = np.array([[1, 0, 1], [0, 1, 1]]), rng(1).standard_normal((9, 2))
    found = study(mechanism=mechanism, strength=2.5).children(rng(4), parents, edges)
    draws = rng(4)
    weights = draws.uniform(2.5, 5.0, (2, 3)) * draws.choice([-1, 1], (2, 3))
    plain = draws.uniform(-1, 1, (9, 3))
    for i, j in product(range(9), range(3)):
        plain[i, j] = g(plain[i, j] + sum(parents[i, k] * weights[k, j] for k in range(2) if edges[k, j]))
    np.testing.assert_allclose(found, (plain - plain.mean(0)) / plain.std(0))


def test_problem_is_made_from_the_top():
    made, seen = study(roots=2, collider="latent", rows=4000, graphs=3), []
    made.children = lambda r, parents, edges: seen.append((parents, edges)) or parents @ edges
    problem = made.problem(rng(2))
    assert seen[2][0].std(0) == pytest.approx(1.0, abs=0.03)
    assert np.abs(seen[2][0]).max() == pytest.approx(np.sqrt(3), abs=0.01)
    for i in range(3):
        (roots, upper), (latents, lower) = seen[2 * i : 2 * i + 2]
        np.testing.assert_array_equal(latents, roots @ upper)
        for name, value in ("upper", upper), ("lower", lower):
            np.testing.assert_array_equal(problem.truth[name][i], value)
        np.testing.assert_array_equal(problem.given["x"][i], latents @ lower)


@pytest.mark.parametrize(("k", "m"), [(1, 3), (2, 3), (3, 2), (2, 4)])
def test_edges_in_common_by_enumeration(k, m):
    for seed in range(6):
        (u, w), (v, z) = [(r.integers(0, 2, (k, m)), r.integers(0, 2, (m, 5))) for r in (rng(seed), rng(seed + 50))]
        ways = [(list(p), list(q)) for p in permutations(range(k)) for q in permutations(range(m))]
        assert h.common_edges((u, w), (v, z)) == max((u * v[p][:, q]).sum() + (w * z[q]).sum() for p, q in ways)


class Fixed(h.HierarchyStudy):
    def found(self, x, rng):
        return np.array([[1, 1]]), np.array([[1, 1, 0, 0], [0, 0, 1, 0]])


def test_measures():
    made = study(Fixed, graphs=2, problems=3)
    made.start(None, generator(1))
    while not made.done():
        made.advance(None, None)
    graphs = [
        ((t["upper"][i], t["lower"][i]), (a["upper"][i], a["lower"][i])) for t, a in made.answered() for i in (0, 1)
    ]
    commons = [h.common_edges(*pair) for pair in graphs]
    assert set(commons) == {4, 5}
    assert h.matched_edges(made, None, {}, None).value == pytest.approx(np.mean([2 * c / 11 for c in commons]))
    assert h.edges_apart(made, None, {}, None).value == pytest.approx(np.mean([11 - 2 * c for c in commons]))
    with pytest.raises(UserError, match="no layers"):
        h.matched_edges(object(), None, {}, None)


@pytest.mark.parametrize(("a", "b", "rank"), [([0, 3], [1, 2, 5], 1), ([2], [0, 4], 0), ([0, 1, 5], [2, 3, 4, 6], 2)])
def test_rank_by_canonical_correlations(a, b, rank):
    s = np.cov((rng(1).standard_normal((90, 7)) @ (np.eye(7) + 0.15 * rng(2).standard_normal((7, 7)))).T)
    m = np.linalg.solve(s[np.ix_(a, a)], s[np.ix_(a, b)]) @ np.linalg.solve(s[np.ix_(b, b)], s[np.ix_(b, a)])
    squares = np.sort(np.linalg.eigvals(m).real)[: len(a) - rank]
    statistic = -(90 - (len(a) + len(b) + 3) / 2) * np.log(1 - squares).sum()
    p = chi2.sf(statistic, (len(a) - rank) * (len(b) - rank))
    assert 1e-9 < p < 0.98
    tests = [study(h.OneCauseRanks, rows=90, alpha=alpha) for alpha in (0.99 * p, 1.01 * p)]
    assert [t.low(s, a, b, rank) for t in tests] == [True, False]
    assert tests[1].low(s, a, b, len(a))


@DESIGNS
def test_rank_search_finds_linear_hierarchies(roots, collider):
    """From the correlations of the population, where a root is below no measured collider."""
    _, upper, lower = study(roots=roots, collider=collider).one(rng(5))
    (k, m), n = upper.shape, lower.shape[1]
    edges = np.zeros((k + m + n, k + m + n))
    edges[:k, k : k + m], edges[k : k + m, k + m :] = upper, lower
    total = np.linalg.inv(np.eye(len(edges)) - edges * rng(6).uniform(1, 2, edges.shape) * rng(7).choice([-1, 1]))
    x = rows_with((total.T @ total)[k + m :, k + m :])
    found = study(h.OneCauseRanks, rows=10**8, alpha=1e-4).found(x, rng())
    assert h.common_edges((upper, lower), found) == upper.sum() + lower.sum() == found[0].sum() + found[1].sum()


def test_rivals_by_hand():
    noise = study(h.OneCauseRanks, alpha=1e-3).found(rng(3).standard_normal((50, 6)), rng())
    assert [a.shape for a in noise] == [(1, 3), (3, 6)]
    assert not noise[0].any()
    assert not noise[1].any()
    levels = np.array([[0, 0], [0, 0], [0, 1], [0, 1], [1, 2], [1, 2], [1, 3], [1, 3]])[[3, 6, 0, 4, 7, 1, 2, 5]]
    s = np.array([0.1, 0.5, 0.9])[(levels[:, None] == levels).sum(2)] * (1 - np.eye(8)) + np.eye(8)
    s *= np.outer([-1] + [1] * 7, [-1] + [1] * 7)
    found = study(h.VariableLinkage).found(rows_with(s), rng())
    true = np.array([[1, 1, 0, 0], [0, 0, 1, 1]]), (np.arange(4)[:, None] == levels[:, 1]).astype(int)
    assert h.common_edges(true, found) == found[0].sum() + found[1].sum() == 12
    (upper, lower), other = (study().found(np.zeros((5, 10)), rng(s)) for s in (1, 2))
    assert [upper.shape, lower.shape] == [(2, 5), (5, 10)]
    np.testing.assert_array_equal(lower.sum(0), 1)
    assert lower.tolist() != other[1].tolist()


def learners(n=9):
    """Two, of two roots and four lower latents, with edges of all strengths."""
    made = le.Learners(2, n, generator(1))
    with torch.no_grad():
        for p in made.edges():
            p.copy_(torch.rand(p.shape, generator=generator(2)))
    return made


def test_lack_of_pure_children():
    p = torch.rand(3, 4, 5, generator=generator(3)) ** 3
    for some, found in zip(p.tolist(), le.lacking(p).tolist(), strict=True):
        for i, row in enumerate(some):
            pure = sum(v * np.prod([1 - other[j] for k, other in enumerate(some) if k != i]) for j, v in enumerate(row))
            assert found[i] == pytest.approx(max(0.0, 1.9 - pure), abs=1e-6)
    made = learners()
    expected = sum(le.lacking(p).sum(1) for p in made.edges())
    torch.testing.assert_close(made.lack(), expected)
    with torch.no_grad():
        made.upper.copy_(torch.tensor([[1.0, 1, 1, 0], [0, 0, 0, 0]]))
        made.lower.copy_(torch.eye(4)[:, [0, 0, 1, 1, 2, 2, 3, 3, 3]])
        made.lower[0, 0, 0] = 0
    assert made.lack(each=True).tolist() == pytest.approx([0.9, 0.0]), "a latent without edges lacks nothing"
    assert le.size(made).tolist() == [11.0, 12.0]


def test_masks_are_relaxed_draws():
    """The mask is above q where the logistic is above logit(q) - 2 logit(p)."""
    for p, q in (0.3, 0.5), (0.6, 0.2), (0.7, 0.9):
        drawn = le.drawn_mask(torch.full((40_000,), p), generator(4))
        odds = (p / (1 - p)) ** 2 * (1 - q) / q
        assert float((drawn > q).float().mean()) == pytest.approx(odds / (1 + odds), abs=0.01)
    assert le.drawn_mask(torch.tensor([0.0, 1.0]), generator(4)).round().tolist() == [0.0, 1.0]


def network(net, member, x):
    for i, m in enumerate(m for m in net if isinstance(m, le.Affine)):
        x = (np.maximum(x, 0) if i else x) @ m.weight[member].detach().numpy() + m.bias[member, 0].detach().numpy()
    return x


def test_decoding_node_by_node():
    made = learners()
    e, upper, lower = torch.randn(2, 3, 6, generator=generator(5)), *(p.detach() for p in made.edges())
    found = made.decode(e, upper, lower).detach()
    for s, b in product(range(2), range(3)):
        row = e[s, b].numpy()
        roots = np.array([network(made.roots, 2 * s + i, row[i : i + 1])[0] for i in range(2)])
        inputs = [[*(roots * upper[s, :, j].numpy()), row[2 + j]] for j in range(4)]
        latents = np.array([network(made.latents, 4 * s + j, np.array(v))[0] for j, v in enumerate(inputs)])
        plain = [network(made.measured, 9 * s + j, latents * lower[s, :, j].numpy())[0] for j in range(9)]
        np.testing.assert_allclose(found[s, b], plain, atol=1e-5)


def steps_of(made, x, steps, lr=1e-3):
    critic = torch.optim.Adam(made.critic.parameters(), lr)
    return study(le.DifferentiableHierarchy).critic_steps(made, critic, x, steps, generator(7))


def test_noises_and_their_shuffle():
    made, x = learners(), 20 * torch.randn(2, 400, 9, generator=generator(6))
    e, shuffled, mean, log_variance = (v.detach() for v in steps_of(made, x, 1))
    raw = np.array([network(made.encoder, s, x[s].numpy()) for s in range(2)])
    np.testing.assert_allclose(mean, raw[..., :6], atol=1e-4)
    np.testing.assert_allclose(log_variance, np.maximum(raw[..., 6:], -1.0), atol=1e-4)
    assert (raw[..., 6:].min() < -1.0, raw[..., 6:].max() > -1.0) == (True, True)
    z = (e - mean) / torch.exp(log_variance / 2)
    assert (float(z.mean()), float(z.std())) == pytest.approx((0.0, 1.0), abs=0.05)
    torch.testing.assert_close(e.sort(1).values, shuffled.sort(1).values)
    moves = (shuffled.argsort(1).argsort(1).double() - e.argsort(1).argsort(1)).abs()
    assert (moves.mean(1) / 400).flatten().tolist() == pytest.approx([1 / 3] * 12, abs=0.06)
    assert not torch.equal(moves[0, :, 0], moves[0, :, 1]), "each by itself"


def test_critic_climbs_its_bound_alone():
    made, values = learners(), []
    e = torch.randn(2, 300, 1, generator=generator(8)).repeat(1, 1, 6)
    before = [p.clone() for p in made.parameters()]
    made.noises = lambda batch: (e, torch.full_like(e, -9.0))
    for lr in 1e-9, 2e-2:
        drawn = steps_of(made, e, 60, lr)
        values.append(made.information(*drawn[:2]).detach())
    assert (values[1] > values[0] + 0.2).all()
    joint, product = (np.tanh(network(made.critic, 1, v[1].numpy())[:, 0]) for v in drawn[:2])
    assert float(values[1][1]) == pytest.approx(joint.mean() - np.log(np.exp(product).mean()), abs=1e-4)
    for (name, p), old in zip(made.named_parameters(), before, strict=True):
        assert torch.equal(p, old) != name.startswith("critic")


def test_loss_by_its_terms():
    """Of learners that do not touch each other."""
    made, x = learners(), torch.randn(2, 5, 9, generator=generator(9))
    e = torch.randn(2, 5, 6, generator=generator(3), requires_grad=True)
    mean, log_variance = made.noises(x)
    shuffled = e.flip(1)
    bounds = made.information(
        e, shuffled + 3 * (made.information(e, e + 3) < made.information(e, e - 3))[:, None, None]
    )
    made.information = lambda *drawn: bounds.abs() if drawn == (e, shuffled) else None
    error, loss = le.terms(made, x, 0.4, 3e-6, (e, shuffled, mean, log_variance), list(made.edges()))
    for s in range(2):
        gap = (made.decode(e, *made.edges())[s] - x[s]).detach()
        kl = sum(
            0.5 * (m * m + np.exp(v) - v - 1) for m, v in zip(*(a[s].flatten().tolist() for a in (mean, log_variance)))
        )
        plain = (gap**2).mean().item() + 1e-3 * kl + 10 * bounds[s].item() ** 2 + 10**-1.4 * made.lack()[s].item() ** 2
        assert error[s].item() == pytest.approx((gap**2).mean().item())
        assert loss[s].item() == pytest.approx(plain + 1 / 3 * le.size(made)[s].item(), rel=1e-5)
    loss[0].backward()
    for name, p in made.named_parameters():
        own, other = p.grad.unflatten(0, (2, -1))
        assert (bool(own.any()), bool(other.any())) == (True, False), name
    made.information = lambda *drawn: torch.tensor([-1.0, -2.0])
    floor = le.terms(made, x, 0.4, 3e-6, (e, shuffled, mean, log_variance), list(made.edges()))[1]
    torch.testing.assert_close(floor + 10 * bounds**2, loss)


def test_schedule(monkeypatch):
    """p is drawn towards one half every fifth epoch, rounded and left for the last tenth, when networks go on."""
    method = study(le.DifferentiableHierarchy, starts=2, epochs=20, warmup=2, lr=1e-7, batch_size=16)
    made, ends, times, calls, biases, errors, lacks = learners(8), [], [], [], [], [], []
    with torch.no_grad():
        made.lower[:, 0, 0] = 1.5
    first, terms, critic, lack = made.lower.detach().clamp(0, 1), le.terms, method.critic_steps, made.lack

    def spied_terms(m, b, t, n, *more):
        times.append((t, n))
        error, loss = terms(m, b, t, n, *more)
        errors.append(error.detach())
        return error, loss

    method.critic_steps = lambda *more: calls.append((more[3], more[2].shape[1])) or critic(*more)

    def spied_lack(each=None):
        found = lack(bool(each))
        if each is not None:  # at the end of an epoch
            ends.append((each, made.lower.detach().clone()))
            biases.append(made.measured[-1].bias.detach().clone())
            lacks.append(found)
        return found

    made.lack = spied_lack
    monkeypatch.setattr(le, "terms", spied_terms)
    losses = method.train(made, torch.randn(2, 50, 8, generator=generator(1)), generator(2))
    assert calls == [(1, b) for b in (16, 16, 16, 2)] * 2 + [(3, b) for b in (16, 16, 16, 2)] * 20
    assert times == [(epoch / 20, 4) for epoch in range(20) for _ in range(4)]
    for epoch, (each, p) in enumerate(ends):
        pulls = min(epoch // 5 + 1, 4)
        expected = (first - 0.5) * 0.9**pulls + 0.5
        torch.testing.assert_close(p, expected if epoch < 18 else expected.round(), atol=1e-4, rtol=0)
        assert each == (epoch > 18), "as the authors', from the epoch after"
    assert not torch.equal(biases[-1], biases[-2]), "networks go on"
    last = [
        torch.stack(errors[4 * i : 4 * i + 4]).mean(0) + 1e6 * lacks[i] + 1e-6 * le.size(made) for i in range(15, 20)
    ]
    torch.testing.assert_close(losses, torch.stack(last).mean(0))
    assert (losses > 1e5).all()


def test_orders_and_choice():
    method = study(le.DifferentiableHierarchy, starts=2, batch_size=3)
    x = torch.arange(40.0).reshape(4, 10, 1)
    batches = method.batches(x, generator(4))
    assert [b.shape[1] for b in batches] == [3, 3, 3, 1]
    rows = torch.cat(batches, 1)
    torch.testing.assert_close(rows.sort(1).values, x)
    assert len({tuple((r - r.min()).flatten().tolist()) for r in rows}) == 4
    seen = []

    def train(made, x, generator):
        seen.append((made, x))
        made.lower.data.copy_(torch.rand(made.lower.shape, generator=generator))
        return torch.tensor([2.0, 0.5, 1.0, 3.0])

    method.train, given = train, rng(1).standard_normal((2, 10, 8))
    answer, (made, rows) = method.answer({"x": given}, rng(2)), *seen
    np.testing.assert_allclose(rows, given[[0, 0, 1, 1]], rtol=1e-6)
    np.testing.assert_array_equal(answer["lower"], made.lower[[1, 2]].detach() > 0.5)
    assert [answer[k].shape for k in ("upper", "lower")] == [(2, 2, 4), (2, 4, 8)]
    assert answer["lower"].any()
    assert not answer["lower"].all()


def test_who_is_claimed_to_be_ahead():
    suite = load_suite(REPOSITORY / "suites/diff-latent-hierarchical/suite.yaml").suite
    orders = [claim for claim in suite.claims if claim.kind == "order"]
    graphs = ("measured-collider", "latent-collider")
    assert {(c.dataset, c.better, c.worse) for c in orders} == set(product(graphs, ["masks"], ["ranks", "linkage"]))
    assert all(c.metric == g.metric == "matched_edges" for c in orders for g in c.gate)
    assert all(g.better_than == "random" and g.methods == ["masks"] for c in orders for g in c.gate)
