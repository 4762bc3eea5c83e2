"""Runs side by side: their records are those of separate runs, but for rounding."""

from __future__ import annotations

import csv
from dataclasses import replace

import pytest
from filelock import FileLock
from latentbench.acceleration.stackable import stackable
from latentbench.acceleration.stacks import run_stacks
from latentbench.audit.replay import replay
from latentbench.core import interrupts
from latentbench.records.archive import lock_path
from latentbench.records.record import is_intact, read_record
from latentbench.running.checkpoints import Checkpoints
from latentbench.running.settings import Settings
from latentbench.scheduling.task import perform

from tests.project import Project

VAE = {
    "methods": {
        "beta-1": {"model": "vae", "params": {"latent_dim": 2, "hidden": [8], "beta": 1.0}},
        "beta-4": {
            "model": "vae",
            "params": {"latent_dim": 2, "hidden": [8], "beta": 4.0},
            "training": {"optimizer": {"lr": 0.01}},
        },
        "deep": {"model": "vae", "params": {"latent_dim": 2, "hidden": [8, 8]}},
        "wide": {"model": "toy"},
        "floor": {"model": "factorised", "baseline": True},
    },
    "metrics": {"elbo": {"methods": ["beta-*", "deep"]}, "nll": {"methods": ["wide", "floor"]}},
    "training": {"optimizer": {"name": "adam", "lr": 0.005}, "batch_size": 40, "epochs": 5},
}


def do(specs, settings, most=16):
    """What was done, left and said."""
    done, said = [], []
    left = run_stacks(specs, settings, most, lambda _: None, lambda *one: done.append(one), said.append)
    return done, left, said


@pytest.fixture
def settings(project: Project) -> Settings:
    return Settings(project.results)


def test_what_is_put_together(project):
    runs = project.plan("cpu", VAE)
    assert [[(r.method, r.seed) for r in g] for g in stackable(runs, 16)] == [
        [(m, s) for m in ("beta-1", "beta-4") for s in range(3)],
        [("deep", s) for s in range(3)],
        [("wide", s) for s in range(3)],
    ]
    assert [len(g) for g in stackable(runs, 4)] == [3, 3, 3, 3]
    assert [len(g) for g in stackable(runs, 2)] == [2, 2, 2, 2, 2]
    assert stackable(runs, 1) == []


@pytest.mark.parametrize("change", [{"gradient_clip_norm": 1.0}, {"batch_size": 20}, {"optimizer": {"name": "sgd"}}])
def test_other_protocols_stay_apart(project, change):
    runs = project.plan("cpu", {**VAE, "methods.beta-4.training": change}, methods=["beta-*"])
    assert [len(g) for g in stackable(runs, 16)] == [3, 3]


def test_records_are_those_of_separate_runs(project, settings, tmp_path):
    runs = project.plan("cpu", VAE, methods=["beta-*", "wide"])
    done, left, said = do(runs, settings)
    assert (len(done), left, said) == (9, [], [])
    for spec, record, cached in done:
        assert not cached
        alone, _ = perform(spec, Settings(tmp_path / "alone"))
        assert (record.run_id, record.fingerprint, record.hashes) == (alone.run_id, alone.fingerprint, alone.hashes)
        assert record.status == "finished"
        assert record.provenance.stacked == (6 if "beta" in spec.method else 3)
        assert alone.provenance.stacked == 1
        assert [m.identity for m in record.metrics] == [m.identity for m in alone.metrics]
        assert [m.value for m in record.metrics] == pytest.approx([m.value for m in alone.metrics], rel=1e-4)
        assert (record.cost.steps, record.cost.epochs) == (alone.cost.steps, alone.cost.epochs)
        assert 0 < record.cost.training_seconds <= record.cost.wall_seconds
        folders = [root / "runs/small" / record.run_id for root in (project.results, tmp_path / "alone")]
        assert {p.name for p in folders[0].iterdir()} == {"record.json", "curve.csv", "weights.safetensors"}
        curves = [list(csv.DictReader((f / "curve.csv").open())) for f in folders]
        assert [r["step"] for r in curves[0]] == [r["step"] for r in curves[1]]
        losses = [[float(r["loss"]) for r in c] for c in curves]
        assert losses[0] == pytest.approx(losses[1], rel=1e-3)
        assert is_intact(read_record(folders[0] / "record.json", sealed=True))


def test_what_is_there_or_in_other_hands_is_left_out(project, settings):
    runs = project.plan("cpu", VAE, methods=["beta-1"], seeds=[0, 1, 2, 3])
    perform(runs[0], settings)
    data_hash = read_record(next((project.results / "runs").rglob("record.json"))).hashes["data"]
    with FileLock(lock_path(runs[1], data_hash, project.results)):
        done, left, _ = do(runs, settings)
    assert [(spec.seed, cached, r.provenance.stacked) for spec, r, cached in done] == [
        (0, True, 1),
        (2, False, 2),
        (3, False, 2),
    ]
    assert left == [runs[1]]
    forced, _, _ = do(runs, replace(settings, force=True))
    assert [(cached, r.provenance.stacked) for _, r, cached in forced] == [(False, 4)] * 4


def test_what_cannot_be_stacked_is_done_alone_and_said_once(project, settings):
    runs = project.plan("cpu", {**VAE, "methods.wide.params": {"spoil": "raise"}}, methods=["wide"])
    done, left, said = do(runs, settings)
    assert left == []
    assert [r.status for _, r, _ in done] == ["failed"] * 3
    assert all("told to fail" in r.error and r.provenance.stacked == 1 for _, r, _ in done)
    assert len(said) == 1
    assert "not stacked" in said[0]


def test_a_run_that_diverges_leaves_its_record(project, settings):
    runs = project.plan("cpu", {**VAE, "methods.wide.params": {"spoil": "nan"}}, methods=["wide"])
    done, _, said = do(runs, settings)
    assert [(r.status, r.provenance.stacked) for _, r, _ in done] == [("diverged", 3)] * 3
    assert said == []


def test_too_much_memory_halves_the_stack(project, settings, monkeypatch):
    from latentbench.training import stacked

    train, sizes = stacked.train_stacked, []

    def tight(members, *rest, **options):
        sizes.append(len(members))
        if len(members) > 2:
            raise RuntimeError("[enforce fail] not enough memory: you tried to allocate much")
        return train(members, *rest, **options)

    monkeypatch.setattr(stacked, "train_stacked", tight)
    runs = project.plan("cpu", VAE, methods=["deep"], seeds=list(range(5)))
    done, _, _ = do(runs, settings)
    assert sizes == [5, 3, 2, 2]
    assert sorted(r.provenance.stacked for _, r, _ in done) == [1, 2, 2, 2, 2]
    assert {r.status for _, r, _ in done} == {"finished"}


def interrupt_at(monkeypatch, step):
    """The process is asked to stop once a checkpoint of that step has been saved."""
    save = Checkpoints.save
    monkeypatch.setattr(Checkpoints, "due", lambda self, final=False: not final)

    def saving(self, at, state):
        save(self, at, state)
        if at == step:
            interrupts._asked = True

    monkeypatch.setattr(Checkpoints, "save", saving)


@pytest.mark.parametrize(("first", "then"), [("stacked", "stacked"), ("stacked", "alone"), ("alone", "stacked")])
def test_one_goes_on_where_the_other_stopped(project, settings, tmp_path, first, then):
    runs = project.plan("cpu", VAE, methods=["beta-*"], seeds=[0, 1])
    expected = [perform(spec, Settings(tmp_path / "alone"))[0] for spec in runs]

    def carry_out(how):
        if how == "stacked":
            return [r for _, r, _ in do(runs, settings)[0]]
        return [perform(spec, settings)[0] for spec in runs]

    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(patch, 7)
        for spec in runs if first == "alone" else runs[:1]:
            with pytest.raises(KeyboardInterrupt):
                perform(spec, settings) if first == "alone" else do(runs, settings)
            interrupts._asked = False
    records = carry_out(then)
    for record, right in zip(records, expected, strict=True):
        assert record.provenance.resumed_from == 7
        assert [m.value for m in record.metrics] == pytest.approx([m.value for m in right.metrics], rel=1e-4)
        assert record.cost.steps == right.cost.steps


def test_members_go_on_from_the_last_step_that_all_have(project, settings):
    runs = project.plan("cpu", VAE, methods=["beta-1"])
    save = Checkpoints.save

    def dying(self, at, state):
        save(self, at, state)
        if at == 5:
            raise KeyboardInterrupt  # the other members' files are not written any more

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoints, "due", lambda self, final=False: not final)
        patch.setattr(Checkpoints, "save", dying)
        with pytest.raises(KeyboardInterrupt):
            do(runs, settings)
    kept = sorted((project.results / "runs").rglob("*-*.safetensors"))
    newest = [p for p in kept if p.name.startswith(f"{5:012d}")]
    assert len(newest) == 1
    done, _, _ = do(runs, settings)
    assert [r.provenance.resumed_from for _, r, _ in done] == [4, 4, 4]
    assert [r.provenance.stacked for _, r, _ in done] == [3, 3, 3]


def test_a_stacked_record_replays_within_tolerance(project, settings):
    runs = project.plan("cpu", VAE, methods=["beta-1"])
    (spec, record, _), *_ = do(runs, settings)[0]
    found = replay(spec, record, device="cpu", today=True)
    assert found.held
    assert any("side by side" in text for text in found.notes)


def test_the_command_line_stacks_when_it_is_told(project):
    project.suite(VAE)
    assert project.run("small", "--method", "beta-*", "--stack", "4", "--quiet").code == 0
    assert {r.provenance.stacked for r in project.records().values()} == {3}
    assert project.run("small", "--method", "deep", "--quiet").code == 0
    assert {r.provenance.stacked for c, r in project.records().items() if "deep" in c} == {1}
    wrong = project.run("small", "--stack", "many")
    assert wrong.code == 2 or wrong.errors
