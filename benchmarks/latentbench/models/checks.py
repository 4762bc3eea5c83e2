"""Checks of constructor parameters: what a suite sets wrong is a `UserError` with its name and its remedy."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from latentbench.core.errors import UserError, did_you_mean
from latentbench.core.types import DataInfo

Choice = str | Mapping[str, Mapping[str, Any] | None]
"""A name, or ``{name: {parameter: value}}``: how a suite picks one of several parts and sets its parameters."""


def whole(name: str, value: object, least: int = 1) -> int:
    """`value` as an integer that is at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise UserError(f"{name} is {value!r}", fix=f"a whole number, {least} or more")
    return value


def wholes(name: str, values: object, least: int = 1) -> tuple[int, ...]:
    """`values` as a tuple of integers, each at least `least`; it may be empty."""
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise UserError(f"{name} is {values!r}", fix=f"a list of whole numbers, each {least} or more")
    return tuple(whole(f"{name}[{i}]", value, least) for i, value in enumerate(values))


def number(name: str, value: object, *, least: float = 0.0, most: float = math.inf, above: bool = False) -> float:
    """`value` as a finite float in [least, most], or in (least, most] with `above`."""
    finite = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if finite and least <= value <= most and not (above and value == least):  # type: ignore[operator]
        return float(value)  # type: ignore[arg-type]
    upper = "" if most == math.inf else f" and at most {most:g}"
    raise UserError(f"{name} is {value!r}", fix=f"a number {'above' if above else 'of at least'} {least:g}{upper}")


def flag(name: str, value: object) -> bool:
    """`value`, which must be true or false."""
    if not isinstance(value, bool):
        raise UserError(f"{name} is {value!r}", fix="true or false")
    return value


def one_of(name: str, value: object, allowed: Iterable[str]) -> str:
    """`value`, which must be one of the strings `allowed`."""
    allowed = list(allowed)
    if not isinstance(value, str) or value not in allowed:
        raise UserError(f"{name} is {value!r}", fix=did_you_mean(str(value), allowed))
    return value


def support(model: str, info: DataInfo, *allowed: str) -> None:
    """The data's support must be one that `model` can describe."""
    if info.support not in allowed:
        raise UserError(
            f"{model} cannot describe data with support {info.support!r}",
            fix=f"preprocess the data so that its support is {' or '.join(allowed)}",
        )
    if info.support == "discrete":
        whole("levels of discrete data", info.levels, 2)


def image_shape(model: str, info: DataInfo) -> tuple[int, int, int]:
    """(channels, height, width) of the data, which must be images."""
    if len(info.shape) != 3:
        raise UserError(
            f"{model} needs images (channels, height, width), and a sample has shape {tuple(info.shape)}",
            fix="leave `flatten` out of the preprocessing, or choose a model of vectors",
        )
    channels, height, width = info.shape
    return channels, height, width


def vector_length(model: str, info: DataInfo) -> int:
    """Number of coordinates of the data, which must be vectors."""
    if len(info.shape) != 1:
        raise UserError(
            f"{model} needs vectors, and a sample has shape {tuple(info.shape)}",
            fix="put `flatten` into the preprocessing",
        )
    return info.shape[0]


def chosen(name: str, choice: object, table: Mapping[str, Callable[..., Any]]) -> tuple[str, dict[str, Any]]:
    """Splits a `Choice` into its name, which must be a key of `table`, and its parameters.

    The parameters must be keyword parameters of the table's entry.
    """
    if isinstance(choice, Mapping):
        if len(choice) != 1:
            raise UserError(f"{name} names {len(choice)} things", fix=f"one of {', '.join(table)}")
        ((key, parameters),) = choice.items()
    else:
        key, parameters = choice, None
    key = one_of(name, key, table)
    if parameters is None:
        parameters = {}
    if not isinstance(parameters, Mapping):
        raise UserError(f"{name}.{key} is {parameters!r}", fix="a mapping of parameters")
    signature = inspect.signature(table[key]).parameters.values()
    known = [p.name for p in signature if p.kind is inspect.Parameter.KEYWORD_ONLY]
    for parameter in parameters:
        if parameter not in known:
            hint = did_you_mean(str(parameter), known) if known else "it has none"
            raise UserError(f"{name}.{key} has no parameter {parameter!r}", fix=hint)
    return key, dict(parameters)
