"""Whether a run's loss is compiled: as asked, or the way that was fastest when the method was timed here.

A method is timed once on a machine, in a process of its own, for compilers may take a process down. What came out is
kept under `data/cache/`, so all its runs go the same way; one that was interrupted goes on as it began.
"""

from __future__ import annotations

import json
import multiprocessing
import platform
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentbench.acceleration.alone import why_alone
from latentbench.acceleration.processes import without_interrupts
from latentbench.core.interrupts import check
from latentbench.core.paths import data_dir
from latentbench.planning.fingerprint import digest
from latentbench.planning.plan import RunSpec
from latentbench.records.record import write_atomically
from latentbench.running.conductor import arrange
from latentbench.running.settings import Settings

if TYPE_CHECKING:
    from latentbench.training.compiled import Way

#: Seconds of training below which nothing is timed: compiling takes about as long.
WORTH = 60.0
#: Steps below which not even a step is timed.
FEW_STEPS = 1000
#: Part of the time of training that compiling must save: what is less may be chance.
GAIN = 0.05
#: Steps until compiling is over and caches are warm, and steps that are timed.
WARM, TIMED = 10, 60


#: The ways by name.
WAYS: dict[str, Way] = {"eager": "eager", "inductor": "inductor", "graphs": "graphs"}


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


def choose(spec: RunSpec, settings: Settings, began: Way | None = None) -> Choice:
    """The way for a run that trains on one device; where that takes timing, the caller waits for it.

    Args:
        spec, settings: the run, and how to carry it out.
        began: how the training that it goes on with was computed, if there is one.

    Raises:
        KeyboardInterrupt: the process was asked to stop.
    """
    asked = settings.compile != "off" or began is not None
    if not asked or settings.devices > 1 or why_alone(spec) is not None:
        return Choice()
    if began is not None:
        return Choice("inductor" if began == "graphs" and settings.device == "cpu" else began)
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
    from latentbench.data.dataset import open_dataset
    from latentbench.spec.protocol import Training
    from latentbench.training.order import total_steps

    dataset = open_dataset(spec.data["source"])
    rows = len(dataset.split(spec.data["split"]["train"])[dataset.entry.main])
    return total_steps(Training.model_validate(spec.training), min(rows, spec.data["limit"].get("train") or rows))


def _known(spec: RunSpec, settings: Settings, steps: int) -> dict[Way, Timed]:
    """What was found out about the method on this machine, if need be now; nothing where it could not be."""
    from filelock import FileLock

    path = kept_in() / f"{_kind(spec, settings)}.json"
    if (kept := _kept(path, steps)) is not None:
        return kept
    found: dict[Way, Timed] = {}
    with suppress(OSError):  # a folder that cannot be written costs time and no more
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):  # another process may be at it, and would disturb
            if (kept := _kept(path, steps)) is not None:
                return kept
            found = _elsewhere(spec, settings, steps)
            if found:
                write_atomically(path, json.dumps({way: asdict(t) for way, t in found.items()}))
            return found
    return found or _elsewhere(spec, settings, steps)


def kept_in() -> Path:
    """The folder of what was timed on this machine."""
    return data_dir() / "cache" / "compiling"


def _kept(path: Path, steps: int) -> dict[Way, Timed] | None:
    """What a file holds, if it says enough for so many steps; one that is damaged counts for nothing."""
    with suppress(OSError, ValueError, TypeError, AttributeError, KeyError):
        found: dict[Way, Timed] = {way: Timed(**t) for way, t in json.loads(path.read_bytes()).items()}
        if len(found) > 1 or found["eager"].whole(steps) < WORTH:
            return found
    return None


def _kind(spec: RunSpec, settings: Settings) -> str:
    """What decides how fast a step is: not the seed, nor how long or how fast it learns."""
    import torch

    device = torch.cuda.get_device_name() if settings.device == "cuda" else platform.processor() or platform.machine()
    named = ("batch_size", "precision", "tf32", "deterministic", "ema", "gradient_clip_norm")
    of_training = {k: spec.training[k] for k in named}
    data = {k: spec.data[k] for k in ("source", "stored", "preprocess")}
    here = [torch.__version__, device, settings.threads, spec.all_code]
    return digest([spec.target, spec.params, data, of_training, spec.training["optimizer"]["name"], here])[:16]


def _elsewhere(spec: RunSpec, settings: Settings, steps: int) -> dict[Way, Timed]:
    """`time_ways` in a process of its own; nothing where that fails or dies.

    Raises:
        KeyboardInterrupt: this process was asked to stop; that one is gone.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_time_there, args=(theirs, spec, settings, steps))
    with without_interrupts():
        process.start()
    theirs.close()
    try:
        while not ours.poll(0.2):
            check()
        found: dict[Way, Timed] = ours.recv()
        return found
    except EOFError:
        return {}
    finally:
        process.kill()
        process.join()
        ours.close()


def _time_there(pipe: Connection, *run: Any) -> None:
    """The life of a timing process: an interrupt is its parent's business, whose death ends it."""
    from latentbench.core.interrupts import leave_to_parent, watch_parent

    leave_to_parent()
    watch_parent()
    with suppress(Exception):  # what is wrong with the run will show in the run itself
        pipe.send(time_ways(*run))


def time_ways(spec: RunSpec, settings: Settings, steps: int) -> dict[Way, Timed]:
    """Time each way that there is on the settings' device, on a few steps of a run's training; nothing is kept.

    A way that fails, or that the model's loss does not come out the same by, is left out; so are all but the eager one
    where training takes less than `WORTH` seconds.
    """
    from latentbench.running.pilot import few_steps
    from latentbench.training.compiled import Compiled

    arrange(spec, settings)
    device = settings.device
    found: dict[Way, Timed] = {"eager": timing_of(few_steps(spec, device, WARM + TIMED))}
    if found["eager"].whole(steps) < WORTH:
        return found
    compiled: tuple[Way, ...] = ("inductor", "graphs") if device == "cuda" else ("inductor",)
    for way in compiled:
        with suppress(Exception):  # whatever it is, the model's own loss is there
            strategy = Compiled(way, device)
            timed = timing_of(few_steps(spec, device, WARM + TIMED, strategy))
            again = timing_of(few_steps(spec, device, WARM + 1, Compiled(way, device)))  # what was compiled is at hand
            if strategy.refused is None:
                found[way] = Timed(timed.step, again.start)
    return found


def timing_of(curve: Sequence[Mapping[str, float]]) -> Timed:
    """What the rows of a training's curve say, one a step, beyond `WARM` of them."""
    begun, last = next(row for row in curve if row["step"] >= WARM), curve[-1]
    steps = last["step"] - begun["step"]
    return Timed((last["seconds"] - begun["seconds"]) / steps, begun["seconds"])
