"""Verdicts as a terminal shows them: the answers first, then claim by claim where that is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.padding import Padding
from rich.text import Text

from latentbench.cli.options import print_table
from latentbench.cli.render import STYLES, said
from latentbench.core.console import out, printable

if TYPE_CHECKING:
    from latentbench.results.answered import Answers
    from latentbench.results.gather import Gathered
    from latentbench.results.verdicts import ClaimVerdict

#: Lines on distances, and answers, that are shown unless everything is asked for.
DISTANCES, ANSWERS = 3, 15


def print_answers(found: Answers, *, everything: bool = False, title: bool = True) -> None:
    """A suite in some lines: what was rerun, how far from the paper's numbers, each question, what is to be run."""
    from latentbench.results.answered import WORDS

    console = out()
    if title:
        said(f"{found.title}: suite {found.suite}, version {found.version}", style="bold")
    said(found.headline())
    shown = found.distances if everything else found.distances[:DISTANCES]
    for text in shown:
        said(f"{text}.")
    if left := len(found.distances) - len(shown):
        said(f"… and {left} more quantities that the paper reports (--all).", style="dim")
    answers = found.answers if everything else found.answers[:ANSWERS]
    words = [WORDS.get(a.verdict, a.verdict) for a in answers]
    width = max(map(len, words), default=0) + 2
    for word, a in zip(words, answers, strict=True):
        line = Text(word.ljust(width), style=STYLES.get(a.verdict, ""))
        rest = Text(printable(f"{a.question} "), style="bold")
        rest.append(printable(f"{a.said}."), style="not bold")
        if console.is_terminal:
            for k, part in enumerate(rest.wrap(console, max(20, console.width - width))):
                console.print(Text.assemble(line if k == 0 else " " * width, part))
        else:
            console.print(Text.assemble(line, rest))
    if left := len(found.answers) - len(answers):
        said(f"… and {left} more claims (--all).", style="dim")
    for what, command in found.waiting:  # a command that a line's end would part stands on the next one
        fits = not console.is_terminal or len(f"{what}: {command}") <= console.width
        said(f"{what}: {command}" if fits else f"{what}:\n  {command}", style="dim")


def print_details(found: Sequence[ClaimVerdict], gathered: Gathered) -> None:
    """Claim by claim, all that the seeds say: a block each on a terminal, a line each elsewhere."""
    silent = sum(v.n == 0 for v in found)
    found = [v for v in found if v.n]
    if not found:
        return
    first = found[0]
    title = f"claim by claim, Holm-corrected, alpha 0.05{', sequential' if first.sequential else ''}"
    console = out()
    if not console.is_terminal:
        rows = []
        for v in found:
            rows.append([v.verdict, _kind(v), v.claim, v.text + (f" [{v.where}]" if v.where else "")])
            rows += [[_AS[c.as_claimed], "cell", f"{v.claim}: {c.label}", c.text] for c in v.cells]
        print_table(title, ["verdict", "kind", "claim", "what the seeds say"], rows)
        return
    questions = {c.id: c.text for c in gathered.loaded.suite.claims}
    said(f"\n{title}", style="bold")
    for v in found:
        place = f", {v.where}" if v.where else ""
        head = Text(printable(v.claim), style="bold")
        head.append("  ").append(v.verdict, style=STYLES.get(v.verdict, "")).append(
            f"  ({_kind(v)}{place})", style="dim"
        )
        console.print(head, soft_wrap=False)
        cells = [f"{c.label}: {_AS[c.as_claimed]}: {c.text}" for c in v.cells]
        for text in (questions.get(v.claim, ""), v.text, *cells):
            console.print(Padding(Text(printable(text)), (0, 0, 0, 2)))
    if silent:
        said(f"{silent} claims without any result are left out; --format json has them", style="dim")


_AS = {True: "as claimed", False: "not as claimed", None: "no result"}


def _kind(v: ClaimVerdict) -> str:
    pooled = f", {v.pool} over {len(v.cells)}" if v.cells else ""
    return f"{'sanity check, ' if v.sanity else ''}{v.kind}{pooled}"
