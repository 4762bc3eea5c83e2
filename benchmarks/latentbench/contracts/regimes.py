"""Contract tests of models that train otherwise than by one loss: players, own iterations, state beside the weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from latentbench.contracts.subject import Subject, generator, require

#: Iterations before the state is carried over, and after.
ITERATIONS = 2


def players(subject: Subject) -> str | None:
    """Each player's loss is a finite scalar whose gradient reaches all of its parameters; nobody moves another's."""
    require(subject, "Players")
    model = subject.copy()
    names = {id(p): name for name, p in model.named_parameters() if p.requires_grad}
    owners: dict[int, str] = {}
    for player, moved in model.players().items():
        for p in moved:
            if other := owners.get(id(p)):
                return f"{names.get(id(p), 'a tensor')} is moved by {other} and by {player}"
            owners[id(p)] = player
    if idle := [name for key, name in names.items() if key not in owners]:
        return f"nobody moves {', '.join(idle[:5])}"
    for player, moved in model.players().items():
        own = list(moved)
        for p in model.parameters():
            p.requires_grad_(any(p is q for q in own))
            p.grad = None
        terms = model.player_loss(player, subject.batch(), generator())
        if "loss" not in terms:
            return f"the loss of {player} has no key `loss`"
        if wrong := [k for k, v in terms.items() if tuple(v.shape) != () or not bool(v.isfinite())]:
            return f"of {player}, no finite scalars: {', '.join(wrong)}"
        terms["loss"].backward()
        without = [names[id(p)] for p in own if p.grad is None or not (p.numel() == 1 or p.grad.any())]
        if without:
            return f"the loss of {player} has no gradient for its {', '.join(without[:5])}"
        if any(not p.grad.isfinite().all() for p in own if p.grad is not None):
            return f"a gradient of {player} is not finite"
    return None


def iterations(subject: Subject) -> str | None:
    """A training that goes on from its saved state goes on to the same bits."""
    require(subject, "Iterative")
    first, second = subject.fresh(0), subject.fresh(1)
    batch, draws = subject.batch(), generator()
    first.start(batch, draws)
    if said := _advance(first, subject, draws):
        return said
    second.start(subject.batch(), generator())
    _carry(first, second)
    other = torch.Generator()
    other.set_state(draws.get_state())
    _advance(first, subject, draws)
    _advance(second, subject, other)
    return None if _same(_state(first), _state(second)) else "a training that goes on from its state ends elsewhere"


def _advance(model: Any, subject: Subject, draws: torch.Generator) -> str | None:
    for _ in range(ITERATIONS):
        logged = model.advance(subject.batch(), draws)
        loss = logged.get("loss")
        if loss is not None and not torch.isfinite(torch.as_tensor(loss)).all():
            return "the loss of an iteration is not finite"
    return None if isinstance(model.done(), bool) else "done() is neither true nor false"


def own_state(subject: Subject) -> str | None:
    """What it keeps beside its weights is handed out and taken back unchanged."""
    require(subject, "OwnState")
    first, second = subject.copy(), subject.prepared(1)
    kept = first.own_state()
    second.load_own_state(_copied(kept))
    if not _same(kept, second.own_state()):
        return "own_state after load_own_state is another"
    return None if _same(kept, first.own_state()) else "own_state changes what it reads"


def _carry(first: Any, second: Any) -> None:
    second.load_state_dict({k: v.clone() for k, v in first.state_dict().items()})
    if hasattr(first, "own_state"):
        second.load_own_state(_copied(first.own_state()))


def _state(model: Any) -> Any:
    return [model.state_dict(), model.own_state() if hasattr(model, "own_state") else None]


def _copied(nest: Any) -> Any:
    if isinstance(nest, Tensor):
        return nest.clone()
    if isinstance(nest, Mapping):
        return {k: _copied(v) for k, v in nest.items()}
    return type(nest)(map(_copied, nest)) if isinstance(nest, list | tuple) else nest


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, Mapping):
        return isinstance(b, Mapping) and a.keys() == b.keys() and all(_same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(_same, a, b))
    return bool(a == b)
