"""A plan as JSON: the documented object of ``plan --format json`` (docs/planning.md)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from latentbench.results.budget import ClaimNeeds, Picked, SuiteNeeds


def as_json(needs: Sequence[SuiteNeeds], device: str, choice: Picked | None) -> dict[str, Any]:
    """The whole object."""
    suites = [_suite_json(each) for each in needs]
    summed = ("runs", "to_do", "unknown_runs", "hours", "hours_low", "hours_high", "disk_bytes")
    return {
        "format": 1,
        "device": device,
        "unit": "GPU hours" if device == "cuda" else "core-hours",
        "suites": suites,
        "total": {**{k: sum(s[k] for s in suites) for k in summed}, "data_bytes": _data_bytes(needs)},
        "budget": None if choice is None else _picked_json(choice),
    }


def _suite_json(needs: SuiteNeeds) -> dict[str, Any]:
    suite, tier = needs.found.loaded.suite, needs.found.tier
    to_do = Counter((r.method, r.dataset) for r in needs.to_do)
    planned = Counter((r.method, r.dataset) for r in needs.found.runs)
    spent, low, high, missing = needs.cost(needs.to_do)
    cells = []
    for (method, dataset), n in planned.items():
        each = needs.estimates[method, dataset]
        ends = each.range_hours or (None, None)
        cells.append(
            {
                "method": method,
                "dataset": dataset,
                "runs": n,
                "to_do": to_do[method, dataset],
                "hours_per_run": each.hours,
                "low": ends[0],
                "high": ends[1],
                "source": each.source,
                "from": each.text,
                "disk_bytes_per_run": each.disk,
            }
        )
    return {
        "suite": suite.id,
        "version": suite.version,
        "tier": tier,
        "sequential": needs.found.declared is not None,
        "runs": len(needs.found.runs),
        "to_do": len(needs.to_do),
        "unknown_runs": missing,
        "hours": spent,
        "hours_low": low,
        "hours_high": high,
        "disk_bytes": sum(needs.estimate(r).disk or 0 for r in needs.to_do),
        "cells": cells,
        "claims": [_claim_json(needs, c) for c in needs.claims],
    }


def _claim_json(needs: SuiteNeeds, claim: ClaimNeeds) -> dict[str, Any]:
    spent, low, high, missing = needs.cost(claim.runs)
    known = not missing
    return {
        "claim": claim.verdict.claim,
        "kind": claim.verdict.kind,
        "verdict": claim.verdict.verdict,
        "state": claim.state,
        "seeds_now": claim.verdict.n,
        "seeds_needed": claim.seeds,
        "from_pilot": claim.pilot,
        "runs": [r.cell for r in claim.runs],
        "hours": spent if known else None,
        "low": low if known else None,
        "high": high if known else None,
    }


def _picked_json(choice: Picked) -> dict[str, Any]:
    return {
        "hours": choice.budget,
        "optimal": choice.exact,
        "cost": choice.hours,
        "low": choice.low,
        "high": choice.high,
        "claims": [list(c.name) for c in choice.claims],
        "runs": [[r.suite, r.cell] for r in choice.runs],
        "left_out": [
            {"suite": x.claim.suite, "claim": x.claim.verdict.claim, "alone": x.alone, "further": x.further}
            for x in choice.left_out
        ],
    }


def _data_bytes(needs: Sequence[SuiteNeeds]) -> int:
    """Bytes of the datasets that are not prepared yet, as their rows are declared."""
    import math

    from latentbench.data.api import status

    found = 0
    for name in dict.fromkeys(r.data["source"] for each in needs for r in each.to_do):
        there = status(name)
        if there.have != "prepared":
            for split, table in there.entry.splits.items():
                columns = there.entry.columns_of(split).values()
                found += table.rows * sum(math.prod(c.shape) * _width(c.dtype) for c in columns)
    return found


def _width(dtype: str) -> int:
    return int("".join(c for c in dtype if c.isdigit())) // 8
