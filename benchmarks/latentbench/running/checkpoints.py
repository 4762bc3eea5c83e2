"""Checkpoints of a run on disk: written whole or not at all, known by their hash, never unpickled.

A checkpoint is a safetensors file whose header holds the state's structure as JSON; its name holds the step and the
sha256 of its bytes. The last two are kept, so that a damaged one costs the steps since the one before.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
import stat
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latentbench.core.bounds import OBJECT_BYTES, RECORD_BYTES, read_at_most
from latentbench.core.errors import UserError
from latentbench.core.paths import shown
from latentbench.core.types import MetricValue
from latentbench.records.record import plain, write_atomically
from latentbench.running.nested_state import pack, unpack

if TYPE_CHECKING:
    pass

#: Checkpoints that stay on disk.
KEPT = 2
#: A training that took less is sooner done again than kept for its evaluation, in seconds.
WORTH_KEEPING = 1.0
SUFFIX = ".safetensors"
_NAME = re.compile(r"[0-9]{12}-[0-9a-f]{64}" + re.escape(SUFFIX))
#: How a loss is computed where nothing else is said; older checkpoints do not say it.
EAGER = "eager"
#: The file of the metric values of an evaluation under way.
VALUES = "values.json"


class Checkpoints:
    """The checkpoints of one run: `latentbench.training.state.Checkpointer` in a folder.

    Args:
        folder: of this run's checkpoints alone; made when it is needed.
        fingerprint: of the run; a checkpoint of another one is not taken up.
        every: seconds between two checkpoints.
        stopping: whether the process has been asked to stop.
        say: told in one line what went wrong with a checkpoint; training goes on.
        exact: a training done again ends in the same bits, so that metric values of an earlier one hold for it.

    Attributes:
        resumed_from: step of the checkpoint that was taken up.
        spent: seconds of training before it.
        faults: what went wrong, a line each.
        way: how the loss is computed; it goes into each checkpoint.
    """

    def __init__(
        self,
        folder: Path,
        fingerprint: str,
        every: float,
        stopping: Callable[[], bool] = lambda: False,
        say: Callable[[str], None] = lambda _: None,
        *,
        exact: bool = True,
    ) -> None:
        self.folder, self._fingerprint, self._every = folder, fingerprint, every
        self._stopping, self._say, self._exact = stopping, say, exact
        self._saved_at = time.monotonic()
        self.resumed_from: int | None = None
        self.spent = 0.0
        self.faults: list[str] = []
        self.way: Callable[[], str] = lambda: EAGER

    @property
    def stopping(self) -> bool:
        return self._stopping()

    def due(self, *, final: bool = False) -> bool:
        since = time.monotonic() - self._saved_at
        return self.stopping or (self.worth(since) if final else since >= self._every)

    def worth(self, seconds: float) -> bool:
        return seconds >= min(WORTH_KEEPING, self._every)

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write a checkpoint; where that fails (disk full, read-only folder) say so and go on without it."""
        from safetensors.torch import save

        tensors, structure = pack(state)
        about = {"state": structure, "fingerprint": self._fingerprint, "step": str(step), "way": self.way()}
        content = save(tensors, about)
        name = f"{step:012d}-{hashlib.sha256(content).hexdigest()}{SUFFIX}"
        try:
            write_atomically(self.folder / name, content)
        except OSError as e:
            self._fault(f"checkpoint at step {step} could not be written: {e.strerror or e}")
        else:
            for old in self._files()[:-KEPT]:
                _remove(old)
        self._saved_at = time.monotonic()

    def latest(self, upto: int | None = None) -> dict[str, Any] | None:
        """The newest checkpoint that is whole; a damaged one is reported and the one before it taken.

        Args:
            upto: take none of a later step; those are removed.
        """
        found = None
        for path in reversed(self._files()):
            if upto is not None and _step(path) > upto:
                _remove(path)
                continue
            try:
                step, found = self._read(path)
            except UserError as e:
                self._fault(str(e))
                _remove(path)
                continue
            self.resumed_from, self.spent = step, float(found["out"]["seconds"])
            break
        if not self._exact and (found is None or not found["finished"]):
            _remove(self.folder / VALUES)
        return found

    def began(self) -> str | None:
        """How the loss was computed up to the newest checkpoint, by its header; None where there is none."""
        for path in reversed(self._files()):
            with suppress(OSError, ValueError, LookupError, AttributeError, RecursionError):
                with open(path, "rb") as f:
                    length = int.from_bytes(f.read(8), "little")
                    header = json.loads(f.read(min(length, os.fstat(f.fileno()).st_size)))["__metadata__"]
                return str(header.get("way", EAGER))
        return None

    def last_step(self) -> int | None:
        """The step of the newest checkpoint, judged by its name."""
        return max(self.steps(), default=None)

    def steps(self) -> list[int]:
        """The steps of the checkpoints, judged by their names, oldest first."""
        return [_step(path) for path in self._files()]

    def keep_value(self, key: str, value: MetricValue) -> None:
        """Keep a metric's value, so that an interrupted evaluation goes on with the next one."""
        kept = {k: plain(vars(v)) for k, v in (self.values() | {key: value}).items()}
        body = json.dumps(kept, sort_keys=True)
        whole = {"fingerprint": self._fingerprint, "sha256": hashlib.sha256(body.encode()).hexdigest(), "values": kept}
        try:
            write_atomically(self.folder / VALUES, json.dumps(whole, sort_keys=True))
        except OSError as e:
            self._fault(f"value of {key} could not be kept: {e.strerror or e}")

    def values(self) -> dict[str, MetricValue]:
        """Metric values of an evaluation that was interrupted."""
        path = self.folder / VALUES
        try:
            whole = json.loads(read_at_most(path, RECORD_BYTES) or b"")
            body = json.dumps(whole["values"], sort_keys=True)
            if whole["fingerprint"] != self._fingerprint:
                return {}
            if hashlib.sha256(body.encode()).hexdigest() != whole["sha256"]:
                raise ValueError("its hash differs")
            return {k: _value(v) for k, v in whole["values"].items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            self._fault(f"{shown(path)}: damaged, its metrics are computed again")
            return {}

    def clear(self) -> None:
        """Remove everything: the run has its record."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _files(self) -> list[Path]:
        """Checkpoints, oldest first."""
        try:
            names = sorted(n for n in os.listdir(self.folder) if _NAME.fullmatch(n))
        except OSError:
            return []
        return [self.folder / n for n in names if stat.S_ISREG(os.lstat(self.folder / n).st_mode)]

    def _read(self, path: Path) -> tuple[int, dict[str, Any]]:
        from safetensors import SafetensorError
        from safetensors.torch import load

        def damaged(why: str) -> UserError:
            return UserError(f"checkpoint is damaged: {why}", where=shown(path), fix="the one before it is used")

        try:
            if (content := read_at_most(path, OBJECT_BYTES)) is None:
                raise damaged(f"larger than {OBJECT_BYTES} bytes")
        except OSError as e:
            raise damaged(e.strerror or str(e)) from None
        if hashlib.sha256(content).hexdigest() != path.name.partition("-")[2].removesuffix(SUFFIX):
            raise damaged("its hash differs from the one in its name")
        try:
            tensors = load(content)
            length = int.from_bytes(content[:8], "little")
            header = json.loads(content[8 : 8 + length])["__metadata__"]
            if header["fingerprint"] != self._fingerprint:
                raise damaged("it belongs to another run")
            state = unpack(tensors, header["state"])
            if not isinstance(state["finished"], bool) or not math.isfinite(state["out"]["seconds"]):
                raise damaged("it is no state of a training")
            return int(header["step"]), state
        except (
            SafetensorError,
            ValueError,
            LookupError,
            TypeError,
            AttributeError,
            OverflowError,
            RecursionError,
        ) as e:
            raise damaged(f"{type(e).__name__} {e}"[:200]) from None

    def _fault(self, text: str) -> None:
        self.faults.append(text)
        self._say(text)


def _value(kept: Mapping[str, Any]) -> MetricValue:
    """A metric's value as it was kept.

    Raises:
        TypeError: it is none.
    """
    value = MetricValue(**kept)
    numbers = (value.value, value.se, value.n)
    if not all(n is None or isinstance(n, int | float) for n in numbers) or not isinstance(value.details, dict):
        raise TypeError("not a metric's value")
    return value


def _step(path: Path) -> int:
    return int(path.name.partition("-")[0])


def _remove(path: Path) -> None:
    """Remove a file, if that can be done."""
    with suppress(OSError):
        path.unlink()
