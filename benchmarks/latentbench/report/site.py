"""The site: pages rendered and written, self-contained, so that they open from a disk as from a server."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from latentbench import __version__
from latentbench.core.errors import UserError
from latentbench.core.paths import shown
from latentbench.report import changes as history
from latentbench.report.boards import DatasetPage, dataset_pages, listed
from latentbench.report.comparing import Sets, all_records, compare_pages, sets
from latentbench.report.findings import Findings
from latentbench.report.overview import legend, overview
from latentbench.report.papers import paper_page
from latentbench.report.rankings import rankings
from latentbench.report.wording import clean, jointed, printed
from latentbench.report.words import word
from latentbench.results.compare import Side

#: Marks a folder as a site of ours, so that a build empties no other folder.
FIRST = "index.html"
#: Folders of a site, in which a build leaves nothing of an earlier one.
PARTS = ("papers", "boards", "compare", "pictures")


@dataclass(frozen=True)
class Built:
    """What was written: where to begin, and how much it is."""

    first: Path
    pages: int
    size: int


def build(
    findings: Findings, folder: Path, *, built: str, revision: str | None = None, against: Side | None = None
) -> Built:
    """Write the whole site into `folder`; what an earlier build left there and this one has no more is removed.

    Args:
        findings: what it shows.
        folder: where it goes; created if need be.
        built: the day of the build, as the pages show it.
        revision: of the project that the build was made from.
        against: another set of results, which these are compared with.

    Raises:
        UserError: the folder holds something else, or cannot be written.
    """
    _ours(folder)
    changed, kept = history.changes(folder, findings, built)
    boards = dataset_pages(findings)
    render = _renderer(built, revision)
    written: set[Path] = set()
    size = 0
    compared = None if against is None else sets(against, all_records(findings))
    for name, content in _pages(findings, boards, changed, compared, render):
        path = folder / name
        _write(path, content)
        written.add(path)
        size += len(content)
    _write(folder / history.FILE, kept.encode())
    for old in (p for part in PARTS for p in (folder / part).rglob("*") if p.is_file()):
        if old not in written:
            old.unlink()
    return Built(folder / FIRST, sum(p.suffix == ".html" for p in written), size)


def _ours(folder: Path) -> None:
    if folder.is_dir() and any(folder.iterdir()) and not (folder / history.FILE).is_file():
        raise UserError(
            "the folder holds something that is no site of ours",
            where=shown(folder),
            fix="name an empty folder, or a new one",
        )


def _write(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as e:
        raise UserError(f"cannot be written: {e.strerror}", where=shown(path), fix="name another folder") from None


def _pages(
    findings: Findings,
    boards: Sequence[DatasetPage],
    changed: history.Changes,
    compared: Sets | None,
    render: Any,
) -> Iterator[tuple[str, bytes]]:
    kinds = _sorted(b.likelihood for p in boards for b in p.boards)
    yield FIRST, render("overview", "", "overview", page=overview(findings, boards, changed), legend=legend())
    for paper in findings.papers:
        page = paper_page(paper)
        yield f"papers/{page.href}", render("paper", "../", "overview", page=page)
        for picture in (p for group in page.pictures for p in group.pictures if p.text is None):
            yield picture.src.removeprefix("../"), picture.file.read_bytes()
    ranked = rankings(findings)
    yield "leaderboards.html", render("leaderboards", "", "boards", boards=listed(boards), kinds=kinds, rankings=ranked)
    yield "rankings.html", render("rankings", "", "boards", rankings=ranked)
    for board in boards:
        rows = board.entries
        yield (
            f"boards/{board.href}",
            render(
                "board",
                "../",
                "boards",
                page=board,
                families=_sorted(e.paper.family for e in rows),
                tiers=_sorted(e.row.tier for e in rows),
                kinds=_sorted(e.row.likelihood for e in rows),
                years=_sorted(str(e.paper.year) for e in rows if e.paper.year),
            ),
        )
    pairs = compare_pages(findings)
    yield "compare.html", render("compare", "", "compare", pages=pairs, sets=compared)
    for pair in pairs:
        yield f"compare/{pair.href}", render("pairs", "../", "compare", page=pair)


def _sorted(words: Iterable[str]) -> list[str]:
    return sorted({w for w in words if w})


@cache
def _environment() -> Environment:
    """Templates that escape everything, refuse names that they do not know, and show no character that steers."""
    made = Environment(
        loader=PackageLoader("latentbench.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    made.filters.update(printed=printed, word=word, jointed=jointed)
    return made


def _shown(value: Any) -> Any:
    return clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _renderer(built: str, revision: str | None) -> Any:
    css, js = _static("site.css"), _static("site.js")
    policy = (
        f"default-src 'none'; style-src {_hash(css)}; script-src {_hash(js)}; img-src 'self' file: data:; "
        "base-uri 'none'; form-action 'none'"
    )
    common = {
        "css": Markup(css),
        "js": Markup(js),
        "policy": policy,
        "built": built,
        "revision": revision,
        "version": __version__,
    }

    def render(template: str, root: str, here: str, **page: Any) -> bytes:
        text = _environment().get_template(f"{template}.html.jinja").render(root=root, here=here, **common, **page)
        return text.encode()

    return render


@cache
def _static(name: str) -> str:
    return (files("latentbench.report") / "static" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """The one inline text that the policy lets a page have."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
