"""Thousands of records matched to thousands of runs: what the seeds of a method have in common is looked at once."""

from __future__ import annotations

from collections.abc import Callable
from operator import is_
from typing import Any

from latentbench.planning.plan import RunSpec, spec_hash_of
from latentbench.records.record import Record

Cell = tuple[str, str, str, str]
"""Suite, tier, method, dataset: runs that differ in nothing but their seed, and are of one code."""


class Alike:
    """Answers about records and the runs that they may be of, kept for the other seeds of the same cell."""

    def __init__(self) -> None:
        self._asked: dict[Cell, tuple[dict[str, Any], bool]] = {}
        self._fresh: dict[tuple[Cell | str | None, ...], bool] = {}

    def asks_the_same(self, record: Record, run: RunSpec) -> bool:
        """Whether a record's specification hashes to that of its run; another one may still ask the same.

        Records of one pack have the very same objects in their specifications but for the seed, so the first seed's is
        hashed, and of the others it is seen which objects they are.
        """
        cell, spec = _cell(run), record.spec
        parts, same = self._asked.get(cell, ({}, False))
        if not (parts and _has(spec, parts)) or run.axes:
            parts = {k: v for k, v in spec.items() if k not in ("seed", "axes")}
            same = record.hashes["spec"] == run.spec_hash == _hash(spec)
            self._asked[cell] = parts, same
        return same and spec.get("seed") == run.seed

    def is_fresh(self, record: Record, run: RunSpec, by_hand: Callable[[Record, RunSpec], bool]) -> bool:
        """Whether today's code made a record of `run`, as `by_hand` says of the first with the same hashes."""
        made = record.hashes
        key = _cell(run), made.get("data"), made.get("code"), made.get("engine")
        if (known := self._fresh.get(key)) is None:
            known = self._fresh[key] = by_hand(record, run)
        return known


def _has(spec: dict[str, Any], parts: dict[str, Any]) -> bool:
    """Whether a specification is made of these very objects and a seed."""
    return len(spec) == len(parts) + 1 and "seed" in spec and all(map(is_, map(spec.get, parts), parts.values()))


def _hash(spec: dict[str, Any]) -> str | None:
    try:
        return spec_hash_of(spec)
    except (KeyError, TypeError, ValueError):
        return None


def _cell(run: RunSpec) -> Cell:
    return run.suite, run.tier, run.method, run.dataset
