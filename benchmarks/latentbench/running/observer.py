"""Who is told of a run while it goes on; nothing that they do changes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from latentbench.planning.plan import RunSpec
    from latentbench.records.record import Record
    from latentbench.running.settings import Settings


@dataclass(frozen=True)
class ProgressReport:
    """What a run does now: the phase, and how far a training has come."""

    cell: str
    phase: str
    step: int = 0
    steps: int = 0
    samples_per_second: float = 0.0


#: Is told what a run does now.
Report = Callable[[ProgressReport], None]


class Observer(Protocol):
    """Follows one run's results as they come. It raises nothing, and does not keep the run waiting."""

    def log(self, row: Mapping[str, Any]) -> None:
        """A row of the learning curve; its ``step`` says where."""
        ...

    def ended(self, record: Record) -> None:
        """The run has its record."""
        ...

    def interrupted(self) -> None:
        """The process was asked to stop; the run's state has been saved."""
        ...


#: The observer of a run that is about to begin.
Observe = Callable[["RunSpec", "Settings", str], Observer]
"""Of its specification, the settings, and its run id."""


class Unobserved:
    """Nobody follows the run."""

    def __init__(self, *run: Any) -> None: ...

    def log(self, row: Mapping[str, Any]) -> None: ...

    def ended(self, record: Record) -> None: ...

    def interrupted(self) -> None: ...
