"""In what models of one architecture differ: plain numbers, which may be stacked, or more, which may not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor, nn

from latentbench.training.draws_by_member import CannotStack

#: What `torch.nn.Module` keeps for itself, and what recurrent layers derive from their weights at each call.
_OWN = {"_parameters", "_buffers", "_modules", "training", "_flat_weights", "_flat_weight_refs"}
_OWN |= {name for name in vars(nn.Module()) if "state_dict" in name}


def differing_numbers(models: Sequence[nn.Module], draws: str = "") -> tuple[dict[str, Tensor], dict[str, list[int]]]:
    """The numbers in which models differ, by path below ``model``.

    Args:
        draws: name of the attribute that counts draws a row, a whole number in which they may differ; empty: none.

    Returns:
        The plain numbers, (S,) each; the counts of draws, one a model.

    Raises:
        CannotStack: they differ in something else.
    """
    device = next((p.device for p in models[0].parameters()), torch.device("cpu"))
    values = {path: [_at(m, path) for m in models] for path in _differing(models, draws)}
    scalars = {p: torch.tensor(v, device=device) for p, v in values.items() if isinstance(v[0], float)}
    return scalars, {p: v for p, v in values.items() if p not in scalars}


def _differing(models: Sequence[nn.Module], draws: str) -> list[str]:
    """Where models differ in a number, which may be a whole one only under the name `draws`."""
    paths: dict[str, None] = {}
    for other in models[1:]:
        pairs = zip_longest(
            models[0].named_modules(prefix="model"), other.named_modules(prefix="model"), fillvalue=("", None)
        )
        for (name, a), (_, b) in pairs:
            if _kind(a) != _kind(b):
                raise CannotStack(f"{name} is of another class in some members")
            for key in sorted((a.__dict__.keys() | b.__dict__.keys()) - _OWN):
                x, y = a.__dict__.get(key), b.__dict__.get(key)
                if alike(x, y):
                    continue
                counts = key == draws and type(x) is type(y) is int and min(x, y) > 0
                if not (counts or (isinstance(x, float) and isinstance(y, float))):
                    raise CannotStack(f"members differ in {name}.{key}, which is no plain number")
                paths[f"{name}.{key}"] = None
    return list(paths)


def _at(model: nn.Module, path: str) -> Any:
    owner, _, last = path.removeprefix("model").removeprefix(".").rpartition(".")
    return getattr(model.get_submodule(owner), last)


def _kind(module: Any) -> tuple[str, tuple[type, ...]]:
    """A module's class; torch makes a new one for every module with a parametrisation."""
    return type(module).__qualname__, type(module).__mro__[1:]


def alike(a: Any, b: Any, _seen: frozenset[int] = frozenset()) -> bool:
    """Whether two values that are no modules do the same, as far as it can be told: what cannot is not alike."""
    if a is b or id(a) in _seen:
        return True
    if type(a) is not type(b):
        return False
    seen = _seen | {id(a)}
    if isinstance(a, Tensor):
        return a.shape == b.shape and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, Mapping):
        return list(a) == list(b) and all(alike(a[k], b[k], seen) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(alike(x, y, seen) for x, y in zip(a, b))
    if hasattr(a, "__code__"):
        inside, other = ([c.cell_contents for c in f.__closure__ or ()] for f in (a, b))
        return a.__code__ == b.__code__ and alike(a.__defaults__, b.__defaults__, seen) and alike(inside, other, seen)
    if hasattr(a, "__self__"):
        return a.__func__ is b.__func__ and alike(a.__self__, b.__self__, seen)
    if hasattr(a, "__dict__") and type(a).__eq__ is object.__eq__:
        return alike(vars(a), vars(b), seen)
    try:
        return bool(a == b)
    except (RuntimeError, ValueError, TypeError):
        return False


def same_attributes(a: nn.Module, b: nn.Module) -> bool:
    """Whether two models of one architecture hold the same besides parameters and buffers, as far as it can be told."""
    for (_, one), (_, other) in zip(a.named_modules(), b.named_modules(), strict=True):
        names = (vars(one).keys() | vars(other).keys()) - _OWN - {"loss"}
        if not all(alike(vars(one).get(name), vars(other).get(name)) for name in names):
            return False
    return True


def plain_attributes(root: nn.Module) -> dict[str, int]:
    """Identities of what modules hold besides parameters and buffers: they change where something is assigned."""
    return {
        f"{path}.{key}": id(value)
        for path, module in root.named_modules()
        for key, value in module.__dict__.items()
        if key not in _OWN
    }
