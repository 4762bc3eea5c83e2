"""Help that answers at once and shows how each command is used."""

from __future__ import annotations

import json
import subprocess
import sys

import click
import pytest
from latentbench.cli.main import COMMANDS, cli

from tests.project import REPOSITORY


def with_subcommands(name: str) -> list[tuple[str, ...]]:
    """A command and its subcommands, as they are typed."""
    ctx = click.Context(cli)
    command = cli.get_command(ctx, name)
    assert command is not None
    below = command.list_commands(ctx) if isinstance(command, click.Group) else []
    return [(name,), *((name, other) for other in below)]


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_help_has_examples_of_commands_that_exist(project, name):
    for command in with_subcommands(name) if name else [()]:
        answer = project(*command, "--help")
        assert answer.code == 0
        assert answer.err == ""
        assert "Usage: latentbench" in answer.out
        assert "Examples:" in answer.out
        lines = [line.split() for line in answer.out.split("Examples:")[1].splitlines() if line.strip()]
        shown = [words[1:] for words in lines if words[0] == "latentbench"]
        assert any(words[: len(command)] == list(command) for words in shown)
        assert all(words[0] in COMMANDS for words in shown)
        assert max(map(len, answer.out.splitlines())) <= 120


def test_short_help_and_version(project):
    assert project("-h").out == project("--help").out
    version = project("--version")
    assert (version.code, version.out.split()[0]) == (0, "latentbench,")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("lst",), "no command 'lst' (did you mean 'list'"),
        (("run",), "Missing argument"),
        (("list", "planets"), "planets"),
        (("run", "small", "--teir", "cpu"), "--teir"),
        (("run", "small", "--jobs", "-1"), "-1 is not in the range"),
        (("run", "small", "--device", "tpu"), "tpu"),
    ],
)
def test_wrong_usage_is_told_with_code_two(project, args, words):
    answer = project(*args)
    assert answer.code == 2
    assert words in answer.err
    assert "Traceback" not in answer.err


#: Everything that only reads, none of which may wait for torch.
READING = [
    ["--help"],
    ["--version"],
    ["run", "--help"],
    ["list"],
    ["list", "papers"],
    ["list", "models"],
    ["list", "metrics"],
    ["list", "datasets"],
    ["show", "quickstart"],
    ["data", "list"],
    ["run", "quickstart", "--dry-run"],
    ["status", "quickstart"],
    ["leaderboard", "quickstart"],
]


def test_reading_commands_do_not_import_torch():
    """One process, one command after another: none of them brings in what takes a second to import."""
    code = f"""
import io, json, sys
from contextlib import redirect_stdout
from latentbench.cli.main import cli
heavy = ("torch", "lightning", "sklearn", "datasets", "wandb", "dvc")
found = {{}}
for args in {READING!r}:
    with redirect_stdout(io.StringIO()) as said:
        cli.main(args, standalone_mode=False)
    assert said.getvalue(), args
    found[" ".join(args)] = [m for m in heavy if m in sys.modules]
print(json.dumps(found))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert len(found) == len(READING)
    assert {k: v for k, v in found.items() if v} == {}


def test_the_command_is_the_module_too():
    done = subprocess.run(
        [sys.executable, "-m", "latentbench", "--help"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("Usage: latentbench")


@pytest.mark.parametrize(
    ("options", "reader", "read"),
    [
        ("list papers --format json", "head -n 1", "[\n"),
        ("--help", "head -c 5", "Usage"),
        ("run --help", "head -c 5", "Usage"),
        ("list papers --format json", "sleep 0", ""),
        ("--help", "sleep 0", ""),
        ("run --help", "sleep 0", ""),
    ],
)
def test_a_closed_pipe_is_no_error(options, reader, read):
    done = subprocess.run(
        f"set -o pipefail; {sys.executable} -m latentbench {options} | {reader}",
        shell=True,
        executable="/bin/bash",
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, read, "")


def test_a_closed_pipe_hides_no_error_of_input():
    done = subprocess.run(
        f"set -o pipefail; {sys.executable} -m latentbench validate quickstart nosuch | sleep 0",
        shell=True,
        executable="/bin/bash",
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr


@pytest.mark.parametrize("redirect", ["> /dev/full", ">&-", "2> /dev/full", ">&- 2>&-", "| true"])
def test_streams_that_cannot_be_written(redirect):
    """A line at most, and no traceback."""
    command = f"{sys.executable} -m latentbench list suites {redirect}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 2
    assert done.returncode == (1 if redirect == "> /dev/full" else 0)
    if redirect == "> /dev/full":
        assert "No space left" in done.stderr
