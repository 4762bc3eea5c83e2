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
from latentbench.scheduling.environment import Surroundings
from latentbench.scheduling.jobs import Errand, bring_home, set_out, settled
from latentbench.scheduling.lease import Lease, new_owner
from latentbench.scheduling.remote import give_up_away, perform_away
from latentbench.scheduling.task import perform
from latentbench.scheduling.transfer import WEIGHTS, place_of, pull_all, stored_record

SLOW = {"methods.wide.params": {"spread": 2.0, "pause": 0.02}, "tiers.cpu.training": {"epochs": 20}}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr("latentbench.scheduling.lease.BEAT", 0.2)
    monkeypatch.setattr("latentbench.scheduling.transfer.PERIOD", 0.05)
    yield
    interrupts.install()


class Away:
    """A sweep's sender and its machines."""

    def __init__(self, project, store, changes=None, **options):
        from latentbench.data.dataset import open_dataset

        self.project, self.store = project, store
        self.specs = project.plan("cpu", changes, seeds=[0], **options)
        self.data_hash = open_dataset("line").content_hash
        self.place = replace(set_out(self.specs, store, share_data=False), surroundings=Surroundings())
        self.settings = Settings(project.root / "nowhere", checkpoint_seconds=0)

    def errand(self, spec, **changes):
        return replace(Errand(spec, self.data_hash, spec.code_hash, new_owner()), **changes)

    def go(self, spec, **changes):
        return perform_away(self.errand(spec, **changes), self.place, self.settings)


def test_a_run_away_is_the_run_at_home(project, store):
    """Same numbers, same weights; everything is in the store, nothing in the sender's folders."""
    away = Away(project, store, methods=["wide", "floor"])
    for spec in away.specs:
        record, cached = away.go(spec)
        at_home, _ = perform(spec, Settings(project.results))
        assert not cached
        assert (record.metrics, record.fingerprint) == (at_home.metrics, at_home.fingerprint)
        assert record.files.get(WEIGHTS) == at_home.files.get(WEIGHTS)
        assert away.go(spec) == (record, True)
        names = store.names(place_of("small", record.run_id))
        assert set(names) == {"record.json", *record.files}
        assert stored_record(store, "small", record.run_id) == record
    assert len(settled(away.specs, away.settings, store, print)) == 2
    assert store.names("leases") == {}
    assert not (project.root / "nowhere").exists()


def test_what_one_machine_began_another_ends_in_the_same_bits(project, store):
    away = Away(project, store, SLOW, methods=["wide"])
    [spec] = away.specs
    at_home, _ = perform(spec, Settings(project.results))
    interrupts.install()
    run = place_of("small", spec.run_id(away.data_hash))

    def stop():
        while not any(name.endswith(".safetensors") for name in store.names(f"{run}/checkpoint")):
            time.sleep(0.05)
        interrupts._asked = True  # as a signal does

    thread = threading.Thread(target=stop)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        away.go(spec)
    thread.join()
    interrupts.install()
    assert 1 <= len(store.names(f"{run}/checkpoint")) <= 3, "old ones go"
    assert store.names("leases") == {}
    record, cached = away.go(spec)
    assert not cached
    assert record.provenance.resumed_from
    assert (record.metrics, record.cost.steps) == (at_home.metrics, at_home.cost.steps)
    assert record.files[WEIGHTS] == at_home.files[WEIGHTS]
    assert store.names(f"{run}/checkpoint") == {}


def test_a_run_that_somebody_is_doing_is_left_to_him(project, folder):
    away = Away(project, folder, methods=["floor"])
    [spec] = away.specs
    with Lease(folder, "small", spec.run_id(away.data_hash), "him"), pytest.raises(Busy):
        away.go(spec)
    left = {"owner": "him", "beat": time.time(), "told": {}}
    folder.write(f"leases/small/{spec.run_id(away.data_hash)}/000004.json", json.dumps(left).encode())
    assert not away.go(spec, dead=("him",))[1], "he is known to be dead"
    assert folder.names("leases") == {}


def test_who_loses_the_lease_hands_nothing_in(project, folder):
    away = Away(project, folder, SLOW, methods=["wide"])
    [spec] = away.specs
    run_id = spec.run_id(away.data_hash)
    errand = away.errand(spec)

    him = Lease(folder, "small", run_id, "him", [errand.owner])

    def take_over():
        while not folder.names(place_of("small", run_id)):
            time.sleep(0.05)
        him.__enter__()

    thread = threading.Thread(target=take_over)
    thread.start()
    with pytest.raises(Busy):
        perform_away(errand, away.place, away.settings)
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
    away = Away(project, folder, methods=["wide", "narrow", "floor"])
    records = [away.go(spec)[0] for spec in away.specs]
    names = [f"{place_of('small', r.run_id)}/record.json" for r in records]
    whole = folder.read(names[0])
    tampered(folder, names[0], seed=7)
    folder.write(names[1], whole[:100])
    folder.write(names[2], whole)  # another run's, its seal intact
    said: list[str] = []
    assert settled(away.specs, away.settings, folder, said.append) == {}
    assert pull_all(folder, project.results, say=said.append) == (0, 3)
    assert len(said) == 6
    assert all(any(name in line for line in said) for name in names)
    assert not list(project.results.rglob("record.json"))
    for spec, before in zip(away.specs, records, strict=True):
        record, cached = away.go(spec)
        assert not cached
        assert "refused" in " ".join(record.provenance.faults)
        assert record.metrics == before.metrics
    assert pull_all(folder, project.results) == (3, 0)


def test_a_damaged_checkpoint_is_refused_and_the_one_before_taken(project, folder):
    away = Away(project, folder, SLOW, methods=["wide"])
    [spec] = away.specs
    place = f"{place_of('small', spec.run_id(away.data_hash))}/checkpoint"
    interrupts.install()

    def stop():
        while len(folder.names(place)) < 2:
            time.sleep(0.02)
        interrupts._asked = True

    thread = threading.Thread(target=stop)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        away.go(spec)
    thread.join()
    interrupts.install()
    newest = max(n for n in folder.names(place) if n.endswith(".safetensors"))
    folder.write(f"{place}/{newest}", (folder.read(f"{place}/{newest}") or b"")[:-1] + b"x")
    folder.write(f"{place}/strange.sh", b"rm -rf")
    record, _ = away.go(spec)
    assert "its hash differs" in " ".join(record.provenance.faults)
    assert record.status == "finished"


def test_other_code_other_data_or_another_store_is_no_place_to_run(project, folder):
    away = Away(project, folder, methods=["floor"])
    [spec] = away.specs
    with pytest.raises(UserError, match="other code"):
        away.go(spec, code_hash="0" * 64)
    with pytest.raises(UserError, match="other content"):
        away.go(spec, data_hash="0" * 64)
    away.place = replace(away.place, mark="another")
    with pytest.raises(UserError, match="same store"):
        away.go(spec)
    assert folder.names("runs") == folder.names("leases") == {}


def test_a_run_that_no_worker_survives_leaves_its_record(project, folder):
    away = Away(project, folder, methods=["floor"])
    [spec] = away.specs
    record, cached = give_up_away(away.errand(spec), away.place, away.settings, "its worker died")
    assert (record.status, record.error, cached) == ("failed", "its worker died", False)
    assert stored_record(folder, "small", record.run_id) == record
    again, cached = away.go(spec)
    assert (again.status, cached) == ("finished", False), "a failed run is tried again"
    assert give_up_away(away.errand(spec), away.place, away.settings, "too late") == (again, True)


def test_results_come_home_checked(project, store):
    away = Away(project, store, methods=["wide"])
    [spec] = away.specs
    record, _ = away.go(spec)
    bring_home(store, record, project.results)
    folder = project.results / "runs/small" / record.run_id
    assert {p.name for p in folder.iterdir()} == {"record.json", "curve.csv"}
    assert project.records() == {spec.cell: record}
    assert pull_all(store, project.results, weights=True) == (1, 0)
    assert (folder / "weights.safetensors").is_file()
    assert pull_all(store, project.results, weights=True) == (0, 0), "what is here does not come again"
    store.write(f"{place_of('small', record.run_id)}/curve.csv", b"step,loss\n")
    with pytest.raises(UserError, match="does not hash"):
        bring_home(store, record, project.root / "other")
    assert not (project.root / "other").exists()


def test_a_record_with_names_of_other_folders_stays_where_it_is(project, folder):
    away = Away(project, folder, methods=["floor"])
    record, _ = away.go(away.specs[0])
    fields = record.model_dump() | {"run_id": "../../escape", "seal": None}
    forged = Record.model_validate(fields)
    forged = forged.model_copy(update={"seal": seal(forged)})
    folder.write("runs/small/escape/record.json", json.dumps(forged.model_dump(mode="json")).encode())
    assert pull_all(folder, project.results) == (1, 1)
    assert list(project.records().values()) == [record]
    assert not [p for p in project.root.rglob("*escape*") if folder.folder not in p.parents]


def test_a_local_run_and_one_away_in_the_same_folder_exclude_each_other(project):
    from filelock import FileLock
    from latentbench.records.archive import lock_path
    from latentbench.scheduling.object_store import Store

    away = Away(project, Store(project.results), methods=["floor"])
    [spec] = away.specs
    path = lock_path(spec, away.data_hash, project.results)
    path.parent.mkdir(parents=True)
    with FileLock(path), pytest.raises(Busy):
        away.go(spec)
    assert away.go(spec)[0].status == "finished"


def test_an_interrupt_outside_training_leaves_no_lease(project, folder):
    away = Away(project, folder, methods=["floor"])
    interrupts.install()
    heard = []

    def tell(what):
        heard.append(what)
        if what.phase == "evaluation":
            ask()

    with pytest.raises(KeyboardInterrupt):
        perform_away(away.errand(away.specs[0]), away.place, away.settings, tell)
    assert folder.names("leases") == {}
    assert heard[-1].phase == "evaluation"


def test_pulling_keeps_what_is_better_here(project, folder):
    """A failed try in the store does not take the place of a run that was finished here since."""
    away = Away(project, folder, methods=["floor"])
    [spec] = away.specs
    give_up_away(away.errand(spec), away.place, away.settings, "its worker died")
    at_home, _ = perform(spec, Settings(project.results))
    assert at_home.status == "finished"
    assert pull_all(folder, project.results) == (0, 0)
    assert project.records() == {spec.cell: at_home}


def test_what_is_sent_along_is_taken_up_once(tmp_path, monkeypatch):
    """Each task of a worker brings its own copy; plug-ins that were imported from the first are not looked for in the
    second, and records hold the command that was typed."""
    import pickle
    import sys

    from latentbench.core import plugins
    from latentbench.running import provenance

    (tmp_path / "sent_along.py").write_text("MODELS = {}\n")
    monkeypatch.setenv(plugins.VARIABLE, str(tmp_path))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "argv", ["/some/where/latentbench", "run", "small", "--until-settled"])
    monkeypatch.setattr(provenance, "_sent", [])
    monkeypatch.setattr("latentbench.scheduling.environment._entered", [])
    sent = pickle.dumps(Surroundings.here())
    monkeypatch.setattr(sys, "argv", ["/ray/default_worker.py", "--node-ip-address=10.0.0.1"])
    found = []
    for _ in range(2):
        pickle.loads(sent).enter()
        found.append([m.__file__ for m in plugins.modules() if m.__name__ == "sent_along"])
    sys.modules.pop("sent_along")
    assert found[0] == found[1] != []
    assert provenance.command_line() == ["latentbench", "run", "small", "--until-settled"]


def test_messages_show_no_password_of_an_address(project, folder):
    away = Away(project, folder, methods=["floor"])
    record, _ = away.go(away.specs[0])
    name = f"{place_of('small', record.run_id)}/record.json"
    folder.write(name, b"{}")
    folder.shown = "s3://***@bucket"
    folder.url = "s3://user:password@bucket"
    with pytest.raises(UserError) as refused:
        stored_record(folder, "small", record.run_id)
    assert "password" not in str(refused.value)
