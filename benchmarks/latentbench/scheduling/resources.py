"""What a run will need, by what earlier runs of the same method took."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from latentbench.core.errors import UserError
from latentbench.core.paths import safe_name
from latentbench.planning.plan import RunSpec
from latentbench.records.archive import record_files
from latentbench.records.record import read_record

#: Room above the highest peak that was seen.
MARGIN = 1.25
#: Records that are looked at for each method.
LOOKED_AT = 3

Cell = tuple[str, str, str, str]
"""Suite, method, dataset, tier."""


def cell_of(run: RunSpec) -> Cell:
    return run.suite, run.method, run.dataset, run.tier


def memory(runs: Sequence[RunSpec], results: Path | None = None) -> dict[Cell, int]:
    """Bytes of host memory that the runs of a method take at most, with a margin; methods without records are missing.

    Records of runs on a GPU say what that one needed, so only those on the CPU count.
    """
    found: dict[Cell, int] = {}
    files = {suite: list(record_files(suite, results)) for suite in dict.fromkeys(r.suite for r in runs)}
    for cell in dict.fromkeys(cell_of(r) for r in runs):
        suite, method, dataset, tier = cell
        start = "--".join((safe_name(method), safe_name(dataset), tier, "s"))
        for _, file in [f for f in files[suite] if f[0].startswith(start)][:LOOKED_AT]:
            try:
                record = read_record(Path(file), sealed=True)
            except UserError:
                continue
            if record.provenance.device == "cpu" and record.cost.peak_memory_bytes:
                found[cell] = max(found.get(cell, 0), int(MARGIN * record.cost.peak_memory_bytes))
    return found


def parse_bytes(text: str, where: str) -> int:
    """``4G``, ``512M`` or a number of bytes; powers of 1024.

    Raises:
        UserError: no such amount, or none above zero.
    """
    digits, unit = text.strip().upper().removesuffix("IB").removesuffix("B"), 1
    if digits[-1:] in ("K", "M", "G", "T"):
        unit = 1024 ** (1 + "KMGT".index(digits[-1]))
        digits = digits[:-1]
    try:
        amount = int(float(digits) * unit)
    except (ValueError, OverflowError):
        amount = 0
    if amount <= 0:
        raise UserError(f"{text!r} is no amount of memory", where=where, fix="e.g. 4G or 512M")
    return amount
