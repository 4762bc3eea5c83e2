"""Whether a run's loss is compiled: as asked, or the way that was fastest when the method was timed here.

A method is timed once on a device, in a process of its own, for compilers may take a process down. What came out is
kept under `results/cache/`, so all its runs go the same way, and one that was interrupted goes on in it.
"""

from __future__ import annotations

import json
import multiprocessing
import signal
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from benchmarks.core.interrupts import check
from benchmarks.planning.fingerprint import digest
from benchmarks.planning.plan import RunSpec
from benchmarks.records.record import write_atomically
from benchmarks.runner.processes import without_interrupts
from benchmarks.runner.settings import Settings
from benchmarks.spec.registry import find_model

if TYPE_CHECKING:
    from benchmarks.training.compiled import Way

#: Seconds of training below which nothing is timed: compiling takes about as long.
WORTH = 60.0
#: Steps below which not even a step is timed.
FEW_STEPS = 1000
#: Part of the time of training that compiling must save: what is less may be chance.
GAIN = 0.05
#: Steps until compiling is over and caches are warm, and steps that are timed.
WARM, TIMED = 10, 60


@dataclass(frozen=True)
class Choice:
    """How a run's loss is computed.

    Attributes:
        way: the way.
        step_seconds: of the ways that were timed for it, if any.
    """

    way: Way = "eager"
    step_seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Timed:
    """Seconds of one way: of a step, and of the first `WARM` ones, in which it is compiled."""

    step: float
    start: float

    def whole(self, steps: int) -> float:
        return self.start + max(0, steps - WARM) * self.step


def choose(spec: RunSpec, settings: Settings) -> Choice:
    """The way for a run that trains on one device; where that takes timing, the caller waits for it.

    Raises:
        KeyboardInterrupt: the process was asked to stop.
    """
    if settings.compile == "off" or settings.devices > 1 or "Trainable" not in find_model(spec.model).can:
        return Choice()
    if settings.compile != "auto":
        return Choice("graphs" if settings.compile == "graphs" else "inductor")
    steps = _steps(spec)
    return fastest(_known(spec, settings, steps), steps) if steps >= FEW_STEPS else Choice()


def fastest(timed: Mapping[Way, Timed], steps: int) -> Choice:
    """The way in which so many steps take least, if it saves enough of the eager way's time."""
    if "eager" not in timed:
        return Choice()
    seconds: dict[str, float] = {way: t.step for way, t in timed.items()}
    best = min(timed, key=lambda way: timed[way].whole(steps))
    pays = timed[best].whole(steps) < (1 - GAIN) * timed["eager"].whole(steps)
    return Choice(best if pays else "eager", seconds)


def _steps(spec: RunSpec) -> int:
    from benchmarks.data.store import open_dataset
    from benchmarks.spec.protocol import Training
    from benchmarks.training.loop import total_steps

    rows = len(open_dataset(spec.data["source"]).split(spec.data["split"]["train"])["x"])
    return total_steps(Training.model_validate(spec.training), min(rows, spec.data["limit"].get("train") or rows))


def _known(spec: RunSpec, settings: Settings, steps: int) -> dict[Way, Timed]:
    """What was found out about the method here, if need be now; nothing where it could not be."""
    from filelock import FileLock

    path = settings.results / "cache" / "compiling" / f"{_kind(spec, settings)}.json"
    if (kept := _kept(path)) is not None:
        return kept
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):  # another process may be at it, and would disturb
        if (kept := _kept(path)) is None:
            kept = _elsewhere(spec, settings, steps)
            write_atomically(path, json.dumps({way: asdict(t) for way, t in kept.items()}))
    return kept


def _kept(path: Path) -> dict[Way, Timed] | None:
    """What a file holds; one that is damaged counts for nothing."""
    with suppress(OSError, ValueError, TypeError, AttributeError):
        return {way: Timed(**t) for way, t in json.loads(path.read_bytes()).items()}
    return None


def _kind(spec: RunSpec, settings: Settings) -> str:
    """What decides how fast a step is: not the seed, nor how long or how fast it learns."""
    import torch

    device = torch.cuda.get_device_name() if settings.device == "cuda" else "cpu"
    of_training = {k: spec.training[k] for k in ("batch_size", "precision", "tf32", "ema", "gradient_clip_norm")}
    data = {k: spec.data[k] for k in ("source", "stored", "preprocess")}
    here = [torch.__version__, device, settings.threads, spec.code_hash]
    return digest([spec.target, spec.params, data, of_training, spec.training["optimizer"]["name"], here])[:16]


def _elsewhere(spec: RunSpec, settings: Settings, steps: int) -> dict[Way, Timed]:
    """`time_ways` in a process of its own; nothing where that dies."""
    with without_interrupts(), ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _begin) as pool:
        answer = pool.submit(time_ways, spec, settings.device, settings.threads, steps)
        try:
            return answer.result()
        except Exception:  # that process died, or what is wrong with the run will show in the run itself
            check()
            return {}


def _begin() -> None:
    """A timing process: an interrupt is its parent's business, whose death ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from benchmarks.core.interrupts import watch_parent
    from benchmarks.core.plugins import folders

    watch_parent()
    folders()  # the user's plug-ins


def time_ways(spec: RunSpec, device: Literal["cpu", "cuda"], threads: int, steps: int) -> dict[Way, Timed]:
    """Time each way that there is on a device, on a few steps of a run's training; nothing is kept.

    A way that fails, or that the model's loss does not come out the same by, is left out; so are all but the eager one
    where training takes less than `WORTH` seconds.
    """
    import torch

    from benchmarks.runner.pilot import few_steps
    from benchmarks.training.compiled import Compiled

    torch.set_num_threads(threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = bool(spec.training["tf32"])
    found: dict[Way, Timed] = {"eager": _time(few_steps(spec, device, WARM + TIMED))}
    if found["eager"].whole(steps) < WORTH:
        return found
    compiled: tuple[Way, ...] = ("inductor", "graphs") if device == "cuda" else ("inductor",)
    for way in compiled:
        with suppress(Exception):  # whatever it is, the model's own loss is there
            strategy = Compiled(way, device)
            timed = _time(few_steps(spec, device, WARM + TIMED, strategy))
            again = _time(few_steps(spec, device, WARM + 1, Compiled(way, device)))  # what was compiled is at hand
            if strategy.refused is None:
                found[way] = Timed(timed.step, again.start)
    return found


def _time(curve: Sequence[Mapping[str, float]]) -> Timed:
    begun, last = next(row for row in curve if row["step"] >= WARM), curve[-1]
    steps = last["step"] - begun["step"]
    return Timed((last["seconds"] - begun["seconds"]) / steps, begun["seconds"])
