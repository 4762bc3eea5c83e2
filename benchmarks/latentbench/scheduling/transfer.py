"""A run's files between the store and a folder of this machine. Whatever comes from the store is checked before use."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from types import TracebackType

from latentbench.core.errors import UserError
from latentbench.core.paths import safe_name
from latentbench.records.beside import CURVE, WEIGHTS, most_bytes
from latentbench.records.record import MAX_BYTES, Record, is_intact, read_record, write_atomically
from latentbench.running.checkpoints import SUFFIX, VALUES
from latentbench.scheduling.object_store import Store

RECORD = "record.json"
CHECKPOINT = "checkpoint"
#: Seconds after which a new checkpoint is under way to the store at the latest.
PERIOD = 1.0

_CHECKPOINT = re.compile(r"[0-9]{12}-[0-9a-f]{64}" + re.escape(SUFFIX))


def prefix_of(suite: str, run_id: str) -> str:
    """The beginning of the names of a run's files."""
    return f"runs/{safe_name(suite)}/{run_id}"


def stored_record(store: Store, suite: str, run_id: str) -> Record | None:
    """A run's record as it lies in the store; None if there is none.

    Raises:
        UserError: what lies there is no record, is not as it was sealed, or belongs to another run.
    """
    name = f"{prefix_of(suite, run_id)}/{RECORD}"
    content = store.read(name, MAX_BYTES)
    return None if content is None else checked_record(content, suite, run_id, where=f"{store.shown}/{name}")


def checked_record(content: bytes, suite: str, run_id: str, where: str) -> Record:
    """Raises UserError as `stored_record` does."""
    fault = None
    try:
        record = Record.model_validate_json(content)
        if not is_intact(record):
            fault = "its seal is broken or missing"
        elif (safe_name(record.suite), record.run_id) != (safe_name(suite), run_id):
            fault = f"it is the record of {record.suite[:80]} {record.run_id[:120]}"
    except ValueError:
        fault = "it is not a record"
    if fault is not None:
        raise UserError(f"a record in the store is refused: {fault}", where=where, fix="remove it, then run again")
    return record


def pull_checkpoints(store: Store, suite: str, run_id: str, folder: Path) -> None:
    """Bring a run's checkpoints and kept values into `folder`; whoever reads them checks their hashes."""
    place = f"{prefix_of(suite, run_id)}/{CHECKPOINT}"
    for name in store.names(place):
        if (name == VALUES or _CHECKPOINT.fullmatch(name)) and (content := store.read(f"{place}/{name}")) is not None:
            write_atomically(folder / CHECKPOINT / name, content)


def push_results(store: Store, record: Record, folder: Path) -> None:
    """Put a run's files into the store, the record last: where it is, all else is.

    Raises:
        UserError: the store cannot be written.
    """
    place = prefix_of(record.suite, record.run_id)
    for name in (*sorted(record.files), RECORD):
        store.write(f"{place}/{name}", (folder / name).read_bytes())


def pull_results(store: Store, record: Record, results: Path, *, weights: bool = False) -> None:
    """Bring a run's record, curve and, if asked for, weights into a results folder.

    Raises:
        UserError: a file does not hash to what the record says; nothing of the run is kept then.
    """
    place = prefix_of(record.suite, record.run_id)
    wanted = [n for n in (CURVE, WEIGHTS) if n in record.files and (n != WEIGHTS or weights)]
    kept: dict[str, bytes] = {}
    for name in wanted:
        content = store.read(f"{place}/{name}", most_bytes(name))
        if content is None:
            continue
        if hashlib.sha256(content).hexdigest() != record.files[name]:
            raise UserError(
                "refused: it does not hash to what its record says",
                where=f"{store.shown}/{place}/{name}",
                fix="remove the run from the store, then run again",
            )
        kept[name] = content
    kept[RECORD] = store.read(f"{place}/{RECORD}", MAX_BYTES) or b""
    checked_record(kept[RECORD], record.suite, record.run_id, f"{store.shown}/{place}/{RECORD}")
    for name, content in kept.items():
        write_atomically(results / place / name, content)


def pull_all(
    store: Store, results: Path, *, weights: bool = False, say: Callable[[str], None] = lambda _: None
) -> tuple[int, int]:
    """Bring every run that has a record, and is not here as it is there, into a results folder.

    A record here that is finished where the store's is not, or newer, stays; one of the same size counts as the same.

    Args:
        weights: also their weights.
        say: told, a line each, what was refused.

    Returns:
        How many came, and how many were refused.
    """
    came = refused = 0
    for name, size in sorted(store.names("runs").items()):
        parts = name.split("/")
        if len(parts) != 3 or parts[2] != RECORD or any(safe_name(p) != p for p in parts[:2]):
            continue
        suite, run_id, _ = parts
        here = results / "runs" / suite / run_id
        if _same_size(here / RECORD, size) and (not weights or (here / WEIGHTS).is_file()):
            continue
        try:
            record = stored_record(store, suite, run_id)
            if record is not None and not _outranked(record, here / RECORD):
                pull_results(store, record, results, weights=weights)
                came += 1
        except UserError as e:
            refused += 1
            say(str(e))
    return came, refused


def _outranked(record: Record, path: Path) -> bool:
    """Whether the record at `path` is to be kept rather than `record`."""
    with suppress(UserError):
        return _rank(read_record(path, sealed=True)) > _rank(record)
    return False


def _rank(record: Record) -> tuple[bool, str]:
    return record.status == "finished", record.provenance.ended


def _same_size(path: Path, size: int) -> bool:
    with suppress(OSError):
        return path.stat().st_size == size
    return False


class Mirror:
    """A context in which the checkpoints of a run go to the store as they are written.

    A thread of its own sends them, so training waits for no network. In the store an old one goes once a newer is
    there. What cannot be sent is told and tried again with the next.
    """

    def __init__(self, store: Store, place: str, folder: Path, say: Callable[[str], None]) -> None:
        self._store, self._run, self._place, self._say = store, place, f"{place}/{CHECKPOINT}", say
        self._folder = folder / CHECKPOINT
        self._there = set(store.names(self._place))
        self._sent: dict[str, bytes] = {}
        self._over = Event()
        self._thread = Thread(target=self._watch, name="mirror", daemon=True)

    def __enter__(self) -> Mirror:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()

    def settle(self) -> None:
        """Make the store's checkpoints those of the folder, also where that has none any more.

        What machines that died while they wrote left of the run goes too.
        """
        self._store.remove_unfinished(self._run)
        self._send(also_none=True)

    def _watch(self) -> None:
        while not self._over.wait(PERIOD):
            self._send()

    def _send(self, *, also_none: bool = False) -> None:
        here = {p.name for p in self._folder.glob("*") if p.name == VALUES or _CHECKPOINT.fullmatch(p.name)}
        try:
            for name in sorted(here):
                if name in self._there and name != VALUES:  # its name is its hash
                    continue
                with suppress(FileNotFoundError):  # replaced meanwhile by a newer one
                    content = (self._folder / name).read_bytes()
                    if self._sent.get(name) != content:
                        self._store.write(f"{self._place}/{name}", content)
                        self._there.add(name)
                        self._sent |= {name: content} if name == VALUES else {}
            if here or also_none:
                gone = self._there - here
                self._store.remove(*(f"{self._place}/{name}" for name in gone))
                self._there -= gone
        except (UserError, OSError) as e:
            self._say(f"checkpoint could not be sent to the store: {e}")
