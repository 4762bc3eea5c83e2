"""What a run leaves behind: its record, its learning curve and its weights."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from pathlib import Path
from typing import TYPE_CHECKING

from latentbench.core.errors import UserError
from latentbench.core.secrets import without_secrets
from latentbench.planning.fingerprint import digest, engine_hash, imported_by
from latentbench.planning.plan import MetricSpec, RunSpec
from latentbench.records.beside import CURVE, WEIGHTS
from latentbench.records.record import (
    Cost,
    Measured,
    Provenance,
    Record,
    Status,
    TakenStage,
    plain,
    seal,
    write_atomically,
)
from latentbench.running import provenance

if TYPE_CHECKING:
    from latentbench.running.checkpoints import Checkpoints
    from latentbench.running.conductor import Notes
    from latentbench.running.files_read import FilesRead
    from latentbench.running.outcome import Outcome
    from latentbench.running.settings import Settings


#: Bytes of a run's specification and of all metrics' details in a record, faults that it names, and characters of one:
#: readers take 4 MB.
MAX_SPEC = 1_000_000
MAX_DETAILS = 2_000_000
MOST_FAULTS = 40
LONGEST = 2_000


def make_record(
    spec: RunSpec,
    settings: Settings,
    data_hash: str,
    run_id: str,
    status: Status,
    error: str | None,
    outcome: Outcome | None,
    started: str,
    wall: float,
    notes: Notes,
    *,
    files: dict[str, str] | None = None,
    checkpoints: Checkpoints | None = None,
    beside: FilesRead | None = None,
) -> Record:
    """The record of a run, sealed.

    Args:
        started: when it began, in ISO 8601.
        wall: seconds that it took, those before an interruption included.
        notes: how its training was computed.
        files: sha256 of the files beside the record, by name.
        checkpoints: those that it kept, which know what it went on from.
        beside: what its code read from beside itself.
    """
    revision, dirty = provenance.git_state()
    depends = provenance.further_packages(_imported(spec))
    faults = list(checkpoints.faults) if checkpoints else []
    if (unknown := provenance.git_fault()) is not None:
        faults.append(unknown)
    faults += beside.faults() if beside else []
    metrics = _of_bounded_size([_measured(m, spec, data_hash, outcome, error) for m in spec.metrics], faults)
    trained = outcome.trained if outcome else None
    seconds = outcome.seconds if outcome else {}
    training = seconds.get("training", 0.0)
    record = Record(
        run_id=run_id,
        suite=spec.suite,
        version=spec.suite_version,
        tier=spec.tier,
        method=spec.method,
        dataset=spec.dataset,
        seed=spec.seed,
        status=status,
        error=without_secrets(error)[:LONGEST] if error else None,
        outcomes=outcome.outcomes if outcome else [],
        fingerprint=spec.fingerprint(data_hash),
        hashes={"spec": spec.spec_hash, "data": data_hash, "code": spec.code_hash, "engine": engine_hash()},
        exact=spec.exact,
        spec=spec.settled(),
        metrics=metrics,
        curve=CURVE if trained and trained.curve else None,
        cost=Cost(
            wall_seconds=wall,
            data_seconds=seconds.get("data", 0.0),
            training_seconds=training,
            evaluation_seconds=seconds.get("evaluation", 0.0),
            samples_per_second=trained.samples / training if trained and training > 0 else None,
            steps=trained.steps if trained else 0,
            epochs=trained.epochs if trained else 0.0,
            parameters=outcome.parameters if outcome else 0,
            peak_memory_bytes=provenance.peak_memory(settings.device),
        ),
        provenance=Provenance(
            git_revision=revision,
            git_dirty=dirty,
            packages=provenance.packages(*depends),
            depends=depends,
            files=beside.named() if beside else {},
            python=".".join(provenance.platform.python_version_tuple()),
            platform=provenance.machine(),
            device=settings.device,
            threads=settings.threads,
            devices=notes.devices,
            command=provenance.command_line(),
            design=settings.designs.get(spec.suite),
            started=started,
            ended=provenance.now(),
            stacked=notes.stacked,
            compiled=notes.compiled,
            step_seconds=dict(notes.step_seconds),
            stages=[TakenStage(**stage) for stage in trained.taken] if trained else [],
            resumed_from=checkpoints.resumed_from if checkpoints else None,
            faults=_few([without_secrets(fault) for fault in faults]),
        ),
        files=files or {},
    )
    return record.model_copy(update={"seal": seal(record)})


def _imported(spec: RunSpec) -> set[str]:
    try:
        return imported_by(spec.roots())
    except (LookupError, SyntaxError, UserError):  # of a run that failed for that reason
        return set()


def metric_identity(metric: MetricSpec, spec: RunSpec, data_hash: str) -> str:
    """Hash of all that decides what a metric's number means, 12 hexadecimal digits.

    Its implementation's version and settings, and the quantity it is measured on: the data's content and split, and
    the steps of preprocessing, but for those that say that they leave it as it is (bijections, whose log-Jacobian is
    accounted for).
    """
    from latentbench.data.preprocess import build

    return digest(
        {
            "metric": metric.name,
            "version": metric.version,
            "settings": metric.settings,
            "data": data_hash,
            "split": spec.data["split"].get("test"),
            "stored": spec.data["stored"],
            "rows": spec.data["limit"].get("test"),
            **{key: spec.data[key] for key in ("main", "parts", "roles") if key in spec.data},
            "measure": build(spec.data["preprocess"]).quantity,
        }
    )[:12]


def _measured(
    metric: MetricSpec, spec: RunSpec, data_hash: str, outcome: Outcome | None, error: str | None
) -> Measured:
    """A metric's value, or why it has none: a run that failed keeps its place in every table that asked for it."""
    entry, value = metric.entry, outcome.values.get(metric.key) if outcome else None
    failure = outcome.failures.get(metric.key) if outcome else error
    return Measured(
        name=metric.key,
        metric=metric.name,
        value=float(value.value) if value else None,
        se=plain(value.se) if value else None,
        n=value.n if value else None,
        unit=entry.unit,
        better=entry.better,
        likelihood=entry.kind(metric.settings),
        identity=metric_identity(metric, spec, data_hash),
        failure=without_secrets(failure)[:LONGEST] if failure else None,
        details=plain(value.details) if value else {},
    )


def check_size(spec: RunSpec) -> None:
    """Refuse a run whose record nobody could read, before it is done.

    Raises:
        UserError: its specification is too long.
    """
    if (size := len(json.dumps(spec.settled(), indent=1))) > MAX_SPEC:
        raise UserError(
            f"the specification of a run has {size} bytes, and a record has room for {MAX_SPEC}",
            where=f"suite {spec.suite}, method {spec.method}",
            fix="have the model compute what its parameters list",
        )


def _of_bounded_size(metrics: list[Measured], faults: list[str]) -> list[Measured]:
    """The metrics without those details that a record has no room for, the longest first; `faults` names them."""
    sizes = {m.name: len(json.dumps(m.details, indent=1)) for m in metrics}
    dropped = set()
    for name in sorted(sizes, key=sizes.__getitem__, reverse=True):
        if sum(size for other, size in sizes.items() if other not in dropped) <= MAX_DETAILS:
            break
        dropped.add(name)
        faults.append(f"details of {name} were left out: {sizes[name]} bytes, and a record has room for {MAX_DETAILS}")
    return [m.model_copy(update={"details": {}}) if m.name in dropped else m for m in metrics]


def _few(faults: list[str]) -> list[str]:
    """The first and the last of many, each of them short enough to be read."""
    short = [fault if len(fault) <= LONGEST else f"{fault[:LONGEST]} …" for fault in faults]
    left_out = len(short) - MOST_FAULTS
    if left_out <= 0:
        return short
    half = MOST_FAULTS // 2
    return [*short[:half], f"… {left_out} more …", *short[-half:]]


def keep_results(outcome: Outcome, folder: Path, *, weights: bool) -> dict[str, str]:
    """Write learning curve and final weights beside the record; the sha256 of each file.

    Raises:
        OSError: they cannot be written.
    """
    kept: dict[str, bytes] = {}
    if rows := outcome.trained.curve:
        keys = list(dict.fromkeys(k for row in rows for k in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, keys, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        kept[CURVE] = text.getvalue().encode()
    if weights and hasattr(outcome.model, "state_dict"):
        from safetensors.torch import save

        state = {k: v.detach().cpu().contiguous().clone() for k, v in outcome.model.state_dict().items()}
        if state:
            kept[WEIGHTS] = save(state)
    for name, content in kept.items():
        write_atomically(folder / name, content)
    return {name: hashlib.sha256(content).hexdigest() for name, content in kept.items()}
