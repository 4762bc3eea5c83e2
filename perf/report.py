"""Figures as a table, as JSON, and beside those of an earlier run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from perf.figures import Figure

FORMAT = 1


def show(figures: Sequence[Figure], console: Console, before: Mapping[str, Figure] | None = None) -> None:
    """Print the figures, with the earlier ones beside them where there are any."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("benchmark", "what", "measured", "95 % interval", "CPU time", "target", "met"):
        table.add_column(name, overflow="fold", justify="left" if name in ("benchmark", "what", "met") else "right")
    if before is not None:
        table.add_column("before", justify="right")
        table.add_column("change")
    for f in figures:
        cpu = f.details.get("cpu_ratio" if f.unit == "ratio" else "cpu_s")
        cells = [
            Text(f.name),
            Text(f.what),
            Text(_value(f.value, f)),
            Text(f"{_value(f.low, f)} – {_value(f.high, f)}"),
            Text("" if cpu is None else _value(cpu, f)),
            Text("" if f.target is None else f"≤ {_value(f.target, f)}"),
            Text(_met(f), style="bold red" if f.met is False else ""),
        ]
        if before is not None:
            old = before.get(f.name)
            cells += [Text("" if old is None else _value(old.value, old)), Text(change(f, old))]
        table.add_row(*cells)
    console.print(table)


def _value(x: float, figure: Figure) -> str:
    return f"{x:.3f}" if figure.unit == "ratio" else f"{x:.3f} {figure.unit}"


def _met(figure: Figure) -> str:
    """Whether the target is met; where it is not, whether processor time would have met it on an idle machine."""
    if figure.target is None:
        return ""
    if figure.met:
        return "yes"
    cpu = figure.details.get("cpu_ratio" if figure.unit == "ratio" else "cpu_s")
    return "NO (CPU time: yes)" if cpu is not None and cpu <= figure.target else "NO"


def change(now: Figure, before: Figure | None) -> str:
    """What became of a figure, in words: only intervals that do not touch count as a change."""
    if before is None:
        return "new"
    if now.low > before.high:
        return f"slower, {now.value / before.value - 1:+.0%}"
    if now.high < before.low:
        return f"faster, {now.value / before.value - 1:+.0%}"
    return "the same within noise"


def write(path: Path, figures: Sequence[Figure], environment: Mapping[str, Any], *, quick: bool, date: str) -> None:
    """Write what a later run is compared with."""
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = {
        "format": FORMAT,
        "date": date,
        "quick": quick,
        "machine": dict(environment),
        "figures": [f.as_dict() for f in figures],
    }
    path.write_text(json.dumps(whole, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def read(path: Path) -> tuple[dict[str, Figure], dict[str, Any]]:
    """Figures by name, and the rest of the file.

    Raises:
        ValueError: it is not a file that `write` made.
    """
    data = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise ValueError(f"not a benchmark file of format {FORMAT}")
    figures = [Figure.of(f) for f in data.pop("figures")]
    return {f.name: f for f in figures}, data
