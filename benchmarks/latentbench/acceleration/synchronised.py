"""Checkpoints of a run over several processes: all save and stop at the same step, and the leader alone writes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from latentbench.core.types import MetricValue
from latentbench.running.checkpoints import Checkpoints


class SynchronisedCheckpoints:
    """See the module: `latentbench.running.evaluating.RunKeeper`."""

    def __init__(self, own: Checkpoints, *, is_leader: bool) -> None:
        self._own, self._is_leader = own, is_leader
        self._stop = False

    @property
    def stopping(self) -> bool:
        """Whether a process has been asked to stop, as all knew when they last asked `due`."""
        return self._stop

    def latest(self) -> dict[str, Any] | None:
        """The leader's last state, read by each: the leader goes first, and removes what is damaged.

        Raises:
            RuntimeError: this process finds another one.
        """
        import torch
        import torch.distributed as dist

        found = self._own.latest() if self._is_leader else None
        step = torch.tensor(-1 if found is None or self._own.resumed_from is None else self._own.resumed_from)
        dist.broadcast(step, 0)
        if not self._is_leader and step >= 0:
            found = self._own.latest()
            if found is None or self._own.resumed_from != step:
                raise RuntimeError(f"the checkpoint of step {int(step)} cannot be read")
        return found

    def due(self, *, final: bool = False) -> bool:
        """Whether to save now. Asked after every step but the last, by all; at the end, each goes its own way."""
        import torch
        import torch.distributed as dist

        if final:
            return self._is_leader and self._own.due(final=True)
        flags = torch.tensor([self._own.stopping, self._is_leader and self._own.due()], dtype=torch.int32)
        dist.all_reduce(flags)
        self._stop = bool(flags[0])
        return bool(flags.any())

    def save(self, step: int, state: dict[str, Any]) -> None:
        if self._is_leader:
            self._own.save(step, state)

    def worth(self, seconds: float) -> bool:
        return self._own.worth(seconds)

    def keep_value(self, key: str, value: MetricValue) -> None:
        self._own.keep_value(key, value)

    def values(self) -> Mapping[str, MetricValue]:
        return self._own.values() if self._is_leader else {}
