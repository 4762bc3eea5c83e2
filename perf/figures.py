"""What a benchmark comes to: a figure with an interval, a target where one is set, and what stands behind it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

Unit = Literal["ratio", "s", "GiB"]


@dataclass(frozen=True)
class Figure:
    """One measured figure.

    Attributes:
        name: ``benchmark/case``, the same from run to run.
        what: what was measured against what, in a line.
        value: a ratio (time of the first over time of the second, below 1 is faster), seconds, or memory.
        low, high: 95 % bootstrap interval of `value`.
        unit: ``ratio``, ``s`` or ``GiB``; less is better in all of them.
        target: `value` is to be at most this; None where it is for information.
        repeats: timed repeats behind it.
        details: further numbers worth keeping (seconds of each side, sizes, checks).
    """

    name: str
    what: str
    value: float
    low: float
    high: float
    unit: Unit = "ratio"
    target: float | None = None
    repeats: int = 0
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None where there is none."""
        return None if self.target is None else self.value <= self.target

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "met": self.met}

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Figure:
        """The figure that `as_dict` wrote; keys that it does not know are left out."""
        known = {f.name for f in fields(cls)}
        return cls(**{k: v for k, v in data.items() if k in known})


#: A benchmark takes whether it is to be quick (smaller sizes, the same repeats) and returns its figures.
Benchmark = Callable[[bool], list[Figure]]
