"""The files that the pipeline writes."""

from __future__ import annotations

import csv
import json

import pytest
from latentbench.results.leaderboard import COLUMNS
from latentbench.results.tables import CURVE_COLUMNS

from tests.project import REPOSITORY, leave_curve, write_made_up

BOUND = {"id": "b", "kind": "bound", "method": "wide", "at_most": 5.0, "text": "t", "where": "w"}
CHANGES = {"claims": [BOUND | {"metric": "nll", "dataset": "line"}]}
FILES = {"leaderboard.csv", "leaderboard.md", "verdicts.json", "metrics.json", "curves.csv"}


@pytest.fixture
def filled(project):
    """Made-up records with learning curves: seed s has losses s + 1 and s + 2 at epochs 1 and 2."""
    for spec in project.plan("cpu", CHANGES, methods=["wide", "narrow"]):
        path = write_made_up(spec, {"nll": 1.0 + spec.seed / 10})
        rows = "".join(f"{e},{e}.0,{spec.seed + e}.0\n" for e in (1, 2))
        leave_curve(path, "step,epoch,loss\n" + rows)
    return project


def tables(project, *args: str):
    folder = project.root / "tables"
    answer = project("leaderboard", "--write", str(folder), *args)
    assert (answer.code, answer.out) == (0, "")
    assert {p.name for p in folder.iterdir()} == FILES
    return folder


def test_tables_are_what_the_commands_print(filled):
    folder = tables(filled)
    assert (folder / "leaderboard.csv").read_text() == filled("leaderboard", "--format", "csv").out
    assert (folder / "leaderboard.md").read_text().strip() == filled("leaderboard", "--format", "md").out.strip()
    assert json.loads((folder / "verdicts.json").read_text()) == json.loads(filled("verdict", "--format", "json").out)


def test_metrics_and_curves_are_means_over_seeds(filled):
    folder = tables(filled)
    found = json.loads((folder / "metrics.json").read_text())
    assert found["small"]["line"]["nll"] == {"wide": pytest.approx(1.1), "narrow": pytest.approx(1.1)}
    assert found["small"]["verdicts"] == {"reproduced": 1}
    with open(folder / "curves.csv", newline="") as f:
        rows = [(r["method"], float(r["epoch"]), float(r["loss"])) for r in csv.DictReader(f)]
    assert sorted(rows) == [(m, e, e + 1.0) for m in ("narrow", "wide") for e in (1.0, 2.0)]


def test_they_are_written_the_same_every_time(filled):
    first = {p.name: p.read_bytes() for p in tables(filled).iterdir()}
    assert {p.name: p.read_bytes() for p in tables(filled).iterdir()} == first


def test_smoke_and_nothing_give_empty_tables(filled):
    for folder in (tables(filled, "--tier", "smoke"), tables(filled, "--tier", "paper")):
        assert len((folder / "leaderboard.csv").read_text().splitlines()) == 1
    assert json.loads((tables(filled, "--tier", "smoke") / "verdicts.json").read_text()) == []

    assert all((tables(filled, "--tier", "smoke") / name).stat().st_size for name in FILES), "DVC warns of empty files"


def test_metrics_are_of_what_was_run_here(filled):
    """The leaderboard has reference records too."""
    reference = filled.results / "reference/small"
    reference.mkdir(parents=True)
    for path in (filled.results / "runs/small").glob("*/record.json"):
        path.rename(reference / f"{path.parent.name}.json")
    folder = tables(filled)
    assert len((folder / "leaderboard.csv").read_text().splitlines()) == 3
    assert json.loads((folder / "metrics.json").read_text()) == {}


@pytest.mark.parametrize(("template", "columns"), [("leaderboard", COLUMNS), ("curves", CURVE_COLUMNS)])
def test_plots_read_numbers_as_numbers(template, columns):
    """What DVC reads from CSV is text; of some of it Vega-Lite finds out by itself that numbers are meant."""
    plot = json.loads((REPOSITORY / f".dvc/plots/{template}.json").read_text())
    numbers = {
        encoding["field"]
        for part in plot["spec"].get("layer", [plot["spec"]])
        for axis, encoding in part["encoding"].items()
        if axis in ("x2", "y2") or (axis in ("x", "y") and encoding["type"] == "quantitative")
    }
    assert numbers <= set(columns)
    assert plot["data"]["format"]["parse"] == dict.fromkeys(numbers, "number")


def test_a_broken_curve_spoils_nothing(filled):
    paths = sorted(filled.results.rglob("curve.csv"))
    for path, text in zip(paths, ["", "epoch,loss\n1.0,x\n", "loss\n3.0\n", "\0\1\2", "epoch,loss\nnan,nan\n"]):
        leave_curve(path.with_name("record.json"), text)
    with open(tables(filled) / "curves.csv", newline="") as f:
        rows = list(csv.DictReader(f))
    assert {r["method"] for r in rows} <= {"wide", "narrow"}
    assert all(float(r["loss"]) > 0 for r in rows)


def test_a_curve_that_was_edited_is_named_and_left_out(filled):
    path = sorted(filled.results.rglob("*wide*s0*/curve.csv"))[0]
    before = (tables(filled) / "curves.csv").read_text()
    path.write_text(path.read_text().replace("2,2.0,2.0", "2,2.0,0.1"))
    answer = filled("leaderboard", "--write", str(filled.root / "tables"))
    assert f"{path.parent.name}/curve.csv: it does not hash to what its record says" in answer.err
    after = (filled.root / "tables/curves.csv").read_text()
    assert after != before
    path.unlink()
    tables(filled)
    assert (filled.root / "tables/curves.csv").read_text() == after, "as if it were not there"
