"""Draw the README's pictures, what the terminal shows, as SVG; after ``latentbench run quickstart``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

HERE = Path(__file__).parent
PICTURES = {
    "leaderboard.svg": ["leaderboard", "quickstart", "--dataset", "digits"],
    "verdicts.svg": ["verdict", "quickstart"],
}


def draw(name: str, command: list[str], width: int = 132) -> None:
    """Run `latentbench` with colours on and save what it prints."""
    env = {**os.environ, "FORCE_COLOR": "1", "COLUMNS": str(width)}
    call = [sys.executable, "-m", "benchmarks", *command]
    shown = subprocess.run(call, env=env, capture_output=True, text=True, check=True).stdout
    console = Console(record=True, width=width, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(Text.from_ansi(shown))
    console.save_svg(str(HERE / name), title="latentbench " + " ".join(command))


if __name__ == "__main__":
    for name, command in PICTURES.items():
        draw(name, command)
