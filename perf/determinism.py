"""The same bits whatever the number of jobs and the order of runs: `python -m perf.determinism [SUITE …]`.

Every run of each suite's smoke tier is done twice, alone in the plan's order and two at a time in reverse, on one
thread each. Values, standard errors and weights are compared bit for bit; times measured by a metric are left out.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from latentbench.planning.plan import RunSpec, plan
from latentbench.records.record import Record
from latentbench.records.vouching import OF_THE_MACHINE
from latentbench.running.settings import Settings
from latentbench.scheduling.local import run_all
from latentbench.spec.loading import load_suite, suite_files


def outcomes(runs: list[RunSpec], jobs: int, folder: Path) -> dict[str, Record]:
    """The record of each run, by cell."""
    found: dict[str, Record] = {}

    def done(spec: RunSpec, record: Record, cached: bool) -> None:  # noqa: ARG001
        found[spec.cell] = record

    run_all(runs, Settings(folder), jobs, lambda _: None, done, threads=1)
    return found


def bits(record: Record) -> tuple[object, ...]:
    """What must be the same."""
    values = [(m.name, m.value, m.se, m.failure) for m in record.metrics if m.unit not in OF_THE_MACHINE]
    return record.status, values, record.files.get("weights.safetensors")


def main(names: list[str]) -> int:
    """Print a line a suite; the number of runs whose bits differ."""
    differing = total = 0
    for name in names or sorted(suite_files()):
        started = time.monotonic()
        runs = plan(load_suite(name), "smoke")
        with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
            alone = outcomes(runs, 1, Path(one))
            together = outcomes(runs[::-1], 2, Path(two))
        other = sorted(cell for cell in alone if bits(alone[cell]) != bits(together[cell]))
        finished = sum(r.status == "finished" for r in alone.values())
        seconds = time.monotonic() - started
        print(f"{name:28} {len(runs):3} runs, {finished:3} finished, {len(other)} differ, {seconds:.0f} s", flush=True)
        for cell in other:
            print(f"  {cell}", flush=True)
        differing, total = differing + len(other), total + len(runs)
    print(f"{total} runs, {differing} with other bits")
    return differing


if __name__ == "__main__":
    sys.exit(min(1, main(sys.argv[1:])))
