"""What a method's layers come to: the suite's protocol, the method's own, overrides, the tier, in this order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from latentbench.core.errors import UserError, did_you_mean
from latentbench.core.yamlfile import Path_
from latentbench.core.yamlschema import explain, first_fault
from latentbench.planning.settled_stages import changed_stages, settled_stages
from latentbench.spec.claims import Tier
from latentbench.spec.layers import merge
from latentbench.spec.loading import LoadedSuite
from latentbench.spec.protocol import Training
from latentbench.spec.suite import Limit, Override, TierSpec


def layered(
    loaded: LoadedSuite, spec: TierSpec, method: str, dataset: str
) -> tuple[dict[str, Any], dict[str, Any], list[Any], dict[str, Any], dict[str, dict[str, Any]]]:
    """A method's params, changes to training, preprocessing, limits and settings of metrics on a dataset at a tier."""
    suite, m, d = loaded.suite, loaded.suite.methods[method], loaded.suite.datasets[dataset]
    params, training, preprocess = merge(m.params, d.params), merge({}, m.training), d.preprocess
    limit: dict[str, Any] = {}
    metric_settings: dict[str, dict[str, Any]] = {}
    suite_layers = [o for o in suite.overrides if o.matches(method, dataset)]
    tier_layers = [o for o in spec.overrides if o.matches(method, dataset)]
    for layer in (
        *suite_layers,
        Override(training=spec.training, metrics=spec.metrics, limit=spec.limit),
        *tier_layers,
    ):
        params = merge(params, layer.params)
        training = lay(training, layer.training)
        preprocess = layer.preprocess if layer.preprocess is not None else preprocess
        limit = merge(limit, (layer.limit or Limit()).model_dump(exclude_none=True))
        for key, settings in layer.metrics.items():
            metric_settings[key] = merge(metric_settings.get(key, {}), settings)
    return params, training, preprocess, limit, metric_settings


def as_stage(
    loaded: LoadedSuite, tier: Tier, spec: TierSpec, method: str, dataset: str, same: list[Any]
) -> dict[str, Any]:
    """What a stage takes over that names `method`, whose preprocessing and limits must be the `same`.

    Raises:
        UserError: it cannot be a stage.
    """
    methods = loaded.suite.methods
    if method not in methods:
        raise UserError(f"no method {method!r} in this suite", fix=did_you_mean(method, methods))
    params, training, preprocess, limit, _ = layered(loaded, spec, method, dataset)
    if [preprocess, limit.get("train"), limit.get("valid")] != same:
        raise UserError(f"method {method!r} sees other rows, so it is no stage here", fix="give both the same ones")

    def too_deep(name: str) -> dict[str, Any]:
        raise UserError(f"method {method!r} has stages of its own ({name!r})", fix="name the models of its stages")

    settled = settle_training(loaded, training, method, tier, too_deep)
    if settled["in_stages"]:
        too_deep(settled["in_stages"][0]["name"])
    return {"model": methods[method].model, "params": params, "training": settled}


def settle_training(
    loaded: LoadedSuite, changes: dict[str, Any], method: str, tier: Tier, find: Callable[[str], dict[str, Any]]
) -> dict[str, Any]:
    """The suite's protocol with a method's and a tier's changes, checked as a whole.

    Args:
        find: gives the settled model, params and training of a method that a stage names.
    """
    from pydantic import ValidationError

    merged = lay(loaded.suite.training.model_dump(exclude_unset=True), changes)
    if isinstance(merged.get("in_stages"), dict):
        merged["in_stages"] = []  # a tier's changes of stages that this method has none of
    merged = settled_stages(merged, lay, find)
    try:
        return Training.model_validate(merged).model_dump(mode="json")
    except ValidationError as e:
        fault = first_fault(e)
        place = next((at for at in _layers(loaded, method, tier) if (*at, *fault["loc"]) in loaded.file.lines), None)
        if place is not None and fault["loc"]:
            raise explain(loaded.file, Training, place, fault, merged) from None
        raise loaded.file.error(
            f"training of {method!r} at tier {tier!r}: {fault['msg'].removeprefix('Value error, ')}",
            ("tiers", tier),
            "mend `training` there or in the method",
        ) from None


def _layers(loaded: LoadedSuite, method: str, tier: Tier) -> Iterator[Path_]:
    """Where a setting of training may stand, the place that wins first."""
    for i in reversed(range(len(loaded.suite.tiers[tier].overrides))):
        yield ("tiers", tier, "overrides", i, "training")
    yield ("tiers", tier, "training")
    for i in reversed(range(len(loaded.suite.overrides))):
        yield ("overrides", i, "training")
    yield ("methods", method, "training")


def lay(training: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`merge` for training: a length given in `changes` replaces one that is counted the other way, and stages can be
    changed by name."""
    kept = dict(training)
    if "in_stages" in changes:
        changes = {**changes, "in_stages": changed_stages(kept.get("in_stages"), changes["in_stages"], lay)}
    for one, other in (("epochs", "steps"), ("steps", "epochs")):
        if one in changes and other not in changes:
            kept.pop(other, None)
    return merge(kept, changes)
