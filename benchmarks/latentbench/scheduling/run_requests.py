"""Requests to other machines: runs, with what they must find there; and how their results are fetched."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from latentbench.core.errors import UserError
from latentbench.data.dataset import open_dataset
from latentbench.data.manifest import content_hash_if_known
from latentbench.planning.plan import RunSpec
from latentbench.records.corrections import note_corrections
from latentbench.records.record import Record
from latentbench.running.one import SETTLED
from latentbench.running.settings import Settings
from latentbench.scheduling.environment import Environment
from latentbench.scheduling.object_store import Store
from latentbench.scheduling.shared_data import share
from latentbench.scheduling.transfer import RECORD, prefix_of, pull_results, stored_record


@dataclass(frozen=True)
class SweepContext:
    """What all runs of a sweep share: the store with its mark, and the sender's environment."""

    store: Store
    mark: str
    environment: Environment


@dataclass(frozen=True)
class RunRequest:
    """A run that some machine is asked to do, with what it must find there.

    Attributes:
        spec: the run.
        data_hash, code: hashes of the sender's data and of all its code; the machine's must be the same.
        owner: by which the run's lease will be known.
        dead: owners of earlier tries that are known to have died.
    """

    spec: RunSpec
    data_hash: str
    code: str
    owner: str
    dead: tuple[str, ...] = ()

    @property
    def run_id(self) -> str:
        return self.spec.run_id(self.data_hash)


def prepare_sweep(runs: Sequence[RunSpec], store: Store, *, share_data: bool) -> SweepContext:
    """Prepare a sweep on other machines: data into the store if they are to find them there.

    Raises:
        UserError: the store cannot be written.
    """
    sources = list(dict.fromkeys(r.data["source"] for r in runs))
    if share_data:
        for source in sources:
            share(store, source)
    return SweepContext(store, store.mark, Environment.here(sources))


def settled_records(
    runs: Iterable[RunSpec], settings: Settings, store: Store, say: Callable[[str], None]
) -> dict[str, Record]:
    """Runs whose record is in the store and needs no other try, by suite and cell; `say` hears what is refused."""
    found: dict[str, Record] = {}
    there: dict[str, dict[str, int]] = {}
    for spec in () if settings.force else runs:
        run_id = spec.run_id(data_hash_of(spec))
        name = f"{prefix_of(spec.suite, run_id)}/{RECORD}"
        suite = name.rpartition("/")[0].rpartition("/")[0]
        if suite not in there:
            there[suite] = store.names(suite)
        if name.removeprefix(f"{suite}/") not in there[suite]:
            continue
        try:
            record = stored_record(store, spec.suite, run_id)
        except UserError as e:
            say(str(e))
            continue
        if record is not None and record.status in SETTLED:
            found[f"{spec.suite} {spec.cell}"] = record
    return found


def data_hash_of(spec: RunSpec) -> str:
    """The content hash of a run's data."""
    source = spec.data["source"]
    return content_hash_if_known(source) or open_dataset(source).content_hash


def fetch_results(store: Store, record: Record, results: Path) -> None:
    """Fetch a run's record and curve into the sender's results, where these are not the store itself.

    Raises:
        UserError: the files are not what the record says.
    """
    if store.folder is None or store.folder.resolve() != results.resolve():
        pull_results(store, record, results)
    with suppress(OSError):
        note_corrections(record, results)
