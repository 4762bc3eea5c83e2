"""`latentbench replay`: a run again from its record, whoever wrote that."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import subprocess
import sys

import pytest
from latentbench.audit import replay as module
from latentbench.audit import revision
from latentbench.audit.rebuild import find_record, rebuild
from latentbench.audit.replay import replay
from latentbench.core.errors import UserError
from latentbench.planning.fingerprint import engine_hash
from latentbench.planning.plan import plan
from latentbench.records.record import read_record

from tests.project import REPOSITORY, TOYS, write_made_up
from tests.trust.tampering import edit, record_of, run_folder

pytestmark = pytest.mark.slow


@pytest.fixture
def results(project, tmp_path_factory):
    return run_folder(project, tmp_path_factory.mktemp("kept"))


def drift(path, by):
    """Numbers that this run did not give, with the seal that belongs to them."""
    return edit(path, lambda d: [m.update(value=m["value"] + by) for m in d["metrics"]], reseal=True)


def test_identical(project, results):
    before = {p: p.read_bytes() for p in results.rglob("*") if p.is_file()}
    answer = project("replay", "wide--line--cpu--s0")
    assert answer.code == 0, answer.err
    assert "replayed with the same code" in answer.out
    assert answer.out.count("identical") == 3
    assert "identical bits in every number; weights with the same bits" in answer.out
    assert {p: p.read_bytes() for p in results.rglob("*") if p.is_file()} == before, "the results stay as they are"


def test_as_json(project, results):
    answer = project("replay", record_of(results), "--format", "json")
    found = json.loads(answer.out)
    assert (found["identical"], found["held"], found["weights"]) == (True, True, True)
    assert found["code"] == "the same code"
    assert found["status"] == ["finished", "finished"]
    assert [m["metric"] for m in found["metrics"]] == ["nll", "bits_per_dim"]
    assert all(m["before"] == m["now"] and m["spread"] > 0 for m in found["metrics"])


def test_a_record_from_elsewhere(project, results, tmp_path):
    """Neither the suite nor any other record of it is here."""
    sent = tmp_path / "sent-to-me.json"
    shutil.copy(record_of(results), sent)
    shutil.rmtree(results)
    (project.root / "suites/small.yaml").unlink()
    answer = project("replay", sent, "--format", "json")
    found = json.loads(answer.out)
    assert answer.code == 0
    assert found["identical"]
    assert [m["spread"] for m in found["metrics"]] == [None, None]
    assert not results.exists()


def test_a_failed_run_is_replayed_too(project):
    project.suite({"methods": {"wide": {"model": "toy", "params": {"spoil": "raise"}}}})
    assert project.run("small", "--seeds", "1", "-q").code == 1
    found = json.loads(project("replay", "wide--", "--format", "json").out)
    assert found["status"] == ["failed", "failed"]
    assert found["identical"]


def test_the_thread_count_is_the_records(project, results, monkeypatch):
    seen = []
    perform = module.perform
    monkeypatch.setattr(
        module, "perform", lambda spec, settings, tell: seen.append(settings) or perform(spec, settings)
    )
    edit(record_of(results), lambda d: d["provenance"].update(threads=2), reseal=True)
    assert project("replay", "wide--line--cpu--s0").code == 0
    assert seen[0].threads == 2
    assert not seen[0].results.exists(), "what it wrote is gone"
    assert seen[0].wandb == "disabled"


def test_drift_against_the_spread_over_seeds(project, results):
    values = [
        json.loads(record_of(results, f"wide--line--cpu--s{s}").read_text())["metrics"][0]["value"] for s in (0, 1)
    ]
    spread = abs(values[0] - values[1]) / 2**0.5
    path = record_of(results)
    whole = path.read_bytes()
    answer = project("replay", path)
    assert answer.code == 0
    drift(path, 1e-9)
    found = json.loads(project("replay", path, "--format", "json").out)
    assert found["held"]
    assert not found["identical"]
    assert found["metrics"][0]["word"] == "within spread"
    answer = project("replay", path)
    assert answer.code == 0
    assert "other bits, within the spread over seeds" in answer.out
    path.write_bytes(whole)
    drift(path, 100 * (spread + 1))
    shutil.rmtree(record_of(results, "wide--line--cpu--s1").parent)  # with one seed there is no spread to hide in
    answer = project("replay", path)
    assert answer.code == 1
    assert "drifted" in answer.out
    assert "it does not come out again" in answer.out


def test_a_value_that_is_not_there_any_more(project, results):
    edit(record_of(results), lambda d: d["metrics"][0].update(value=None, failure="none"), reseal=True)
    answer = project("replay", "wide--line--cpu--s0", "--format", "json")
    assert answer.code == 1
    assert json.loads(answer.out)["metrics"][0]["word"] == "missing"


def test_other_weights_are_no_identical_run(project, results):
    edit(record_of(results), lambda d: d["files"].update({"weights.safetensors": "0" * 64}), reseal=True)
    answer = project("replay", "wide--line--cpu--s0")
    assert "weights with other bits" in answer.out
    assert not answer.out.startswith("identical bits")
    assert answer.code == 0, "every number held"


REFUSED = {
    "an edited specification": (lambda d: d["spec"]["params"].update(spread=3.0), "does not hash"),
    "an unknown model": (lambda d: d["spec"].update(model="os:system"), "no registered model"),
    "an unknown metric": (lambda d: d["spec"]["metrics"][0].update(name="system"), "no registered metric"),
    "an axis that climbs": (lambda d: d["spec"].update(axes={"/../../../../x": 1}), "axes"),
    "a suite that climbs": (lambda d: d.update(suite="../../x"), "suite"),
    "a suite that is an option": (lambda d: d.update(suite="--force"), "suite"),
    "a method that climbs": (lambda d: d.update(method="../x"), "method"),
    "a dataset that is a path": (lambda d: d.update(dataset="/etc/passwd"), "dataset"),
    "a seed beyond all": (lambda d: d.update(seed=10**300), "seed"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_run_at_all(project, results, case):
    change, words = REFUSED[case]
    edit(record_of(results), change, reseal=True)
    answer = project("replay", record_of(results))
    assert answer.code == 2
    assert words in answer.errors[0]


def test_finding_a_record(project, results):
    path, record = find_record("wide--line--cpu--s1")
    assert path.parent.name == record.run_id
    assert find_record(str(path.parent))[1] == find_record(str(path))[1] == record
    assert find_record(record.run_id)[1] == record
    with pytest.raises(UserError, match="fits 2 runs"):
        find_record("wide--")
    with pytest.raises(UserError, match="no record 'absent'"):
        find_record("absent")
    for odd in ("../" * 9, "x" * 9000, "a\0b", "*", "[", ""):
        with pytest.raises(UserError):
            find_record(odd)


def test_of_several_records_of_a_run_the_one_that_counts_is_found(project, results):
    path, record = find_record("wide--line--cpu--s1")
    made_up = [
        write_made_up(spec, {"nll": 1.0}, code=code, ended=ended)
        for spec in project.plan("cpu", seeds=[1], methods=["wide"])
        for code, ended in (("0" * 64, "2031-01-01T00:00:00+00:00"), ("1" * 64, "2030-01-01T00:00:00+00:00"))
    ]
    assert len({p.parent.name for p in (path, *made_up)}) == 3
    assert find_record("wide--line--cpu--s1")[1] == record, "the others are newer, and of other code"
    assert find_record("small/wide--line--cpu--s1")[0] == path
    (project.root / "suites/small.yaml").unlink()
    assert find_record("wide--line--cpu--s1")[0] == made_up[0], "no suite says which counts: the newest"


def test_runs_of_several_suites_are_named_with_their_suite(project, results):
    other = project.load(name="other")
    path = write_made_up(plan(other, "cpu", methods=["wide"], seeds=[1])[0], {"nll": 1.0})
    with pytest.raises(UserError, match=r"fits 2 runs \(give more of the name: other/wide--line--cpu--s1, small/wide"):
        find_record("wide--line--cpu--s1")
    assert find_record("other/wide--line--cpu--s1")[0] == path


def test_a_revision_that_is_none(project, results):
    for odd in ("0" * 40, "HEAD", "--output=/tmp/x", "main", "$(id)", "f" * 39, "g" * 40):
        edit(record_of(results), lambda d, odd=odd: d["provenance"].update(git_revision=odd), reseal=True)
        edit(record_of(results), lambda d: d["hashes"].update(code="0" * 64), reseal=True)
        found = json.loads(project("replay", record_of(results), "--format", "json").out)
        assert found["code"] == "other code"
        assert found["identical"], "the code is in truth the same"


def git(folder, *args):
    named = ("-c", "user.name=nobody", "-c", "user.email=nobody@example.org", "-c", "commit.gpgsign=false")
    return subprocess.run(("git", *named, *args), cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def clone(project, tmp_path, monkeypatch):
    """A clone of latentbench whose only commit has another training loop than the code at hand."""
    tree = tmp_path / "clone"
    shutil.copytree(REPOSITORY / "benchmarks", tree / "benchmarks", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(REPOSITORY / "suites", tree / "suites", ignore=lambda d, n: [x for x in n if x != "papers.yaml"])
    project.suite()
    shutil.copy(project.root / "suites/small.yaml", tree / "suites")
    optim = tree / "benchmarks/latentbench/training/optim.py"
    optim.write_text(optim.read_text().replace("    params = list(params)\n", "    params = [*params]\n"))
    git(tree, "init", "--quiet", "--initial-branch=main")
    git(tree, "add", ".")
    git(tree, "commit", "--quiet", "-m", "another loop")
    monkeypatch.setattr(revision, "CHECKOUT", tree)
    return tree


def test_the_code_of_a_revision(project, clone):
    """A record made by the code of a commit is replayed by that code, in a work tree that is gone afterwards."""
    env = os.environ | {"LATENTBENCH_ROOT": str(clone), "PYTHONPATH": f"{clone}/benchmarks{os.pathsep}{TOYS}"}
    command = [
        sys.executable,
        "-m",
        "latentbench",
        "run",
        "small",
        "--seeds=4,",
        "--method=wide",
        "--wandb=disabled",
        "-q",
    ]
    subprocess.run([*command, "--jobs=1"], cwd=clone, env=env, check=True, capture_output=True)
    path = record_of(project.results, "wide--line--cpu--s4")
    record = read_record(path)
    assert record.provenance.git_revision == git(clone, "rev-parse", "HEAD")
    assert record.hashes["engine"] != engine_hash()
    answer = project("replay", path, "--format", "json")
    found = json.loads(answer.out)
    assert answer.code == 0
    assert found["code"] == "the code of its revision"
    assert found["identical"]
    assert git(clone, "worktree", "list").count("\n") == 0
    today = json.loads(project("replay", path, "--today", "--format", "json").out)
    assert today["code"] == "other code"
    assert today["identical"], "the change is one of words only"


def test_a_commit_of_a_stranger_is_not_run(clone):
    """It is stored, as after fetching a fork, whose tags git puts among one's own, and may have a branch to look at."""
    main = git(clone, "rev-parse", "HEAD")
    git(clone, "commit", "--quiet", "--allow-empty", "-m", "evil")
    stranger = git(clone, "rev-parse", "HEAD")
    git(clone, "update-ref", "refs/remotes/fork/evil", stranger)
    assert revision.is_ours(stranger)
    git(clone, "reset", "--quiet", "--hard", main)
    assert revision.is_ours(main)
    assert git(clone, "cat-file", "-t", stranger) == "commit"
    for ref in ("refs/tags/nice-feature", "refs/heads/review"):
        git(clone, "update-ref", ref, stranger)
    assert revision.is_stored(stranger)
    assert not revision.is_ours(stranger)


@pytest.fixture
def evil(project, clone, results):
    """A record that names a commit of a stranger's, whose code leaves a file behind when it is imported."""
    main, trace = git(clone, "rev-parse", "HEAD"), project.root / "ran"
    module = clone / "benchmarks/latentbench/__init__.py"
    module.write_text(f"{module.read_text()}\nopen({str(trace)!r}, 'w').close()\n")
    git(clone, "commit", "--quiet", "--all", "-m", "evil")
    named = git(clone, "rev-parse", "HEAD")
    git(clone, "tag", "nice-feature")
    git(clone, "reset", "--quiet", "--hard", main)
    path = record_of(results)
    edit(path, lambda d: (d["provenance"].update(git_revision=named), d["hashes"].update(code="0" * 64)), reseal=True)
    return path, trace


def test_the_code_of_a_fork_runs_only_where_the_user_says_so(project, evil):
    path, trace = evil
    answer = project("replay", path, "--format", "json")
    assert not trace.exists()
    assert json.loads(answer.out)["code"] == "other code"
    assert "--trust-revision" in answer.err
    found = json.loads(project("replay", path, "--trust-revision", "--format", "json").out)
    assert found["code"] == "the code of its revision"
    assert trace.exists()
    assert any("not the one that made it" in note for note in found["notes"])


def test_code_that_did_not_make_the_record_is_not_run(project, clone, evil):
    """The commit is in one's own history, and its hash says before anything runs that it is not the record's code."""
    path, trace = evil
    git(clone, "merge", "--quiet", "nice-feature")
    answer = project("replay", path, "--format", "json")
    assert not trace.exists()
    assert json.loads(answer.out)["code"] == "other code"
    assert "is not run" in answer.err


def test_a_record_that_names_many_devices_or_threads(project, results, monkeypatch):
    """The form bounds both; what a form admits, and this machine has not, is taken in turn."""
    path = record_of(results)
    whole = path.read_bytes()
    for key, most in (("devices", 256), ("threads", 4096), ("stacked", 4096)):
        edit(path, lambda d, key=key, most=most: d["provenance"].update({key: most + 1}))
        answer = project("replay", path)
        assert answer.code == 2
        assert f"provenance.{key}" in answer.errors[0]
        path.write_bytes(whole)
    seen = []
    perform = module.perform
    monkeypatch.setattr(
        module, "perform", lambda spec, settings, tell: seen.append(settings) or perform(spec, settings, tell)
    )
    began = set(multiprocessing.active_children())
    monkeypatch.setattr(multiprocessing.get_context("spawn").Process, "start", None)
    edit(path, lambda d: d["provenance"].update(devices=256, threads=4096), reseal=True)
    assert project("replay", path).code == 0
    assert seen[0].threads == max(256, os.cpu_count() or 1)
    assert set(multiprocessing.active_children()) == began


def test_a_contradiction_in_itself_is_told(project, results):
    path = record_of(results)
    edit(path, lambda d: d["hashes"].update(spec="0" * 64))
    record = read_record(path)
    with pytest.raises(UserError, match="does not hash to what it says"):
        replay(rebuild(record, path), record, device="cpu")
