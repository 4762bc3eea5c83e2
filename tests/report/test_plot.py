"""`latentbench plot`: figures of curves and intervals, without a network."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from PIL import Image

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
