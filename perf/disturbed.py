"""A project of its own whose sweeps are disturbed: started, watched from outside, killed, and compared at the end.

Nothing in the product knows of it: what a process is doing is read from the files that it leaves.
"""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from latentbench.records.record import Record
from latentbench.running.checkpoints import SUFFIX, VALUES

REPOSITORY = Path(__file__).resolve().parents[1]

STARTING = "starting or resuming"
PREPARING = "preparing data"
TRAINING = "training"
CHECKPOINTING = "writing a checkpoint"
EVALUATING = "evaluating"
RECORDING = "writing a record"
PHASES = (STARTING, PREPARING, TRAINING, CHECKPOINTING, EVALUATING, RECORDING)


@dataclass
class Place:
    """A folder with its own copy of the code (so that edits meanwhile change nothing), suites, data and results.

    Attributes:
        root: the folder.
        options: of `latentbench run`, which narrow a suite down.
        fresh: data that nobody has prepared yet, instead of those that all places below the same parent share.
        name: of its results and, if fresh, of its data.
    """

    root: Path
    name: str
    options: Sequence[str] = ()
    fresh: bool = False
    every: float = 0.05

    def __post_init__(self) -> None:
        if not (self.root / "code/benchmarks").exists():
            hide = shutil.ignore_patterns("__pycache__")
            shutil.copytree(REPOSITORY / "benchmarks", self.root / "code/benchmarks", ignore=hide)
            (self.root / "suites").mkdir()
            shutil.copy(REPOSITORY / "suites/papers.yaml", self.root / "suites")
        if not (self.data / "registry").exists():
            shutil.copytree(REPOSITORY / "data/registry", self.data / "registry")

    @property
    def results(self) -> Path:
        return self.root / f"results-{self.name}"

    @property
    def data(self) -> Path:
        return self.root / (f"data-{self.name}" if self.fresh else "data")

    def environment(self) -> dict[str, str]:
        own = {
            "PYTHONPATH": os.pathsep.join(
                filter(None, [str(self.root / "code/benchmarks"), os.environ.get("PYTHONPATH")])
            ),
            "LATENTBENCH_ROOT": str(self.root),
            "LATENTBENCH_DATA": str(self.data),
            "LATENTBENCH_RESULTS": str(self.results),
            "OMP_NUM_THREADS": "1",
        }
        return os.environ | own

    def start(self, suite: str, jobs: int) -> subprocess.Popen[bytes]:
        """`latentbench run` on the suite's smoke tier, leader of a process group; its words go to a file."""
        command = [sys.executable, "-m", "latentbench", "run", suite, "--tier", "smoke", "--jobs", str(jobs)]
        command += ["--threads", "1", "--device", "cpu", "--wandb", "disabled", "--quiet"]
        command += ["--checkpoint-every", str(self.every), *self.options]
        with open(self.root / f"{self.name}.log", "ab") as log:
            return subprocess.Popen(
                command, cwd=self.root, env=self.environment(), stdout=log, stderr=log, start_new_session=True
            )

    def finish(self, suite: str, jobs: int) -> None:
        """Run to the end.

        Raises:
            RuntimeError: it did not end well.
        """
        process = self.start(suite, jobs)
        try:
            if process.wait(1200) != 0:
                words = (self.root / f"{self.name}.log").read_text(errors="replace")[-2000:]
                raise RuntimeError(f"{suite}, {jobs} jobs: exit code {process.returncode}\n{words}")
        finally:
            end(process)

    def records(self, suite: str) -> dict[str, tuple[Path, Record]]:
        """Every record by its cell, with its folder."""
        found = {}
        for path in self.results.glob(f"runs/{suite}/*/record.json"):
            record = Record.model_validate_json(path.read_bytes())
            found[record.run_id.rpartition("--")[0]] = path.parent, record
        return found

    def leftovers(self) -> list[str]:
        """What no finished sweep may leave: files half written, checkpoints, half-prepared data."""
        names = [
            *self.results.rglob(".*.part"),
            *self.results.rglob("checkpoint"),
            *self.data.glob("prepared/.*.tmp-*"),
        ]
        return [p.relative_to(self.root).as_posix() for p in names]


def lengthen(place: Place, suite: str, epochs: int) -> None:
    """Put a shipped suite into the place, with `epochs` at tier smoke."""
    data = yaml.safe_load((REPOSITORY / "suites" / suite / "suite.yaml").read_text(encoding="utf-8"))
    smoke = data["tiers"]["smoke"]
    for owner in (smoke, *smoke.get("overrides", ())):
        if "epochs" in owner.get("training", ()):
            owner["training"]["epochs"] = epochs
    (place.root / "suites" / f"{suite}.yaml").write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")


@dataclass
class Watch:
    """What a sweep is doing, read from its files.

    Args:
        place: where it runs.
        steps: cell -> steps of its training, by which a finished training is known.
    """

    place: Place
    steps: dict[str, int]
    _before: frozenset[str] = field(default_factory=frozenset)

    def begin(self) -> None:
        """Take what lies there now for another process's work."""
        self._before = self._files()

    def phases(self) -> set[str]:
        """The phases of all that is under way; `STARTING` where this process has left no trace yet."""
        if not (new := self._files() - self._before):
            return {STARTING}
        found = set()
        for path in new:
            parts = path.split("/")
            if parts[0] == "prepared":
                found.add(PREPARING)
                continue
            suite, run, *rest = parts
            folder = f"{suite}/{run}/"
            if folder + "record.json" in new:
                continue
            if rest[-1].endswith(".part"):
                found.add(CHECKPOINTING if rest[0] == "checkpoint" else RECORDING)
            elif rest[0] in ("weights.safetensors", "curve.csv"):
                found.add(RECORDING)
            elif rest[-1] == VALUES or self._is_last(run, rest[-1]):
                found.add(EVALUATING)
            elif rest[-1].endswith(SUFFIX):
                found.add(TRAINING)
        for later, earlier in ((RECORDING, EVALUATING), (EVALUATING, TRAINING), (CHECKPOINTING, TRAINING)):
            if later in found:
                found.discard(earlier)
        return found or {STARTING}

    def _is_last(self, run: str, name: str) -> bool:
        return name.endswith(SUFFIX) and int(name.partition("-")[0]) == self.steps.get(run.rpartition("--")[0], -1)

    def _files(self) -> frozenset[str]:
        """Files of runs without a record, as suite/run/…, and half-prepared datasets."""
        found = {f"prepared/{name}" for name in _listed(self.place.data / "prepared") if ".tmp-" in name}
        runs = self.place.results / "runs"
        for suite in _listed(runs):
            for run in _listed(runs / suite):
                names = _listed(runs / suite / run)
                if "record.json" not in names:
                    found |= {f"{suite}/{run}/{n}" for n in names if n != "checkpoint"}
                    found |= {f"{suite}/{run}/checkpoint/{n}" for n in _listed(runs / suite / run / "checkpoint")}
        return frozenset(found)


def _listed(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []


def kill(process: subprocess.Popen[bytes], *, leader_alone: bool = False) -> None:
    """SIGKILL to the process and all that it started, or to the process alone."""
    (process.kill if leader_alone else lambda: os.killpg(process.pid, signal.SIGKILL))()
    process.wait()


def end(process: subprocess.Popen[bytes]) -> None:
    """Make sure that nothing of the process's group lives on."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    finally:
        process.wait()


def await_phase(process: subprocess.Popen[bytes], watch: Watch, wanted: str, patience: float) -> bool:
    """Wait until the process is in a phase; False if it ends first, or patience does."""
    deadline = time.monotonic() + patience
    while process.poll() is None and time.monotonic() < deadline:
        if wanted in watch.phases():
            return True
        time.sleep(0.0005)
    return False


def differences(ours: Place, theirs: Place, suite: str) -> list[str]:
    """In what the records of two places differ: metrics, learning curves but for seconds, weights, counts."""
    first, second = ours.records(suite), theirs.records(suite)
    if set(first) != set(second):
        return [f"runs: {sorted(set(first) ^ set(second))}"]
    found = []
    for cell in first:
        (folder, a), (other, b) = first[cell], second[cell]
        pairs = {
            "status": (a.status, b.status),
            "fingerprint": (a.fingerprint, b.fingerprint),
            "metrics": (a.metrics, b.metrics),
            "steps": (a.cost.steps, b.cost.steps),
            "weights": (a.files.get("weights.safetensors"), b.files.get("weights.safetensors")),
            "curve": (curve(folder), curve(other)),
        }
        found += [f"{cell}: {name}" for name, (left, right) in pairs.items() if left != right]
    return found


def curve(folder: Path) -> list[dict[str, str]]:
    """The learning curve in a run's folder, without its seconds."""
    path = folder / "curve.csv"
    if not path.is_file():
        return []
    with open(path, newline="", encoding="utf-8") as f:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(f)]
