"""What a suite's records say, in words, as plain values: to show them takes neither the records nor statistics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

#: Verdicts in the order in which they are counted, and what they are called where they are.
WORDS = {
    "reproduced": "reproduced",
    "better": "better than reported",
    "consistent": "consistent",
    "not-reproduced": "not reproduced",
    "insufficient": "open",
    "not-tested": "not tested",
    "impossible": "impossible",
    "holds": "hold",
    "fails": "fail",
    "not-run": "not run",
}

#: Those that only a sanity check can have.
OF_SANITY = ("holds", "fails")


@dataclass(frozen=True)
class Answer:
    """One question of the paper.

    Attributes:
        claim: its identifier; of values that were folded, where they stand in the paper.
        verdict: as of `ClaimVerdict`.
        question: the paper's claim, in a sentence.
        said: what the seeds say of it, with the paper's own numbers.
    """

    claim: str
    verdict: str
    question: str
    said: str


@dataclass(frozen=True)
class Answers:
    """A suite's answers at a tier.

    Attributes:
        suite, version, title, tier: what they are of.
        seeds: of a method, least and most.
        share: of the paper's training that the measured methods had, least and most; None where that is not known.
        counts: claims by verdict, in the order of `WORDS`; sanity checks are in none.
        checks: sanity checks by verdict, which must hold and are no reproduction.
        analogue: whether the suite is an analogue of another scale.
        sequential: whether seeds are added until claims are settled, which the tests allow for.
        distances: sentences on how far the measured numbers are from the paper's.
        answers: a line for each claim that was judged.
        waiting: claims that were not run, and the command that runs them.
    """

    suite: str
    version: int
    title: str
    tier: str
    seeds: tuple[int, int]
    share: tuple[float, float] | None
    counts: dict[str, int]
    checks: dict[str, int]
    analogue: bool
    sequential: bool
    distances: list[str]
    answers: list[Answer]
    waiting: list[tuple[str, str]]

    def headline(self) -> str:
        """One sentence: how much of the paper was rerun, and how many claims are settled."""
        low, high = self.seeds
        seeds = f"{low} seed{'s' if low != 1 else ''}" if low == high else f"{low} to {high} seeds"
        how = [f"tier {self.tier}", seeds, *(["sequential tests"] if self.sequential else [])]
        if self.tier != "paper":
            how.insert(1, "shortened" if self.share is None else f"{_range(self.share)} of the paper's training")
        if not self.seeds[1]:
            how = [f"tier {self.tier}", "no records yet"]
        total = sum(self.counts.values())
        of_what = " on an analogue of the paper" if self.analogue else ""
        checks = f" Sanity checks: {_listed(self.checks)}." if self.checks else ""
        claims = f"Of {total} claim{'s' if total != 1 else ''}{of_what}: {_listed(self.counts) or 'none'}."
        return f"{', '.join(how)}. {claims}{checks}"


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{n} {WORDS.get(word, word)}" for word, n in counts.items())


class Judged(Protocol):
    """What has a verdict."""

    @property
    def verdict(self) -> str: ...

    @property
    def sanity(self) -> bool: ...


def tallied(found: Iterable[Judged]) -> tuple[dict[str, int], dict[str, int]]:
    """Claims by verdict, and sanity checks, which are no reproduction and in none of these, apart."""
    found = list(found)
    return counted(v for v in found if not v.sanity), counted(v for v in found if v.sanity)


def counted(found: Iterable[Judged]) -> dict[str, int]:
    """Claims by verdict, in the order of `WORDS`."""
    counts = Counter(v.verdict for v in found)
    return {word: counts[word] for word in (*WORDS, *(counts.keys() - WORDS.keys())) if counts[word]}


def _range(share: tuple[float, float]) -> str:
    low, high = map(percent, share)
    return low if low == high else f"{low} to {high}"


def percent(share: float) -> str:
    """``0.12 %``, ``25 %``: two digits."""
    value = 100 * share
    return f"{value:.0f} %" if value >= 9.95 else f"{value:.2g} %"
