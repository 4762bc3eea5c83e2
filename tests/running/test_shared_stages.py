"""Stages that are runs of their own: trained once for all that name them, whoever comes first, and known by hash."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from latentbench.core.errors import UserError
from latentbench.data.dataset import open_dataset
from safetensors.torch import load_file

from tests.project import Project

FIRST = {"name": "first", "method": "narrow"}
CHANGES: dict[str, Any] = {
    "methods": {
        "narrow": {"model": "toy", "params": {"spread": 0.5, "pause": 0.002}},
        "onward": {"model": "toy", "training": {"in_stages": [dict(FIRST), {"name": "rest", "epochs": 1}]}},
        "further": {"model": "toy", "training": {"in_stages": [dict(FIRST), {"name": "rest", "epochs": 2}]}},
    },
    "metrics": {"nll": {}},
    "tiers": {"cpu": {"seeds": 1}},
    "claims": [],
}


def stage_folders(project: Project) -> list[Path]:
    return sorted((project.results / "stages").iterdir())


def test_two_methods_share_a_stage_that_is_trained_once(project):
    project.suite(CHANGES)
    assert project.run("small").code == 0
    records = {r.method: r for r in project.records().values()}
    [folder] = stage_folders(project)
    [file] = folder.glob("weights/*.safetensors")
    for method in ("onward", "further"):
        [stage] = records[method].provenance.stages
        assert (stage.name, stage.fingerprint, stage.steps) == ("first", folder.name, 9)
        assert stage.seconds > 9 * 0.002
    assert records["narrow"].provenance.stages == []
    assert "stages" not in records["narrow"].provenance.model_dump(), "seals of older records hold"
    assert [records[m].cost.steps for m in ("narrow", "onward", "further")] == [9, 3, 6]
    assert records["onward"].cost.training_seconds < records["narrow"].cost.training_seconds, "its own time alone"
    run = project.results / "runs/small" / records["narrow"].run_id
    alone, shared = load_file(run / "weights.safetensors"), load_file(file)
    assert all(any(bool((value == kept).all()) for kept in shared.values()) for value in alone.values())
    assert not (folder / "checkpoint").exists()


def test_a_second_sweep_takes_what_is_there(project):
    project.suite({**CHANGES, "tiers.cpu": {"seeds": 1, "methods": ["onward"]}})
    assert project.run("small").code == 0
    [file] = stage_folders(project)[0].glob("weights/*.safetensors")
    before = file.stat().st_mtime_ns
    project.suite({**CHANGES, "tiers.cpu": {"seeds": 1, "methods": ["further"]}})
    assert project.run("small").code == 0
    assert file.stat().st_mtime_ns == before


def test_a_damaged_product_is_made_again_to_the_same_bits(project):
    project.suite({**CHANGES, "tiers.cpu": {"seeds": 1, "methods": ["onward"]}})
    assert project.run("small").code == 0
    [record] = project.records().values()
    [file] = stage_folders(project)[0].glob("weights/*.safetensors")
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    assert project.run("small", "--force").code == 0
    [again] = project.records().values()
    assert again.metrics == record.metrics
    assert again.files["weights.safetensors"] == record.files["weights.safetensors"]
    assert any("its hash differs" in fault for fault in again.provenance.faults)


def test_what_determines_a_stage_is_in_its_fingerprint_and_nothing_else(project):
    def stage(changes: dict[str, Any], method: str = "onward") -> str:
        runs = project.plan("cpu", {**CHANGES, **changes})
        run = next(r for r in runs if r.method == method)
        from latentbench.spec.protocol import Training

        [first, _] = Training.model_validate(run.training).in_stages
        return run.of_stage(first).fingerprint(open_dataset("line").content_hash)

    usual = stage({})
    assert stage({}, "further") == usual
    assert stage({"tiers.cpu.limit": {"test": 20}}) == usual
    assert stage({"metrics": {"bits_per_dim": {}}}) == usual
    assert stage({"methods.onward.params": {"spread": 2.0}}) == usual
    changed = [
        {"methods.narrow.params.spread": 0.6},
        {"training.epochs": 4},
        {"tiers.cpu.limit": {"train": 100}},
        {"datasets.line.preprocess": []},
        {"tiers.cpu.seeds": [1]},
        {"methods.narrow.training": {"optimizer": {"lr": 0.01}}},
    ]
    found = [stage(change) for change in changed]
    assert len({usual, *found}) == len(changed) + 1
    fixed = {"methods.onward.training.in_stages": [{**FIRST, "seed": 0}, {"name": "rest", "epochs": 1}]}
    assert stage({**fixed, "tiers.cpu.seeds": [1]}) == usual, "one product for all seeds"


def test_a_tier_changes_a_stage_by_its_name(project):
    tier = {"seeds": 1, "training": {"in_stages": {"rest": {"steps": 2}}}, "methods": ["onward"]}
    [run] = project.plan("cpu", {**CHANGES, "tiers.cpu": tier})
    first, rest = run.training["in_stages"]
    assert (first["model"], first["params"], first["epochs"]) == ("toy", {"spread": 0.5, "pause": 0.002}, 3)
    assert (rest["steps"], rest["epochs"], rest["batch_size"], rest["optimizer"]["lr"]) == (2, None, 40, 0.05)


def test_a_tier_changes_a_stage_of_the_whole_suite_by_its_name(project):
    whole = [{"name": "start", "epochs": 3}, {"name": "rest", "epochs": 1}]
    tier = {"seeds": 1, "training": {"in_stages": {"rest": {"steps": 2}}}}
    tier["overrides"] = [{"training": {"in_stages": {"start": {"epochs": 2}}}}]
    changes = {"training.in_stages": whole, "methods": {"plain": {"model": "toy"}}, "claims": None, "tiers.cpu": tier}
    [run] = project.plan("cpu", changes)
    first, rest = run.training["in_stages"]
    assert (first["name"], first["epochs"], rest["steps"], rest["epochs"]) == ("start", 2, 2, None)
    for method in project.plan("cpu", {"tiers.cpu.training.in_stages": {"start": {"epochs": 2}}}):
        assert method.training["in_stages"] == [], "changes of stages that a method has none of"


@pytest.mark.parametrize(
    ("stages", "said"),
    [
        ([{"name": "first", "method": "nobody"}, {"name": "rest"}], "no method 'nobody'"),
        ([{"name": "first", "method": "onward"}, {"name": "rest"}], "stages of its own"),
        ([{"name": "first", "method": "narrow", "epochs": 2}, {"name": "rest"}], "no `epochs` of its own"),
        ([{"name": "rest"}, FIRST], "the last stage"),
        ([{"name": "rest"}, {"name": "rest"}], "two stages of one name"),
    ],
)
def test_a_stage_that_cannot_be_is_refused_with_its_place(project, stages, said):
    with pytest.raises(UserError, match=said) as refused:
        project.plan("cpu", {**CHANGES, "methods.further.training.in_stages": stages})
    assert "small.yaml" in refused.value.where


def test_killed_while_a_shared_stage_trains(project, monkeypatch):
    """Asked to stop after each step, it goes on within the stage, and ends as when it is left alone."""
    from latentbench.running.checkpoints import Checkpoints

    project.suite({**CHANGES, "tiers.cpu": {"seeds": 1, "methods": ["onward"]}})
    assert project.run("small").code == 0
    [expected] = project.records().values()
    monkeypatch.setenv("LATENTBENCH_RESULTS", str(project.root / "again"))
    stops = iter([3, 8, 13])
    asked = {"after": next(stops), "seen": 0}
    due = Checkpoints.due

    def stop_now(self: Checkpoints, *, final: bool = False) -> bool:
        asked["seen"] += not final
        if asked["seen"] == asked["after"] and not final:
            asked["after"] = next(stops, 10**9)
            self._stopping = lambda: True
        return due(self, final=final)

    monkeypatch.setattr(Checkpoints, "due", stop_now)
    codes = [project.run("small").code for _ in range(3)]
    assert codes[0] != 0
    assert codes[-1] == 0
    [record] = project.records().values()
    assert record.metrics == expected.metrics
    assert record.files["weights.safetensors"] == expected.files["weights.safetensors"]
    assert record.provenance.stages[0].fingerprint == expected.provenance.stages[0].fingerprint
