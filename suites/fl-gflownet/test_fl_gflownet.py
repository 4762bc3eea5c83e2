"""What is exact in flow networks over sets: laws by enumeration, balance at the known flows, losses, cuts, measures."""

from functools import partial
from itertools import combinations, permutations
from math import comb
from unittest import mock

import numpy as np
import pytest
import torch
from latentbench.core.types import DataInfo
from latentbench.papers.fl_gflownet import flownets
from latentbench.papers.fl_gflownet.flownets import SetSampler, balance, build, l1, reached, walk

N, K = 5, 3
E = np.array([0.9, -0.8, 0.3, -0.1, 0.6])
FORMS = [("tb", 0), ("db", 0), ("subtb", 0), ("db", 1), ("subtb", 1)]
rng = partial(np.random.default_rng, 5)
study = partial(SetSampler, DataInfo((1,), "real", 1), elements=[N], sizes=[K], steps=5, hidden=16, loss="db")


def log_flow(s):
    above = [np.exp(-E[list(x)].sum()) for x in combinations(range(N), K) if set(s) <= set(x)]
    return np.log(sum(above) / comb(K, len(s)))


def known(states, looking):
    """Heads at the optimum of uniform P_B; at complete sets the flow's says 7, for it is not to be asked there."""
    out = torch.full((*states.shape[:-1], 2 * N + 1), 0.3)
    for place in np.ndindex(states.shape[:-1]):
        s = tuple(np.flatnonzero(states[place]))
        out[place][-1] = log_flow(s) + looking * E[list(s)].sum() if len(s) < K else 7.0
        for i in set(range(N)) - set(s) if len(s) < K else ():
            out[place][i] = log_flow((*s, i))
    return out


def trained(energies=E, **params):
    with mock.patch.object(flownets, "l1", lambda policy, *_: policy):
        return list(study(**params).curve(0, np.array(energies), K, rng()))[-1]


def lost(s, heads, energies=E, log_z=0.0, length=K):
    states, actions = map(torch.from_numpy, walk(np.zeros_like, np.ones((30, 1)), N, K, rng()))
    h = s.heights(heads(states), states, actions, torch.tensor(energies, dtype=torch.float32), torch.tensor([log_z]))
    return float(balance(s.form, h.float(), torch.full((30,), length)))


def test_a_policys_law_is_the_sum_over_all_orders():
    w = rng().random((2**N, N))

    def policy(states):
        p = w[(states @ 2 ** np.arange(N)).astype(int)] * (1 - states)
        return p / p.sum(1, keepdims=True)

    def mass(order):
        before = np.cumsum(np.eye(N)[[*order]], 0) - np.eye(N)[[*order]]
        return policy(before)[range(K), order].prod()

    found, masses = reached(policy, N, K)
    want = [sum(mass(order) for order in permutations(np.flatnonzero(x))) for x in found]
    np.testing.assert_allclose(masses, want)
    weights = [np.exp(-E[x > 0].sum()) for x in found]
    assert {tuple(np.flatnonzero(x)) for x in found} == set(combinations(range(N), K))
    assert l1(policy, E, K) == pytest.approx(np.abs(masses - weights / np.sum(weights)).sum(), rel=1e-5)
    states, actions = walk(policy, np.zeros((20000, 1)), N, K, rng())
    np.testing.assert_allclose(states[:, -1].mean(0), masses @ found, atol=0.015)
    assert (np.diff(states, axis=1) == np.eye(N)[actions]).all()
    mixed = walk(lambda s: np.eye(N)[s.argmin(1)], np.full((20000, 1), 0.6), N, K, rng())[1]
    np.testing.assert_allclose(np.bincount(mixed[:, 0]) / 20000, 0.4 * np.eye(N)[0] + 0.6 / N, atol=0.015)


@pytest.mark.parametrize(("loss", "forward_looking"), FORMS)
def test_known_flows_balance_and_each_loss_finds_them(loss, forward_looking):
    s, z = study(loss=loss, forward_looking=forward_looking), log_flow(())
    heads = partial(known, looking=forward_looking)
    assert lost(s, heads, log_z=z) < 1e-9
    assert lost(s, heads, E[::-1].copy(), z) > 1e-3
    assert (lost(s, heads, log_z=z + 1) > 0.5) == (loss == "tb")
    policy = trained(loss=loss, forward_looking=forward_looking, steps=300, lr=3e-3, hidden=32)
    assert l1(policy, E, K) < 0.1


def test_without_the_terminal_condition_the_uniform_policy_balances():
    def heads(states):
        ways = torch.tensor([float(comb(N, j)) for j in range(N + 1)]).log()
        flow = states @ torch.tensor(E, dtype=torch.float32) - ways[states.sum(-1).long()]
        return torch.cat([torch.zeros(*states.shape[:-1], 2 * N), flow[..., None]], -1)

    for terminal in (False, True):
        s = study(forward_looking=True, terminal=terminal)
        assert (lost(s, heads) < 1e-9) == (not terminal)
        assert lost(s, heads, length=K - 1) < 1e-9


def test_losses_are_those_of_plain_sums():
    h, lengths, each = rng().normal(0, 1, (4, 5)), [4, 1, 4, 3], []
    rows = list(zip(h, lengths, strict=True))
    for r, n in rows:
        pairs = [(0.9 ** (j - i), (r[i] - r[j]) ** 2) for i in range(n) for j in range(i + 1, n + 1)]
        each.append(sum(w * v for w, v in pairs) / sum(w for w, _ in pairs))
    tb = np.mean([(r[0] - r[4]) ** 2 for r, n in rows if n == 4])
    db = np.mean([(r[t] - r[t + 1]) ** 2 for r, n in rows for t in range(n)])
    for loss, want in (("tb", tb), ("db", db), ("subtb", np.mean(each))):
        assert float(balance(loss, torch.tensor(h), torch.tensor(lengths))) == pytest.approx(want)


def test_of_incomplete_trajectories_forward_looking_alone_learns():
    empty = np.zeros((1, N), np.float32)
    start = build(N, 16, rng())(torch.from_numpy(empty))[:, :N].softmax(1).detach().numpy()
    assert trained(loss="tb", complete=0.0)(empty) == pytest.approx(start)
    for looking in (False, True):
        one, other = (trained(e, complete=0.0, forward_looking=looking)(empty) for e in (E, E[::-1]))
        assert np.array_equal(one, other) == (not looking)


@pytest.mark.parametrize("complete", [1.0, 0.5])
def test_log_z_may_start_where_the_first_batch_balances(complete, monkeypatch):
    gaps = []

    def spy(loss, h, lengths):
        gaps.append((h[:, 0] - h[:, -1])[lengths == h.shape[1] - 1].mean().item())
        return balance(loss, h, lengths)

    monkeypatch.setattr(flownets, "balance", spy)
    for first_batch in (False, True):
        trained(loss="tb", first_batch=first_batch, complete=complete, batch=8, energies=E)
    steps = len(gaps) // 2
    assert abs(gaps[0]) > 0.5
    assert gaps[steps] == pytest.approx(0.0, abs=1e-5)
    assert abs(gaps[steps + 1]) > 1e-4


def test_cuts_exploration_and_rates_are_as_asked(monkeypatch):
    asked, groups, shares, adam = [], [], [], torch.optim.Adam
    monkeypatch.setattr(flownets, "balance", lambda *a: asked.append((a[0], a[2].numpy())) or balance(*a))
    monkeypatch.setattr(torch.optim, "Adam", lambda g, lr: groups.append((g[1]["lr"], lr)) or adam(g, lr=lr))
    monkeypatch.setattr(flownets, "walk", lambda *a: shares.append(a[1][:, 0].tolist()) or walk(*a))
    trained(loss="subtb", complete=0.25, batch=3000, lr=2e-3)
    lengths = np.bincount(np.concatenate([a[1] for a in asked])) / 15000
    np.testing.assert_allclose(lengths, [0, 0.375, 0.375, 0.25], atol=0.02)
    assert ({a[0] for a in asked}, groups) == ({"subtb"}, [(0.1, 2e-3)])
    s = study(elements=[17, 18], sizes=[2, 3], exploration=[0.2, 0.7], batch=2)
    s.answer(s.problem(rng()).given, rng())
    assert shares[5:] == [[0.2, 0.2, 0, 0]] * 5 + [[0.7, 0.7, 0, 0]] * 5
    assert [a[1].tolist() for a in asked[5:]] == [[2, 2]] * 5 + [[3, 3]] * 5


def test_energies_first_weights_and_fixed_policies():
    many = np.array([flownets.draw_energies(np.random.default_rng(i), 30) for i in range(500)])
    assert {len(set(e)) for e in many} == {10}
    assert (many.min(), many.max()) == pytest.approx((-1, 1), abs=0.01)
    assert abs((many[:, 0] == many[:, 10]).mean() - 2 / 29) < 0.05
    for p, inputs in zip(build(200, 400, rng()).parameters(), [200, 200, 400, 400, 400, 400], strict=True):
        assert float(p.detach().abs().max()) * inputs**0.5 == pytest.approx(1, abs=0.02)
    for strength in (0.0, 1.0):
        want = np.exp(-strength * E) * [0, 1, 1, 1, 1]
        found = trained(loss="none", strength=strength, exploration=[1.0])(np.eye(1, N, dtype=np.float32))
        assert found[0] == pytest.approx(want / want.sum())


def test_measures():
    fixed = study(loss="none", elements=[17, 18], sizes=[2, 2], batch=2000)  # sees all sets, each many times
    fixed.start(None, torch.Generator().manual_seed(3))
    fixed.advance(None, torch.Generator())
    for task, e in fixed.problem(fixed._stream(0, "problem")).given.items():
        pairs = np.sort([a + b for a, b in combinations(e, 2)])
        want = np.log(np.exp(pairs[0] - pairs[:100]).mean())
        assert flownets.set_best(fixed, None, {"task": task}, None).value == pytest.approx(want, rel=1e-4)
    fixed._answers = [{"l1": torch.tensor([[1.0, 1, 1, 1, 0.5], [2, 2, 2, 2, 0.25]])}]
    assert [flownets.set_l1(fixed, None, {"task": t}, None).value for t in (0, -1)] == pytest.approx([0.9, 1.65])
    assert flownets.set_l1_growth(fixed, None, {}, None).value == pytest.approx(np.log(1.65 / 0.9))
