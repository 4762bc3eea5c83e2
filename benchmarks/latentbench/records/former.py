"""Records from before a run's identity went by names and definitions, in today's terms.

They name their model by ``module:Class`` of a package that was called ``benchmarks``, and hash the code of a run as
whole modules, engine included. ``former.json`` says what today's hashes would have been at the revision that made them;
`perf.former_code` makes it from that revision's own sources. The records and their seals stay as they are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from latentbench.planning.engines import is_todays
from latentbench.planning.fingerprint import digest
from latentbench.planning.plan import RunSpec, spec_hash_of
from latentbench.records.record import Record
from latentbench.spec.registry import models

FILE = Path(__file__).with_name("former.json")


@cache
def former() -> dict[str, Any]:
    """`models`: former target -> name; `engine`: hash; `code`: former code hash -> `kind_of` -> hash of the code."""
    found: dict[str, Any] = json.loads(FILE.read_bytes())
    return found


def kind_of(labels: Mapping[str, Any]) -> str:
    """What a run's code starts from, by names alone, as 16 hexadecimal digits."""
    return digest(sorted(labels))[:16]


def code_in_todays_terms(record: Record, run: RunSpec) -> tuple[str | None, str | None]:
    """Hashes of the code and of the engine that made a record of `run`; None where they cannot be known."""
    engine = record.hashes.get("engine")
    if engine is not None:
        return record.hashes["code"], engine
    return former()["code"].get(record.hashes["code"], {}).get(kind_of(run.roots())), former()["engine"]


def made_by_todays(record: Record, run: RunSpec) -> bool:
    """Whether a record of `run` was made by the code that is here, and by an engine that gives the same bits."""
    code, engine = code_in_todays_terms(record, run)
    return code == run.code_hash and engine is not None and is_todays(engine)


def model_name(said: str) -> str:
    """The name of the model that a record's specification says, by name or by target."""
    if ":" not in said:
        return said
    known: str | None = former()["models"].get(said)
    return known or next((name for name, m in models().items() if m.target == said), said)


def asked(record: Record) -> dict[str, Any]:
    """A record's specification as it would be written today."""
    return {**record.spec, "model": model_name(str(record.spec.get("model")))}


def asks_the_same(record: Record, run: RunSpec) -> bool:
    """Whether a record was asked what its run asks today.

    Records from before defaults of training were left out of the hash hold the hash of the whole specification, and
    those from before models went by name that of one with the model's target.
    """
    kept = record.hashes.get("spec")
    if kept == run.spec_hash:
        return True
    try:
        return kept in (digest(record.spec), spec_hash_of(record.spec)) and spec_hash_of(asked(record)) == run.spec_hash
    except (KeyError, TypeError, ValueError):
        return False
