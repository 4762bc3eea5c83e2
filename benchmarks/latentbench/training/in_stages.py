"""Trainings that follow on each other: parts of a model in turn, each on rows or on what earlier parts make of them.

A stage whose weights come from a model of its own is not trained here: its caller gives the weights, which other runs
may share.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Generator, Tensor, nn

from latentbench.core.capabilities import Encoder, Fittable, Iterative, OwnState, Preparable, Staged, StageRows
from latentbench.core.errors import UserError, did_you_mean
from latentbench.core.seeds import Seeds, generator
from latentbench.spec.protocol import Training, TrainingStage
from latentbench.training.ledger import Ledger, StageCheckpoints, joined
from latentbench.training.loop import Progress, train
from latentbench.training.source import Source
from latentbench.training.state import Checkpointer, Frame, Trained

if TYPE_CHECKING:
    from lightning.fabric import Fabric

#: Rows of which a stage's own rows are made at once.
BLOCK = 1024

Weights = Mapping[str, Tensor]
#: From a stage that has a model of its own to that model's weights, and an account of how they came about.
Take = Callable[[TrainingStage], tuple[Weights, Trained]]


def train_in_stages(
    model: nn.Module,
    train_set: Source,
    valid_set: Source | None,
    spec: Training,
    fabric: Fabric,
    seed: int | Seeds,
    take: Take,
    *,
    on_progress: Callable[[Progress], None] = lambda _: None,
    on_log: Callable[[dict[str, float]], None] = lambda _: None,
    checkpoints: Checkpointer | None = None,
) -> Trained:
    """Train `model` in place, as `latentbench.training.loop.train` does, stage by stage.

    Args:
        model: `Staged`, or one whose stages all train the whole of it.
        take: gives the weights of the stages that have a model of their own.

    Returns:
        All stages as one training (`latentbench.training.ledger.joined`).

    Raises:
        Diverged, KeyboardInterrupt: as `train`.
        UserError: the model cannot be trained in these stages.
    """
    parts = parts_of(model, spec.in_stages)
    fabric.to_device(model)
    kept = checkpoints.latest() if checkpoints is not None else None
    ledger = Ledger() if kept is None else Ledger([Trained(**one) for one in kept["over"]])
    if kept is not None:
        model.load_state_dict(kept["stage"]["model"])
        if kept["finished"]:
            return Trained(**kept["out"])
    for number, stage in list(enumerate(spec.in_stages))[len(ledger.over) :]:
        part = parts[stage.name]
        if stage.model is not None:
            weights, account = take(stage)
            _load(part, weights, stage)
            ledger.over.append(account)
            continue
        going_on = None if kept is None or number > len(kept["over"]) else kept["stage"]
        own = (
            None if checkpoints is None
            else StageCheckpoints(checkpoints, ledger, going_on, last=stage is spec.in_stages[-1])
        )  # fmt: skip
        rows = [
            None if split is None else stage_rows(model, stage, split, _draws(fabric, seed, stage, "rows", name))
            for name, split in (("train", train_set), ("valid", valid_set))
        ]
        assert rows[0] is not None
        with only(model, part, stage) as still:
            if isinstance(part, Preparable):
                draws = _draws(fabric, seed, stage, "prepare")
                part.prepare(rows[0].whole(draws).x, draws)
            if isinstance(part, Fittable) and not hasattr(part, "loss"):
                draws = _draws(fabric, seed, stage, "fit")
                since, x = time.monotonic(), rows[0].whole(draws).x
                part.fit(x, draws)
                ledger.over.append(Trained(samples=len(x), seconds=time.monotonic() - since))
                continue
            trained = train(
                part, rows[0], rows[1], stage, fabric, seed,
                on_progress=_counted_on(on_progress, joined(ledger.over).steps),
                on_log=lambda row: on_log(ledger.row(row)),
                checkpoints=own, frame=Frame((stage.name,), _Whole(model, part), still),
            )  # fmt: skip
        ledger.over.append(trained)
    return ledger.with_present(Trained())


def _counted_on(on_progress: Callable[[Progress], None], before: int) -> Callable[[Progress], None]:
    """Tells of a stage's progress with the steps of those before it."""
    return lambda p: on_progress(replace(p, step=before + p.step, steps=p.steps and before + p.steps))


@dataclass(frozen=True)
class _Whole:
    """What a stage's checkpoint holds: the whole model's weights, and what its part keeps besides."""

    model: nn.Module
    part: Any

    def state_dict(self) -> dict[str, Tensor]:
        return self.model.state_dict()

    def load_state_dict(self, state: Weights) -> None:
        self.model.load_state_dict(state)

    def own_state(self) -> Any:
        return self.part.own_state() if isinstance(self.part, OwnState) else None

    def load_own_state(self, state: Any) -> None:
        if isinstance(self.part, OwnState):
            self.part.load_own_state(state)


def parts_of(model: nn.Module, stages: Sequence[TrainingStage]) -> dict[str, Any]:
    """Stage -> the part of the model that it trains.

    Raises:
        UserError: the model has no such stage.
    """
    if not isinstance(model, Staged):
        return {stage.name: model for stage in stages}
    known = model.stages()
    for stage in stages:
        if stage.name not in known:
            raise UserError(
                f"the model has no stage {stage.name!r}",
                where="training.in_stages",
                fix=did_you_mean(stage.name, known),
            )
    own = {id(p) for p in model.parameters()}
    for name, part in known.items():
        if isinstance(part, nn.Module) and any(id(p) not in own for p in part.parameters()):
            raise UserError(
                f"stage {name!r} trains parameters that are not the model's", where="training.in_stages",
                fix="make what it trains an attribute of the model, so that it is kept with its weights",
            )  # fmt: skip
    return {stage.name: known[stage.name] for stage in stages}


def stage_rows(model: nn.Module, stage: TrainingStage, rows: Source, draws: Generator) -> Source:
    """What a stage sees: `rows`, or what the model, as it stands, makes of them; other columns stay beside them.

    Raises:
        UserError: the model makes nothing of that name.
    """
    if stage.rows == "data":
        return rows
    if not isinstance(model, StageRows) and not (stage.rows == "codes" and isinstance(model, Encoder)):
        raise UserError(
            f"stage {stage.name!r} sees {stage.rows!r}, which the model does not make",
            where="training.in_stages",
            fix="give it `stage_rows`, or `encode` for codes",
        )
    made: list[Mapping[str, Tensor]] = []
    model.eval()
    with torch.no_grad():
        for index in torch.arange(len(rows), device=draws.device).split(BLOCK):
            batch = rows.batch(index, draws, 0, 0.0)
            found = (
                model.stage_rows(stage.rows, batch, draws) if isinstance(model, StageRows) else model.encode(batch.x)
            )
            made.append(dict(batch.columns) | (dict(found) if isinstance(found, Mapping) else {"x": found}))
    whole = {name: torch.cat([block[name] for block in made]) for name in made[0]}
    return Source.ready(whole.pop("x"), whole)


@contextmanager
def only(model: nn.Module, part: Any, stage: TrainingStage) -> Iterator[list[nn.Module]]:
    """Inside the block only what the stage trains wants gradients; gives the modules of which nothing is trained.

    Raises:
        UserError: `trains` names nothing that the model has.
    """
    wanting = [p for p in model.parameters() if p.requires_grad]
    chosen = [part] if isinstance(part, nn.Module) else []
    if stage.trains:
        chosen = []
        for name in stage.trains:
            try:
                chosen.append(model.get_submodule(name))
            except AttributeError:
                known = [n for n, _ in model.named_modules() if n]
                raise UserError(
                    f"stage {stage.name!r} trains {name!r}, which the model does not have",
                    where="training.in_stages",
                    fix=did_you_mean(name, known, "`trains` names attributes of the model that are modules"),
                ) from None
    moving = {id(p) for module in chosen for p in module.parameters()}
    for parameter in wanting:
        parameter.requires_grad_(id(parameter) in moving)
    moving = {id(p) for p in wanting if p.requires_grad}
    still = [m for m in model.modules() if (own := {id(p) for p in m.parameters()}) and not own & moving]
    try:
        yield still if not isinstance(part, Iterative) else []
    finally:
        for parameter in wanting:
            parameter.requires_grad_(True)


def _load(part: Any, weights: Weights, stage: TrainingStage) -> None:
    try:
        part.load_state_dict(weights)
    except (AttributeError, RuntimeError) as e:
        raise UserError(
            f"the weights of stage {stage.name!r} do not fit the model's part: {' '.join(str(e).split())[:300]}",
            where="training.in_stages",
            fix="build that part as the stage's model is built",
        ) from None


def _draws(fabric: Fabric, seed: int | Seeds, stage: TrainingStage, *context: str) -> Generator:
    return generator(seed, "noise", "stage", stage.name, *context, device=str(fabric.device))
