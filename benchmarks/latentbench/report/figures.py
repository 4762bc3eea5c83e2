"""Curves and intervals as figures for a paper or a talk: PNG and SVG, drawn by matplotlib."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from latentbench.report.curves import Bundle
from latentbench.report.plots import STEEP, thinned
from latentbench.report.wording import clean

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from latentbench.report.agreement import Agreement
    from latentbench.report.papers import Board

Format = Literal["png", "svg"]

COLOURS = ("#1f5fa8", "#c05a12", "#1b7f5c", "#a8307a", "#7a5cc0", "#8a6d00", "#2a8ca3", "#5c636b")
BASELINE, PAPER = "#5c636b", "#b5446e"
#: What texts hold is no formula, letters are drawn as shapes, and the same figure has the same bytes.
STYLE: Any = {
    "text.parse_math": False,
    "svg.fonttype": "path",
    "svg.hashsalt": "latentbench",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
}


@contextmanager
def _figure(width: float, height: float) -> Iterator[tuple[Figure, Any]]:
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, figure.subplots()


def intervals(board: Board, form: Format) -> bytes:
    """One metric on one dataset: each seed a dot, mean and 95 % interval over them, the paper's number a diamond."""
    rows = board.chart.rows
    with _figure(6.4, 0.7 + 0.3 * len(rows)) as (figure, axes):
        for place, row in enumerate(rows):
            strip, colour = row.strip, BASELINE if row.strip.tone else COLOURS[0]
            if strip.low is not None and strip.high is not None:
                axes.hlines(place, strip.low, strip.high, colors=colour, lw=5, alpha=0.3)
            axes.plot(strip.values, [place] * len(strip.values), "o", c=colour, ms=3, alpha=0.8)
            if strip.mean is not None:
                axes.vlines(strip.mean, place - 0.3, place + 0.3, colors=colour, lw=1.8)
            if strip.reported is not None:
                axes.plot(strip.reported, place, "D", c=PAPER, ms=5, label="reported by the paper")
        axes.set_yticks(range(len(rows)), [_text(row.strip.label) for row in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        unit = f", {board.unit}" if board.unit else ""
        kind = f" [{board.likelihood}]" if board.likelihood else ""
        axes.set_title(_text(f"{board.metric}{kind} on {board.dataset}"))
        axes.set_xlabel(_text(f"{board.metric}{unit}; {board.better} is better; 95% interval over seeds"))
        axes.grid(axis="x", alpha=0.25)
        if any(row.strip.reported is not None for row in rows):
            handles, names = axes.get_legend_handles_labels()
            axes.legend(handles[:1], names[:1], loc="best", frameon=False, fontsize=8)
        return _saved(figure, form)


def agreement(matrix: Agreement, form: Format) -> bytes:
    """Rank correlations of a dataset's metrics over all runs, a square each."""
    import numpy as np

    n = len(matrix.metrics)
    with _figure(2.4 + 0.42 * n, 1.9 + 0.36 * n) as (figure, axes):
        rho = np.array([[np.nan if r is None else r for r in row] for row in matrix.rho])
        axes.imshow(rho, cmap="RdBu", vmin=-1, vmax=1, aspect="auto")
        for (i, j), r in np.ndenumerate(rho):
            told = "–" if np.isnan(r) else f"{r:.2f}".replace("-", "−")
            axes.text(j, i, told, ha="center", va="center", fontsize=7, color="white" if abs(r) > 0.7 else "black")
        names = [_text(m, 28) for m in matrix.metrics]
        axes.set_xticks(range(n), names, rotation=90)
        axes.set_yticks(range(n), names)
        runs = f"{matrix.runs} runs of {matrix.methods} methods"
        axes.set_title(_text(f"Rank correlation of metrics on {matrix.dataset}, {runs}", 90), fontsize=8)
        return _saved(figure, form)


def curves(bundle: Bundle, form: Format) -> bytes:
    """Training losses over epochs, a line a seed, a colour a method."""
    with _figure(6.4, 4.0) as (figure, axes):
        losses = []
        for series in bundle.series:
            points = thinned(series.points, 2000)
            losses += [y for _, y in points]
            axes.plot(
                *zip(*points, strict=True),
                c=COLOURS[series.tone % len(COLOURS)],
                ls="-" if series.tone < len(COLOURS) else "--",
                lw=1.1,
                alpha=0.85,
            )
        if min(losses) > 0 and max(losses) / min(losses) > STEEP:
            axes.set_yscale("log")
        for tone, name in enumerate(bundle.methods):
            style = "-" if tone < len(COLOURS) else "--"
            axes.plot([], [], c=COLOURS[tone % len(COLOURS)], ls=style, label=_text(name))
        seeds = f"{bundle.seeds} seed{'s' if bundle.seeds != 1 else ''} a method at most"
        axes.set_title(_text(f"Training loss on {bundle.dataset}, {seeds}"))
        axes.set_xlabel("epoch")
        axes.set_ylabel("loss")
        axes.grid(alpha=0.25)
        axes.legend(frameon=False, fontsize=8, ncols=1 if len(bundle.methods) < 8 else 2)
        return _saved(figure, form)


def _text(text: str, most: int = 60) -> str:
    """A label in one line; matplotlib passes over labels that begin with an underscore."""
    line = " ".join(clean(text).split())
    line = line if len(line) <= most else line[: most - 1] + "…"
    return f" {line}" if line.startswith("_") else line


def _saved(figure: Figure, form: Format) -> bytes:
    import warnings

    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        nothing: dict[str, Any] = {"Date": None, "Creator": None} if form == "svg" else {"Software": None}
        figure.savefig(out, format=form, dpi=160, metadata=nothing)
    return out.getvalue()
