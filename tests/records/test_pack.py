"""Records packed into one file: the same JSON again, whatever they hold, in whatever order their lines stand."""

from __future__ import annotations

import json
import random
import re
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from latentbench.core.errors import UserError
from latentbench.records.archive import collect, is_reference, record_files
from latentbench.records.intact import Intact
from latentbench.records.pack import CURVES, Pack, open_pack
from latentbench.records.packform import canonical, lines_of
from latentbench.records.packing import pack_records, unpack
from latentbench.records.record import read_record, seal, write_record
from latentbench.results.gather import gather
from latentbench.results.leaderboard import leaderboard

from tests.project import REPOSITORY, write_made_up

PACKED = (REPOSITORY / "results/reference").glob("*/*.jsonl")
REFERENCE = sorted(file for file in PACKED if not file.name.endswith(CURVES))


@pytest.fixture
def runs(project):
    return project.plan("cpu")


def shipped(project, runs, **more):
    """Records of `runs` among the references of the project, and nowhere else; the pack's file."""
    paths = [made_up(run, 1.0 + run.seed, folder=project.root / "elsewhere", **more) for run in runs]
    return pack_records(paths, project.results)[0].pack


def made_up(run, value, **more):
    """A sealed record's file."""
    path = write_made_up(run, {"nll": value}, **more)
    record = read_record(path)
    write_record(path, record.model_copy(update={"seal": seal(record)}))
    return path


def some(text: bytes | str, path) -> Pack:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return open_pack(path)


@pytest.mark.parametrize("file", REFERENCE, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_the_records_of_the_repository_are_packed_as_they_would_be_anew_and_their_seals_hold(file):
    pack = open_pack(file)
    assert pack.faults == list(pack.unused()) == []
    lines = sorted({line for name in pack.names() for line in lines_of(pack.record(name))})
    assert file.read_text() == "".join(f"{line}\n" for line in lines)
    for name in pack.names():
        assert read_record(file / name, sealed=True).run_id == name
    assert len(pack)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@st.composite
def changed(draw):
    """A shipped record some parts of which are anything, or missing."""
    file = draw(st.sampled_from(REFERENCE))
    pack = open_pack(file)
    record = json.loads(canonical(pack.record(draw(st.sampled_from(pack.names())))))
    for _ in range(draw(st.integers(0, 3))):
        inside = record
        while True:
            key = draw(st.sampled_from(sorted(inside) if isinstance(inside, dict) else range(len(inside))))
            if not (inside[key] and isinstance(inside[key], dict | list)) or draw(st.booleans()):
                break
            inside = inside[key]
        if inside is record and key == "run_id":
            continue
        if draw(st.booleans()):
            inside[key] = draw(JSON)
        else:
            del inside[key]
        if not record.get("run_id"):
            break
    return record


@settings(max_examples=300, deadline=None)
@given(changed(), st.booleans())
def test_a_record_comes_out_as_it_went_in_whatever_it_holds(tmp_path_factory, record, reverse):
    lines = lines_of(record)
    path = tmp_path_factory.mktemp("packs") / "cpu.jsonl"
    if any("\\ud" in line for line in lines):  # half a character: JSON that no reader has to take
        return
    pack = some("\n".join([*lines, *lines][:: -1 if reverse else 1]), path)
    assert canonical(pack.record(record["run_id"])) == canonical(record)
    assert pack.names() == [record["run_id"]]


def test_what_seeds_share_stands_once(project, runs):
    text = shipped(project, runs).read_text().splitlines()
    kinds = [next(iter(json.loads(line))) for line in text]
    assert [kinds.count(k) for k in ("cell", "environment", "run", "whole")] == [3, 1, len(runs), 0]
    assert text == sorted(text)


def test_packed_records_count_as_single_ones_do(project, runs):
    elsewhere = project.root / "elsewhere"
    for run in runs:
        write_made_up(run, {"nll": 1.0 + run.seed})
    loaded = project.load()
    single = leaderboard(gather(loaded, "cpu"))
    pack_records((project.results / "runs/small").glob("*/record.json"), project.results)
    (project.results / "runs").rename(elsewhere)
    found = gather(loaded, "cpu")
    assert leaderboard(found) == single
    assert len(single) == 3
    assert all(map(is_reference, found.collected.files.values()))


def test_a_tier_of_its_own_file(project, runs):
    shipped(project, [*runs, *project.plan("paper")][: len(runs) + 1])
    assert sorted(p.name for p in (project.results / "reference/small").iterdir()) == ["cpu.jsonl", "paper.jsonl"]
    assert len(list(record_files("small", tiers=("paper",)))) == 1


def test_a_run_that_is_there_stays_unless_it_is_to_be_replaced(project, runs):
    pack = shipped(project, runs[:1])
    before = pack.read_bytes()
    again = write_made_up(runs[0], {"nll": 9.0}, ended="2030-01-01T00:00:00+00:00")
    assert pack_records([again], project.results)[0].added == []
    assert pack.read_bytes() == before
    assert pack_records([again], project.results, replace=True)[0].added == [again.parent.name]
    assert collect(runs).found[runs[0].cell].metrics[0].value == 9.0
    assert len(pack.read_text().splitlines()) == 3


def test_unpacked_they_have_the_bytes_that_runs_wrote(project, runs, tmp_path):
    paths = [write_made_up(run, {"nll": 2.0}) for run in runs]
    pack = pack_records(paths, project.results)[0].pack
    assert unpack(open_pack(pack), tmp_path / "runs/small") == []
    for path in paths:
        assert (tmp_path / "runs/small" / path.parent.name / "record.json").read_bytes() == path.read_bytes()


def test_branches_that_add_records_merge(project, runs, tmp_path):
    """Other methods and other seeds of the same method, both of them new; git is asked for a merge and nothing else."""

    def git(*args):
        made = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *made, *args], cwd=project.root, check=True, capture_output=True)

    git("init", "-q", "-b", "main")
    (project.root / ".gitattributes").write_bytes((REPOSITORY / ".gitattributes").read_bytes())
    pack = shipped(project, runs[3:4])
    git("add", "-f", ".gitattributes", "results/reference")
    git("commit", "-qm", "one record")
    for branch, some_runs in (("a", runs[:2]), ("b", runs[1:3]), ("c", runs[4:])):
        git("checkout", "-qb", branch, "main")
        shipped(project, some_runs)
        git("commit", "-qam", branch)
    git("checkout", "-q", "main")
    for branch in "abc":
        git("merge", "-q", "--no-edit", branch)
    assert open_pack(pack).faults == []
    assert collect(runs).found.keys() == {r.cell for r in runs}


def test_of_one_run_done_twice_the_sound_the_finished_the_newest_counts(project, runs, tmp_path):
    one, other = (
        lines_of(json.loads(made_up(runs[0], v, ended=f"202{i}-01-01T00:00:00+00:00").read_text()))
        for i, v in ((1, 1.0), (2, 2.0))
    )
    file = project.results / "reference/small/cpu.jsonl"
    (project.results / "runs").rename(tmp_path / "away")
    file.parent.mkdir(parents=True)
    for lines in ([*one, *other], [*other, *one]):
        some("\n".join(lines), file)
        assert collect(runs).found[runs[0].cell].metrics[0].value == 2.0
    some("\n".join([*one, *(line.replace("2.0", "3.0") for line in other)]), file)
    assert collect(runs).found[runs[0].cell].metrics[0].value == 1.0, "the seal of the newer is broken"


NONSENSE = {
    "half a line": lambda line: line[: len(line) // 2],
    "no JSON": lambda line: line[:-1] + "]",
    "not a number": lambda line: line.replace('"seed":1', '"seed":NaN'),
    "a number without end": lambda line: line.replace('"seed":1', '"seed":1e999'),
    "nested": lambda line: line.replace('"seed":1', '"seed":' + "[" * 100_000),
    "other values": lambda line: line.replace('"measured":[[', '"measured":[[7,'),
    "another cell": lambda line: line.replace('"cell":"', '"cell":"0'),
    "a cell that is none": lambda line: line.replace('"cell":"', '"cell":{"a":"b"},"c":"'),
    "another name": lambda line: line.replace('"run":"', '"run":"x'),
    "a name that climbs": lambda line: re.sub('"run":"[^"]*', '"run":"..', line),
    "a name of a path": lambda line: line.replace('"run":"', '"run":"/tmp/'),
    "two names": lambda line: line.replace('"seed":1', '"run":"y","seed":1'),
    "another seed": lambda line: line.replace('"seed":1', '"seed":2'),
    "another seal": lambda line: line.replace('"seal":"', '"seal":"0'),
    "a mark of a merge": lambda line: f"<<<<<<< HEAD\n{line[:90]}",
    "half a character": lambda line: line.replace('"seed":1', '"seed":"\\ud800"'),
}


@pytest.mark.parametrize("how", NONSENSE)
def test_a_damaged_line_costs_its_record_and_is_named(project, runs, how):
    file = shipped(project, runs)
    lines = file.read_text().splitlines()
    number = next(i for i, line in enumerate(lines) if line.startswith(f'{{"run":"{runs[1].cell}--'))
    lines[number] = NONSENSE[how](lines[number])
    some("\n".join(lines) + "\n", file)
    collected = collect(runs)
    assert collected.found.keys() == {r.cell for r in runs} - {runs[1].cell}
    assert collected.unreadable
    assert all("small/cpu.jsonl" in text for text in collected.unreadable)
    answer = project("verify", str(project.results))
    assert answer.code == 1
    assert "small/cpu.jsonl" in answer.out
    assert project("doctor").out.count("cpu.jsonl")


def test_a_pack_that_would_lose_a_record_is_not_written(project, runs):
    file = shipped(project, runs)
    some(file.read_bytes()[:-200], file)
    with pytest.raises(UserError, match=r"cpu\.jsonl"):
        shipped(project, runs[:1])
    some(file.read_text().replace('"spread":2.0', '"spread":3.0'), file)
    with pytest.raises(UserError, match=r"cpu\.jsonl"):
        shipped(project, runs[:1])


def test_a_damaged_cell_costs_the_seeds_that_share_it(project, runs):
    file = shipped(project, runs)
    some(file.read_text().replace('"spread":2.0', '"spread":3.0'), file)
    collected = collect(runs)
    assert {c.split("--")[0] for c in collected.found} == {"narrow", "floor"}
    assert len(collected.unreadable) == 3
    assert "cpu.jsonl:" in collected.unreadable[0]


@pytest.mark.parametrize(
    "text", [b"", b"\n\n", b"\x00" * 100, b"{" * 10_000, b"\xff\xfe", b'{"run":"a--b--cpu--s0--0",']
)
def test_files_that_are_no_packs(project, runs, text):
    file = project.results / "reference/small/cpu.jsonl"
    file.parent.mkdir(parents=True)
    some(text, file)
    assert collect(runs).found == {}
    assert project("status", "small").code == 0


def test_a_pack_larger_than_the_limit_is_not_read(project, runs, monkeypatch):
    file = shipped(project, runs)
    monkeypatch.setattr("latentbench.records.pack.MAX_BYTES", 1000)
    some(file.read_bytes() + b"\n", file)
    collected = collect(runs)
    assert (collected.found, len(collected.unreadable)) == ({}, 1)
    assert "larger than 1000 bytes" in collected.unreadable[0]


def test_seals_are_computed_once_and_again_after_an_edit(project, runs, monkeypatch):
    import os

    computed = []
    from latentbench.records import record as form

    monkeypatch.setattr(form, "seal_of", lambda data, real=form.seal_of: computed.append(1) or real(data))
    file = shipped(project, runs)
    os.utime(file, (1, 1))
    monkeypatch.setattr("latentbench.core.file_cache.STILL", -1)
    computed.clear()
    collect(runs)
    assert len(computed) == len(runs)
    collect(runs)
    assert len(computed) == len(runs), "they are known"
    file.write_text(file.read_text().replace('"measured":[[1.0,', '"measured":[[1.5,'))
    collected = collect(runs)
    assert len(collected.unreadable) == 3
    assert "its seal is broken" in collected.unreadable[0]
    assert len(computed) == 2 * len(runs)
    collect(runs)
    assert len(computed) == 3 * len(runs), "a pack with a fault is never taken as known"


def test_reading_some_of_a_pack_vouches_for_none_of_the_rest(project, runs, monkeypatch):
    monkeypatch.setattr("latentbench.core.file_cache.STILL", -1)
    file = shipped(project, runs)
    name = open_pack(file).names()[0]
    for _ in range(len(runs)):
        one = Intact("small", project.results)
        one.read(f"{file}/{name}")
        one.save()
    file.write_text(file.read_text())
    intact = Intact("small", project.results)
    intact.read(f"{file}/{name}")
    intact.save()
    assert not (project.results / "cache/records/small.json").exists()


def test_shuffled_lines_say_the_same(project, runs):
    file = shipped(project, runs)
    found = collect(runs).found
    lines = file.read_text().splitlines() * 2
    random.Random(0).shuffle(lines)
    some("\n".join(lines), file)
    assert collect(runs).found == found
