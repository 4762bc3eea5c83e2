"""A paper's folder is self-contained: it may use the kit, and neither another paper's folder nor what runs it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from latentbench.core.plugins import PAPERS, package_name, paper_folders

ROOT = Path(__file__).parents[2]
#: What a paper's code may use of latentbench, beside its own folder.
KIT = ("core", "data", "declare", "evaluation", "metrics", "models", "stats")


def imported(file: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of everything that a file imports."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, a.name) for a in node.names)
        elif isinstance(node, ast.ImportFrom):
            home = "." * node.level + (node.module or "")
            yield from ((node.lineno, f"{home}.{a.name}" if node.module else f"{home}{a.name}") for a in node.names)


def foreign(file: Path, package: str) -> list[str]:
    """Imports of a file of paper `package` that another paper would have to be there for."""
    said = []
    for line, name in imported(file):
        other = name.startswith(f"{PAPERS}.") and name.split(".")[2] != package
        if other or name.startswith(("..", "suites")):
            said.append(f"{file.parent.name}/{file.name}:{line} imports {name}")
    return said


FILES = [(f, package) for package, folder in paper_folders().items() for f in sorted(folder.rglob("*.py"))]


@pytest.mark.parametrize(("file", "package"), FILES, ids=lambda v: v.name if isinstance(v, Path) else v)
def test_no_paper_imports_another(file, package):
    assert foreign(file, package) == []


@pytest.mark.parametrize(("file", "package"), FILES, ids=lambda v: v.name if isinstance(v, Path) else v)
def test_a_papers_methods_use_the_kit_alone(file, package):
    ours = [(line, name) for line, name in imported(file) if name.startswith("latentbench.")]
    beyond = [(line, name) for line, name in ours if name.split(".")[1] not in (*KIT, "papers")]
    assert file.name.startswith(("test_", "conftest")) or beyond == []


def test_the_kit_imports_no_paper():
    files = (ROOT / "benchmarks").rglob("*.py")
    found = [f"{f}:{line}" for f in files for line, name in imported(f) if name.startswith(f"{PAPERS}.")]
    assert found == []


def test_what_would_break_it_is_seen(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from latentbench.papers.iwae.iwae import X\nimport latentbench.papers.vae\n"
        "from latentbench.papers import gon\nfrom ..vae import y\nfrom . import other\n"
        "from latentbench.papers.mine.other import z\nfrom latentbench.models import nets\n"
    )
    assert [s.split()[-1] for s in foreign(file, "mine")] == [
        "latentbench.papers.iwae.iwae.X",
        "latentbench.papers.vae",
        "latentbench.papers.gon",
        "..vae.y",
    ]


def test_every_paper_is_a_package_of_its_own_name():
    assert {package_name(f) for f in paper_folders().values()} == set(paper_folders())
