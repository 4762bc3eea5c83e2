"""Who follows a run: wandb, TensorBoard, and who makes its pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from latentbench.pictures.writing import Photographer
from latentbench.running.observer import Observer
from latentbench.scheduling.event_files import EventFiles
from latentbench.scheduling.tracking import track_run

if TYPE_CHECKING:
    from latentbench.planning.plan import RunSpec
    from latentbench.records.record import Record
    from latentbench.running.settings import Settings


class Followers:
    """Several observers as one; each is told in turn."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = observers

    def log(self, row: Mapping[str, Any]) -> None:
        for observer in self._observers:
            observer.log(row)

    def ended(self, record: Record) -> None:
        for observer in self._observers:
            observer.ended(record)

    def interrupted(self) -> None:
        for observer in self._observers:
            observer.interrupted()


def follow_run(spec: RunSpec, settings: Settings, run_id: str) -> Observer:
    """Everybody who follows a run; pictures come first, so that the others can have them."""
    pictures = [Photographer(spec, settings, run_id)] if settings.pictures and settings.weights else []
    events = [EventFiles(spec, settings, run_id)] if settings.tensorboard else []
    return Followers([*pictures, *events, track_run(spec, settings, run_id)])
