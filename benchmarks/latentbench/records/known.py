"""Records whose very bytes were found intact before, in a pack or a file: nothing in them needs another check.

To validate 50,000 records, each as if it came from anybody, takes as long as all the rest of a leaderboard. A table
needs but a few numbers of each, so those of a pack are not even made until somebody asks for one.
"""

from __future__ import annotations

import marshal
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter

from latentbench.records.design import Design
from latentbench.records.pack import Pack
from latentbench.records.packform import IN_RUN, Json
from latentbench.records.record import Cost, Measured, Provenance, Record, TakenStage, record_of

M = TypeVar("M", bound=BaseModel)
_set_content, _set_given, _set_extra, _set_private = (
    vars(BaseModel)[slot].__set__
    for slot in ("__dict__", "__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__")
)
#: Parts of a provenance that have forms of their own.
_FORMS: dict[str, Any] = {"design": Design | None, "stages": list[TakenStage]}
#: All that a run says itself, beside its numbers and costs, where nothing odd has happened to it.
_PLAIN, _PLAINLY_MADE = frozenset(("seed", "files", "fingerprint", "seal")), frozenset(("started", "ended"))


class Known:
    """The records of such a pack: the first of each kind is validated, the others are made like it.

    Args:
        pack: whose lines have all been read, and whose seals hold.
    """

    def __init__(self, pack: Pack) -> None:
        self._pack = pack
        self._kinds: dict[tuple[Any, ...], Kind] = {}

    def record(self, name: str) -> Record:
        """The record of a run. Raises UserError as `read` does."""
        return made(self.read(name))

    def read(self, name: str) -> Record | PackedRun:
        """The record of a run, unmade where it is like others.

        Raises:
            UserError: there is none.
        """
        parts = self._pack.parts(name)
        if parts is None or "axes" in parts[0]:
            return self._validated(name)
        run, cell = parts
        says = (run["cell"], run["environment"], *run, *run["provenance"])  # what it says itself, and what it does not
        kind = self._kinds.get(says)
        if kind is None:
            kind = self._kinds[says] = Kind(self._validated(name), run, cell)
        return PackedRun(kind, run) if kind.is_plain else kind.record(run)

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
    return _of(form, _defaults(form) | given, _names(tuple(given)))


def _of(form: type[M], content: Json, given: set[str]) -> M:
    """The model with that content, which is taken over; `given` may be shared."""
    made = form.__new__(form)
    _set_content(made, content)
    _set_given(made, given)
    _set_extra(made, None)
    _set_private(made, None)
    return made


@cache
def _defaults(form: type[BaseModel]) -> Json:
    return {k: None if f.is_required() else f.get_default() for k, f in form.model_fields.items()}


@lru_cache(maxsize=1024)
def _names(given: tuple[str, ...]) -> set[str]:
    return set(given)


class Kind:
    """Records of one cell and environment that say the same things, told apart by what a run says itself.

    Args:
        first: one of them, validated.
        run, cell: that one as its pack has it.

    Attributes:
        first: as given; but for its seed's own, what it says holds of all.
        is_plain: whether they finished, and differ in nothing but seed, names and hashes, numbers, costs and times.
    """

    def __init__(self, first: Record, run: Json, cell: Json) -> None:
        self.first, self.costs = first, list[str](cell["cost"])
        self._own = [key for key in run if key not in IN_RUN]
        self._has_forms = not _FORMS.keys().isdisjoint(run["provenance"])
        self.is_plain = (
            (first.status, first.outcomes) == ("finished", [])
            and _PLAIN.issuperset(self._own)
            and run["provenance"].keys() == _PLAINLY_MADE
        )
        for model in (first, first.cost, first.provenance, *first.metrics):
            _set_content(model, _thin(type(model), model.__dict__))

    def record(self, run: Json) -> Record:
        """The record of a run of this kind."""
        first, content = self.first, self.first.__dict__.copy()
        for key in self._own:
            content[key] = run[key]
        content["run_id"] = run["run"]
        content["hashes"] = first.hashes | {"spec": run["spec"]}
        content["spec"] = first.spec | {"seed": run["seed"]}
        content["metrics"] = [_measured(m, own) for m, own in zip(first.metrics, run["measured"], strict=True)]
        content["cost"] = self._cost(run)
        made = run["provenance"]
        content["provenance"] = _with(first.provenance, _formed(made) if self._has_forms else made)
        return _of(Record, content, first.__pydantic_fields_set__)

    def priced(self, run: Json) -> Record:
        """See the function of this name."""
        return _with(self.first, {"run_id": run["run"], "seed": run["seed"], "metrics": [], "cost": self._cost(run)})

    def _cost(self, run: Json) -> Cost:
        return _with(self.first.cost, dict(zip(self.costs, run["cost"], strict=True)))


@dataclass(slots=True, eq=False)
class PackedRun:
    """A run of a pack whose record nobody has asked for yet.

    Attributes:
        kind: which says all that it has in common with others, that it finished among them.
        says: its own line.
    """

    kind: Kind
    says: Json

    @property
    def measured(self) -> list[list[Any]]:
        """Value, standard error, rows, failure and details of each metric."""
        own: list[list[Any]] = self.says["measured"]
        return own


Read = Record | PackedRun


def made(one: Read) -> Record:
    """The record of what was read."""
    return one.kind.record(one.says) if isinstance(one, PackedRun) else one


def like(one: Read) -> Record:
    """A record that says the same of everything that is not a seed's own."""
    return one.kind.first if isinstance(one, PackedRun) else one


def priced(one: Read) -> Record:
    """The record of what was read, for its cost: of a packed run, without its numbers and a seed's own hashes."""
    return one.kind.priced(one.says) if isinstance(one, PackedRun) else one


def seed_of(one: Read) -> int:
    """The seed of what was read."""
    seed: int = one.says["seed"] if isinstance(one, PackedRun) else one.seed
    return seed


class Records(MutableMapping[str, Record]):
    """Records by cell, each made when it is first asked for.

    Attributes:
        read: what they are made from.
    """

    def __init__(self) -> None:
        self.read: dict[str, Read] = {}

    def __getitem__(self, cell: str) -> Record:
        one = self.read[cell]
        if isinstance(one, PackedRun):
            one = self.read[cell] = made(one)
        return one

    def __setitem__(self, cell: str, record: Record) -> None:
        self.read[cell] = record

    def __delitem__(self, cell: str) -> None:
        del self.read[cell]

    def __contains__(self, cell: object) -> bool:
        return cell in self.read

    def __iter__(self) -> Iterator[str]:
        return iter(self.read)

    def __len__(self) -> int:
        return len(self.read)


def as_read(records: Mapping[str, Record]) -> Mapping[str, Read]:
    """The same, without making any."""
    return records.read if isinstance(records, Records) else records


def _measured(first: Measured, own: list[Any]) -> Measured:
    content = first.__dict__.copy()
    content["value"], content["se"], content["n"], content["failure"], content["details"] = own
    return _of(Measured, content, first.__pydantic_fields_set__)


@cache
def _named_alike(form: type[BaseModel]) -> type:
    return type(form.__name__, (), {})


def _thin(form: type[BaseModel], content: Json) -> Json:
    """The same as the attributes of a plain object: copies of these share their keys, and take half the memory."""
    plain = _named_alike(form)()
    for name, value in content.items():
        setattr(plain, name, value)
    return vars(plain)


def _with(model: M, changes: Json) -> M:
    """`model.model_copy(update=changes)` in a third of its time: the set of the fields that were given is shared."""
    content = model.__dict__.copy()
    content.update(changes)
    return _of(type(model), content, model.__pydantic_fields_set__)
