"""Every model of a plan built once on the declared shape of its data, so that a wrong parameter shows before anything
trains."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from latentbench.core.errors import UserError
from latentbench.core.imports import load
from latentbench.core.types import DataInfo
from latentbench.data.preprocess import build
from latentbench.planning.plan import RunSpec
from latentbench.spec.loading import LoadedSuite
from latentbench.spec.protocol import Training


def check_models(loaded: LoadedSuite, runs: Iterable[RunSpec]) -> list[UserError]:
    """What constructors and preprocessing say against the runs' parameters, each once, with the suite's line."""
    found: dict[str, UserError] = {}
    for run in {(r.method, r.dataset): r for r in runs}.values():
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
            model = load(run.target)(info, **run.params)
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
        if hasattr(model, "loss"):
            training = Training.model_validate(run.training)
            if training.epochs is None and training.steps is None and not training.schedule.stages:
                fault = loaded.file.error(
                    f"method {run.method!r} at tier {run.tier!r} has no length of training",
                    ("tiers", run.tier),
                    "give `epochs` or `steps` under `training`",
                )
                found.setdefault(str(fault), fault)
    return list(found.values())


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
