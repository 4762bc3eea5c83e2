"""One run over several devices of this machine: this process leads, and each further device has a helper process.

Every process does the whole run on the same seeds, with its shard of each batch (`latentbench.training.sharded`). The
leader alone writes checkpoints, evaluates and leaves the record. When to save and when to stop is agreed after every
step, so that all leave the loop at the same one. A process that fails or dies closes its connections; that wakes the
others from whatever sum they wait for, and the leader says which one it was and why.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentbench.acceleration.alone import why_alone
from latentbench.acceleration.helpers import Helper, first_lost
from latentbench.acceleration.processes import cores
from latentbench.acceleration.synchronised import SynchronisedCheckpoints
from latentbench.core.bounds import CPU_PROCESSES
from latentbench.core.interrupts import check, stopping
from latentbench.planning.plan import RunSpec
from latentbench.running.checkpoints import Checkpoints
from latentbench.running.conductor import TrainingContext, arrange, check_precision, ends_training, launched
from latentbench.running.settings import Settings
from latentbench.spec.registry import find_model, parameters

if TYPE_CHECKING:
    from lightning.fabric import Fabric


#: Longest wait for another process, as for the leader's validation.
TIMEOUT = timedelta(minutes=30)
#: Seconds for a helper to say what went wrong with it, once the leader has noticed that something did.
PATIENCE = 3.0


def devices_for(spec: RunSpec, settings: Settings) -> int:
    """Devices that a run is spread over: one where nothing is trained, or a batch must not be divided."""
    return settings.devices if why_on_one(spec) is None else 1


def why_on_one(spec: RunSpec) -> str | None:
    """Why a run stays on one device, if it does."""
    if (why := why_alone(spec)) is not None:
        return why
    if find_model(spec.model).whole_batch:
        return "its loss takes something from the batch as a whole"
    if _normalises_batches({**_defaults(spec), **spec.params}):
        return "it normalises batches"
    return None


def _defaults(spec: RunSpec) -> dict[str, bool]:
    """A model's own setting of batch normalisation, where it has one."""
    return {k: v.default == "True" for k, v in parameters(spec.target).items() if k == "batch_norm"}


def _normalises_batches(params: Any) -> bool:
    """Whether some part is asked for batch normalisation."""
    if isinstance(params, Mapping):
        return any(bool(v) if k == "batch_norm" else _normalises_batches(v) for k, v in params.items())
    return isinstance(params, list | tuple) and any(_normalises_batches(v) for v in params)


@contextmanager
def spread(spec: RunSpec, settings: Settings, checkpoints: Checkpoints) -> Iterator[TrainingContext]:
    """This process and a helper for each further device; they are gone when the block ends. Where there are too few
    devices, one takes the shards of all in turn.

    Args:
        spec, settings: the run, and how to carry it out.
        checkpoints: where its state is kept.

    Raises:
        Diverged, MemoryError, UserError, RuntimeError, KeyboardInterrupt: what happened to a helper first.
    """
    devices = devices_for(spec, settings)
    if enough(settings.device, devices):
        with _with_helpers(spec, settings, checkpoints, devices) as context:
            yield context
        return
    from latentbench.training.sharded import InTurn

    yield TrainingContext(launched(spec, settings, InTurn(devices, settings.device)), checkpoints)


def enough(device: str, devices: int) -> bool:
    """Whether there are so many of them: GPUs, or processes that the cores of this machine can bear."""
    import torch

    there = max(cores(), CPU_PROCESSES) if device == "cpu" else torch.cuda.device_count()
    return there >= devices


@contextmanager
def _with_helpers(
    spec: RunSpec, settings: Settings, checkpoints: Checkpoints, devices: int
) -> Iterator[TrainingContext]:
    with ExitStack() as after:
        folder = Path(after.enter_context(tempfile.TemporaryDirectory(prefix="latentbench-devices-")))
        helpers = [
            Helper(rank, _help, (GroupMember(rank, devices, folder / "rendezvous"), spec, settings, checkpoints.folder))
            for rank in range(1, devices)
        ]
        try:
            for helper in helpers:
                helper.await_ready()
            for helper in helpers:
                helper.go()
            with process_group(GroupMember(0, devices, folder / "rendezvous"), spec, settings) as (fabric, release):
                try:
                    yield TrainingContext(
                        fabric, SynchronisedCheckpoints(checkpoints, is_leader=True), ends_training(release)
                    )
                except Exception as error:
                    # while this process holds its connections, no helper fails because of it
                    lost = first_lost(helpers, PATIENCE if isinstance(error, RuntimeError) else 0.0)
                    if lost is not None:
                        raise lost.as_error() from error
                    raise
        finally:
            deadline = time.monotonic() + PATIENCE
            for helper in helpers:
                helper.end(deadline)


@dataclass(frozen=True)
class GroupMember:
    """A process's rank in its group, and the file through which the processes find each other."""

    rank: int
    world_size: int
    rendezvous: Path


@contextmanager
def process_group(
    member: GroupMember, spec: RunSpec, settings: Settings
) -> Iterator[tuple[Fabric, Callable[[], None]]]:
    """A launched Fabric that is one of several, and what ends the training's sharing."""
    import torch.distributed as dist
    from lightning.fabric import Fabric
    from lightning.fabric.plugins.environments import LightningEnvironment

    from latentbench.training.sharded import SideBySide

    class StartedHere(LightningEnvironment):
        """These processes are started here, not by Fabric."""

        @property
        def creates_processes_externally(self) -> bool:
            return True

        def local_rank(self) -> int:
            return member.rank

    # all of them are on this machine, so nothing listens on an address that others reach
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")
    backend = "gloo" if settings.device == "cpu" else "cpu:gloo,cuda:nccl"
    store = dist.FileStore(str(member.rendezvous), member.world_size)
    dist.init_process_group(backend, store=store, rank=member.rank, world_size=member.world_size, timeout=TIMEOUT)
    try:
        check_precision(spec.training["precision"], settings.device)
        strategy = SideBySide()
        fabric = Fabric(
            accelerator=settings.device,
            devices=member.world_size,
            strategy=strategy,
            plugins=[StartedHere()],
            precision=spec.training["precision"],
        )
        fabric.launch()
        arrange(spec, settings)  # Fabric may have set the threads
        yield fabric, strategy.release
    finally:
        with suppress(RuntimeError):  # the others may be gone
            dist.destroy_process_group()


def _help(
    pipe: Connection, after: ExitStack, member: GroupMember, spec: RunSpec, settings: Settings, folder: Path
) -> None:
    """A helper's part of a run: its training."""
    from latentbench.data.dataset import open_dataset
    from latentbench.running.experiment import run_experiment

    fingerprint = spec.fingerprint(open_dataset(spec.data["source"]).content_hash)
    own = SynchronisedCheckpoints(
        Checkpoints(folder, fingerprint, settings.checkpoint_seconds, stopping), is_leader=False
    )
    pipe.send(None)  # ready
    pipe.recv()
    fabric, _ = after.enter_context(process_group(member, spec, settings))
    run_experiment(replace(spec, metrics=()), fabric, on_phase=lambda _: check(), checkpoints=own)
