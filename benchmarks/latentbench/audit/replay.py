"""A run again from its record: by the code that made it, as it was asked, on as many threads; then compared."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from latentbench.acceleration.distributed import enough
from latentbench.acceleration.processes import cores
from latentbench.audit.rebuild import hash_holds
from latentbench.audit.revision import checked_out, code_of, is_ours, is_stored, run_there
from latentbench.core.bounds import REPLAY_THREADS
from latentbench.core.errors import UserError
from latentbench.core.paths import safe_name
from latentbench.planning.plan import RunSpec
from latentbench.records.archive import record_files
from latentbench.records.beside import WEIGHTS
from latentbench.records.former import made_by_todays
from latentbench.records.record import Record, is_intact, read_record, seal_fault
from latentbench.running.observer import Report
from latentbench.running.settings import Compile, Settings
from latentbench.scheduling.scratch import scratch_folder
from latentbench.scheduling.task import perform

Code = Literal["the same code", "the code of its revision", "other code"]
Word = Literal["identical", "within tolerance", "within spread", "drifted", "missing"]

#: Differences of up to so many standard deviations over seeds are within what another seed would do.
SPREADS = 2.0
#: Relative difference that summing in another order may make: gradients of several devices, or what runs that train
#: as one program compute side by side.
ROUNDING = 1e-3


@dataclass(frozen=True)
class Difference:
    """One metric before and now. `spread` is the standard deviation over seeds, None with fewer than 2."""

    metric: str
    unit: str
    before: float | None
    now: float | None
    spread: float | None
    word: Word


@dataclass(frozen=True)
class Replayed:
    """What came out.

    Attributes:
        run_id: the run.
        code: which code was run.
        notes: what could not be had as it was: device, threads, data, packages.
        status: before and now.
        weights: whether the final weights have the same bits; None where their hash is not known.
        metrics: the numbers.
        intact: whether the record is as it was sealed; one without a seal is older than seals.
    """

    run_id: str
    code: Code
    notes: list[str]
    status: tuple[str, str]
    weights: bool | None
    metrics: list[Difference]
    intact: bool = True

    @property
    def identical(self) -> bool:
        """The same bits in every number."""
        same = self.status[0] == self.status[1] and self.weights is not False
        return same and all(d.word == "identical" for d in self.metrics)

    @property
    def held(self) -> bool:
        """No number outside the spread over seeds or what rounding may make of it, in a record that is as it was
        sealed."""
        return (
            self.intact
            and self.status[0] == self.status[1]
            and all(d.word in ("identical", "within tolerance", "within spread") for d in self.metrics)
        )


def replay(
    spec: RunSpec,
    record: Record,
    *,
    device: Literal["cpu", "cuda"],
    today: bool = False,
    trust_revision: bool = False,
    report: Report = lambda _: None,
) -> Replayed:
    """Run `record` again.

    Args:
        spec: what the record says, by `rebuild`.
        record: the record.
        device: where to run.
        today: use the code as it is, also where the record's own can be had.
        trust_revision: run the code of the record's revision also where that is not in the history of what is checked
            out, or not the code that the record names.
        report: told how it goes.

    Raises:
        UserError: the record contradicts itself, or its data cannot be had.
    """
    if not hash_holds(spec, record):
        raise UserError(
            "its specification does not hash to what it says", where=record.run_id, fix="it was edited, or is damaged"
        )
    notes = _notes(record, device)
    if (fault := seal_fault(record)) is not None:
        notes.append(fault)
    with scratch_folder() as folder:
        made = record.provenance
        settings = Settings(
            folder,
            device=device,
            threads=min(made.threads, max(REPLAY_THREADS, cores())),
            devices=made.devices,
            compile=_compile(made.compiled, device),
        )
        code: Code = "the same code" if made_by_todays(record, spec) else "other code"
        revision = record.provenance.git_revision
        again = None
        if code == "other code" and not today and revision and is_stored(revision):
            if trust_revision or is_ours(revision):
                again = _by_revision(revision, spec, record, settings, notes, trusted=trust_revision)
            else:
                notes.append(
                    f"revision {revision[:10]} is in this clone, but not in the history of what is checked out: its "
                    "code is not run; say --trust-revision if you know what it does"
                )
        if again is not None:
            code = "the code of its revision"
        else:
            again, _ = perform(spec, settings, report)
    if again.hashes["data"] != record.hashes["data"]:
        notes.append("the data have another content hash")
    weights = None
    if WEIGHTS in record.files and WEIGHTS in again.files:
        weights = record.files[WEIGHTS] == again.files[WEIGHTS]
    differences = _differences(spec, record, again)
    statuses = record.status, again.status
    return Replayed(record.run_id, code, notes, statuses, weights, differences, is_intact(record))


def _by_revision(
    revision: str, spec: RunSpec, record: Record, settings: Settings, notes: list[str], *, trusted: bool
) -> Record | None:
    """The run by the code of its revision; None where that is not the code that made it, and nobody asked for it."""
    with checked_out(revision) as tree:
        code = code_of(tree, spec)  # before any of it runs
        differs = code is not None and (
            code["code"] != record.hashes["code"] or record.hashes.get("engine", code["engine"]) != code["engine"]
        )
        if differs and not trusted:
            notes.append(
                f"the code of revision {revision[:10]} is not the one that made it (uncommitted changes): it is not run"
            )
            return None
        again = run_there(tree, record, settings)
    if differs or again.hashes["code"] != record.hashes["code"]:
        notes.append(f"the code of revision {revision[:10]} is not the one that made it (uncommitted changes)")
    return again


def _notes(record: Record, device: str) -> list[str]:
    from latentbench.running import provenance

    notes = []
    made = record.provenance
    if made.device != device:
        notes.append(f"made on {made.device}, replayed on {device}")
    if made.platform != provenance.machine():
        notes.append(f"made on {made.platform}, replayed on {provenance.machine()}")
    if made.devices > 1:
        how = "as many" if enough(device, made.devices) else "one, which takes their shares in turn"
        notes.append(
            f"made on {made.devices} devices, replayed on {how}; the order in which gradients are summed may differ, "
            f"so numbers may differ by {ROUNDING:g} of themselves for rounding"
        )
    if made.stacked > 1:
        notes.append(
            f"trained side by side with {made.stacked - 1} more as one program, replayed alone; sums are taken in "
            f"another order, so other bits are no fault, and numbers may differ by {ROUNDING:g} of themselves, or by "
            "what another seed would make of them where training lets rounding grow"
        )
    if made.compiled != "eager":
        again = "compiled" if _compile(made.compiled, device) != "off" else "as it is"
        notes.append(
            f"its loss was compiled ({made.compiled}), and is replayed {again}; another compiler or machine sums in "
            f"another order, so numbers may differ by {ROUNDING:g} of themselves for rounding"
        )
    here = provenance.packages(*made.depends)
    changed = [f"{k} {v} -> {here.get(k, 'none')}" for k, v in made.packages.items() if here.get(k) != v]
    if changed:
        notes.append("other packages: " + ", ".join(changed))
    return notes


def _differences(spec: RunSpec, before: Record, now: Record) -> list[Difference]:
    found = []
    for metric in before.metrics:
        other = next((m for m in now.metrics if m.name == metric.name), None)
        new = other.value if other else None
        spread = _spread(spec, metric.name, metric.identity, new)
        word: Word
        if metric.value == new:
            word = "identical"
        elif metric.value is None or new is None:
            word = "missing"
        else:
            off, rounds = abs(new - metric.value), _rounds(before)
            word = "within spread" if spread and off <= SPREADS * spread else "drifted"
            word = "within tolerance" if rounds and off <= ROUNDING * abs(metric.value) else word
        found.append(Difference(metric.name, metric.unit, metric.value, new, spread, word))
    return found


def _rounds(record: Record) -> bool:
    """Whether its sums may be taken in another order another time."""
    made = record.provenance
    return made.devices > 1 or made.stacked > 1 or made.compiled != "eager"


def _compile(way: str, device: str) -> Compile:
    """What has a loss computed that way again, on a device that may not have graphs."""
    if way == "eager":
        return "off"
    return "graphs" if way == "graphs" and device == "cuda" else "on"


def _spread(spec: RunSpec, metric: str, identity: str, now: float | None) -> float | None:
    """Standard deviation of a metric over seeds: what came out now, and the other seeds that are at hand."""
    import statistics

    prefix = "--".join((safe_name(spec.method), safe_name(spec.dataset), spec.tier, "s"))
    values: dict[int, float] = {} if now is None else {spec.seed: now}
    for _, file in record_files(spec.suite, prefix=prefix):
        try:
            record = read_record(Path(file), sealed=True)
        except UserError:
            continue
        measured = record.value(metric) if record.seed != spec.seed else None
        if measured is not None and measured.identity == identity and measured.value is not None:
            values[record.seed] = measured.value
    return statistics.stdev(values.values()) if len(values) > 1 else None
