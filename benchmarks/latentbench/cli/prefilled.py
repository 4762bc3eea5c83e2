"""What the catalogue knows of a paper, as a new suite has it."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable

from latentbench.spec.papers import PaperEntry, catalogue

WIDTH = 118


def known_of(paper: str) -> dict[str, str]:
    """Words of the template of suites; those of a paper that the catalogue does not have are for the author to fill."""
    entry = next((p for p in catalogue() if p.id == paper), None)
    if entry is None:
        summary = "What is compared with what, and by which measure."
        return {"arxiv": '# arxiv: "2101.00001"', "summary": f"  {summary}", "hints": "", "stated": ""}
    known = {
        "title": json.dumps(entry.title, ensure_ascii=False),
        "arxiv": f'arxiv: "{entry.arxiv}"' if entry.arxiv else '# arxiv: "2101.00001"',
        "summary": textwrap.fill(
            entry.claim or "What is compared with what.", WIDTH, initial_indent="  ", subsequent_indent="  "
        ),
        "hints": "".join(f"{line}\n" for line in _comments(_hints(entry))),
        "stated": "".join(f"\n# the abstract: {s.what}: {s.value}" for s in entry.reported),
    }
    return known | ({"year": str(entry.year)} if entry.year else {})


def _hints(paper: PaperEntry) -> Iterable[str]:
    """What the catalogue says that no key of a suite takes."""
    yield f"From the catalogue, to be checked against the paper: {paper.method or paper.id}, family {paper.family}."
    for what, names in (("Datasets", paper.datasets), ("Metrics", paper.metrics)):
        if names:
            yield f"{what}: {', '.join(names)}."
    if paper.small:
        yield f"The smallest honest experiment: {paper.small}"


def _comments(texts: Iterable[str]) -> Iterable[str]:
    for text in texts:
        yield from textwrap.wrap(text, WIDTH, initial_indent="# ", subsequent_indent="# ")
