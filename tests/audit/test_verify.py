"""`latentbench verify`: a sound folder passes, and each way of tampering with one is named."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace

import pytest
from latentbench.audit.verify import verify
from latentbench.core.bounds import ARTEFACT_BYTES, OBJECT_BYTES
from latentbench.data.dataset import open_dataset
from latentbench.records.below import records_below
from latentbench.records.declared import declare, declared_path
from latentbench.records.design import Declared
from latentbench.spec import registry

from tests.trust.tampering import edit, record_of, rename, run_folder


@pytest.fixture
def results(project, tmp_path_factory):
    return run_folder(project, tmp_path_factory.mktemp("kept"))


def faults(results):
    return {c.path.parent.name: c.faults for c in verify(results) if c.faults}


def the_fault(results):
    found = faults(results)
    assert len(found) == 1
    return "; ".join(next(iter(found.values())))


def test_a_sound_folder(project, results):
    answer = project("verify", results)
    assert answer.code == 0
    assert answer.out.startswith("4 records, 0 with faults; ")
    assert faults(results) == {}


def test_the_default_is_ones_own_results(project, results):
    assert project("verify").out.startswith("4 records, 0 with faults; ")


def test_stored_weights_give_the_numbers_again(project, results):
    answer = project("verify", results, "--sample", "all", "--format", "json")
    found = json.loads(answer.out)
    assert answer.code == 0
    assert all(not c["faults"] for c in found)
    wide = [c for c in found if "wide" in c["run_id"]]
    assert [c["evaluated"] for c in wide] == [["nll", "bits_per_dim"]] * 2
    said = project("verify", results, "--sample", "1").out
    assert "the numbers of 1 were evaluated again from their weights, those of the others were not" in said


def test_declarations_of_looks_are_checked_too(project, results):
    made = Declared(
        suite="small",
        version=3,
        tier="cpu",
        declared="2026-01-01T00:00:00+00:00",
        seeds=[0, 1],
        first=2,
        cap=4,
        there=0,
    )
    declare(made, results)
    answer = project("verify", results)
    assert answer.code == 0
    assert answer.out.startswith("4 records and 1 declaration of interim analyses, 0 with faults; ")
    path = declared_path("small", "cpu", results)
    sound = path.read_text()
    path.write_text(sound.replace('"cap": 4', '"cap": 5'))
    answer = project("verify", results)
    assert answer.code == 1
    assert answer.out.splitlines()[-1].startswith("4 records and 1 declaration of interim analyses, 1 with faults; ")
    assert "small-cpu.json: its seal is broken" in answer.out
    assert project("verify", path).code == 1
    found = [c for c in json.loads(project("verify", results, "--format", "json").out) if c["kind"] == "declaration"]
    assert [bool(c["faults"]) for c in found] == [True]
    path.rename(path.with_name("other-cpu.json")).write_text(sound)
    assert "another suite or tier than its name says" in project("verify", results).out


def value(data, by=1.0):
    data["metrics"][0]["value"] += by


TAMPERED = {
    "an edited value": (lambda d: value(d), False, "seal is broken"),
    "an edited specification": (lambda d: d["spec"]["params"].update(spread=3.0), True, "does not hash to hashes.spec"),
    "an edited hash of the specification": (lambda d: d["hashes"].update(spec="0" * 64), True, "does not hash"),
    "an edited hash of the data": (lambda d: d["hashes"].update(data="0" * 64), True, "its fingerprint"),
    "an edited hash of the code": (lambda d: d["hashes"].update(code="0" * 64), True, "its fingerprint"),
    "another name": (lambda d: d.update(run_id="wide--line--cpu--s0--0123456789"), True, "run_id is not"),
    "another method": (lambda d: d.update(method="narrow"), True, "run_id is not"),
    "another seed": (lambda d: d.update(seed=5), True, "its seed is 5 in one place and 0 in another"),
    "another unit": (lambda d: d["metrics"][0].update(unit="bits"), True, "unit or direction"),
    "another direction": (lambda d: d["metrics"][0].update(better="higher"), True, "unit or direction"),
    "another metric": (lambda d: d["metrics"][0].update(metric="nll_iw"), True, "unit or direction"),
    "no such metric": (lambda d: d["metrics"][0].update(metric="no-such"), True, "unit or direction"),
    "another kind of likelihood": (lambda d: d["metrics"][0].update(likelihood="bound"), True, "kind 'bound'"),
    "a foreign identity": (lambda d: d["metrics"][0].update(identity="a" * 12), True, "its identity is not"),
    "a negative error": (lambda d: d["metrics"][0].update(se=-1.0), True, "negative standard error"),
    "a value too few": (lambda d: d["metrics"].pop(), True, "not those asked for"),
    "a value from nowhere": (lambda d: d.update(status="failed"), True, "a value from a run that is failed"),
    "neither value nor failure": (lambda d: d["metrics"][0].update(value=None), True, "neither a value nor"),
    "more training than time": (lambda d: d["cost"].update(training_seconds=1e6), True, "longer than the whole run"),
    "a file outside": (lambda d: d["files"].update({"../x": "0" * 64}), True, "outside its folder: '../x'"),
    "an absolute file": (lambda d: d["files"].update({"/etc/passwd": "0" * 64}), True, "outside its folder"),
    "a file on C:": (lambda d: d["files"].update({"C:\\x": "0" * 64}), True, "outside its folder"),
    "a file of no name": (lambda d: d["files"].update({"": "0" * 64}), True, "outside its folder"),
    "a file with a NUL": (lambda d: d["files"].update({"a\0b": "0" * 64}), True, "outside its folder"),
    "a file of a long name": (lambda d: d["files"].update({"x" * 5000: "0" * 64}), True, "outside its folder"),
    "a curve elsewhere": (lambda d: d.update(curve="../../curve.csv"), True, "learning curve has another name"),
    "an unknown model": (lambda d: d["spec"].update(model="os:system"), True, "no registered model is 'os:system'"),
    "an unknown asked metric": (lambda d: d["spec"]["metrics"][0].update(name="x"), True, "no registered metric 'x'"),
    "an unknown dataset": (lambda d: d["spec"]["data"].update(source="../etc"), True, "no dataset '../etc'"),
    "an axis that climbs": (lambda d: d["spec"].update(axes={"/../../x": 1}), True, "axes"),
    "a suite that is an option": (lambda d: d.update(suite="--trust"), True, "suite"),
    "no training": (lambda d: d["spec"]["training"].update(epochs="many"), True, "cannot be read"),
    "strange preprocessing": (lambda d: d["spec"]["data"].update(preprocess=[{"logit": 7}]), True, ""),
    "preprocessing of nothing": (lambda d: d["spec"]["data"].update(preprocess=[{}]), True, ""),
}


@pytest.mark.parametrize("case", TAMPERED)
def test_tampering_is_named(results, case):
    change, reseal, words = TAMPERED[case]
    edit(record_of(results), change, reseal=reseal)
    assert words in the_fault(results)


def test_exit_code_and_lines_of_a_tampered_folder(project, results):
    edit(record_of(results), value)
    answer = project("verify", results)
    assert answer.code == 1
    line, *_, count = answer.out.splitlines()
    assert "wide--line--cpu--s0" in line
    assert "its seal is broken" in line
    assert count.startswith("4 records, 1 with faults; ")
    found = json.loads(project("verify", results, "--format", "json").out)
    assert [bool(c["faults"]) for c in found].count(True) == 1


def test_a_number_edited_and_sealed_anew_is_found_by_its_weights(project, results):
    edit(record_of(results), lambda d: value(d, by=0.01), reseal=True)
    blind = project("verify", results, "--sample", "0")
    assert blind.code == 0, "hashes alone cannot tell"
    assert "no number was evaluated again from weights, so an edit that was sealed anew would not show" in blind.out
    assert "of 4: its numbers were not evaluated again: it is not in the sample" in blind.err
    by_default = project("verify", results)
    assert by_default.code == 1, "there are no more weights than are sampled unasked"
    assert "from its weights" in by_default.out
    answer = project("verify", results, "--sample", "all")
    assert answer.code == 1
    assert "nll: " in answer.out
    assert "from its weights" in answer.out


def test_edited_weights(results):
    weights = record_of(results).with_name("weights.safetensors")
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert "weights.safetensors does not hash" in the_fault(results)


def test_the_weights_of_another_run(results):
    mine, other = record_of(results), record_of(results, "wide--line--cpu--s1")
    shutil.copy(other.with_name("weights.safetensors"), mine.with_name("weights.safetensors"))
    assert "does not hash" in the_fault(results)
    theirs = json.loads(other.read_text())["files"]
    edit(mine, lambda d: d.update(files=theirs | {"curve.csv": d["files"]["curve.csv"]}), reseal=True)
    assert faults(results) == {}, "hashes alone cannot tell"
    found = {c.run_id: c.faults for c in verify(results, sample=-1) if c.faults}
    assert len(found) == 1
    assert "from its weights" in next(iter(found.values()))[0]


def test_weights_of_another_model(results):
    mine, other = record_of(results), record_of(results, "floor--line--cpu--s0")
    shutil.copy(other.with_name("weights.safetensors"), mine.with_name("weights.safetensors"))
    assert any("cannot be evaluated" in f for c in verify(results, sample=-1) for f in c.faults)


def test_a_renamed_folder(results):
    folder = record_of(results).parent
    folder.rename(folder.with_name("wide--line--cpu--s7--0123456789"))
    assert "it lies under another name" in the_fault(results)


def test_one_run_passed_off_as_another_seed(results):
    """All hashes mended: what remains is that two seeds agree in every bit."""
    mine, other = record_of(results, "wide--line--cpu--s1"), record_of(results)
    theirs = json.loads(other.read_text())
    edit(mine, lambda d: [m.update(value=o["value"]) for m, o in zip(d["metrics"], theirs["metrics"])], reseal=True)
    assert "the same numbers in every bit as seed 0" in the_fault(results)


def test_seeds_that_differ_by_a_rounding_of_zero_are_no_copies(results):
    mine, other = record_of(results, "wide--line--cpu--s1"), record_of(results)
    _, *rest = (o["value"] for o in json.loads(other.read_text())["metrics"])
    assert rest, "two metrics or more"

    def made(zero: float):
        return lambda d: [m.update(value=v) for m, v in zip(d["metrics"], [zero, *rest], strict=True)]

    edit(other, made(1e-17), reseal=True)
    edit(mine, made(2e-17), reseal=True)
    assert faults(results) == {}
    edit(mine, made(1e-17), reseal=True)
    assert "the same numbers in every bit as seed 0" in the_fault(results)


@pytest.mark.parametrize(("value", "copied"), [(5 / 7, False), (137 / 990, False), (137 / 1009 + 1e-6, True)])
def test_seeds_that_agree_in_ratios_of_small_counts_are_no_copies(results, value: float, copied: bool):
    for name in ("wide--line--cpu--s1", "wide--line--cpu--s0"):
        edit(record_of(results, name), lambda d: [m.update(value=value) for m in d["metrics"]], reseal=True)
    assert bool(faults(results)) is copied


def test_one_optimum_from_two_seeds_is_a_remark(results, monkeypatch):
    """Of what is trained without gradients, as k-means is: nothing tells it from a copy."""
    mine, other = record_of(results, "wide--line--cpu--s1"), record_of(results)
    theirs = json.loads(other.read_text())
    edit(mine, lambda d: [m.update(value=o["value"]) for m, o in zip(d["metrics"], theirs["metrics"])], reseal=True)
    entry = registry.find_model("gaussian")
    monkeypatch.setattr("latentbench.audit.verify.find_model", lambda _: replace(entry, can=entry.can | {"Iterative"}))
    assert faults(results) == {}
    [remarks] = [c.remarks for c in verify(results) if any("same numbers" in r for r in c.remarks)]
    assert "the same numbers in every bit as seed 0, from another seed" in remarks


def test_other_code_and_data_are_remarks(results):
    path = record_of(results)
    data = json.loads(path.read_text())
    data["hashes"]["code"] = "1" * 64
    path = rename(path, data)
    [checked] = [c for c in verify(results) if c.path == path]
    assert checked.faults == []
    assert "made by other code than is here" in checked.remarks


def test_links(results, tmp_path):
    weights = record_of(results).with_name("weights.safetensors")
    weights.rename(tmp_path / "elsewhere")
    weights.symlink_to(tmp_path / "elsewhere")
    assert "is a link, or no file" in the_fault(results)
    shutil.copytree(results / "runs", tmp_path / "more")
    (results / "runs" / "linked").symlink_to(tmp_path / "more")
    assert len(list(records_below(results))) == 4, "links to folders are not followed"
    (results / "runs/small/record.json").symlink_to(record_of(results, "wide--line--cpu--s1"))
    assert len(list(records_below(results))) == 4


@pytest.mark.parametrize(
    ("name", "bytes_", "fault"),
    [
        ("curve.csv", ARTEFACT_BYTES + 1, "curve.csv is larger than 64 MiB"),
        ("weights.safetensors", ARTEFACT_BYTES + 1, "weights.safetensors does not hash"),
        ("weights.safetensors", OBJECT_BYTES + 1, "weights.safetensors is larger than 8192 MiB"),
    ],
)
def test_files_are_bounded_as_they_are_in_a_store(results, name, bytes_, fault):
    os.truncate(record_of(results).with_name(name), bytes_)
    assert fault in the_fault(results)


def test_what_is_no_record(results):
    path = record_of(results)
    for content in (b"", b"{", b"[" * 9999, b"\xff\xfe", path.read_bytes()[:-20]):
        path.write_bytes(content)
        assert "not a record" in the_fault(results)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_pipe_keeps_nobody_waiting(results):
    path = record_of(results)
    path.unlink()
    os.mkfifo(path)
    assert "not a regular file" in the_fault(results)


def test_a_folder_deeper_than_any(results):
    folder = results
    for _ in range(60):
        folder = folder / "a"
    folder.mkdir(parents=True)
    shutil.copy(record_of(results), folder / "record.json")
    assert len(list(records_below(results))) == 4


def test_records_that_travel_alone(project, results, tmp_path):
    path = record_of(results)
    alone = tmp_path / f"{path.parent.name}.json"
    shutil.copy(path, alone)
    answer = project("verify", alone)
    assert answer.code == 0
    assert "weights.safetensors is not there" in answer.err


def test_a_folder_without_records(project, tmp_path):
    answer = project("verify", tmp_path / "suites")
    assert answer.code == 2
    assert "no records here" in answer.errors[0]
    assert project("verify", tmp_path / "absent").code == 2


@pytest.mark.parametrize("sample", ["-1", "many", "1.5", ""])
def test_a_sample_of_no_number(project, results, sample):
    answer = project("verify", results, f"--sample={sample}")
    assert answer.code == 2
    assert "--sample" in answer.errors[0]


@pytest.mark.parametrize("same", [{"value": 1.0}, {"value": 4 / 60, "n": 60}, {"value": 7 / 9, "n": 9}])
def test_whole_numbers_and_shares_of_two_seeds_may_agree(results, same):
    """An AUROC of 1 is 1 for every seed, and two seeds may have 4 of 60 rows wrong."""
    for run in ("wide--line--cpu--s0", "wide--line--cpu--s1"):
        edit(record_of(results, run), lambda d: [m.update(same) for m in d["metrics"]], reseal=True)
    assert not any("same numbers" in fault for c in verify(results) for fault in c.faults)


def test_damaged_data_are_named_and_nothing_is_measured_on_them(project, results, own_data, monkeypatch):
    monkeypatch.setattr("latentbench.running.watch._sound", set())
    x = open_dataset("line").split("test")["x"][3].tobytes()
    (file,) = (own_data / "prepared/line/test").glob("*.arrow")
    before, content = file.stat(), bytearray(file.read_bytes())
    content[content.index(x)] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    answer = project("verify", results, "--sample", "all")
    assert answer.code == 1
    assert "prepared/line: dataset line changed on disk: split test, column x" in answer.out
    assert "its data are damaged here" in answer.err
    assert "no number was evaluated again" in answer.out
