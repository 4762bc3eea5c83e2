"""Who may do a run, where machines share nothing but a store."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from latentbench.core import interrupts
from latentbench.running.observer import ProgressReport
from latentbench.scheduling.lease import Lease, Taken, under_way

from tests.project import PATIENCE

pytestmark = pytest.mark.slow

FIRST = "leases/small/run/000001.json"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("latentbench.scheduling.lease.BEAT", 0.8)
    monkeypatch.setattr("latentbench.scheduling.lease.EXPIRY", 3.0)
    yield
    interrupts.install()


def lease(store, owner, dead=()):
    return Lease(store, "small", "run", owner, dead)


def test_one_at_a_time_and_nothing_is_left(store):
    with lease(store, "one"):
        with pytest.raises(Taken):
            lease(store, "two").__enter__()
        time.sleep(3.2)
        with pytest.raises(Taken):
            lease(store, "two").__enter__()  # it beats, so it lives
    with lease(store, "two") as held:
        assert held.holds()
    assert store.names("leases") == {}


def test_of_many_at_once_one_gets_it(store):
    def attempt(i):
        try:
            return lease(store, f"owner {i}").__enter__()
        except Taken:
            return None

    with ThreadPoolExecutor(6) as pool:
        got = [one for one in pool.map(attempt, range(6)) if one is not None]
    assert len(got) == 1
    got[0].__exit__(None, None, None)


def dead_lease(store, owner="host:1:x", beat=0.0):
    store.write(FIRST, json.dumps({"owner": owner, "beat": beat, "report": {}}).encode())


def test_a_dead_owner_is_relieved_by_one_of_many(store):
    dead_lease(store)
    with ThreadPoolExecutor(4) as pool:
        got = []

        def attempt(i):
            try:
                got.append(lease(store, f"owner {i}").__enter__())
            except Taken:
                return

        list(pool.map(attempt, range(4)))
    assert len(got) == 1
    assert got[0].holds()
    got[0].__exit__(None, None, None)
    assert store.names("leases") == {}


def test_who_is_known_to_be_dead_is_not_waited_for(store):
    dead_lease(store, beat=time.time())
    with pytest.raises(Taken):
        lease(store, "two").__enter__()
    with lease(store, "two", dead=["host:1:x"]) as held:
        assert held.holds()


def test_a_clock_that_is_behind_does_not_cost_a_living_owner_its_run(store, monkeypatch):
    """Its heartbeats look old, but they change."""
    with lease(store, "one") as held:
        real = time.time
        monkeypatch.setattr("latentbench.scheduling.lease.time.time", lambda: real() - 3600)
        monkeypatch.setattr("latentbench.scheduling.lease.EXPIRY", -1.0)  # every age is too old
        with pytest.raises(Taken):
            lease(store, "two").__enter__()
        assert held.holds()


def test_who_wakes_up_late_lets_go(store):
    late = lease(store, "late")
    late.__enter__()
    with lease(store, "next", dead=["late"]):
        deadline = time.monotonic() + PATIENCE
        while not late.lost and time.monotonic() < deadline:
            time.sleep(0.02)
        assert late.lost
        assert interrupts.stopping(), "what it does is to stop"
        late.__exit__(None, None, None)
        assert len(store.names("leases")) == 1, "the other's lease stands"
    interrupts.install()


def test_how_far_runs_are_can_be_seen_from_elsewhere(store):
    with lease(store, "node7:12:abc") as held:
        held.report = ProgressReport("wide--line--cpu--s0", "training", 3, 40, 10.0)
        deadline = time.monotonic() + PATIENCE
        while not (seen := under_way(store)) or not seen[0].report.cell:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    assert (seen[0].suite, seen[0].run_id) == ("small", "run")
    assert str(seen[0]) == "training 3/40 on node7"
    assert under_way(store) == []


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"owner": 1}'])
def test_half_a_lease_is_watched_before_it_is_taken_over(store, content):
    store.write(FIRST, content)
    with lease(store, "two") as held:
        assert held.holds()


DAMAGED = [
    b"",
    b"[" * 100_000,
    b"\xff\xfe",
    b"[1]",
    b'{"owner": "a", "beat": 1e999}',
    b'{"owner": "a", "beat": NaN, "report": {}}',
    b'{"owner": "a", "beat": %f, "report": {"cell": "c", "phase": "p", "step": Infinity, "steps": 1}}' % time.time(),
    b'{"owner": "a", "beat": %f, "report": [3]}' % time.time(),
    b" " * 100_000,
]


@pytest.mark.parametrize("content", DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_lease_ends_nothing(store, content):
    store.write(FIRST, content)
    store.write("leases/small/run/\u00b2.json", content)
    for found in under_way(store):
        assert found.report.cell in ("", "c")
    try:
        with lease(store, "two") as held:
            assert held.holds()
    except Taken:
        assert b'"beat": 1' in content, "one that beats, by what it says"
