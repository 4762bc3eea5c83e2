"""`latentbench run --threads --checkpoint-every`, and seeds as a list of one."""

from __future__ import annotations

import pytest
from latentbench.running.settings import CHECKPOINT_SECONDS
from latentbench.scheduling import local


@pytest.fixture
def asked(project, monkeypatch):
    """The settings of each run that is carried out."""
    seen = []
    perform = local.perform
    monkeypatch.setattr(
        local, "perform", lambda s, settings, *a, **k: seen.append(settings) or perform(s, settings, *a, **k)
    )
    project.suite()
    return seen


def test_threads(project, asked):
    assert project.run("small", "--seeds", "1", "--method", "wide", "--threads", "2", "-q").code == 0
    assert [s.threads for s in asked] == [2]
    [record] = project.records().values()
    assert record.provenance.threads == 2


def test_threads_of_its_own_choice(project, asked, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert project.run("small", "--seeds", "1", "--method", "wide", "-q").code == 0
    assert [s.threads for s in asked] == [1]


@pytest.mark.parametrize("given", ["0", "-1", "many", "257"])
def test_threads_that_are_none(project, given):
    project.suite()
    assert project.run("small", f"--threads={given}").code == 2
    assert not (project.results / "runs").exists()


@pytest.mark.parametrize(("given", "seconds"), [(("--checkpoint-every=0.5",), 0.5), ((), CHECKPOINT_SECONDS)])
def test_time_between_checkpoints(project, asked, given, seconds):
    assert project.run("small", "--seeds", "1", "--method", "wide", "-q", *given).code == 0
    assert [s.checkpoint_seconds for s in asked] == [seconds]


@pytest.mark.parametrize("given", ["-1", "often"])
def test_time_between_checkpoints_that_is_none(project, given):
    project.suite()
    assert project.run("small", f"--checkpoint-every={given}").code == 2


@pytest.mark.parametrize(
    ("given", "seeds"),
    [("4,", ["s4"]), ("4,7", ["s4", "s7"]), ("2", ["s0", "s1"]), ("0,", ["s0"]), ("7,4", ["s7", "s4"])],
)
def test_seeds(project, given, seeds):
    project.suite()
    answer = project.run("small", "--method", "wide", f"--seeds={given}", "--dry-run")
    assert [line.rpartition("--")[2] for line in answer.out.splitlines()] == seeds


@pytest.mark.parametrize(("given", "said"), [("30", True), ("29", False), ("30,", False), ("0,1,2,30", False)])
def test_many_seeds_are_what_they_are_and_a_hint_is_given(project, given, said):
    """The tier has three; thirty may be meant as the seed of that name."""
    project.suite()
    answer = project.run("small", "--tier", "cpu", "--method", "wide", f"--seeds={given}", "--dry-run")
    assert len(answer.out.splitlines()) == (int(given) if given.isdigit() else given.rstrip(",").count(",") + 1)
    assert ("the one seed 30 is written `--seeds 30,`" in answer.err) is said
    assert answer.err.count("\n") == said


@pytest.mark.parametrize("given", [",", "4,,", "", "0", "-1", "4,4", "-1,2", "a,", "1.5", "4;5"])
def test_seeds_that_are_none(project, given):
    project.suite()
    answer = project.run("small", f"--seeds={given}", "--dry-run")
    assert answer.code == 2
    assert "--seeds" in answer.errors[0]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (str(2**63), "a seed is at most"),
        ("100000000", "seeds are more than"),
        (f"0,{2**63}", "a seed is at most"),
        (f"{2**64},", "a seed is at most"),
    ],
)
def test_seeds_that_no_reader_of_a_record_can_hold(project, given, words):
    project.suite()
    answer = project.run("small", "--seeds", given)
    assert answer.code == 2
    assert words in answer.err
    assert project.run("small", "--seeds", f"{2**63 - 1},", "--method", "floor", "-q").code == 0
