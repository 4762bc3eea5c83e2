"""How far a suite's runs have come."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from latentbench.core.paths import safe_name
from latentbench.planning.plan import plan
from latentbench.records.archive import collect, is_reference, listed, running
from latentbench.results.costs import Known
from latentbench.scheduling.lease import UnderWay
from latentbench.spec.claims import Tier
from latentbench.spec.loading import LoadedSuite


@dataclass
class SuiteStatus:
    """Cells of one suite at one tier by what has become of them; a stale one is done as well, and so is one whose
    record came with the repository (`reference` counts those). A paused one is to do as well: it was interrupted, and
    goes on from the step of its checkpoint."""

    suite: str
    tier: Tier
    runs: int
    done: int = 0
    reference: int = 0
    running: list[str] = field(default_factory=list)
    paused: dict[str, int] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    to_do: list[str] = field(default_factory=list)
    outdated: dict[str, str] = field(default_factory=dict)


def suite_status(loaded: LoadedSuite, tier: Tier, results: Path, elsewhere: Sequence[UnderWay] = ()) -> SuiteStatus:
    """Match the plan to the records and locks on disk, and to what other machines are doing."""
    runs = plan(loaded, tier)
    collected = collect(runs, results)
    out = SuiteStatus(loaded.suite.id, tier, len(runs), stale=collected.stale_code, outdated=collected.outdated)
    busy, halted = running(results), paused(loaded.suite.id, results)
    away = {one.run_id.rpartition("--")[0]: one for one in elsewhere if one.suite == safe_name(loaded.suite.id)}
    for run in runs:
        record = collected.found.get(run.cell)
        if (one := away.get(run.cell)) is not None:
            out.running.append(f"{run.cell}: {one}")
        elif any(name.startswith(f"{run.cell}--") for name in busy.get(run.suite, ())):
            out.running.append(run.cell)
        elif record is None:
            out.to_do.append(run.cell)
            if run.cell in halted:
                out.paused[run.cell] = halted[run.cell]
        elif record.status == "finished":
            out.done += 1
            out.reference += is_reference(collected.files[run.cell])
        else:
            out.failed.append(f"{run.cell}: {record.status}: {record.error}")
    return out


#: A checkpoint's file: its step, and the hash of its content.
_CHECKPOINT = re.compile(r"([0-9]{12})-[0-9a-f]{64}\.safetensors")


def paused(suite: str, results: Path) -> dict[str, int]:
    """Cells of a suite whose run was interrupted, with the step that it goes on from."""
    folder = f"{results}/runs/{safe_name(suite)}"
    found: dict[str, int] = {}
    for name in listed(folder):
        steps = [int(m[1]) for file in listed(f"{folder}/{name}/checkpoint") if (m := _CHECKPOINT.fullmatch(file))]
        if steps and not os.path.isfile(f"{folder}/{name}/record.json"):
            found[name.rpartition("--")[0]] = max(steps)
    return found


def seconds_left(loaded: LoadedSuite, status: SuiteStatus, results: Path, device: str) -> tuple[float, int]:
    """What the runs to do will take one after another, in seconds, and how many of them nobody can tell of."""
    known, wanted = Known.of(loaded.suite.id, results), set(status.to_do)
    found: dict[tuple[str, str], float | None] = {}
    total, untold = 0.0, 0
    for run in plan(loaded, status.tier):
        if run.cell in wanted:
            pair = (run.method, run.dataset)
            if pair not in found:
                found[pair] = known.estimate(run, device).seconds
            seconds = found[pair]
            total, untold = total + (seconds or 0.0), untold + (seconds is None)
    return total, untold
