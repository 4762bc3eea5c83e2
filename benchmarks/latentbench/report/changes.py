"""What changed since the site was last built: verdicts, states of papers, counts of records."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latentbench.core.bounds import read_at_most
from latentbench.report.findings import Findings
from latentbench.report.wording import plural
from latentbench.report.words import word

#: What a build leaves behind for the next one.
FILE = "build.json"
_MOST_BYTES = 32 << 20
FORMAT = 1


@dataclass(frozen=True)
class Change:
    """One thing that is not as it was."""

    paper: str
    text: str
    before: str | None = None
    now: str | None = None


@dataclass(frozen=True)
class Changes:
    """What changed, since when; `since` is None where there is no earlier build to compare with."""

    since: str | None
    found: list[Change]


def state_of(findings: Findings) -> dict[str, Any]:
    """What a later build is compared with."""
    papers: dict[str, Any] = {}
    for paper in findings.papers:
        known: dict[str, Any] = {"state": paper.state}
        if paper.found is not None and paper.found.tiers:
            claims = zip(paper.found.loaded.suite.claims, paper.found.standing, strict=True)
            known["verdicts"] = {c.id: v.verdict for c, v in claims if v is not None}
            known["records"] = sum(len(t.records) for t in paper.found.tiers)
        papers[paper.id] = known
    return papers


def changes(folder: Path, findings: Findings, built: str) -> tuple[Changes, str]:
    """What changed since the last build in `folder`, and what to leave there for the next one.

    Where nothing has changed, that is what the last build told, so that building twice loses nothing.
    """
    now = state_of(findings)
    before = _read(folder / FILE)
    if before is None:
        kept: dict[str, Any] = {"format": FORMAT, "built": built, "papers": now, "since": None, "changes": []}
        return Changes(None, []), _json(kept)
    found = _compared(before["papers"], now)
    since = before["built"]
    if not found:
        found, since = [Change(**c) for c in before["changes"]], before["since"]
    kept = {"format": FORMAT, "built": built, "papers": now, "since": since, "changes": [vars(c) for c in found]}
    return Changes(since, found), _json(kept)


def _compared(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Change]:
    found = []
    for paper, new in now.items():
        old = before.get(paper)
        if old is None:
            found.append(Change(paper, "is new"))
            continue
        if old.get("state") != new["state"]:
            found.append(Change(paper, f"{old.get('state')} → {new['state']}"))
        verdicts = old.get("verdicts", {})
        for claim, verdict in new.get("verdicts", {}).items():
            if claim in verdicts and verdicts[claim] != verdict:
                found.append(Change(paper, claim, word(verdicts[claim]).name, word(verdict).name))
        if (more := new.get("records", 0) - old.get("records", 0)) != 0:
            found.append(Change(paper, f"{plural(abs(more), 'record')} {'more' if more > 0 else 'fewer'}"))
    found += [Change(paper, "is gone") for paper in before if paper not in now]
    return found


def _read(path: Path) -> dict[str, Any] | None:
    """The last build; None where there is none, or it is not one of ours."""
    try:
        text = read_at_most(path, _MOST_BYTES)
        known = json.loads(text) if text else None
        if not isinstance(known, dict) or known.get("format") != FORMAT:
            return None
        [Change(**c) for c in known["changes"]]
        sound = isinstance(known["papers"], dict) and all(isinstance(p, dict) for p in known["papers"].values())
        return known if sound and isinstance(known["built"], str) else None
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False, sort_keys=True, allow_nan=False) + "\n"
