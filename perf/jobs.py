"""A sweep of small runs by `latentbench run --jobs 2` against `--jobs 1`, each a command of its own.

Two jobs have half of the cores each as threads. They are held against one job with as many threads as one of them,
which is how a small model runs fastest; a run alone with all cores shows that, for information. Other load on the
machine slows both; how much two processes gain over one at that moment is measured beside it, with loops that do
nothing else.

The sizes: a command costs about 5 s of processor time before its first step (7 s where it starts workers that import
torch for themselves), and a step 1.4 to 2.3 ms (beside other work). If all runs together train for T seconds, `--jobs
2` can take (7 + T / 2) / (5 + T) of the time of `--jobs 1`, which is 1 / 1.7 at T = 45: in shorter sweeps starts alone
miss the target, however often they are repeated. So there is one round of sweeps that are long enough: 12 runs of 3,600
steps are T = 60 to 100 s, and all of it takes about 22 + 1.6 T, two to three minutes. What several rounds would tell,
how far chance may have moved the figure, the spread of the runs inside each sweep tells.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from latentbench.data.dataset import open_dataset
from latentbench.records.record import Record

from perf.figures import Figure
from perf.model import LEARNING_RATE, PARAMS, PREPROCESS
from perf.project import project
from perf.timing import interleaved, interval, ratio
from perf.whole import DATASET

#: Two jobs take at most so much of the time of one (issue 7): 1.7 times as fast.
TARGET = 1 / 1.7
RUNS, STEPS = 12, 3600
#: Additions of the loop that shows what two processes gain.
SPIN = 40_000_000
#: Resampled pairs of sweeps behind the interval.
DRAWS = 10_000


@dataclass(frozen=True)
class Sweep:
    """One command: its wall seconds, and those that each of its runs trained."""

    wall: float
    training: np.ndarray

    def resampled(self, jobs: int, rng: np.random.Generator) -> np.ndarray:
        """(DRAWS,) seconds that it might have taken: other runs like these, `jobs` side by side."""
        drawn = rng.choice(self.training, (DRAWS, len(self.training))).sum(axis=1)
        return self.wall + (drawn - self.training.sum()) / jobs


def jobs(quick: bool) -> list[Figure]:
    """Both ways, a run alone with all cores, and the same work by two loops side by side and by one."""
    steps, runs = (STEPS // 9, 6) if quick else (STEPS, RUNS)
    cores = len(os.sched_getaffinity(0))
    half = max(1, cores // 2)
    with project(_suite(runs, steps), {"grey": DATASET}) as root:
        open_dataset("grey")
        one = _sweep(root / "one", 1, half, runs)
        two = _sweep(root / "two", 2, half, runs)
        alone = _sweep(root / "alone", 1, cores, 1)
    spins = interleaved({str(n): partial(_spin, n, SPIN // (4 if quick else 1)) for n in (1, 2)}, repeats=3, warm_up=0)
    loads: dict[str, Any] = {"load_average": [round(x, 2) for x in os.getloadavg()], "cores": cores}
    return [
        _speedup(
            f"{runs} runs of {steps} steps: `run --jobs 2` over `run --jobs 1`, {half} threads a run", two, one, loads
        ),
        _all_cores(f"training of a run alone: {cores} threads over {half}", alone, one, loads),
        ratio(
            "jobs/machine",
            "the same work done by 2 bare processes over 1: what the machine gave meanwhile",
            spins["2"],
            spins["1"],
            **loads,
        ),
    ]


def _speedup(what: str, two: Sweep, one: Sweep, details: dict[str, Any]) -> Figure:
    """The whole of both commands, starts and all; the interval is from the runs' own spread."""
    rng = np.random.default_rng(0)
    low, high = np.percentile(two.resampled(2, rng) / one.resampled(1, rng), [2.5, 97.5])
    sides = {"ours_s": two.wall, "theirs_s": one.wall}
    trained = {"ours_training_s": two.training.tolist(), "theirs_training_s": one.training.tolist()}
    return Figure(
        "jobs/two",
        what,
        two.wall / one.wall,
        float(low),
        float(high),
        target=TARGET,
        repeats=1,
        details={**sides, **trained, **details},
    )


def _all_cores(what: str, alone: Sweep, one: Sweep, details: dict[str, Any]) -> Figure:
    """Its one run over the median of those that trained one after another with fewer threads."""
    value, low, high = interval(alone.training[0] / one.training)
    return Figure("jobs/all-cores", what, value, low, high, repeats=1, details=details)


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


def _sweep(results: Path, jobs: int, threads: int, seeds: int) -> Sweep:
    environment = os.environ | {"LATENTBENCH_RESULTS": str(results), "OMP_NUM_THREADS": str(threads)}
    command = f"run small-runs --tier cpu --seeds {seeds} --jobs {jobs} --threads {threads} --wandb disabled --quiet"
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "latentbench", *command.split(), "--device", "cpu", "--no-weights"],
        env=environment,
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    wall = time.perf_counter() - started
    assert done.returncode == 0, done.stderr
    records = [Record.model_validate_json(p.read_text()) for p in results.glob("runs/*/*/record.json")]
    assert len(records) == seeds
    return Sweep(wall, np.array([record.cost.training_seconds for record in records]))


def _spin(processes: int, additions: int) -> None:
    """`additions` in all, shared by so many processes."""
    code = f"for _ in range({additions // processes}): pass"
    started = [subprocess.Popen([sys.executable, "-S", "-c", code]) for _ in range(processes)]
    assert all(p.wait() == 0 for p in started)
