"""Multipliers and losses of feasible learning, against plain loops, closed forms and problems solved by hand."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo
from latentbench.papers.feasible_learning.feasible import FeasiblePredictor, tail_loss

GENERATOR = torch.Generator()
REAL = DataInfo((2, 3), "real", 7, columns={"y": (1,)})
LABELS = DataInfo((2, 3), "real", 7, columns={"y": ()})


def rows(labels: bool) -> Batch:
    torch.manual_seed(4)
    y = torch.tensor([2, 0, 1, 1, 2, 0, 1]) if labels else torch.linspace(-3, 9, 7)[:, None].double()
    return Batch(torch.randn(7, 2, 3), 7, columns={"y": y}, index=torch.arange(7))


def some(batch: Batch, index: list[int]) -> Batch:
    return Batch(batch.x[index], 7, columns={"y": batch.columns["y"][index]}, index=torch.tensor(index))


def model(labels: bool = True, **params: object) -> FeasiblePredictor:
    torch.manual_seed(1)
    given = {"hidden": (5, 4), "threshold": 0.6, "dual_lr": 0.3, **params}
    return FeasiblePredictor(LABELS if labels else REAL, classes=3 if labels else 0, **given)


@pytest.mark.parametrize("labels", [True, False])
def test_losses(labels):
    batch, m = rows(labels), model(labels, centre=1.5, unit=4.0)
    found = m.losses(batch.x, batch.columns["y"])
    for i in range(7):
        out = batch.x[i].reshape(-1)
        for layer in m.net:
            out = layer(out).detach()
        y = batch.columns["y"][i].item()
        expected = math.log(sum(math.exp(v - out[int(y)]) for v in out)) if labels else (out[0] - (y - 1.5) / 4) ** 2
        assert found[i].item() == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("alpha", [0.0, 2.0])
def test_multipliers_ascend_before_they_weigh(alpha):
    batch, m = rows(True), model(alpha=alpha, threshold=1.1)
    by_hand = np.zeros(7)
    for index in ([5, 0, 3], [6, 5], [0, 1, 2, 3]):
        part = some(batch, index)
        losses = m.losses(part.x, part.columns["y"]).detach().numpy()
        expected = 0.0
        for i, g in zip(index, losses):
            by_hand[i] = max(0.0, by_hand[i] + 0.3 * (g - 1.1 - alpha * by_hand[i]))
            expected += by_hand[i] * (g - 1.1)
        told = m.loss(part, GENERATOR)
        assert told["descended"].item() == pytest.approx(expected, rel=1e-5)
        assert told["loss"].item() == pytest.approx(losses.mean(), rel=1e-5)
        np.testing.assert_allclose(m.multipliers.numpy(), by_hand, rtol=1e-5)
    assert by_hand[4] == 0, "a row that was not seen"
    assert 0 < (by_hand > 0).sum() < 6, "some rows are below the threshold"


def test_a_multiplier_falls_to_zero_where_the_constraint_holds_and_no_further():
    batch, m = rows(True), model(threshold=50.0)
    m.multipliers = torch.full((7,), 20.0)
    m.loss(batch, GENERATOR)
    assert (m.multipliers > 0).all()
    assert (m.multipliers < 20).all()
    m.loss(batch, GENERATOR)
    assert (m.multipliers == 0).all()


def gradient(m: FeasiblePredictor, batch: Batch) -> torch.Tensor:
    m.zero_grad()
    m.loss(batch, GENERATOR)["loss"].backward()
    return torch.cat([p.grad.flatten() for p in m.parameters()])


def test_with_slack_multipliers_settle_where_it_is_clamped_squared_erm():
    """lambda* = max(0, g - eps) / alpha, so the gradient is that of sum max(0, g - eps)^2 over 2 alpha."""
    batch, m = rows(True), model(alpha=2.0, threshold=1.1)
    for _ in range(60):
        m.loss(batch, GENERATOR)
    excess = (m.losses(batch.x, batch.columns["y"]) - 1.1).relu().detach()
    torch.testing.assert_close(m.multipliers, excess / 2)
    clamped = model(rule="clamped-squared", threshold=1.1)
    torch.testing.assert_close(gradient(m, batch), gradient(clamped, batch) * 7 / (2 * 2.0))
    torch.testing.assert_close(clamped.loss(batch, GENERATOR)["descended"], excess.square().mean())


@pytest.mark.parametrize(("rule", "expected"), [("erm", 2.0), ("fl", 2.5)])
def test_one_constant_for_three_targets(rule, expected):
    """Targets 0, 1, 5: their mean has the least mean of squares, the middle of their range the least worst square."""
    info = DataInfo((2,), "real", 3, columns={"y": (1,)})
    m = FeasiblePredictor(info, hidden=(), rule=rule, threshold=6.4, dual_lr=0.02)
    batch = Batch(torch.zeros(3, 2), 3, columns={"y": torch.tensor([[0.0], [1.0], [5.0]])}, index=torch.arange(3))
    optimizer = torch.optim.SGD(m.parameters(), lr=0.05)
    for _ in range(3000):
        optimizer.zero_grad()
        m.loss(batch, GENERATOR)["loss"].backward()
        optimizer.step()
    worst = m.losses(batch.x, batch.columns["y"]).max().item()
    assert m.net[0].bias.item() == pytest.approx(expected, abs=0.04)
    assert (worst <= 6.5) == (rule == "fl")


@pytest.mark.parametrize("rule", ["erm", "clamped-squared", "fl"])
def test_validation_is_the_mean_of_losses_and_leaves_multipliers_alone(rule):
    batch, m = rows(False), model(False, rule=rule)
    m.loss(batch, GENERATOR)
    before = m.multipliers.clone()
    assert (before > 0).any() == (rule == "fl")
    expected = m.losses(batch.x, batch.columns["y"]).mean()
    torch.testing.assert_close(m.validation_loss(batch, GENERATOR), expected)
    torch.testing.assert_close(m.eval().loss(batch, GENERATOR)["loss"], expected)
    assert torch.equal(m.multipliers, before)


class Part(SimpleNamespace):
    """Rows as a metric sees them."""

    def __len__(self) -> int:
        return len(self.rows.x)

    def batch(self, index: torch.Tensor) -> Batch:
        return some(self.rows, index.tolist())


@pytest.mark.parametrize(("share", "worst"), [(0.05, 1), (0.3, 3), (1.0, 7)])
def test_tail_loss(share, worst):
    test, m = rows(False), model(False)
    train = some(test, [3, 1])
    view = Part(rows=test)
    view.train = Part(rows=train)
    for part, batch in (("test", test), ("train", train)):
        found = tail_loss(m, view, {"share": share, "part": part}, GENERATOR)
        losses = sorted(m.losses(batch.x, batch.columns["y"]).tolist())
        last = losses[-min(worst, max(1, math.ceil(share * len(losses)))) :]
        assert found.value == pytest.approx(sum(last) / len(last))
        assert found.n == len(losses)


def test_bad_input():
    with pytest.raises(UserError, match="no column y"):
        FeasiblePredictor(DataInfo((2,), "real", 3))
    with pytest.raises(UserError, match="one class"):
        FeasiblePredictor(LABELS, classes=1)
