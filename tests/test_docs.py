"""What the documentation names exists: files behind links, modules and paths, commands and their options."""

from __future__ import annotations

import ast
import re
import shlex
from functools import cache
from pathlib import Path

import click
import pytest
from latentbench.cli.main import cli
from latentbench.core.plugins import GROUPS, PAPERS

from tests.project import REPOSITORY

SOURCES = REPOSITORY / "benchmarks"

PAGES = sorted(
    p.relative_to(REPOSITORY)
    for g in ("*.md", "docs/*.md", "changes/*.md", "suites/*/*.md")
    for p in REPOSITORY.glob(g)
)


def commands(text: str) -> list[list[str]]:
    """Each `latentbench` command line in the page's blocks of shell code, in words, comments left out."""
    blocks = re.findall(r"```(?:sh|console)\n(.*?)```", text, re.DOTALL)
    lines = [line.removeprefix("$ ").strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [shlex.split(line, comments=True) for line in lines if re.match(r"latentbench\s", line)]


def _command(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that the words name, with what follows its name."""
    found: click.Command = cli
    while isinstance(found, click.Group):
        options = {o for p in found.params for o in p.opts}
        while words and words[0] in options:
            words = words[1:] if words[0] == "--trust" else words[2:]
        if not words:
            break
        context = click.Context(found)
        below = found.get_command(context, words[0])
        assert below is not None, f"no command {words[0]}"
        found, words = below, words[1:]
    return found, words


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_lead_somewhere(page):
    text = (REPOSITORY / page).read_text()
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    local = [t.partition("#")[0] for t in targets if not re.match(r"[a-z]+:|#", t)]
    missing = [t for t in local if not (REPOSITORY / page).parent.joinpath(t).exists()]
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_commands_and_options_exist(page):
    for words in commands((REPOSITORY / page).read_text()):
        command, rest = _command(words[1:])
        known = {o for p in command.params for o in (*p.opts, *p.secondary_opts)} | {"--help", "-h"}
        unknown = [w.partition("=")[0] for w in rest if re.match(r"--?[a-z]", w)]
        assert [w for w in unknown if w not in known] == [], " ".join(words)


def test_the_readme_has_commands_to_test():
    assert len(commands((REPOSITORY / "README.md").read_text())) > 20


def modules(text: str) -> list[str]:
    """Each `latentbench.….…` in backticks: a module, or something in one."""
    names = re.findall(r"`(latentbench(?:\.\w+)+)", text)
    return [n for n in dict.fromkeys(names) if n not in GROUPS and not n.startswith(f"{PAPERS}.")]


@cache
def _defined(module: Path) -> frozenset[str]:
    """Names that a module's source defines anywhere: functions, classes, their attributes and fields, constants."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text())):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                found.add(name)
            case ast.Name(id=name, ctx=ast.Store()):
                found.add(name)
    return frozenset(found)


def there(dotted: str) -> bool:
    """Whether a dotted name is a package, a module, or defined in one."""
    parts = dotted.split(".")
    for end in range(len(parts), 0, -1):
        place = SOURCES.joinpath(*parts[:end])
        if (module := place.with_suffix(".py")).is_file():
            return set(parts[end:]) <= _defined(module)
        if place.is_dir():
            return end == len(parts)
    return False


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_modules_and_paths_exist(page):
    text = (REPOSITORY / page).read_text()
    paths = re.findall(r"`((?:benchmarks|tests|perf|docs)/[^`\s<*{…]*)`", text)
    assert [name for name in modules(text) if not there(name)] == []
    assert [path for path in paths if not (REPOSITORY / path.partition("::")[0]).exists()] == []


def test_sources_name_modules_that_exist():
    files = [p for top in ("benchmarks", "perf", "tests", "suites") for p in (REPOSITORY / top).rglob("*.py")]
    missing = {str(f.relative_to(REPOSITORY)): [n for n in modules(f.read_text()) if not there(n)] for f in files}
    assert {file: names for file, names in missing.items() if names} == {}


def test_what_is_not_there_is_noticed():
    assert there("latentbench.running.one")
    assert there("latentbench.core.types.DataInfo")
    assert there("latentbench.core.seeds")
    assert not there("latentbench.nowhere.one")
    assert not there("latentbench.core.types.Nothing")
    assert modules("`latentbench.running.one`, `latentbench.models`") == ["latentbench.running.one"]


def test_the_walk_takes_ten_minutes():
    walk = (REPOSITORY / "docs/architecture.md").read_text()
    assert len(walk.splitlines()) <= 200
    packages = {p.parent.name for p in (SOURCES / "latentbench").glob("*/__init__.py")} - {"papers", "scaffold"}
    assert [name for name in sorted(packages) if f"`latentbench.{name}`" not in walk] == []
