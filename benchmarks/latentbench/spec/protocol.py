"""The schema of a training protocol, apart from the rest of a suite because every run's code depends on it."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Strict(BaseModel):
    """Unknown keys and silent conversions are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Stage(Strict):
    """A stretch of training at a constant factor of the learning rate."""

    epochs: int = Field(ge=1)
    factor: float = Field(gt=0)


class Schedule(Strict):
    """Learning rate as a factor of the optimiser's `lr`.

    constant; linear or cosine (down to `final` over the whole training); exponential (times `decay` each epoch);
    stages (a list of epochs and factors, the last one holding on). `warmup` steps rise linearly from zero first.
    """

    name: Literal["constant", "linear", "cosine", "exponential", "stages"] = "constant"
    warmup: int = Field(0, ge=0)
    final: float = Field(0.0, ge=0, le=1)
    decay: float | None = Field(None, gt=0, le=1)
    stages: list[Stage] = []

    @model_validator(mode="after")
    def _complete(self) -> Self:
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


class Training(Strict):
    """The protocol. Every key may be given again, in part, by a method, an override or a tier."""

    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    batch_size: int = Field(128, ge=1)
    epochs: int | None = Field(None, ge=1)
    steps: int | None = Field(None, ge=1)
    gradient_clip_norm: float | None = Field(None, gt=0)
    ema: float | None = Field(None, gt=0, lt=1, description="decay of the weights' moving average used for evaluation")
    validate_every: int = Field(1, ge=1, description="epochs between validations, where they are needed")
    early_stopping: EarlyStopping | None = None
    select: Literal["last", "best"] = Field("last", description="which weights are evaluated: best on validation loss")
    precision: Literal["32-true", "16-mixed", "bf16-mixed"] = Field("32-true", description="of training")
    tf32: bool = False
    deterministic: bool = Field(False, description="the same bits on CUDA each time, at the price of slower kernels")

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
