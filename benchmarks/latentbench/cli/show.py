"""`latentbench show`"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from latentbench.cli.options import examples, format_option, print_json, print_table
from latentbench.cli.render import said
from latentbench.core.console import printable

if TYPE_CHECKING:
    from latentbench.spec.papers import PaperEntry


@click.command(epilog=examples("show iwae", "show iwae --format json", "show 1312.6114", "show vq-vae"))
@click.argument("paper")
@format_option("table", "json")
def command(paper: str, form: str) -> None:
    """A paper's card: what came out, reported numbers, methods, data, metrics, protocol, claims, cost per tier, notes.

    PAPER is a suite, or a paper of the catalogue by its id, arXiv number or title; one that has no suite yet shows what
    the catalogue says of it.
    """
    from latentbench.core.errors import UserError, did_you_mean
    from latentbench.spec.files import suite_files

    name = paper
    if not paper.endswith((".yaml", ".yml")) and paper not in (known := suite_files()):
        from latentbench.spec.papers import find_paper

        try:
            entry = find_paper(paper)
        except UserError as e:
            from latentbench.spec.papers import catalogue

            fix = did_you_mean(paper, {*known, *(p.id for p in catalogue())}, "`latentbench list papers --search WORD`")
            raise UserError(e.what, where=e.where, fix=fix) from None
        if entry.id not in known:
            print_json(entry.model_dump(mode="json")) if form == "json" else _entry(entry)
            return
        name = entry.id
    found = _made(name, form)
    print_json(found) if form == "json" else _print(found)


def _made(name: str, form: str) -> Any:
    """The card or the JSON of a suite, as it was made before where nothing that it depends on has changed."""
    from latentbench.results.basis import Kept
    from latentbench.spec.files import suite_files

    file = suite_files().get(name)
    kept = None if file is None else Kept(name, file)
    if kept is not None and (found := kept.recall(form)) is not None:
        return found
    from latentbench.cli.card import as_json, card
    from latentbench.spec.loading import load_suite

    loaded = load_suite(name)
    found = as_json(loaded) if form == "json" else card(loaded)
    if kept is not None:
        kept.keep(form, found)
    return found


def _print(card: dict[str, Any]) -> None:
    from latentbench.cli.answering import print_answers
    from latentbench.results.answered import Answer, Answers

    click.secho(printable(card["title"]), bold=True)
    for line in card["lines"]:
        said(line)
    if (found := card["answers"]) is not None:
        click.secho("\nwhat came out so far", bold=True)
        print_answers(Answers(**found | {"answers": [Answer(**a) for a in found["answers"]]}), title=False)
    for title, columns, rows, right in card["tables"]:
        print_table(title, columns, rows, right=right)
    if card["notes"]:
        click.secho("\nwhat came out", bold=True)
        click.echo(printable(card["notes"]))


def _entry(entry: PaperEntry) -> None:
    """What the catalogue says of a paper without a suite."""
    said(entry.title, style="bold")
    facts = [entry.method, str(entry.year) if entry.year else None, f"family {entry.family}"]
    facts += [f"scope {entry.scope}", f"priority {entry.priority}"]
    said(", ".join(filter(None, facts)))
    if entry.arxiv:
        said(f"https://arxiv.org/abs/{entry.arxiv}")
    for name, text in (("claim", entry.claim), ("smallest honest experiment", entry.small)):
        if text:
            said(f"\n{name}", style="bold")
            said(text)
    for name, values in (("datasets", entry.datasets), ("metrics", entry.metrics)):
        if values:
            said(f"{name}: {', '.join(values)}")
    if entry.reported:
        print_table("stated in the abstract", ["what", "value"], [[r.what, r.value] for r in entry.reported])
    said(f"\nno suite yet; `latentbench new suite {entry.id}` begins one with all of this filled in", style="dim")
