"""`latentbench store`"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from latentbench.cli.options import examples
from latentbench.core.console import note
from latentbench.core.errors import UserError

if TYPE_CHECKING:
    from latentbench.scheduling.object_store import Store


@click.group(epilog=examples("store pull s3://bucket/results", "store pull /mnt/shared/results --weights"))
def command() -> None:
    """The store that the machines of a cluster share (`run --store`)."""


@command.command(epilog=examples("store pull s3://bucket/results", "store pull /mnt/shared/results --weights"))
@click.argument("url")
@click.option("--weights", is_flag=True, help="Also the weights, which `verify` evaluates again.")
@click.pass_context
def pull(ctx: click.Context, url: str, weights: bool) -> None:
    """Bring all records, with their curves, into the local results; each is checked by its seal and hashes.

    `run` does it for its own runs. Exit code 1 where something was refused.
    """
    from latentbench.core.paths import results_dir, shown
    from latentbench.scheduling.transfer import pull_all

    came, refused = pull_all(existing(url), results_dir(), weights=weights, say=lambda fault: note(f"error: {fault}"))
    note(f"{came} runs came to {shown(results_dir())}" + (f", {refused} were refused" if refused else ""))
    ctx.exit(1 if refused else 0)


def existing(url: str) -> Store:
    """The store at an address where something has been stored.

    Raises:
        UserError: nothing has; nobody means to read an empty one.
    """
    from latentbench.scheduling.object_store import MARK, Store

    store = Store(url)
    if store.read(MARK) is None and not store.names("runs"):
        raise UserError("there is no store", where=store.shown, fix="give the address that `run --store` was given")
    return store
