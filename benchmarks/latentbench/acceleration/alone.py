"""Runs that train by themselves, on one device and by their own loss: what is shared knows but one kind of step."""

from __future__ import annotations

from latentbench.planning.plan import RunSpec
from latentbench.spec.registry import find_model


def why_alone(spec: RunSpec) -> str | None:
    """Why a run's training is neither stacked, compiled nor spread over devices, if it is not."""
    can, training = find_model(spec.model).can, spec.training
    if training.get("in_stages") or "Staged" in can:
        return "it trains in stages"
    if "Players" in can or training.get("optimizers"):
        return "it has several players"
    if training.get("phases"):
        return "its steps have phases"
    if "Trainable" not in can:
        return "it is fitted, not trained by gradients"
    if training["batch_size"] == "whole":
        return "each step sees the whole problem"
    if "OwnState" in can:
        return "it keeps state besides its weights"
    return None
