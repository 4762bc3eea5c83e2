"""What earlier records say of what runs need."""

from __future__ import annotations

import pytest
from latentbench.core.errors import UserError
from latentbench.records.record import read_record, seal, write_record
from latentbench.scheduling.resources import MARGIN, cell_of, memory, parse_bytes

from tests.project import write_made_up


def made_up(spec, results, peak, device="cpu"):
    path = write_made_up(spec, {"nll": 1.0}, folder=results / "runs" / spec.suite)
    record = read_record(path)
    cost = record.cost.model_copy(update={"peak_memory_bytes": peak})
    where = record.provenance.model_copy(update={"device": device})
    record = record.model_copy(update={"cost": cost, "provenance": where})
    write_record(path, record.model_copy(update={"seal": seal(record)}))


def test_the_highest_peak_of_the_methods_records_counts(project):
    specs = project.plan("cpu", seeds=[0, 1])
    wide = [s for s in specs if s.method == "wide"]
    made_up(wide[0], project.results, 1000)
    made_up(wide[1], project.results, 2000)
    made_up(next(s for s in specs if s.method == "narrow"), project.results, 9000, device="cuda")
    later = project.plan("cpu", seeds=[7])
    assert memory(later, project.results) == {cell_of(wide[0]): int(MARGIN * 2000)}


@pytest.mark.parametrize(("text", "amount"), [("4G", 4 << 30), ("1.5m", 3 << 19), ("2GiB", 2 << 30), ("300", 300)])
def test_amounts_of_memory(text, amount):
    assert parse_bytes(text, "--memory-per-run") == amount


@pytest.mark.parametrize("text", ["", "G", "much", "-1G", "0", "nan", "infT"])
def test_what_is_no_amount(text):
    with pytest.raises(UserError, match="no amount of memory"):
        parse_bytes(text, "--memory-per-run")
