"""`latentbench plot`: figures of curves and intervals, without a network."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from latentbench.report.agreement import agreements
from latentbench.report.findings import TierFindings
from latentbench.results.gather import gather
from latentbench.results.leaderboard import leaderboard
from PIL import Image

from tests.project import write_made_up
from tests.report import hostile
from tests.report.conftest import CHANGES, fill

FIGURES = {"intervals-line-nll", "intervals-line-bits_per_dim", "curves-line"}


def test_every_metric_and_the_curves_are_drawn(filled):
    answer = filled("plot", "small")
    assert answer.code == 0, answer.err
    folder = filled.results / "plots/small"
    assert {p.name for p in folder.iterdir()} == {f"{n}.{form}" for n in FIGURES for form in ("png", "svg")}
    assert len(answer.out.splitlines()) == 6
    for png in folder.glob("*.png"):
        assert len(np.unique(np.asarray(Image.open(png).convert("L")))) > 20
    for svg in folder.glob("*.svg"):
        text = svg.read_text()
        assert "<script" not in text
        assert not [url for url in re.findall(r'href="([^"#][^"]*)"', text) if not url.startswith("#")]


def test_the_same_numbers_are_the_same_bytes(filled):
    def drawn() -> dict[str, bytes]:
        assert filled("plot", "small", "--format", "svg").code == 0
        return {p.name: p.read_bytes() for p in (filled.results / "plots/small").iterdir()}

    assert drawn() == drawn()


def test_one_metric_or_one_kind_alone(filled):
    out = filled.root / "figures"
    assert filled("plot", "small", "--metric", "nll", "--format", "png", "--out", str(out)).code == 0
    assert [p.name for p in out.iterdir()] == ["intervals-line-nll.png"]
    assert filled("plot", "small", "--only", "curves", "--format", "svg", "--out", str(out)).code == 0
    assert {p.name for p in out.iterdir()} == {"intervals-line-nll.png", "curves-line.svg"}


@pytest.mark.parametrize("args", [("--metric", "nlll"), ("--dataset", "lin"), ("--tier", "smoke"), ("--tier", "paper")])
def test_what_there_is_not_is_told(filled, args):
    answer = filled("plot", "small", *args)
    assert answer.code == 2
    assert answer.errors


def test_hostile_labels_are_drawn_as_text(project):
    fill(project, hostile.changes() | {"methods.floor.label": "_$\\frac{1}{$ hidden"})
    answer = project("plot", "small")
    assert answer.code == 0, answer.err
    png = (project.results / "plots/small/intervals-line-nll.png").read_bytes()
    assert Image.open(io.BytesIO(png)).width < 3000


def test_a_taller_table_has_a_taller_figure(project):
    fill(project, CHANGES)
    assert project("plot", "small", "--metric", "nll", "--format", "png").code == 0
    three = Image.open(project.results / "plots/small/intervals-line-nll.png").height
    extra = {f"more-{i}": {"model": "factorised"} for i in range(3)}
    plan = project.plan("cpu", CHANGES | {f"methods.{k}": v for k, v in extra.items()})
    from tests.project import write_made_up

    for spec in plan:
        write_made_up(spec, {"nll": 1.0 + spec.seed})
    assert project("plot", "small", "--metric", "nll", "--format", "png").code == 0
    assert Image.open(project.results / "plots/small/intervals-line-nll.png").height > 1.5 * three


def test_metrics_that_order_runs_alike_are_seen_beside_those_that_do_not(project):
    """Six methods; bits follow nats exactly, of time the better is the worse, coverage follows though higher is better,
    and of a constant nothing is said."""
    methods = {f"m{i}": {"model": "gaussian", "label": f"method {i}"} for i in range(6)}
    metrics = {"nll": {}, "bits_per_dim": {}, "step_ms": {}, "coverage_pixels": {}, "parameters": {}}
    changes = {"methods": methods, "metrics": metrics, "claims": [], "reported": []}
    for spec in project.plan("cpu", changes):
        x = float(spec.method[1]) + 10 * spec.seed
        write_made_up(
            spec,
            {"nll": x, "bits_per_dim": x / 3, "step_ms": 100 - x, "coverage_pixels": 1 - x / 100, "parameters": 7.0},
        )
    found = gather(project.load(changes), "cpu")
    suite = found.loaded.suite
    (matrix,) = agreements(suite, TierFindings(found, leaderboard(found), []))
    place = {m: i for i, m in enumerate(matrix.metrics)}
    assert matrix.rho[place["nll"]][place["bits_per_dim"]] == pytest.approx(1)
    assert matrix.rho[place["nll"]][place["step_ms"]] == pytest.approx(-1)
    assert matrix.rho[place["nll"]][place["coverage_pixels"]] == pytest.approx(1)
    assert matrix.rho[place["nll"]][place["parameters"]] is None
    assert (matrix.dataset, matrix.methods, matrix.runs) == ("line", 6, 6 * len(suite.tiers["cpu"].seeds))
    assert project("plot", "small", "--only", "agreement", "--format", "png").code == 0
    assert [p.name for p in (project.results / "plots/small").iterdir()] == ["agreement-line.png"]
    assert project("report").code == 0
    page = (project.results / "site/papers/small.html").read_text()
    assert '<td class="p5">1.00</td>' in page
    assert '<td class="m5">−1.00</td>' in page
    assert "<td>–</td>" in page


def test_numbers_that_cannot_be_order_nothing(project):
    methods = {f"m{i}": {"model": "gaussian"} for i in range(6)}
    metrics = {"nll": {}, "bits_per_dim": {}, "step_ms": {}, "coverage_pixels": {}}
    changes = {"methods": methods, "metrics": metrics, "claims": [], "reported": []}
    for spec in project.plan("cpu", changes):
        x = float(spec.method[1]) + 10 * spec.seed
        share = 2.0 if spec.method == "m5" else x / 100
        write_made_up(spec, {"nll": x, "bits_per_dim": x / 3, "step_ms": x, "coverage_pixels": share})
    found = gather(project.load(changes), "cpu")
    (matrix,) = agreements(found.loaded.suite, TierFindings(found, leaderboard(found), []))
    assert matrix.metrics == ["nll", "bits_per_dim", "step_ms"]


def test_three_methods_say_nothing_of_metrics(filled):
    assert filled("plot", "small", "--only", "agreement").code != 0
    assert filled("report").code == 0
    assert 'id="agreement"' not in (filled.results / "site/papers/small.html").read_text()
