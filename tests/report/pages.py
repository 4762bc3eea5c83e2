"""Pages of a built site, read as a browser would."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

VOID = {"meta", "link", "input", "img", "br", "hr", "wbr"}


@dataclass
class Page:
    """The elements of a page with their attributes, its text, and the texts of its scripts and styles."""

    path: Path
    elements: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    text: str = ""
    inline: list[tuple[str, dict[str, str | None], str]] = field(default_factory=list)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [given for name, given in self.elements if name == tag]

    @property
    def ids(self) -> list[str]:
        return [given["id"] or "" for _, given in self.elements if "id" in given]


class _Reader(HTMLParser):
    def __init__(self, page: Page) -> None:
        super().__init__()
        self.page, self.open = page, []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        assert len(given) == len(attrs), f"{self.page.path}: an attribute twice in <{tag}>"
        self.page.elements.append((tag, given))
        if tag not in VOID:
            self.open.append((tag, given))

    def handle_startendtag(self, tag, attrs):
        self.page.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open, f"{self.page.path}: </{tag}> closes nothing"
        last, _ = self.open.pop()
        assert last == tag, f"{self.page.path}: </{tag}> closes <{last}>"

    def handle_data(self, data):
        if self.open and self.open[-1][0] in ("script", "style"):
            self.page.inline.append((*self.open[-1], data))
        else:
            self.page.text += data


def read(path: Path) -> Page:
    """A page; its elements must be closed in order."""
    page = Page(path)
    reader = _Reader(page)
    reader.feed(path.read_text(encoding="utf-8"))
    reader.close()
    left = [tag for tag, _ in reader.open if tag not in ("html", "body")]
    assert not left, f"{path}: {left} are never closed"
    return page


def read_all(folder: Path) -> dict[str, Page]:
    """Every page of a site by its path in it."""
    return {str(p.relative_to(folder)): read(p) for p in sorted(folder.rglob("*.html"))}
