"""The stages of a training, each made whole: what it takes from the training around it, or from another method."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from latentbench.core.errors import UserError
from latentbench.spec.protocol import TrainingProtocol

#: What a stage does not take from the training around it: which players there are is its own part's affair.
_OF_PLAYERS = {"optimizers", "phases"}


def settled_stages(
    training: dict[str, Any],
    lay: Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]],
    find: Callable[[str], dict[str, Any]],
) -> dict[str, Any]:
    """`training` with stages that stand by themselves.

    Args:
        training: merged, not yet checked.
        lay: lays one training over another.
        find: from the name of a method to its `model`, `params` and `training`, all settled.

    Raises:
        UserError: a stage gives both a method and settings of its own.
    """
    stages = training.get("in_stages")
    if not isinstance(stages, list) or not all(isinstance(stage, dict) for stage in stages):
        return training  # which its schema refuses, if there is something wrong
    around = {k: v for k, v in training.items() if k in TrainingProtocol.model_fields and k not in _OF_PLAYERS}
    made = []
    for stage in stages:
        if not isinstance(method := stage.get("method"), str):
            made.append(lay(around, stage))
            continue
        if beside := sorted(set(stage) - {"name", "method", "seed"}):
            raise UserError(
                f"stage {stage.get('name')!r} is method {method!r}, so it has no `{beside[0]}` of its own",
                fix="remove it, or give `model` and `params` in place of `method`",
            )
        found = find(method)
        protocol = {k: v for k, v in found["training"].items() if k in TrainingProtocol.model_fields}
        rest = {k: v for k, v in stage.items() if k != "method"}
        made.append({**protocol, **rest, "model": found["model"], "params": found["params"]})
    return {**training, "in_stages": made}


def changed_stages(stages: Any, changes: Any, lay: Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]]) -> Any:
    """Stages with changes that are given by name, ``{autoencoder: {epochs: 2}}``; a list of stages replaces them.

    A change is for all methods that have a stage of its name, so that a tier can shorten it in each. Where no list
    stands yet (`stages` is None, or earlier changes), the changes wait for it, by name.
    """
    if not isinstance(changes, dict):
        return changes
    if isinstance(stages, list):
        return [lay(stage, changes.get(stage.get("name")) or {}) for stage in stages]
    earlier = stages or {}
    return {name: lay(earlier.get(name) or {}, changes.get(name) or {}) for name in {**earlier, **changes}}
