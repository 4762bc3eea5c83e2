"""A run on another machine, which shares nothing but the store with this one."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace

import pytest
from latentbench.core import interrupts
from latentbench.core.errors import UserError
from latentbench.core.interrupts import ask
from latentbench.records.record import Record, seal
from latentbench.running.one import Busy
from latentbench.running.settings import Settings
from latentbench.scheduling.environment import Environment
from latentbench.scheduling.lease import Lease, new_owner
from latentbench.scheduling.remote import give_up_request, perform_request
from latentbench.scheduling.run_requests import RunRequest, fetch_results, prepare_sweep, settled_records
from latentbench.scheduling.task import perform
from latentbench.scheduling.transfer import WEIGHTS, prefix_of, pull_all, stored_record

pytestmark = pytest.mark.slow

SLOW = {"methods.wide.params": {"spread": 2.0, "pause": 0.02}, "tiers.cpu.training": {"epochs": 20}}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("latentbench.scheduling.lease.BEAT", 0.2)
    monkeypatch.setattr("latentbench.scheduling.transfer.PERIOD", 0.05)
    yield
    interrupts.install()


class Remote:
    """A sweep's sender and its machines."""

    def __init__(self, project, store, changes=None, **options):
        from latentbench.data.dataset import open_dataset

        self.project, self.store = project, store
        self.specs = project.plan("cpu", changes, seeds=[0], **options)
        self.data_hash = open_dataset("line").content_hash
        self.context = replace(prepare_sweep(self.specs, store, share_data=False), environment=Environment())
        self.settings = Settings(project.root / "nowhere", checkpoint_seconds=0)

    def request(self, spec, **changes):
        return replace(RunRequest(spec, self.data_hash, spec.all_code, new_owner()), **changes)

    def go(self, spec, **changes):
        return perform_request(self.request(spec, **changes), self.context, self.settings)


def test_a_remote_run_is_the_local_run(project, store):
    """Same numbers, same weights; everything is in the store, nothing in the sender's folders."""
    remote = Remote(project, store, methods=["wide", "floor"])
    for spec in remote.specs:
        record, cached = remote.go(spec)
        local, _ = perform(spec, Settings(project.results))
        assert not cached
        assert (record.metrics, record.fingerprint) == (local.metrics, local.fingerprint)
        assert record.files.get(WEIGHTS) == local.files.get(WEIGHTS)
        assert remote.go(spec) == (record, True)
        names = store.names(prefix_of("small", record.run_id))
        assert set(names) == {"record.json", *record.files}
        assert stored_record(store, "small", record.run_id) == record
    assert len(settled_records(remote.specs, remote.settings, store, print)) == 2
    assert store.names("leases") == {}
    assert not (project.root / "nowhere").exists()


def test_what_one_machine_began_another_ends_in_the_same_bits(project, store):
    remote = Remote(project, store, SLOW, methods=["wide"])
    [spec] = remote.specs
    local, _ = perform(spec, Settings(project.results))
    interrupts.install()
    run = prefix_of("small", spec.run_id(remote.data_hash))

    def stop():
        while not any(name.endswith(".safetensors") for name in store.names(f"{run}/checkpoint")):
            time.sleep(0.05)
        interrupts._asked = True  # as a signal does

    thread = threading.Thread(target=stop)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        remote.go(spec)
    thread.join()
    interrupts.install()
    assert 1 <= len(store.names(f"{run}/checkpoint")) <= 3, "old ones go"
    assert store.names("leases") == {}
    record, cached = remote.go(spec)
    assert not cached
    assert record.provenance.resumed_from
    assert (record.metrics, record.cost.steps) == (local.metrics, local.cost.steps)
    assert record.files[WEIGHTS] == local.files[WEIGHTS]
    assert store.names(f"{run}/checkpoint") == {}


def test_a_run_that_somebody_is_doing_is_left_to_him(project, folder):
    remote = Remote(project, folder, methods=["floor"])
    [spec] = remote.specs
    with Lease(folder, "small", spec.run_id(remote.data_hash), "him"), pytest.raises(Busy):
        remote.go(spec)
    left = {"owner": "him", "beat": time.time(), "report": {}}
    folder.write(f"leases/small/{spec.run_id(remote.data_hash)}/000004.json", json.dumps(left).encode())
    assert not remote.go(spec, dead=("him",))[1], "he is known to be dead"
    assert folder.names("leases") == {}


def test_who_loses_the_lease_hands_nothing_in(project, folder):
    remote = Remote(project, folder, SLOW, methods=["wide"])
    [spec] = remote.specs
    run_id = spec.run_id(remote.data_hash)
    request = remote.request(spec)

    him = Lease(folder, "small", run_id, "him", [request.owner])

    def take_over():
        while not folder.names(prefix_of("small", run_id)):
            time.sleep(0.05)
        him.__enter__()

    thread = threading.Thread(target=take_over)
    thread.start()
    with pytest.raises(Busy):
        perform_request(request, remote.context, remote.settings)
    thread.join()
    assert stored_record(folder, "small", run_id) is None
    assert him.holds()
    him.__exit__(None, None, None)
    assert folder.names("leases") == {}
    interrupts.check()  # the process may go on with another run


def tampered(store, name, **changes):
    kept = json.loads(store.read(name))
    store.write(name, json.dumps(kept | changes).encode())


def test_records_that_were_edited_damaged_or_moved_are_refused_and_named(project, folder):
    remote = Remote(project, folder, methods=["wide", "narrow", "floor"])
    records = [remote.go(spec)[0] for spec in remote.specs]
    names = [f"{prefix_of('small', r.run_id)}/record.json" for r in records]
    whole = folder.read(names[0])
    tampered(folder, names[0], seed=7)
    folder.write(names[1], whole[:100])
    folder.write(names[2], whole)  # another run's, its seal intact
    said: list[str] = []
    assert settled_records(remote.specs, remote.settings, folder, said.append) == {}
    assert pull_all(folder, project.results, say=said.append) == (0, 3)
    assert len(said) == 6
    assert all(any(name in line for line in said) for name in names)
    assert not list(project.results.rglob("record.json"))
    for spec, before in zip(remote.specs, records, strict=True):
        record, cached = remote.go(spec)
        assert not cached
        assert "refused" in " ".join(record.provenance.faults)
        assert record.metrics == before.metrics
    assert pull_all(folder, project.results) == (3, 0)


def test_a_damaged_checkpoint_is_refused_and_the_one_before_taken(project, folder):
    remote = Remote(project, folder, SLOW, methods=["wide"])
    [spec] = remote.specs
    place = f"{prefix_of('small', spec.run_id(remote.data_hash))}/checkpoint"
    interrupts.install()

    def stop():
        while len(folder.names(place)) < 2:
            time.sleep(0.02)
        interrupts._asked = True

    thread = threading.Thread(target=stop)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        remote.go(spec)
    thread.join()
    interrupts.install()
    newest = max(n for n in folder.names(place) if n.endswith(".safetensors"))
    folder.write(f"{place}/{newest}", (folder.read(f"{place}/{newest}") or b"")[:-1] + b"x")
    folder.write(f"{place}/strange.sh", b"rm -rf")
    record, _ = remote.go(spec)
    assert "its hash differs" in " ".join(record.provenance.faults)
    assert record.status == "finished"


def test_other_code_other_data_or_another_store_is_no_place_to_run(project, folder):
    remote = Remote(project, folder, methods=["floor"])
    [spec] = remote.specs
    with pytest.raises(UserError, match="other code"):
        remote.go(spec, code="0" * 64)
    with pytest.raises(UserError, match="other content"):
        remote.go(spec, data_hash="0" * 64)
    remote.context = replace(remote.context, mark="another")
    with pytest.raises(UserError, match="same store"):
        remote.go(spec)
    assert folder.names("runs") == folder.names("leases") == {}


def test_a_run_that_no_worker_survives_leaves_its_record(project, folder):
    remote = Remote(project, folder, methods=["floor"])
    [spec] = remote.specs
    record, cached = give_up_request(remote.request(spec), remote.context, remote.settings, "its worker died")
    assert (record.status, record.error, cached) == ("failed", "its worker died", False)
    assert stored_record(folder, "small", record.run_id) == record
    again, cached = remote.go(spec)
    assert (again.status, cached) == ("finished", False), "a failed run is tried again"
    assert give_up_request(remote.request(spec), remote.context, remote.settings, "too late") == (again, True)


def test_results_are_fetched_and_checked(project, store):
    remote = Remote(project, store, methods=["wide"])
    [spec] = remote.specs
    record, _ = remote.go(spec)
    fetch_results(store, record, project.results)
    folder = project.results / "runs/small" / record.run_id
    assert {p.name for p in folder.iterdir()} == {"record.json", "curve.csv"}
    assert project.records() == {spec.cell: record}
    assert pull_all(store, project.results, weights=True) == (1, 0)
    assert (folder / "weights.safetensors").is_file()
    assert pull_all(store, project.results, weights=True) == (0, 0), "what is here does not come again"
    store.write(f"{prefix_of('small', record.run_id)}/curve.csv", b"step,loss\n")
    with pytest.raises(UserError, match="does not hash"):
        fetch_results(store, record, project.root / "other")
    assert not (project.root / "other").exists()


def test_a_record_with_names_of_other_folders_stays_where_it_is(project, folder):
    remote = Remote(project, folder, methods=["floor"])
    record, _ = remote.go(remote.specs[0])
    fields = record.model_dump() | {"run_id": "../../escape", "seal": None}
    forged = Record.model_validate(fields)
    forged = forged.model_copy(update={"seal": seal(forged)})
    folder.write("runs/small/escape/record.json", json.dumps(forged.model_dump(mode="json")).encode())
    assert pull_all(folder, project.results) == (1, 1)
    assert list(project.records().values()) == [record]
    assert not [p for p in project.root.rglob("*escape*") if folder.folder not in p.parents]


def test_a_local_run_and_a_remote_one_in_the_same_folder_exclude_each_other(project):
    from filelock import FileLock
    from latentbench.records.archive import lock_path
    from latentbench.scheduling.object_store import Store

    remote = Remote(project, Store(project.results), methods=["floor"])
    [spec] = remote.specs
    path = lock_path(spec, remote.data_hash, project.results)
    path.parent.mkdir(parents=True)
    with FileLock(path), pytest.raises(Busy):
        remote.go(spec)
    assert remote.go(spec)[0].status == "finished"


def test_an_interrupt_outside_training_leaves_no_lease(project, folder):
    remote = Remote(project, folder, methods=["floor"])
    interrupts.install()
    reports = []

    def report(what):
        reports.append(what)
        if what.phase == "evaluation":
            ask()

    with pytest.raises(KeyboardInterrupt):
        perform_request(remote.request(remote.specs[0]), remote.context, remote.settings, report)
    assert folder.names("leases") == {}
    assert reports[-1].phase == "evaluation"


def test_pulling_keeps_what_is_better_here(project, folder):
    """A failed try in the store does not take the place of a run that was finished here since."""
    remote = Remote(project, folder, methods=["floor"])
    [spec] = remote.specs
    give_up_request(remote.request(spec), remote.context, remote.settings, "its worker died")
    local, _ = perform(spec, Settings(project.results))
    assert local.status == "finished"
    assert pull_all(folder, project.results) == (0, 0)
    assert project.records() == {spec.cell: local}


def test_what_is_sent_along_is_taken_up_once(tmp_path, monkeypatch):
    """Each task of a worker brings its own copy; plug-ins that were imported from the first are not looked for in the
    second, and records hold the command that was typed."""
    import pickle
    import sys

    from latentbench.core import plugins
    from latentbench.core.imports import load
    from latentbench.running import provenance
    from latentbench.spec import registry

    folder = tmp_path / "sent-along"
    folder.mkdir()
    (folder / "mine.py").write_text("from latentbench.declare import model\n@model('mine', '')\nclass Mine: ...\n")
    monkeypatch.setenv(plugins.VARIABLE, str(folder))
    monkeypatch.setattr(sys, "argv", ["/some/where/latentbench", "run", "small", "--until-settled"])
    monkeypatch.setattr(provenance, "_sent", [])
    monkeypatch.setattr("latentbench.scheduling.environment._entered", [])
    sent = pickle.dumps(Environment.here())
    monkeypatch.setattr(sys, "argv", ["/ray/default_worker.py", "--node-ip-address=10.0.0.1"])
    found, where = [], []
    for _ in range(2):
        pickle.loads(sent).enter()
        found.append(load(registry.find_model("mine").target))
        where.append(sys.modules[found[-1].__module__].__file__)
    typed = provenance.command_line()
    monkeypatch.undo()
    registry.forget()
    assert found[0] is found[1]
    assert where[0] == where[1] != str(folder / "mine.py")
    assert typed == ["latentbench", "run", "small", "--until-settled"]


def test_messages_show_no_password_of_an_address(project, folder):
    remote = Remote(project, folder, methods=["floor"])
    record, _ = remote.go(remote.specs[0])
    name = f"{prefix_of('small', record.run_id)}/record.json"
    folder.write(name, b"{}")
    folder.shown = "s3://***@bucket"
    folder.url = "s3://user:password@bucket"
    with pytest.raises(UserError) as refused:
        stored_record(folder, "small", record.run_id)
    assert "password" not in str(refused.value)
