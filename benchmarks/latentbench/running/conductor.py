"""What a run trains with: whoever conducts it provides a launched Fabric, and notes what the record says of that."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from latentbench.core.errors import UserError
from latentbench.planning.plan import RunSpec
from latentbench.running.checkpoints import Checkpoints
from latentbench.running.observer import Report
from latentbench.running.settings import Settings

if TYPE_CHECKING:
    from lightning.fabric import Fabric
    from lightning.fabric.strategies import Strategy

    from latentbench.running.evaluating import RunKeeper
    from latentbench.training.compiled import Way


@dataclass
class Notes:
    """What a record says of how its training was computed.

    Attributes:
        devices: that it was spread over.
        stacked: runs that trained as one program with it, itself included.
        compiled: how its loss was computed.
        step_seconds: of the ways of computing it that were timed for it, if any.
        other_seconds: that count for the run beyond those of its own attempt; below zero, less of them do.
    """

    devices: int = 1
    stacked: int = 1
    compiled: Way = "eager"
    step_seconds: Mapping[str, float] = field(default_factory=dict)
    other_seconds: float = 0.0


@dataclass(frozen=True)
class TrainingContext:
    """What an experiment is done with.

    Attributes:
        fabric: launched.
        checkpoints: for the experiment.
        on_phase: to be called as each phase of the run begins.
    """

    fabric: Fabric
    checkpoints: RunKeeper
    on_phase: Callable[[str], None] = lambda _: None


class Conductor(Protocol):
    """Decides how a run's training is computed."""

    def devices(self, spec: RunSpec, settings: Settings) -> int:
        """Devices that a run is spread over."""
        ...

    def conduct(
        self, spec: RunSpec, settings: Settings, checkpoints: Checkpoints, notes: Notes, report: Report
    ) -> AbstractContextManager[TrainingContext]:
        """What the run trains with, for as long as the block lasts.

        Args:
            spec, settings: the run, and how to carry it out.
            checkpoints: where its state is kept.
            notes: filled in here; they are whole when the block has ended.
            report: told what is done before the training begins.

        Raises:
            Exception: why it cannot be done; the run has failed then.
            KeyboardInterrupt: the process was asked to stop.
        """
        ...


class SingleDevice:
    """Trains each run on one device by the model's own loss."""

    def devices(self, spec: RunSpec, settings: Settings) -> int:
        return 1

    @contextmanager
    def conduct(
        self, spec: RunSpec, settings: Settings, checkpoints: Checkpoints, notes: Notes, report: Report
    ) -> Iterator[TrainingContext]:
        arrange(spec, settings)
        yield TrainingContext(launched(spec, settings), checkpoints)


def arrange(spec: RunSpec, settings: Settings) -> None:
    """Threads and precision of this process."""
    import torch

    torch.set_num_threads(settings.threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = bool(spec.training["tf32"])


def check_precision(precision: str, device: str) -> None:
    """Refuse half precision where there is none: Lightning would train in another and say so on stderr alone.

    Raises:
        UserError: it is ``16-mixed`` on a CPU.
    """
    if precision == "16-mixed" and device == "cpu":
        raise UserError(
            "a CPU does not train in precision 16-mixed",
            fix="use --device cuda, or another `precision` at this tier: bf16-mixed or 32-true",
        )


def launched(spec: RunSpec, settings: Settings, strategy: Strategy | None = None) -> Fabric:
    """Fabric on one device.

    Args:
        spec, settings: say which, and in what precision.
        strategy: instead of its plain one.
    """
    from lightning.fabric import Fabric

    precision = spec.training["precision"]
    check_precision(precision, settings.device)
    if strategy is None:
        fabric = Fabric(accelerator=settings.device, devices=1, precision=precision)
    else:
        fabric = Fabric(accelerator=settings.device, devices=1, precision=precision, strategy=strategy)
    fabric.launch()
    return fabric


def ends_training(release: Callable[[], None]) -> Callable[[str], None]:
    """An `on_phase` that calls `release` when the evaluation begins."""

    def on_phase(phase: str) -> None:
        if phase == "evaluation":
            release()

    return on_phase
