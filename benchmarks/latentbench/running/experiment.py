"""One experiment: from a settled specification to measured numbers. No files, no catalogue, no terminal."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import torch

from latentbench.core.capabilities import Fittable, Iterative, Players, Preparable, Staged, Trainable, Updates
from latentbench.core.errors import UserError
from latentbench.core.imports import load
from latentbench.core.interrupts import deferred
from latentbench.core.seeds import derive, generator
from latentbench.core.types import DataInfo
from latentbench.running.evaluating import RunKeeper, evaluate
from latentbench.running.outcome import Outcome
from latentbench.running.run_data import Data, load_data, source_of
from latentbench.spec.protocol import Training, TrainingProtocol, TrainingStage
from latentbench.training.in_stages import Weights, train_in_stages
from latentbench.training.loop import Progress, train
from latentbench.training.order import NoLength
from latentbench.training.state import Checkpointer, Trained

if TYPE_CHECKING:
    from lightning.fabric import Fabric

    from latentbench.planning.plan import RunSpec


class SharedStages(Protocol):
    """Where the weights of stages that are runs of their own are kept, for all runs that name them."""

    def take(
        self, stage: RunSpec, train: Callable[[Checkpointer | None], tuple[Weights, Trained]]
    ) -> tuple[Weights, Trained, str]:
        """The stage's weights, trained by `train` unless they are there; how they were trained; their fingerprint."""
        ...


def build_model(spec: RunSpec, info: DataInfo) -> Any:
    """The model with its initial weights, drawn on the axis `init` of the seed.

    Raises:
        UserError: a parameter that the model does not take.
    """
    factory = load(spec.target)
    with torch.random.fork_rng():
        torch.manual_seed(derive(spec.seeds, "init"))
        try:
            return factory(info, **spec.params)
        except TypeError as e:
            if "argument" not in str(e):
                raise
            raise UserError(
                f"model {spec.model!r}: {e}", where=f"suite {spec.suite}, method {spec.method}", fix="mend its params"
            ) from None


def run_experiment(
    spec: RunSpec,
    fabric: Fabric,
    *,
    on_progress: Callable[[Progress], None] = lambda _: None,
    on_log: Callable[[dict[str, float]], None] = lambda _: None,
    on_phase: Callable[[str], None] = lambda _: None,
    checkpoints: RunKeeper | None = None,
    weights: Mapping[str, torch.Tensor] | None = None,
    stages: SharedStages | None = None,
) -> Outcome:
    """Train (or fit) and evaluate.

    Args:
        spec: what to do.
        fabric: launched.
        on_progress, on_log, on_phase: told of training's progress, each row of its curve, and what is done now.
        checkpoints: where state is kept, so that an interrupted run goes on and ends in the same bits.
        weights: evaluate these instead of training.
        stages: where stages that are runs of their own are kept; without it they are trained here and forgotten.

    Raises:
        UserError: the specification cannot be met.
        Diverged: training left the finite numbers.
        KeyboardInterrupt: the process was asked to stop; a training's state has been saved.
    """
    torch.set_flush_denormal(True)  # vanishing weights and gradients would run tens of times slower on the CPU
    out = Outcome()
    clock = time.monotonic()
    on_phase("data")
    data = load_data(spec)
    training = Training.model_validate(spec.training)
    with deterministic_kernels(training.deterministic):
        model = build_model(spec, data.info)
        clock = _lap(out.seconds, "data", clock)

        on_phase("training")
        _prepare(model, data, spec)
        if weights is not None:
            _take_weights(model, weights, spec)
        else:
            _train(model, data, spec, training, fabric, out, on_progress, on_log, checkpoints, stages)
        out.parameters = (
            sum(p.numel() for p in model.parameters() if p.requires_grad) if hasattr(model, "parameters") else 0
        )
        clock = _lap(out.seconds, "training", clock)
        own = out.seconds["training"] - out.elsewhere
        out.seconds["training"] = max(out.trained.seconds, own)  # those before an interruption, too

        on_phase("evaluation")
        evaluate(model, data, spec, fabric.device, out, on_phase, checkpoints)
    _lap(out.seconds, "evaluation", clock)
    out.model = model
    return out


def _take_weights(model: Any, weights: Mapping[str, torch.Tensor], spec: RunSpec) -> None:
    try:
        model.load_state_dict(weights)
    except (AttributeError, RuntimeError) as e:
        raise UserError(
            f"these are no weights of model {spec.model!r}: {' '.join(str(e).split())[:300]}",
            where=f"suite {spec.suite}, method {spec.method}",
            fix="take those that its run left behind",
        ) from None


def _prepare(model: Any, data: Data, spec: RunSpec) -> None:
    if isinstance(model, Preparable):
        draws = generator(spec.seeds, "init", "prepare")
        x, _ = data.pipeline.forward(data.fixed_rows("prepare"), draws)
        model.prepare(x, draws)


def _train(
    model: Any,
    data: Data,
    spec: RunSpec,
    training: Training,
    fabric: Fabric,
    out: Outcome,
    on_progress: Callable[[Progress], None],
    on_log: Callable[[dict[str, float]], None],
    checkpoints: Checkpointer | None,
    stages: SharedStages | None,
) -> None:
    module = isinstance(model, torch.nn.Module)
    if isinstance(model, Iterative) or (module and isinstance(model, Trainable | Players | Updates | Staged)):
        if isinstance(model, Staged) and not training.in_stages:
            raise _unmet(spec, "the model trains in stages", "name them under `training.in_stages`")
        valid = source_of(data, "valid", fabric.device) if "valid" in data.splits else None
        parts: list[TrainingProtocol] = [*training.in_stages] or [training]
        for part in parts:
            if valid is None and (part.early_stopping or part.select == "best"):
                raise _unmet(
                    spec,
                    "early stopping and `select: best` need a validation split",
                    "choose a protocol with one, or give `split: {valid: ...}`",
                )
        source = source_of(data, "train", fabric.device)

        def take(stage: TrainingStage) -> tuple[Weights, Trained]:
            since = time.monotonic()
            found = _taken(stage, data, spec, fabric, on_progress, stages)
            out.elsewhere += time.monotonic() - since
            return found

        observed: dict[str, Any] = {"on_progress": on_progress, "on_log": on_log, "checkpoints": checkpoints}
        try:
            with deferred():  # the loop stops between two steps, where its state is whole
                if training.in_stages and isinstance(model, torch.nn.Module):
                    out.trained = train_in_stages(model, source, valid, training, fabric, spec.seeds, take, **observed)
                elif training.in_stages:
                    raise _unmet(spec, "only a module trains in stages", "make the model a `torch.nn.Module`")
                else:
                    out.trained = train(model, source, valid, training, fabric, spec.seeds, **observed)
        except NoLength as e:
            raise _unmet(spec, str(e), "give `epochs`") from None
    elif isinstance(model, Fittable):
        noise = generator(spec.seeds, "noise")
        x, _ = data.pipeline.forward(data.fixed_rows("fit"), noise)
        model.fit(x, noise)
        out.trained.samples = len(x)
    else:
        raise UserError(
            f"model {spec.model!r} has neither `loss` nor `fit`", where=f"suite {spec.suite}", fix="add one"
        )


def _unmet(spec: RunSpec, what: str, fix: str) -> UserError:
    return UserError(what, where=f"suite {spec.suite}, method {spec.method}, dataset {spec.dataset}", fix=fix)


def _taken(
    stage: TrainingStage,
    data: Data,
    spec: RunSpec,
    fabric: Fabric,
    on_progress: Callable[[Progress], None],
    stages: SharedStages | None,
) -> tuple[Weights, Trained]:
    """The weights of a stage that is a run of its own, and an account of it in which nothing counts for this run."""
    run = spec.of_stage(stage)

    def train_it(checkpoints: Checkpointer | None) -> tuple[Weights, Trained]:
        model, out = build_model(run, data.info), Outcome()
        _prepare(model, data, run)
        training = Training.model_validate(run.training)
        _train(model, data, run, training, fabric, out, on_progress, lambda _: None, checkpoints, None)
        return {k: v.detach().cpu().clone() for k, v in model.state_dict().items()}, out.trained

    weights, trained, name = (*train_it(None), "") if stages is None else stages.take(run, train_it)
    told = {"name": stage.name, "fingerprint": name, "steps": trained.steps, "seconds": trained.seconds}
    return weights, Trained(curve=trained.curve, taken=[told])


@contextmanager
def deterministic_kernels(wanted: bool) -> Iterator[None]:
    """torch's deterministic kernels inside the block, where the protocol asks for them."""
    before, warn = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn)


def _lap(seconds: dict[str, float], phase: str, since: float) -> float:
    now = time.monotonic()
    seconds[phase] = now - since
    return now
