"""What is exact in EM with 16 codes: laws by enumeration, both steps by naive sums, gradients, what E-steps see."""

from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import torch
from latentbench.core.types import Batch, DataInfo
from latentbench.papers.gflownet_em import em
from latentbench.papers.gflownet_em.em import MEANS, PETALS, SCALE, MixtureEM, centres, log_weights, m_step, mean_field

N = 7
CODES = [(i, j) for i in range(4) for j in range(4)]
draws = lambda seed=3: torch.Generator().manual_seed(seed)  # noqa: E731
near = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)


def normal(*shape, seed=1):
    return torch.randn(*shape, generator=draws(seed))


def played(seed=0, **params):
    s = MixtureEM(DataInfo((1,), "real", 1), **{"rows": 300, **params})
    s.start(None, draws(seed))
    s.advance(Batch(torch.zeros(2, 1), 2), draws())
    return s, s.problem(s._stream(0, "problem")), next(iter(s.answered()))[1]


def naive_joint(x, means):
    """log p(x, z) (n, 16), of numpy arrays."""
    angles = (np.arange(4) + 0.5) * np.pi / 2
    ring = np.stack([np.cos(angles), np.sin(angles)], 1)
    square = np.stack([((x - means[i] - ring[j]) ** 2).sum(1) for i, j in CODES], 1)
    return -square / 2 / 0.25**2 - np.log(2 * np.pi * 0.25**2) - np.log(16)


def test_the_joint_law_is_that_of_sixteen_gaussians():
    means, x = normal(4, 2), 2 * normal(N, 2, seed=2)
    near(log_weights(x, means) + em.PEAK, naive_joint(x.numpy(), means.numpy()))
    near(MEANS, 2**0.5 * np.array([[-1.0, -1], [1, 1], [1, -1], [-1, 1]]))
    q, w = normal(3, N, 16, seed=4).softmax(2), normal(N, 16)
    p = w.softmax(1)
    near(em.posterior_kl(q.log(), w), [[sum(q[s, n] * (q[s, n] / p[n]).log()) for n in range(N)] for s in range(3)])


def test_m_steps_ascend_the_expected_joint():
    x, q = normal(50, 2), normal(50, 16, seed=2).softmax(1)

    def slope(means):
        means = means.clone().requires_grad_()
        return torch.autograd.grad((q * log_weights(x, means)).sum(1).mean(), means)[0]

    start = normal(4, 2, seed=4)
    near(m_step(x, start, q, 0.1), start + 0.1 * slope(start))
    assert slope(m_step(x, start, q, 0.0)).abs().max() < 1e-4
    q[:, :4] = 0.0
    for rate in (0.0, 0.1):
        near(m_step(x, start, q, rate)[0], start[0])


def test_mean_fields_are_those_of_naive_sums_and_the_best_start_is_kept():
    weights, starts = 2 * normal(N, 16), normal(3, N, 4, seed=2).softmax(2)
    kls, laws, ends = [], [], []
    for q_j in starts.clone():
        for _ in range(2):
            q_i = torch.stack([sum(q_j[:, j] * weights[:, 4 * i + j] for j in range(4)) for i in range(4)], 1).softmax(
                1
            )
            q_j = torch.stack([sum(q_i[:, i] * weights[:, 4 * i + j] for i in range(4)) for j in range(4)], 1).softmax(
                1
            )
        laws.append(torch.stack([q_i[:, i] * q_j[:, j] for i, j in CODES], 1))
        kls.append((laws[-1] * (laws[-1].log() - weights.log_softmax(1))).sum(1))
        ends.append(q_j)
    best = torch.stack(kls).argmin(0)
    assert len(set(best.tolist())) > 1
    log_q, petals = mean_field(weights, starts, 2)
    near(log_q.exp(), torch.stack([laws[b][n] for n, b in enumerate(best)]))
    near(petals[0], torch.stack([ends[b][n] for n, b in enumerate(best)]))


def test_a_policy_writes_a_cluster_then_a_petal():
    policy, x = em.Policy(9, draws()), normal(N, 2)
    log_q, log_z = policy(x)
    first = policy.net(torch.cat([x, torch.zeros(N, 8)], 1))
    near(log_z.detach(), first[:, 8].detach())
    for c, (i, j) in enumerate(CODES):
        told = torch.zeros(N, 8)
        told[:, i] = 1.0
        second = policy.net(torch.cat([x, told], 1))
        want = first[:, :4].log_softmax(1)[:, i] + second[:, 4:8].log_softmax(1)[:, j]
        near(log_q[:, c].detach(), want.detach())


def test_trajectory_balance_has_the_gradient_of_the_divergence_whatever_log_z():
    policy, x, weights = em.Policy(9, draws()), normal(N, 2), 2 * normal(N, 16, seed=2)
    log_q, log_z = policy(x)
    plain = sum((log_z[n] + log_q[n, n + 4] - weights[n, n + 4]).item() ** 2 for n in range(N)) / N
    assert em.trajectory_balance(log_q, log_z, weights, torch.arange(N) + 4).item() == pytest.approx(plain, rel=1e-5)
    for level in (0.0, 5.0):
        policy.net[2].bias.data[8] = level
        log_q, log_z = policy(x[:1])
        balance = sum(
            p * em.trajectory_balance(log_q, log_z, weights[:1], torch.tensor([c]))
            for c, p in enumerate(log_q[0].detach().exp())
        )
        (got,) = torch.autograd.grad(balance, policy.net[2].bias, retain_graph=True)
        (want,) = torch.autograd.grad(em.posterior_kl(log_q, weights[:1]).mean(), policy.net[2].bias)
        near(got[:8], 2 * want[:8], rtol=1e-3)


@pytest.mark.parametrize(("spacing", "start"), [(1.0, "rows"), (0.5, "near"), (1.0, "ambiguous")])
def test_rows_starts_and_measures(spacing, start):
    s, problem, answer = played(e_step="exact", spacing=spacing, start=start, rounds=0, rows=1600)
    x, test, means, true = problem.given["x"], problem.truth["x"], problem.given["means"], spacing * MEANS.numpy()
    for rows in (x, test):
        apart = torch.cdist(torch.tensor(rows), centres(spacing * MEANS)).min(1)
        assert apart.values.square().mean().item() == pytest.approx(2 * SCALE**2, rel=0.15)
        shares = apart.indices.bincount(minlength=16) / 100
        assert torch.allclose(shares, torch.ones(16), atol=0.4) == (spacing == 1)
    assert not np.isin(test[:, 0], x[:, 0]).any()
    assert all((x == mean).all(1).any() for mean in means) == (start == "rows")
    assert (0.1 < (means - true).std() < 0.4) == (start == "near")
    assert np.allclose(means[[0, 3], [0, 1]], [-2.47049352, 1.14786994]) == (start == "ambiguous")
    near(answer["means"], means)
    found, least = (-np.log(np.exp(naive_joint(test, at)).sum(1)).mean() for at in (means, true))
    assert em.mixture_nll(s, None, {}, None).value == pytest.approx(found, rel=1e-4)
    assert em.mixture_nll_excess(s, None, {}, None).value == pytest.approx(found - least, rel=1e-4)
    assert em.mixture_posterior_kl(s, None, {}, None).value == answer["kl"] > 1.0  # of an untrained policy


def test_exact_em_is_that_of_naive_sums():
    _, problem, answer = played(e_step="exact", rounds=4)
    x, means = problem.given["x"], problem.given["means"]
    for _ in range(4):
        p = np.exp(naive_joint(x, means)).reshape(-1, 4, 4)
        p /= p.sum((1, 2), keepdims=True)
        up = [sum(p[:, i, j] @ (x - PETALS.numpy()[j]) for j in range(4)) for i in range(4)]
        means = np.stack(up) / p.sum((0, 2))[:, None]
    near(answer["means"], means, atol=1e-3)
    assert answer["kl"] == pytest.approx(0, abs=1e-5)
    near(played(e_step="exact", start="ambiguous", fixed=True, rounds=3)[2]["means"], em.AMBIGUOUS)


def test_mean_fields_start_anew_or_go_on(monkeypatch):
    seen = []
    monkeypatch.setattr(em, "mean_field", lambda *a: seen.append((a, mean_field(*a))) or seen[-1][1])
    for starts in (0, 2):
        seen.clear()
        _, _, answer = played(e_step="mean-field", rounds=3, starts=starts, sweeps=4)
        goes_on = [torch.equal(now[0][1], before[1][1]) for before, now in pairwise(seen)]
        assert (len(seen), goes_on) == (3, [starts == 0] * 2)
        assert all(a[1].shape == (max(starts, 1), 300, 4) and a[2] == 4 for a, _ in seen)
        assert max(a[1].max() for a, _ in (seen if starts else seen[:1])) < 0.5  # softmax of uniform numbers among four
        (weights, _, _), (log_q, _) = seen[-1]
        assert answer["kl"] == pytest.approx(em.posterior_kl(log_q, weights).mean().item(), rel=1e-5)


def test_what_a_policy_learns_from_and_m_steps_are_given(monkeypatch):
    drawn, losses, steps = [], [], []
    multinomial, balance = torch.multinomial, em.trajectory_balance
    monkeypatch.setattr(
        torch, "multinomial", lambda p, *a, **k: drawn.append((p, multinomial(p, *a, **k))) or drawn[-1][1]
    )
    monkeypatch.setattr(em, "trajectory_balance", lambda *a: losses.append(a) or balance(*a))
    monkeypatch.setattr(em, "m_step", lambda *a: steps.append(a) or m_step(*a))
    _, _, answer = played(e_step="gflownet", rounds=2, floor=3.0, m_rate=0.1, updates=5, rate=1e-2)
    assert (len(losses), len(steps), len(drawn)) == (10, 2, 12)
    for k, (x, means, q, rate) in enumerate(steps):
        *learnt, (law, codes) = drawn[6 * k : 6 * k + 6]
        assert (torch.equal(q, torch.eye(16)[codes[:, 0]]), rate) == (True, 0.1)
        for (p, z), (log_q, _, log_rewards, told) in zip(learnt, losses[5 * k : 5 * k + 5], strict=True):
            near(p, log_q.detach().exp())
            assert torch.equal(told, z[:, 0])
            near(log_rewards, log_weights(x, means).clamp(min=-3.0))
        to_go = [(p - law).abs().mean().item() for p, _ in learnt]  # each update moves on, the last one too
        assert to_go == sorted({*to_go, 1e-6}, reverse=True)[:-1]
    near(answer["means"], m_step(*steps[1]))
    kl = em.posterior_kl(drawn[11][0].log(), log_weights(x, means)).mean().item()
    assert answer["kl"] == pytest.approx(kl, rel=1e-4)


def test_a_trained_policy_has_the_posterior():
    run = partial(played, start="near", spacing=0.5, fixed=True)
    kls = [run(e_step="gflownet", rounds=2, updates=n, rate=2e-2)[2]["kl"] for n in (1, 150)]
    assert kls[1] < min(0.3, run(e_step="mean-field", rounds=1, starts=5, sweeps=9)[2]["kl"]) < 10 < kls[0]
