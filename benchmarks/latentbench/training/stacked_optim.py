"""An optimiser of stacked parameters whose updates are those of each member's own.

All optimisers of a protocol work element by element with one learning rate, so one of them steps a block of members
that have the same; members of another learning rate get one of their own over the same storage.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

from latentbench.spec.protocol import Optimizer
from latentbench.training.draws_by_member import CannotStack
from latentbench.training.optim import build_optimizer

#: What an optimiser counts for a parameter as a whole; everything else that it keeps has the parameter's shape.
_COUNTS = "step"


class StackedOptimizer:
    """Steps `parameters`, in the order that `Module.parameters` has in one member.

    Args:
        parameters: (S, ...) leaves; only their gradients and storage are used.
        specs: each member's optimiser, the same but for the learning rate; equal rates stand together.
    """

    def __init__(self, parameters: Sequence[Tensor], specs: Sequence[Optimizer]) -> None:
        self._whole = list(parameters)
        self._blocks: list[tuple[slice, float, torch.optim.Optimizer]] = []
        start = 0
        for lr, members in groupby(specs, lambda s: s.lr):
            size = len(list(members))
            block = slice(start, start + size)
            leaves = [nn.Parameter(p.detach()[block], requires_grad=p.requires_grad) for p in self._whole]
            self._blocks.append((block, lr, build_optimizer(leaves, specs[start])))
            start += size

    def step(self, factor: float) -> None:
        """One update with each member's learning rate times `factor`."""
        for block, lr, optimizer in self._blocks:
            for group in optimizer.param_groups:
                group["lr"] = lr * factor
                for leaf, whole in zip(group["params"], self._whole, strict=True):
                    leaf.grad = None if whole.grad is None else whole.grad[block]
            optimizer.step()

    def state(self, member: int) -> dict[str, Any]:
        """A member's state, as its own optimiser's `state_dict` would have it; tensors are views of the live ones."""
        block, _, optimizer = next(b for b in self._blocks if b[0].start <= member < b[0].stop)
        return _each(optimizer.state_dict(), lambda key, v: v if key == _COUNTS else v[member - block.start])

    def load(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Take up the members' states.

        Raises:
            CannotStack: they have not made the same number of updates.
        """
        for block, _, optimizer in self._blocks:
            first, *others = own = list(states[block])
            for other in others:
                if {j: s.keys() for j, s in other["state"].items()} != {j: s.keys() for j, s in first["state"].items()}:
                    raise CannotStack("members' optimisers have another state")
            whole: dict[str, Any] = {"param_groups": first["param_groups"], "state": {}}
            for j, state in first["state"].items():
                whole["state"][j] = {k: _join(k, [s["state"][j][k] for s in own]) for k in state}
            optimizer.load_state_dict(whole)


def _each(state: dict[str, Any], pick: Callable[[str, Tensor], Tensor]) -> dict[str, Any]:
    picked = {
        j: {k: pick(k, v) if isinstance(v, Tensor) else v for k, v in own.items()} for j, own in state["state"].items()
    }
    return {"state": picked, "param_groups": state["param_groups"]}


def _join(key: str, values: Sequence[Any]) -> Any:
    if not isinstance(values[0], Tensor):
        return values[0]
    if key != _COUNTS:
        return torch.stack(list(values))
    if any(v != values[0] for v in values[1:]):
        raise CannotStack("members stand at different steps")
    return values[0].clone()
