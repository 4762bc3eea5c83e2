"""What is told of a run that goes on elsewhere."""

from __future__ import annotations

from latentbench.running.observer import ProgressReport
from latentbench.scheduling.sparing import sparing


def test_each_change_is_told_and_little_between():
    told: list[ProgressReport] = []
    report = sparing(told.append, 3600.0)
    every = [
        ProgressReport("a", "data"),
        *(ProgressReport("a", "training", step) for step in range(5)),
        ProgressReport("a", "evaluation"),
        ProgressReport("a", "nll (1 of 1)"),
        ProgressReport("b", "nll (1 of 1)"),
        ProgressReport("b", "training", 1),
        ProgressReport("b", "training", 2),
    ]
    for one in every:
        report(one)
    assert [(one.cell, one.phase, one.step) for one in told] == [
        ("a", "data", 0),
        ("a", "training", 0),
        ("a", "evaluation", 0),
        ("a", "nll (1 of 1)", 0),
        ("b", "nll (1 of 1)", 0),
        ("b", "training", 1),
    ]


def test_within_a_phase_it_is_told_again_after_a_while():
    told: list[int] = []
    report = sparing(lambda what: told.append(what.step), -1.0)
    for step in range(3):
        report(ProgressReport("a", "training", step))
    assert told == [0, 1, 2]
