"""One run, from specification to record on disk."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from latentbench.core.errors import UserError
from latentbench.core.paths import shown
from latentbench.data.dataset import open_dataset
from latentbench.planning.plan import RunSpec
from latentbench.records.archive import lock_path, run_folder
from latentbench.records.record import Record, Status, place_fault, read_record, seal_fault, write_record
from latentbench.running import provenance
from latentbench.running.attempt import Attempt
from latentbench.running.conductor import Conductor, Notes
from latentbench.running.observer import Observe, ProgressReport, Report, Unobserved
from latentbench.running.recording import check_size, make_record
from latentbench.running.settings import Settings

#: Statuses that another try would only repeat.
SETTLED: tuple[Status, ...] = ("finished", "diverged")
#: What the error of a run says that the system killed each time.
KILLED = "for want of memory; --force tries it again"


class Busy(Exception):
    """Another process is doing this run."""


def perform(
    spec: RunSpec,
    settings: Settings,
    conductor: Conductor,
    report: Report = lambda _: None,
    observe: Observe = Unobserved,
    *,
    wait: bool = True,
) -> tuple[Record, bool]:
    """Do a run unless its record is there; one that was interrupted goes on from its last checkpoint.

    Args:
        spec, settings: the run, and how to carry it out.
        conductor: decides how its training is computed.
        report: told how it goes.
        observe: gives who follows its curve and its outcome.
        wait: for another process that is doing this run, to find it done.

    Returns:
        The record, and whether it was there already.

    Raises:
        Busy: another process is doing it, and `wait` is off.
        UserError: the dataset cannot be had, the results folder cannot be written, or no record could hold the run.
    """
    from filelock import Timeout

    check_size(spec)
    report(ProgressReport(spec.cell, "data"))
    dataset = open_dataset(spec.data["source"])
    folder = run_folder(spec, dataset.content_hash, settings.results)
    try:
        with lock(spec, dataset.content_hash, settings, wait=wait):
            record, damage = record_at(folder / "record.json")
            if record is not None and is_settled(record) and not settings.force:
                return record, True
            attempt = Attempt(spec, settings, dataset, folder, damage, report, observe)
            return attempt.carry_out(conductor), False
    except Timeout:
        raise Busy(spec.cell) from None


def is_settled(record: Record) -> bool:
    """Whether another try would only repeat a record: of what was killed, on the machine that it was killed on."""
    killed = record.status == "failed" and KILLED in (record.error or "")
    return record.status in SETTLED or (killed and record.provenance.platform == provenance.machine())


def give_up(spec: RunSpec, settings: Settings, why: str, conductor: Conductor) -> tuple[Record, bool]:
    """The record of a run that no process survived, and whether another process had done it meanwhile.

    Args:
        spec, settings: the run, and how it was carried out.
        why: what became of the processes.
        conductor: by which its training was computed.

    Raises:
        Busy: another process is doing it.
    """
    from filelock import Timeout

    data_hash = open_dataset(spec.data["source"]).content_hash
    path = run_folder(spec, data_hash, settings.results) / "record.json"
    try:
        with lock(spec, data_hash, settings, wait=False):
            record, _ = record_at(path)
            if record is not None and is_settled(record) and not settings.force:
                return record, True
            notes = Notes(devices=conductor.devices(spec, settings))
            now, run_id = provenance.now(), spec.run_id(data_hash)
            record = make_record(spec, settings, data_hash, run_id, "failed", why, None, now, 0.0, notes)
            write_record(path, record)
            return record, False
    except Timeout:
        raise Busy(spec.cell) from None


@contextmanager
def lock(spec: RunSpec, data_hash: str, settings: Settings, *, wait: bool) -> Iterator[None]:
    """The right to do a run; the kernel takes it back when its holder dies.

    Raises:
        Timeout: another process has it, and `wait` is off.
        UserError: the folder of the locks cannot be written.
    """
    from filelock import FileLock

    path = lock_path(spec, data_hash, settings.results)
    held = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        held.acquire(timeout=-1 if wait else 0)
    except TimeoutError:  # of filelock: somebody has it
        raise
    except OSError as e:
        raise UserError(
            f"the run cannot be locked: {e.strerror or e}",
            where=shown(path),
            fix="make room or mend the folder's permissions, then run again",
        ) from None
    try:
        yield
    finally:
        held.release()


def record_at(path: Path) -> tuple[Record | None, str | None]:
    """The record at `path`, or None; and what is wrong with one that is damaged."""
    if not path.is_file():
        return None, None
    try:
        record = read_record(path)
    except UserError as e:
        return None, f"the record was damaged and the run done again: {e}"
    if (fault := seal_fault(record) or place_fault(record, path)) is not None:
        return None, f"the record did not count, and the run was done again: {shown(path)}: {fault}"
    return record, None
