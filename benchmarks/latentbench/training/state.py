"""Everything that a training needs in order to go on as if it had never stopped."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Generator, Tensor, nn

from latentbench.core.capabilities import OwnState
from latentbench.core.errors import Diverged
from latentbench.spec.protocol import TrainingProtocol

if TYPE_CHECKING:
    from lightning.fabric import Fabric


@dataclass
class Trained:
    """What a training leaves behind, besides the weights.

    `curve` has one row a logged step: step, epoch, seconds, loss and the model's other terms (means over the batch),
    and ``valid_loss`` where validation ran. `seconds` adds up over interruptions. `taken` has one entry for each stage
    whose weights were trained elsewhere: its name, fingerprint, steps and seconds, which count nowhere else.
    """

    steps: int = 0
    epochs: float = 0.0
    seconds: float = 0.0
    samples: int = 0
    best_step: int | None = None
    stopped_early: bool = False
    curve: list[dict[str, float]] = field(default_factory=list)
    taken: list[dict[str, Any]] = field(default_factory=list)


class Checkpointer(Protocol):
    """Where a training's state is kept. `state` is a nest of dicts, lists, tuples, numbers, strings and tensors."""

    def latest(self) -> dict[str, Any] | None:
        """The last state that was saved whole, or None."""
        ...

    def due(self, *, final: bool = False) -> bool:
        """Whether to save now: enough time has passed, or the process has been asked to stop."""
        ...

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Keep the state after `step` steps; a copy is taken before this returns."""
        ...

    @property
    def stopping(self) -> bool:
        """Whether the process has been asked to stop."""
        ...


@dataclass(frozen=True)
class Frame:
    """The larger training that one training is a stage of.

    Attributes:
        stage: its name, for the seeds; empty where there is but one training.
        whole: what a checkpoint holds the weights of, where that is more than the model that is trained.
        still: parts of it that stand still, so that they are never in training mode.
    """

    stage: tuple[str, ...] = ()
    whole: Any = None
    still: Sequence[nn.Module] = ()


#: One training that is no stage of another.
ALONE = Frame()


class Average:
    """Exponential moving average of the weights; buffers follow the model."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

        self._averaged: Any = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))

    def update(self, model: nn.Module) -> None:
        self._averaged.update_parameters(model)

    @property
    def model(self) -> nn.Module:
        return self._averaged.module

    def state(self) -> dict[str, Any]:
        return self._averaged.state_dict()

    def load(self, state: dict[str, Any]) -> None:
        self._averaged.load_state_dict(state)


class Best:
    """Remembers the best weights and says when to stop."""

    def __init__(self, spec: TrainingProtocol) -> None:
        self._keep = spec.select == "best"
        self._patience = spec.early_stopping.patience if spec.early_stopping else None
        self._delta = spec.early_stopping.min_delta if spec.early_stopping else 0.0
        self._best = self._mark = math.inf
        self._waited = 0
        self.step: int | None = None
        self.weights: dict[str, Any] | None = None

    def stop(self, loss: float, step: int, model: nn.Module) -> bool:
        if not math.isfinite(loss):
            raise Diverged(f"the validation loss is {loss} at step {step}")
        if loss < self._best:
            self._best, self.step = loss, step
            if self._keep:
                self.weights = copy.deepcopy(model.state_dict())
        if loss < self._mark - self._delta:
            self._mark, self._waited = loss, 0
        else:
            self._waited += 1
        return self._patience is not None and self._waited >= self._patience

    def state(self) -> dict[str, Any]:
        return {
            "best": self._best,
            "mark": self._mark,
            "waited": self._waited,
            "step": self.step,
            "weights": self.weights,
        }

    def load(self, state: dict[str, Any]) -> None:
        self._best, self._mark, self._waited = state["best"], state["mark"], state["waited"]
        self.step, self.weights = state["step"], state["weights"]


class Standing:
    """Where a training stands: all that changes from step to step.

    Attributes:
        average, best: the moving average of the weights and the best ones, where the protocol has them.
        out: counts and curve.
        running: sums of the losses since step `logged_at`: a scalar, or one of each player.
        loss: mean of the only loss when it was last logged.
        finished: the model holds the weights that are to be evaluated.
    """

    def __init__(
        self,
        model: Any,
        optimizers: Sequence[torch.optim.Optimizer],
        fabric: Fabric,
        noise: Generator,
        average: Average | None,
        best: Best | None,
        running: Tensor | None = None,
    ) -> None:
        self._model, self._optimizers, self._noise = model, optimizers, noise
        self.average, self.best = average, best
        self._precision: Any = fabric.strategy.precision
        self._device = fabric.device
        self.out = Trained()
        self.running = torch.zeros((), device=fabric.device) if running is None else running
        self.logged_at = 0
        self.loss: float | None = None
        self.finished = False

    def state(self) -> dict[str, Any]:
        """For a `Checkpointer`; tensors are the live ones."""
        cuda = torch.cuda.get_rng_state(self._device) if self._device.type == "cuda" else None
        return {
            "out": asdict(self.out),
            "running": self.running,
            "logged_at": self.logged_at,
            "loss": self.loss,
            "finished": self.finished,
            "model": dict(self._model.state_dict()),
            "own": self._model.own_state() if isinstance(self._model, OwnState) else None,
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
            "precision": self._precision.state_dict(),
            "noise": self._noise.get_state(),
            "global": {"cpu": torch.get_rng_state(), "cuda": cuda},
            "average": self.average.state() if self.average is not None else None,
            "best": self.best.state() if self.best is not None else None,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Take up a state of the same run."""
        self.out = Trained(**state["out"])
        self.running = state["running"].to(self._device)
        self.logged_at, self.loss, self.finished = state["logged_at"], state["loss"], state["finished"]
        self._model.load_state_dict(state["model"])
        if isinstance(self._model, OwnState):
            self._model.load_own_state(state["own"])
        for optimizer, kept in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(kept)
        self._precision.load_state_dict(state["precision"])
        self._noise.set_state(state["noise"])
        torch.set_rng_state(state["global"]["cpu"])
        if state["global"]["cuda"] is not None and self._device.type == "cuda":
            torch.cuda.set_rng_state(state["global"]["cuda"], self._device)
        if self.average is not None:
            self.average.load(state["average"])
        if self.best is not None:
            self.best.load(state["best"])
