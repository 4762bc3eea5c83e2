"""Weights of stages that are runs of their own, under ``results/stages/<fingerprint>/``: trained once, for all runs.

They have the form of checkpoints: safetensors under their sha256, written whole or not at all, never unpickled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from latentbench.core.errors import UserError
from latentbench.core.paths import shown
from latentbench.planning.plan import RunSpec
from latentbench.running.checkpoints import Checkpoints

if TYPE_CHECKING:
    from latentbench.training.in_stages import Weights
    from latentbench.training.state import Checkpointer, Trained

#: Seconds between two looks at whether this process, which waits for another, has been asked to stop.
PATIENCE = 0.5


class StageStore:
    """`latentbench.running.experiment.SharedStages` in a folder of results.

    Args:
        results: folder of the records.
        data_hash: of the runs' data.
        every, stopping, say: as those of `Checkpoints`.
    """

    def __init__(
        self, results: Path, data_hash: str, every: float, stopping: Callable[[], bool], say: Callable[[str], None]
    ) -> None:
        self._results, self._data_hash = results, data_hash
        self._every, self._stopping, self._say = every, stopping, say

    def take(
        self, stage: RunSpec, train: Callable[[Checkpointer | None], tuple[Weights, Trained]]
    ) -> tuple[Weights, Trained, str]:
        """The stage's weights, trained here unless they are there or another process is at it, which is waited for.

        Raises:
            KeyboardInterrupt: the process was asked to stop; the state of the stage's training has been saved.
            UserError: the folder cannot be written.
        """
        from latentbench.training.state import Trained

        fingerprint = stage.fingerprint(self._data_hash)
        folder = self._results / "stages" / fingerprint
        with self._held(folder):
            product = self._checkpoints(folder / "weights", fingerprint)
            if (found := product.latest()) is None:
                under_way = self._checkpoints(folder / "checkpoint", fingerprint)
                weights, trained = train(under_way)
                product.save(trained.steps, {"out": asdict(trained), "finished": True, "model": dict(weights)})
                under_way.clear()
            else:
                weights, trained = found["model"], Trained(**found["out"])
        return weights, trained, fingerprint

    def _checkpoints(self, folder: Path, fingerprint: str) -> Checkpoints:
        return Checkpoints(folder, fingerprint, self._every, self._stopping, self._say)

    @contextmanager
    def _held(self, folder: Path) -> Iterator[None]:
        """The right to train a stage; the kernel takes it back when its holder dies."""
        from filelock import FileLock, Timeout

        lock = FileLock(folder / "lock")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            while not lock.is_locked:
                try:
                    lock.acquire(timeout=PATIENCE)
                except Timeout:
                    if self._stopping():
                        raise KeyboardInterrupt from None
        except TimeoutError:
            raise
        except OSError as e:
            raise UserError(
                f"the stage cannot be locked: {e.strerror or e}",
                where=shown(folder),
                fix="make room or mend the folder's permissions, then run again",
            ) from None
        try:
            yield
        finally:
            lock.release()
