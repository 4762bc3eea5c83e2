"""One run, from specification to record on disk."""

from __future__ import annotations

import csv
import errno
import json
import math
import os
import threading
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock
from latentbench.core import interrupts
from latentbench.core.errors import UserError
from latentbench.core.types import MetricValue
from latentbench.records.archive import lock_path
from latentbench.records.record import read_record
from latentbench.running import one
from latentbench.running.checkpoints import Checkpoints
from latentbench.running.conductor import SingleDevice
from latentbench.running.one import Busy
from latentbench.running.recording import metric_identity
from latentbench.running.settings import Settings
from latentbench.scheduling.task import give_up, perform
from safetensors.numpy import load_file

from tests.project import Project


@pytest.fixture
def settings(project: Project) -> Settings:
    return Settings(project.results)


def spec_of(project: Project, changes: dict | None = None, method: str = "wide", **options):
    return project.plan("cpu", changes, methods=[method], **options)[0]


def test_a_finished_run_leaves_record_curve_and_weights(project, settings):
    spec = spec_of(project)
    record, cached = perform(spec, settings)
    assert not cached
    folder = project.results / "runs/small" / record.run_id
    assert {p.name for p in folder.iterdir()} == {"record.json", "curve.csv", "weights.safetensors"}
    assert read_record(folder / "record.json") == record
    assert record.status == "finished"
    assert record.spec == json.loads(json.dumps(spec.settled()))
    assert record.fingerprint == spec.fingerprint(record.hashes["data"])
    assert record.run_id == spec.run_id(record.hashes["data"])
    assert {m.name: m.unit for m in record.metrics} == {"nll": "nats", "bits_per_dim": "bits/dim"}
    nll, bits = (record.value(k) for k in ("nll", "bits_per_dim"))
    assert bits.value == pytest.approx(nll.value / (4 * math.log(2)))
    assert nll.n == 60
    assert nll.likelihood == "exact"
    with open(folder / "curve.csv", newline="") as f:
        rows = list(csv.DictReader(f))
    assert [float(r["step"]) for r in rows] == list(range(1, 10))
    assert load_file(folder / "weights.safetensors")["mean"].shape == (4,)
    cost = record.cost
    assert (cost.steps, cost.parameters) == (9, 8)
    assert 0 < cost.training_seconds <= cost.wall_seconds
    assert cost.samples_per_second > 0
    assert cost.peak_memory_bytes > 1e6
    where = record.provenance
    assert where.packages["torch"]
    assert where.started <= where.ended
    assert where.device == "cpu"


class Seen:
    """An observer that remembers."""

    def __init__(self, spec, settings, run_id) -> None:
        self.run_id, self.rows, self.end = run_id, [], []

    def log(self, row):
        self.rows.append(row)

    def ended(self, record):
        self.end.append(record)

    def interrupted(self):
        self.end.append("interrupted")


class Elsewhere(SingleDevice):
    """Conducts a run, and says something else of it; asks it to stop at a phase, if one is named."""

    def __init__(self, stop_at: str = "") -> None:
        self.stop_at, self.phases = stop_at, []

    def devices(self, spec, settings):
        return 3

    @contextmanager
    def conduct(self, spec, settings, checkpoints, notes, report):
        def on_phase(name):
            self.phases.append(name)
            if name == self.stop_at:
                raise KeyboardInterrupt

        with super().conduct(spec, settings, checkpoints, notes, report) as context:
            yield replace(context, on_phase=on_phase)
        notes.compiled, notes.other_seconds = "graphs", 1000.0


def test_a_run_is_conducted_and_observed_from_outside(project, settings):
    seen, conductor = [], Elsewhere()
    spec = spec_of(project)

    def observe(*run):
        seen.append(Seen(*run))
        return seen[-1]

    record, _ = one.perform(spec, settings, conductor, observe=observe)
    (observer,) = seen
    assert (observer.run_id, observer.end) == (record.run_id, [record])
    assert [row["step"] for row in observer.rows] == list(range(1, 10))
    assert conductor.phases == ["data", "training", "evaluation", "nll", "bits_per_dim"]
    assert (record.provenance.devices, record.provenance.compiled) == (3, "graphs")
    assert record.cost.wall_seconds > 1000
    with pytest.raises(KeyboardInterrupt):
        one.perform(spec, replace(settings, force=True), Elsewhere("evaluation"), observe=observe)
    assert seen[1].end == ["interrupted"]
    one.perform(spec, settings, conductor, observe=observe)
    assert len(seen) == 2, "a run that is there is not observed"


def test_it_is_not_done_twice_unless_forced(project, settings):
    spec = spec_of(project)
    first, _ = perform(spec, settings)
    again, cached = perform(spec, settings)
    assert cached
    assert again == first
    forced, cached = perform(spec, replace(settings, force=True))
    assert not cached
    assert [m.value for m in forced.metrics] == [m.value for m in first.metrics]


def test_weights_are_kept_only_if_asked(project, settings):
    record, _ = perform(spec_of(project), replace(settings, weights=False))
    folder = project.results / "runs/small" / record.run_id
    assert {p.name for p in folder.iterdir()} == {"record.json", "curve.csv"}


@pytest.mark.parametrize(
    ("spoil", "status", "error"),
    [
        ("raise", "failed", "RuntimeError: told to fail in two lines (in "),
        ("nan", "diverged", "the loss is nan at step 3 of 9"),
        ("memory", "out-of-memory", "out of memory"),
    ],
)
def test_a_run_that_goes_wrong_leaves_a_record_of_it(project, settings, spoil, status, error):
    record, _ = perform(spec_of(project, {"methods.wide.params": {"spoil": spoil}}), settings)
    assert record.status == status
    assert record.error.startswith(error)
    assert "\n" not in record.error
    assert record.value("nll") is None
    assert [(m.name, m.value) for m in record.metrics] == [("nll", None), ("bits_per_dim", None)]
    assert all(m.failure == record.error for m in record.metrics)
    trace = project.results / "runs/small" / record.run_id / "traceback.txt"
    assert trace.is_file() == (status == "failed")


@pytest.mark.parametrize(("spoil", "tried_again"), [("raise", True), ("memory", True), ("nan", False)])
def test_what_another_try_could_mend_is_tried_again(project, settings, spoil, tried_again):
    spec = spec_of(project, {"methods.wide.params": {"spoil": spoil}})
    perform(spec, settings)
    assert perform(spec, settings)[1] is not tried_again


def test_a_broken_record_is_done_again(project, settings):
    spec = spec_of(project)
    record, _ = perform(spec, settings)
    path = project.results / "runs/small" / record.run_id / "record.json"
    path.write_text(path.read_text()[:100])
    again, cached = perform(spec, settings)
    assert not cached
    assert [m.value for m in read_record(path).metrics] == [m.value for m in record.metrics]
    assert again.status == "finished"


@pytest.mark.parametrize("how", ["nan", "diverge"])
def test_a_metric_without_value_says_why_and_costs_nothing_else(project, settings, how):
    record, _ = perform(spec_of(project, {"metrics.toy_metric": {"settings": {"as": how}}}), settings)
    assert record.status == "finished"
    assert record.value("nll") is not None
    assert record.value("toy_metric") is None
    assert [m.failure is None for m in record.metrics] == [True, True, False]


def test_an_error_without_value_is_left_out(project, settings):
    record, _ = perform(spec_of(project, {"metrics.toy_metric": {"settings": {"as": "nan error"}}}), settings)
    found = record.value("toy_metric")
    assert found.se is None
    assert found.details["odd"] is None


def test_a_metric_that_breaks_is_a_failed_run(project, settings):
    record, _ = perform(spec_of(project, {"metrics.toy_metric": {"settings": {"as": "raise"}}}), settings)
    assert record.status == "failed"
    assert "the metric was told to fail" in record.error


def test_two_that_want_the_same_run_do_it_once(project, settings):
    spec = spec_of(project, {"methods.wide.params": {"pause": 0.05}})
    found = []
    threads = [threading.Thread(target=lambda: found.append(perform(spec, settings)[1])) for _ in range(2)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sorted(found) == [False, True]


def test_data_that_cannot_be_had_end_it_at_once(project, settings):
    spec = spec_of(project)
    with pytest.raises(UserError, match="no dataset 'absent'"):
        perform(replace(spec, data={**spec.data, "source": "absent"}), settings)
    assert not (project.results / "runs").exists()


def identities(project, changes: dict | None = None) -> dict[str, str]:
    spec = spec_of(project, {"metrics.toy_metric": {}, "datasets.line.preprocess": [], **(changes or {})})
    return {m.key: metric_identity(m, spec, "0" * 64) for m in spec.metrics}


def test_an_identity_is_what_a_number_means(project):
    base = identities(project)
    assert len(set(base.values())) == 3
    assert identities(project, {"methods.wide.params.spread": 1.0, "training.epochs": 7}) == base, "not who made it"
    assert identities(project, {"datasets.line.preprocess": ["standardise"]}) == base, "a bijection is accounted for"
    assert identities(project, {"tiers.cpu.limit": {"train": 60}}) == base
    scaled = identities(project, {"metrics.toy_metric.settings": {"scale": 2.0}})
    assert {k for k in base if scaled[k] != base[k]} == {"toy_metric"}
    assert identities(project, {"datasets.line.protocol": "no-valid"}) == base, "the rows that are tested are the same"
    elsewhere = {"datasets.line.protocol": None, "datasets.line.split": {"train": "train", "test": "valid"}}
    for other in ({"tiers.cpu.limit": {"test": 30}}, elsewhere):
        assert not set(identities(project, other).values()) & set(base.values())
    spec = spec_of(project)
    assert metric_identity(spec.metrics[0], spec, "1" * 64) != metric_identity(spec.metrics[0], spec, "0" * 64)


def test_another_random_variable_has_another_identity(project):
    def nll(steps):
        changes = {"datasets": {"digits": {"preprocess": steps}}, "metrics": {"nll": {}}}
        spec = spec_of(project, changes, "floor")
        return metric_identity(spec.metrics[0], spec, "0" * 64)

    steps = [["dequantise"], [{"binarise": "dynamic"}], [{"binarise": "static"}], [{"binarise": ["static", 1]}], []]
    assert len({nll(s) for s in steps}) == len(steps)
    assert nll(["dequantise", "to_unit", "flatten"]) == nll(["dequantise"])


def test_an_edited_record_is_done_again_and_said_so(project, settings):
    """A digit that still reads well, as a flipped bit or a careless hand leaves it: the seal tells."""
    spec = spec_of(project)
    record, _ = perform(spec, settings)
    path = project.results / "runs/small" / record.run_id / "record.json"
    text = path.read_text()
    path.write_text(text.replace('"wall_seconds": 0.', '"wall_seconds": 1.'))
    assert path.read_text() != text
    again, cached = perform(spec, settings)
    assert not cached
    assert [m.value for m in again.metrics] == [m.value for m in record.metrics]
    (fault,) = again.provenance.faults
    assert "its seal is broken" in fault
    assert perform(spec, settings)[1], "the new one stands"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_record_that_cannot_be_written_costs_no_training(project, settings, monkeypatch, number):
    spec = spec_of(project)
    careful = replace(settings, checkpoint_seconds=0.0)
    real = os.replace

    def refuse(source, target):
        if Path(target).name == "record.json":
            raise OSError(number, os.strerror(number))
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr("os.replace", refuse)
        with pytest.raises(UserError, match="the record cannot be written") as told:
            perform(spec, careful)
    assert os.strerror(number) in str(told.value)
    assert not [*project.results.rglob("*.part")]
    record, _ = perform(spec, careful)
    assert record.status == "finished"
    assert record.provenance.resumed_from == 9, "all of its nine steps were kept"


def test_a_run_whose_weights_do_not_fit_has_not_finished(project, settings, monkeypatch):
    real = os.replace

    def refuse(source, target):
        if Path(target).name == "weights.safetensors":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(source, target)

    spec = spec_of(project)
    with monkeypatch.context() as patch:
        patch.setattr("os.replace", refuse)
        record, _ = perform(spec, replace(settings, checkpoint_seconds=0.0))
    assert record.status == "failed"
    assert "No space left on device; what was trained is kept" in record.error
    assert record.files == {}
    record, cached = perform(spec, replace(settings, checkpoint_seconds=0.0))
    assert (record.status, cached) == ("finished", False)
    assert record.provenance.resumed_from == 9, "it was not trained again"
    assert "weights.safetensors" in record.files


def test_a_full_disk_is_told_what_is_kept(project, settings, monkeypatch):
    """Where no checkpoint could be written either, nothing is."""

    def refuse(source, target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.replace", refuse)
    with pytest.raises(UserError, match="nothing of it could be kept"):
        perform(spec_of(project), replace(settings, checkpoint_seconds=0.0))


def test_a_lock_that_cannot_be_made_is_told_in_one_line(project, settings):
    project.results.mkdir(parents=True, exist_ok=True)
    (project.results / "locks").write_text("in the way")
    with pytest.raises(UserError, match=r"the run cannot be locked: (File exists|Not a directory)"):
        perform(spec_of(project), settings)


def test_what_a_killed_process_left_is_swept_up(project, settings):
    spec = spec_of(project)
    record, _ = perform(spec, settings)
    folder = project.results / "runs/small" / record.run_id
    (folder / "record.json").unlink()
    (folder / "checkpoint").mkdir()
    for place in (folder / ".record.json.x.part", folder / "checkpoint/.0.safetensors.y.part"):
        place.write_bytes(b"half")
    perform(spec, settings)
    assert {p.name for p in folder.iterdir()} == {"record.json", "curve.csv", "weights.safetensors"}


def test_a_success_removes_the_trace_of_the_failure_before(project, settings, monkeypatch):
    spec = spec_of(project)
    with monkeypatch.context() as patch:
        patch.setattr("latentbench.running.experiment.evaluate", lambda *_: 1 / 0)
        assert perform(spec, settings)[0].status == "failed"
    trace = next(project.results.rglob("traceback.txt"))
    assert perform(spec, settings)[0].status == "finished"
    assert not trace.exists()


def test_giving_up_leaves_what_others_do_alone(project, settings):
    """A worker died over a run that another process has finished, or is doing, meanwhile."""
    spec = spec_of(project)
    record, _ = perform(spec, settings)
    assert give_up(spec, settings, "it died") == (record, True)
    other = spec_of(project, seeds=[5])
    with FileLock(lock_path(other, record.hashes["data"], project.results)), pytest.raises(Busy):
        give_up(other, settings, "it died")
    failed, cached = give_up(other, settings, "it died")
    assert (failed.status, failed.error, cached) == ("failed", "it died", False)


def test_an_interrupt_that_a_library_swallows_is_no_failure(project, settings, monkeypatch):
    """A request to stop that comes out as another exception leaves no record of a failed run."""

    def swallow(*_, **__):
        try:
            interrupts.ask()
        except KeyboardInterrupt:
            raise ImportError("initialisation failed") from None

    monkeypatch.setattr("latentbench.running.experiment.load_data", swallow)
    try:
        with pytest.raises(KeyboardInterrupt):
            perform(spec_of(project), settings)
    finally:
        interrupts.install()
    assert project.records() == {}


def test_whatever_a_run_says_its_record_can_be_read_again(project, settings, monkeypatch):
    """Details, faults and errors without end: a record that no reader takes would be done anew for ever."""
    import latentbench_toy_model

    def measure(model, view, settings, generator):
        return MetricValue(1.5, n=3, details={"all": list(range(1_000_000)), "few": 1})

    many = [f"fault {i} {'x' * 60}" for i in range(60_000)]
    spec = spec_of(project, {"metrics.toy_metric": {}})
    with monkeypatch.context() as patch:
        patch.setattr(latentbench_toy_model, "measure", measure)
        patch.setattr(Checkpoints, "clear", lambda self: self.faults.extend(many))
        record, _ = perform(spec, settings)
    assert record.value("toy_metric").value == 1.5
    assert record.value("toy_metric").details == {}
    assert record.value("nll").details == read_record(path_of(project, record)).value("nll").details
    faults = record.provenance.faults
    assert len(faults) < 50
    assert any("details of toy_metric were left out" in fault for fault in faults)
    assert perform(spec, settings) == (record, True)
    monkeypatch.setattr(latentbench_toy_model, "measure", fail_at_length)
    failed, _ = perform(spec, replace(settings, force=True))
    assert read_record(path_of(project, failed)) == failed
    assert 1000 < max(len(m.failure or "") for m in failed.metrics) < 5000


def fail_at_length(*args):
    raise UserError("x" * 9_000_000)


def path_of(project, record) -> Path:
    return project.results / "runs" / record.suite / record.run_id / "record.json"


def test_a_run_whose_specification_no_record_could_hold_is_refused_before_it_is_done(project, settings):
    spec = spec_of(project)
    spec = replace(spec, params={"spread": [0.5] * 200_000})
    with pytest.raises(UserError, match="room for"):
        perform(spec, settings)
    assert not (project.results / "runs").exists()
