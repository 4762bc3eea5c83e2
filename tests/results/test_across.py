"""Leaderboards over all suites: what was measured alike, and what keeps the rest apart."""

from __future__ import annotations

import json

import pytest
from latentbench.planning.plan import plan
from latentbench.results.across import apart, boards
from latentbench.results.filters import is_of
from latentbench.results.gather import gather
from latentbench.results.leaderboard import leaderboard

from tests.project import write_made_up


def fill(project, name, values, identity="a" * 12, changes=None):
    loaded = project.load(changes, name=name)
    for method, numbers in values.items():
        for spec, number in zip(plan(loaded, "cpu", methods=[method], seeds=range(len(numbers))), numbers):
            write_made_up(spec, {"nll": number}, identity=identity)
    gathered = gather(loaded, "cpu")
    return gathered, leaderboard(gathered)


def test_one_table_for_what_was_measured_alike(project):
    elsewhere = {"datasets": {"rows": {"source": "line", "protocol": "all"}}, "metrics": {"nll": {}}}
    found = [
        fill(project, "one", {"wide": [3.0, 3.1, 3.05], "narrow": [1.0, 1.1, 1.05]}),
        fill(project, "two", {"wide": [2.0, 2.1, 2.05]}, changes=elsewhere),
        fill(project, "three", {"wide": [0.1, 0.2, 0.15]}, identity="b" * 12),
    ]
    first, second = boards(found)
    assert [(r.suite, r.method) for r in first.rows] == [("one", "narrow"), ("two", "wide"), ("one", "wide")]
    assert [r.mark for r in first.rows] == ["best", "", ""], "marked over all suites"
    assert first.suites == ["one", "two"]
    assert [r.suite for r in second.rows] == ["three"], "never ranked with the others"
    assert first.measure.source == "line"
    assert first.measure.likelihood == "exact"


def test_marks_pair_no_seeds_of_different_suites(project):
    """Paired, these would differ clearly; a seed of one suite says nothing of another's."""
    values = [1.0, 5.0, 9.0]
    found = [fill(project, "one", {"wide": values}), fill(project, "two", {"wide": [v + 0.1 for v in values]})]
    (board,) = boards(found)
    assert [r.mark for r in board.rows] == ["tied", "tied"]


def test_what_keeps_tables_apart(project):
    limited = {"tiers.cpu.limit": {"test": 20}}
    found = [
        fill(project, "one", {"wide": [1.0, 1.1]}),
        fill(project, "two", {"wide": [1.0, 1.1]}, identity="b" * 12, changes=limited),
    ]
    said = apart(boards(found))
    assert list(said) == ["test rows"]
    assert set(said["test rows"]) == {"test", "first 20 of test"}


def test_a_dataset_by_any_name():
    assert is_of("mnist", "digits-of-mine", "mnist")
    assert is_of("MNIST", "mnist-static", "mnist-static")
    assert is_of("digits-of-mine", "digits-of-mine", "mnist")
    assert not is_of("mnist", "fashion-mnist", "fashion-mnist")
    assert not is_of("mnist", "other", "mnistic")


def test_the_command(project):
    fill(project, "one", {"wide": [3.0, 3.1, 3.05], "narrow": [1.0, 1.1, 1.05]})
    fill(project, "two", {"wide": [2.0, 2.1, 2.05]})
    out = project("leaderboard", "--dataset", "LINE").out
    assert "nll on line [exact], nats, lower is better" in out
    assert out.index("one (cpu)") < out.index("two (cpu)")
    assert "† from a shortened protocol" in out
    only_one = project("leaderboard", "one", "two", "--metric", "bits_per_dim").out
    assert "suite one" not in only_one, "nothing is said of suites that the filter empties"
    assert "no record fits --metric bits_per_dim" in only_one
    rows = json.loads(project("leaderboard", "--dataset", "line", "--format", "json").out)
    assert {r["suite"] for r in rows} == {"one", "two"}
    assert all(r["source"] == "line" and r["seconds"] == pytest.approx(1.0) for r in rows)
