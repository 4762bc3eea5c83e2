"""A YAML file's data held against a pydantic model; faults in a user's words, with file and line."""

from __future__ import annotations

import types
import typing
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from latentbench.core.bounds import FAULTS, shortened
from latentbench.core.errors import UserError, did_you_mean
from latentbench.core.yamlfile import Path_, YamlFile

#: Characters of a key or a value that a message shows.
SHOWN = 200

M = TypeVar("M", bound=BaseModel)


def parse(file: YamlFile, model: type[M], at: Path_ = (), data: Any = None) -> M:
    """Validate `file.data` (or `data`, which stands at path `at`) against a pydantic model.

    Raises:
        UserError: the first fault, with file, line and the nearest known key for an unknown one; `also` holds the rest.
    """
    data = file.data if data is None else data
    try:
        return model.model_validate(data)
    except ValidationError as e:
        first = first_fault(e)
        said = explain(file, model, at, first, data)
        rest = [explain(file, model, at, f, data) for f in e.errors(include_url=False)[:FAULTS] if f != first]
        if (more := e.error_count() - FAULTS) > 0:
            rest.append(file.error(f"{more} more faults", fix="mend the first ones, then look again"))
        said.also = tuple({str(one): one for one in rest if str(one) != str(said)}.values())
        raise said from None


def first_fault(error: ValidationError) -> Any:
    """The fault to mend first: an unknown key is usually the cause of the others in the same place."""
    faults = error.errors(include_url=False)
    return next((f for f in faults if f["type"] == "extra_forbidden"), faults[0])


def explain(file: YamlFile, model: type[BaseModel], at: Path_, fault: Any, data: Any) -> UserError:
    """One fault of pydantic's in a user's words; `data`, which stands at path `at`, is what was validated."""
    loc = _written(data, fault["loc"])
    place = ".".join(shortened(str(p), SHOWN) for p in (*at, *loc)) or "the file"
    if fault["type"] == "extra_forbidden":
        known = _keys_at(model, fault["loc"][:-1])
        return file.error(
            f"unknown key {place!r}",
            (*at, *loc),
            did_you_mean(str(loc[-1]), known, "its documentation") if known else None,
        )
    if fault["type"] == "missing":
        return file.error(f"{place!r} is missing", (*at, *loc), "add it")
    message = shortened(fault["msg"].removeprefix("Value error, "))
    given = fault.get("input")
    shown_value = "" if isinstance(given, dict | list) or given is None else f", not {shortened(repr(given), SHOWN)}"
    return file.error(f"{place}: {message[0].lower() + message[1:]}{shown_value}", (*at, *loc), "change the value")


def _written(data: Any, loc: Path_) -> Path_:
    """`loc` without the names of union members, which pydantic puts in and no file has."""
    path: list[str | int] = []
    for i, part in enumerate(loc):
        if isinstance(data, dict) and part not in data and i + 1 < len(loc):
            continue
        path.append(part)
        if isinstance(data, dict):
            data = data.get(part)
        elif isinstance(data, list) and isinstance(part, int) and part < len(data):
            data = data[part]
    return tuple(path)


def _keys_at(model: type[BaseModel], loc: Path_) -> list[str]:
    """Keys that `model` admits at `loc`, found by walking its annotations."""
    kinds: list[Any] = [model]
    for part in loc:
        if members := [kind for kind in kinds if _is_member(kind, part)]:
            kinds = members
            continue
        step: list[Any] = []
        for kind in kinds:
            origin, args = typing.get_origin(kind), typing.get_args(kind)
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                for name, info in kind.model_fields.items():
                    if part in (name, info.alias):
                        step.append(info.annotation)
            elif origin in (list, tuple, dict):
                step.append(args[-1])
        kinds = [k for s in step for k in _flatten(s)]
    keys: list[str] = []
    for kind in kinds:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            keys += [info.alias or name for name, info in kind.model_fields.items()]
    return keys


def _is_member(kind: Any, tag: str | int) -> bool:
    """Whether a model is the one that a union calls `tag`, by the literal of its field `kind`."""
    if not (isinstance(kind, type) and issubclass(kind, BaseModel)) or "kind" not in kind.model_fields:
        return False
    return tag in typing.get_args(kind.model_fields["kind"].annotation)


def _flatten(kind: Any) -> list[Any]:
    """The members of a union or annotated type, each on its own."""
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType, typing.Annotated):
        members = typing.get_args(kind)[:1] if origin is typing.Annotated else typing.get_args(kind)
        return [k for a in members for k in _flatten(a)]
    return [kind]
