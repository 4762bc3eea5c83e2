"""Methods over datasets, and pairs of methods, on the site."""

from __future__ import annotations

import re

import pytest
from latentbench.records.record import Cost, read_record

from tests.project import write_made_up, write_sealed
from tests.report.conftest import CHANGES
from tests.report.pages import read

NAMES = ["one", "two", "three"]
DATA = {name: {"source": "line", "protocol": "all", "preprocess": ["standardise"]} for name in NAMES}
SEVERAL = {"datasets": DATA, "metrics": {"nll": {}}}
#: The order of the methods turns on the last dataset.
LEVEL = {"wide": [1.0, 1.0, 3.0], "narrow": [2.0, 2.0, 2.0], "floor": [3.0, 3.0, 1.0]}


@pytest.fixture
def several(project):
    def build(without=()):
        for spec in project.plan("cpu", SEVERAL):
            value = LEVEL[spec.method][NAMES.index(spec.dataset)] + spec.seed / 100
            if (spec.method, spec.dataset) not in without:
                write_made_up(spec, {"nll": value})
        assert project("report").code == 0
        return project.results / "site"

    return build


def test_methods_are_ranked_over_datasets(several):
    site = several()
    page = read(site / "rankings.html")
    flat = " ".join(page.text.split())
    assert "Over 3 datasets: one, two and three." in flat
    assert "p = 0.717" in flat, "chi-squared of 0.667 with two degrees of freedom"
    assert "less than 1.91" in flat, "2.343 * sqrt(3 * 4 / 18)"
    labels = [d["aria-label"] or "" for d in page.all("svg") if d.get("role") == "img"]
    assert labels[0].startswith("the wide one: 1.67, bar of the critical difference 0.71 to 2.62")
    assert all("3 datasets" in label for label in labels)
    assert page.path.read_text().count("cannot be told apart from the best") == 3
    assert 'href="rankings.html"' in (site / "leaderboards.html").read_text()


def test_a_gap_leaves_a_method_out_and_too_few_are_no_ranking(several):
    site = several(without=[("narrow", "two")])
    assert "No paper has three methods" in read(site / "rankings.html").text
    assert "rankings.html" not in (site / "leaderboards.html").read_text()


def test_pairs_stand_in_a_square(built):
    page = (built / "boards/line.html").read_text()
    square = page[page.index('class="square"') :]
    names = re.findall(r"<bdi>([^<]*)</bdi>", square[: square.index("</table>")])
    assert names == ["the wide one", "narrow", "floor"]
    cells = re.findall(r"<td[^>]*>(\d+)<small>([^<]*)</small>", square[: square.index("</table>")])
    assert [share for share, _ in cells] == ["100", "100", "0", "100", "0", "0"], (
        "no run of one is among those of another"
    )
    assert cells[0][1] == "50\N{EN DASH}100"
    assert "in 100 of 100 pairs" in square


def test_methods_of_a_single_run_stand_in_no_square(project):
    for spec in project.plan("cpu", CHANGES):
        if spec.method == "narrow" or spec.seed == 0:
            write_made_up(spec, {"nll": 1.0 + spec.seed, "bits_per_dim": 1.0})
    assert project("report").code == 0
    assert 'class="square"' not in (project.results / "site/boards/line.html").read_text()


def test_quality_stands_against_cost(project):
    seconds = {"wide": 10.0, "narrow": 1.0, "floor": 100.0}
    for spec in project.plan("cpu", CHANGES):
        value = {"wide": 1.0, "narrow": 2.0, "floor": 3.0}[spec.method]
        path = write_made_up(spec, {"nll": value, "bits_per_dim": value})
        write_sealed(path, read_record(path).model_copy(update={"cost": Cost(wall_seconds=seconds[spec.method])}))
    assert project("report").code == 0
    page = read(project.results / "site/boards/line.html")
    assert "at no higher cost: 2 narrow; 1 the wide one" in " ".join(page.text.split())
    groups = [given.get("class") for name, given in page.elements if name == "g"]
    assert groups == ["behind", "on-front", "on-front"] * 2
