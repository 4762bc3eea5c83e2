"""TensorBoard's event files of a run: its curve, its configuration and numbers, its pictures."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from latentbench.core.console import note
from latentbench.core.paths import stays_inside
from latentbench.records.pictures import FOLDER as PICTURES
from latentbench.scheduling.tracking import summary_of

if TYPE_CHECKING:
    from latentbench.planning.plan import RunSpec
    from latentbench.records.record import Record
    from latentbench.running.settings import Settings


class EventFiles:
    """An `Observer`. It writes as it is told, each row at once; once that fails, it says so and writes no more."""

    def __init__(self, spec: RunSpec, settings: Settings, run_id: str) -> None:
        self._spec, self._run = spec, settings.results / "runs" / spec.suite / run_id
        self._folder = settings.results / "tensorboard" / spec.suite / run_id
        self._file: Any = None
        self._step, self._failed = 0, False

    def log(self, row: Mapping[str, Any]) -> None:
        self._step = int(row["step"])
        self._write({k: v for k, v in row.items() if k != "step"})

    def ended(self, record: Record) -> None:
        self._write(summary_of(record), record)
        self.interrupted()

    def interrupted(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, values: Mapping[str, Any], record: Record | None = None) -> None:
        if self._failed:
            return
        try:
            from tensorboardX.proto.event_pb2 import Event, SessionLog
            from tensorboardX.summary import scalar

            if self._file is None:
                self._file = self._open()  # what a file from before an interruption has of later steps counts no more
                start = SessionLog(status=SessionLog.START)
                self._file.write_event(Event(wall_time=time.time(), step=self._step, session_log=start))
            numbers = {k: float(v) for k, v in values.items() if isinstance(v, int | float)}
            summaries = [scalar(k, v) for k, v in numbers.items()]
            for summary in [*summaries, *(self._outcome(record, numbers) if record is not None else ())]:
                self._file.write_event(Event(wall_time=time.time(), step=self._step, summary=summary))
            self._file.flush()
        except Exception as e:  # a full disk, a folder that nobody can write to
            self._failed = True
            note(f"TensorBoard's files of {self._run.name} end here ({type(e).__name__}); the run goes on")

    def _open(self) -> Any:
        from tensorboardX.event_file_writer import EventsWriter

        stays_inside(self._folder, self._folder.parents[1]).mkdir(parents=True, exist_ok=True)
        return EventsWriter(str(self._folder / "events"), f".{uuid.uuid4().hex[:8]}")

    def _outcome(self, record: Record, numbers: Mapping[str, float]) -> Iterator[Any]:
        """What TensorBoard compares runs by, and pictures."""
        import numpy as np
        from PIL import Image
        from tensorboardX.summary import hparams, image

        named = {k: getattr(self._spec, k) for k in ("suite", "tier", "method", "dataset", "seed")}
        yield from hparams({**named, "status": record.status}, numbers)
        for path in sorted((self._run / PICTURES).glob("*.png")):
            with Image.open(path) as picture:
                yield image(f"pictures/{path.stem}", np.asarray(picture.convert("RGB")), dataformats="HWC")
