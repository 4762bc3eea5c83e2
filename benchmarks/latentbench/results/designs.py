"""By which design a claim's seeds are judged: fixed beforehand, declared, or presumed where no record says."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import pairwise
from typing import Any

from latentbench.records.design import Declared, Fixed, order
from latentbench.records.record import Record
from latentbench.results.gather import Gathered
from latentbench.spec.claims import Claim, Statement, Tier, methods_of, pairs_of, statements
from latentbench.spec.suite import Suite
from latentbench.stats.judgement import PILOT
from latentbench.stats.samples import Sample, shared_seeds

#: Seeds at the last analysis, where nobody says.
DEFAULT_CAP = 12


def first_analysis(suite: Suite, tier: Tier) -> int:
    """Seeds at the first analysis: the tier's own, `PILOT` at least."""
    return max(PILOT, len(suite.tiers[tier].seeds))


def presumed(suite: Suite, tier: Tier) -> Declared:
    """The analyses that are allowed for where seeds came one after another and nothing says why: those that
    `run --until-settled` would have declared."""
    first = first_analysis(suite, tier)
    return Declared(
        suite=suite.id,
        version=suite.version,
        tier=tier,
        declared="",
        seeds=suite.tiers[tier].seeds,
        first=first,
        cap=max(first, DEFAULT_CAP),
        there=0,
    )


def analyses_of(claim: Claim, gathered: Gathered) -> Declared | None:
    """The declaration by which a claim is judged; None where the number of its seeds was fixed beforehand.

    A claim that rests on seeds beyond the tier's own, whose records do not say that all of a method's were asked for at
    once, is judged as if each had been added by what the others said.
    """
    if gathered.declared is not None:
        return gathered.declared
    if not (added(claim, gathered) or peeked(claim, gathered)):
        return None
    if all(_at_once(gathered.records(method, dataset)) for method, dataset in pairs_of(claim)):
        return None
    return presumed(gathered.loaded.suite, gathered.tier)


def _at_once(records: Sequence[Record]) -> bool:
    """Whether all seeds of a method were asked for together, as each of its records says."""
    seeds = [r for r in records if not r.exact]
    design = seeds[0].provenance.design if seeds else None
    return not seeds or (
        isinstance(design, Fixed) and all(r.provenance.design == design and design.has(r.seed) for r in seeds)
    )


def peeked(claim: Claim, gathered: Gathered) -> int:
    """Records whose command adds seeds by what others had said, where nothing declares the analyses any more."""
    suite, tier = gathered.loaded.suite, gathered.tier
    first = order(suite.tiers[tier].seeds, first_analysis(suite, tier))
    return sum(_was_added(r, first) for pair in pairs_of(claim) for r in gathered.records(*pair))


def _was_added(record: Record, first: Collection[int]) -> bool:
    """By its command. A budget buys the first analysis's seeds, `first`, whatever they say."""
    options = {word.partition("=")[0] for word in record.provenance.command}
    bought = "--budget" in options and record.seed not in first and not record.exact
    return bought or "--until-settled" in options


def added(claim: Claim, gathered: Gathered) -> int:
    """Seeds that the tier does not ask for and that a comparison of a claim uses: of a paired one those on both sides,
    else those of the side that has more."""
    return max(_added(said, gathered) for said in statements(claim))


def _added(said: Statement, gathered: Gathered) -> int:
    own = set(gathered.loaded.suite.tiers[gathered.tier].seeds)
    methods = dict.fromkeys(methods_of(said))
    sides = [{r.seed: 0.0 for r in gathered.records(m, said.dataset) if not r.exact} for m in methods]
    used: list[set[Any]] = [] if len(sides) > 1 else [set(side) for side in sides]
    for a, b in pairwise(sides):
        shared = shared_seeds([Sample.of(a), Sample.of(b)])
        used += [set(shared)] if shared else [set(a), set(b)]
    return max(len(seeds - own) for seeds in used)
