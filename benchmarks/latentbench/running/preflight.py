"""Every model of a plan built once on the declared shape of its data, so that a wrong parameter shows before anything
trains."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

from latentbench.core.capabilities import Iterative, Players, Staged, Trainable, Updates
from latentbench.core.errors import UserError
from latentbench.core.types import DataInfo
from latentbench.data.preprocess import build
from latentbench.planning.plan import RunSpec
from latentbench.running.building import built
from latentbench.running.conductor import check_precision
from latentbench.running.recording import metric_identity
from latentbench.spec.claims import methods_of, metrics_of, statements
from latentbench.spec.loading import LoadedSuite
from latentbench.spec.protocol import Training, TrainingProtocol
from latentbench.training.descent import check_protocol
from latentbench.training.in_stages import parts_of as parts_in_stages
from latentbench.training.order import NoLength, Order


def check_models(loaded: LoadedSuite, runs: Iterable[RunSpec]) -> list[UserError]:
    """What constructors and preprocessing say against the runs' parameters, each once, with the suite's line."""
    found: dict[str, UserError] = {}
    planned = list({(r.method, r.dataset): r for r in runs}.values())
    for run in planned:
        try:
            info = declared_info(run)
        except UserError as e:
            fault = loaded.file.error(
                f"dataset {run.dataset!r}: {e.what}", ("datasets", run.dataset, "preprocess"), e.fix
            )
            found.setdefault(str(fault), fault)
            continue
        at: tuple[str, ...] = ("methods", run.method)
        for fault in _measurable(loaded, run, info.support):
            found.setdefault(str(fault), fault)
        try:
            model = built(run.target, info, run.params)
        except UserError as e:
            param = next((p for p in run.params if e.what.split()[0].split("[")[0] == p), None)
            at = (*at, "params", param) if param else at
            fault = loaded.file.error(f"method {run.method!r} on {run.dataset!r}: {e.what}", at, e.fix)
            found.setdefault(str(fault), fault)
            continue
        except (TypeError, ValueError, LookupError, ArithmeticError, RuntimeError, MemoryError) as e:
            why = " ".join((str(e) or type(e).__name__).split())[:300]
            fault = loaded.file.error(f"method {run.method!r}: {why}", (*at, "params"), "mend its parameters")
            found.setdefault(str(fault), fault)
            continue
        if run.exact and (hasattr(model, "loss") or build(run.data["preprocess"]).stochastic):
            fault = loaded.file.error(
                f"method {run.method!r} on {run.dataset!r} is not `exact`: training or preprocessing draws noise",
                (*at, "exact"),
                "remove `exact: true`",
            )
            found.setdefault(str(fault), fault)
        for fault in _trainable(loaded, run, model, info):
            found.setdefault(str(fault), fault)
    for fault in _one_quantity(loaded, planned):
        found.setdefault(str(fault), fault)
    return list(found.values())


def check_device(loaded: LoadedSuite, runs: Iterable[RunSpec], device: str) -> list[UserError]:
    """What of runs cannot be computed on a device, each method once, with the suite's line."""
    found: dict[str, UserError] = {}
    for run in runs:
        try:
            check_precision(str(run.training["precision"]), device)
        except UserError as e:
            fault = loaded.file.error(
                f"method {run.method!r} at tier {run.tier!r}: {e.what}", ("methods", run.method), e.fix
            )
            found.setdefault(str(fault), fault)
    return list(found.values())


def _one_quantity(loaded: LoadedSuite, runs: Iterable[RunSpec]) -> Iterator[UserError]:
    """Claims that set one quantity against another, which no number of seeds settles."""
    of: dict[tuple[str, str, str], str] = {}
    for run in runs:
        with suppress(UserError):  # of steps that there are not, which is said with their line
            of |= {(run.method, run.dataset, m.key): metric_identity(m, run, "") for m in run.metrics}
    for i, claim in enumerate(loaded.suite.claims):
        for said in statements(claim):
            for key in metrics_of(said):
                known = {m: at for m in methods_of(said) if (at := of.get((m, said.dataset, key))) is not None}
                first = next(iter(known), "")
                other = next((m for m in known if known[m] != known[first]), None)
                if other is not None:
                    yield loaded.file.error(
                        f"claim {claim.id!r} compares {key} of {first!r} and {other!r}, which measure different "
                        "quantities: other settings, rows or preprocessing",
                        ("claims", i),
                        "give both the same preprocessing and settings",
                    )


def _trainable(loaded: LoadedSuite, run: RunSpec, model: Any, info: DataInfo) -> Iterator[UserError]:
    """What keeps a model from being trained by a run's protocol."""
    training = Training.model_validate(run.training)
    at = ("methods", run.method)
    try:
        parts = parts_in_stages(model, training.in_stages) if training.in_stages else {}
        if isinstance(model, Staged) and not parts:
            fix = f"name them under `training.in_stages`: {', '.join(model.stages())}"
            raise UserError("its model trains in stages", fix=fix)
        own: list[tuple[Any, TrainingProtocol]] = [(parts[s.name], s) for s in training.in_stages if s.model is None]
        for part, protocol in own or [(model, training)]:
            if isinstance(part, Trainable | Players | Updates) and not isinstance(part, Iterative):
                check_protocol(part, protocol)
                Order.of(protocol, info.n_train)
    except NoLength:
        yield loaded.file.error(
            f"method {run.method!r} at tier {run.tier!r} has no length of training",
            ("tiers", run.tier),
            "give `epochs` or `steps` under `training`",
        )
    except UserError as e:
        yield loaded.file.error(f"method {run.method!r} at tier {run.tier!r}: {e.what}", at, e.fix)


def _measurable(loaded: LoadedSuite, run: RunSpec, support: str) -> Iterator[UserError]:
    """A density of values on a lattice can be made as high as one likes, so no likelihood is measured there."""
    steps = {s.name for s in build(run.data["preprocess"]).steps}
    lattice = run.data["stored"].get("levels") is not None and not steps & {"dequantise", "binarise"}
    measured = [m.key for m in run.metrics if m.entry.likelihood]
    if lattice and support in ("real", "unit") and measured:
        yield loaded.file.error(
            f"metric {measured[0]!r} on dataset {run.dataset!r}: a density of undequantised integers is no likelihood",
            ("datasets", run.dataset, "preprocess"),
            "put `dequantise` or `binarise` first, or keep the integers as they are",
        )


def declared_info(run: RunSpec) -> DataInfo:
    """What the registry and the preprocessing say of a run's data, without the data: the mean is a blank."""
    import torch

    from latentbench.data.parts import items_of, parts_of, table_of
    from latentbench.data.registry import load_entry

    entry = load_entry(run.data["source"])
    table = table_of(entry, run.data["split"]["train"])
    columns = entry.columns_of(table)
    state = build(run.data["preprocess"], items_of(columns[entry.main])).state
    info = DataInfo(
        shape=state.shape,
        support=state.support,
        n_train=entry.splits[table].rows,
        levels=state.levels if state.support == "discrete" else None,
        mean=torch.full(state.shape, 0.5),
        columns={k: tuple(c.shape) for k, c in columns.items() if k != entry.main},
    )
    return replace(info, parts=parts_of(entry, table, info, "train" if run.data["split"]["train"] == table else ""))
