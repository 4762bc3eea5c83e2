"""Studies: problems that all procedures share, answers that survive a stop, and what is measured of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from latentbench.core.capabilities import Study as Capability
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo
from latentbench.evaluation import studies
from latentbench.models.study import Problem, Study, TableStudy
from latentbench.spec import registry

INFO = DataInfo((1,), "real", 1)


class Graphs(Study):
    """Graphs of five nodes, one way each."""

    def problem(self, rng):
        graph = np.triu(rng.random((5, 5)) < 0.5, 1).astype(float)
        return Problem(
            {"graph": graph, "n": 7}, {"graph": graph, "labels": np.arange(7) % 3, "latents": rng.random((40, 2))}
        )


class Reversed(Graphs):
    def answer(self, given, rng):
        """Every edge the wrong way round."""
        return {"graph": given["graph"].T, "scores": given["graph"] - 0.1, "labels": (np.arange(7) + 1) % 3}


class Noisy(Graphs):
    def answer(self, given, rng):
        return {"latents": rng.standard_normal((40, 2)), "total": 3, "found": rng.random(3) < 0.5}


def answered(study, seed=3, upto=None):
    draws = torch.Generator().manual_seed(seed)
    study.start(None, draws)
    while not study.done() and (upto is None or upto > len(list(study.answered()))):
        study.advance(None, draws)
    return study


def same(a, b):
    return all(x.keys() == y.keys() and all(np.array_equal(x[k], y[k]) for k in x) for x, y in zip(a, b, strict=True))


def test_procedures_meet_the_same_problems_at_the_same_seed_alone():
    first, second, third = answered(Reversed(INFO)), answered(Noisy(INFO)), answered(Noisy(INFO), seed=4)
    truths = [[t for t, _ in s.answered()] for s in (first, second, third)]
    assert len(truths[0]) == 10
    assert same(truths[0], truths[1])
    assert not same(truths[0], truths[2])
    assert not np.array_equal(truths[0][0]["latents"], truths[0][1]["latents"]), "problems are different ones"


class Sums(TableStudy):
    """The sum of three rows' inputs times their targets."""

    def start(self, data, generator):
        super().start(data, generator)
        self.keep(data)

    def problem(self, rng):
        chosen = rng.permutation(len(self.x))[:3]
        return Problem({"x": self.x[chosen], "y": self.y[chosen]})

    def answer(self, given, rng):
        return {"total": (given["x"] * given["y"]).sum()}


def test_rows_travel_with_the_state():
    draws = torch.Generator().manual_seed(5)
    x, y = torch.randn(9, 2, 3, generator=draws), torch.randn(9, 1, generator=draws)
    data, whole, other = Batch(x, 9, columns={"y": y}), Sums(INFO, problems=4), Sums(INFO, problems=4)
    whole.start(data, draws)
    whole.advance(None, draws)
    other.load_state_dict({k: v.clone() for k, v in whole.state_dict().items()})
    for study in (whole, other):
        while not study.done():
            study.advance(None, draws)
    assert same([a for _, a in whole.answered()], [a for _, a in other.answered()])
    assert other.x.shape == (9, 6)
    assert other.x.dtype == other.y.dtype == np.float64
    np.testing.assert_array_equal(other.x[:, 4], x[:, 1, 1].double().numpy())
    np.testing.assert_array_equal(other.y, y.double().numpy())


def test_it_goes_on_from_its_state_to_the_same_answers():
    whole, part, other = (
        answered(Noisy(INFO, problems=6)),
        answered(Noisy(INFO, problems=6), upto=2),
        Noisy(INFO, problems=6),
    )
    other.load_state_dict({k: v.clone() for k, v in part.state_dict().items()})
    assert not other.done()
    while not other.done():
        other.advance(None, torch.Generator().manual_seed(99))
    assert same([a for _, a in whole.answered()], [a for _, a in other.answered()])
    assert same([t for t, _ in whole.answered()], [t for t, _ in other.answered()])
    assert isinstance(other, Capability)


def test_more_problems_begin_with_the_same_ones():
    few, many = answered(Noisy(INFO, problems=2)), answered(Noisy(INFO, problems=5))
    assert same([a for _, a in few.answered()], [a for _, a in many.answered()][:2])


def test_metrics_are_means_over_problems():
    study = answered(Reversed(INFO, problems=4))
    edges = [t["graph"].sum() for t, _ in study.answered()]
    assert len(set(edges)) > 1
    value = studies.graph_shd(study, None, {}, None)
    assert value.value == pytest.approx(np.mean(edges))
    assert value.se == pytest.approx(np.std(edges, ddof=1) / 2)
    assert value.n == 4
    assert studies.graph_f1(study, None, {"directed": True}, None).value == 0.0
    assert studies.graph_f1(study, None, {"directed": False}, None).value == 1.0
    assert studies.graph_auroc(study, None, {}, None).value == 1.0
    assert studies.clusters_accuracy(study, None, {}, None).value == 1.0
    assert studies.clusters_ari(study, None, {}, None).value == pytest.approx(1.0)


def test_latents_are_matched_in_order_and_sign():
    class Turned(Graphs):
        def answer(self, given, rng):
            return {"latents": -2.0 * self.latents[:, ::-1] + 1.0}

        def problem(self, rng):
            problem = super().problem(rng)
            self.latents = problem.truth["latents"]
            return problem

    study = answered(Turned(INFO, problems=1))
    assert studies.latents_mcc(study, None, {}, None).value == pytest.approx(1.0)
    assert studies.latents_affine_mcc(study, None, {}, None).value == pytest.approx(1.0)
    assert studies.latents_mcc(study, None, {}, None).se is None
    assert studies.latents_mcc(answered(Noisy(INFO, problems=3)), None, {}, None).value < 0.5


def test_time_is_of_answers():
    study = answered(Noisy(INFO, problems=3))
    value = studies.answer_ms(study, None, {"problems": 5}, None)
    assert value.n == 3
    assert 0 < value.details["least"] <= value.value


def test_what_is_no_number_is_refused():
    class Words(Graphs):
        def answer(self, given, rng):
            return {"graph": np.array(["a", "b"])}

    with pytest.raises(UserError, match="'graph' of Words is no array of numbers"):
        answered(Words(INFO))
    with pytest.raises(UserError, match="problems"):
        Words(INFO, problems=0)


PAPER = '''
from latentbench.core.types import Batch, DataInfo
from latentbench.declare import Example, metric, model
from latentbench.evaluation.studies import over_problems
from latentbench.models.study import Problem, Study, TableStudy
from pydantic import PositiveInt


class Means(Study):
    def __init__(self, info: DataInfo, *, n: PositiveInt = 3, problems: PositiveInt = 4) -> None:
        super().__init__(info, problems=problems)
        self.n = n

    def problem(self, rng):
        return Problem({"x": rng.standard_normal(self.n)}, {"mean": 0.0})


@model("mean", "Iterative Study", examples=(Example("real-vector", {"problems": 2}),))
class Mean(Means):
    def answer(self, given, rng):
        """Mean of what is given."""
        return {"mean": given["x"].mean()}


@metric("squared_error", "Study", "1", "lower", within=(0.0, None))
def squared_error(model, view, settings, generator):
    """Mean squared error."""
    return over_problems(model, lambda truth, answer: (truth["mean"] - answer["mean"]) ** 2)


@metric("skeleton_shd", "Study", "1", "lower")
def skeleton_shd(model, view, settings, generator):
    """Another one."""
    return squared_error(model, view, settings, generator)
'''
SUITE = """
id: averages
version: 1
paper: {title: Averages, authors: [A], year: 2020}
datasets:
  "n{n}": {grid: {n: [3, 300]}, source: simulated, params: {n: "{n}"}}
methods:
  mean: {model: mean}
metrics: {squared_error: {}, answer_ms: {}}
tiers:
  smoke: {}
"""


@pytest.fixture
def paper(project, own_data):
    from tests.project import REPOSITORY

    entry = (REPOSITORY / "data/registry/simulated.yaml").read_text()
    (own_data / "registry/simulated.yaml").write_text(entry)
    folder = project.root / "suites/averages"
    folder.mkdir()
    (folder / "mean.py").write_text(PAPER)
    (folder / "suite.yaml").write_text(SUITE)
    registry.forget()  # what other tests of this process have looked up
    yield folder / "suite.yaml"
    registry.forget()


def test_a_paper_with_a_simulation_is_a_suite(project, paper):
    assert project("--trust", "validate", "averages").code == 0
    assert project("--trust", "run", "averages", "--tier", "smoke", "--jobs", "0", "--wandb", "disabled").code == 0
    values = {name: r.value("squared_error") for name, r in project.records("averages").items()}
    few, many = values["mean--n3--smoke--s0"], values["mean--n300--smoke--s0"]
    assert few.n == many.n == 4
    assert many.value < few.value


@pytest.mark.parametrize(
    ("good", "bad", "words"),
    [
        ('params: {n: "{n}"}', 'params: {m: "{n}"}', "suite.yaml:6: model 'mean' has no parameter 'm'"),
        ('params: {n: "{n}"}', "params: {n: 0}", "it should be greater than 0"),
        ("squared_error: {}", "skeleton_shd: {}", "measures what 'graph_shd' measures for all papers"),
        ("squared_error: {}", "graph_shd: {}", "needs StructureLearner"),
    ],
)
def test_what_a_study_cannot_have(project, paper, good, bad, words):
    paper.write_text(SUITE.replace(good, bad))
    answer = project("--trust", "validate", "averages")
    assert answer.code != 0
    assert words in answer.err, answer.err
