"""Strips: seeds as dots, mean and interval over them, on one scale, with what they are held against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from latentbench.report.svg import Scale, element, joined, percent, picture
from latentbench.report.wording import decimals, number, plural

HEIGHT = 26
AXIS_HEIGHT = 22


@dataclass(frozen=True)
class Strip:
    """One row: a method with its seeds.

    Attributes:
        label: its name.
        values: by seed.
        mean, low, high: over the seeds; the ends are None where they cannot be told.
        reported: the paper's number.
        tone: class of its colour.
        seeds: how many are behind it, where their values are not shown.
        bar, dot: what the interval is, and what a value is of.
    """

    label: str
    values: Sequence[float]
    mean: float | None
    low: float | None = None
    high: float | None = None
    reported: float | None = None
    tone: str = ""
    seeds: int | None = None
    bar: str = "95% interval"
    dot: str = "seed"

    @property
    def extent(self) -> list[float]:
        return [v for v in (*self.values, self.mean, self.low, self.high, self.reported) if v is not None]

    def in_words(self, unit: str) -> str:
        """What the drawing shows."""
        if self.mean is None:
            said = f"{self.label}: no result"
        else:
            half = None if self.low is None or self.high is None else (self.high - self.low) / 2
            digits = decimals(half, self.mean)
            said = f"{self.label}: {number(self.mean, digits)} {unit}".rstrip()
            if self.low is not None and self.high is not None:
                said += f", {self.bar} {number(self.low, digits)} to {number(self.high, digits)}"
            n = len(self.values) if self.seeds is None else self.seeds
            said += f", {plural(n, self.dot)}" if n else ""
        return said + (f"; the paper reports {number(self.reported)}" if self.reported is not None else "")


@dataclass(frozen=True)
class Against:
    """What strips are held against: a line (a limit, zero), or a band (a tolerance) around it."""

    value: float
    label: str
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Drawn:
    """A strip as a page shows it, and its number in text."""

    strip: Strip
    drawing: Markup
    text: str


@dataclass(frozen=True)
class StripChart:
    """Strips below each other on one scale, with an axis."""

    rows: list[Drawn]
    axis: Markup
    unit: str
    against: Against | None = None
    scale: Scale = field(default_factory=lambda: Scale(0, 1))


def chart(strips: Sequence[Strip], unit: str = "", against: Against | None = None) -> StripChart:
    """Draw strips on the scale that shows them all."""
    extent = [v for s in strips for v in s.extent]
    if against is not None:
        extent += [v for v in (against.value, against.low, against.high) if v is not None]
    scale = Scale.over(extent, start=0.02, end=0.98, room=0.03)
    rows = [Drawn(s, track(s, scale, against, unit), said(s)) for s in strips]
    return StripChart(rows, axis(scale), unit, against, scale)


def said(strip: Strip) -> str:
    """The mean and half the interval: ``97.00 ± 0.40``."""
    if strip.mean is None:
        return "–"
    if strip.low is None or strip.high is None:
        return number(strip.mean)
    half = (strip.high - strip.low) / 2
    digits = decimals(half, strip.mean)
    return number(strip.mean, digits) + (f" ± {number(half, digits)}" if half else "")


def track(
    strip: Strip,
    scale: Scale,
    against: Against | None = None,
    unit: str = "",
    height: int = HEIGHT,
    grid: bool = True,
    controls: Sequence[Against] = (),
) -> Markup:
    """The drawing of one strip; `controls` are further lines, such as a floor and a ceiling."""
    middle = percent(0.5)
    parts: list[Markup] = []
    if against is not None and against.low is not None and against.high is not None:
        left, right = scale.at(against.low), scale.at(against.high)
        parts.append(element("rect", x=percent(left), width=percent(right - left), y=0, height="100%", class_="band"))
    if grid:
        parts += [line(scale.place(t), "grid") for t in scale.ticks()]
    if against is not None:
        parts.append(line(scale.place(against.value), "against"))
    parts += [line(scale.place(c.value), "control") for c in controls]
    if strip.low is not None and strip.high is not None:
        ends = {"x1": scale.place(strip.low), "x2": scale.place(strip.high)}
        parts.append(element("line", y1=middle, y2=middle, class_="interval", **ends))
    parts += [element("circle", cx=scale.place(v), cy=middle, r=2.6, class_="seed") for v in strip.values]
    if strip.mean is not None:
        x = scale.place(strip.mean)
        parts.append(element("line", x1=x, x2=x, y1=percent(0.2), y2=percent(0.8), class_="mean"))
    if strip.reported is not None:
        parts.append(diamond(scale.place(strip.reported), middle))
    return picture(*parts, label=strip.in_words(unit), height=height, class_=f"strip {strip.tone}".strip())


def diamond(x: str, y: str) -> Markup:
    """The paper's number: a diamond whose middle stands at (x, y)."""
    mark = element("path", d="M0-5 4.5 0 0 5-4.5 0Z", class_="reported")
    return element("svg", mark, x=x, y=y, overflow="visible", width=1, height=1)


def line(x: str, class_: str) -> Markup:
    """A line from top to bottom."""
    return element("line", x1=x, x2=x, y1=0, y2="100%", class_=class_)


def axis(scale: Scale, most: int = 5) -> Markup:
    """The scale's numbers; it says nothing that is not said in words, so readers of screens pass over it."""
    marks = scale.labelled(most)
    texts = joined(element("text", label, x=scale.place(v), y=14, text_anchor="middle") for v, label in marks)
    ticks = joined(element("line", x1=scale.place(v), x2=scale.place(v), y1=0, y2=4, class_="tick") for v, _ in marks)
    return element("svg", ticks, texts, class_="fig axis", width="100%", height=AXIS_HEIGHT, aria_hidden="true")
