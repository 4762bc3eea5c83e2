"""A browser: the system's own Chromium, driven by playwright. Where there is none, these tests skip."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.project import Project
from tests.report import hostile
from tests.report.conftest import CHANGES, fill

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PHONE, DESK = {"width": 360, "height": 740}, {"width": 1280, "height": 900}


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    named = [os.environ.get("LATENTBENCH_CHROMIUM"), "chromium", "chromium-browser", "google-chrome"]
    found = next((path for name in named if name and (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no Chromium here: apt-get install chromium, or name it by LATENTBENCH_CHROMIUM")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=found, args=FLAGS)
        yield launched
        launched.close()


@dataclass
class Visit:
    """A page that is open, with all that it asked for and complained of."""

    page: Any
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Visit]]:
    """Open a page from disk: `visit(path, viewport, scheme)`."""
    opened = []

    def visit(path: Path, viewport: dict[str, int] = DESK, scheme: str = "light", place: str = "") -> Visit:
        context = browser.new_context(viewport=viewport, color_scheme=scheme, permissions=["clipboard-write"])
        opened.append(context)
        found = Visit(context.new_page())
        found.page.on("console", lambda m: found.complaints.append(f"{m.type}: {m.text}"))
        found.page.on("pageerror", lambda e: found.complaints.append(str(e)))
        context.on("request", lambda r: found.requests.append(r.url))
        found.page.goto(path.resolve().as_uri() + place)
        return found

    yield visit
    for context in opened:
        context.close()


@pytest.fixture
def site(project: Project) -> Path:
    """A site of one suite with made-up records, another that is not run, and a catalogue."""
    fill(project, CHANGES)
    project.suite({"paper.title": "A paper not run"}, name="unrun")
    entry = "- {{id: {0}, title: {1}, family: {2}, scope: core, priority: 1, year: {3}, claim: It holds.}}\n"
    papers = [
        ("small", "A small suite", "vae", 2026),
        ("zeta", "Zeta flows", "flow", 2019),
        ("eta", "Étale", "gan", 2021),
    ]
    (project.root / "suites/papers.yaml").write_text("".join(entry.format(*p) for p in papers))
    assert project("report").code == 0
    return project.results / "site"


@pytest.fixture
def hostile_site(project: Project) -> Path:
    """A site whose every free text is hostile."""
    fill(project, hostile.changes())
    assert project("report").code == 0
    return project.results / "site"
