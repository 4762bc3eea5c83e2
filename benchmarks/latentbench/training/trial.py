"""A few steps of a model's training, whatever kind it is: what contract tests and estimates need."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import nn

from latentbench.core.capabilities import Fittable, Iterative, Players, Staged, Trainable, Updates
from latentbench.core.errors import UserError
from latentbench.spec.protocol import Training, TrainingStage
from latentbench.training.in_stages import Weights, train_in_stages
from latentbench.training.loop import train
from latentbench.training.state import Checkpointer, Trained

if TYPE_CHECKING:
    from latentbench.training.source import Source


def train_briefly(
    model: Any,
    rows: Source,
    steps: int,
    training: Mapping[str, Any] | None = None,
    *,
    seed: int = 0,
    checkpoints: Checkpointer | None = None,
) -> Trained:
    """Train `model` on the CPU for a few steps, of each stage where it has stages.

    Args:
        model: of any kind but one whose stages are runs of their own; those keep their initial weights.
        rows: its training set.
        steps: of each training.
        training: its protocol, but for the length; Adam at 1e-3 where nothing is said.
        seed: of order and noise.
        checkpoints: as those of `latentbench.training.loop.train`.

    Raises:
        UserError: the model cannot be trained, or not by this protocol.
    """
    from lightning.fabric import Fabric

    given = dict(training or {})
    short = {"epochs": None, "steps": steps, "schedule": {"name": "constant"}, "early_stopping": None, "select": "last"}
    stages = [{**stage, **short} for stage in given.get("in_stages", ())]
    spec = Training.model_validate({"batch_size": 16, **given, **short, "in_stages": stages})
    fabric = Fabric(accelerator="cpu", devices=1)
    fabric.launch()
    if isinstance(model, Fittable) and not isinstance(model, Trainable):
        raise UserError("the model is fitted at once", fix="call `fit`")
    if stages and isinstance(model, nn.Module):
        parts = model.stages() if isinstance(model, Staged) else {}

        def as_it_is(stage: TrainingStage) -> tuple[Weights, Trained]:
            return copy.deepcopy(parts.get(stage.name, model).state_dict()), Trained()

        return train_in_stages(model, rows, None, spec, fabric, seed, as_it_is, checkpoints=checkpoints)
    if not isinstance(model, Iterative | Trainable | Players | Updates):
        raise UserError("the model cannot be trained by itself", fix="say in `training` which stages it has")
    return train(model, rows, None, spec, fabric, seed, checkpoints=checkpoints)
