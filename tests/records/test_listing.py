"""Run folders listed now and then."""

from __future__ import annotations

import pytest
from latentbench.records import listing
from latentbench.records.listing import Listing


@pytest.fixture
def clock(monkeypatch):
    """A clock that moves while folders are listed, a second each, and when it is told to; how often they were."""

    class Clock:
        now = 0.0
        lists = 0

    def slow(real):
        def listed(*args):
            Clock.now, Clock.lists = Clock.now + 1.0, Clock.lists + 1
            return real(*args)

        return listed

    for name in ("listed", "references"):
        monkeypatch.setattr(listing, name, slow(getattr(listing, name)))
    monkeypatch.setattr(listing.time, "monotonic", lambda: Clock.now)
    return Clock


@pytest.fixture
def folder(tmp_path):
    def run(name):
        (tmp_path / "runs/small" / name).mkdir(parents=True)

    run("a--1")
    run("b--1")
    run("b--2")
    (tmp_path / "reference/small").mkdir(parents=True)
    (tmp_path / "reference/small/b--0.json").touch()
    return tmp_path, run


def names(runs: Listing, prefix: str) -> list[str]:
    return [p.parent.name if p.name == "record.json" else p.name for p in runs.records(prefix)]


def test_runs_are_found_by_the_start_of_their_names(folder):
    runs = Listing("small", folder[0])
    assert names(runs, "b--") == ["b--1", "b--2", "b--0.json"]
    assert names(runs, "a--") == ["a--1"]
    assert names(runs, "c--") == []
    assert names(Listing("none", folder[0]), "") == []


def test_folders_are_listed_again_when_that_is_a_hundredth_of_the_time(folder, clock):
    root, run = folder
    runs = Listing("small", root)
    for i in range(1000):
        assert names(runs, "b--")
        runs.add(f"c--{i}")
    assert clock.lists == 2, "both folders once"
    assert len(names(runs, "c--")) == 1000, "its own are known"
    run("b--3")
    clock.now += 199.0
    assert "b--3" not in names(runs, "b--")
    clock.now += 2.0
    assert "b--3" in names(runs, "b--")
    assert clock.lists == 4


def test_a_run_that_is_added_twice_is_there_once(folder):
    runs = Listing("small", folder[0])
    assert names(runs, "a--") == ["a--1"]
    runs.add("a--1")
    runs.add("a--2")
    runs.add("a--2")
    assert len(set(names(runs, "a--"))) == len(names(runs, "a--"))
