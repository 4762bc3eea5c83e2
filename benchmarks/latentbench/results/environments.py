"""Where the numbers of one mean were computed: versions of numeric packages, device, platform.

The same seed gives other bits under another scikit-learn or on a GPU, so a mean over several of them says so, and a
policy decides what becomes of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Literal

from latentbench.records.record import Record
from latentbench.results.gather import Gathered
from latentbench.running.provenance import NUMERIC

Policy = Literal["say", "refuse", "split"]
"""What becomes of a mean over several environments: it is said beside it; it bears no mark and no verdict; or each
environment has tables and verdicts of its own."""
UNKNOWN = "unknown"


def environment(record: Record) -> dict[str, str]:
    """What may change a run's numbers and is neither code nor data: name -> version, device or platform.

    The build of a version (``+cpu``) does not count, for the device says more. What a record does not name is absent.
    """
    made = record.provenance
    named = (name for name in (*NUMERIC, *made.depends) if name in made.packages)
    return {name: made.packages[name].partition("+")[0] for name in named} | {
        "device": made.device,
        "platform": made.platform,
    }


def mixture(records: Iterable[Record]) -> str:
    """What differs between the environments of some runs, in words; empty where nothing does.

    E.g. ``scikit-learn 1.6.1 (seed 1), 1.9.1 (seeds 0, 2)``; runs are counted where they are of several methods. A
    package that some of them do not name is unknown of those.
    """
    kept = list(records)
    apart = {(id(p.packages), id(p.depends), p.device, p.platform): r for r in kept if (p := r.provenance)}
    if len({_made(r) for r in apart.values()}) < 2:  # records of one pack share what they say alike
        return ""
    several = len({(r.method, r.dataset) for r in kept}) > 1
    uses: dict[tuple[str, str], set[str]] = {}
    found = [environment(r) for r in kept]
    for record, here in zip(kept, found, strict=True):
        uses.setdefault((record.method, record.dataset), set()).update(here)
    said = []
    for name in dict.fromkeys(name for here in found for name in here):
        values: dict[str, list[int]] = {}
        for record, here in zip(kept, found, strict=True):
            if name in uses[record.method, record.dataset]:
                values.setdefault(here.get(name, UNKNOWN), []).append(record.seed)
        if len(values) > 1:
            said.append(f"{name} " + ", ".join(f"{v} ({_of(values[v], several)})" for v in sorted(values)))
    return "; ".join(said)


def under_policy(gathered: Gathered, policy: Policy) -> list[Gathered]:
    """A suite's records as a policy has them: together, or by environment."""
    return by_environment(gathered) if policy == "split" else [replace(gathered, refuses_mixed=policy == "refuse")]


def by_environment(gathered: Gathered) -> list[Gathered]:
    """A part for each environment, where there are several.

    A method that does not use a package stands in the parts of all its versions.
    """
    found = gathered.collected.found
    here = {cell: environment(record) for cell, record in found.items()}
    uses: dict[tuple[str, str], set[str]] = {}
    for cell, record in found.items():
        uses.setdefault((record.method, record.dataset), set()).update(here[cell])
    for cell, record in found.items():
        here[cell] |= dict.fromkeys(uses[record.method, record.dataset] - here[cell].keys(), UNKNOWN)
    names = [
        name
        for name in dict.fromkeys(name for each in here.values() for name in each)
        if len({each[name] for each in here.values() if name in each}) > 1
    ]
    if not names:
        return [gathered]
    keys = {cell: tuple(each.get(name) for name in names) for cell, each in here.items()}
    apart = set(keys.values())
    parts = sorted((k for k in apart if not any(k != other and _fits(k, other) for other in apart)), key=repr)
    return [_part(gathered, names, part, {c for c, k in keys.items() if _fits(k, part)}) for part in parts]


def _fits(key: Sequence[str | None], part: Sequence[str | None]) -> bool:
    return all(a is None or a == b for a, b in zip(key, part, strict=True))


def _part(gathered: Gathered, names: Sequence[str], values: Sequence[str | None], cells: set[str]) -> Gathered:
    whole = gathered.collected
    collected = replace(
        whole,
        found={cell: one for cell, one in whole.found.items() if cell in cells},
        files={cell: one for cell, one in whole.files.items() if cell in cells},
        stale_code=[cell for cell in whole.stale_code if cell in cells],
        vouched=[cell for cell in whole.vouched if cell in cells],
    )
    runs = [run for run in gathered.runs if run.cell in cells or run.cell not in whole.found]
    text = ", ".join(f"{name} {value}" for name, value in zip(names, values, strict=True) if value is not None)
    return replace(gathered, runs=runs, collected=collected, environment=text)


def _made(record: Record) -> tuple[object, ...]:
    made = record.provenance
    return tuple(made.packages.items()), tuple(made.depends), made.device, made.platform


def _of(seeds: Sequence[int], several: bool) -> str:
    n = len(seeds)
    return f"{n} run{'s' * (n > 1)}" if several else f"seed{'s' * (n > 1)} {', '.join(map(str, sorted(seeds)))}"
