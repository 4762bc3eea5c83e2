"""A run again from its record: by the code that made it, as it was asked, on as many threads; then compared."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks.core.errors import UserError
from benchmarks.core.paths import data_dir, safe_name
from benchmarks.planning.plan import RunSpec
from benchmarks.records.archive import record_files
from benchmarks.records.record import Record, is_intact, read_record
from benchmarks.runner.distributed import enough
from benchmarks.runner.one import perform
from benchmarks.runner.rebuild import hash_holds
from benchmarks.runner.settings import Settings, Told

Code = Literal["the same code", "the code of its revision", "other code"]
Word = Literal["identical", "within tolerance", "within spread", "drifted", "missing"]

#: Differences of up to so many standard deviations over seeds are within what another seed would do.
SPREADS = 2.0
#: Relative difference that summing in another order may make: gradients of several devices, or what runs that train
#: as one program compute side by side.
ROUNDING = 1e-3
CHECKOUT = Path(__file__).resolve().parents[2]


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
    tell: Callable[[Told], None] = lambda _: None,
) -> Replayed:
    """Run `record` again.

    Args:
        spec: what the record says, by `rebuild`.
        record: the record.
        device: where to run.
        today: use the code as it is, also where the record's own can be had.
        tell: told how it goes.

    Raises:
        UserError: the record contradicts itself, or its data cannot be had.
    """
    if not hash_holds(spec, record):
        raise UserError(
            "its specification does not hash to what it says", where=record.run_id, fix="it was edited, or is damaged"
        )
    notes = _notes(record, device)
    if not is_intact(record):
        notes.append("its seal is broken: something in it was changed after the run")
    with tempfile.TemporaryDirectory(prefix="latentbench-replay-") as folder:
        made = record.provenance
        settings = Settings(Path(folder), device=device, threads=made.threads, devices=made.devices)
        code: Code = "the same code" if spec.code_hash == record.hashes["code"] else "other code"
        revision = record.provenance.git_revision
        if code == "other code" and not today and revision and _have(revision):
            code = "the code of its revision"
            with _checkout(revision) as tree:
                again = _run_there(tree, record, settings)
            if again.hashes["code"] != record.hashes["code"]:
                notes.append(f"the code of revision {revision[:10]} is not the one that made it (uncommitted changes)")
        else:
            again, _ = perform(spec, settings, tell)
    if again.hashes["data"] != record.hashes["data"]:
        notes.append("the data have another content hash")
    weights = None
    if "weights.safetensors" in record.files and "weights.safetensors" in again.files:
        weights = record.files["weights.safetensors"] == again.files["weights.safetensors"]
    differences = _differences(spec, record, again)
    statuses = record.status, again.status
    return Replayed(record.run_id, code, notes, statuses, weights, differences, is_intact(record))


def _notes(record: Record, device: str) -> list[str]:
    from benchmarks.runner import provenance

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
    here = provenance.packages()
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
            off, rounds = abs(new - metric.value), before.provenance.devices > 1 or before.provenance.stacked > 1
            word = "within spread" if spread and off <= SPREADS * spread else "drifted"
            word = "within tolerance" if rounds and off <= ROUNDING * abs(metric.value) else word
        found.append(Difference(metric.name, metric.unit, metric.value, new, spread, word))
    return found


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


def _git(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(("git", *args), cwd=CHECKOUT, capture_output=True, text=True, check=False)


def _have(revision: str) -> bool:
    """Whether a revision is in the history of this clone: of what is checked out, or of a branch or tag of one's own.

    A commit that is merely stored, such as one fetched from somebody's fork, is not run because a record names it.
    What a record says goes to git as data, never as an option.
    """
    if not (len(revision) in (40, 64) and all(c in "0123456789abcdef" for c in revision)):
        return False
    if _git("merge-base", "--is-ancestor", revision, "HEAD").returncode == 0:
        return True
    return bool(_git("for-each-ref", "--count=1", f"--contains={revision}", "refs/heads", "refs/tags").stdout.strip())


@contextmanager
def _checkout(revision: str) -> Iterator[Path]:
    """A work tree of `revision`, for as long as the block lasts."""
    with tempfile.TemporaryDirectory(prefix="latentbench-revision-") as folder:
        tree = Path(folder) / "tree"
        done = _git("worktree", "add", "--detach", "--quiet", str(tree), revision)
        if done.returncode != 0:
            raise UserError(
                f"revision {revision[:10]} cannot be checked out: {done.stderr.strip()[:200]}",
                fix="replay with --today to use the code as it is",
            )
        try:
            yield tree
        finally:
            _git("worktree", "remove", "--force", str(tree))


def _run_there(tree: Path, record: Record, settings: Settings) -> Record:
    """The run of a record by the code of a work tree, in a process of its own."""
    command: Sequence[str] = (
        *(sys.executable, "-m", "benchmarks", "run", f"--tier={record.tier}", f"--seeds={record.seed},"),
        *(f"--method={_literal(record.method)}", f"--dataset={_literal(record.dataset)}"),
        *("--jobs=1", f"--device={settings.device}", "--wandb=disabled", "--quiet"),
        *([f"--devices={settings.devices}"] if settings.devices > 1 else ()),
        *("--", record.suite),
    )
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, (str(tree), os.environ.get("PYTHONPATH")))),
        "LATENTBENCH_ROOT": str(tree),
        "LATENTBENCH_RESULTS": str(settings.results),
        "LATENTBENCH_DATA": str(data_dir()),
        "OMP_NUM_THREADS": str(settings.threads),
    }
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)
    files = [file for _, file in record_files(record.suite, settings.results)]
    if len(files) != 1:
        said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
        raise UserError(
            f"the code of its revision made {len(files)} records (exit code {done.returncode}): {said}",
            where=record.run_id,
            fix="replay with --today to use the code as it is",
        )
    return read_record(Path(files[0]))


def _literal(name: str) -> str:
    """A name as a pattern that matches it alone."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)
