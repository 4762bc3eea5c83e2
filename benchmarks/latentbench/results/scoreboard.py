"""How many claims of each suite have which verdict, as plain values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from latentbench.results.answered import OF_SANITY, WORDS, tallied
from latentbench.results.exporting import dated

if TYPE_CHECKING:
    from latentbench.results.gather import Gathered
    from latentbench.results.verdicts import ClaimVerdict


def counts_by_suite(found: Sequence[tuple[Gathered, Sequence[ClaimVerdict]]]) -> list[dict[str, Any]]:
    """A row for each suite: its claims by verdict, sanity checks apart."""
    rows = []
    for g, verdicts in found:
        suite = g.loaded.suite
        counts, checks = tallied(verdicts)
        row: dict[str, Any] = {"suite": suite.id, "title": suite.paper.title, "tier": g.tier}
        row["claims"] = sum(counts.values())
        row |= {"analogue": suite.analogue, "sanity_holds": checks.get("holds", 0), "sanity": sum(checks.values())}
        rows.append(
            row | {word.replace("-", "_"): counts.get(word, 0) for word in WORDS if word not in OF_SANITY} | dated(g)
        )
    return rows
