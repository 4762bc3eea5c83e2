"""`latentbench store pull` and `status --store`: a store seen from a machine that did none of its runs."""

from __future__ import annotations

import json

import pytest
from latentbench.scheduling.lease import Lease
from latentbench.scheduling.object_store import Store


@pytest.fixture
def store(project, monkeypatch):
    """A store with three runs, which is another machine's results folder."""
    project.suite()
    home = project.results
    monkeypatch.setenv("LATENTBENCH_RESULTS", str(project.root / "store"))
    assert project.run("small", "--method", "floor", "--quiet").code == 0
    monkeypatch.setenv("LATENTBENCH_RESULTS", str(home))
    return Store(project.root / "store")


def test_pulled_records_count_here(project, store):
    answer = project("store", "pull", store.url)
    assert (answer.code, len(project.records())) == (0, 3)
    assert "3 runs came" in answer.err
    assert not list(project.results.rglob("weights.safetensors"))
    assert "0 runs came" in project("store", "pull", store.url).err
    assert project("leaderboard", "small", "--tier", "cpu").code == 0
    [status] = json.loads(project("status", "small", "--tier", "cpu", "--format", "json").out)
    assert (status["done"], len(status["to_do"])) == (3, 6)


@pytest.mark.parametrize("command", [("store", "pull"), ("status", "small", "--store")])
def test_an_address_without_a_store_is_refused(project, command):
    project.suite()
    answer = project(*command, str(project.root / "nowhere"))
    assert answer.code == 2
    assert "nowhere: there is no store (give the address" in answer.errors[0]
    assert not (project.root / "nowhere").exists()


def test_what_is_refused_is_named_and_fails_the_command(project, store):
    name = next(n for n in store.names("runs") if n.endswith("record.json"))
    store.write(f"runs/{name}", (store.read(f"runs/{name}") or b"").replace(b'"seed": ', b'"seed": 1'))
    answer = project("store", "pull", store.url)
    assert (answer.code, len(project.records())) == (1, 2)
    assert name in answer.errors[0]


def test_status_shows_what_other_machines_do(project, store):
    [wide] = project.plan("cpu", methods=["wide"], seeds=[0])
    with Lease(store, "small", f"{wide.cell}--0123456789", "node7:1:x"):
        answer = project("status", "small", "--tier", "cpu", "--store", store.url)
    assert f"running: small {wide.cell}: data on node7" in answer.out
    assert len(project.records()) == 3, "what is done there is here"
