"""Where records lie, and which of them count for a suite as it stands.

``results/runs/<suite>/<run-id>/record.json`` holds what was run here; ``results/reference/<suite>/<tier>.jsonl`` what
comes with latentbench (`records.pack`). A record counts for a cell (method, dataset, tier, seed) if it answers the
specification that the suite has today; where several do, the one of today's code and data comes first, then the newest.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, MutableMapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from latentbench.core.console import note
from latentbench.core.errors import UserError
from latentbench.core.paths import is_companion, reference_dirs, results_dir, safe_name, shown, stays_inside
from latentbench.data.manifest import content_hash_if_known
from latentbench.planning.plan import RunSpec
from latentbench.records.alike import Alike
from latentbench.records.former import asked, asks_the_same, made_by_todays
from latentbench.records.intact import Intact
from latentbench.records.known import Kind, PackedRun, Read, Records, like, made, seed_of
from latentbench.records.pack import SUFFIX, TIERS, open_pack, packs_in
from latentbench.records.record import Record
from latentbench.records.vouching import code_of, vouched_codes
from latentbench.spec.registry import metrics


def run_folder(spec: RunSpec, data_hash: str, results: Path | None = None) -> Path:
    """Where a run's files go.

    Raises:
        UserError: a link would take them out of the results folder.
    """
    root = results or results_dir()
    return stays_inside(root / "runs" / safe_name(spec.suite) / spec.run_id(data_hash), root)


def record_files(
    suite: str, results: Path | None = None, prefix: str = "", tiers: tuple[str, ...] = TIERS
) -> Iterator[tuple[str, str]]:
    """Run identifiers (those that start with `prefix`) and record files of a suite, those run here first.

    There may be thousands of them, and strings cost a fraction of what `Path` objects do. Of the packs, those of
    `tiers` alone are opened; what was run here, and what lies by itself, is told of every tier.
    """
    root = results or results_dir()
    runs = f"{root}/runs/{safe_name(suite)}"
    for name in listed(runs, prefix):
        file = f"{runs}/{name}/record.json"
        if os.path.isfile(file):
            yield name, file
    yield from references(suite, root, prefix, tiers)


def references(
    suite: str, results: Path, prefix: str = "", tiers: tuple[str, ...] = TIERS
) -> Iterator[tuple[str, str]]:
    """`record_files` of what comes with the project: packed, or one by one as until November 2026."""
    for folder in (f"{top}/{safe_name(suite)}" for top in reference_dirs(results)):
        for pack in packs_in(folder, tiers):
            yield from ((name, f"{pack}/{name}") for name in open_pack(pack).names(prefix))
        for name in listed(folder, prefix):
            if name.endswith(".json"):
                yield name.removesuffix(".json"), f"{folder}/{name}"


def pack_faults(suite: str, results: Path, tiers: tuple[str, ...] = TIERS) -> list[str]:
    """Lines that belong to no record, in the packs of a suite, and packs that cannot be read; as messages."""
    folders = [f"{top}/{safe_name(suite)}" for top in reference_dirs(results)]
    return [fault for folder in folders for pack in packs_in(folder, tiers) for fault in open_pack(pack).faults]


def suites_with_records(results: Path) -> list[str]:
    """Names of the folders of suites that have records, sorted."""
    return sorted({name for top in (results / "runs", *reference_dirs(results)) for name in listed(str(top))})


def listed(folder: str, prefix: str = "") -> list[str]:
    """What is in a folder and starts with `prefix`, sorted, but for companions; nothing where there is none."""
    try:
        return sorted(name for name in os.listdir(folder) if name.startswith(prefix) and not is_companion(name))
    except (FileNotFoundError, NotADirectoryError):
        return []


def lock_path(spec: RunSpec, data_hash: str, results: Path) -> Path:
    """The lock that a process holds while it does a run. Raises UserError as `run_folder` does."""
    return stays_inside(results / "locks" / safe_name(spec.suite) / f"{spec.run_id(data_hash)}.lock", results)


def running(results: Path) -> dict[str, list[str]]:
    """Runs that some process on this machine holds the lock of, by suite, whichever user's.

    Locks that this user may not read are told on stderr: whether their runs are under way cannot be known.
    """
    found: dict[str, list[str]] = {}
    hidden = 0
    for path in sorted((results / "locks").glob("*/*.lock")):
        if path.is_symlink() or path.parent.is_symlink() or is_companion(path.name):
            continue
        try:
            if _is_held(path):
                found.setdefault(path.parent.name, []).append(path.stem)
        except PermissionError:
            hidden += 1
        except OSError:
            continue
    if hidden:
        note(f"{shown(results / 'locks')}: {hidden} of another user cannot be read: their runs may be under way")
    return found


def _is_held(path: Path) -> bool:
    """Whether a process has the file locked as `filelock` does; asking takes no right but to read it."""
    import fcntl

    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def finished(runs: Sequence[RunSpec], results: Path | None = None) -> set[str]:
    """Cells whose run has a finished record of today's specification, data and code: the ones that `run` leaves alone.

    It opens no record whose state it knows, so that thousands are told in the time that their hashes take.
    """
    root = results or results_dir()
    data = {source: content_hash_if_known(source) for source in {r.data["source"] for r in runs}}
    found: set[str] = set()
    for suite in dict.fromkeys(r.suite for r in runs):
        intact = Intact(suite, root)
        folder = f"{root}/runs/{safe_name(suite)}"
        there: dict[str, list[str]] = {}
        for name in listed(folder):
            there.setdefault(name.rpartition("--")[0], []).append(name)
        for run in runs:
            known = data[run.data["source"]]
            if run.suite != suite or known is None or run.cell not in there:
                continue
            own = run.run_id(known)
            others = [name for name in there[run.cell] if name != own]
            if (own in there[run.cell] and intact.status(f"{folder}/{own}/record.json") == "finished") or any(
                _is_as_good(f"{folder}/{name}/record.json", run, known, intact) for name in others
            ):
                found.add(run.cell)
        intact.save()
    return found


def _is_as_good(file: str, run: RunSpec, data_hash: str, intact: Intact) -> bool:
    """Whether a finished record under another fingerprint is of today's run: by an engine accepted since, or of old."""
    try:
        record = intact.read(file)
    except UserError:
        return False
    asks = record.status == "finished" and record.hashes["data"] == data_hash and asks_the_same(record, run)
    return asks and made_by_todays(record, run)


@dataclass
class Collected:
    """A suite's records: those that count, by cell, and what was left out."""

    found: MutableMapping[str, Record] = field(default_factory=Records)
    files: dict[str, str] = field(default_factory=dict)
    stale_code: list[str] = field(default_factory=list)
    vouched: list[str] = field(default_factory=list)
    outdated: dict[str, str] = field(default_factory=dict)
    superseded: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)

    def path(self, cell: str) -> Path:
        """Where the record that counts for a cell lies."""
        return Path(self.files[cell])


def is_reference(file: str) -> bool:
    """Whether a record's file, or its place in a pack, is one that came with the project."""
    folder, _, name = file.rpartition("/")
    suite = folder.rpartition("/")[0] if folder.endswith(SUFFIX) else folder
    return name != "record.json" and suite.split("/")[-2:-1] == ["reference"]


@dataclass(slots=True)
class _Answer:
    """A record that answers today's specification."""

    one: Read
    file: str
    fresh: bool


def collect(runs: Sequence[RunSpec], results: Path | None = None) -> Collected:
    """Match the records on disk to the runs of a plan.

    Returns:
        What was collected: `found` maps a run's cell to its record; `stale_code` lists cells whose record was made by
        other code than today's, `vouched` those whose other code is vouched for (`latentbench.records.vouching`),
        `outdated` the records of an earlier specification or of other data, with the reason, `superseded` the cells
        whose stale record gave way to seeds of today's code, `unreadable` the broken files.
    """
    collected, found = Collected(), Records()
    data = {source: content_hash_if_known(source) for source in {r.data["source"] for r in runs}}
    by_cell = {r.cell: r for r in runs}
    tiers = tuple(dict.fromkeys(r.tier for r in runs))
    of_tier = re.compile("|".join(f"--{t}--" for t in tiers)).search
    answers: dict[str, list[_Answer]] = {}
    alike = Alike()
    counting: dict[tuple[Kind, str], bool] = {}  # kinds of which all runs count, as one does: whether they are fresh
    for suite in dict.fromkeys(r.suite for r in runs):
        intact = Intact(suite, results or results_dir())
        for name, file in record_files(suite, results, tiers=tiers):
            if not of_tier(name):
                continue
            try:
                one = intact.unmade(file)
            except UserError as e:
                collected.unreadable.append(str(e))
                continue
            if (run := _run_of(one, by_cell)) is None:
                continue
            kind = (one.kind, run.suite) if isinstance(one, PackedRun) else None
            is_fresh = None if kind is None else counting.get(kind)
            if is_fresh is None:
                record = made(one)
                if not _counts(collected, run, data, record, file, alike):
                    continue
                is_fresh = alike.is_fresh(record, run, made_by_todays)
                if kind is not None and alike.asks_the_same(record, run):
                    counting[kind] = is_fresh
            answers.setdefault(run.cell, []).append(_Answer(one, file, is_fresh))
        collected.unreadable += pack_faults(suite, results or results_dir(), tiers)
        intact.save()
    several = ([(made(a.one), a.fresh) for a in each] for each in answers.values() if len(each) > 1)
    vouched = vouched_codes(several)
    fresh: dict[str, bool] = {}
    for cell, each in answers.items():
        best = (
            each[0]
            if len(each) == 1
            else max(each, key=lambda a: (a.fresh or code_of(like(a.one)) in vouched, *_rank(made(a.one), a.fresh)))
        )
        found.read[cell], collected.files[cell] = best.one, best.file
        fresh[cell] = best.fresh or code_of(like(best.one)) in vouched
        if fresh[cell] and not best.fresh:
            collected.vouched.append(cell)
    collected.found = found
    _part(collected, by_cell, fresh)
    collected.stale_code = [cell for cell in collected.found if not fresh[cell]]
    return collected


def _part(collected: Collected, by_cell: dict[str, RunSpec], fresh: dict[str, bool]) -> None:
    """Numbers of today's code and of another's never share a mean: where a method has some of today's, only those."""
    if all(fresh.values()):
        return
    today = {(r.suite, r.tier, r.method, r.dataset) for cell, r in by_cell.items() if fresh.get(cell)}
    for cell in list(collected.found):
        run = by_cell[cell]
        if not fresh[cell] and (run.suite, run.tier, run.method, run.dataset) in today:
            collected.superseded.append(cell)
            del collected.found[cell], collected.files[cell]


def _run_of(one: Read, by_cell: dict[str, RunSpec]) -> RunSpec | None:
    record = like(one)
    run = by_cell.get(f"{_but_seed(record.method, record.dataset, record.tier)}{seed_of(one)}")
    return run if run is not None and (record.method, record.dataset) == (run.method, run.dataset) else None


@lru_cache(maxsize=4096)
def _but_seed(method: str, dataset: str, tier: str) -> str:
    """What the cells of a method's seeds begin with."""
    return "--".join((safe_name(method), safe_name(dataset), tier, "s"))


def _counts(
    collected: Collected, run: RunSpec, data: dict[str, str | None], record: Record, file: str, alike: Alike
) -> bool:
    """Whether a record answers what its run asks today; where it does not, `collected` says why."""
    known_metrics = metrics()
    if strange := [m.metric for m in record.metrics if m.metric not in known_metrics]:
        collected.unreadable.append(
            f"{shown(Path(file))}: it names a metric that is not registered, {min(strange)[:80]!r}"
        )
        return False
    known = data[run.data["source"]]
    if not (alike.asks_the_same(record, run) or asks_the_same(record, run)) or (
        known is not None and record.hashes.get("data") != known
    ):
        collected.outdated[record.run_id] = _why_outdated(record, run, known)
        return False
    return True


def _why_outdated(record: Record, run: RunSpec, data_hash: str | None) -> str:
    """What has changed since a record was made, as far as it can be told."""
    if data_hash is not None and record.hashes.get("data") != data_hash:
        return f"the content of dataset {run.data['source']} has changed"
    try:
        spec = asked(record)
        before = {m["key"]: m for m in spec["metrics"]}
        for metric in run.metrics:
            old = before.get(metric.key)
            if old is None:
                return f"metric {metric.key} was not asked for"
            if old["version"] != metric.version:
                return f"metric {metric.key} was version {old['version']} and is {metric.version}"
            if old["settings"] != metric.settings:
                return f"the settings of metric {metric.key} have changed"
        now = run.settled()
        changed = [part for part in ("model", "params", "data", "training") if spec[part] != now[part]]
    except (KeyError, TypeError):
        changed = []
    return f"the suite has changed: {', '.join(changed)}" if changed else "the suite has changed"


def _rank(record: Record, is_fresh: bool) -> tuple[bool, bool, str]:
    return is_fresh, record.status == "finished", record.provenance.ended
