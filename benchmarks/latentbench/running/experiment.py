"""One experiment: from a settled specification to measured numbers. No files, no catalogue, no terminal."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import torch

from latentbench.core.capabilities import Fittable, Iterative, Players, Preparable, Staged, Trainable, Updates
from latentbench.core.errors import Diverged, UserError
from latentbench.core.imports import load
from latentbench.core.interrupts import deferred
from latentbench.core.seeds import Seeds, derive, generator
from latentbench.core.types import DataInfo, MetricValue
from latentbench.data.dataset import open_dataset
from latentbench.data.preprocess import Pipeline, build
from latentbench.evaluation.view import View, make_view
from latentbench.spec.protocol import Training, TrainingStage
from latentbench.training.in_stages import Weights, train_in_stages
from latentbench.training.loop import Progress, train
from latentbench.training.order import NoLength
from latentbench.training.source import Source
from latentbench.training.state import Checkpointer, Trained

if TYPE_CHECKING:
    import numpy as np
    from lightning.fabric import Fabric

    from latentbench.planning.plan import RunSpec


@dataclass
class Outcome:
    """What an experiment measured.

    Attributes:
        values: metric key -> value.
        failures: metric key -> why it has no value.
        trained: the training's curve and counts.
        parameters: number of trainable parameters.
        seconds: wall time by phase (data, training, evaluation).
        model: the trained model, for whoever stores its weights.
        outcomes: words for what happened besides numbers, e.g. ``posterior-collapse``.
        elsewhere: seconds of the training in which stages were trained, or waited for, that are runs of their own.
    """

    values: dict[str, MetricValue] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    trained: Trained = field(default_factory=Trained)
    parameters: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    model: Any = None
    outcomes: list[str] = field(default_factory=list)
    elsewhere: float = 0.0


@dataclass(frozen=True)
class Data:
    """A run's data: raw splits, fitted preprocessing, and what models are told of it."""

    splits: Mapping[str, np.ndarray]
    columns: Mapping[str, Mapping[str, np.ndarray]]
    pipeline: Pipeline
    info: DataInfo
    entry: Any
    oracle: Any


class SharedStages(Protocol):
    """Where the weights of stages that are runs of their own are kept, for all runs that name them."""

    def take(
        self, stage: RunSpec, train: Callable[[Checkpointer | None], tuple[Weights, Trained]]
    ) -> tuple[Weights, Trained, str]:
        """The stage's weights, trained by `train` unless they are there; how they were trained; their fingerprint."""
        ...


class RunKeeper(Checkpointer, Protocol):
    """A `Checkpointer` that keeps the values of an evaluation as well."""

    def worth(self, seconds: float) -> bool:
        """Whether work of so many seconds is worth keeping."""
        ...

    def keep_value(self, key: str, value: MetricValue) -> None: ...

    def values(self) -> Mapping[str, MetricValue]:
        """Those that were kept, by metric key."""
        ...


def load_data(spec: RunSpec) -> Data:
    """The splits that a specification names, cut to its limits, with preprocessing fitted on the training split."""
    wanted = spec.data
    dataset = open_dataset(wanted["source"])
    scheme = wanted["split"] or dataset.protocol(wanted["protocol"])
    splits, columns = {}, {}
    for role in ("train", "valid", "test"):
        if role not in scheme:
            continue
        table = dataset.split(scheme[role])
        limit = wanted["limit"].get(role)
        rows = slice(None, limit)
        columns[role] = {k: v[rows] for k, v in table.items() if k != "x"}
        splits[role] = table["x"][rows]
    pipeline = build(wanted["preprocess"], dataset.column())
    pipeline.fit(splits["train"])
    info = pipeline.info(splits["train"], columns["train"])
    return Data(splits, columns, pipeline, info, dataset.entry, dataset.oracle)


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
    with _determinism(training.deterministic):
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
        _evaluate(model, data, spec, fabric.device, out, on_phase, checkpoints)
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
        x, _ = data.pipeline.forward(data.splits["train"][:], draws)
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
        valid = _source(data, "valid", fabric.device) if "valid" in data.splits else None
        for part in training.in_stages or [training]:
            if valid is None and (part.early_stopping or part.select == "best"):
                raise _unmet(
                    spec,
                    "early stopping and `select: best` need a validation split",
                    "choose a protocol with one, or give `split: {valid: ...}`",
                )
        source = _source(data, "train", fabric.device)

        def take(stage: TrainingStage) -> tuple[Weights, Trained]:
            since = time.monotonic()
            found = _taken(stage, data, spec, fabric, on_progress, stages)
            out.elsewhere += time.monotonic() - since
            return found

        told = {"on_progress": on_progress, "on_log": on_log, "checkpoints": checkpoints}
        try:
            with deferred():  # the loop stops between two steps, where its state is whole
                if training.in_stages:
                    out.trained = train_in_stages(model, source, valid, training, fabric, spec.seeds, take, **told)
                else:
                    out.trained = train(model, source, valid, training, fabric, spec.seeds, **told)
        except NoLength as e:
            raise _unmet(spec, str(e), "give `epochs`") from None
    elif isinstance(model, Fittable):
        noise = generator(spec.seeds, "noise")
        x, _ = data.pipeline.forward(data.splits["train"][:], noise)
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


def _evaluate(
    model: Any,
    data: Data,
    spec: RunSpec,
    device: torch.device,
    out: Outcome,
    on_phase: Callable[[str], None],
    checkpoints: RunKeeper | None,
) -> None:
    if isinstance(model, torch.nn.Module):
        model.to(device).eval()
    view = _view(data, spec.seeds, device)
    kept = checkpoints.values() if checkpoints is not None else {}
    for metric in spec.metrics:
        on_phase(metric.key)
        draws = generator(spec.seeds, "evaluation", metric.key, device=str(device))
        since = time.monotonic()
        try:
            with torch.no_grad():
                value = kept.get(metric.key) or load(metric.target)(model, view, metric.settings, draws)
        except (Diverged, UserError) as e:  # what it needs is not there: the other metrics are measured all the same
            out.failures[metric.key] = str(e)
            continue
        if not math.isfinite(value.value):
            out.failures[metric.key] = f"its value is {value.value}"
            continue
        if checkpoints is not None and metric.key not in kept and checkpoints.worth(time.monotonic() - since):
            checkpoints.keep_value(metric.key, value)
        out.values[metric.key] = value
        out.outcomes += [o for o in value.details.get("outcomes", ()) if o not in out.outcomes]


@contextmanager
def _determinism(wanted: bool) -> Iterator[None]:
    """torch's deterministic kernels inside the block, where the protocol asks for them."""
    before, warn = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    if wanted:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn)


def _source(data: Data, split: str, device: torch.device) -> Source:
    columns = {k: torch.from_numpy(v[:].copy()) for k, v in data.columns[split].items()}
    return Source(
        torch.from_numpy(data.splits[split][:].copy()),
        columns,
        data.pipeline,
        device,
        data.info.dims,
        augment=split == "train",
    )


def _view(data: Data, seed: int | Seeds, device: torch.device) -> View:
    def make(split: str, train: Any = None) -> View:
        return make_view(
            data.splits[split],
            data.columns[split],
            data.pipeline,
            data.info,
            data.entry,
            data.oracle,
            seed,
            split,
            device,
            train,
        )

    return make("test", lambda: make("train"))


def _lap(seconds: dict[str, float], phase: str, since: float) -> float:
    now = time.monotonic()
    seconds[phase] = now - since
    return now
