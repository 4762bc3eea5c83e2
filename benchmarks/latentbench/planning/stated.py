"""What a suite's protocol says in numbers, held against the runs that it plans at tier `paper`."""

from __future__ import annotations

import ast
import contextlib
import math
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from functools import cache
from typing import Any

from latentbench.core.errors import UserError
from latentbench.planning.plan import RunSpec, plan
from latentbench.spec.loading import LoadedSuite
from latentbench.spec.registry import parameters
from latentbench.spec.suite import ProtocolItem

#: The tier that follows the paper; the others depart from it, and say so.
TIER = "paper"
_ABSENT = object()


def departures(loaded: LoadedSuite) -> Iterator[UserError]:
    """Settings of the protocol that a run at tier `paper` does not have, or has otherwise.

    Raises:
        UserError: the tier cannot be planned.
    """
    told = [(i, item) for i, item in enumerate(loaded.suite.protocol) if item.settings]
    if not told or TIER not in loaded.suite.tiers:
        return
    runs = plan(loaded, TIER, seeds=[0])
    for i, item in told:
        chosen = [run for run in runs if _selects(item, run)]
        for place, wanted in item.settings.items():
            at = ("protocol", i, "settings", place)
            if not chosen:
                yield loaded.file.error(f"protocol {item.item!r} is about no run at tier {TIER}", at, "name others")
                break
            for run in chosen:
                found = _looked_up(_tree(run), place.split("."))
                if found is not _ABSENT and _agrees(found, wanted):
                    continue
                has = "has no such setting" if found is _ABSENT else f"has {found!r}"
                yield loaded.file.error(
                    f"protocol {item.item!r} says {place}: {wanted!r}, and {run.method!r} on {run.dataset!r} {has}",
                    at,
                    "mend one of the two, or limit the item with `methods` and `datasets`",
                )
                break


def _selects(item: ProtocolItem, run: RunSpec) -> bool:
    return any(fnmatchcase(run.method, g) for g in item.methods) and any(
        fnmatchcase(run.dataset, g) for g in item.datasets
    )


def _tree(run: RunSpec) -> dict[str, Any]:
    """What can be named of a run: ``training``, ``params`` with the model's defaults, ``data``, ``metrics`` by key."""
    params = {**_defaults(run.target), **run.params}
    return {**run.settled(), "params": params, "metrics": {m.key: m.settings for m in run.metrics}}


@cache
def _defaults(target: str) -> dict[str, Any]:
    """Defaults of a model's parameters that are literals."""
    found = {}
    for name, parameter in parameters(target).items():
        if parameter.default is not None:
            with contextlib.suppress(ValueError):
                found[name] = ast.literal_eval(parameter.default)
    return found


def _looked_up(tree: Any, path: list[str]) -> Any:
    for part in path:
        if isinstance(tree, Mapping) and part in tree:
            tree = tree[part]
        elif isinstance(tree, list) and part.isdecimal() and int(part) < len(tree):
            tree = tree[int(part)]
        else:
            return _ABSENT
    return tree


def _agrees(found: Any, wanted: Any, whole: bool = False) -> bool:
    """Equal up to rounding; of a mapping in the keys that are wanted, but for `whole` ones, such as steps of a list."""
    if isinstance(wanted, Mapping):
        known = isinstance(found, Mapping) and (not whole or found.keys() == wanted.keys())
        return known and all(k in found and _agrees(found[k], v, whole) for k, v in wanted.items())
    if isinstance(wanted, list | tuple):
        alike = isinstance(found, list | tuple) and len(found) == len(wanted)
        return alike and all(_agrees(a, b, whole=True) for a, b in zip(found, wanted))
    if isinstance(wanted, int | float) and isinstance(found, int | float):
        return isinstance(found, bool) == isinstance(wanted, bool) and math.isclose(found, wanted, rel_tol=1e-9)
    return bool(found == wanted)
