"""Metrics of arrays by name: where each lives, what arrays it needs, its unit, direction and reference.

Each declares itself beside its function (`latentbench.declare.of_arrays`), and nothing is imported until it is used.
`compute` backs ``latentbench metric NAME FILE …``.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from latentbench.core.errors import UserError, did_you_mean
from latentbench.core.imports import load
from latentbench.declare import Direction
from latentbench.discovery import finding
from latentbench.discovery.reading import Declared

#: What every library that draws can be seeded with.
LARGEST_SEED = 2**32 - 1


@dataclass(frozen=True)
class CatalogEntry:
    """A metric of arrays as declared: see `latentbench.declare.of_arrays`.

    Attributes:
        target: ``module:function``.
        arrays: parameters that are arrays, in order; those in `optional` may be left out.
    """

    name: str
    target: str
    arrays: tuple[str, ...]
    optional: tuple[str, ...]
    unit: str
    direction: Direction
    reference: str
    from_file: bool = True
    version: int = 1

    def load(self) -> Callable[..., Any]:
        """The function (imports its module)."""
        return load(self.target)

    def options(self) -> dict[str, inspect.Parameter]:
        """Parameters of the function that are no arrays."""
        parameters = inspect.signature(self.load()).parameters
        return {k: p for k, p in parameters.items() if k not in (*self.arrays, *self.optional, "source")}

    def identity(self, options: Mapping[str, Any]) -> str:
        """Hash of the name, the version and every option's value: figures of unequal identity are not compared."""
        defaults = {k: p.default for k, p in self.options().items() if p.default is not inspect.Parameter.empty}
        values = {k: repr(v) for k, v in sorted({**defaults, **options}.items())}
        return hashlib.sha256(json.dumps([self.name, self.version, values]).encode()).hexdigest()[:16]


@cache
def metrics_of_arrays() -> dict[str, CatalogEntry]:
    """All metrics of arrays."""
    return {name: _entry(declared) for name, declared in finding.found("of_arrays").items()}


def _entry(declared: Declared) -> CatalogEntry:
    given = declared.arguments
    names = given["arrays"].split()
    return CatalogEntry(
        name=declared.name,
        target=declared.target,
        arrays=tuple(n for n in names if not n.endswith("?")),
        optional=tuple(n[:-1] for n in names if n.endswith("?")),
        unit=given["unit"],
        direction=given["direction"],
        reference=given["reference"],
        from_file=given["from_file"],
        version=given["version"],
    )


def find(name: str) -> CatalogEntry:
    """The entry of that name, or `UserError` with the nearest ones."""
    if name not in metrics_of_arrays():
        raise UserError(
            f"no metric is called {name!r}",
            where="metric",
            fix=did_you_mean(name, metrics_of_arrays(), "`latentbench metric --list`"),
        )
    return metrics_of_arrays()[name]


@dataclass(frozen=True, repr=False)
class Computed:
    """A metric computed from files: `numbers` by name (the first is the metric's), with what it takes to cite it."""

    entry: CatalogEntry
    numbers: dict[str, float | int | None]
    options: dict[str, Any]
    identity: str
    #: How the axes of arrays were read where they could be meant otherwise, and what the metric warns of.
    remarks: tuple[str, ...] = ()

    @property
    def value(self) -> float | int | None:
        """The metric's own number; None where the arrays give none."""
        return next(iter(self.numbers.values()), None)

    def __float__(self) -> float:
        return float("nan") if self.value is None else float(self.value)

    def __repr__(self) -> str:
        unit = f" {self.entry.unit}" if self.entry.unit.isalpha() else ""
        numbers = ", ".join(f"{k}={v:.6g}" if isinstance(v, float) else f"{k}={v}" for k, v in self.numbers.items())
        return f"<{self.entry.name}: {numbers}{unit}>"


def compute(name: str, files: Sequence[str | Path], options: Mapping[str, str] | None = None) -> Computed:
    """Compute a metric on the arrays of .npz and .parquet files.

    Args:
        name: one of `metrics_of_arrays`.
        files: see `latentbench.metrics.files.read_arrays`.
        options: of the function, as text; `seed` seeds the draws of those that draw (default 0).

    Raises:
        UserError: unknown metric or option, missing array, a value of the wrong type, or bad arrays.
    """
    from latentbench.metrics.files import read_arrays

    entry = _of_arrays_alone(name)
    chosen = _options(entry, options or {})
    return _computed(entry, read_arrays(files, entry.arrays, entry.optional), chosen)


def compute_arrays(name: str, arrays: Sequence[Any], options: Mapping[str, Any]) -> Computed:
    """Compute a metric on arrays at hand.

    Args:
        name: one of `metrics_of_arrays`.
        arrays: in the order of the entry; optional ones may follow, or stand among the options by name.
        options: of the function; `seed` seeds the draws of those that draw (default 0).

    Raises:
        UserError: unknown metric or option, an array too few or too many, or bad arrays.
    """
    entry = _of_arrays_alone(name)
    names = (*entry.arrays, *entry.optional)
    given = dict(zip(names, arrays)) | {k: v for k, v in options.items() if k in names}
    lacking = [n for n in entry.arrays if n not in given]
    if lacking or len(arrays) > len(names):
        wanted = ", ".join([*entry.arrays, *(f"{n} (optional)" for n in entry.optional)])
        raise UserError(f"{name} takes {wanted}, not {len(arrays)} arrays", where="metric", fix="in this order")
    return _computed(entry, given, _options(entry, {k: v for k, v in options.items() if k not in names}))


def _of_arrays_alone(name: str) -> CatalogEntry:
    entry = find(name)
    if not entry.from_file:
        raise UserError(
            f"{name} does not make numbers of arrays alone",
            where="metric",
            fix=f"call {entry.target.partition(':')[0]}",
        )
    return entry


def _computed(entry: CatalogEntry, arrays: Mapping[str, Any], chosen: _Options) -> Computed:
    from latentbench.metrics import layout

    arrays = {name: layout.native(array) for name, array in arrays.items()}
    layout.check_draws(arrays)
    layout.check_range(arrays, chosen.arguments)
    try:
        result = entry.load()(**arrays, **chosen.arguments)
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(
            f"cannot be computed of these arrays: {type(error).__name__}: {error}"[:500],
            where=entry.name,
            fix="give more rows, or others",
        ) from error
    warnings = getattr(result, "details", {}).get("warnings", ())
    remarks = (*layout.remarks(entry.name, arrays, chosen.arguments), *warnings)
    return Computed(entry, flatten(result), chosen.shown, entry.identity(chosen.shown), remarks)


@dataclass(frozen=True)
class _Options:
    arguments: dict[str, Any]
    shown: dict[str, Any]


def _options(entry: CatalogEntry, given: Mapping[str, Any]) -> _Options:
    known = entry.options()
    draws = [k for k in known if k in ("generator", "rng")]
    if not 0 <= int(_parse("seed", given.get("seed", 0), int)) <= LARGEST_SEED:
        raise UserError(f"seed={given['seed']} is out of range", where="option", fix=f"0 to {LARGEST_SEED}")
    allowed = {*known, "seed"} - set(draws) if draws else set(known)
    for key in given:
        if key not in allowed:
            raise UserError(f"{entry.name} has no option {key!r}", where="option", fix=did_you_mean(key, allowed))
    shown: dict[str, Any] = {k: _parse(k, v, known[k].annotation if k in known else int) for k, v in given.items()}
    missing = [k for k, p in known.items() if p.default is inspect.Parameter.empty and k not in (*shown, *draws)]
    if missing:
        raise UserError(f"{entry.name} needs {', '.join(missing)}", where="option", fix=f"give {missing[0]}=…")
    arguments = dict(shown)
    if draws:
        shown.setdefault("seed", 0)
        seed = arguments.pop("seed", 0) if "seed" not in known else shown["seed"]
        arguments |= {k: _generator(k, seed) for k in draws}
    return _Options(arguments, shown)


def _generator(kind: str, seed: int) -> Any:
    if kind == "rng":
        import numpy as np

        return np.random.default_rng(seed)
    import torch

    return torch.Generator().manual_seed(seed)


def _parse(key: str, text: Any, annotation: Any) -> Any:
    """Text as the parameter's type: bool, int, float, or a word (checked by the function itself); what is no text is
    taken as it is."""
    if not isinstance(text, str):
        return text
    kind = getattr(annotation, "__name__", str(annotation)).split(" ")[0]
    try:
        if kind == "bool":
            return {"true": True, "false": False}[text.lower()]
        return {"int": int, "float": float}.get(kind, str)(text)
    except (KeyError, ValueError):
        raise UserError(f"{key}={text} is no {kind}", where="option") from None


def flatten(result: Any) -> dict[str, float | int | None]:
    """The numbers of a metric's result, by name; arrays, texts and tables are left out.

    A float is `value`; a `MetricValue` is `value`, `se`, `n` and its numeric details; other results give their fields,
    and fields that are results themselves are prefixed by their name.
    """
    return dict(_numbers(result, ""))


def _numbers(result: Any, prefix: str) -> list[tuple[str, float | int | None]]:
    if isinstance(result, (bool, int, float)):
        return [(prefix or "value", float(result) if isinstance(result, float) else int(result))]
    if result is None:
        return [(prefix, None)]
    if dataclasses.is_dataclass(result) and not isinstance(result, type):
        fields = {f.name: getattr(result, f.name) for f in dataclasses.fields(result)}
    elif isinstance(result, tuple) and hasattr(result, "_asdict"):
        fields = result._asdict()
    elif isinstance(result, tuple):
        fields = {str(i): v for i, v in enumerate(result)}
    elif isinstance(result, Mapping):
        fields = dict(result)
    else:
        return []
    join = f"{prefix}_" if prefix else ""
    pairs: list[tuple[str, float | int | None]] = []
    for key, value in fields.items():
        if key == "details" or (key == "value" and prefix):
            pairs += _numbers(value, prefix)
        elif not (isinstance(result, Mapping) and isinstance(value, (tuple, list, Mapping))):
            pairs += _numbers(value, f"{join}{key}")
    return pairs
