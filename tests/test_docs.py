"""What the documentation names exists: files behind links, commands and their options."""

from __future__ import annotations

import re
import shlex

import click
import pytest
from latentbench.cli.main import cli

from tests.project import REPOSITORY

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
