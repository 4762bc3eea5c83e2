"""That a suite's seeds are added until its claims are settled: one small sealed file, written before the first is.

``results/sequential/<suite>-<tier>.json`` holds the order of the seeds and what decides the interim analyses; each
record made under it says the same (`latentbench.records.design`). Nothing else needs to be remembered:
which analyses were made, and what each said, follows from the records.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from pydantic import ValidationError

from latentbench.core.bounds import DECLARATION_BYTES, read_at_most
from latentbench.core.errors import UserError
from latentbench.core.paths import results_dir, safe_name, shown, stays_inside, without_mark
from latentbench.records.design import Declared
from latentbench.records.record import write_atomically
from latentbench.spec.claims import Tier

MAX_BYTES = DECLARATION_BYTES
FOLDER = "sequential"
_FIX = "restore it; or remove it, and the claims are judged by what the records themselves say"


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
