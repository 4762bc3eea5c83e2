"""Tables for papers, spreadsheets and programs: LaTeX (booktabs), Markdown, CSV, Parquet, JSON.

A reader's table is a `Sheet`: text in columns, with what must be known of it. A program's is rows of plain values. Both
come with the revision that made them and the date.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from latentbench import __version__
from latentbench.core import escape
from latentbench.core.console import printable
from latentbench.results.gather import Gathered
from latentbench.results.leaderboard import revisions
from latentbench.running.provenance import git_state

LEGEND = (
    "★: the 95 % interval of the difference to every other method excludes zero; ≈: of those marked, none can be told "
    "from the leading one"
)


@dataclass(frozen=True)
class Sheet:
    """One table for readers.

    Attributes:
        title: what it shows.
        columns, rows: text.
        right: columns whose cells stand to the right.
        notes: what must be known of it: legend, deviations, identity, revisions.
        strong: rows that are set in bold.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    right: Sequence[str] = ()
    notes: Sequence[str] = ()
    strong: frozenset[int] = field(default=frozenset())


def made_with() -> str:
    """Version, revision and day, for the foot of a table."""
    revision, dirty = git_state()
    at = f" (revision {revision[:10]}{', with changes' if dirty else ''})" if revision else ""
    return f"latentbench {__version__}{at}, {datetime.now(UTC):%Y-%m-%d}"


def dated(gathered: Gathered) -> dict[str, str]:
    """Revisions of the code that made a suite's records, and the day of the newest: what programs' rows have too."""
    records = list(gathered.collected.found.values())
    return {
        "revision": ", ".join(revisions(records)),
        "date": max((r.provenance.ended[:10] for r in records), default=""),
    }


def as_markdown(sheets: Sequence[Sheet], made: str) -> str:
    """The sheets one after another."""
    lines: list[str] = []
    for sheet in sheets:
        lines += [f"### {escape.markdown(sheet.title)}", ""]
        lines.append("| " + " | ".join(escape.markdown(c) for c in sheet.columns) + " |")
        lines.append("| " + " | ".join("--:" if c in sheet.right else "---" for c in sheet.columns) + " |")
        for k, row in enumerate(sheet.rows):
            cells = [escape.markdown(c) for c in row]
            cells = [f"**{c}**" if c and k in sheet.strong else c for c in cells]
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
        lines += [f"- {escape.markdown(note)}" for note in sheet.notes]
        lines += [""] if sheet.notes else []
    return "\n".join([*lines, f"_{escape.markdown(made)}_", ""])


_SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "★": r"$\star$", "≈": r"$\approx$", "±": r"$\pm$", "≥": r"$\geq$", "≤": r"$\leq$", "−": "$-$", "…": r"\ldots{}",
    "|": r"\textbar{}", "·": r"$\cdot$", "×": r"$\times$", "β": r"$\beta$", "λ": r"$\lambda$", "σ": r"$\sigma$",
}  # fmt: skip


def latex(text: str) -> str:
    """`text` as LaTeX that shows it as it is."""
    plain = " ".join(printable(text).split())
    escaped = "".join(_SPECIAL.get(c, c) for c in plain)
    return re.sub(r"(?<![\w$])-(?=\d)", "$-$", escaped)


def as_latex(sheets: Sequence[Sheet], made: str) -> str:
    """A ``table`` with booktabs' rules for each sheet; it needs ``\\usepackage{booktabs}``."""
    lines = [f"% {latex(made)}", "% needs \\usepackage{booktabs}"]
    for sheet in sheets:
        sides = "".join("r" if c in sheet.right else "l" for c in sheet.columns)
        label = re.sub(r"[^A-Za-z0-9]+", "-", sheet.title).strip("-").lower()[:60]
        lines += ["\\begin{table}", "  \\centering", f"  \\caption{{{latex(sheet.title)}.}}"]
        lines += [f"  \\label{{tab:{label}}}", f"  \\begin{{tabular}}{{{sides}}}", "    \\toprule"]
        lines += ["    " + " & ".join(latex(c) for c in sheet.columns) + " \\\\", "    \\midrule"]
        for k, row in enumerate(sheet.rows):
            cells = [latex(c) for c in row]
            cells = [f"\\textbf{{{c}}}" if c and k in sheet.strong else c for c in cells]
            lines.append("    " + " & ".join(cells) + " \\\\")
        lines += ["    \\bottomrule", "  \\end{tabular}"]
        lines += [f"  \\par\\smallskip\\footnotesize {latex(note)}." for note in sheet.notes]
        lines += ["\\end{table}", ""]
    return "\n".join(lines)


def as_csv(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """CSV whose texts no spreadsheet takes for formulas; what is no number or text stands as JSON."""
    import pandas as pd

    plain = [{c: _flat(r.get(c)) for c in columns} for r in rows]
    text: str = pd.DataFrame(plain, columns=list(columns)).to_csv(index=False)
    return text


def as_json(rows: Sequence[Mapping[str, Any]]) -> str:
    """A list of objects, indented; the same text for the same values."""
    return json.dumps(list(rows), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def as_parquet(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], made: str) -> bytes:
    """A Parquet file, with what made it among its metadata (``latentbench``)."""
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    frame = pd.DataFrame([{c: _nested(r.get(c)) for c in columns} for r in rows], columns=list(columns))
    table = pa.Table.from_pandas(frame, preserve_index=False)
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), b"latentbench": made.encode()})
    out = io.BytesIO()
    pq.write_table(table, out)
    return out.getvalue()


def _flat(value: Any) -> Any:
    if isinstance(value, dict | list | tuple):
        value = json.dumps(value, ensure_ascii=False)
    return escape.cell(value) if isinstance(value, str) else value


def _nested(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else value
