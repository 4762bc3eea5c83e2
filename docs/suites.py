"""Write docs/suites.md, what came out so far: each suite's verdicts counted, and its notes. It is not kept in git."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from latentbench.results.gather import RANKED, gather, has_records
from latentbench.results.verdicts import verdicts
from latentbench.spec.files import notes
from latentbench.spec.loading import LoadedSuite, load_suite, suite_files
from latentbench.spec.suite import Tier

PAGE = Path(__file__).parent / "suites.md"
COUNTED = ("reproduced", "consistent", "better", "not-reproduced", "insufficient", "not-run")
HEAD = """# What came out so far

Verdicts by the records at hand; `latentbench verdict SUITE --tier TIER` prints each claim with its interval, effect
and the seeds that would settle it. Holm-corrected over each suite's claims, so that a suite with many claims needs
clear effects. Claims that only another tier can judge are left out.
"""


def counts(loaded: LoadedSuite, tier: Tier) -> list[str]:
    """How many claims of a suite have each verdict of `COUNTED` at a tier."""
    found = Counter(v.verdict for v in verdicts(gather(loaded, tier)) if not v.information)
    return [str(found[verdict]) for verdict in COUNTED]


def page() -> Iterator[str]:
    """The page's lines."""
    yield HEAD
    yield f"| suite | tier | {' | '.join(COUNTED)} |"
    yield "| --- " * (2 + len(COUNTED)) + "|"
    told = []
    for name, path in suite_files().items():
        loaded = load_suite(path)
        for tier in RANKED:
            if tier in loaded.suite.tiers and has_records(name, tier):
                yield f"| `{name}` | {tier} | {' | '.join(counts(loaded, tier))} |"
        if text := notes(path):
            told.append(f"\n## {name}\n\n{text}")
    yield from told


if __name__ == "__main__":
    PAGE.write_text("\n".join(page()) + "\n", encoding="utf-8")
    print(f"wrote {PAGE}")
