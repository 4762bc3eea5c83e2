"""A sweep of small runs by `latentbench run --jobs 2` against `--jobs 1`, each a command of its own.

Two jobs have half of the cores each as threads. They are held against one job with as many threads as one of them,
which is how a small model runs fastest, and, for information, with all cores. Other load on the machine slows both; how
much two processes gain over one at that moment is measured beside it, with loops that do nothing else.
"""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from bench.figures import Figure
from bench.model import LEARNING_RATE, PARAMS, PREPROCESS
from bench.project import project
from bench.timing import interleaved, ratio
from bench.whole import DATASET
from benchmarks.data.store import open_dataset

#: Two jobs take at most so much of the time of one (issue 7): 1.7 times as fast.
TARGET = 1 / 1.7
RUNS, STEPS = 12, 3000
#: Additions of the loop that shows what two processes gain.
SPIN = 40_000_000


def jobs(quick: bool) -> list[Figure]:
    """Both ways in turn, and the same of two loops side by side against one after the other."""
    steps, runs = (STEPS // 6, 6) if quick else (STEPS, RUNS)
    cores = len(os.sched_getaffinity(0))
    with project(_suite(runs, steps), {"grey": DATASET}) as root:
        open_dataset("grey")
        folders = count()
        half = max(1, cores // 2)
        contenders: dict[str, Any] = {f"jobs {n}": partial(_sweep, root, n, half, runs, folders) for n in (1, 2)}
        contenders["all cores"] = partial(_sweep, root, 1, cores, runs, folders)
        contenders |= {f"spin {n}": partial(_spin, n, SPIN // (4 if quick else 1)) for n in (1, 2)}
        times = interleaved(contenders, repeats=3, warm_up=0)
    loads = {"load_average": [round(x, 2) for x in os.getloadavg()], "cores": cores}
    return [
        ratio(
            "jobs/two",
            f"{runs} runs of {steps} steps: `run --jobs 2` over `run --jobs 1`, {half} threads a run",
            times["jobs 2"],
            times["jobs 1"],
            target=TARGET,
            **loads,
        ),
        ratio(
            "jobs/all-cores",
            f"the same over `run --jobs 1` with {cores} threads",
            times["jobs 2"],
            times["all cores"],
            **loads,
        ),
        ratio(
            "jobs/machine",
            "the same work done by 2 bare processes over 1: what the machine gave meanwhile",
            times["spin 2"],
            times["spin 1"],
            **loads,
        ),
    ]


def _suite(runs: int, steps: int) -> dict[str, Any]:
    return {
        "id": "small-runs",
        "version": 1,
        "paper": {"title": "Small runs", "authors": ["nobody"], "year": 2026},
        "datasets": {"grey": {"preprocess": PREPROCESS}},
        "methods": {"vae": {"model": "vae", "params": PARAMS}},
        "metrics": {"elbo": {}},
        "training": {"optimizer": {"name": "adam", "lr": LEARNING_RATE}, "batch_size": 20, "steps": steps},
        "tiers": {"cpu": {"seeds": runs}},
    }


def _sweep(root: Path, jobs: int, threads: int, runs: int, folders: count[int]) -> None:
    results = root / f"results-{next(folders)}"
    environment = os.environ | {"LATENTBENCH_RESULTS": str(results), "OMP_NUM_THREADS": str(threads)}
    command = f"-m benchmarks run small-runs --tier cpu --jobs {jobs} --threads {threads} --wandb disabled --quiet"
    done = subprocess.run(
        [sys.executable, *command.split(), "--device", "cpu", "--no-weights"],
        env=environment,
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert len(list(results.glob("runs/*/*/record.json"))) == runs


def _spin(processes: int, additions: int) -> None:
    """`additions` in all, shared by so many processes."""
    code = f"for _ in range({additions // processes}): pass"
    started = [subprocess.Popen([sys.executable, "-S", "-c", code]) for _ in range(processes)]
    assert all(p.wait() == 0 for p in started)
