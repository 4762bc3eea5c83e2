"""The schema of a training protocol, apart from the rest of a suite because every run's code depends on it."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Strict(BaseModel):
    """Unknown keys and silent conversions are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, defer_build=True)


class Stage(Strict):
    """A stretch of training at a constant factor of the learning rate."""

    epochs: int = Field(ge=1)
    factor: float = Field(gt=0)


class Schedule(Strict):
    """Learning rate as a factor of the optimiser's `lr`.

    constant; linear or cosine (down to `final` over the whole training, or cosine anew every `period` steps: SGDR's
    warm restarts); exponential (times `decay` each epoch); stages (a list of epochs and factors, the last one holding
    on). `warmup` steps rise linearly from zero first.
    """

    name: Literal["constant", "linear", "cosine", "exponential", "stages"] = "constant"
    warmup: int = Field(0, ge=0)
    final: float = Field(0.0, ge=0, le=1)
    decay: float | None = Field(None, gt=0, le=1)
    stages: list[Stage] = []
    period: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.period is not None and self.name != "cosine":
            raise ValueError("`period` goes with name: cosine")
        if (self.name == "stages") != bool(self.stages):
            raise ValueError("`stages` goes with name: stages, and that needs it")
        if (self.name == "exponential") != (self.decay is not None):
            raise ValueError("`decay` goes with name: exponential, and that needs it")
        return self


Beta = Annotated[float, Field(ge=0, lt=1, strict=True)]


class Optimizer(Strict):
    """A torch.optim optimiser; keys that it does not take are refused when it is built."""

    name: Literal["adam", "adamw", "adamax", "adagrad", "rmsprop", "sgd"] = "adam"
    lr: float = Field(1e-3, gt=0)
    betas: Annotated[tuple[Beta, Beta] | None, Field(strict=False)] = None  # YAML and JSON have lists only
    eps: float | None = Field(None, gt=0)
    weight_decay: float | None = Field(None, ge=0)
    momentum: float | None = Field(None, ge=0, lt=1)


class EarlyStopping(Strict):
    """Stop when the validation loss has not fallen by `min_delta` for `patience` validations."""

    patience: int = Field(ge=1)
    min_delta: float = Field(0.0, ge=0)


class PlayerOptimizer(Optimizer):
    """The optimiser of one player. Schedule and clipping are the training's where none of its own is given."""

    schedule: Schedule | None = None
    gradient_clip_norm: float | None = Field(None, gt=0)


class Phase(Strict):
    """What is done within a step: gradient steps of one player, or an update of the model's own.

    The phases of a step share its batch, and each update draws its own noise; with `fresh` each update of the phase
    takes the next batch of the epoch.
    """

    player: str | None = None
    update: str | None = Field(None, description="a step that is no gradient step, by the model's name for it")
    times: int = Field(1, ge=1)
    fresh: bool = False

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.player is None) == (self.update is None):
            raise ValueError("a phase has one of `player` and `update`")
        return self


class TrainingProtocol(Strict):
    """One training from its start to its end."""

    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    batch_size: Annotated[int, Field(ge=1)] | Literal["whole"] = 128
    epochs: int | None = Field(None, ge=1)
    steps: int | None = Field(None, ge=1)
    gradient_clip_norm: float | None = Field(None, gt=0)
    ema: float | None = Field(None, gt=0, lt=1, description="decay of the weights' moving average used for evaluation")
    validate_every: int = Field(1, ge=1, description="epochs between validations, where they are needed")
    early_stopping: EarlyStopping | None = None
    select: Literal["last", "best"] = Field("last", description="which weights are evaluated: best on validation loss")
    optimizers: dict[str, PlayerOptimizer] = Field({}, description="by player; the others take `optimizer`")
    phases: list[Phase] = Field([], max_length=100, description="of one step; each player once, in turn, if empty")

    @model_validator(mode="after")
    def _one_length(self) -> Self:
        if self.epochs is not None and self.steps is not None:
            raise ValueError("`epochs` and `steps` are both given; keep one")
        if self.schedule.stages:
            total = sum(s.epochs for s in self.schedule.stages)
            if self.steps is not None:
                raise ValueError("`stages` count epochs, so give `epochs`, not `steps`")
            if self.epochs is not None and self.epochs != total:
                raise ValueError(f"the schedule's stages add up to {total} epochs, not {self.epochs}")
        return self

    @model_validator(mode="after")
    def _players_move(self) -> Self:
        moving = {p.player for p in self.phases}
        for player in self.optimizers if self.phases else ():
            if player not in moving:
                raise ValueError(f"`optimizers` names {player!r}, which no phase moves")
        return self

    @property
    def batches_per_step(self) -> int:
        """How many batches a step takes from the epoch: one that its phases share, and each fresh one."""
        fresh = sum(p.times for p in self.phases if p.fresh)
        return fresh + (not self.phases or any(not p.fresh for p in self.phases))

    def batch_rows(self, rows: int) -> int:
        """Rows of a full batch, of `rows` in all."""
        return max(1, rows) if self.batch_size == "whole" else self.batch_size

    @property
    def length(self) -> tuple[int | None, int | None]:
        """Epochs and steps, of which one at most is given."""
        return self.epochs or sum(s.epochs for s in self.schedule.stages) or None, self.steps


class TrainingStage(TrainingProtocol):
    """One of several trainings that follow on each other; what is not given is as in the training around it.

    With `model` (or `method`, which stands for that method's model, parameters and training) the stage is a run of its
    own, done once for all runs that name the same one, and its weights are taken over.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=60)
    rows: str = Field("data", description="what it sees: the data, or what the model makes of them: codes, ...")
    trains: list[str] = Field([], description="parts of the model, by attribute, that it moves; empty: all it can")
    model: str | None = None
    method: str | None = Field(None, description="of the suite, in place of `model`, `params` and a training")
    params: dict[str, Any] = {}
    seed: int | None = Field(None, ge=0, description="of a stage with `model`, where it is the same for all runs")

    @model_validator(mode="after")
    def _own_or_taken(self) -> Self:
        if self.model is not None and self.method is not None:
            raise ValueError("`model` and `method` are both given; keep one")
        if self.model is None and (self.params or (self.seed is not None and self.method is None)):
            raise ValueError("`params` and `seed` go with `model`")
        if (self.model or self.method) is not None and (self.trains or self.rows != "data"):
            raise ValueError("a stage with a `model` of its own trains all of it on the data")
        return self


class Training(TrainingProtocol):
    """The protocol. Every key may be given again, in part, by a method, an override or a tier."""

    precision: Literal["32-true", "16-mixed", "bf16-mixed"] = Field("32-true", description="of training")
    tf32: bool = False
    deterministic: bool = Field(False, description="the same bits on CUDA each time, at the price of slower kernels")
    in_stages: list[TrainingStage] = Field([], max_length=20, description="trainings that follow on each other")

    @model_validator(mode="after")
    def _stages_apart(self) -> Self:
        names = [s.name for s in self.in_stages]
        if len(set(names)) < len(names):
            raise ValueError("two stages of one name")
        if self.in_stages and (self.in_stages[-1].model or self.in_stages[-1].method) is not None:
            raise ValueError("the last stage is the method's own training, so it has no `model`")
        return self
