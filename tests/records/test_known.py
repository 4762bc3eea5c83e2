"""Records that are matched and made in bulk are those that come of each by itself."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
from latentbench.records import alike
from latentbench.records.archive import collect
from latentbench.records.below import packs_below
from latentbench.records.known import Known, PackedRun, as_read
from latentbench.records.pack import open_pack
from latentbench.records.packing import pack_records
from latentbench.records.record import read_record, seal, write_record

from tests.project import REPOSITORY, write_made_up

PACKS = [pack.path for pack in packs_below(REPOSITORY / "results/reference")]


@pytest.mark.parametrize("file", PACKS, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_the_records_of_the_repository_come_out_the_same_either_way(file):
    pack = open_pack(file)
    known = Known(pack)
    for name in pack.names():
        quick, whole = known.record(name), read_record(file / name)
        assert quick == whole
        assert (quick.seal or seal(quick)) == seal(quick) == seal(whole)


def packed(project, runs):
    """Sealed records of `runs`, each of another sort: finished, failed, with axes, by another number of threads."""
    paths = []
    for i, run in enumerate(runs):
        path = write_made_up(run, {"nll": None if i == 1 else 1.0 + i}, status="failed" if i == 1 else "finished")
        record = read_record(path)
        made = record.provenance.model_copy(update={"threads": 1 + i // 4, "stacked": 1 + i % 2})
        record = record.model_copy(update={"provenance": made, "outcomes": ["odd"] if i == 2 else []})
        write_record(path, record.model_copy(update={"seal": seal(record)}))
        paths.append(path)
    pack = pack_records(paths, project.results)[0].pack
    (project.results / "runs").rename(project.root / "away")
    os.utime(pack, (1, 1))
    return pack


def test_a_pack_that_is_known_gives_the_same_records(project, monkeypatch):
    runs = project.plan("cpu")
    monkeypatch.setattr("latentbench.core.file_cache.STILL", -1)
    packed(project, runs)
    made = []
    monkeypatch.setattr(Known, "read", lambda self, name, real=Known.read: made.append(name) or real(self, name))
    first = collect(runs)
    assert made == []
    again = collect(runs)
    assert len(made) == len(runs)
    assert again == first
    assert first.found[runs[1].cell].status == "failed"


def test_a_record_of_a_pack_is_made_when_it_is_asked_for(project, monkeypatch):
    runs = project.plan("cpu")
    monkeypatch.setattr("latentbench.core.file_cache.STILL", -1)
    pack = packed(project, runs)
    collect(runs)
    found = collect(runs).found
    unmade = {cell for cell, one in as_read(found).items() if isinstance(one, PackedRun)}
    cell = runs[0].cell
    assert cell in unmade
    assert runs[1].cell not in unmade, "it failed"
    assert runs[2].cell not in unmade, "something odd came out"
    assert cell in found
    assert found[cell] == read_record(pack / found[cell].run_id)
    assert found[cell] is found[cell]
    assert {cell for cell, one in as_read(found).items() if isinstance(one, PackedRun)} == unmade - {cell}


def test_specifications_are_hashed_once_for_all_seeds(project, monkeypatch):
    runs = project.plan("cpu")
    packed(project, runs)
    hashed = []
    monkeypatch.setattr(alike, "spec_hash_of", lambda spec, real=alike.spec_hash_of: hashed.append(1) or real(spec))
    assert len(collect(runs).found) == len(runs)
    assert len(hashed) == len({(r.method, r.dataset) for r in runs})


def test_a_seed_of_another_specification_does_not_pass_with_the_others(project):
    runs = project.plan("cpu", methods=["wide"])
    odd = replace(runs[1], params={"spread": 3.0})
    packed(project, [runs[0], odd, runs[2]])
    collected = collect(runs)
    assert collected.found.keys() == {runs[0].cell, runs[2].cell}
    assert list(collected.outdated.values()) == ["the suite has changed: params"]


def test_the_seed_of_a_record_is_that_of_its_specification(project):
    run, other, *_ = project.plan("cpu", methods=["wide"])
    false = replace(other, seed=run.seed)
    record = read_record(write_made_up(run, {"nll": 1.0}))
    matcher = alike.Alike()
    assert matcher.asks_the_same(record, run)
    assert not matcher.asks_the_same(record, other)
    assert matcher.asks_the_same(record, false), "it is the same run"
