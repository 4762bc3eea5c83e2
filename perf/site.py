"""The site over the records that the repository ships, in a fresh process: `latentbench report` as users run it."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from perf.figures import Figure
from perf.timing import Laps, interleaved, seconds

#: Processor seconds of one core that issue 16 grants for each 1,000 runs that the site is built from.
TARGET = 10.0


def site(quick: bool) -> list[Figure]:
    """From the suites and their reference records to a folder of pages."""
    with tempfile.TemporaryDirectory() as folder:
        laps = _child(folder)
        runs = int(laps.pop("runs"))
        times = interleaved({"site": lambda: _child(folder)}, repeats=1 if quick else 3, warm_up=0)["site"]
    return [
        seconds(
            "site/shipped-records",
            f"the site over {runs:,} shipped records, fresh process",
            times,
            target=None if quick else TARGET * max(1.0, runs / 1000),
            laps=laps,
        )
    ]


def _child(folder: str) -> dict[str, float]:
    done = subprocess.run((sys.executable, "-m", "perf.site", folder), check=True, capture_output=True, text=True)
    laps: dict[str, float] = json.loads(done.stdout)
    return laps


def _build(folder: Path) -> dict[str, float]:
    lap = Laps()
    from latentbench.report.findings import read_findings
    from latentbench.report.site import build

    lap("imports")
    findings = read_findings()
    lap("read")
    build(findings, folder, built="2026-01-01")
    lap("pages")
    return {**lap.laps, "runs": sum(len(tier.records) for suite in findings.suites for tier in suite.tiers)}


if __name__ == "__main__":
    print(json.dumps(_build(Path(sys.argv[1]))))
