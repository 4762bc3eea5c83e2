"""Scenes against geometry, plans against Sinkhorn by hand, losses replayed, orders undone, scores on extremes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import DataInfo
from latentbench.evaluation.studies import latents_mcc
from latentbench.papers.object_centric_crl import balls as b
from latentbench.papers.object_centric_crl import scenes as w
from latentbench.papers.object_centric_crl import slots as s
from latentbench.spec.loading import load_suite
from torch import nn
from torch.nn import functional

from tests.project import REPOSITORY

INFO = DataInfo((1,), "real", 1)


def draws(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=draws(seed))


def test_one_property_of_one_ball_shifts():
    z, later, sign = w.pairs(3000, 3, 2, draws())
    assert (sign.abs().flatten(1).sum(1) == 1).all()
    torch.testing.assert_close(later - z, sign * torch.tensor([0.2, 0.2, 0.035]))
    for signed in (1, -1):  # of each of 2 balls and 3 properties, neither is rare; of the third none
        assert ((sign == signed).sum(0) > 3000 / 12 * 0.5).tolist() == [[True] * 3, [True] * 3, [False] * 3]
    assert not sign[:, 2].any()
    for one in (z, later):
        assert (one >= torch.tensor([0.16, 0.16, 0.08]) - 1e-6).all()
        assert (one <= torch.tensor([0.84, 0.84, 0.15]) + 1e-6).all()
        for i, j in ((0, 1), (0, 2), (1, 2)):
            assert ((one[:, i, :2] - one[:, j, :2]).norm(dim=1) - one[:, i, 2] - one[:, j, 2]).min() > 0.04
    assert z[..., 2].min() < 0.082


def test_balls_are_where_and_as_large_as_they_say():
    z = torch.tensor([[[0.25, 0.75, 0.1], [0.65, 0.3, 0.14]]]).expand(2, 2, 3)
    x, alike, mass = w.render(z, True), w.render(z, False), w.cover(z)
    assert x.shape == (2, 3, 16, 16)
    area = math.pi * (z[..., 2] ** 2 + (math.pi / 48) ** 2 / 3) * 16**2  # of a disc whose edge is a sigmoid
    torch.testing.assert_close(mass.sum(2), area, rtol=0.03, atol=0.0)
    for i, (row, column) in enumerate(((12, 4), (4, 10))):
        torch.testing.assert_close(x[0, :, row, column], torch.tensor(w.PALETTE[i]), rtol=0.1, atol=0.01)
        torch.testing.assert_close(alike[0, :, row, column], torch.tensor(w.PALETTE[0]), rtol=0.1, atol=0.01)
    at = mass @ w.grid(16) / mass.sum(2, keepdim=True)
    torch.testing.assert_close(at, z[..., :2], rtol=0.0, atol=0.01)
    assert x[0, :, 0].max() < 0.01


def sinkhorn(cost, rows, columns, u, rounds):
    kernel, u = np.exp(-cost), np.exp(u)
    for _ in range(rounds):
        v = columns / (kernel.T @ u)
        u = rows / (kernel @ v)
    return u[:, None] * kernel * v


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_transport_is_sinkhorn_down_the_slope_of_entropy(monkeypatch, noise):
    monkeypatch.setattr(s, "NOISE", noise)
    cost = (3 * normal(1, 3, 5).double()).requires_grad_()
    rows, columns = (normal(1, n, seed=n).double().log_softmax(1) for n in (3, 5))
    a, c, start = rows[0].exp().numpy(), columns[0].exp().numpy(), np.zeros(3)
    moved = cost[0].detach().numpy() + noise * torch.randn(cost.shape, generator=draws(7))[0].numpy()
    for _ in range(2):

        def entropy(flat, start=start):
            plan = sinkhorn(flat.reshape(3, 5), a, c, start, 3)
            return -(plan * np.log(plan)).sum()

        eye = 1e-6 * np.eye(15)
        slope = np.array([(entropy(moved.ravel() + e) - entropy(moved.ravel() - e)) / 2e-6 for e in eye])
        plan = sinkhorn(moved, a, c, start, 3)
        start = (np.log(plan) + moved)[:, 0] - (np.log(plan) + moved)[0, 0]  # u, up to a constant that v takes up
        moved = moved - 5.0 * (slope / np.linalg.norm(slope)).reshape(3, 5)
    found = s.transport(cost, rows, columns, draws(7))
    np.testing.assert_allclose(found[0].detach(), sinkhorn(moved, a, c, start, 3), atol=1e-6)
    torch.testing.assert_close(found.sum(2), rows.exp())
    found[0, 1, 2].backward()
    assert cost.grad[0, 1, 2] < 0


def test_noise_parts_slots_that_are_alike():
    alike, even = torch.zeros(40, 2, 6), [torch.full((40, n), -math.log(n)) for n in (2, 6)]
    plan = 6 * s.transport(alike, *even, draws())
    assert plan.sum(1).sub(1).abs().mean() < 0.1
    assert plan.max(1).values.mean() > 0.8


def test_slots_are_a_set_and_masks_share_pixels(monkeypatch):
    monkeypatch.setattr(s, "NOISE", 0.0)
    torch.manual_seed(0)
    net, x = s.SlotAutoencoder(4, 3), w.render(w.pairs(5, 3, 3, draws())[0], False)
    start, order = net.start(5, draws(1)), torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(start, net.mean + net.log_std.exp() * normal(5, 4, s.WIDTH, seed=1))
    first, second = net(x, start, draws()), net(x, start[:, order], draws())
    torch.testing.assert_close(first[:, order], second, rtol=1e-3, atol=1e-4)
    picture, masks = net.decode(first)
    torch.testing.assert_close(picture, net.decode(second)[0], rtol=1e-3, atol=1e-4)
    painted = net.paint(net.spread(first)[:, :, None] + net.spot(net.at))  # a token's pixels lie at the token
    layers = functional.pixel_shuffle(painted.mT.unflatten(3, (8, 8)), 2)
    weights = layers[:, :, 3:].exp() / layers[:, :, 3:].exp().sum(1, keepdim=True)
    torch.testing.assert_close(masks, weights.flatten(2))
    torch.testing.assert_close(picture, (layers[:, :, :3] * weights).sum(1))
    assert net.codes(first).shape == (5, 4, 3)
    torch.testing.assert_close(net.codes(first)[:, 1, 2:], net.heads[2](first[:, 1]))
    pixels = x[:1].clone().requires_grad_()
    net.see(pixels).flatten(2)[0, :, 19].sum().backward()  # tokens see their surroundings, and are placed there
    seen = pixels.grad.abs().sum(1).flatten()
    torch.testing.assert_close(w.grid(16)[seen > 0].mean(0), net.at[19, :2], rtol=0.0, atol=0.01)


def test_slots_are_updated_by_what_the_plan_moves(monkeypatch):
    monkeypatch.setattr(s, "ROUNDS", 1)
    torch.manual_seed(1)
    net, x = s.SlotAutoencoder(3, 3), w.render(w.pairs(2, 2, 2, draws())[0], True)
    start = net.start(2, draws(2))
    tokens = net.token(net.see(x).flatten(2).mT + net.place(net.at))
    seen = net.norm(start)
    cost = (net.query(seen)[:, :, None] - net.key(tokens)[:, None]).square().sum(3).sqrt()
    sides = net.of_slots(seen)[..., 0].log_softmax(1), net.of_tokens(tokens)[..., 0].log_softmax(1)
    moved = 3 * s.transport(cost, *sides, draws(3)) @ net.value(tokens)
    slots = torch.stack([net.update(m, one) for m, one in zip(moved.unbind(1), start.unbind(1))], 1)
    torch.testing.assert_close(net(x, start, draws(3)), slots + net.refine(slots), rtol=1e-3, atol=1e-4)


def test_slot_loss_is_the_least_error_of_two_slots():
    first, later, shift, least = normal(6, 4, 3), normal(6, 4, 3, seed=1), normal(6, 3, seed=2), []
    for f, g, m in zip(first, later, shift):
        least.append(min(float(((one + m - other) ** 2).sum()) for one in f for other in g))
    assert float(b.slot_loss(first, later, shift)) == pytest.approx(np.mean(least), rel=1e-5)


def test_losses_are_plain_sums():
    study, seen = b.BallProperties(INFO, balls=3, perturbed=2, named=True, batch=5), draws(4)
    torch.manual_seed(2)
    net, one = s.SlotAutoencoder(4, 3), b.vector(3)
    z, later, sign = w.pairs(5, 3, 2, seen)
    x, y = w.render(z, True), w.render(later, True)
    torch.testing.assert_close(study._vector_loss(one, draws(4)), ((one(x) + sign - one(y)) ** 2).mean())
    first = net(x, net.start(5, seen), seen)
    second = net(y, first, seen)
    errors = [(net.decode(one)[0] - seen).square().mean() for one, seen in ((first, x), (second, y))]
    torch.testing.assert_close(study._picture_loss(net, draws(4)), 50.0 * sum(errors))
    told = b.slot_loss(net.codes(first), net.codes(second), 0.1 * sign.sum(1))
    loss = study._head_loss(net, draws(4))
    torch.testing.assert_close(loss, told)
    loss.backward()
    assert {name.split(".")[0] for name, p in net.named_parameters() if p.grad is not None} == {"heads"}


def test_heads_learn_after_pictures_for_half_as_long(monkeypatch):
    calls = []
    monkeypatch.setattr(b, "trained", lambda net, loss, steps, rate: calls.append((type(net).__name__, steps, rate)))
    for learner in ("slots", "components", "vector"):
        study = b.BallProperties(INFO, learner=learner, rows=20, steps=8, rate=0.1)
        study.answer(study.problem(np.random.default_rng(0)).given, np.random.default_rng(1))
    pictures = ("SlotAutoencoder", 8, 0.1)
    assert calls == [pictures, ("ModuleList", 4, 0.1), pictures, ("Sequential", 8, 0.1)]


def test_training_replayed(monkeypatch):
    monkeypatch.setattr(b, "WARMUP", 2)
    nets = [nn.Linear(2, 1), nn.Linear(2, 1)]
    nets[1].load_state_dict(nets[0].state_dict())
    x = normal(4, 9, 2)
    rows = iter(x)
    b.trained(nets[0], lambda: 30 * (nets[0](next(rows)) - 1).square().mean(), 4, 0.2)
    adam = torch.optim.Adam(nets[1].parameters())
    for step, height in enumerate((0.5, (2 + math.sqrt(2)) / 4, 0.5, (2 - math.sqrt(2)) / 4)):
        adam.param_groups[0]["lr"] = 0.2 * height
        adam.zero_grad()
        (30 * (nets[1](x[step]) - 1).square().mean()).backward()
        grads = torch.cat([p.grad.flatten() for p in nets[1].parameters()])
        for p in nets[1].parameters():
            p.grad /= max(1.0, float(grads.norm()) + 1e-6)
        adam.step()
    torch.testing.assert_close(nets[0].weight, nets[1].weight)


def test_slots_are_given_to_balls_by_masks():
    z = w.pairs(30, 3, 3, draws())[0]
    masks = torch.cat([1.0 - w.cover(z).sum(1, keepdim=True), w.cover(z)], 1)
    codes = torch.cat([torch.full((30, 1, 3), 9.0), z], 1)
    order = torch.stack([torch.randperm(4, generator=draws(i)) for i in range(30)])
    mixed = [torch.stack([one[o] for one, o in zip(part, order)]) for part in (codes, masks)]
    np.testing.assert_array_equal(b.aligned(mixed[0].numpy(), mixed[1], w.cover(z)), z)


def test_orders_are_undone_and_scores_on_extremes(monkeypatch):
    rng, study = np.random.default_rng(0), b.BallProperties(INFO, balls=3)
    z = rng.uniform(size=(900, 3, 3)) * [1.0, 1.0, 0.1]

    def score(codes):
        answered = [({"latents": z.reshape(900, 9)}, {"latents": codes.reshape(900, 9)})]
        monkeypatch.setattr(study, "answered", lambda: answered)
        return [f(study, None, {}, None).value for f in (latents_mcc, b.matched_balls_correlation)]

    assert score(z[:, [1, 2, 0]][..., [2, 0, 1]] * [-3.0, 1.0, 100.0]) == pytest.approx([1.0, 1.0])
    assert max(score(z @ np.linalg.qr(rng.standard_normal((3, 3)))[0] * 5.0)) < 0.9
    plain, again = score(np.repeat(z.sum(1, keepdims=True), 3, 1) + 1e-6 * rng.standard_normal(z.shape))
    assert plain == pytest.approx(1 / math.sqrt(3), abs=0.06)  # what a symmetric function of balls that differ tells
    assert again < 0.7
    swapped = score(np.where(rng.random(900)[:, None, None] < 0.3, z[:, [1, 0, 2]], z))
    assert swapped[0] < 0.85
    assert swapped[1] == pytest.approx(1.0)
    assert score(rng.standard_normal(z.shape))[0] < 0.15
    with pytest.raises(UserError, match="no balls"):
        b.matched_balls_correlation(object(), None, {}, None)


def test_simple_rivals_find_what_they_can():
    z = w.pairs(60, 3, 3, draws())[0]
    codes, masks = b.clusters(w.render(z, False), 3, 0)
    found = b.aligned(codes, masks, w.cover(z))
    np.testing.assert_allclose(found[..., :2], z[..., :2], atol=0.02)
    assert np.corrcoef(found[..., 2].ravel(), z[..., 2].ravel())[0, 1] > 0.98
    ica = b.components((z @ normal(3, 5) + 1.0).numpy(), 0)
    assert b.mcc(ica.reshape(-1, 3), z.flatten(0, 1).numpy()) > 0.9


def test_wrong_scenes_are_refused():
    for wrong in ({"balls": 1}, {"balls": 5}, {"balls": 2, "perturbed": 3}):
        with pytest.raises(UserError, match="balls is"):
            b.BallProperties(INFO, **wrong)


def test_all_meet_the_same_scenes_and_the_suite_says_who_is_told_what():
    suite = load_suite(REPOSITORY / "suites/object-centric-crl/suite.yaml").suite
    made = {
        name: b.BallProperties(INFO, **{"balls": 3, **one.params, "rows": 9}) for name, one in suite.methods.items()
    }
    problems = {name: one.problem(np.random.default_rng(3)) for name, one in made.items()}
    assert len({p.truth["latents"].tobytes() for p in problems.values()}) == 1
    named = {name for name, p in problems.items() if not torch.equal(p.given["x"], problems["slots"].given["x"])}
    assert named == {"named", "named-1", "named-2"}
    told = {name: (one.learner, one.perturbed, one.steps, one.rate) for name, one in made.items()}
    vector = ("vector", 3, 1000, 3e-3)
    assert told == {
        **{name: (name, 3, 700, 3e-3) for name in ("slots", "components", "clusters")},
        "untrained": ("slots", 3, 0, 3e-3),
        "vector": vector,
        "named": vector,
        **{f"named-{k}": ("vector", k, *vector[2:]) for k in (1, 2)},
    }
    cells = [one for claim in suite.claims for one in getattr(claim, "cells", [])]
    assert {(c.better, c.worse, c.metric, c.margin) for c in cells if c.kind == "order"} == {
        ("slots", "vector", "mcc-matched", 0.1),
        ("named", "vector", "mcc", 0.1),
        ("slots", "components", "mcc", 0.0),
        *(("slots", f"named-{k}", "mcc", 0.05) for k in (1, 2)),
    }
    trend = suite.claims[-1]
    assert (trend.methods, trend.direction, trend.sanity) == (["named-1", "named-2", "named"], "rises", True)
