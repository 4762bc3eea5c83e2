"""Drawings of two dimensions: learning curves, and quality against cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup

from latentbench.report.svg import Scale, element, percent, picture

#: Colours that the stylesheet has for series; a further series takes the first again, with another dash.
COLOURS = 8
MOST_POINTS = 120
#: Where curves fall by more than this, their axis is logarithmic.
STEEP = 100.0


@dataclass(frozen=True)
class Series:
    """A learning curve: `tone` is the number of its colour; seeds of a method share it."""

    name: str
    tone: int
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Point:
    """A method by what it costs and how good it is; `best` where none is better at no higher cost."""

    name: str
    mark: str
    x: float
    y: float
    best: bool = False


def curves(series: Sequence[Series], *, label: str, height: int = 220) -> Markup:
    """Curves over one horizontal axis. The axis holds what 98 % of the values need: a first step's spike is cut off."""
    shown = [thinned(s.points) for s in series]
    xs = [x for points in shown for x, _ in points]
    ys = sorted(y for points in shown for _, y in points)
    if not ys:
        return Markup("")
    inner = ys[: max(2, math.ceil(0.98 * len(ys)))]
    log = inner[0] > 0 and inner[-1] / inner[0] > STEEP
    x, y = Scale.over(xs, room=0.0), Scale.over(inner, log=log, room=0.06, start=1.0, end=0.0)
    lines = [_polyline(s, points, x, y) for s, points in zip(series, shown, strict=True)]
    plot = element(
        "svg", *lines, viewBox="0 0 1000 1000", preserveAspectRatio="none", width="100%", height="100%", class_="lines"
    )
    return picture(*_grid(x, y), plot, label=label, height=height, class_="plot")


def thinned(points: Sequence[tuple[float, float]], most: int = MOST_POINTS) -> list[tuple[float, float]]:
    """At most `most` of the points, first and last among them."""
    if len(points) <= most:
        return list(points)
    step = (len(points) - 1) / (most - 1)
    return [points[round(i * step)] for i in range(most)]


def _polyline(series: Series, points: Sequence[tuple[float, float]], x: Scale, y: Scale) -> Markup:
    path = " ".join(f"{1000 * x.at(a):.4g},{1000 * y.at(b):.4g}" for a, b in points)
    dashed = " dashed" if series.tone >= COLOURS else ""
    return element(
        "polyline",
        element("title", series.name),
        points=path,
        class_=f"c{series.tone % COLOURS}{dashed}",
        vector_effect="non-scaling-stroke",
    )


def _grid(x: Scale, y: Scale) -> list[Markup]:
    parts: list[Markup] = []
    for value, text in y.labelled(4):
        at = y.place(value)
        parts.append(element("line", x1=0, x2="100%", y1=at, y2=at, class_="grid"))
        parts.append(element("text", text, x=2, y=at, dy="-3", class_="tick-y"))
    for value, text in x.labelled(5):
        share = x.at(value)
        anchor = "start" if share < 0.03 else "end" if share > 0.97 else "middle"
        parts.append(element("text", text, x=percent(share), y="100%", dy="-3", text_anchor=anchor, class_="tick-x"))
    return parts


def pareto(points: Sequence[Point], better: str) -> list[Point]:
    """The points, those best that no other one beats in cost and value."""
    sign = -1 if better == "higher" else 1
    found, least = set(), math.inf
    for i in sorted(range(len(points)), key=lambda i: (points[i].x, sign * points[i].y)):
        if sign * points[i].y < least:
            least = sign * points[i].y
            found.add(i)
    return [replace(p, best=i in found) for i, p in enumerate(points)]


def scatter(points: Sequence[Point], *, label: str, height: int = 300) -> Markup:
    """Points over a logarithmic cost, each with its mark; those that nothing beats are joined."""
    x = Scale.over((p.x for p in points), log=True, room=0.08, start=0.02, end=0.98)
    y = Scale.over((p.y for p in points), room=0.12, start=1.0, end=0.0)
    front = sorted((p for p in points if p.best), key=lambda p: p.x)
    parts = _grid(x, y)
    steps = " ".join(f"{1000 * x.at(p.x):.4g},{1000 * y.at(p.y):.4g}" for p in front)
    joined = element("polyline", points=steps, class_="front", vector_effect="non-scaling-stroke")
    parts.append(
        element("svg", joined, viewBox="0 0 1000 1000", preserveAspectRatio="none", width="100%", height="100%")
    )
    for p in sorted(points, key=lambda p: p.best):
        at = {"x": x.place(p.x), "y": y.place(p.y)}
        disc = element("circle", element("title", p.name), cx=at["x"], cy=at["y"], r=9)
        mark = element("text", p.mark, dy=4, text_anchor="middle", **at)
        parts.append(element("g", disc, mark, class_="on-front" if p.best else "behind"))
    return picture(*parts, label=label, height=height, class_="plot scatter")
