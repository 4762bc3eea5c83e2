"""That a suite's seeds are added until its claims are settled: one small sealed file, written before the first is.

``results/sequential/<suite>-<tier>.json`` holds the order of the seeds and what decides the interim analyses.
Nothing else needs to be remembered: which analyses were made, and what each said, follows from the records.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from itertools import count, islice
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from latentbench.core.bounds import DECLARATION_BYTES, read_at_most
from latentbench.core.errors import UserError
from latentbench.core.paths import results_dir, safe_name, shown, stays_inside, without_mark
from latentbench.records.record import write_atomically
from latentbench.spec.claims import Tier

MAX_BYTES = DECLARATION_BYTES
FOLDER = "sequential"
_FIX = "restore it; or remove it, and the claims are judged as if the number of seeds had been fixed beforehand"


class Declared(BaseModel):
    """See the module.

    Attributes:
        suite, version, tier: what it is about, as it was then.
        declared: when, ISO 8601.
        seeds: the first seeds in their order; further ones follow in the order of `order`.
        first: seeds at the first analysis.
        cap: seeds at the last analysis that was declared.
        there: how many runs had a record already.
        seal: hash of the above.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    suite: str
    version: int
    tier: Tier
    declared: str
    seeds: list[int] = Field(min_length=1, max_length=10_000)
    first: int = Field(ge=2, le=10_000)
    cap: int = Field(ge=2, le=10_000)
    there: int = Field(ge=0)
    seal: str = ""

    def order(self, n: int) -> list[int]:
        """The first `n` seeds."""
        return order(self.seeds, n)


def order(seeds: Sequence[int], n: int) -> list[int]:
    """`n` seeds: those of `seeds` first, then the smallest numbers that are not among them."""
    known = set(seeds)
    return [*seeds, *islice((s for s in count() if s not in known), max(0, n - len(seeds)))][:n]


def declared_path(suite: str, tier: Tier, results: Path | None = None) -> Path:
    """Where the declaration of a suite at a tier lies."""
    root = results or results_dir()
    return stays_inside(root / FOLDER / _file(suite, tier), root)


def _file(suite: str, tier: Tier) -> str:
    return f"{safe_name(suite)}-{tier}.json"


def declare(declared: Declared, results: Path | None = None) -> Declared:
    """Write a declaration, sealed.

    Raises:
        UserError: it cannot be written.
    """
    sealed = declared.model_copy(update={"seal": _seal(declared)})
    path = declared_path(declared.suite, declared.tier, results)
    try:
        write_atomically(path, json.dumps(sealed.model_dump(mode="json"), indent=1) + "\n")
    except OSError as e:
        raise UserError(
            f"the declaration cannot be written: {e.strerror or e}",
            where=shown(path),
            fix="make room or mend the folder's permissions, then run again",
        ) from None
    return sealed


def read_declared(suite: str, tier: Tier, results: Path | None = None) -> Declared | None:
    """The declaration of a suite at a tier; None where its seeds are not added sequentially.

    Raises:
        UserError: the file is no declaration, or not as it was sealed.
    """
    path = declared_path(suite, tier, results)
    try:
        return read_declaration(path)
    except FileNotFoundError:
        return None


def read_declaration(path: Path) -> Declared:
    """The declaration in a file, whichever suite it is about.

    Raises:
        FileNotFoundError: there is none.
        UserError: the file cannot be read, is no declaration, is not as it was sealed, or lies under another name.
    """
    try:
        text = read_at_most(path, MAX_BYTES)
    except FileNotFoundError:
        raise
    except OSError as e:
        raise UserError(f"cannot be read: {e.strerror}", where=shown(path), fix="check its permissions") from None
    try:
        found = Declared.model_validate_json(without_mark(text or b""))
    except ValidationError as e:
        fault = e.errors(include_url=False)[0]
        raise UserError(f"not a declaration of interim analyses: {fault['msg']}", where=shown(path), fix=_FIX) from None
    if found.seal != _seal(found):
        raise UserError("its seal is broken: it was changed after it was written", where=shown(path), fix=_FIX)
    if path.name != _file(found.suite, found.tier):
        raise UserError("it is about another suite or tier than its name says", where=shown(path), fix=_FIX)
    return found


def _seal(declared: Declared) -> str:
    content = declared.model_dump(mode="json", exclude={"seal"})
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
