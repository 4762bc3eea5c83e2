"""Records whose very bytes were found intact before, in a pack or a file: nothing in them needs another check.

To validate 50,000 records, each as if it came from anybody, takes as long as all the rest of a leaderboard.
"""

from __future__ import annotations

import marshal
from functools import cache, lru_cache
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter

from latentbench.records.design import Design
from latentbench.records.pack import Pack
from latentbench.records.packform import IN_RUN, Json
from latentbench.records.record import Cost, Measured, Provenance, Record, TakenStage, record_of

M = TypeVar("M", bound=BaseModel)
_set = object.__setattr__
#: Parts of a provenance that have forms of their own.
_FORMS: dict[str, Any] = {"design": Design | None, "stages": list[TakenStage]}


class Known:
    """The records of such a pack: the first of each kind is validated, the others are made like it.

    Args:
        pack: whose lines have all been read, and whose seals hold.
    """

    def __init__(self, pack: Pack) -> None:
        self._pack = pack
        self._first: dict[tuple[Any, ...], Record] = {}

    def record(self, name: str) -> Record:
        """The record of a run.

        Raises:
            UserError: there is none.
        """
        parts = self._pack.parts(name)
        if parts is None or "axes" in parts[0]:
            return self._validated(name)
        run, cell = parts
        kind = (run["cell"], run["environment"], *run, *run["provenance"])  # what it says itself, and what it does not
        first = self._first.get(kind)
        if first is None:
            first = self._first[kind] = self._validated(name)
        return _like(first, run, cell)

    def _validated(self, name: str) -> Record:
        return record_of(self._pack.record(name), self._pack.path / name, known=True)


def as_known(content: Json, shared: dict[bytes, Any]) -> Record:
    """The record of a JSON of which the same bytes were validated before: nothing in it needs another check.

    Args:
        content: the record; it is taken over.
        shared: parts of specifications and environments that earlier records have; what says the very same becomes the
            same object, as in the records of a pack.
    """
    provenance = content["provenance"]
    for part, value in content["spec"].items():
        content["spec"][part] = _shared(value, shared)
    for part in ("packages", "command"):
        if part in provenance:
            provenance[part] = _shared(provenance[part], shared)
    content["metrics"] = [_made(Measured, one) for one in content.get("metrics", ())]
    content["cost"] = _made(Cost, content["cost"])
    content["provenance"] = _made(Provenance, _formed(provenance))
    return _made(Record, content)


def _formed(provenance: Json) -> Json:
    return provenance | {part: _form(part).validate_python(provenance[part]) for part in _FORMS if part in provenance}


@cache
def _form(part: str) -> TypeAdapter[Any]:
    return TypeAdapter(_FORMS[part])


def _shared(value: Any, shared: dict[bytes, Any]) -> Any:
    if not isinstance(value, dict | list):
        return value
    return shared.setdefault(marshal.dumps(value, 2), value)  # which tells 1, 1.0 and True apart


def _made(form: type[M], given: Json) -> M:
    made = form.__new__(form)
    _set(made, "__dict__", _defaults(form) | given)
    _set(made, "__pydantic_fields_set__", _names(tuple(given)))
    _set(made, "__pydantic_extra__", None)
    _set(made, "__pydantic_private__", None)
    return made


@cache
def _defaults(form: type[BaseModel]) -> Json:
    return {k: None if f.is_required() else f.get_default() for k, f in form.model_fields.items()}


@lru_cache(maxsize=1024)
def _names(given: tuple[str, ...]) -> set[str]:
    return set(given)


def _like(first: Record, run: Json, cell: Json) -> Record:
    own = {k: v for k, v in run.items() if k not in IN_RUN}
    own["run_id"] = run["run"]
    own["hashes"] = first.hashes | {"spec": run["spec"]}
    own["spec"] = first.spec | {"seed": run["seed"]}
    own["metrics"] = [
        _with(m, {"value": value, "se": se, "n": n, "failure": failure, "details": details})
        for m, (value, se, n, failure, details) in zip(first.metrics, run["measured"], strict=True)
    ]
    own["cost"] = _with(first.cost, dict(zip(cell["cost"], run["cost"], strict=True)))
    own["provenance"] = _with(first.provenance, _formed(run["provenance"]))
    return _with(first, own)


def _with(model: M, changes: Json) -> M:
    """`model.model_copy(update=changes)` in half its time: the set of the fields that were given is shared."""
    made = model.__class__.__new__(model.__class__)
    _set(made, "__dict__", model.__dict__ | changes)
    _set(made, "__pydantic_fields_set__", model.__pydantic_fields_set__)
    _set(made, "__pydantic_extra__", None)
    _set(made, "__pydantic_private__", None)
    return made
