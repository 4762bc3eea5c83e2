"""`latentbench run --stack-draws`: runs of differing k side by side, each with the record of its separate run."""

from __future__ import annotations

import pytest
from latentbench.acceleration import stack_training, stacks
from latentbench.acceleration.stackable import draws_of, stackable
from latentbench.core import interrupts
from latentbench.running.settings import Settings
from latentbench.scheduling.task import perform

from tests.acceleration.test_stacks import interrupt_at
from tests.project import Project


def small(objective: str, *ks: int) -> dict:
    params = {"latent_dim": 2, "hidden": [8], "objective": objective, "k": "{k}"}
    return {"model": "vae", "grid": {"k": list(ks)}, "params": params}


VAE = {
    "methods": {
        "vae-k{k}": small("elbo", 1, 2, 3, 4),
        "iwae-k{k}": small("iwae", 1, 4),
        "wide": {"model": "toy"},
    },
    "metrics": {"elbo": {"methods": ["vae-*", "iwae-*"]}, "nll": {"methods": ["wide"]}},
    "training": {"optimizer": {"name": "adam", "lr": 0.005}, "batch_size": 40, "epochs": 3},
}


@pytest.fixture
def settings(project: Project) -> Settings:
    return Settings(project.results)


def do(specs, settings, most=16, *, draws=True):
    """What was done, left and said."""
    done, said = [], []
    left = stacks.run_stacks(
        specs, settings, most, lambda _: None, lambda *one: done.append(one), said.append, draws=draws
    )
    return done, left, said


def names(groups):
    return [[f"{r.method}.{r.seed}" for r in group] for group in groups]


def test_a_sweep_in_which_nothing_can_be_stacked_says_so(project):
    project.suite(VAE)
    answer = project.run("small", "--method", "vae-k1", "--seeds", "1", "--stack", "4", "--quiet")
    assert "nothing is stacked" in answer.err
    assert "nothing is stacked" not in project.run("small", "--method", "vae-k2", "--seeds", "1", "--quiet").err


def test_what_is_put_together(project):
    runs = project.plan("cpu", VAE, methods=["vae-*", "iwae-*"], seeds=[0, 1])
    assert names(stackable(runs, 16, draws=True)) == [
        ["vae-k4.0", "vae-k4.1", "vae-k2.0", "vae-k2.1", "vae-k1.0", "vae-k1.1"],
        ["vae-k3.0", "vae-k3.1"],
        ["iwae-k4.0", "iwae-k4.1", "iwae-k1.0", "iwae-k1.1"],
    ]
    assert names(stackable(runs, 2, draws=True)) == [[f"{m}.0", f"{m}.1"] for m in (
        "vae-k4", "vae-k2", "vae-k1", "vae-k3", "iwae-k4", "iwae-k1",
    )]  # fmt: skip
    assert sorted(names(stackable(runs, 16))) == sorted(
        [f"{m}.0", f"{m}.1"] for m in ("vae-k1", "vae-k2", "vae-k3", "vae-k4", "iwae-k1", "iwae-k4")
    )


def test_numbers_that_do_not_divide_are_no_stack(project):
    runs = project.plan("cpu", VAE, methods=["vae-k3", "vae-k4"], seeds=[0])
    assert stackable(runs, 16, draws=True) == []


def test_draws_of_a_run(project):
    runs = {r.method: draws_of(r) for r in project.plan("cpu", VAE, seeds=[0])}
    assert runs == {"vae-k1": 1, "vae-k2": 2, "vae-k3": 3, "vae-k4": 4, "iwae-k1": 1, "iwae-k4": 4, "wide": 1}


def test_records_are_those_of_separate_runs(project, settings, tmp_path):
    runs = project.plan("cpu", VAE, methods=["iwae-*"], seeds=[0, 1])
    done, left, said = do(runs, settings)
    assert (len(done), left, said) == (4, [], [])
    for spec, record, cached in done:
        assert not cached
        alone, _ = perform(spec, Settings(tmp_path / "alone"))
        assert (record.run_id, record.fingerprint, record.hashes) == (alone.run_id, alone.fingerprint, alone.hashes)
        assert (record.status, record.provenance.stacked) == ("finished", 4)
        assert [m.identity for m in record.metrics] == [m.identity for m in alone.metrics]
        assert [m.value for m in record.metrics] == pytest.approx([m.value for m in alone.metrics], rel=1e-4)
        assert record.cost.steps == alone.cost.steps
    assert len({record.fingerprint for _, record, _ in done}) == 4


def test_unasked_they_are_not_stacked(project, settings):
    runs = project.plan("cpu", VAE, methods=["iwae-*"], seeds=[0])
    assert do(runs, settings, draws=False)[:2] == ([], runs)


def test_what_repeated_draws_would_change_runs_alone_and_says_so(project, settings, monkeypatch):
    from latentbench.models.vae import HierarchicalVAE

    right = HierarchicalVAE.loss

    def summed(self, batch, generator):
        return {"loss": self.k * right(self, batch, generator)["loss"]}

    monkeypatch.setattr(HierarchicalVAE, "loss", summed)
    done, left, said = do(project.plan("cpu", VAE, methods=["vae-k1", "vae-k2"], seeds=[0]), settings)
    assert [(r.status, r.provenance.stacked) for _, r, _ in done] == [("finished", 1)] * 2
    assert left == []
    assert len(said) == 1
    assert "not stacked: its loss is" in said[0]


@pytest.mark.parametrize(("first", "then"), [("stacked", "alone"), ("alone", "stacked")])
def test_one_goes_on_where_the_other_stopped(project, settings, tmp_path, first, then):
    runs = project.plan("cpu", VAE, methods=["vae-k1", "vae-k4"], seeds=[0])
    expected = {spec.cell: perform(spec, Settings(tmp_path / "alone"))[0] for spec in runs}
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(patch, 4)
        for spec in runs if first == "alone" else runs[:1]:
            with pytest.raises(KeyboardInterrupt):
                perform(spec, settings) if first == "alone" else do(runs, settings)
            interrupts._asked = False
    if then == "stacked":
        records = {spec.cell: r for spec, r, _ in do(runs, settings)[0]}
    else:
        records = {spec.cell: perform(spec, settings)[0] for spec in runs}
    for cell, record in records.items():
        assert record.provenance.resumed_from == 4
        assert [m.value for m in record.metrics] == pytest.approx([m.value for m in expected[cell].metrics], rel=1e-4)
    assert len(records) == 2


def test_memory_is_counted_for_the_most_draws(project, settings, monkeypatch):
    rows = []
    room = stack_training._room
    monkeypatch.setattr(
        stack_training, "_room", lambda model, data, n, device: rows.append(n) or room(model, data, n, device)
    )
    do(project.plan("cpu", VAE, methods=["vae-k1", "vae-k4"], seeds=[0]), settings)
    assert rows == [4 * 40]


def test_the_command_line_stacks_draws_when_it_is_told(project):
    project.suite(VAE)
    options = ("small", "--method", "iwae-*", "--stack", "8", "--quiet", "--seeds", "2")
    assert project.run(*options).code == 0
    assert {r.provenance.stacked for r in project.records().values()} == {2}
    assert project.run(*options, "--stack-draws", "--force").code == 0
    assert {r.provenance.stacked for r in project.records().values()} == {4}


@pytest.mark.parametrize(
    ("given", "fix"),
    [
        ((), "--stack N"),
        (("--stack", "auto"), "--stack N"),
        (("--stack", "off"), "--stack auto or --stack N"),
        (("--stack", "1"), "--stack auto or --stack N"),
        (("--stack", "4", "--devices", "2"), "--devices"),
        (("--stack", "4", "--executor", "slurm"), "--executor local"),
    ],
)
def test_where_nothing_is_stacked_the_option_is_refused(project, given, fix):
    project.suite(VAE)
    answer = project.run("small", "--stack-draws", *given)
    assert answer.code == 2
    assert "--stack-draws" in answer.errors[0]
    assert fix in answer.errors[0]
    assert not (project.results / "runs").exists()
