"""One run on whichever machine: state comes from the shared store, and goes there as it is made.

The run itself happens in a folder of the machine's own, by `latentbench.scheduling.task.perform` as everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from latentbench.core.errors import UserError
from latentbench.core.interrupts import install
from latentbench.core.secrets import without_secrets
from latentbench.planning.plan import RunSpec
from latentbench.records.archive import lock_path, run_folder
from latentbench.records.record import Record, seal, write_record
from latentbench.running.observer import ProgressReport, Report
from latentbench.running.one import SETTLED, Busy
from latentbench.running.settings import Settings
from latentbench.scheduling import task
from latentbench.scheduling.lease import Lease, Taken
from latentbench.scheduling.object_store import Store
from latentbench.scheduling.run_requests import RunRequest, SweepContext
from latentbench.scheduling.scratch import scratch_folder
from latentbench.scheduling.shared_data import have
from latentbench.scheduling.transfer import (
    RECORD,
    Mirror,
    prefix_of,
    pull_checkpoints,
    push_results,
    stored_record,
)


def perform_request(
    request: RunRequest, context: SweepContext, settings: Settings, report: Report = lambda _: None
) -> tuple[Record, bool]:
    """Do a run unless its record is in the store; one that was interrupted anywhere goes on from its checkpoint there.

    Returns:
        The record, and whether it was there already.

    Raises:
        Busy: somebody else is doing it.
        UserError: store, data or code are not those of the sender.
        KeyboardInterrupt: this process was asked to stop; the state of the run is in the store.
    """
    context.environment.enter()
    context.store.must_be(context.mark)
    spec = replace(request.spec)  # without the hashes that the sender has worked out
    if spec.all_code != request.code:
        raise UserError(
            f"this machine has other code of {spec.method!r} than the sweep was started with",
            where=f"{spec.suite} {spec.cell}",
            fix="install the same latentbench and plug-ins on every node",
        )
    have(context.store, spec.data["source"], request.data_hash)
    try:
        with (
            Lease(context.store, spec.suite, request.run_id, request.owner, request.dead) as lease,
            _lock(spec, request.data_hash, context.store),
        ):
            try:
                return _perform(spec, request, context.store, settings, lease, report)
            except KeyboardInterrupt:
                if not lease.lost:
                    raise
                install()  # it was the lease's request, and it has been obeyed
                raise Taken from None
    except Taken:
        raise Busy(spec.cell) from None


def _perform(
    spec: RunSpec, request: RunRequest, store: Store, settings: Settings, lease: Lease, report: Report
) -> tuple[Record, bool]:
    def forward(what: ProgressReport) -> None:
        lease.report = what
        report(what)

    def say(fault: str) -> None:
        forward(replace(lease.report, cell=spec.cell, phase=fault))

    with scratch_folder() as scratch:
        wandb = settings.wandb if settings.wandb == "online" else "disabled"  # nobody would find its offline files
        own = replace(settings, results=scratch, wandb=wandb)
        folder = run_folder(spec, request.data_hash, own.results)
        refused = None
        if not settings.force:
            try:
                record = stored_record(store, spec.suite, request.run_id)
            except UserError as e:
                record, refused = None, without_secrets(str(e))
            if record is not None and record.status in SETTLED:
                return record, True
        pull_checkpoints(store, spec.suite, request.run_id, folder)
        mirror = Mirror(store, prefix_of(spec.suite, request.run_id), folder, say)
        try:
            with mirror:
                record, _ = task.perform(spec, own, forward)
        except BaseException:
            if lease.holds():
                mirror.settle()
            raise
        if refused is not None:
            record = _with_fault(record, refused, folder)
        _hand_in(store, record, folder, lease)
        mirror.settle()
        return record, False


def _with_fault(record: Record, fault: str, folder: Path) -> Record:
    provenance = record.provenance.model_copy(update={"faults": [fault, *record.provenance.faults]})
    record = record.model_copy(update={"provenance": provenance})
    record = record.model_copy(update={"seal": seal(record)})
    write_record(folder / RECORD, record)
    return record


def _hand_in(store: Store, record: Record, folder: Path, lease: Lease) -> None:
    if not lease.holds():
        raise Taken
    push_results(store, record, folder)


def give_up_request(request: RunRequest, context: SweepContext, settings: Settings, why: str) -> tuple[Record, bool]:
    """The record of a run that no process survived, put into the store; as `latentbench.running.one.give_up`.

    Raises:
        Busy: somebody is doing it after all.
    """
    try:
        with (
            Lease(context.store, request.spec.suite, request.run_id, request.owner, request.dead) as lease,
            scratch_folder() as scratch,
        ):
            with suppress(UserError):
                record = stored_record(context.store, request.spec.suite, request.run_id)
                if record is not None and record.status in SETTLED and not settings.force:
                    return record, True
            own = replace(settings, results=scratch)
            record, _ = task.give_up(request.spec, own, why)
            _hand_in(context.store, record, run_folder(request.spec, request.data_hash, own.results), lease)
            return record, False
    except Taken:
        raise Busy(request.spec.cell) from None


@contextmanager
def _lock(spec: RunSpec, data_hash: str, store: Store) -> Iterator[None]:
    """The lock that `latentbench run` on this machine takes, where the store is a folder and its file system has locks.

    Raises:
        Taken: it has it.
    """
    if store.folder is None:
        yield
        return
    from filelock import FileLock, Timeout

    path = lock_path(spec, data_hash, store.folder)
    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise Taken from None
    except (OSError, NotImplementedError):  # a network file system without locks: the lease is what counts
        pass
    try:
        yield
    finally:
        lock.release()
