"""Whether what a suite says of training can be done: players, updates and stages that the models declare."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from latentbench.core.errors import UserError, did_you_mean
from latentbench.core.yamlfile import Path_
from latentbench.declare import ModelEntry
from latentbench.spec.loading import LoadedSuite
from latentbench.spec.registry import models
from latentbench.spec.suite import Override

#: The player of a model that has one loss.
ONLY = "model"


def training_problems(loaded: LoadedSuite) -> list[UserError]:
    """Every name under `training` that a model lacks, with file, line and the way to mend it; each once."""
    found = {str(e): e for name in loaded.suite.methods for e in _of_method(loaded, name)}
    known = {
        stage.get("name")
        for name in loaded.suite.methods
        for _, training in _layers(loaded, name)
        for stage in _listed(training.get("in_stages"))
    }
    for place, training in _all_layers(loaded):
        if isinstance(changes := training.get("in_stages"), Mapping):
            for stage in changes:
                if stage not in known:
                    fault = loaded.file.error(
                        f"no method has a stage {stage!r} to change", (*place, "in_stages", stage), _hint(stage, known)
                    )
                    found.setdefault(str(fault), fault)
    return list(found.values())


def _of_method(loaded: LoadedSuite, name: str) -> Iterator[UserError]:
    entry = models().get(loaded.suite.methods[name].model)
    if entry is None or not entry.can & {"Trainable", "Players", "Updates", "Staged"}:
        return  # what is fitted takes no notice of the protocol
    for place, training in _layers(loaded, name):
        yield from _moves(loaded, name, entry, training, place)
        for i, stage in enumerate(_listed(training.get("in_stages"))):
            yield from _stage(loaded, name, entry, stage, (*place, "in_stages", i))


def _moves(
    loaded: LoadedSuite, method: str, entry: ModelEntry, training: Mapping[str, Any], at: Path_
) -> Iterator[UserError]:
    if "Staged" in entry.can or ("Players" in entry.can and not entry.players):
        return  # its parts, or the model itself, say who plays
    players = entry.players or ((ONLY,) if "Trainable" in entry.can else ())
    named = [(p, (*at, "optimizers", p)) for p in training.get("optimizers") or {}]
    updates = []
    for i, phase in enumerate(_listed(training.get("phases"))):
        if (player := phase.get("player")) is not None:
            named.append((player, (*at, "phases", i, "player")))
        if (update := phase.get("update")) is not None:
            updates.append((update, (*at, "phases", i, "update")))
    for player, place in named:
        if player not in players:
            what = f"model {_model(loaded, method)!r} of method {method!r} has no player {player!r}"
            yield loaded.file.error(what, place, _hint(player, players))
    for update, place in updates:
        if "Updates" not in entry.can or (entry.updates and update not in entry.updates):
            what = f"model {_model(loaded, method)!r} of method {method!r} has no update {update!r}"
            yield loaded.file.error(what, place, _hint(update, entry.updates))


def _stage(
    loaded: LoadedSuite, method: str, entry: ModelEntry, stage: Mapping[str, Any], at: Path_
) -> Iterator[UserError]:
    name, model, other = stage.get("name"), stage.get("model"), stage.get("method")
    if "Staged" in entry.can and entry.stages and name not in entry.stages:
        what = f"model {_model(loaded, method)!r} of method {method!r} has no stage {name!r}"
        yield loaded.file.error(what, (*at, "name"), _hint(name, entry.stages))
    if other is not None and other not in loaded.suite.methods:
        yield loaded.file.error(f"unknown method {other!r}", (*at, "method"), _hint(other, loaded.suite.methods))
    if model is not None and model not in models():
        yield loaded.file.error(f"unknown model {model!r}", (*at, "model"), did_you_mean(str(model), models()))


def stage_models(loaded: LoadedSuite) -> Iterator[tuple[str, Mapping[str, Any], Path_]]:
    """Models that stages name, with their parameters and the place of these."""
    for place, training in _all_layers(loaded):
        for i, stage in enumerate(_listed(training.get("in_stages"))):
            if isinstance(stage.get("model"), str):
                yield stage["model"], stage.get("params") or {}, (*place, "in_stages", i, "params")


def _layers(loaded: LoadedSuite, method: str) -> Iterator[tuple[Path_, Mapping[str, Any]]]:
    """What is said of a method's training, with its place in the file."""
    suite = loaded.suite
    for place, training, override in _placed(loaded):
        if place[0] == "methods" and place[1] != method:
            continue
        if override is None or any(override.matches(method, d) for d in suite.datasets):
            yield place, training


def _all_layers(loaded: LoadedSuite) -> Iterator[tuple[Path_, Mapping[str, Any]]]:
    yield from ((place, training) for place, training, _ in _placed(loaded))


def _placed(loaded: LoadedSuite) -> Iterator[tuple[Path_, Mapping[str, Any], Override | None]]:
    suite = loaded.suite
    yield ("training",), suite.training.model_dump(exclude_unset=True), None
    for name, method in suite.methods.items():
        yield ("methods", name, "training"), method.training, None
    for i, override in enumerate(suite.overrides):
        yield ("overrides", i, "training"), override.training, override
    for tier, spec in suite.tiers.items():
        yield ("tiers", tier, "training"), spec.training, None
        for i, override in enumerate(spec.overrides):
            yield ("tiers", tier, "overrides", i, "training"), override.training, override


def _listed(value: Any) -> list[Mapping[str, Any]]:
    """The mappings of a list; what else may stand there, the schema refuses."""
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []


def _model(loaded: LoadedSuite, method: str) -> str:
    return loaded.suite.methods[method].model


def _hint(name: Any, known: Any) -> str:
    return did_you_mean(str(name), [str(k) for k in known]) if known else "it has none"
