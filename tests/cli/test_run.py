"""`latentbench run` from end to end: what is run, what is kept, what it says, and how it ends."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time

import pytest

from tests.project import PATIENCE

pytestmark = pytest.mark.slow


def test_a_suite_from_its_file_to_its_verdicts(project):
    claim = {"id": "positive", "kind": "bound", "method": "floor", "at_least": 0.0, "text": "t", "where": "w"}
    project.suite({"claims": [claim | {"metric": "nll", "dataset": "line"}]})
    answer = project.run("small")
    assert answer.code == 0
    assert len(project.records()) == 9, "at tier cpu by default"
    assert {r.tier for r in project.records().values()} == {"cpu"}
    assert "9 runs in" in answer.err
    assert "9 finished" in answer.err
    for words in ("A small suite: suite small, version 3, tier cpu", "nll on line [exact], nats, lower is better"):
        assert words in answer.out
    assert "the wide one" in answer.out
    assert "reproduced" in answer.out
    again = project.run("small")
    assert (again.code, again.out) == (0, answer.out), "the same tables from the same records"
    assert "9 there already" in again.err


def test_what_is_missing_is_run_and_nothing_else(project):
    project.suite()
    assert project.run("small", "--quiet", "--method", "floor").code == 0
    kept = {p: p.stat().st_mtime_ns for p in project.results.rglob("record.json")}
    assert len(kept) == 3
    answer = project.run("small", "--method", "floor", "--method", "w*", "--seeds", "0,5")
    assert set(project.records()) == {
        *(f"floor--line--cpu--s{s}" for s in (0, 1, 2, 5)),
        *(f"wide--line--cpu--s{s}" for s in (0, 5)),
    }
    assert all(p.stat().st_mtime_ns == t for p, t in kept.items())
    assert "3 finished, 1 there already" in answer.err


def test_force_runs_again(project):
    project.suite()
    options = ("small", "--quiet", "--method", "floor", "--seeds", "1")
    project.run(*options)
    (path,) = project.results.rglob("record.json")
    before = path.stat().st_mtime_ns
    assert "1 finished" in project.run(*options, "--force").err
    assert path.stat().st_mtime_ns > before


def test_a_changed_suite_is_run_anew_where_it_changed(project):
    project.suite()
    project.run("small", "--quiet")
    project.suite({"methods.wide.params.spread": 1.0, "methods.narrow.label": "new words"})
    answer = project.run("small", "--quiet")
    assert "3 finished, 6 there already" in answer.err


def test_a_failing_model_does_not_stop_the_sweep(project):
    project.suite(
        {
            "methods.wide.params": {"spoil": "raise"},
            "methods.narrow.params": {"spoil": "nan"},
            "methods.full": {"model": "gaussian"},
        }
    )
    answer = project.run("small", "--seeds", "2")
    assert answer.code == 1
    status = {
        m: {r.status for r in project.records().values() if r.method == m} for m in ("wide", "narrow", "floor", "full")
    }
    assert status == {"wide": {"failed"}, "narrow": {"diverged"}, "floor": {"finished"}, "full": {"finished"}}
    assert "2 diverged, 2 failed, 4 finished" in answer.err
    assert "small wide--line--cpu--s0: failed: RuntimeError: told to fail in two lines" in answer.err
    assert "2 failed; 1 missing; diverged x2" in answer.out, "the leaderboard counts them"


def test_failed_runs_are_tried_again(project):
    project.suite({"methods.wide.params": {"spoil": "raise"}})
    options = ("small", "--quiet", "--seeds", "1")
    assert "1 failed, 2 finished" in project.run(*options).err
    answer = project.run(*options)
    assert "1 failed, 2 there already" in answer.err
    assert answer.code == 1


def test_numbers_of_a_smoke_run_are_no_result(project):
    project.suite()
    answer = project.run("small", "--tier", "smoke")
    assert answer.code == 0
    assert answer.out.startswith("small, tier smoke: it runs. These numbers are no result\n")
    values = [line.split() for line in answer.out.splitlines()[2:]]
    recorded = {(r.method, m.name): f"{m.value:.5g}" for r in project.records().values() for m in r.metrics}
    assert {(v[0], v[2]): v[3] for v in values} == recorded
    assert "on no leaderboard" in answer.err
    assert "Next: latentbench plan small --tier cpu" in answer.err
    assert project("leaderboard").out == "no records yet; `latentbench run quickstart` makes some\n"
    assert project("leaderboard", "--format", "json").out == "[]\n"
    verdict = project("verdict", "--format", "json")
    assert (verdict.code, verdict.out) == (0, "[]\n")


def test_a_smoke_run_says_which_metric_failed_and_why(project):
    project.suite({"methods": {"narrow": {"model": "toy", "params": {"spread": 1e30}}}, "claims": []})
    answer = project.run("small", "--tier", "smoke")
    failures = {m.failure for r in project.records().values() for m in r.metrics}
    assert failures, answer.out
    assert None not in failures, "the fixture is to fail"
    assert all(f"failed: {failure}" in " ".join(answer.out.split()) for failure in failures)


def test_quiet(project):
    project.suite()
    answer = project.run("small", "--quiet", "--seeds", "1")
    assert answer.out == ""
    assert len(answer.err.splitlines()) == 1


def test_a_dry_run_touches_nothing(project):
    project.suite()
    answer = project("run", "small", "--dry-run", "--method", "wide")
    assert answer.out.splitlines() == [f"small  wide--line--cpu--s{s}" for s in range(3)]
    assert not project.results.exists()


def test_two_suites_in_one_sweep(project):
    project.suite()
    project.suite({}, "second")
    answer = project.run("small", "second", "--seeds", "1", "--method", "floor")
    assert answer.code == 0
    assert len(project.records("small")) == len(project.records("second")) == 1
    assert "suite second, version 3" in answer.out


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("absent",), "unknown suite 'absent'"),
        (("small", "--method", "wid"), "--method: suite 'small' has no method 'wid' (did you mean 'wide'?)"),
        (("small", "--dataset", "lin"), "--dataset: suite 'small' has no dataset 'lin' (did you mean 'line'?)"),
        (("small", "--seeds", "0"), "--seeds: at least one seed is needed (give 1 or more)"),
        (("small", "--seeds", "-2"), "--seeds: at least one seed is needed"),
        (("small", "--seeds", "many"), "--seeds: 'many' are no seeds (give a number (3) or a list (4,7))"),
        (("small", "--seeds", "1,1"), "--seeds: '1,1': seeds must be distinct"),
        (("small", "--seeds", "1,-1"), "not negative"),
        (("small", "--seeds", "1,,"), "are no seeds"),
        (("tiny", "--tier", "paper"), "no tier 'paper' (it has smoke, cpu)"),
    ],
)
def test_wrong_options(project, args, words):
    project.suite()
    project.suite({"tiers.paper": None}, "tiny")
    answer = project.run(*args)
    assert answer.code == 2
    assert answer.out == ""
    assert len(answer.err.splitlines()) == 1
    assert words in answer.err
    assert not project.results.exists()


def test_results_that_cannot_be_written(project, monkeypatch):
    project.suite()
    (project.root / "file").write_text("in the way")
    monkeypatch.setenv("LATENTBENCH_RESULTS", str(project.root / "file/results"))
    answer = project.run("small")
    assert answer.code == 2
    assert answer.errors == [
        "error: file/results: results cannot be written: Not a directory "
        "(make it writable, or set LATENTBENCH_RESULTS to a folder that is)"
    ]


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_results_that_are_read_only(project):
    project.suite()
    project.results.mkdir(mode=0o500)
    answer = project.run("small")
    assert answer.code == 2
    assert "Permission denied" in answer.errors[0]


def test_a_gpu_where_there_is_none(project, monkeypatch):
    project.suite()
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    answer = project("run", "small", "--device", "cuda")
    assert answer.code == 2
    assert answer.errors == [
        "error: --device cuda: no CUDA GPU can be used here "
        "(use --device cpu, or see what `latentbench doctor` says of the GPU)"
    ]
    assert not (project.results / "runs").exists()


REMOTE = """\
name: remote
title: somewhere else
kind: real
modality: image
about: not here
citation: none
licence: none
forms:
  - loader: latentbench.data.loaders.idx:load
    files: [{name: a.gz, mirror: remote/a.gz, sha256: %s}]
splits: {train: {rows: 1}, test: {rows: 1}}
columns:
  x: {shape: [2, 2], dtype: uint8, levels: 256}
"""


@pytest.fixture
def remote(project, tmp_path, monkeypatch, shared_data):
    """A suite on a dataset whose file nobody here has."""
    own = tmp_path / "data"
    (own / "registry").mkdir(parents=True)
    (own / "registry/remote.yaml").write_text(REMOTE % ("a" * 64))
    monkeypatch.setenv("LATENTBENCH_DATA", str(own))
    project.suite({"datasets": {"remote": {}}, "metrics": {"nll": {}}})
    return project


def test_a_dataset_that_cannot_be_had_says_how_to_get_it(remote):
    answer = remote.run("small")
    assert answer.code == 2
    assert len(answer.errors) == 1
    assert "remote: no source has it" in answer.errors[0]
    assert "set LATENTBENCH_MIRROR to a folder that has it, or go online" in answer.errors[0]
    assert not (remote.results / "runs").exists()


def test_a_mirror_file_of_another_content_is_refused(remote, monkeypatch):
    mirror = remote.root / "mirror/remote"
    mirror.mkdir(parents=True)
    (mirror / "a.gz").write_bytes(b"something else")
    monkeypatch.setenv("LATENTBENCH_MIRROR", str(mirror.parent))
    answer = remote.run("small")
    assert answer.code == 2
    assert len(answer.errors) == 1
    assert "wrong hash: the mirror's remote/a.gz has sha256" in answer.errors[0]
    assert (mirror / "a.gz").read_bytes() == b"something else", "what is not ours stays"


def until_a_run_has_ended(project):
    deadline = time.monotonic() + PATIENCE
    while not list(project.results.glob("runs/small/*/record.json")) and time.monotonic() < deadline:
        time.sleep(0.05)


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_an_interrupt_keeps_what_has_finished_and_the_rest_goes_on(project, jobs):
    """In processes of their own: all of them are interrupted, as a terminal does, while the second run trains."""
    slow = {"methods.last": {"model": "toy", "params": {"pause": 1.0}}, "tiers.cpu.training": {"epochs": 100}}
    project.suite(slow)
    options = ("run", "small", "--seeds", "1", "--method", "floor", "--method", "last", "--jobs", jobs)
    process = project.start(*options, "--device", "cpu", "--wandb", "disabled")
    try:
        until_a_run_has_ended(project)
        time.sleep(0.7)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 130
    assert out == ""
    assert err.splitlines()[-1] == "interrupted: what has finished is kept, the rest goes on when you run it again"
    assert "Traceback" not in err
    assert set(project.records()) == {"floor--line--cpu--s0"}
    assert not [p for p in project.results.rglob("*") if p.name.endswith(".part")], "nothing half done lies about"
    told = json.loads(project("status", "small", "--tier", "cpu", "--format", "json").out)
    assert (told[0]["done"], told[0]["running"], told[0]["failed"], told[0]["stale"]) == (1, [], [], [])


def test_a_second_request_on_the_way_out_ends_it_at_once_and_without_a_word(project):
    """It falls into the last acts of torch and the interpreter, which catch nothing."""
    project.suite({"methods.last": {"model": "toy", "params": {"pause": 1.0}}, "tiers.cpu.training": {"epochs": 100}})
    options = ("run", "small", "--seeds", "1", "--method", "floor", "--method", "last", "--jobs", "1")
    process = project.start(*options, "--device", "cpu", "--wandb", "disabled")
    try:
        until_a_run_has_ended(project)
        process.send_signal(signal.SIGINT)
        said = ""
        while not said.startswith("interrupted: ") and (said := process.stderr.readline()):
            assert "Traceback" not in said
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=PATIENCE)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert said.startswith("interrupted: ")
    assert (process.returncode, err) == (130, "")


def test_a_worker_that_dies_costs_its_own_run_alone(project):
    project.suite({"methods.doomed": {"model": "toy", "params": {"spoil": "kill"}}})
    options = ("--seeds", "1", "--method", "doomed", "--method", "wide", "--method", "narrow", "--jobs", "2")
    answer = project("run", "small", *options, "--wandb", "disabled", "--device", "cpu")
    assert answer.code == 1
    assert "1 failed, 2 finished" in answer.err
    record = project.records()["doomed--line--cpu--s0"]
    assert record.status == "failed"
    assert record.error.startswith("its worker process died 2 times (SIGKILL")


def test_a_run_that_the_system_kills_leaves_a_record_and_is_not_tried_each_time(project):
    """Also one at a time: the process that leads the sweep is not the one that takes the memory."""
    project.suite({"methods.doomed": {"model": "toy", "params": {"spoil": "kill"}}})
    options = ("run", "small", "--seeds=1", "--method=doomed", "--method=wide", "--wandb=disabled", "--device=cpu")
    answer = project(*options, "--jobs=1")
    assert answer.code == 1
    assert "1 failed, 1 finished" in answer.err
    record = project.records()["doomed--line--cpu--s0"]
    assert "SIGKILL" in record.error
    assert "--force tries it again" in record.error
    again = project(*options, "--jobs=1")
    assert "doomed--line--cpu--s0: there already: its worker process died" in again.err
    assert project.records()["doomed--line--cpu--s0"] == record


def test_a_density_of_undequantised_integers_is_refused(project):
    """It could be made as high as one likes, so no likelihood is measured there; nothing is run."""
    changes = {"datasets": {"digits": {"preprocess": ["to_unit", "flatten"]}}, "metrics": {"nll": {}}, "claims": []}
    project.suite(changes)
    done = project("validate", "small")
    assert done.code == 2
    assert "a density of undequantised integers is no likelihood" in done.err
    project.suite({**changes, "datasets": {"digits": {"preprocess": ["dequantise", "to_unit", "flatten"]}}})
    assert "undequantised" not in project("validate", "small").err


def test_a_test_on_training_rows_must_be_meant(project):
    rows = {"split": {"train": "train[:100]", "test": "train[50:]"}, "preprocess": []}
    project.suite({"datasets": {"line": rows}})
    done = project("validate", "small")
    assert done.code == 2
    assert "tested on rows that it is trained on" in done.err
    project.suite({"datasets": {"line": rows | {"overlap": True}}})
    assert project("validate", "small").code == 0


def test_exact_is_refused_where_anything_is_drawn(project):
    project.suite({"methods.wide.exact": True})
    done = project("validate", "small")
    assert done.code == 2
    assert "not `exact`" in done.err


def test_what_is_there_reaches_nobody_and_damaged_records_are_done_again(project, monkeypatch):
    """Two suites with the same cells: what counts is each one's own record, intact, of today's specification."""
    project.suite()
    project.suite({}, "second")
    options = ("small", "second", "--seeds", "1", "--quiet")
    assert "6 finished" in project.run(*options).err
    (spoilt,) = project.results.glob("runs/second/floor--*/record.json")
    spoilt.write_text(spoilt.read_text().replace('"seed": 0', '"seed": 1'))
    (lost,) = project.results.glob("runs/small/wide--*/record.json")
    lost.write_text("{}")

    from latentbench.scheduling import local

    asked = []
    carry_out = local.run_all

    def told(runs, *args, **rest):
        asked.extend((r.suite, r.method) for r in runs)
        return carry_out(runs, *args, **rest)

    monkeypatch.setattr(local, "run_all", told)
    again = project.run(*options)
    assert again.code == 0
    assert asked == [("small", "wide"), ("second", "floor")]
    assert "2 finished, 4 there already" in again.err
    asked.clear()
    assert "6 there already" in project.run(*options).err
    assert not asked
    assert "6 finished" in project.run(*options, "--force").err
    assert len(asked) == 6


def test_the_death_of_a_worker_is_explained():
    from latentbench.acceleration.processes import exit_description

    assert "cut short" in exit_description(-signal.SIGBUS)
    assert "memory" in exit_description(-signal.SIGKILL)
    assert exit_description(-signal.SIGSEGV) == "SIGSEGV"
    assert exit_description(3) == "exit code 3"
