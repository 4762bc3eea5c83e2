"""How far a suite's runs have come."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from latentbench.core.paths import safe_name
from latentbench.planning.plan import plan
from latentbench.records.archive import collect, is_reference, running
from latentbench.scheduling.lease import UnderWay
from latentbench.spec.claims import Tier
from latentbench.spec.loading import LoadedSuite


@dataclass
class SuiteStatus:
    """Cells of one suite at one tier by what has become of them; a stale one is done as well, and so is one whose
    record came with the repository (`reference` counts those)."""

    suite: str
    tier: str
    runs: int
    done: int = 0
    reference: int = 0
    running: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    to_do: list[str] = field(default_factory=list)
    outdated: dict[str, str] = field(default_factory=dict)


def suite_status(loaded: LoadedSuite, tier: Tier, results: Path, elsewhere: Sequence[UnderWay] = ()) -> SuiteStatus:
    """Match the plan to the records and locks on disk, and to what other machines are doing."""
    runs = plan(loaded, tier)
    collected = collect(runs, results)
    out = SuiteStatus(loaded.suite.id, tier, len(runs), stale=collected.stale_code, outdated=collected.outdated)
    busy = running(results)
    away = {one.run_id.rpartition("--")[0]: one for one in elsewhere if one.suite == safe_name(loaded.suite.id)}
    for run in runs:
        record = collected.found.get(run.cell)
        if (one := away.get(run.cell)) is not None:
            out.running.append(f"{run.cell}: {one}")
        elif any(name.startswith(f"{run.cell}--") for name in busy.get(run.suite, ())):
            out.running.append(run.cell)
        elif record is None:
            out.to_do.append(run.cell)
        elif record.status == "finished":
            out.done += 1
            out.reference += is_reference(collected.files[run.cell])
        else:
            out.failed.append(f"{run.cell}: {record.status}: {record.error}")
    return out
