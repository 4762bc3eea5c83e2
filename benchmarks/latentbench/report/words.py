"""Verdicts as a page shows them: a word, a sign and a tone that does not speak by colour alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from latentbench.results.verdicts import ClaimVerdict


@dataclass(frozen=True)
class Word:
    """A verdict: its name in `verdicts`, as people say it, its sign, and what it means."""

    name: str
    label: str
    sign: str
    meaning: str

    @property
    def tone(self) -> str:
        """The class of its colours."""
        return f"v-{self.name}"


#: In the order in which bars and legends show them.
WORDS: tuple[Word, ...] = (
    Word("reproduced", "reproduced", "✓", "the seeds show what the paper claims"),
    Word("better", "better", "▲", "significantly better than the number that the paper reports"),
    Word("consistent", "consistent", "≈", "the paper's number lies where further runs like ours would fall"),
    Word("insufficient", "open", "?", "the seeds settle nothing yet; how many would is said beside it"),
    Word("not-reproduced", "not reproduced", "✗", "the seeds contradict the claim"),
    Word("holds", "holds", "✓", "a sanity check that the seeds bear out; no reproduction"),
    Word("fails", "fails", "✗", "a sanity check that the seeds contradict"),
    Word("not-tested", "not tested", "◌", "its gate is shut: a method is not trained enough to have an opinion"),
    Word("impossible", "impossible", "⊘", "it rests on a number that cannot be, so something is computed wrongly"),
    Word("not-run", "not run", "–", "no run that it asks for has a result at this tier"),
)
_BY_NAME = {w.name: w for w in WORDS}
#: Words that settle a claim.
SETTLED = ("reproduced", "better", "not-reproduced")


def word(name: str) -> Word:
    """What is known of a verdict's name."""
    return _BY_NAME.get(name) or Word(name, name.replace("-", " "), "·", "")


def word_of(verdict: ClaimVerdict | None) -> Word:
    """The word of a verdict; one that was only shown for information has none of its own."""
    if verdict is None:
        return _BY_NAME["not-run"]
    if verdict.information and verdict.n:
        return Word("information", "for information", "i", "shown, and not judged at this tier")
    return word(verdict.verdict)


@dataclass(frozen=True)
class Share:
    """One part of a bar of verdicts: how many, and where it stands, in per cent of the bar."""

    word: Word
    count: int
    start: float
    width: float


def bar(counts: Mapping[str, int]) -> list[Share]:
    """The parts of a bar of verdicts, in the order of `WORDS`."""
    total = sum(counts.values())
    known = [w for w in WORDS if counts.get(w.name)]
    known += [word(name) for name in counts if name not in _BY_NAME and counts[name]]
    found, start = [], 0.0
    for each in known:
        width = 100 * counts[each.name] / total
        found.append(Share(each, counts[each.name], start, width))
        start += width
    return found
