"""The right to do a run, where a lock of the kernel does not reach: an object in the store with owner and heartbeat.

Whoever wants a run creates the next *generation* of its lease, which succeeds for one only; the highest generation
holds. The owner writes its heartbeat into it. A lease whose heartbeat is old, and stays as it is while it is watched
for two beats, has a dead owner: the next generation is created. An owner that wakes up late finds that generation
before it writes a record, and lets go. Watching makes clocks that differ harmless.
"""

from __future__ import annotations

import json
import os
import socket
import time
import uuid
from collections.abc import Collection
from contextlib import suppress
from dataclasses import asdict, dataclass
from threading import Event, Thread
from types import TracebackType
from typing import Any

from latentbench.core.bounds import LEASE_BYTES, whole_number
from latentbench.core.errors import UserError
from latentbench.core.interrupts import ask
from latentbench.core.paths import safe_name
from latentbench.running.observer import ProgressReport
from latentbench.scheduling.object_store import Store, Unfit

#: Seconds between two heartbeats, and the age at which one is doubted.
BEAT, EXPIRY = 10.0, 45.0
LEASES = "leases"


class Taken(Exception):
    """Somebody else is doing the run."""


def new_owner() -> str:
    """A name that nobody else has, and that says where."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:12]}"


class Lease:
    """A context in which this process alone does a run.

    Args:
        store, suite, run_id: which run.
        owner: `new_owner`, or what the one who sent this process will know it by.
        dead: owners that are known to have died, whose leases need not expire.

    Attributes:
        report: what the run does now; the next heartbeat carries it.
        lost: another has taken the lease over, since this process was not heard of for too long.

    Raises:
        Taken: on entering.
    """

    def __init__(self, store: Store, suite: str, run_id: str, owner: str, dead: Collection[str] = ()) -> None:
        self._store, self._owner, self._dead = store, owner, dead
        self._place = f"{LEASES}/{safe_name(suite)}/{run_id}"
        self._generation = 0
        self._over = Event()
        self._beating = Thread(target=self._beat, name="lease", daemon=True)
        self.report = ProgressReport("", "data")
        self.lost = False

    def __enter__(self) -> Lease:
        there = self._generations()
        top = there[-1] if there else 0
        if top and not self._is_dead(top):
            raise Taken
        if not self._store.create(self._name(top + 1), self._content()):
            raise Taken
        self._generation = top + 1
        if not self.holds() or self._generations()[-1] != self._generation:  # a store without exclusive creation
            if not self.lost:
                self._store.remove(self._name(self._generation))
            raise Taken
        self._store.remove(*(self._name(g) for g in there))
        self._beating.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        self._beating.join(EXPIRY)  # a beat under way would bring back what is removed here
        with suppress(UserError):  # it expires by itself
            if self.holds():
                self._store.remove(self._name(self._generation))

    def holds(self) -> bool:
        """Whether the lease is this process's still; once lost it stays so."""
        if not self.lost:
            taken_over = _kept(self._store, self._name(self._generation + 1)) is not None
            self.lost = taken_over or _parse(_kept(self._store, self._name(self._generation)))["owner"] != self._owner
        return not self.lost

    def _beat(self) -> None:
        while not self._over.wait(BEAT):
            with suppress(UserError):  # the store is out of reach for a while: the next beat may reach it
                if not self.holds():
                    with suppress(KeyboardInterrupt):  # meant for the thread that does the run
                        ask()
                    return
                if not self._over.is_set():
                    self._store.write(self._name(self._generation), self._content())

    def _is_dead(self, generation: int) -> bool:
        before = _kept(self._store, self._name(generation))
        said = _parse(before)
        if before is None or said["owner"] in self._dead:
            return True
        if abs(time.time() - said["beat"]) < EXPIRY:
            return False
        time.sleep(2 * BEAT)
        return _kept(self._store, self._name(generation)) == before

    def _generations(self) -> list[int]:
        names = (n.removesuffix(".json") for n in self._store.names(self._place))
        return sorted(number for n in names if (number := whole_number(n)) is not None)

    def _name(self, generation: int) -> str:
        return f"{self._place}/{generation:06d}.json"

    def _content(self) -> bytes:
        return json.dumps({"owner": self._owner, "beat": time.time(), "report": asdict(self.report)}).encode()


@dataclass(frozen=True)
class UnderWay:
    """A run that somebody is doing, what it reported last, and on which machine."""

    suite: str
    run_id: str
    report: ProgressReport
    host: str

    def __str__(self) -> str:
        steps = f" {self.report.step}/{self.report.steps}" if self.report.steps else ""
        return f"{self.report.phase}{steps} on {self.host}"


def under_way(store: Store) -> list[UnderWay]:
    """Runs with a lease whose heartbeat is fresh."""
    found = []
    for name in sorted(store.names(LEASES)):
        if name.count("/") != 2:
            continue
        suite, run_id, _ = name.split("/")
        said = _parse(_kept(store, f"{LEASES}/{name}"))
        if abs(time.time() - said["beat"]) < EXPIRY:
            found.append(UnderWay(suite, run_id, _report(said["report"]), said["owner"].partition(":")[0]))
    return found


def _report(kept: dict[str, Any]) -> ProgressReport:
    with suppress(KeyError, TypeError, ValueError, OverflowError):
        return ProgressReport(
            str(kept["cell"]),
            str(kept["phase"]),
            int(kept["step"]),
            int(kept["steps"]),
            float(kept["samples_per_second"]),
        )
    return ProgressReport("", "")


def _kept(store: Store, name: str) -> bytes | None:
    """A lease's content; of what is too large for one or no file, none."""
    try:
        return store.read(name, LEASE_BYTES)
    except Unfit:
        return b""


def _parse(content: bytes | None) -> dict[str, Any]:
    """A lease's content; of one that is half written or no lease, nothing that anybody could be taken for."""
    with suppress(ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        said = json.loads(content or b"")
        return {"owner": str(said["owner"]), "beat": float(said["beat"]), "report": dict(said.get("report", {}))}
    return {"owner": "", "beat": 0.0, "report": {}}
