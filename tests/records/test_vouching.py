"""Records of earlier code for which a run again to the same bits vouches."""

from __future__ import annotations

import pytest
from latentbench.planning.fingerprint import digest
from latentbench.records.archive import collect
from latentbench.records.record import read_record

from tests.project import write_made_up

OLD, OLDER = "e" * 64, "d" * 64


@pytest.fixture
def wide(project):
    return project.plan("cpu", methods=["wide"], seeds=[0, 1, 2])


def earlier(runs, code=OLD):
    for run, value in zip(runs, (1.25, 1.5, 1.75), strict=True):
        write_made_up(run, {"nll": value}, code=code)


def test_one_seed_to_the_same_bits_vouches_for_the_others(project, wide):
    earlier(wide)
    assert sorted(collect(wide).stale_code) == sorted(r.cell for r in wide)
    write_made_up(wide[0], {"nll": 1.25})
    collected = collect(wide)
    assert len(collected.found) == 3
    assert collected.stale_code == []
    assert collected.superseded == []
    assert sorted(collected.vouched) == [wide[1].cell, wide[2].cell]
    assert collected.found[wide[0].cell].hashes["code"] == wide[0].code_hash, "today's own record goes first"


@pytest.mark.parametrize("value", [1.25 + 2**-50, None])
def test_other_bits_vouch_for_nothing(project, wide, value):
    earlier(wide)
    write_made_up(wide[0], {"nll": value}, status="finished" if value else "failed")
    collected = collect(wide)
    assert collected.vouched == []
    assert sorted(collected.superseded) == [wide[1].cell, wide[2].cell], "they are not averaged with other code's"


def test_it_holds_for_that_code_and_method_alone(project, wide):
    earlier(wide)
    narrow = project.plan("cpu", methods=["narrow"], seeds=[0, 1])
    for run in narrow:
        write_made_up(run, {"nll": 3.0 + run.seed}, code=OLD)
    write_made_up(wide[0], {"nll": 1.25})
    collected = collect([*wide, *narrow])
    assert sorted(collected.stale_code) == sorted(r.cell for r in narrow)
    write_made_up(narrow[0], {"nll": 3.0}, code=OLDER)
    assert sorted(collect([*wide, *narrow]).stale_code) == sorted(r.cell for r in narrow)


def test_a_number_measured_otherwise_is_not_compared(project, wide):
    earlier(wide)
    write_made_up(wide[0], {"nll": 1.25}, identity="b" * 12)
    assert collect(wide).vouched == []


def test_counts_alone_tell_nothing(project):
    runs = project.plan(
        "cpu",
        {
            "metrics.nll": None,
            "metrics.bits_per_dim": None,
            "metrics.active_units": {"methods": ["floor"]},
            "claims": [],
        },
        methods=["wide"],
        seeds=[0, 1],
    )
    for run in runs:
        write_made_up(run, {}, code=OLD)
    write_made_up(runs[0], {})
    assert collect(runs).vouched == []


def test_a_record_that_hashes_its_whole_specification_still_counts(project, wide):
    """As those did that were made before defaults were left out of the hash."""
    path = write_made_up(wide[0], {"nll": 1.0}, asked=digest(wide[0].settled()))
    assert read_record(path).hashes["spec"] != wide[0].spec_hash
    collected = collect(wide)
    assert list(collected.found) == [wide[0].cell]
    assert collected.outdated == {}
    write_made_up(wide[1], {"nll": 1.0}, asked="a" * 64)
    assert len(collect(wide).outdated) == 1
