"""Episodes, rules of training and measures of subjective learning, against plain loops and cases solved by hand."""

from __future__ import annotations

import colorsys
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo
from latentbench.papers.open_ended_supervised_learning import osl
from latentbench.planning.plan import plan
from latentbench.spec.loading import load_suite

from tests.project import REPOSITORY

INFO = {
    False: DataInfo((2, 3), "real", 17, columns={"y": (4,)}),
    True: DataInfo((1, 3, 2), "unit", 17, columns={"y": ()}),
}
BOTH = pytest.mark.parametrize("labels", [False, True])


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(labels: bool, n: int = 17) -> Batch:
    y = torch.randint(5, (n,), generator=draws(6)) if labels else torch.randn(n, 4, generator=draws(6)).double()
    return Batch(torch.rand(n, *INFO[labels].shape, generator=draws(5)), n, columns={"y": y})


def learner(labels: bool = False, **params) -> osl.SubjectiveLearner:
    torch.manual_seed(3)
    params = {"shots": 3, "hidden": (7, 5), "classes": 5 * labels, "models": 4, **params}
    made = osl.SubjectiveLearner(INFO[labels], **params)
    for p in made.parameters():
        p.data.mul_(2).sub_(0.1)
    return made


def test_functions_are_of_unit_variance_and_no_single_one_fits():
    made = osl.conflicting_functions(40001, np.random.default_rng(1), 0.0)
    x, y = made["x"][:, 0].astype(float), made["y"].astype(float)
    np.testing.assert_allclose([x.min(), x.max(), *y.mean(0), *y.var(0)], [-2, 2, 0, 0, 0, 1, 1, 1], atol=0.02)
    at = np.argmin(np.abs(x - 0.5))
    np.testing.assert_allclose(y[at], [math.sqrt(3) / 4, (0.25 - 4 / 3) * math.sqrt(45) / 8, math.sqrt(2)], atol=1e-3)
    least = (2 / 3) * (1 + math.sqrt(1.5) / (3 * math.pi))  # line and sine have covariance -sqrt(1.5) / pi
    assert np.var(y, axis=1).mean() == pytest.approx(least, abs=0.01)
    noise = osl.conflicting_functions(40001, np.random.default_rng(1), 0.3)["y"] - made["y"]
    assert noise.std() == pytest.approx(0.3, abs=0.005)


@BOTH
def test_episodes_are_rows_in_order_with_the_targets_of_one_domain(labels):
    rows, model, seen, hues = batch(labels), learner(labels), set(), set()
    for seed in range(12):
        x, y, domain = model.episodes(rows, 3, draws(seed))
        assert (x.shape, y.shape, domain.shape) == ((5, 3, 18 if labels else 6), (5, 3), (5,))
        for i in range(15):
            row, of, own = rows.x[i].flatten(), domain[i // 3].item(), rows.columns["y"][i]
            shades = [torch.cat([row * c for c in colorsys.hsv_to_rgb(k / 5, 1, 1)]) for k in range(5)]
            (hue,) = (k for k, s in enumerate(shades if labels else [row]) if torch.allclose(s, x[i // 3, i % 3]))
            target = (own, hue)[of] if labels else own[of]
            assert y[i // 3, i % 3].item() == pytest.approx(float(target), rel=1e-6)
            seen |= {("domain", of), ("hue", hue)}
            hues.add((seed, i // 3, hue))
    assert len(seen) == (2 + 5 if labels else 4 + 1)
    assert len(hues) > 120 if labels else len(hues) == 60  # a hue for each row of 60 episodes
    assert len(model.episodes(batch(labels, 2), 3, draws())[0]) == 1


def tables(model, x, y):
    """Losses and errors (E, S, K + 1) by loops: of models, and of their mixture if there is a gate."""
    losses, errors = [], []
    for row, target in zip(x.flatten(0, 1), y.flatten().tolist()):
        outs = torch.stack([net(row) for net in model.nets]).detach().double()
        outs = outs.exp() / outs.exp().sum(1, keepdim=True) if model.classes else outs
        if model.gate is not None:
            gate = model.gate(row).detach().double().exp()
            outs = torch.cat([outs, (gate @ outs / gate.sum())[None]])
        losses.append([-math.log(o[target]) if model.classes else (o[0].item() - target) ** 2 for o in outs])
        errors.append([float(o.argmax() != target) for o in outs] if model.classes else losses[-1])
    return (np.array(t).reshape(*y.shape, -1) for t in (losses, errors))


@BOTH
@pytest.mark.parametrize("rule", ["min-loss", "soft", "gated", "oracle"])
def test_losses_of_rules(labels, rule):
    model, rows = learner(labels, rule=rule), batch(labels)
    x, y, domain = model.episodes(rows, 3, draws(8))
    table = next(tables(model, x, y))[:, :, :4]
    nll = table
    if rule in ("soft", "gated") and not labels:
        model.log_std.data.fill_(-0.4)
        nll = table / (2 * math.exp(-0.8)) - 0.4
    gate = model.gate(x).softmax(-1).detach().numpy() if rule == "gated" else 1
    expected = {
        "min-loss": table.mean(1).min(1).mean(),
        "oracle": np.mean([table[e, :, d].mean() for e, d in enumerate(domain)]),
        "soft": -np.log(np.exp(-nll.sum(1)).mean(1)).mean() / 3,
        "gated": -np.log((gate * np.exp(-nll)).sum(2)).mean(),
    }[rule]
    assert model.loss(rows, draws(8))["loss"].item() == pytest.approx(expected, rel=1e-4)
    model, rows = model.double(), Batch(rows.x.double(), 17, columns=rows.columns)
    at = tuple(model.parameters())
    assert torch.autograd.gradcheck(lambda *_: model.loss(rows, draws(8))["loss"], at, fast_mode=True)


@BOTH
@pytest.mark.parametrize("rule", ["min-loss", "gated"])
def test_measures_choose_by_the_first_half_and_judge_by_the_second(labels, rule):
    model, rows = learner(labels, rule=rule), batch(labels, 161)
    view = SimpleNamespace(batch=lambda: rows)
    x, y, domain = model.episodes(rows, 6, draws(4))
    losses, errors = tables(model, x, y)
    choice = losses[:, :3].mean(1).argmin(1)
    found, counts = errors[range(26), 3:, choice].mean(1), np.zeros((losses.shape[2], model.domains), int)
    np.add.at(counts, (choice, domain.numpy()), 1)
    error = osl.assigned_error(model, view, {}, draws(4))
    assert (error.value, error.se) == pytest.approx((found.mean(), found.std(ddof=1) / math.sqrt(26)))
    purity = osl.allocation_purity(model, view, {}, draws(4))
    assert (purity.value, error.n, purity.n) == (pytest.approx(counts.max(1).sum() / 26), 26, 26)
    assert purity.details == {"counts": counts.tolist()}
    assert (counts.sum(1) > 0).sum() > 1


def test_bad_input():
    for info, params, said in (
        (DataInfo((2,), "real", 3), {}, "no column y"),
        (INFO[False], {"classes": 3}, "4 columns of y are no label"),
        (INFO[False], {"rule": "oracle", "models": 3}, "4 domains need as many"),
    ):
        with pytest.raises(UserError, match=said):
            osl.SubjectiveLearner(info, **params)
    with pytest.raises(UserError, match="at least 12 rows"):
        osl.assigned_error(learner(), SimpleNamespace(batch=lambda: batch(False, 11)), {}, draws())
    with pytest.raises(UserError, match="allocates no episodes"):
        osl.allocation_purity(torch.nn.Linear(1, 1), SimpleNamespace(), {}, draws())


def test_rivals_train_alike_and_what_is_claimed_of_whom():
    folder = REPOSITORY / "suites/open-ended-supervised-learning"
    assert "params: {noise: 0.1}" in (folder / "data/conflicting-functions.yaml").read_text()
    loaded = load_suite(folder / "suite.yaml")
    claims, found = loaded.suite.claims, {}
    for run in plan(loaded, "cpu", seeds=[0]):
        functions, by = run.dataset == "functions", run.training
        info = DataInfo((1,), "unit", 9, columns={"y": (3,) if functions else ()})
        made = osl.SubjectiveLearner(info, **run.params)
        shape = [p.shape[0] for p in made.nets[0].parameters() if p.ndim == 2]
        assert (made.shots, made.classes, shape) == ((10, 0, [64, 64, 1]) if functions else (10, 10, [128, 10]))
        told = {**by["optimizer"], **by}
        assert [told[k] for k in ("name", "lr", "batch_size", "epochs")] == ["adam", 1e-3, 320, 75]
        assert (run.data["preprocess"], run.data["limit"]) == ([] if functions else ["to_unit"], {"train": 5000})
        found[run.dataset, run.method] = made.rule, len(made.nets)
    for d, k, trained in (("functions", 3, 0.85), ("digits", 2, 0.55)):
        ours = {f"osl-k{n}": ("min-loss", n) for n in (2, 3, 6)} | {"global": ("min-loss", 1)}
        rivals = {"moe": ("gated", k), "em": ("soft", k), "oracle": ("oracle", k)}
        assert {m: v for (data, m), v in found.items() if data == d} == ours | rivals
        *orders, pure = (next(c for c in x.cells if c.dataset == d) for x in claims[:4])
        said = [(f"osl-k{k}", "global", 0.2), (f"osl-k{k}", "moe", 0), ("em", "moe", 0)]
        assert [(c.better, c.worse, c.margin) for c in orders] == said
        assert (pure.metric, pure.method, pure.at_least) == ("purity", f"osl-k{k}", 0.95)
        for c in (*orders, pure):
            gates = [(g.metric, g.methods, g.at_most) for g in c.gate]
            assert gates == [("error", ["oracle"], 0.1), ("error", ["global", "moe"], trained)]
    trend, many, told = claims[4:]
    assert [(g.methods, g.at_most) for g in (*trend.gate, *many.gate)] == [(["oracle"], 0.1)] * 2
    assert (trend.methods, trend.direction, trend.form) == (["global", "osl-k2", "osl-k3"], "falls", "strict")
    assert (many.better, many.worse, many.dataset) == ("osl-k6", "osl-k2", "functions")
    assert (told.method, told.dataset, told.at_most) == ("oracle", "functions", 0.02)
    assert ([c.sanity for c in claims], len(loaded.suite.tiers["cpu"].seeds)) == ([False] * 6 + [True], 6)
