"""Problems, matching and tests of rank by plain recomputation, the loss by loops, its schedule by a spy."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
import torch
from latentbench.core.types import DataInfo
from latentbench.papers.diff_latent_hierarchical import hierarchies as h
from latentbench.papers.diff_latent_hierarchical import learner as le
from latentbench.spec.loading import load_suite
from scipy.stats import chi2
from torch import Generator

from tests.project import REPOSITORY


def rng(seed=0):
    return np.random.default_rng(seed)


def generator(seed=0):
    return Generator().manual_seed(seed)


def study(kind=h.RandomHierarchy, **settings):
    return kind(DataInfo((1,), "real", 1), **{"rows": 50, **settings})


def rows_with(s):
    """Rows (2 n, n) whose correlations are `s`."""
    root = np.linalg.cholesky(s).T
    return np.concatenate([root, -root])


@pytest.mark.parametrize("collider", [False, True])
def test_problem_is_made_from_the_top(collider):
    made, seen = study(collider=collider, rows=4000, graphs=3), []
    made.children = lambda r, parents, edges: seen.append((parents, edges)) or parents @ edges
    problem = made.problem(rng(2))
    for i, ((root, upper), (latents, lower)) in enumerate(zip(seen[::2], seen[1::2], strict=True)):
        assert (root.std(), np.abs(root).max()) == pytest.approx((1.0, np.sqrt(3)), abs=0.03)
        assert upper.tolist() == [[1, 1]]
        assert sorted(lower.T.tolist()) == [[0, 1]] * 2 + [[1, 0]] * 2 + [[1, 1]] * collider
        np.testing.assert_array_equal(latents, root @ upper)
        np.testing.assert_array_equal(problem.truth["upper"][i], upper)
        np.testing.assert_array_equal(problem.truth["lower"][i], lower)
        np.testing.assert_array_equal(problem.given["x"][i], latents @ lower)
    assert seen[1][1].tolist() != seen[3][1].tolist(), "measured variables are shuffled"


@pytest.mark.parametrize(("leaky", "g"), [(False, np.tanh), (True, lambda t: t if t > 0 else 0.2 * t)])
def test_children_are_made_one_by_one(leaky, g):
    """The first draws are sizes of weights, then signs, then noises."""
    edges, parents, draws = np.array([[1, 0, 1], [0, 1, 1]]), rng(1).standard_normal((9, 2)), rng(4)
    weights, plain = draws.uniform(1, 2, (2, 3)) * draws.choice([-1, 1], (2, 3)), draws.uniform(-1, 1, (9, 3))
    for i, j in product(range(9), range(3)):
        plain[i, j] = g(plain[i, j] + sum(parents[i, k] * weights[k, j] for k in range(2) if edges[k, j]))
    found = study(leaky=leaky).children(rng(4), parents, edges)
    np.testing.assert_allclose(found, (plain - plain.mean(0)) / plain.std(0))


def test_edges_in_common_by_enumeration():
    for seed, m in product(range(6), (2, 3)):
        (u, w), (v, z) = [(r.integers(0, 2, (1, m)), r.integers(0, 2, (m, 5))) for r in (rng(seed), rng(seed + 50))]
        ways = map(list, permutations(range(m)))
        assert h.common_edges((u, w), (v, z)) == max((u * v[:, q]).sum() + (w * z[q]).sum() for q in ways)
    made, found = study(graphs=6), (np.array([[1, 1]]), np.array([[1, 1, 0, 0], [0, 0, 1, 0]]))
    made.found = lambda *given: found
    made.start(None, generator(1))
    made.advance(None, None)
    ((truth, _),) = made.answered()
    common = [h.common_edges(graph, found) for graph in zip(truth["upper"], truth["lower"], strict=True)]
    assert set(common) == {4, 5}
    assert h.matched_edges(made, None, {}, None).value == pytest.approx(np.mean([2 * c / 11 for c in common]))


@pytest.mark.parametrize(("a", "b", "rank"), [([0, 3], [1, 2, 5], 1), ([2], [0, 4], 0), ([0, 1, 5], [2, 3, 4, 6], 2)])
def test_rank_by_canonical_correlations(a, b, rank):
    x = rng(1).standard_normal((90, 7)) @ (np.eye(7) + 0.15 * rng(2).standard_normal((7, 7)))
    s = np.cov(x.T)
    m = np.linalg.solve(s[np.ix_(a, a)], s[np.ix_(a, b)]) @ np.linalg.solve(s[np.ix_(b, b)], s[np.ix_(b, a)])
    squares = np.sort(np.linalg.eigvals(m).real)[: len(a) - rank]
    statistic = -(90 - (len(a) + len(b) + 3) / 2) * np.log(1 - squares).sum()
    p = chi2.sf(statistic, (len(a) - rank) * (len(b) - rank))
    assert 1e-9 < p < 0.98
    assert [h.low(x, a, b, rank, level) for level in (0.99 * p, 1.01 * p)] == [True, False]
    assert h.low(x, a, b, len(a), 1.01 * p)


@pytest.mark.parametrize("collider", [False, True])
def test_rank_search_finds_linear_hierarchies(collider):
    """From many rows with the correlations of the population."""
    _, upper, lower = study(collider=collider).one(rng(5))
    n = lower.shape[1]
    edges = np.zeros((3 + n, 3 + n))
    edges[:1, 1:3], edges[1:3, 3:] = upper, lower
    total = np.linalg.inv(np.eye(3 + n) - edges * rng(6).uniform(1, 2, edges.shape) * rng(7).choice([-1, 1]))
    found = study(h.OneCauseRanks).found(np.tile(rows_with((total.T @ total)[3:, 3:]), (500, 1)), rng())
    assert h.common_edges((upper, lower), found) == upper.sum() + lower.sum() == found[0].sum() + found[1].sum()


def test_rank_search_takes_the_loosest_level_with_both_latents(monkeypatch):
    for enough, taken in (1e-3, 1e-3), (0.1, 0.1), (0, 1e-9):
        monkeypatch.setattr(h, "one_cause_clusters", lambda x, a, b=enough: np.array([[a, a], [0, a * (a <= b)]]))
        upper, lower = study(h.OneCauseRanks).found(np.zeros((9, 4)), rng())
        assert (lower[0, 0], upper.tolist()) == (taken, [[enough > 0] * 2])


def test_rivals_by_hand():
    assert not any(found.any() for found in study(h.OneCauseRanks).found(rng(3).standard_normal((50, 5)), rng()))
    s = np.array([[1, 0.4, 0.6, 0.5], [0.4, 1, 0.3, 0.7], [0.6, 0.3, 1, 0.1], [0.5, 0.7, 0.1, 1]])
    upper, lower = study(h.VariableLinkage).found(rows_with(s * np.outer([-1, 1, 1, 1], [-1, 1, 1, 1])), rng())
    assert (upper.tolist(), sorted(lower.tolist())) == ([[1, 1]], [[0, 1, 0, 1], [1, 0, 1, 0]])
    (upper, lower), other = (study().found(np.zeros((5, 10)), rng(seed)) for seed in (1, 2))
    assert (upper.tolist(), lower.sum(0).tolist(), lower.sum(1).tolist()) == ([[1, 1]], [1] * 10, [5] * 2)
    assert lower.tolist() != other[1].tolist()


def learners(n=9):
    """Two, of two roots and four lower latents, with edges of all strengths."""
    made = le.Learners(2, n, generator(1))
    for p in made.edges():
        p.data.copy_(torch.rand(p.shape, generator=generator(2)))
    return made


def test_lack_of_pure_children():
    p = 1.1 * torch.rand(3, 4, 5, generator=generator(3)) ** 3 - 0.05  # a step leaves [0, 1] before it is clamped
    for some, found in zip(p.tolist(), le.lacking(p).tolist(), strict=True):
        for i, row in enumerate(some):
            pure = [v * np.prod([1 - other[j] for k, other in enumerate(some) if k != i]) for j, v in enumerate(row)]
            assert found[i] == pytest.approx(max(0.0, 1.9 - np.abs(pure).sum()), abs=1e-6)
    made = learners()
    torch.testing.assert_close(made.lack(), sum(le.lacking(p).sum(1) for p in made.edges()))
    made.upper.data.copy_(torch.tensor([[1.0, 1, 1, 0], [0, 0, 0, 0]]))
    made.lower.data.copy_(torch.eye(4)[:, [0, 0, 1, 1, 2, 2, 3, 3, 3]])
    made.lower.data[0, 0, 0] = 0
    assert made.lack(each=True).tolist() == pytest.approx([0.9, 0.0]), "a latent without edges lacks nothing"
    assert le.size(made).tolist() == [11.0, 12.0]


def test_masks_are_relaxed_draws():
    for p, q in (0.3, 0.5), (0.6, 0.2), (0.7, 0.9):
        drawn = le.drawn_mask(torch.full((40_000,), p), generator(4))
        odds = (p / (1 - p)) ** 2 * (1 - q) / q  # above q where the logistic is above logit(q) - 2 logit(p)
        assert float((drawn > q).float().mean()) == pytest.approx(odds / (1 + odds), abs=0.01)
    assert le.drawn_mask(torch.tensor([0.0, 1.0]), generator(4)).round().tolist() == [0.0, 1.0]


def network(net, member, x):
    for i, m in enumerate(m for m in net if isinstance(m, le.Affine)):
        x = (np.maximum(x, 0) if i else x) @ m.weight[member].detach().numpy() + m.bias[member, 0].detach().numpy()
    return x


def test_decoding_node_by_node():
    made = learners()
    e, (upper, lower) = torch.randn(2, 3, 6, generator=generator(5)), (p.detach() for p in made.edges())
    found = made.decode(e, upper, lower).detach()
    for s, b in product(range(2), range(3)):
        row = e[s, b].numpy()
        roots = np.array([network(made.roots, 2 * s + i, row[i : i + 1])[0] for i in range(2)])
        inputs = [np.array([*(roots * upper[s, :, j].numpy()), row[2 + j]]) for j in range(4)]
        latents = np.array([network(made.latents, 4 * s + j, v)[0] for j, v in enumerate(inputs)])
        plain = [network(made.measured, 9 * s + j, latents * lower[s, :, j].numpy())[0] for j in range(9)]
        np.testing.assert_allclose(found[s, b], plain, atol=1e-5)
    assert [float(p.data.abs().max()) for p in made.encoder[0].parameters()] == pytest.approx([1 / 3] * 2, abs=0.01)


def steps_of(made, x, steps, lr=1e-3):
    critic = torch.optim.Adam(made.critic.parameters(), lr)
    return study(le.DifferentiableHierarchy).critic_steps(made, critic, x, steps, generator(7))


def test_noises_and_their_shuffle():
    made, x = learners(), 20 * torch.randn(2, 400, 9, generator=generator(6))
    e, shuffled, mean, log_variance = (v.detach() for v in steps_of(made, x, 1))
    raw = np.array([network(made.encoder, s, x[s].numpy()) for s in range(2)])
    np.testing.assert_allclose(mean, raw[..., :6], atol=1e-4)
    np.testing.assert_allclose(log_variance, np.maximum(raw[..., 6:], -1.0), atol=1e-4)
    assert raw[..., 6:].min() < -1.0 < raw[..., 6:].max()
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
        joint, product = (np.tanh(network(made.critic, 1, v[1].numpy())[:, 0]) for v in drawn[:2])
        assert float(values[-1][1]) == pytest.approx(joint.mean() - np.log(np.exp(product).mean()), abs=1e-4)
    assert (values[1] > values[0] + 0.2).all()
    for (name, p), old in zip(made.named_parameters(), before, strict=True):
        assert torch.equal(p, old) != name.startswith("critic")


def test_loss_by_its_terms():
    """Of learners that do not touch each other."""
    made, x = learners(), torch.randn(2, 5, 9, generator=generator(9))
    e = torch.randn(2, 5, 6, generator=generator(3), requires_grad=True)
    mean, log_variance = made.noises(x)
    bounds = made.critic(e)[..., 0].mean(1)
    drawn, masks = (e, e.flip(1), mean, log_variance), list(made.edges())
    losses = []
    for sign in 1, -1:
        made.information = lambda *given, sign=sign: sign * bounds.abs() if given == drawn[:2] else None
        losses.append(le.terms(made, x, 0.4, 3e-6, drawn, masks))
    error, loss = losses[0]
    for s in range(2):
        mse = ((made.decode(e, *masks)[s] - x[s]) ** 2).mean().item()
        m, v = mean[s].detach().double(), log_variance[s].detach().double()
        plain = mse + 1e-3 * 0.5 * float((m * m + v.exp() - v - 1).sum()) + 10**-1.4 * made.lack()[s].item() ** 2
        assert error[s].item() == pytest.approx(mse)
        found = [(each[s] - le.size(made)[s] / 3).item() for _, each in losses]
        assert found == pytest.approx([plain + 10 * bounds[s].item() ** 2, plain], rel=1e-5)
    loss[0].backward()
    for name, p in made.named_parameters():
        assert [bool(half.any()) for half in p.grad.chunk(2)] == [True, False], name


def test_schedule(monkeypatch):
    """p is drawn towards one half every fifth epoch, rounded and left for the last tenth, when networks go on."""
    method = study(le.DifferentiableHierarchy, starts=2, epochs=20, warmup=2, lr=1e-7, batch_size=16)
    made, ends, times, calls, errors = learners(8), [], [], [], []
    made.lower.data[:, 0, 0] = 1.5
    first, terms, critic, lack = made.lower.detach().clamp(0, 1), le.terms, method.critic_steps, made.lack

    def spied_terms(m, b, t, n, *more):
        times.append((t, n))
        error, loss = terms(m, b, t, n, *more)
        errors.append(error.detach())
        return error, loss

    def spied_lack(each=None):
        if each is not None:  # at the end of an epoch
            ends.append((each, made.lower.detach().clone(), made.measured[-1].bias.detach().clone(), lack(each)))
        return lack(bool(each))

    method.critic_steps = lambda *more: calls.append((more[3], more[2].shape[1])) or critic(*more)
    made.lack = spied_lack
    monkeypatch.setattr(le, "terms", spied_terms)
    losses = method.train(made, torch.randn(2, 50, 8, generator=generator(1)), generator(2))
    assert calls == [(1, b) for b in (16, 16, 16, 2)] * 2 + [(3, b) for b in (16, 16, 16, 2)] * 20
    assert times == [(epoch / 20, 4) for epoch in range(20) for _ in range(4)]
    for epoch, (each, p, *_) in enumerate(ends):
        expected = (first - 0.5) * 0.9 ** min(epoch // 5 + 1, 4) + 0.5
        torch.testing.assert_close(p, expected if epoch < 18 else expected.round(), atol=1e-4, rtol=0)
        assert each == (epoch > 18), "as the authors', from the epoch after"
    assert not torch.equal(ends[-1][2], ends[-2][2]), "networks go on"
    last = torch.stack(errors).unflatten(0, (20, 4)).mean(1) + 1e6 * torch.stack([end[3] for end in ends])
    torch.testing.assert_close(losses, last[-5:].mean(0) + 1e-6 * le.size(made))
    assert (losses > 1e5).all()


def test_orders_and_choice():
    method = study(le.DifferentiableHierarchy, starts=2, batch_size=3)
    x, seen = torch.arange(40.0).reshape(4, 10, 1), []
    batches = method.batches(x, generator(4))
    assert [b.shape[1] for b in batches] == [3, 3, 3, 1]
    rows = torch.cat(batches, 1)
    torch.testing.assert_close(rows.sort(1).values, x)
    assert len({tuple((r - r.min()).flatten().tolist()) for r in rows}) == 4

    def train(made, x, generator):
        seen.append((made, x))
        made.lower.data.copy_(torch.rand(made.lower.shape, generator=generator))
        return torch.tensor([2.0, 0.5, 1.0, 3.0])

    method.train, given = train, rng(1).standard_normal((2, 10, 8))
    answer, (made, rows) = method.answer({"x": given}, rng(2)), *seen
    np.testing.assert_allclose(rows, given[[0, 0, 1, 1]], rtol=1e-6)
    np.testing.assert_array_equal(answer["lower"], made.lower[[1, 2]].detach() > 0.5)
    assert [answer[k].shape for k in ("upper", "lower")] == [(2, 2, 4), (2, 4, 8)]
    assert set(answer["lower"].flat) == {0, 1}


def test_who_is_claimed_to_be_ahead():
    suite = load_suite(REPOSITORY / "suites/diff-latent-hierarchical/suite.yaml").suite
    *orders, bound = suite.claims
    assert [(c.dataset, c.better, c.worse) for c in orders] == [("collider", "masks", w) for w in ("ranks", "linkage")]
    assert [(g.better_than, g.methods) for c in orders for g in c.gate] == [("random", ["masks"])] * 2
    assert (bound.dataset, bound.method, bound.at_least) == ("tree", "masks", 0.9)
    assert suite.datasets["collider"].params == {"graphs": 10, "collider": True, "leaky": True}
    assert [o.params for o in suite.tiers["cpu"].overrides] == [{"epochs": 150, "warmup": 40}]
    stated = study(le.DifferentiableHierarchy)
    assert (stated.epochs, stated.warmup, stated.batch_size, stated.lr) == (400, 100, 32, 1e-3)
