"""The command `latentbench`. Each command's module is imported when it is called, so that help answers at once."""

from __future__ import annotations

import atexit
import errno
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from latentbench import __version__
from latentbench.core.console import note
from latentbench.core.errors import LatentbenchError, UserError, did_you_mean
from latentbench.core.interrupts import INTERRUPTED, REQUESTS, install, last_act, leave
from latentbench.core.plugins import folders
from latentbench.core.streams import ReaderGone, steady
from latentbench.core.trust import VARIABLE

#: Large pages for large tensors: random rows of a split on the CPU come a tenth faster. Read when torch is imported.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
#: Looking for plug-ins of pydantic's reads the metadata of every installed distribution, which nothing here needs.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")

#: name -> (module, one line of help). The order is that of a user's work.
COMMANDS: dict[str, tuple[str, str]] = {
    "list": ("listing", "What there is: papers, suites, models, datasets, metrics."),
    "show": ("show", "A paper's card: methods, data, metrics, claims, cost per tier."),
    "validate": ("validate", "Check suites without running them."),
    "fmt": ("fmt", "Lay out suite files one way: no line over 120 columns."),
    "plan": ("plan", "What suites will cost, before anything is spent; what a budget buys."),
    "run": ("run", "Run suites; what has a record is not run again."),
    "status": ("status", "Runs done, failed, stale and to do."),
    "fingerprints": ("fingerprints", "What each run depends on, as hashes: where they change, it is done again."),
    "store": ("store", "Records from the store that a cluster's machines share."),
    "leaderboard": ("leaderboard", "Methods by dataset and metric, the paper's number beside ours."),
    "verdict": ("verdict", "What came out of a paper's claims: answers first, details with --all."),
    "scoreboard": ("scoreboard", "How many claims of all papers are reproduced, open, not reproduced, not run."),
    "track": ("track", "Tell wandb of runs that were recorded without it."),
    "compare": ("compare", "Two methods, runs, revisions or result folders: is B better than A?"),
    "pictures": ("pictures", "Samples, reconstructions, traversals and the like of trained models."),
    "plot": ("plot", "Seeds, intervals and learning curves as PNG and SVG."),
    "report": ("report", "A site of it all: papers, claims with their evidence, leaderboards, comparisons."),
    "replay": ("replay", "Run a record again and compare, bit for bit, then against the spread over seeds."),
    "records": ("records", "Pack finished runs into the records that the project carries, and unpack them."),
    "verify": ("verify", "Check a results folder: its hashes, its numbers, its weights."),
    "data": ("data", "Fetch, verify, list and describe datasets."),
    "metric": ("metric", "Compute a metric on arrays in .npz or .parquet files."),
    "new": ("new", "Write a suite, model, metric or dataset to begin with."),
    "check": ("check", "The contract tests, on suites, models, metrics and datasets of your own."),
    "doctor": ("doctor", "Environment, devices, disk, credentials: what is missing and how to get it."),
}


#: Commands that may begin a results folder.
BEGIN = ("run", "unpack", "pull")
RESULTS = "LATENTBENCH_RESULTS"


def _use_results(ctx: click.Context, _: click.Parameter, folder: str | None) -> None:
    """``--results`` is LATENTBENCH_RESULTS for the one command."""
    if folder is None:
        return
    if not Path(folder).is_dir() and ctx.info_name not in BEGIN:
        raise UserError(f"{folder!r} is no folder", where="--results", fix="name a folder of results")
    os.environ[RESULTS] = str(Path(folder).resolve())


def _with_results(command: click.Command) -> None:
    """Give a command, and those below it, ``--results``."""
    if any(p.name == "results" for p in command.params):
        return
    command.params.append(
        click.Option(
            ["--results"],
            type=click.Path(file_okay=False),
            metavar="FOLDER",
            expose_value=False,
            is_eager=True,
            callback=_use_results,
            help="Of records and tables, instead of the project's own.",
        )
    )
    for below in command.commands.values() if isinstance(command, click.Group) else ():
        _with_results(below)


class _Lazy(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"latentbench.cli.{COMMANDS[cmd_name][0]}")
        command: click.Command = module.command
        _with_results(command)
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise UserError(f"no command {args[0]!r}", fix=did_you_mean(args[0], COMMANDS, "`latentbench --help`"))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


KEPT = "interrupted: what has finished is kept, the rest goes on when you run it again"

#: Options of latentbench itself, as they are written before the command.
BEFORE = {"--plugins": "--plugins FOLDER", "--trust": "--trust"}

EPILOG = """\b
Examples:
  latentbench run quickstart                     a leaderboard and verdicts in minutes
  latentbench show iwae                          what a suite holds, and what each tier costs
  latentbench run iwae --tier cpu --seeds 3      rerun a paper, shortened, on this machine
  latentbench verdict iwae                       which of its claims came out again
  latentbench list papers --format json | jq .   for scripts
"""


@click.command(
    cls=_Lazy, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, prog_name="latentbench")
@click.option(
    "--plugins",
    type=click.Path(exists=True, file_okay=False),
    multiple=True,
    help="A folder with models and metrics of your own; repeatable.",
)
@click.option("--trust", is_flag=True, help="Let dataset entries name code outside latentbench and its plug-ins.")
def cli(plugins: tuple[str, ...], trust: bool) -> None:
    """Rerun the benchmarks of generative-model papers and learn, with statistics, whether their claims hold.

    Exit codes: 0 fine, 1 some runs failed or a check did not hold, 2 wrong input, 130 interrupted.
    """
    if plugins:
        from latentbench.spec import registry

        for folder in plugins:
            registry.add_folder(Path(folder))
    folders()  # which says where one is none
    if trust:
        os.environ[VARIABLE] = "1"


def main(args: list[str] | None = None) -> None:
    """Entry point: maps every ending to its exit code, and a user's mistake to one line.

    Args:
        args: of a call from Python, which goes on afterwards; None for the command line, whose process ends.
    """
    before = {name: os.environ.get(name) for name in (RESULTS, VARIABLE)}
    if args is None:
        steady()
    install(*REQUESTS)
    if args is None:
        atexit.register(last_act, *REQUESTS)
    try:
        code = _outcome(args)
    except KeyboardInterrupt:  # again, while the ending was being told
        code = INTERRUPTED
    except OSError:  # the ending could not be told
        code = 1
    finally:
        for name, value in before.items() if args is not None else ():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})
    if args is None:
        leave(code)
    sys.exit(code)


def _said(error: OSError) -> str:
    """What the system says is wrong, where, and how to mend it."""
    place = f"{error.filename}: " if error.filename is not None else ""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    fix = " (make room, then do it again; what has finished is kept)" if full else ""
    return f"{place}{error.strerror or error}{fix}"


def _outcome(args: list[str] | None) -> int:
    try:
        code = cli.main(args=args, prog_name="latentbench", standalone_mode=False)
        sys.stdout.flush()  # while what befalls it can be told
    except UserError as e:
        note(f"error: {e}")
        code = 2
    except click.exceptions.Abort:
        note(KEPT)
        code = INTERRUPTED
    except click.ClickException as e:
        e.show()
        if isinstance(e, click.NoSuchOption) and e.option_name in BEFORE:
            note(f"{e.option_name} goes before the command: latentbench {BEFORE[e.option_name]} COMMAND …")
        code = e.exit_code
    except KeyboardInterrupt:
        note(KEPT)
        code = INTERRUPTED
    except ReaderGone:  # `latentbench … | head`
        code = 0
    except LatentbenchError as e:
        note(f"error: {e}")
        code = 1
    except OSError as e:  # a disk that is full, a stream that cannot be written: what the machine says, in one line
        note(f"error: {_said(e)}")
        code = 1
    except MemoryError:
        note("error: out of memory")
        code = 1
    return code if isinstance(code, int) else 0
