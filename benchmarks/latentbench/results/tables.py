"""The files that a pipeline tabulates: leaderboard, verdicts, metrics for DVC, learning curves."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from latentbench.core.escape import cell, to_json
from latentbench.core.paths import shown
from latentbench.records.beside import CURVE, curve_of, folder_of, is_curve_damaged
from latentbench.records.record import write_atomically
from latentbench.results.exporting import as_markdown, dated, made_with
from latentbench.results.gather import Gathered
from latentbench.results.leaderboard import Row, leaderboard, to_csv
from latentbench.results.sheets import leaderboard_sheets
from latentbench.results.verdicts import ClaimVerdict, verdicts

CURVE_COLUMNS = ["suite", "tier", "dataset", "method", "epoch", "loss"]
#: What stands where there is no row: DVC warns of a file that is empty.
NO_ROWS = "No record counts for a leaderboard. Runs of tier smoke never do.\n"


def write_tables(folder: Path, gathered: Sequence[Gathered]) -> None:
    """Write leaderboard.csv, leaderboard.md, verdicts.json, metrics.json and curves.csv into `folder`.

    DVC has a column for each number of metrics.json, so that holds the suites alone of which something was run here.
    """
    boards = [(g, leaderboard(g)) for g in gathered]
    rows = [r for _, part in boards for r in part]
    sheets = leaderboard_sheets(boards)
    judged = [(g, verdicts(g)) for g in gathered]
    found = [v for _, part in judged for v in part]
    here = {g.loaded.suite.id for g in gathered if _ran_here(g)}
    write_atomically(folder / "leaderboard.csv", to_csv(rows))
    write_atomically(folder / "leaderboard.md", as_markdown(sheets, made_with()) if sheets else NO_ROWS)
    write_atomically(folder / "verdicts.json", _json([v.as_dict() | dated(g) for g, part in judged for v in part]))
    own = metrics([r for r in rows if r.suite in here], [v for v in found if v.suite in here])
    write_atomically(folder / "metrics.json", _json(own))
    write_atomically(folder / "curves.csv", curves(gathered))


def _ran_here(gathered: Gathered) -> bool:
    """Whether any record that counts is no reference record; those lie by themselves, under other names."""
    return any(file.endswith("/record.json") for file in gathered.collected.files.values())


def metrics(rows: Sequence[Row], found: Sequence[ClaimVerdict]) -> dict[str, Any]:
    """Nested numbers for `dvc metrics`: suite, dataset, metric, method -> mean; and verdicts counted by word, those of
    sanity checks apart."""
    out: dict[str, Any] = {}
    for r in rows:
        if r.mean is not None:
            out.setdefault(r.suite, {}).setdefault(r.dataset, {}).setdefault(r.metric, {})[r.method] = r.mean
    for v in found:
        counts = out.setdefault(v.suite, {}).setdefault("sanity" if v.sanity else "verdicts", {})
        counts[v.verdict] = counts.get(v.verdict, 0) + 1
    return out


def curves(gathered: Sequence[Gathered]) -> str:
    """Training losses as CSV: mean over the seeds of each method, at the steps that all of them logged.

    Only curves count that hash to what their records say.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CURVE_COLUMNS)
    for g in gathered:
        sums: dict[tuple[str, str, float], list[float]] = {}
        for run, record in g.collected.found.items():
            if record.status == "finished" and (curve := curve_of(record, g.collected.path(run))) is not None:
                for epoch, loss in _curve(curve):
                    sums.setdefault((record.dataset, record.method, epoch), []).append(loss)
        for (dataset, method, epoch), losses in sums.items():
            named = map(cell, (g.loaded.suite.id, g.tier, dataset, method))
            writer.writerow([*named, epoch, sum(losses) / len(losses)])
    return text.getvalue()


def damaged_curves(gathered: Sequence[Gathered]) -> list[str]:
    """The learning curves that `curves` leaves out since they are not those that their runs left, as messages."""
    found = ((r, g.collected.path(run)) for g in gathered for run, r in g.collected.found.items())
    return [
        f"{shown(folder_of(path) / CURVE)}: it does not hash to what its record says"
        for record, path in found
        if record.status == "finished" and is_curve_damaged(record, path)
    ]


def _curve(text: str) -> Iterator[tuple[float, float]]:
    """Epochs and training losses of a learning curve; a line that is none is passed over."""
    for line in csv.DictReader(io.StringIO(text, newline="")):
        try:
            epoch, loss = float(line["epoch"]), float(line["loss"])
        except (KeyError, TypeError, ValueError):
            continue
        if math.isfinite(epoch) and math.isfinite(loss):
            yield round(epoch, 4), loss


def _json(value: Any) -> str:
    return to_json(value, 1) + "\n"
