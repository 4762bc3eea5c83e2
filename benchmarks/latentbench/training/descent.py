"""What a step of gradient training does: it moves one player, or several in turn, each towards its own loss.

A model with `loss` alone has one player. Between the players' moves a step may hold updates of the model's own, which
are no gradient steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Generator, Tensor, nn

from latentbench.core.capabilities import Players, Trainable, Updates
from latentbench.core.errors import UserError, did_you_mean
from latentbench.core.types import Batch
from latentbench.spec.protocol import Phase, PlayerOptimizer, TrainingProtocol
from latentbench.training.optim import build_optimizer, learning_rate_factor

if TYPE_CHECKING:
    from lightning.fabric import Fabric

    from latentbench.training.order import Order

#: The player of a model that has but one.
ONLY = "model"


@dataclass
class _Player:
    """A player's part of the training. `factor` gives its learning rate at a step, as a factor of `lr`."""

    parameters: list[nn.Parameter]
    optimizer: Any
    factor: Callable[[int], float]
    lr: float
    clip: float | None
    current: float | None = None


class Descent:
    """Steps of gradient training.

    Args:
        model: a module that is `Trainable` or has `Players`, `Updates` or both.
        spec: the protocol.
        order: of the batches.
        fabric: launched; it moves the model.
        noise: the generator that losses and updates draw from.

    Attributes:
        names: of the losses, in the order in which `step` gives them; the only one has no name.
        optimizers: one a player.

    Raises:
        UserError: the protocol names a player or update that the model does not have.
    """

    def __init__(
        self, model: nn.Module, spec: TrainingProtocol, order: Order, fabric: Fabric, noise: Generator
    ) -> None:
        self._fabric, self._noise = fabric, noise
        self._several = isinstance(model, Players)
        parameters = check_protocol(model, spec)
        self._phases = spec.phases or [Phase(player=name) for name in parameters]
        settings = {name: spec.optimizers.get(name, spec.optimizer) for name in parameters}
        self.optimizers: Sequence[torch.optim.Optimizer] = [
            build_optimizer(parameters[name], settings[name]) for name in parameters
        ]
        if self.optimizers:
            self._module, *wrapped = fabric.setup(model, *self.optimizers)
        else:
            self._module, wrapped = fabric.setup(model), []
        for method in ("player_loss",) if self._several else ("loss",) if parameters else ():
            self._module.mark_forward_method(method)
        self._players: dict[str, _Player] = {}
        for (name, own), optimizer in zip(parameters.items(), wrapped, strict=True):
            given = settings[name]
            schedule, clip = spec.schedule, spec.gradient_clip_norm
            if isinstance(given, PlayerOptimizer):
                schedule, clip = given.schedule or schedule, given.gradient_clip_norm or clip
            factor = learning_rate_factor(schedule, order.steps_per_epoch, order.last or 1)
            self._players[name] = _Player(own, optimizer, factor, given.lr, clip)
        self.names = tuple(self._players) if self._several else ("",) * len(self._players)

    def begin(self) -> None:
        """A gradient training needs nothing before its first step."""

    def done(self) -> bool:
        return False

    def rates(self) -> dict[str, float]:
        """Learning rates of the last step, as a curve has them."""
        return {f"{name}.lr" if self._several else "lr": p.current or 0.0 for name, p in self._players.items()}

    def step(self, step: int, draw: Callable[[], Batch]) -> tuple[dict[str, Tensor | float], Tensor | None]:
        """Do the phases of a step.

        Args:
            step: its number, from 0.
            draw: gives the next batch.

        Returns:
            The terms to log, and each player's loss (its mean, where it moved more than once), detached: a scalar of
            the only player, else (players,).
        """
        for player in self._players.values():
            if (wanted := player.lr * player.factor(step)) != player.current:
                player.current = wanted
                for group in player.optimizer.param_groups:
                    group["lr"] = wanted
        shown: dict[str, Tensor | float] = {}
        losses: dict[str, list[Tensor]] = {name: [] for name in self._players}
        shared: Batch | None = None
        for phase in self._phases:
            for _ in range(phase.times):
                batch = draw() if phase.fresh or shared is None else shared
                shared = shared if phase.fresh else batch
                if phase.player is not None:
                    terms: Mapping[str, Tensor | float] = self._move(phase.player, batch)
                    losses[phase.player].append(cast(Tensor, terms["loss"]).detach())
                else:
                    terms = self._update(cast(str, phase.update), batch)
            prefix = f"{phase.player or phase.update}." if self._several or phase.player is None else ""
            shown |= {f"{prefix}{k}": v for k, v in terms.items()}
        return shown, self._losses(losses)

    def _losses(self, losses: Mapping[str, Sequence[Tensor]]) -> Tensor | None:
        if not losses:
            return None
        if not self._several and len(losses[ONLY]) == 1:
            return losses[ONLY][0]
        means = [torch.stack(list(each)).mean() for each in losses.values()]
        return torch.stack(means) if self._several else means[0]

    def _move(self, name: str, batch: Batch) -> dict[str, Tensor]:
        if not self._several:
            return self._descend(self._players[name], lambda: self._module.loss(batch, self._noise))
        with self._alone(self._players[name]) as player:
            return self._descend(player, lambda: self._module.player_loss(name, batch, self._noise))

    def _descend(self, player: _Player, loss: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
        with self._fabric.autocast():  # Fabric itself enters it for `forward` alone
            terms = loss()
        player.optimizer.zero_grad()
        self._fabric.backward(terms["loss"])
        if player.clip is not None:
            self._fabric.clip_gradients(self._module, player.optimizer, max_norm=player.clip, error_if_nonfinite=False)
        player.optimizer.step()
        return terms

    @contextmanager
    def _alone(self, player: _Player) -> Iterator[_Player]:
        """Inside the block no other player's parameter wants a gradient."""
        mine = {id(p) for p in player.parameters}
        others = [p for other in self._players.values() for p in other.parameters]
        still = [p for p in others if p.requires_grad and id(p) not in mine]
        for parameter in still:
            parameter.requires_grad_(False)
        try:
            yield player
        finally:
            for parameter in still:
                parameter.requires_grad_(True)

    def _update(self, name: str, batch: Batch) -> Mapping[str, Tensor | float]:
        with torch.no_grad(), self._fabric.autocast():
            terms: Mapping[str, Tensor | float] = self._module.update(name, batch, self._noise)
        return terms


def _parameters(model: Any) -> dict[str, list[nn.Parameter]]:
    """What each player moves."""
    if isinstance(model, Players):
        return {name: list(own) for name, own in model.players().items()}
    return {ONLY: list(cast(nn.Module, model).parameters())} if isinstance(model, Trainable) else {}


def check_protocol(model: Any, spec: TrainingProtocol) -> dict[str, list[nn.Parameter]]:
    """What each player moves.

    Raises:
        UserError: the protocol names what the model does not have, or leaves out what it has.
    """
    parameters = _parameters(model)
    for name in [*spec.optimizers, *(p.player for p in spec.phases if p.player is not None)]:
        if name not in parameters:
            raise UserError(
                f"the model has no player {name!r}", where="training", fix=did_you_mean(name, parameters, "none there")
            )
    if spec.phases and len(moving := {p.player for p in spec.phases if p.player}) < len(parameters):
        idle = next(name for name in parameters if name not in moving)
        raise UserError(f"no phase moves player {idle!r}", where="training.phases", fix="add one")
    if any(p.update for p in spec.phases) and not isinstance(model, Updates):
        raise UserError("the model has no updates of its own", where="training.phases", fix="name players only")
    for name, own in parameters.items():
        if isinstance(model, Players) and not own:
            raise UserError(f"player {name!r} has no parameters", where="training", fix="mend the model's `players`")
    if not spec.phases and not parameters:
        raise UserError("the model has updates alone", where="training", fix="say in `phases` which ones a step does")
    return parameters
