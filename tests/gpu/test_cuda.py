"""Runs on a CUDA device: every shipped suite's smoke tier, and agreement with the CPU where nothing is random."""

from __future__ import annotations

import pytest
import torch
from latentbench.acceleration.stacks import run_stacks
from latentbench.planning.plan import RunSpec, plan
from latentbench.running.settings import Settings
from latentbench.scheduling.task import perform
from latentbench.spec.loading import load_suite

from tests.acceleration.test_stacks_draws import VAE as DRAWS

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")

QUICKSTART = plan(load_suite("quickstart"), "smoke") if torch.cuda.is_available() else []


@pytest.mark.parametrize("spec", QUICKSTART, ids=lambda s: s.cell)
def test_every_run_of_the_quickstart_finishes(spec: RunSpec, tmp_path):
    record, _ = perform(spec, Settings(tmp_path, device="cuda"))
    assert record.status == "finished", record.error
    assert record.provenance.device == "cuda"
    assert (record.cost.peak_memory_bytes or 0) > 0


def test_exact_likelihoods_agree_with_the_cpu(tmp_path):
    (spec,) = plan(load_suite("quickstart"), "smoke", methods=["ppca"], datasets=["linear-gaussian"])
    on_cpu, _ = perform(spec, Settings(tmp_path / "cpu", device="cpu"))
    on_cuda, _ = perform(spec, Settings(tmp_path / "cuda", device="cuda"))
    a, b = on_cpu.value("nll"), on_cuda.value("nll")
    assert a is not None
    assert b is not None
    assert b.value == pytest.approx(a.value, abs=1e-5)


def test_stacked_runs_agree_with_separate_ones(tmp_path):
    runs = plan(load_suite("quickstart"), "smoke", seeds=[0, 1, 2])
    done = []
    left = run_stacks(
        runs, Settings(tmp_path / "stacked", device="cuda"), 16, lambda _: None, lambda *r: done.append(r)
    )
    assert done
    assert len(done) + len(left) == len(runs)
    assert any(record.provenance.stacked == 3 for _, record, _ in done)
    for spec, record, _ in done:
        alone, _ = perform(spec, Settings(tmp_path / "alone", device="cuda"))
        assert record.status == alone.status == "finished"
        assert [m.value for m in record.metrics] == pytest.approx([m.value for m in alone.metrics], rel=1e-2)


@pytest.mark.parametrize("compile", ["on", "graphs"])
def test_compiled_runs_agree_with_those_that_are_not(project, tmp_path, compile):
    (spec,) = project.plan("cpu", DRAWS, methods=["iwae-k4"], seeds=[0])
    alone, _ = perform(spec, Settings(tmp_path / "alone", device="cuda"))
    made, _ = perform(spec, Settings(tmp_path / compile, device="cuda", compile=compile))
    assert made.provenance.faults == []
    assert made.provenance.compiled == {"on": "inductor", "graphs": "graphs"}[compile]
    assert [m.value for m in made.metrics] == pytest.approx([m.value for m in alone.metrics], rel=1e-2)


def test_runs_that_differ_in_draws_agree_with_separate_ones(project, tmp_path):
    runs = project.plan("cpu", DRAWS, methods=["iwae-*", "vae-k[124]"], seeds=[0, 1])
    done, said = [], []
    settings = Settings(project.results, device="cuda")
    run_stacks(runs, settings, 16, lambda _: None, lambda *r: done.append(r), said.append, draws=True)
    assert sorted(r.provenance.stacked for _, r, _ in done) == [4] * 4 + [6] * 6
    assert said == []
    for spec, record, _ in done:
        alone, _ = perform(spec, Settings(tmp_path / "alone", device="cuda"))
        assert [m.value for m in record.metrics] == pytest.approx([m.value for m in alone.metrics], rel=1e-2)
