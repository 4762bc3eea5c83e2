"""What a run costs beside its work: many runs that do nothing, on this machine and on a Ray cluster of this machine.

``python -m perf.scheduling CASE RUNS`` measures one case, such as ``local-2`` or ``ray-4``, at a size of its own.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from latentbench.core.paths import results_dir
from latentbench.data.dataset import open_dataset
from latentbench.planning.plan import RunSpec, plan
from latentbench.records.record import Record
from latentbench.running.settings import Settings
from latentbench.scheduling.local import run_all
from latentbench.spec import registry
from latentbench.spec.loading import load_suite

from perf.figures import Figure
from perf.project import project
from perf.timing import interval

RUNS = 1000
CASES = ("local-1", "local-2", "local-4", "ray-1", "ray-2", "ray-4")
#: Part of the runs that is left out, until workers have started and imported what they need.
WARM_UP = 0.2
#: Stretches of the rest whose mean times make up a figure's interval.
STRETCHES = 16

PLUGIN = '''
import numpy as np
from latentbench.core.types import MetricValue
from latentbench.declare import generator, metric, model


@model("nothing", "Fittable", "does nothing")
class Nothing:
    """Fits nothing."""

    def __init__(self, info):
        pass

    def fit(self, x, generator):
        pass


@metric("nothing", "", "1", "lower", "is nothing")
def nothing(model, view, settings, generator):
    return MetricValue(0.0)


@generator("zeros")
def generate(n, rng):
    return {"x": np.zeros((n, 1), np.float32)}
'''
_DATASET = {
    "name": "nothing",
    "title": "Zeros",
    "kind": "generated",
    "modality": "vector",
    "about": "Eight zeros.",
    "citation": "none",
    "licence": "Apache-2.0",
    "generate": "zeros",
    "splits": {"train": {"rows": 8}, "test": {"rows": 8}},
    "columns": {"x": {"shape": [1], "dtype": "float32"}},
}
_SUITE: dict[str, Any] = {
    "id": "nothing",
    "version": 1,
    "paper": {"title": "Nothing", "authors": ["nobody"], "year": 2026},
    "datasets": {"nothing": {}},
    "methods": {"nothing": {"model": "nothing"}},
    "metrics": {"nothing": {}},
    "training": {"optimizer": {"name": "adam", "lr": 1e-3}, "batch_size": 8, "steps": 1},
    "tiers": {"cpu": {"seeds": 1}, "smoke": {"seeds": 1}},
}


def scheduling(quick: bool) -> list[Figure]:
    """Seconds a run at 1,000 no-op runs, on this machine and as tasks on Ray, and of runs that are there already."""
    runs = RUNS // (10 if quick else 1)
    return [figure for case in CASES for figure in measure(case, runs)]


def measure(case: str, runs: int) -> list[Figure]:
    """The figures of one case: runs that are to do, and the same again, when they are there."""
    with _suite(runs) as specs:
        first, again = _time(case, specs), _time(case, specs)
    return [
        _figure(f"scheduling/{case}", f"{runs:,} no-op runs, {case}: wall seconds a run", first),
        _figure(f"scheduling/{case}-there", f"{runs:,} runs that have their record, {case}: wall seconds a run", again),
    ]


@contextmanager
def _suite(runs: int) -> Iterator[list[RunSpec]]:
    with project(_SUITE, {"nothing": _DATASET}) as root:
        folder = root / "plugins"
        folder.mkdir()
        (folder / "latentbench_nothing.py").write_text(PLUGIN)
        registry.add_folder(folder)
        try:
            open_dataset("nothing")
            yield plan(load_suite("nothing"), "cpu", seeds=range(runs))
        finally:
            registry.forget()


def _time(case: str, specs: list[RunSpec]) -> dict[str, Any]:
    """When each run was done, in seconds since the call, and what processor time all of it took."""
    ends: list[float] = []

    def done(_spec: RunSpec, record: Record, _cached: bool) -> None:
        assert record.status == "finished", record.error
        ends.append(time.perf_counter() - started)

    spent = _processor()
    started = time.perf_counter()
    _executor(case)(specs, Settings(results_dir()), done)
    return {"ends": np.array(ends), "wall": time.perf_counter() - started, "processor": _processor() - spent}


def _executor(case: str) -> Callable[[list[RunSpec], Settings, Any], None]:
    kind, _, workers = case.partition("-")
    if kind == "local":
        return lambda specs, settings, done: run_all(specs, settings, int(workers), lambda _: None, done, threads=1)

    def on_ray(specs: list[RunSpec], settings: Settings, done: Any) -> None:
        import ray
        from latentbench.scheduling.executors.ray import RayExecutor

        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        ray.init("local", num_cpus=int(workers), include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        try:
            RayExecutor().run_all(specs, settings, lambda _: None, done)
        finally:
            ray.shutdown()

    return on_ray


def _figure(name: str, what: str, timed: dict[str, Any]) -> Figure:
    ends: np.ndarray = timed["ends"]
    steady = ends[int(WARM_UP * len(ends)) :]
    stretches = np.array_split(np.diff(steady), STRETCHES)
    value, low, high = interval([float(s.mean()) for s in stretches if len(s)])
    half = len(steady) // 2
    first, second = steady[half] - steady[0], steady[-1] - steady[half]
    return Figure(
        name,
        what,
        value,
        low,
        high,
        "s",
        repeats=len(ends),
        details={
            "until_the_first": round(float(ends[0]), 3),
            "whole": round(timed["wall"], 3),
            "processor_per_run": round(timed["processor"] / len(ends), 5),
            "second_half_over_first": round(float(second / first), 3),
        },
    )


def _processor() -> float:
    """Processor seconds of this process and all below it; Ray's own processes count only while they live."""
    ticks = os.sysconf("SC_CLK_TCK")
    table: dict[int, tuple[int, int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError):
            kept = (folder / "stat").read_text().rpartition(")")[2].split()
            table[int(folder.name)] = int(kept[1]), sum(int(t) for t in kept[11:15])
    mine, grown = {os.getpid()}, True
    while grown:
        below = {pid for pid, (parent, _) in table.items() if parent in mine}
        grown = not below <= mine
        mine |= below
    return sum(table[pid][1] for pid in mine if pid in table) / ticks


if __name__ == "__main__":
    print(json.dumps([figure.as_dict() for figure in measure(sys.argv[1], int(sys.argv[2]))], indent=1))
