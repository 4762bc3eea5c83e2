"""Records of earlier code that count as today's, because today's code gave the same bits where both were run.

A change that leaves every number as it was, such as one for speed, makes all records stale. Where a run of a method
has a record of earlier code and one of today's, and both agree in every bit, the earlier code is vouched for: records
that it made of the same method, data and tier with other seeds count as today's. To vouch, run one seed again.
"""

from __future__ import annotations

from collections.abc import Iterable

from latentbench.records.record import Record
from latentbench.spec.registry import find_metric

#: Units of metrics that measure the machine as well.
OF_THE_MACHINE = ("ms",)

Code = tuple[str, str, str, str, str]
"""Suite, tier, method, dataset, and the hashes of the code and the engine that were run on them."""


def code_of(record: Record) -> Code:
    code = record.hashes["code"] + record.hashes.get("engine", "")
    return record.suite, record.tier, record.method, record.dataset, code


def vouched_codes(cells: Iterable[Iterable[tuple[Record, bool]]]) -> set[Code]:
    """Codes that are vouched for.

    Args:
        cells: for each cell (method, dataset, tier, seed), its records, and whether today's code made them.
    """
    found: set[Code] = set()
    for each in cells:
        records = list(each)
        today = [r for r, fresh in records if fresh]
        found |= {code_of(old) for old, fresh in records if not fresh for new in today if same_bits(old, new)}
    return found


def same_bits(one: Record, other: Record) -> bool:
    """Whether two records of a run agree in every number, one of which at least could have told them apart."""
    if (one.status, other.status) != ("finished", "finished") or one.provenance.device != other.provenance.device:
        return False
    pairs = [_numbers(r) for r in (one, other)]
    telling = [m for m in one.metrics if m.value is not None and not find_metric(m.metric).counts]
    return pairs[0] == pairs[1] and bool(telling)


def _numbers(record: Record) -> list[tuple[str, str, float | None, float | None]]:
    return [(m.name, m.identity, m.value, m.se) for m in record.metrics if m.unit not in OF_THE_MACHINE]
