"""`latentbench records`: runs that have ended into the project's records, and out again."""

from __future__ import annotations

import hashlib

import pytest
from latentbench.records.beside import curve_of
from latentbench.records.pack import open_pack
from latentbench.records.record import read_record, seal, write_record

from tests.project import write_made_up, write_sealed

CURVE = "epoch,loss\n1.0,0.5\n2.0,0.25\n"


@pytest.fixture
def done(project):
    """The small suite, run at tier cpu, seeds 0 and 1; its packs go to the project's own results."""
    project.suite()
    answer = project.run("small", "--tier", "cpu", "--seeds", "0,1", "--method", "wide")
    assert answer.code == 0, answer.err
    for path in (project.results / "runs/small").glob("*/record.json"):
        commit(path)
    return project


def commit(path, **provenance):
    """Have a record say that committed code made it."""
    record = read_record(path)
    made = record.provenance.model_copy(update={"git_dirty": False, "git_revision": "0" * 40, **provenance})
    record = record.model_copy(update={"provenance": made})
    write_record(path, record.model_copy(update={"seal": seal(record)}))


def names(project):
    return sorted(p.name for p in (project.results / "runs/small").iterdir())


def test_runs_are_packed_with_the_curve_of_one_seed_and_nothing_is_added_twice(done):
    answer = done("records", "pack", "small")
    assert answer.code == 0, answer.err
    assert "small/cpu.jsonl: 2 records added, 0 were there, 1 learning curves" in answer.out
    pack = done.results / "reference/small/cpu.jsonl"
    assert open_pack(pack).names() == names(done)
    before = pack.read_bytes()
    assert "0 records added, 2 were there" in done("records", "pack").out
    assert pack.read_bytes() == before
    curves = [curve_of(read_record(pack / name), pack / name) for name in names(done)]
    own = (done.results / "runs/small" / names(done)[0] / "curve.csv").read_text()
    assert curves == [own, None]


def test_what_was_packed_stands_for_what_was_run(done):
    board = done("leaderboard", "small", "--tier", "cpu", "--format", "json").out
    assert done("records", "pack", "small", "--artefacts").code == 0
    (done.results / "runs").rename(done.root / "before")
    assert done("leaderboard", "small", "--tier", "cpu", "--format", "json").out == board
    answer = done("verify", str(done.results), "--sample", "all")
    assert answer.code == 0
    assert answer.out.startswith("2 records, 0 with faults; the numbers of 1 were evaluated again"), answer.out
    first = next((done.results / "reference/small").glob("cpu.jsonl"))
    assert "identical bits" in done("replay", f"{first}/{open_pack(first).names()[0]}").out
    assert done("replay", "wide--line--cpu--s1").code == 0
    assert done("list", "suites").out.count("verdict at cpu")
    done("leaderboard", "--write", str(done.root))
    assert len((done.root / "curves.csv").read_text().splitlines()) > 1


def test_unpacked_runs_are_those_that_were_packed(done, tmp_path):
    done("records", "pack", "small", "--artefacts")
    assert done("records", "unpack", "small", "--to", str(tmp_path / "out")).code == 0
    for name in names(done):
        here, there = done.results / "runs/small" / name, tmp_path / "out/runs/small" / name
        first = name == names(done)[0]
        kept = {"record.json", "curve.csv", "weights.safetensors"} if first else {"record.json"}
        assert {p.name for p in there.iterdir()} == kept
        assert all((there / n).read_bytes() == (here / n).read_bytes() for n in kept)
    assert done("verify", str(tmp_path / "out")).out.startswith("2 records, 0 with faults; ")


@pytest.mark.parametrize(
    ("status", "provenance", "options", "code", "said"),
    [
        ("finished", {"git_dirty": True}, [], 1, "made by uncommitted code"),
        ("finished", {"git_dirty": None, "git_revision": None}, [], 1, "of no known revision"),
        ("finished", {"git_dirty": True}, ["--dirty"], 0, None),
        ("interrupted", {}, [], 0, "interrupted"),
    ],
)
def test_what_is_left_out_is_told(done, status, provenance, options, code, said):
    path = done.results / "runs/small" / names(done)[0] / "record.json"
    write_sealed(path, read_record(path).model_copy(update={"status": status}))
    commit(path, **provenance)
    answer = done("records", "pack", "small", *options)
    assert answer.code == code
    assert ("1 records added" if said else "2 records added") in answer.out
    assert said is None or said in answer.err


def test_damaged_and_edited_runs_are_refused(done):
    one, other = (done.results / "runs/small" / name / "record.json" for name in names(done))
    one.write_text(one.read_text().replace('"fingerprint": "', '"fingerprint": "0'))
    record = read_record(other)
    changed = record.model_copy(update={"fingerprint": "0" * 64})
    write_record(other, changed.model_copy(update={"seal": seal(changed)}))
    answer = done("records", "pack", "small", "--all")
    assert answer.code == 1
    assert "its seal is broken" in answer.err
    assert "do not hash to its fingerprint" in answer.err
    assert not (done.results / "reference").exists()


def test_runs_of_an_earlier_suite_are_left_out_unless_asked_for(done):
    done.suite({"methods.wide.params.spread": 3.0})
    answer = done("records", "pack", "small")
    assert (answer.code, answer.out) == (0, "")
    assert "2 left out: not of today's suite" in answer.err
    assert "2 records added" in done("records", "pack", "small", "--all").out


def test_from_another_folder(done):
    theirs = done.root / "theirs"
    theirs.mkdir()
    (done.results / "runs").rename(theirs / "runs")
    assert "2 records added" in done("records", "pack", "--from", str(theirs)).out


def test_packs_of_another_folder_are_added_and_left_there(done):
    done("records", "pack", "small")
    theirs = done.root / "theirs"
    done.results.rename(theirs)
    kept = (theirs / "reference/small/cpu.jsonl").read_bytes()
    answer = done("records", "pack", "--from", str(theirs))
    assert (answer.code, "2 records added" in answer.out) == (0, True), answer.err
    assert (theirs / "reference/small/cpu.jsonl").read_bytes() == kept


def test_references_that_lie_by_themselves_are_taken_in(project):
    """As they were kept until November 2026; none of them is lost that the pack does not have."""
    folder = project.results / "reference/small"
    folder.mkdir(parents=True)
    for run in project.plan("cpu"):
        path = write_made_up(run, {"nll": 1.0})
        path.rename(folder / f"{path.parent.name}.json")
    single = next(folder.glob("*.json"))
    assert project("records", "pack").code == 0
    assert [p.name for p in folder.iterdir()] == ["cpu.jsonl"]
    other = read_record(folder / "cpu.jsonl" / single.stem).model_copy(update={"seed": 0, "outcomes": ["odd"]})
    write_sealed(single, other)
    project("records", "pack")
    assert single.exists(), "the pack has another record of the run"


def test_curves_that_are_not_the_runs_own_are_not_taken(done):
    folder = done.results / "runs/small" / names(done)[0]
    assert read_record(folder / "record.json").files["curve.csv"] != hashlib.sha256(CURVE.encode()).hexdigest()
    (folder / "curve.csv").write_text(CURVE)
    answer = done("records", "pack", "small")
    assert answer.code == 1
    assert "curve.csv does not hash" in answer.err
