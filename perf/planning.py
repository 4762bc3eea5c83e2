"""Planning many runs, telling which of them a change redoes, a leaderboard over many records, verdicts over them: each
in a fresh process, imports included.

``python -m perf.planning plan|decide|leaderboard|verdicts|parse`` is what those processes do.
"""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from latentbench.core.file_cache import STILL
from latentbench.spec.registry import add_folder

from perf.figures import Figure
from perf.large import CLAIMS, DATASETS, METHODS, METRICS, SUITE, suite, write_pack, write_records
from perf.project import project
from perf.timing import Laps, interleaved, ratio, seconds

#: Seconds that issue 2 grants for 10,000 runs and records (issue 13: for 50,000 that are packed), and issue 7 for
#: telling which of them a change redoes.
PLAN_TARGET, LEADERBOARD_TARGET, DECISION_TARGET = 2.0, 3.0, 2.0
SEEDS, PACKED_SEEDS = 10, 50
#: Processor seconds of commands over packed records, and GiB that each may hold.
PACKED_TARGETS, PACKED_MEMORY = {"leaderboard": 3.0, "plan": 10.0}, 0.466
#: Runs its arguments; says processor seconds and GiB at most. By itself, as a child's peak begins with its parent's.
_USED = """\
import json, resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([used.ru_utime + used.ru_stime, used.ru_maxrss / 2**20]))
"""
#: A plug-in's module with a model, which half of the runs import.
_PLUGIN = {
    "bench_mine.py": """\
from latentbench.declare import model

@model("mine", "Trainable VariationalBound Sampler Encoder Decoder Reconstructor GaussianEncoder", "half of the runs")
class Mine:
    def __init__(self, info, *, latent_dim=2, hidden=(200, 200), objective="elbo", k=1): ...
""",
}


def planning(quick: bool) -> list[Figure]:
    """From a suite file to run identifiers: 10,000 of them, and 1,000 to see whether it grows in proportion."""
    seeds = 2 if quick else SEEDS
    runs, few = DATASETS * METHODS * seeds, DATASETS * METHODS
    with project(suite(seeds)):
        laps = _child("plan", expect=runs)

        def small() -> None:
            _child("plan", "--seeds", "1", expect=few)

        times = interleaved({"many": lambda: _child("plan", expect=runs), "few": small})
    return [
        seconds(
            f"planning/{runs}-runs",
            f"{runs:,} runs planned with all hashes and run ids, fresh process",
            times["many"],
            target=None if quick else PLAN_TARGET,
            laps=laps,
        ),
        ratio(
            f"planning/{runs}-runs-over-{few}",
            f"time for {runs:,} runs over time for {few:,}",
            times["many"],
            times["few"],
            target=runs / few,
        ),
    ]


def decision(quick: bool) -> list[Figure]:
    """From suite and record files to the runs that are to be done: none at first, half after a line in one module."""
    seeds = 2 if quick else SEEDS
    runs = DATASETS * METHODS * seeds
    halved = _halved(suite(seeds))
    with project(halved) as root:
        plugin = root / "plug-ins"
        plugin.mkdir()
        for file, text in _PLUGIN.items():
            (plugin / file).write_text(text)
        add_folder(plugin)
        assert write_records() == runs
        time.sleep(STILL / 1e9)  # until the records have stood still long enough to be remembered
        first = _child("decide", expect=0)
        warm = interleaved({"decide": lambda: _child("decide", expect=0)})["decide"]
        with (plugin / "bench_mine.py").open("a") as module:
            module.write("CHANGED = True\n")
        laps = _child("decide", expect=runs // 2)
        times = interleaved({"decide": lambda: _child("decide", expect=runs // 2)})["decide"]
    target = None if quick else DECISION_TARGET
    return [
        seconds(
            f"decision/{runs}-records-changed",
            f"which of {runs:,} runs a line in one model's module redoes, fresh process",
            times,
            target=target,
            laps=laps,
        ),
        seconds(
            f"decision/{runs}-records",
            f"the same where nothing has changed, of {runs:,}",
            warm,
            target=target,
            first=first,
        ),
    ]


def _halved(whole: dict[str, Any]) -> dict[str, Any]:
    """The suite with every other method's model from the plug-in, without reported numbers and claims."""
    [(name, ours)] = whole["methods"].items()
    theirs = copy.deepcopy(ours) | {"model": "mine"}
    ours["grid"]["d"], theirs["grid"]["d"] = ours["grid"]["d"][::2], theirs["grid"]["d"][1::2]
    return whole | {"methods": {name: ours, f"mine-{name}": theirs}, "reported": [], "claims": []}


def leaderboard(quick: bool) -> list[Figure]:
    """From record files to leaderboard rows and verdicts, against parsing the files and no more."""
    seeds = 2 if quick else SEEDS
    runs = DATASETS * METHODS * seeds
    rows, claims = DATASETS * METHODS * METRICS, CLAIMS
    with project(suite(seeds)):
        assert write_records() == runs
        laps = {step: _child(step, expect=n) for step, n in (("leaderboard", rows), ("verdicts", claims))}
        times = interleaved(
            {
                "leaderboard": lambda: _child("leaderboard", expect=rows),
                "verdicts": lambda: _child("verdicts", expect=claims),
                "parse": lambda: _child("parse", expect=runs),
            }
        )
    return [
        seconds(
            f"leaderboard/{runs}-records",
            f"{rows:,} rows from {runs:,} record files, fresh process",
            times["leaderboard"],
            target=None if quick else LEADERBOARD_TARGET,
            laps=laps["leaderboard"],
        ),
        ratio(
            f"leaderboard/{runs}-records-over-parsing",
            "the same over json.loads of each file",
            times["leaderboard"],
            times["parse"],
        ),
        seconds(
            f"verdicts/{runs}-records",
            f"{claims} verdicts from {runs:,} record files, fresh process",
            times["verdicts"],
            target=None if quick else LEADERBOARD_TARGET,
            laps=laps["verdicts"],
        ),
    ]


def packed(quick: bool) -> list[Figure]:
    """From a pack of reference records to leaderboard rows, before and after its seals are known to hold."""
    seeds = 2 if quick else PACKED_SEEDS
    runs, rows = DATASETS * METHODS * seeds, DATASETS * METHODS * METRICS
    with project(suite(seeds)) as root:
        assert write_pack() == runs
        size = sum(p.stat().st_size for p in (root / "results/reference").rglob("*.jsonl"))
        time.sleep(STILL / 1e9)
        first = _child("leaderboard", expect=rows)
        laps = _child("leaderboard", expect=rows)
        times = interleaved({"leaderboard": lambda: _child("leaderboard", expect=rows)})["leaderboard"]
        commands = [_command(quick, runs, name) for name in PACKED_TARGETS]
    return [
        *(figure for figures in commands for figure in figures),
        seconds(
            f"leaderboard/{runs}-packed-records",
            f"{rows:,} rows from {runs:,} records in one file of {size / 1e6:.0f} MB, fresh process",
            times,
            target=None if quick else LEADERBOARD_TARGET,
            laps=laps,
            first=first,
        ),
    ]


def _command(quick: bool, runs: int, name: str) -> list[Figure]:
    """Processor time of a command over a pack that was read before, and the most memory that it held."""
    argv = [sys.executable, "-m", "latentbench", name, SUITE]
    done = subprocess.run([sys.executable, "-c", _USED, *argv], check=True, capture_output=True, text=True)
    took, most = json.loads(done.stdout)
    of = f"latentbench {name} over {runs:,} packed records"
    target = None if quick else PACKED_TARGETS[name]
    return [
        Figure(f"packed/{name}-processor", f"{of}: processor time", took, took, took, "s", target=target, repeats=1),
        Figure(
            f"packed/{name}-memory",
            f"{of}: memory at most",
            most,
            most,
            most,
            "GiB",
            target=None if quick else PACKED_MEMORY,
            repeats=1,
        ),
    ]


def _child(*step: str, expect: int) -> dict[str, float]:
    """Run a step in a process of its own; its laps in seconds.

    Raises:
        AssertionError: it came to another number of things than it should have.
    """
    done = subprocess.run((sys.executable, "-m", "perf.planning", *step), check=True, capture_output=True, text=True)
    out: dict[str, Any] = json.loads(done.stdout)
    assert out.pop("count") == expect, f"{step}: not {expect}"
    return out


def _plan(lap: Laps, seeds: int | None) -> int:
    from latentbench.data.manifest import content_hash_if_known
    from latentbench.planning.plan import plan
    from latentbench.spec.loading import load_suite
    from latentbench.spec.validation import problems

    lap("imports")
    loaded = load_suite(SUITE)
    lap("load")
    assert not problems(loaded)
    lap("validate")
    runs = plan(loaded, "cpu", seeds=range(seeds) if seeds else None)
    lap("plan")
    data_hash = content_hash_if_known("digits") or "0" * 64
    ids = {run.run_id(data_hash) for run in runs}
    lap("hashes and ids")
    return len(ids)


def _decide(lap: Laps) -> int:
    """As `latentbench run --dry-run` does it."""
    from latentbench.planning.plan import plan
    from latentbench.records.archive import finished
    from latentbench.spec.loading import load_suite

    lap("imports")
    runs = plan(load_suite(SUITE), "cpu")
    lap("load and plan")
    done = finished(runs)
    lap("hashes and records")
    return len(runs) - len(done)


def _gathered(lap: Laps) -> Any:
    """As the commands `leaderboard` and `verdict` do it."""
    from latentbench.cli.gathering import gathered

    lap("imports")
    [found] = gathered((SUITE,), None)
    lap("plan, read and match")
    return found


def _leaderboard(lap: Laps) -> int:
    from latentbench.results.leaderboard import leaderboard as table

    rows = table(_gathered(lap))
    lap("table")
    return len(rows)


def _verdicts(lap: Laps) -> int:
    from latentbench.results.verdicts import verdicts

    found = verdicts(_gathered(lap))
    lap("verdicts")
    return sum(v.verdict != "not-run" or v.information for v in found)


def _parse() -> int:
    from latentbench.core.paths import results_dir

    return len([json.loads(p.read_bytes()) for p in results_dir().glob("runs/*/*/record.json")])


if __name__ == "__main__":
    timer = Laps()
    steps: dict[str, Callable[[], int]] = {
        "plan": lambda: _plan(timer, int(sys.argv[3]) if len(sys.argv) > 3 else None),
        "decide": lambda: _decide(timer),
        "leaderboard": lambda: _leaderboard(timer),
        "verdicts": lambda: _verdicts(timer),
        "parse": _parse,
    }
    n = steps[sys.argv[1]]()
    print(json.dumps({"count": n, **timer.laps}))
