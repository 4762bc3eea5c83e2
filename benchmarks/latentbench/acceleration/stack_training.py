"""One stack: its members trained as one program, and what that leaves of each for its evaluation."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any

from latentbench.acceleration.stackable import MOST_STACKED, draws_of
from latentbench.core.errors import Diverged
from latentbench.core.interrupts import check, deferred
from latentbench.planning.plan import RunSpec
from latentbench.running.attempt import Attempt, no_memory
from latentbench.running.conductor import arrange, launched
from latentbench.running.settings import Settings
from latentbench.spec.registry import find_model

if TYPE_CHECKING:
    import torch
    from lightning.fabric import Fabric

    from latentbench.running.outcome import Outcome
    from latentbench.running.run_data import Data
    from latentbench.training.state import Trained

#: Copies of its weights that a training holds at most: weights, gradients, two moments, average, best.
_COPIES = 6
#: Rows of data that stand for what a training keeps of its batch between the passes. A guess, on the large side.
_ACTIVATIONS = 64


@dataclass
class StackedRun:
    """A run and the state that it goes on from."""

    attempt: Attempt
    kept: dict[str, Any] | None


@dataclass(frozen=True)
class Result:
    """What a stack left of one run: an experiment whose training is done."""

    trained: Trained | Diverged
    weights: Mapping[str, torch.Tensor]

    def __call__(self, spec: RunSpec, fabric: Fabric, **options: Any) -> Outcome:
        from latentbench.running.experiment import run_experiment

        if isinstance(self.trained, Diverged):
            raise self.trained
        evaluate = {k: options[k] for k in ("on_phase", "checkpoints")}
        outcome = run_experiment(spec, fabric, weights=self.weights, **evaluate)
        outcome.trained = self.trained
        outcome.seconds["training"] = self.trained.seconds
        return outcome


def train_stack(part: Sequence[StackedRun], settings: Settings, say: Callable[[str], None]) -> list[Result] | None:
    """Train a stack: its results; none of them where it takes too much memory; None where it is for no stack.

    Raises:
        KeyboardInterrupt: the process was asked to stop, and every state has been saved.
    """
    import torch

    from latentbench.training.draws_by_member import CannotStack

    attempts = [one.attempt for one in part]
    since = monotonic()
    results: list[Result] | None
    before = [0.0 if one.kept is None else float(one.kept["out"]["seconds"]) for one in part]
    try:
        results = _results(part, settings)
    except KeyboardInterrupt:
        for attempt in attempts:
            attempt.observer.interrupted()
        raise
    except Exception as e:  # whatever it is, it will show in each run alone
        check()
        if not (memory := no_memory(e)):
            why = e.what if isinstance(e, CannotStack) else " ".join(f"{type(e).__name__}: {e}".split())[:200]
            say(f"{attempts[0].spec.suite} {attempts[0].spec.method}: runs are not stacked: {why}")
        results = [] if memory else None
    if not results:
        if settings.device == "cuda":
            torch.cuda.empty_cache()
        return results
    shares = [
        0.0 if isinstance(r.trained, Diverged) else r.trained.seconds - b for r, b in zip(results, before, strict=True)
    ]
    rest = max(0.0, monotonic() - since - sum(shares)) / len(part)
    for attempt, share in zip(attempts, shares, strict=True):
        attempt.notes.stacked, attempt.notes.other_seconds = len(part), share + rest
    return results


def _results(part: Sequence[StackedRun], settings: Settings) -> list[Result]:
    import torch

    from latentbench.core.capabilities import Preparable, Trainable
    from latentbench.running.experiment import build_model, deterministic_kernels
    from latentbench.running.run_data import load_data, source_of
    from latentbench.spec.protocol import Training
    from latentbench.training.draws_by_member import CannotStack
    from latentbench.training.member import Member
    from latentbench.training.stacked import train_stacked

    specs = [one.attempt.spec for one in part]
    arrange(specs[0], settings)
    torch.set_flush_denormal(True)  # as in every run
    data = load_data(specs[0])
    protocols = [Training.model_validate(spec.training) for spec in specs]
    fabric = launched(specs[0], settings)
    with deterministic_kernels(protocols[0].deterministic):
        models = [build_model(specs[0], data.info)]
        if not isinstance(models[0], Trainable) or isinstance(models[0], Preparable):
            raise CannotStack("the model is not trained by gradients alone")
        most, batch = max(map(draws_of, specs)), protocols[0].batch_size
        assert batch != "whole"  # `why_alone` keeps such runs apart
        if len(part) > _room(models[0], data, batch * most, fabric.device):
            raise MemoryError("so many do not fit side by side")
        models += [build_model(spec, data.info) for spec in specs[1:]]
        valid = source_of(data, "valid", fabric.device) if "valid" in data.splits else None
        if valid is None and (protocols[0].early_stopping or protocols[0].select == "best"):
            raise CannotStack("there is no validation split")  # each run says so itself
        members = [
            Member(
                model, protocol, one.attempt.spec.seeds, one.attempt.progress, one.attempt.observer.log,
                one.attempt.checkpoints, one.kept,
            )
            for model, protocol, one in zip(models, protocols, part, strict=True)
        ]  # fmt: skip
        with deferred():  # the loop stops between two steps, where every state is whole
            trained = train_stacked(
                members, source_of(data, "train", fabric.device), valid, fabric,
                draws=find_model(specs[0].model).draws.rpartition(".")[2],
            )  # fmt: skip
    weights = [{k: v.detach().cpu().clone() for k, v in m.state_dict().items()} for m in models]
    return [Result(t, w) for t, w in zip(trained, weights, strict=True)]


def _room(model: Any, data: Data, rows: int, device: torch.device) -> int:
    """Members that the free memory holds, by a rough count of weights and of a batch's rows, each as often as it is
    decoded; two at least."""
    import torch

    numbers = sum(p.numel() for p in model.parameters()) * _COPIES
    numbers += rows * data.info.dims * _ACTIVATIONS
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
    else:
        try:
            free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        except (AttributeError, ValueError, OSError):  # a system that does not say
            return MOST_STACKED
    return max(2, int(0.9 * free / (4 * numbers)))
