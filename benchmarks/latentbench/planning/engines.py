"""Engines that are accepted as equal: the golden set came to the same bits under each of them and the one before.

``engines.json`` holds them by era; `nox -s golden` adds today's to the last. Where it comes to other bits and that is
meant, a new era begins, and records of earlier ones are stale.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from latentbench.planning.fingerprint import engine_hash

FILE = Path(__file__).with_name("engines.json")


@cache
def eras() -> list[list[dict[str, Any]]]:
    """Accepted engines, oldest first: hash, revision, date, platform, version of torch, number of runs compared."""
    found: list[list[dict[str, Any]]] = json.loads(FILE.read_bytes())
    return found


def era(engine: str) -> str:
    """The first engine that an engine is equal to: itself, where nothing was compared."""
    return _firsts().get(engine, engine)


def is_todays(engine: str) -> bool:
    """Whether an engine gives the same bits as the one that is here."""
    return era(engine) == todays_era()


@cache
def todays_era() -> str:
    """The era of the engine that is here: what stands for it in fingerprints."""
    return era(engine_hash())


@cache
def _firsts() -> dict[str, str]:
    return {one["engine"]: each[0]["engine"] for each in eras() for one in each}
