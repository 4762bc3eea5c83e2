"""Which runs may train as one program: those that differ in seed, learning rate or plain numbers alone.

Runs that differ in their draws for each row may too, where it is asked for: each step then costs every member as much
as the one of most draws, so it pays only where a step waits for its kernels to be launched.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from latentbench.acceleration.alone import why_alone
from latentbench.planning.fingerprint import digest
from latentbench.planning.plan import RunSpec
from latentbench.spec.registry import find_model

#: Side by side on a GPU where nobody says.
MOST_STACKED = 64


def default_stack(device: str) -> int:
    """Runs side by side where nobody says: on a CPU one, for there they gain nothing (`perf/stacking.py`)."""
    return MOST_STACKED if device == "cuda" else 1


def stackable(runs: Sequence[RunSpec], most: int, *, draws: bool = False) -> list[list[RunSpec]]:
    """Groups of two to `most` runs that may train side by side, each in the runs' order.

    With `draws` the runs of a group may differ in their number of draws, which all divide the largest; those of most
    draws come first.
    """
    groups: dict[str, list[RunSpec]] = {}
    for spec in runs:
        if (key := _kind(spec, draws)) is not None:
            groups.setdefault(key, []).append(spec)
    wholes = [part for group in groups.values() for part in _by_draws(group)]
    return [part for whole in wholes for part in split_evenly(whole, most) if len(part) > 1]


def draws_of(spec: RunSpec) -> int:
    """Draws for each row that a run's parameters ask for in training; 1 where they name none."""
    path = find_model(spec.model).draws
    value: Any = spec.params
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value if isinstance(value, int) and value > 0 else 1


def _by_draws(group: Sequence[RunSpec]) -> Iterator[list[RunSpec]]:
    """Parts in which every number of draws divides the largest. Like numbers stand together, should a part be split."""
    rest = sorted(group, key=draws_of, reverse=True)
    while rest:
        most = draws_of(rest[0])
        yield [spec for spec in rest if most % draws_of(spec) == 0]
        rest = [spec for spec in rest if most % draws_of(spec)]


def _kind(spec: RunSpec, draws: bool) -> str | None:
    """What the runs of a stack have in common; None where a run is for no stack."""
    entry = find_model(spec.model)
    if why_alone(spec) is not None or entry.can & {"Preparable", "Fittable"} or spec.exact:
        return None
    if spec.training["precision"] == "16-mixed":  # one factor scales all losses
        return None
    optimizer = {k: v for k, v in spec.training["optimizer"].items() if k != "lr"}
    free = [*entry.scalars, *([entry.draws] if draws and entry.draws else [])]
    params = _without(spec.params, [path.split(".") for path in free])
    return digest([spec.target, params, spec.data, {**spec.training, "optimizer": optimizer}])


def _without(params: Mapping[str, Any], paths: Sequence[Sequence[str]]) -> dict[str, Any]:
    """`params` with None for the numbers at `paths`."""
    out = dict(params)
    for first, *rest in paths:
        if rest and isinstance(out.get(first), Mapping):
            out[first] = _without(out[first], [rest])
        elif not rest and isinstance(out.get(first), int | float):
            out[first] = None
    return out


def split_evenly(group: Sequence[Any], most: int) -> Iterator[list[Any]]:
    """Parts of at most `most`, as even as can be."""
    parts = math.ceil(len(group) / max(1, most))
    size, larger = divmod(len(group), max(1, parts))
    start = 0
    for i in range(parts):
        end = start + size + (i < larger)
        yield list(group[start:end])
        start = end
