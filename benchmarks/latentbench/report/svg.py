"""SVG elements as text, escaped; and the scales that place numbers on them.

Positions are per cent of the drawing's width or height, so that a drawing fills any width and its text and points keep
their size. Colours are classes of the site's stylesheet, which knows light, dark and print.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from latentbench.report.wording import clean

#: What is less stands here on a logarithmic scale, whose room on both sides must not vanish.
TINY = 1e-250


def element(name: str, /, *children: Markup | str, **attributes: object) -> Markup:
    """``<name …>children</name>``; ``_`` in an attribute's name is ``-``, None leaves it out, `class_` is ``class``."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(clean(str(value)))}"'
        for key, value in attributes.items()
        if value is not None
    )
    inner = "".join(child if isinstance(child, Markup) else escape(clean(child)) for child in children)
    return Markup(f"<{name}{given}>{inner}</{name}>" if inner else f"<{name}{given}/>")


def joined(parts: Iterable[Markup]) -> Markup:
    return Markup("").join(parts)


def picture(*children: Markup, label: str, height: int, class_: str = "", width: str = "100%") -> Markup:
    """A drawing of its own, `height` pixels high; `label` says in words what it shows."""
    return element(
        "svg", *children, class_=f"fig {class_}".strip(), role="img", aria_label=label, width=width, height=height
    )


def percent(share: float) -> str:
    """0.125 as ``12.5%``."""
    return f"{100 * share:.4g}%"


@dataclass(frozen=True)
class Scale:
    """Places numbers of [low, high] on [start, end], shares of a drawing; logarithmic where it says so."""

    low: float
    high: float
    log: bool = False
    start: float = 0.0
    end: float = 1.0

    @classmethod
    def over(
        cls,
        values: Iterable[float | None],
        *,
        log: bool = False,
        room: float = 0.04,
        start: float = 0.0,
        end: float = 1.0,
    ) -> Scale:
        """One that shows all the values, with a little room on both sides."""
        known = [v for v in values if v is not None and math.isfinite(v) and (v > 0 or not log)]
        if not known:
            return cls(1.0 if log else 0.0, 10.0 if log else 1.0, log, start, end)
        low, high = min(known), max(known)
        if log:
            low, high = math.log10(max(low, TINY)), math.log10(max(high, TINY))
        if high - low <= 1e-12 * max(abs(low), abs(high), 1e-300):
            pad = 0.5 if log else max(abs(low) * 0.05, 1e-9)
        else:
            pad = room * (high - low)
        low, high = low - pad, high + pad
        return cls(10**low, 10**high, log, start, end) if log else cls(low, high, log, start, end)

    def at(self, value: float) -> float:
        """The share of the drawing at which a number stands, held within the scale."""
        if self.log:
            share = (math.log10(max(value, TINY)) - math.log10(self.low)) / (
                math.log10(self.high) - math.log10(self.low)
            )
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + min(1.0, max(0.0, share)) * (self.end - self.start)

    def place(self, value: float) -> str:
        return percent(self.at(value))

    def ticks(self, most: int = 5) -> list[float]:
        """Round numbers within the scale."""
        if self.log:
            first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
            if last > first:
                every = max(1, math.ceil((last - first + 1) / most))
                return [10.0**p for p in range(first, last + 1, every)]
        span = self.high - self.low
        step = 10.0 ** math.floor(math.log10(span / most))
        step *= next((m for m in (1, 2, 5, 10) if span / (step * m) <= most), 10)
        first_tick = math.ceil(self.low / step - 1e-9)
        return [float(f"{i * step:.12g}") + 0.0 for i in range(first_tick, math.floor(self.high / step + 1e-9) + 1)]

    def labelled(self, most: int = 5) -> list[tuple[float, str]]:
        """Ticks with their text."""
        ticks = self.ticks(most)
        return list(zip(ticks, tick_labels(ticks)))


def tick_labels(ticks: Sequence[float]) -> list[str]:
    """As many digits as tell neighbours apart."""
    plain = all(t == 0 or 1e-3 <= abs(t) < 1e6 for t in ticks)
    labels: list[str] = []
    for digits in range(13):
        labels = [f"{t:.{digits}f}" if plain else f"{t:.{digits}e}" for t in ticks]
        exact = all(float(label) == float(f"{t:.12g}") for label, t in zip(labels, ticks))
        if exact and len(set(labels)) == len(ticks):
            break
    return [label.replace("e+0", "e").replace("e-0", "e-").replace("-", "\N{MINUS SIGN}") for label in labels]
