"""`results/CORRECTIONS.md`: which numbers changed because what is measured changed, with the old value and the new.

A metric's identity changes with its implementation's version, its settings and the content of its data. When a run is
done again under a new identity, the value before and the value now are both kept here, newest last.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from latentbench.core import escape
from latentbench.core.errors import UserError
from latentbench.records.listing import Listing
from latentbench.records.record import Measured, Record, place_fault, read_record, write_atomically

HEAD = """# Corrections

Numbers that were measured again because a metric, its settings or its data changed.

| date | suite | run | metric | before | now | identity |
| --- | --- | --- | --- | --- | --- | --- |
"""


def note_corrections(record: Record, results: Path) -> int:
    """Add a line for each metric of `record` whose cell has an earlier value under another identity.

    Returns:
        How many lines were added.
    """
    from filelock import FileLock

    if record.status != "finished":
        return 0
    before = _latest(record, results)
    if before is None:
        return 0
    lines = []
    for now in record.metrics:
        old = before.value(now.name)
        if old is not None and now.value is not None and old.identity != now.identity:
            lines.append(_line(record, old, now))
    if not lines:
        return 0
    path = results / "CORRECTIONS.md"
    (results / "locks").mkdir(parents=True, exist_ok=True)
    with FileLock(results / "locks" / "corrections.lock"):
        text = path.read_text(encoding="utf-8") if path.is_file() else HEAD
        fresh = [line for line in lines if line not in text]
        if fresh:
            write_atomically(path, text + "".join(fresh))
    return len(fresh)


def _latest(record: Record, results: Path) -> Record | None:
    """The newest other record of the same cell that finished."""
    cell = record.run_id.rpartition("--")[0]
    listing = _listing(record.suite, results.absolute())
    listing.add(record.run_id)
    found = None
    for path in listing.records(f"{cell}--"):
        if record.run_id in (path.parent.name, path.stem):
            continue
        try:
            other = read_record(path, sealed=True)
        except UserError:  # or it is still to come
            continue
        if place_fault(other, path) is not None or other.status != "finished":
            continue
        if found is None or other.provenance.ended > found.provenance.ended:
            found = other
    return found


_listing = cache(Listing)


def _line(record: Record, old: Measured, now: Measured) -> str:
    cells = (
        record.provenance.ended[:10],
        record.suite,
        record.run_id.rpartition("--")[0],
        f"{now.name}, {now.unit}",
        f"{old.value:.6g}",
        f"{now.value:.6g}",
        f"{old.identity} -> {now.identity}",
    )
    return "| " + " | ".join(escape.markdown(c) for c in cells) + " |\n"
