"""The dataset registry: one declarative YAML file a dataset, under ``data/registry/``.

Importing this module costs neither torch nor `datasets`, so that listing what there is stays fast.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import math
import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from latentbench.core import imports, plugins
from latentbench.core.errors import UserError, did_you_mean
from latentbench.core.paths import is_companion, registry_dirs, shown
from latentbench.core.reach.graph import Boundary
from latentbench.core.reach.installed import FINDING, WORDS_AND_PLACES, code_hash
from latentbench.core.trust import check_found, check_import
from latentbench.core.types import Role
from latentbench.core.yamlfile import read_yaml
from latentbench.core.yamlschema import parse
from latentbench.discovery import finding

_SAFE_NAME = r"^[a-z0-9][a-z0-9._+-]*$"
_LONGEST_NAME = 64
#: A name that code declares (`latentbench.declare`), or ``module:function``.
_CODE = r"^([a-z0-9][a-z0-9_-]*|[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*)$"
#: Who makes or reads data, or knows their density: the decorators of `latentbench.declare` that an entry names.
Kind = Literal["loader", "generator", "oracle"]
DType = Literal["uint8", "uint16", "int8", "int16", "int32", "int64", "float32", "float64"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


#: What is said of a column that changes nothing in what is stored.
NOT_STORED = {"about", "role", "sparse", "entries", "missing"}


class Column(_Strict):
    """One column: `shape` of a row and its `dtype`.

    Attributes:
        shape: shape of one row, ``[]`` for a scalar. Of a ragged column: shape of one item.
        dtype: as stored; images stay uint8.
        ragged: each row is a sequence of its own length (flat values and row offsets).
        levels: values are the integers ``0 .. levels - 1`` (256 for 8-bit pixels, 2 for bits).
        top: real values lie in ``[0, top]`` (1 for intensities); None where no range is known.
        about: what it holds, its unit, and anything a reader must know.
        missing: whether NaN stands in it for what is missing.
        role: what models take it for; by its name where nothing is said (`latentbench.data.parts`).
        sparse: each row is a row of a sparse matrix of so many columns, and holds the numbers of those that are not 0,
            ascending.
        entries: of a sparse column, the ragged column with what stands there; 1 where there is none.
    """

    shape: tuple[int, ...] = ()
    dtype: DType
    ragged: bool = False
    levels: int | None = Field(default=None, ge=2)
    top: float | None = Field(default=None, gt=0)
    about: str = ""
    missing: bool = False
    role: Role | None = None
    sparse: int | None = Field(default=None, ge=1)
    entries: str | None = None

    @property
    def size(self) -> int:
        """Number of scalars of one row (of one item, where ragged)."""
        return math.prod(self.shape)


class WholePart(_Strict):
    """What belongs to the whole problem and not to its rows, such as the edges of one large graph.

    Attributes:
        column: ``table.column`` of the dataset; all of it is given with every batch.
        row: of a ragged column, the row that is meant.
        role: what models take it for.
        splits: the roles (train, valid, test) whose rows it comes with.
        reveals: a column of integers, such as labels, which in these splits is -1 but for the rows that it numbers.
    """

    column: str = Field(pattern=r"^[^.]+\.[^.]+$")
    row: int | None = Field(default=None, ge=0)
    role: Role = "other"
    splits: tuple[Literal["train", "valid", "test"], ...] = ("train", "valid", "test")
    reveals: str | None = None


class Split(_Strict):
    """A named table of rows. A single graph has the tables ``nodes`` and ``edges``."""

    rows: int = Field(ge=0)
    columns: dict[str, Column] | None = None
    params: dict[str, Any] = {}


class File(_Strict):
    """A file to obtain, checked by sha256 wherever it comes from.

    Attributes:
        name: its path under ``data/cache/<dataset>/``.
        mirror: its path below ``LATENTBENCH_MIRROR``, where that is not ``<dataset>/<name>``.
        urls: official addresses, tried in order.
        sha256: of the file. Where nobody published one it is left out: the hash of the first download is recorded
            beside it, and later downloads must agree.
        bytes: its size, if known.
        folder: folder of the cache that holds it, in place of the dataset's own: for a file that several share.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*(/[A-Za-z0-9][A-Za-z0-9._+-]*)*$")
    mirror: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*(/[A-Za-z0-9][A-Za-z0-9._+-]*)*$")
    urls: tuple[str, ...] = ()
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    bytes: int | None = Field(default=None, ge=0)
    folder: str | None = Field(default=None, pattern=_SAFE_NAME)


class Form(_Strict):
    """One form in which the data come: files and the loader that reads them, by name (or ``module:function``).

    Whatever the form, the prepared data are the same; `Entry.content_hash` holds them to it.
    """

    loader: str = Field(pattern=_CODE)
    files: tuple[File, ...] = ()
    params: dict[str, Any] = {}


class Hub(_Strict):
    """The same data on the Hugging Face hub, read through `datasets`; `content_hash` of the entry must come out.

    Attributes:
        id: repository, e.g. ``ylecun/mnist``.
        revision: commit, tag or branch of the repository.
        config: configuration name, where the repository has several.
        columns: our column name -> theirs.
        splits: our split name -> theirs.
    """

    id: str
    revision: str
    config: str | None = None
    columns: dict[str, str]
    splits: dict[str, str]


class Factor(_Strict):
    """A ground-truth factor of variation: column k of ``factors`` holds values ``0 .. size - 1`` of factor k."""

    name: str
    size: int = Field(ge=1)


class Entry(_Strict):
    """All that is declared of a dataset.

    Attributes:
        kind: ``real`` (files are obtained), ``bundled`` (comes with a dependency), ``generated`` (made by code from a
            seed and stored), ``rendered`` (made by code at each access, never stored).
        forms: of a real or bundled dataset, in the order preferred; a bundled one has a single form without files.
        generate: the generator of a generated or rendered one, by name (or ``module:function``).
        oracle: what takes `params` and returns the exact density, by name (or ``module:callable``).
        params: passed to `generate` and `oracle`.
        seed: of a generated dataset.
        version: raised whenever a loader or a declaration changes what is stored.
        content_hash: what preparation must come to, whatever the source; known for real data.
        main: the column that preprocessing is applied to and that models take for the sample.
        parts: what belongs to the whole problem, by name; given where a split is a whole table, whose rows it numbers.
        protocols: named split schemes: role -> split expression (``train[:50000]``). The first is the default.
    """

    name: str = Field(pattern=_SAFE_NAME, max_length=_LONGEST_NAME)
    title: str
    kind: Literal["real", "bundled", "generated", "rendered"]
    modality: Literal["image", "vector", "sequence", "text", "graph", "set"]
    about: str
    citation: str
    licence: str
    homepage: str | None = None
    caveats: tuple[str, ...] = ()
    forms: tuple[Form, ...] = ()
    hub: Hub | None = None
    generate: str | None = Field(default=None, pattern=_CODE)
    oracle: str | None = Field(default=None, pattern=_CODE)
    params: dict[str, Any] = {}
    seed: int = 0
    version: int = Field(default=1, ge=1)
    content_hash: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    splits: dict[str, Split]
    columns: dict[str, Column] = {}
    factors: tuple[Factor, ...] = ()
    main: str = "x"
    parts: dict[str, WholePart] = {}
    protocols: dict[str, dict[str, Annotated[str, Field(max_length=200)]]] = {}

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if self.kind in ("real", "bundled") and not self.forms:
            raise ValueError(f"kind {self.kind} needs forms")
        if self.kind in ("generated", "rendered") and self.generate is None:
            raise ValueError(f"kind {self.kind} needs generate")
        if self.kind == "real" and not all(form.files for form in self.forms):
            raise ValueError("each form of kind real needs files")
        if self.hub is not None and self.content_hash is None:
            raise ValueError("a hub source needs content_hash, so that what it sends can be checked")
        if not self.splits:
            raise ValueError("at least one split")
        for split in self.splits:
            if not self.columns_of(split):
                raise ValueError(f"split {split!r} has no columns")
            for name, column in self.columns_of(split).items():
                partner = None if column.entries is None else self.columns_of(split).get(column.entries)
                if column.sparse is not None and (not column.ragged or column.shape or name == self.main):
                    raise ValueError(f"column {name!r}: `sparse` is for ragged columns of numbers, but the main one")
                if column.entries is not None and (column.sparse is None or partner is None or not partner.ragged):
                    raise ValueError(f"column {name!r}: `entries` goes with `sparse` and names a ragged column")
            factors = self.columns_of(split).get("factors")
            if factors is not None and self.factors and factors.shape != (len(self.factors),):
                raise ValueError(f"column factors of {split!r} must have shape [{len(self.factors)}]")
        for name, part in self.parts.items():
            table, named_there = part.column.split(".")
            if table not in self.splits or named_there not in self.columns_of(table):
                raise ValueError(f"part {name!r}: there is no column {part.column}")
        named = [file.name for form in self.forms for file in form.files]
        if len(set(named)) < len(named):
            raise ValueError("two files of one name")
        return self

    def columns_of(self, split: str) -> dict[str, Column]:
        """Columns of `split`: its own, else the entry's."""
        own = self.splits[split].columns
        return self.columns if own is None else own

    def protocol(self, name: str | None = None) -> dict[str, str]:
        """Role -> split expression of the protocol `name` (the first where None; all splits where none is declared).

        Raises:
            UserError: no protocol of that name.
        """
        if not self.protocols:
            if name is None:
                return {split: split for split in self.splits}
            raise UserError(f"dataset {self.name} declares no protocols, so not {name!r} either")
        if name is None:
            return dict(next(iter(self.protocols.values())))
        if name not in self.protocols:
            hint = did_you_mean(name, self.protocols)
            raise UserError(f"dataset {self.name} has no protocol {name!r}", fix=hint)
        return dict(self.protocols[name])

    @property
    def recipe(self) -> str:
        """Digest of what determines the prepared data: a prepared folder of another recipe is made anew.

        For generated and bundled data the code that makes them belongs to it, wherever it lies (they can always be made
        again); for real data `version` stands for the loaders, so that data pulled from a remote stay valid without
        their sources.
        """
        declared = self.model_dump(mode="json", include={"name", "kind", "version"})
        if self.kind != "real":
            declared |= self.model_dump(mode="json", include={"params", "seed"})
            declared["forms"] = [form.params for form in self.forms]
        declared["splits"] = {
            name: [
                split.rows,
                split.params,
                {n: c.model_dump(exclude=NOT_STORED) for n, c in self.columns_of(name).items()},
            ]
            for name, split in self.splits.items()
        }
        if self.kind != "real":
            kind: Kind = "generator" if self.generate else "loader"
            declared["source"] = _source_of(target_of(kind, self.generate or self.forms[0].loader))
        return hashlib.sha256(json.dumps(declared, sort_keys=True).encode()).hexdigest()


def entry_files() -> dict[str, Path]:
    """Name -> file of every dataset's entry, sorted; the first where several folders have the name."""
    found = [p for folder in reversed(_folders()) for p in folder.glob("*.yaml") if not is_companion(p.name)]
    return dict(sorted((p.stem, p) for p in found))


def names() -> list[str]:
    """Names of all datasets, sorted."""
    return list(entry_files())


def entry_file(name: str) -> Path | None:
    """The file of dataset `name`: in the registry, or in ``data/`` of a paper's folder; None if there is none."""
    if not _is_name(name):
        return None
    return next((f for folder in _folders() if (f := folder / f"{name}.yaml").is_file()), None)


def _folders() -> list[Path]:
    return [*registry_dirs(), *plugins.data_folders()]


def load_entry(name: str) -> Entry:
    """The entry of dataset `name`.

    Raises:
        UserError: no such dataset, or its file is wrong.
    """
    path = entry_file(name)
    if path is None:
        raise UserError(
            f"no dataset {name[:100]!r}",
            where=shown(registry_dirs()[0]),
            fix=did_you_mean(name, names(), "`latentbench data list`"),
        )
    return read_entry(path)


def _is_name(text: str) -> bool:
    return len(text) <= _LONGEST_NAME and re.fullmatch(_SAFE_NAME, text) is not None


def read_entry(path: Path) -> Entry:
    """The entry that a YAML file declares; a file is parsed once for each state that it is in.

    Raises:
        UserError: not YAML, not an entry, or a name other than the file's.
    """
    try:
        found = path.stat()
    except OSError:
        return _parse_entry(path)  # which says what is wrong with it
    return _entry_as_it_stands(path, found.st_mtime_ns, found.st_size)


@lru_cache(maxsize=512)
def _entry_as_it_stands(path: Path, changed: int, size: int) -> Entry:  # noqa: ARG001 - parts of the key
    return _parse_entry(path)


def _parse_entry(path: Path) -> Entry:
    file = read_yaml(path)
    entry = parse(file, Entry)
    if entry.name != path.stem:
        raise file.error(f"name {entry.name!r} is not the file's", ("name",), fix=f"name the file {entry.name}.yaml")
    return entry


def target_of(kind: Kind, named: str) -> str:
    """``module:function`` of what an entry names.

    Raises:
        UserError: nothing of that name is declared, or code that a file may not name (`latentbench.core.trust`).
    """
    if ":" not in named:
        return finding.find(kind, named).target
    check_import(named)  # looking for a module runs the packages above it
    return named


def reads_pickles(loader: str) -> bool:
    """Whether a loader, by name or as ``module:function``, is declared to read pickles."""
    declared = finding.found("loader").values()
    return any(loader in (d.name, d.target) and d.arguments["pickles"] for d in declared)


def resolve(kind: Kind, named: str) -> Callable[..., Any]:
    """The callable that an entry names.

    Raises:
        UserError: there is none, or code that a file may not name (`latentbench.core.trust`).
    """
    target = target_of(kind, named)
    try:
        found: Callable[..., Any] = imports.load(target)
    except (ImportError, AttributeError) as e:
        raise UserError(f"cannot import {target!r}: {e}") from e
    if not callable(found):
        raise UserError(f"{target!r} cannot be called")
    check_found(target, found)
    return found


def call(kind: Kind, named: str, *args: Any, **params: Any) -> Any:
    """What a loader, generator or oracle returns for `args` and the `params` of an entry.

    Raises:
        UserError: it cannot be imported, or takes other parameters.
    """
    found = resolve(kind, named)
    try:
        inspect.signature(found).bind(*args, **params)
    except TypeError as e:
        raise UserError(f"{kind} {named!r} does not take the entry's params: {e}", fix="mend `params`") from None
    return found(*args, **params)


def _source_of(target: str) -> str:
    """Hash of what ``module:function`` and all that it reaches say."""
    try:
        return code_hash(target, Boundary(WORDS_AND_PLACES, FINDING))
    except LookupError:
        raise UserError(f"there is no source of {target!r}") from None
