"""How long `dvc repro` takes where nothing has changed: with all suites, and with hundreds.

In a clone, the stages' outputs are laid down as a finished `dvc repro` would have left them, with stubs for runs,
site and library, and committed to DVC's lock; what is timed is DVC's own look at them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import yaml
from latentbench.spec.files import suite_files

from perf.figures import Figure
from perf.timing import interleaved, seconds

REPOSITORY = Path(__file__).resolve().parents[1]
#: Suites of a larger project than ours, and the seconds that issue 7 grants for ours and for it.
MANY, TARGET, MANY_TARGET = 300, 10.0, 20.0


def pipeline(quick: bool) -> list[Figure]:
    """Wall seconds of a `dvc repro` that redoes nothing."""
    figures = []
    for count, target in ((None, TARGET), (30 if quick else MANY, MANY_TARGET)):
        with tempfile.TemporaryDirectory(prefix="latentbench-dvc-") as folder:
            tree = Path(folder) / "tree"
            suites = _finished(tree, count)
            times = interleaved({"repro": partial(_repro, tree)}, repeats=3)["repro"]
        name = "all" if count is None else str(count)
        what = f"`dvc repro` that redoes nothing, {suites} suites"
        figures.append(seconds(f"pipeline/{name}", what, times, target=target))
    return figures


def _finished(tree: Path, count: int | None) -> int:
    """A clone in which everything is done, with copies of a suite where more are asked for; how many suites it has."""
    subprocess.run(["git", "clone", "--quiet", str(REPOSITORY), str(tree)], check=True)
    suites = list(suite_files())
    small = yaml.safe_load((tree / "suites/quickstart/suite.yaml").read_text())
    for i in range(max(0, (count or 0) - len(suites))):
        suites.append(f"copy-{i}")
        (tree / f"suites/copy-{i}.yaml").write_text(yaml.safe_dump(small | {"id": f"copy-{i}"}, sort_keys=False))
    (tree / "params.yaml").write_text(yaml.safe_dump({"tier": "cpu", "jobs": 2, "suites": suites}, sort_keys=False))
    for stub in ["results/vega.js", "results/site/stub", *(f"results/runs/{s}/stub" for s in suites)]:
        (tree / stub).parent.mkdir(parents=True, exist_ok=True)
        (tree / stub).write_text("what a stage leaves\n")
    _run(tree, sys.executable, "-m", "latentbench", "fingerprints", "--tier", "cpu", "--write", "results/fingerprints")
    _run(tree, sys.executable, "-m", "latentbench", "leaderboard", "--tier", "cpu", "--write", "results")
    _run(tree, sys.executable, "-m", "dvc", "commit", "--force", "--quiet")
    return len(suites)


def _repro(tree: Path) -> None:
    said = _run(tree, sys.executable, "-m", "dvc", "repro")
    assert "Running stage" not in said, said


def _run(tree: Path, *command: str) -> str:
    environment = os.environ | {
        "PYTHONPATH": str(tree / "benchmarks"),
        "LATENTBENCH_ROOT": str(tree),
        "LATENTBENCH_DATA": str(tree / "data"),
        "LATENTBENCH_RESULTS": str(tree / "results"),
        "DVC_NO_ANALYTICS": "1",
    }
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr
