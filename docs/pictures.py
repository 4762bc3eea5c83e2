"""Draw the README's pictures, what the terminal shows, as SVG; after ``latentbench run quickstart``."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

from latentbench.cli import answering, options, render
from latentbench.results.answers import answers
from latentbench.results.gather import gather
from latentbench.results.leaderboard import leaderboard
from latentbench.spec.loading import load_suite
from rich.console import Console

HERE = Path(__file__).parent


def draw(name: str, title: str, show: Callable[[], None], width: int) -> None:
    """Save what `show` prints on a terminal of `width` columns."""
    console = Console(record=True, width=width, force_terminal=True, highlight=False, file=io.StringIO())
    options.out = render.out = answering.out = lambda: console
    show()
    console.save_svg(str(HERE / name), title=title)


if __name__ == "__main__":
    found = gather(load_suite("quickstart"), "paper")
    rows = leaderboard(found, dataset="digits")
    draw("leaderboard.svg", "latentbench leaderboard quickstart", lambda: render.print_leaderboard(found, rows), 96)
    draw("verdicts.svg", "latentbench verdict quickstart", lambda: answering.print_answers(answers(found)), 96)
