"""The crossed design that splits a number's spread by axis."""

from __future__ import annotations

import pytest
from latentbench.audit.noise import design, measure_noise
from latentbench.core.errors import UserError
from latentbench.core.seeds import Seeds, derive
from latentbench.running.settings import Settings


def test_an_axis_of_its_own_moves_alone():
    moved = Seeds(3, {"order": 8})
    assert derive(moved, "order", 2) == derive(8, "order", 2)
    assert all(derive(moved, axis) == derive(3, axis) for axis in ("init", "noise", "evaluation", "preprocess", "data"))


def test_the_design_crosses_its_axes(project):
    spec = project.plan("cpu", methods=["wide"], seeds=[5])[0]
    trainings = design(spec, 3, 2)
    assert [len(t) for t in trainings] == [2] * 9
    axes = [run.axes for t in trainings for run in t]
    assert len({(a["init"], a["order"], a["evaluation"]) for a in axes}) == 18
    assert all(a["order"] == a["noise"] and a["evaluation"] == a["preprocess"] for a in axes)
    runs = [run for t in trainings for run in t]
    assert len({r.spec_hash for r in runs}) == len({r.cell for r in runs}) == 18


def test_spread_goes_to_the_axis_that_makes_it(project):
    """After no training to speak of, a likelihood varies with the initial weights, a random metric with its draws."""
    changes = {"metrics.toy_metric": {}, "training": {"optimizer": {"name": "sgd", "lr": 1e-9}, "epochs": 1}}
    spec = project.plan("cpu", changes, methods=["wide"], seeds=[0])[0]
    ended: list[str] = []
    found = measure_noise(
        [spec], Settings(project.results / "noise"), 1, levels=3, evaluations=3, finished=ended.append
    )
    assert len(set(ended)) == len(ended) == 27, "each run says once that it has ended"
    by_metric = {n.metric: n.components for n in found}
    nll = by_metric["nll"]
    assert nll.shape == (3, 3, 3)
    assert nll.init > 100 * max(nll.order, nll.interaction)
    assert nll.evaluation == 0, "an exact likelihood of data without preprocessing noise draws nothing"
    toy = by_metric["toy_metric"]
    assert toy.evaluation > 0
    assert max(toy.init, toy.order, toy.interaction) == pytest.approx(0.0, abs=1e-9)
    records = list((project.results / "noise/runs/small").glob("*/record.json"))
    assert len(records) == 27
    assert project.records() == {}, "they count for no leaderboard"
    again = measure_noise([spec], Settings(project.results / "noise"), 1, levels=3, evaluations=3)
    assert again == found


def test_a_failed_run_ends_it(project):
    spec = project.plan("cpu", {"methods.wide.params": {"spoil": "nan"}}, methods=["wide"], seeds=[0])[0]
    with pytest.raises(UserError, match="is diverged: the loss is nan at step 3"):
        measure_noise([spec], Settings(project.results / "noise"), 1, levels=2, evaluations=1)


@pytest.mark.slow
def test_the_command(project):
    project.suite()
    done = project("verdict", "small", "--noise", "--method", "wide", "--levels", "2", "--jobs", "1")
    assert done.code == 0, done.err
    assert "init x order" in done.out
    assert "4 trainings" in done.err
    assert project("verdict", "--noise").errors == [
        "error: verdict: --noise needs a suite (name one, and a --method to keep it short)"
    ]
