"""Which suites and tier a reading command is about."""

from __future__ import annotations

import gc

from latentbench.core.console import note
from latentbench.core.errors import UserError
from latentbench.results.environments import Policy, under_policy
from latentbench.results.gather import RANKED, Gathered, best, gather, has_records
from latentbench.spec.claims import Tier
from latentbench.spec.loading import load_suite, suite_files


def gathered(suites: tuple[str, ...], tier: Tier | None, mixed: Policy = "say") -> list[Gathered]:
    """The suites named, or all that have records, each at `tier` or at its most faithful tier with records.

    `mixed` is what becomes of means over several environments: with ``split``, a suite comes once for each.

    It turns garbage collection off for the rest of the process: a reading command makes thousands of records that all
    stay until it ends, and searching them for garbage again and again would take a third of its time.
    """
    gc.disable()
    out = []
    for name in suites or suite_files():
        try:
            loaded = load_suite(name)
            if tier is None and (found := best(loaded)) is not None:
                out += under_policy(found, mixed)
                continue
            at = tier
            if at is None and suites:
                at = next((t for t in reversed(RANKED) if t in loaded.suite.tiers), None)
            if at is None or at not in loaded.suite.tiers:
                if suites:
                    what = "no tier whose numbers count" if tier is None else f"no tier {tier!r}"
                    raise loaded.file.error(what, ("tiers",), "it has " + ", ".join(loaded.suite.tiers))
                continue
            if not suites and not has_records(loaded.suite.id, at):
                continue
            out += under_policy(gather(loaded, at), mixed)
        except UserError as e:
            if suites:
                raise
            note(f"left out: {e}")
    return out
