"""What is exact in EM with few codes: laws by enumeration, both steps by naive sums, gradients, what E-steps see."""

from functools import partial
from itertools import product as tuples

import numpy as np
import pytest
import torch
from latentbench.core.types import Batch, DataInfo
from latentbench.papers.gflownet_em import em
from latentbench.papers.gflownet_em.codes import (
    Policy,
    gibbs,
    log_product,
    mean_field,
    number,
    reverse_kl,
    symbols,
    trajectory_balance,
)
from latentbench.papers.gflownet_em.em import MEANS, PETALS, SCALE, CodeEM, centres, log_joint, m_step

M, K, N = 3, 2, 5
CODES = list(tuples(range(K), repeat=M))
draws = lambda seed=3: torch.Generator().manual_seed(seed)  # noqa: E731
study = partial(CodeEM, DataInfo((1,), "real", 1), e_step="exact", rows=300, e_updates=3)


def policy(factorised=False, hidden=(9,)):
    return Policy(4, M, K, hidden, factorised, draws())


def rows(n=N):
    return torch.randn(n, 4, generator=draws(1))


def scores(n=N, scale=2.0):
    return scale * torch.randn(n, K**M, generator=draws(2))


def played(seed=0, **params):
    s = study(**params)
    s.start(None, draws(seed))
    s.advance(Batch(torch.zeros(2, 1), 2), draws())
    return s, next(iter(s.answered()))


def test_codes_are_listed_and_numbered():
    assert [tuple(row) for row in symbols(M, K).tolist()] == CODES
    assert number(symbols(2, 3), 3).tolist() == list(range(9))
    q = torch.rand(N, M, K, generator=draws()).softmax(2)
    want = [[float(np.prod([q[i, t, c[t]] for t in range(M)])) for c in CODES] for i in range(N)]
    torch.testing.assert_close(log_product(q.log()).exp(), torch.tensor(want))


@pytest.mark.parametrize("factorised", [False, True])
def test_a_policys_law(factorised):
    p, x = policy(factorised), rows()
    p.requires_grad_(False)
    table = p.log_table(x)
    torch.testing.assert_close(table.exp().sum(1), torch.ones(N))
    for c, z in enumerate(symbols(M, K)):
        log_q, log_z = p.log_prob(x, z.expand(N, M))
        torch.testing.assert_close(log_q, table[:, c])
        by_hand = 0.0
        for t in range(M):
            seen = torch.zeros(M, K)
            seen[range(t), z[:t]] = 1.0 - factorised
            out = p.net(torch.cat([x, seen.flatten().expand(N, -1)], 1))
            by_hand = by_hand + out[:, t * K : t * K + K].log_softmax(1)[:, z[t]]
            if t == 0:
                torch.testing.assert_close(log_z, out[:, -1])
        torch.testing.assert_close(log_q, by_hand)
    cube = table.exp().reshape(N, *[K] * M)
    marginals = torch.stack([cube.sum([d for d in (1, 2, 3) if d != t + 1]) for t in range(M)], 1)
    assert torch.allclose(log_product(marginals.log()), table, atol=1e-4) == factorised
    drawn = number(p.sample(x[:1].expand(20000, 4), draws()), K)
    np.testing.assert_allclose(drawn.bincount(minlength=8) / 20000, table[0].exp(), atol=0.015)


def test_on_policy_balance_has_the_gradient_of_the_divergence_whatever_log_z():
    p, x, log_p = policy(), rows(), scores()
    for log_z in (0.0, 5.0):
        p.net[-1].bias.data[-1] = log_z
        q = p.log_table(x).detach().exp()
        balance = sum(
            (q[i, c] * trajectory_balance(p, x[i : i + 1], z[None], log_p[i, c : c + 1])) / N
            for i in range(N)
            for c, z in enumerate(symbols(M, K))
        )
        heads = p.net[-1].bias
        (got,) = torch.autograd.grad(balance, heads)
        (want,) = torch.autograd.grad(reverse_kl(p, x, log_p), heads)
        torch.testing.assert_close(got[:-1], 2 / M**2 * want[:-1], atol=1e-5, rtol=1e-3)


def test_losses_are_plain_sums_and_least_at_the_posterior():
    p, x, log_p, z = policy(), rows(), scores(), symbols(M, K)[[0, 3, 5, 6, 2]]
    log_q, log_z = p.log_prob(x, z)
    want = sum((log_z[i] + log_q[i] - log_p[i, number(z, K)[i]]).item() ** 2 for i in range(N)) / N / M**2
    chosen = log_p[range(N), number(z, K)]
    assert trajectory_balance(p, x, z, chosen).item() == pytest.approx(want, rel=1e-5)
    q = p.log_table(x).exp()
    kl = sum(q[i] @ (q[i].log() - log_p[i].log_softmax(0)) for i in range(N)) / N
    assert (reverse_kl(p, x, log_p) + log_p.logsumexp(1).mean()).item() == pytest.approx(kl.item(), abs=1e-5)


def test_balance_and_divergence_find_the_posterior_and_a_product_cannot():
    log_p = torch.full((1, 2, 2), -4.0)
    log_p[0, 0, 0] = log_p[0, 1, 1] = 1.0  # two modes, which no product has
    log_p, x, found = log_p.flatten(1), torch.ones(32, 4), {}
    for form in ("balance", "kl", "product"):
        p = Policy(4, 2, 2, (16,), form == "product", draws())
        adam, g = torch.optim.Adam(p.parameters(), lr=5e-2), draws()
        for _ in range(100):
            if form == "balance":
                z = p.sample(x, g)
                loss = trajectory_balance(p, x, z, log_p[0, number(z, 2)])
            else:
                loss = reverse_kl(p, x[:1], log_p)
            adam.zero_grad()
            loss.backward()
            adam.step()
        found[form] = (reverse_kl(p, x[:1], log_p) + log_p.logsumexp(1).mean()).item()
    assert max(found["balance"], found["kl"]) < 0.01
    assert found["product"] == pytest.approx(np.log(2), abs=0.02)
    q = mean_field(log_p, torch.tensor([[[0.5, 0.5], [0.6, 0.4]]]), 2, 20)
    assert q[0, :, 0].min() > 0.98


def test_coordinate_ascent_is_that_of_naive_sums():
    log_p, q = scores(), torch.rand(N, M, K, generator=draws()).softmax(2)
    got = mean_field(log_p, q, K, 2)
    want = q.clone()
    for _ in range(2):
        for t in range(M):
            for i in range(N):
                mean = torch.zeros(K)
                for c, z in enumerate(CODES):
                    mean[z[t]] += log_p[i, c] * np.prod([float(want[i, s, z[s]]) for s in range(M) if s != t])
                want[i, t] = mean.softmax(0)
    torch.testing.assert_close(got, want)
    inside = log_product(q.log())
    torch.testing.assert_close(log_product(mean_field(inside, torch.full_like(q, 0.5), K, 1).log()), inside)


def test_chains_keep_the_posterior_and_find_it():
    log_p = scores(1, 1.0).expand(20000, -1)
    for start, sweeps in (
        (symbols(M, K)[torch.multinomial(log_p.softmax(1), 1, generator=draws(8))[:, 0]], 1),
        (None, 8),
    ):
        z = torch.zeros(20000, M, dtype=torch.long) if start is None else start
        found = number(gibbs(log_p, z, K, sweeps, draws()), K).bincount(minlength=8) / 20000
        np.testing.assert_allclose(found, log_p[0].softmax(0), atol=0.015)


def test_the_joint_law_is_that_of_sixteen_gaussians():
    means, at = torch.randn(4, 2, generator=draws()), 2 * torch.randn(7, 2, generator=draws())
    ring = torch.view_as_real(torch.exp(1j * (torch.arange(4) + 0.5) * torch.pi / 2))
    for c in range(16):
        want = torch.distributions.Normal(means[c // 4] + ring[c % 4], SCALE).log_prob(at).sum(1) - np.log(16)
        torch.testing.assert_close(log_joint(at, means)[:, c], want)
    corners = torch.tensor([[-1.0, -1], [1, 1], [1, -1], [-1, 1]])
    torch.testing.assert_close(MEANS.float(), 2**0.5 * corners)


def test_m_steps_ascend_the_expected_joint():
    x, w = torch.randn(50, 2, generator=draws()), torch.rand(50, 16, generator=draws(1)).softmax(1)

    def slope(means):
        means = means.clone().requires_grad_()
        return torch.autograd.grad((w * log_joint(x, means)).sum(1).mean(), means)[0]

    start = torch.randn(4, 2, generator=draws(4))
    torch.testing.assert_close(m_step(x, start, w, 0.1), start + 0.1 * slope(start), atol=1e-5, rtol=1e-4)
    assert slope(m_step(x, start, w, 0.0)).abs().max() < 1e-4
    w[:, :4] = 0.0
    for rate in (0.0, 0.1):
        torch.testing.assert_close(m_step(x, start, w, rate)[0], start[0])
    values, means = [], start
    for _ in range(6):
        values.append(log_joint(x, means).logsumexp(1).mean())
        means = em.exact_em(x, means, 1)
    assert torch.stack(values).diff().min() > 0


@pytest.mark.parametrize("spacing", [1.0, 0.5])
def test_rows_and_measures(spacing):
    s, (truth, answer) = played(spacing=spacing, rounds=4)
    given = s.problem(s._stream(0, "problem")).given
    for x in (given["x"], truth["x"]):
        near = torch.cdist(torch.tensor(x), centres(spacing * MEANS)).min(1)
        assert near.values.square().mean().item() == pytest.approx(2 * SCALE**2, rel=0.25)
        shares = near.indices.bincount(minlength=16) / len(x)
        assert (shares > 0).sum() == (16 if spacing == 1 else 9)  # of equal distances the first petal is taken
    assert not np.isin(truth["x"][:, 0], given["x"][:, 0]).any()
    assert all((given["x"] == mean).all(1).any() for mean in given["means"])

    def nll(means):
        spots = [m + p for m in means for p in PETALS.numpy()]
        p = [
            np.mean([np.exp(-((x - t) ** 2).sum() / 2 / SCALE**2) for t in spots]) / 2 / np.pi / SCALE**2
            for x in truth["x"]
        ]
        return -np.log(p).mean()

    assert em.code_nll(s, None, {}, None).value == pytest.approx(nll(answer["means"]), rel=1e-4)
    np.testing.assert_allclose(answer["means"], truth["exact"], atol=1e-3)
    hard, (_, answer) = played(spacing=spacing, rounds=4, e_step="hard")
    excess = nll(answer["means"]) - nll(truth["exact"])
    assert abs(excess) > 1e-3
    assert em.code_nll_over_exact(hard, None, {}, None).value == pytest.approx(excess, rel=1e-3)
    untrained, (_, answer) = played(spacing=spacing, rounds=0)
    np.testing.assert_allclose(answer["means"], given["means"], atol=1e-6)
    assert em.code_nll(untrained, None, {}, None).value > nll(truth["exact"]) + 0.1


def test_e_steps_are_compared_at_common_weights():
    run = partial(played, rounds=3, spacing=0.5, taught=True)
    (_, (truth, exact)), (other, (_, balance)) = run(), run(e_step="balance")
    np.testing.assert_allclose(exact["means"], truth["exact"], atol=1e-3)
    np.testing.assert_allclose(exact["means"], balance["means"], atol=1e-5)
    assert exact["kl"] == pytest.approx(0, abs=1e-6)
    x = torch.tensor(other.problem(other._stream(0, "problem")).given["x"], dtype=torch.float32)
    log_p = log_joint(x, torch.tensor(exact["means"]).float()).log_softmax(1)
    hard = run(e_step="hard")
    assert em.code_posterior_kl(hard[0], None, {}, None).value == pytest.approx(
        -log_p.max(1).values.mean().item(), rel=1e-3
    )
    one, many = (run(e_step="mean-field", starts=n, sweeps=9)[1][1]["kl"] for n in (1, 8))
    assert 0.1 < many < one - 0.01
    assert "kl" not in run(e_step="gibbs")[1][1]


def test_mean_field_starts_anew_or_goes_on(monkeypatch):
    starts, ends = [], []

    def spy(log_p, q, alphabet, sweeps):
        starts.append(q)
        ends.append(mean_field(log_p, q, alphabet, sweeps))
        return ends[-1]

    monkeypatch.setattr(em, "mean_field", spy)
    played(rounds=3, e_step="mean-field", starts=0)
    assert all(torch.equal(*pair) for pair in zip(starts[1:], ends, strict=False))
    starts.clear()
    played(rounds=3, e_step="mean-field", starts=2)
    assert {len(q) for q in starts} == {600}
    assert max(q.max() for q in starts) < 0.5  # softmax of uniform numbers among four


def test_what_m_steps_are_given():
    for params in ({"e_step": "gibbs", "sweeps": 4}, {"e_step": "balance"}, {"e_step": "kl"}, {"e_step": "hard"}):
        s, log_p = study(**params), scores(400, 3.0).repeat(1, 2)
        p, x = Policy(2, 2, 4, [5], False, draws()), torch.randn(400, 2, generator=draws())
        with torch.no_grad():
            w = s.weights(p, x, log_p, draws())
            law = p.log_table(x).exp() if params["e_step"] in ("balance", "kl") else log_p.softmax(1)
        torch.testing.assert_close(w.sum(1), torch.ones(400))
        assert bool(((w == 0) | (w == 1)).all()) == (params["e_step"] != "kl")
        if params["e_step"] == "hard":
            assert torch.equal(w.argmax(1), log_p.argmax(1))
        else:
            np.testing.assert_allclose(w.mean(0), law.mean(0), atol=0.06)


@pytest.mark.parametrize("sleep", [0.0, 1.0])
def test_what_a_policy_learns_from(monkeypatch, sleep):
    seen, told = [], []
    log_prob = Policy.log_prob
    monkeypatch.setattr(em, "trajectory_balance", lambda *a: seen.append(a) or trajectory_balance(*a))
    monkeypatch.setattr(Policy, "log_prob", lambda p, x, z: told.append((x, z)) or log_prob(p, x, z))
    s, _ = played(rounds=1, e_step="balance", sleep=sleep, floor=3.0, e_updates=2)
    given = s.problem(s._stream(0, "problem")).given
    means, peak = torch.tensor(given["means"]).float(), -np.log(2 * np.pi * SCALE**2 * 16)
    for _, x, z, log_r in seen:
        torch.testing.assert_close(log_r, log_joint(x, means)[range(300), number(z, 4)].clamp(min=peak - 3.0))
        assert log_r.min().item() == pytest.approx(peak - 3.0, abs=1e-4)
    asleep = [(x, z) for x, z in told if not any(x is a[1] for a in seen)]
    assert (len(seen), len(asleep)) == (2, 2 * sleep)
    for x, z in asleep:
        assert ((x - centres(means)[number(z, 4)]) / SCALE).std().item() == pytest.approx(1, abs=0.15)
        assert number(z, 4).bincount(minlength=16).min() > 5


def test_dreams_alone_teach_the_posterior(monkeypatch):
    monkeypatch.setattr(em, "trajectory_balance", lambda p, *a: 0.0 * p.net[-1].bias.sum())
    _, (_, answer) = played(rounds=1, e_step="balance", sleep=1.0, e_updates=150, rate=2e-2, spacing=0.5, taught=True)
    assert answer["kl"] < 0.5 * played(rounds=1, e_step="balance", spacing=0.5, e_updates=1, taught=True)[1][1]["kl"]
