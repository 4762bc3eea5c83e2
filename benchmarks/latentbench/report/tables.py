"""The paper's own tables with our numbers beside its: the same rows and columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from latentbench.report.findings import SuiteFindings, TierFindings
from latentbench.report.strips import Strip, track
from latentbench.report.svg import Scale
from latentbench.report.wording import decimals, digits_of, number
from latentbench.report.words import Word, word, word_of
from latentbench.results.verdicts import ClaimVerdict
from latentbench.spec.claims import ValueClaim
from latentbench.spec.registry import find_metric
from latentbench.spec.suite import Reported, Suite
from latentbench.stats.wording import behind


@dataclass(frozen=True)
class Cell:
    """A number of the paper beside ours, coloured by `word`; `reason` says why it has that colour."""

    where: str
    paper: str
    ours: str
    spread: str
    difference: str
    word: Word
    reason: str
    note: str | None
    drawing: Markup


@dataclass(frozen=True)
class Heading:
    """A column: its name, and above it what several columns share (a dataset)."""

    name: str
    above: str = ""
    unit: str = ""


@dataclass(frozen=True)
class Table:
    """A table of the paper. Cells are None where the paper has no number."""

    name: str
    source: str
    origin: str | None
    columns: list[Heading]
    rows: list[tuple[str, list[Cell | None]]]
    tier: str
    judged: bool

    @property
    def groups(self) -> list[tuple[str, int]]:
        """What stands above the columns, with how many it spans; empty where that says nothing."""
        found: list[tuple[str, int]] = []
        for column in self.columns:
            if found and found[-1][0] == column.above:
                found[-1] = (column.above, found[-1][1] + 1)
            else:
                found.append((column.above, 1))
        return found if any(name for name, _ in found) else []

    @property
    def cells(self) -> list[Cell]:
        return [c for _, row in self.rows for c in row if c is not None]


#: Whose number it is, where it is not the paper's own.
ORIGINS = {
    "authors_repo": "from the authors' code",
    "abstract": "from the abstract",
    "secondary": "as others report it",
    "secondary_quote": "as others quote it",
    "memory": "from memory, unchecked",
    "later_paper": "from a later paper",
}


def paper_tables(found: SuiteFindings, tier: TierFindings | None) -> list[Table]:
    """The tables of a suite's paper, in the order of the suite, with the numbers of a tier."""
    groups: dict[tuple[str, str, str], list[Reported]] = {}
    for number_ in found.loaded.suite.reported:
        groups.setdefault((number_.table, number_.source, number_.origin), []).append(number_)
    return [_table(found, tier, *key, numbers) for key, numbers in groups.items()]


def _table(
    found: SuiteFindings, tier: TierFindings | None, name: str, source: str, origin: str, numbers: Sequence[Reported]
) -> Table:
    suite = found.loaded.suite
    several = len({n.dataset for n in numbers if not _says_dataset(n)}) > 1
    rows: dict[str, dict[Heading, Reported]] = {}
    columns: dict[Heading, list[Reported]] = {}
    for each in numbers:
        heading = _heading(suite, each, several)
        row = rows.setdefault(_named(suite, each.row or each.method), {})
        while heading in row:  # two numbers of one place, such as an older release's: both are shown
            heading = Heading(heading.name + " ", heading.above, heading.unit)
        row[heading] = each
        columns.setdefault(heading, []).append(each)
    headings = sorted(columns, key=lambda h: _first(columns, h))
    alike: dict[tuple[str, str], list[Reported]] = {}
    for each in numbers:
        alike.setdefault((each.dataset, each.metric), []).append(each)
    scales = {key: _scale(tier, each) for key, each in alike.items()}
    printed = {h: max(digits_of(n.value) for n in columns[h]) for h in headings}
    table: list[tuple[str, list[Cell | None]]] = []
    for label, there in rows.items():
        cells = [
            _cell(suite, tier, n, scales[n.dataset, n.metric], printed[h]) if (n := there.get(h)) is not None else None
            for h in headings
        ]
        table.append((label, cells))
    judged = tier is not None and tier.tier == "paper"
    told = ORIGINS.get(origin) if origin not in ("paper_text", "paper_table_extract") else None
    return Table(name, source, told, headings, table, tier.tier if tier else "", judged)


def _first(columns: dict[Heading, list[Reported]], heading: Heading) -> int:
    """Where the first column with the same heading above it stands, so that those stay side by side."""
    return next(i for i, h in enumerate(columns) if h.above == heading.above)


def _heading(suite: Suite, number_: Reported, several: bool) -> Heading:
    unit = behind(number_.unit)
    if number_.column is not None and number_.column != number_.metric:
        name = _named(suite, number_.column)
    else:
        name = number_.metric if number_.row != number_.metric else number_.method
    above = number_.dataset if several and not _says_dataset(number_) else ""
    if number_.row == number_.metric:
        unit = ""
    return Heading(name, "" if above == name else above, unit)


def _says_dataset(number_: Reported) -> bool:
    """Whether its row or column is named after the dataset: `nltcs` for debd-nltcs."""
    return any(part is not None and part in number_.dataset for part in (number_.row, number_.column))


def _named(suite: Suite, name: str) -> str:
    """A method by its label; anything else as it is."""
    method = suite.methods.get(name)
    return (method.label or name) if method else name


def _scale(tier: TierFindings | None, numbers: Sequence[Reported]) -> Scale:
    extent = [n.value for n in numbers]
    for n in numbers:
        if tier is not None:
            extent += tier.values(n.method, n.dataset, n.metric).values()
    return Scale.over(extent, start=0.05, end=0.95)


def _cell(suite: Suite, tier: TierFindings | None, reported: Reported, scale: Scale, decimals_: int) -> Cell:
    where = f"{_named(suite, reported.method)}, {reported.metric} on {reported.dataset}"
    row = tier.row_of.get((reported.method, reported.dataset, reported.metric)) if tier is not None else None
    half = None if row is None or row.ci_low is None or row.ci_high is None else (row.ci_high - row.ci_low) / 2
    digits = decimals(half, row.mean if row else None)
    printed = number(reported.value, decimals_)
    if reported.std is not None:
        printed += f" ± {number(reported.std, digits_of(reported.std))}"
    verdict = _value_verdict(suite, tier, reported)
    values: list[float] = []
    if row is None or row.mean is None or tier is None:
        told, reason = word("not-run"), f"{where}: no result yet; the paper reports {printed} {_unit(reported)}"
    elif row.impossible:
        told, reason = word("impossible"), f"{where}: {row.impossible}"
        values = list(tier.values(reported.method, reported.dataset, reported.metric, row.identity).values())
    else:
        values = list(tier.values(reported.method, reported.dataset, reported.metric, row.identity).values())
        if verdict is not None and verdict.n:
            told, reason = word_of(verdict), verdict.text
        else:
            told = word_of(None) if not values else Word("information", "for information", "i", "shown, not judged")
            reason = _plainly(where, row.mean, half, len(values), digits, printed, reported)
            reason += ", and no claim of the suite is about this cell"
    strip = Strip(
        label=where,
        values=values,
        mean=row.mean if row else None,
        low=row.ci_low if row else None,
        high=row.ci_high if row else None,
        reported=reported.value,
    )
    return Cell(
        where=where,
        paper=printed,
        ours=number(row.mean, digits) if row and row.mean is not None else "–",
        spread=f"± {number(half, digits)}" if half else "",
        difference=number(row.difference, digits, sign=True) if row and row.difference is not None else "",
        word=told,
        reason=reason.rstrip(),
        note=reported.note,
        drawing=track(strip, scale, unit=_unit(reported), height=18, grid=False),
    )


def _plainly(where: str, mean: float, half: float | None, n: int, digits: int, printed: str, reported: Reported) -> str:
    unit = _unit(reported)
    interval = f" ± {number(half, digits)} (95% interval, n = {n} seeds)" if half else f" (n = {n})"
    gap = number(mean - reported.value, digits, sign=True)
    return (
        f"{where}: {number(mean, digits)}{interval} {unit}".rstrip() + f"; the paper reports {printed}, {gap} from it"
    )


def _unit(reported: Reported) -> str:
    return behind(reported.unit)


def _value_verdict(suite: Suite, tier: TierFindings | None, reported: Reported) -> ClaimVerdict | None:
    """The verdict on the claim that this cell comes out again, if the suite makes one."""
    if tier is None:
        return None
    for claim in suite.claims:
        if isinstance(claim, ValueClaim) and (claim.method, claim.dataset, claim.metric) == (
            reported.method,
            reported.dataset,
            reported.metric,
        ):
            return tier.by_claim.get(claim.id)
    return None


def unit_of(suite: Suite, metric: str) -> str:
    """A metric's unit as it stands behind a number; nothing for pure numbers."""
    unit = find_metric(suite.metric_name(metric)).unit
    return behind(unit)
