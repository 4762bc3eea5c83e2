"""A run's record: one JSON file that says what was asked, what came out, what it cost and where it ran."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    ValidationInfo,
    model_serializer,
)

from latentbench.core.bounds import DEVICES, RECORD_BYTES, STACKED, THREADS, read_at_most
from latentbench.core.errors import UserError
from latentbench.core.paths import safe_name, shown, without_mark
from latentbench.core.whole import written_beside
from latentbench.records.design import Design
from latentbench.records.pack import SUFFIX, pack_of
from latentbench.records.sealing import seal_of

MAX_BYTES = RECORD_BYTES
REMOVE = "remove it; its run is then done again"

Status = Literal["finished", "failed", "diverged", "out-of-memory", "interrupted"]


#: Context of a validation whose text was found to hold nothing but JSON before.
_KNOWN = "known"


def _json(value: Any, info: ValidationInfo) -> Any:
    if info.context == _KNOWN:
        return value
    try:
        json.dumps(value, allow_nan=False)
    except (ValueError, RecursionError):
        raise ValueError("it holds a number without end, or what is none") from None
    return value


#: What pydantic passes on unseen; NaN, infinities and endless integers have no place in it.
Anything = Annotated[dict[str, Any], AfterValidator(_json)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Measured(_Strict):
    """One metric of one run. `value` is None where it could not be had, and `failure` says why."""

    name: str
    metric: str
    value: float | None = None
    se: float | None = None
    n: int | None = None
    unit: str
    better: Literal["higher", "lower"]
    likelihood: str = ""
    identity: str
    failure: str | None = None
    details: Anything = {}


class Cost(_Strict):
    """What a run took. Seconds are wall time; peak memory is the process's, on CUDA the allocator's, in bytes."""

    wall_seconds: float
    data_seconds: float = 0.0
    training_seconds: float = 0.0
    evaluation_seconds: float = 0.0
    samples_per_second: float | None = None
    steps: int = 0
    epochs: float = 0.0
    parameters: int = 0
    peak_memory_bytes: int | None = None


class TakenStage(_Strict):
    """A stage of a training whose weights several runs share; its seconds and steps are not among the run's own."""

    name: str
    fingerprint: str
    steps: int
    seconds: float


class Provenance(_Strict):
    """Where a number comes from."""

    git_revision: str | None = None
    git_dirty: bool | None = None
    packages: dict[str, str] = {}
    depends: list[str] = Field(
        [], description="further packages of `packages` that its model, metrics, steps or oracle import"
    )
    files: dict[str, str] = Field(
        {}, description="sha256 of other files that its own code read from beside itself, as far as Python opened them"
    )
    python: str
    platform: str
    device: str
    threads: int = Field(ge=1, le=THREADS)
    devices: int = Field(
        1, ge=1, le=DEVICES, description="that the run was spread over, a process of so many threads each"
    )
    command: list[str] = []
    started: str
    ended: str
    stacked: int = Field(
        1, ge=1, le=STACKED, description="runs that trained side by side as one program, this one included"
    )
    compiled: Literal["eager", "inductor", "graphs"] = Field(
        "eager",
        description="how the loss was computed: by torch's own kernels, by compiled ones, by CUDA graphs of them",
    )
    step_seconds: dict[str, float] = Field({}, description="of each way that was timed to choose among them")
    resumed_from: int | None = Field(None, description="step of the checkpoint that it went on from, if it did")
    stages: list[TakenStage] = Field([], description="whose weights were trained once, for all runs that name them")
    faults: list[str] = Field([], description="what went wrong on the way and was survived")
    design: Design | None = Field(None, description="how many seeds the sweep was to have; of old records, unknown")
    sealed_later: str | None = Field(None, description="day on which it was sealed, where its run left it without")

    @model_serializer(mode="wrap")
    def _as_sealed(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """What came later than seals is written where it says something, so that older records keep theirs."""
        late = {
            "devices": 1,
            "stacked": 1,
            "compiled": "eager",
            "step_seconds": {},
            "stages": [],
            "design": None,
            "depends": [],
            "files": {},
            "sealed_later": None,
        }
        return {k: v for k, v in handler(self).items() if k not in late or v != late[k]}


class Record(_Strict):
    """See the module. `hashes` are those of spec, data, code and engine that make up the fingerprint.

    Records from before the engine had a hash of its own have none, and name their model by ``module:Class``
    (`latentbench.records.former`).
    """

    format: Literal[1] = 1
    run_id: str
    suite: str
    version: int
    tier: Literal["smoke", "cpu", "paper"]
    method: str
    dataset: str
    seed: int
    status: Status
    error: str | None = None
    outcomes: list[str] = []
    fingerprint: str
    hashes: dict[Literal["spec", "data", "code", "engine"], str] = Field(min_length=3)
    exact: bool = False
    spec: Anything
    metrics: list[Measured] = []
    curve: str | None = Field(None, description="file beside the record")
    cost: Cost
    provenance: Provenance
    files: dict[str, str] = Field({}, description="sha256 of the files beside the record")
    seal: str | None = Field(None, description="hash of all the above, by `seal`")

    def value(self, metric: str) -> Measured | None:
        """The measurement of a metric key, if the run finished and has one."""
        if self.status != "finished":
            return None
        return next((m for m in self.metrics if m.name == metric and m.value is not None), None)


def seal(record: Record) -> str:
    """Hash of everything in a record but the seal itself: it shows damage and edits, not who wrote it."""
    return seal_of(record.model_dump(mode="json"))


def is_intact(record: Record) -> bool:
    """Whether a record is as it was sealed."""
    return record.seal == seal(record)


NO_SEAL = "it has no seal, so nothing shows whether it is as its run left it"
BROKEN_SEAL = "its seal is broken: something in it was changed after the run"


def seal_fault(record: Record) -> str | None:
    """What is wrong with a record's seal, in one line."""
    if record.seal is None:
        return NO_SEAL
    return None if is_intact(record) else BROKEN_SEAL


def place_fault(record: Record, path: Path | str) -> str | None:
    """What is wrong with where a record lies, in one line: the folder or the file that it has is named after its run.

    Args:
        record: the record.
        path: as `read_record` takes it.
    """
    folder, _, file = str(path).rpartition("/")
    packed = folder.endswith(SUFFIX)
    name = file if packed else folder.rpartition("/")[2] if file == "record.json" else file.removesuffix(".json")
    if name != record.run_id:
        return f"it lies under another name, {name[:200]}: it is the record of {record.run_id[:200]}"
    *_, suite, tier = ("", *folder.split("/"))
    if packed and (tier.removesuffix(SUFFIX) != record.tier or suite != safe_name(record.suite)):
        return f"it lies among those of {suite}, tier {tier.removesuffix(SUFFIX)}"
    return None


def plain(value: Any) -> Any:
    """`value` as JSON can hold it; what is not finite becomes null."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if hasattr(value, "tolist"):  # numpy and torch
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, str | int | bool) or value is None else str(value)


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a whole file or nothing: a reader never sees half of it, also after a crash.

    Raises:
        OSError: disk full, folder read-only; nothing of the file is left behind, and an older one stays.
    """
    with written_beside(path, content.encode() if isinstance(content, str) else content) as temporary:
        os.replace(temporary, path)


def remove_unfinished(folder: Path) -> None:
    """Remove what killed processes left of `write_atomically` below `folder`; nobody else may be writing there."""
    for path in folder.rglob(".*.part"):
        with suppress(OSError):
            path.unlink()


def write_record(path: Path, record: Record, *, kept: str = "") -> None:
    """Write `record` to `path` atomically, as indented JSON.

    Args:
        path: its file.
        record: to write.
        kept: what becomes of its run where the record cannot be written, for the message.

    Raises:
        UserError: it cannot be written, or is larger than what `read_record` takes.
    """
    text = json.dumps(record.model_dump(mode="json"), indent=1, allow_nan=False) + "\n"
    if len(text) > MAX_BYTES:
        raise UserError(
            f"the record would be larger than {MAX_BYTES} bytes", where=shown(path), fix="shorten the suite"
        )
    try:
        write_atomically(path, text)
    except OSError as e:
        raise UserError(
            f"the record cannot be written: {e.strerror or e}",
            where=shown(path),
            fix=f"make room or mend the folder's permissions, then run again{': ' if kept else ''}{kept}",
        ) from None


def read_record(path: Path, *, sealed: bool = False, known: bool = False) -> Record:
    """Read a record that anybody may have written.

    Args:
        path: its file; or that of its pack, with its run identifier below it.
        sealed: refuse one whose seal is broken or missing.
        known: the same bytes were read before, so that half of the checks need not be made again.

    Raises:
        UserError: it is not a record of this format, or not as it was sealed.
    """
    if (pack := pack_of(path)) is not None:
        return record_of(pack.record(path.name), path, sealed=sealed, known=known)
    return record_of(record_text(path), path, sealed=sealed, known=known)


def record_text(path: Path | str) -> bytes:
    """The bytes of a record's own file.

    Raises:
        UserError: it cannot be read, or is too large for a record.
    """
    try:
        text = read_at_most(path, MAX_BYTES)
    except OSError as e:
        raise UserError(f"cannot be read: {e.strerror}", where=shown(Path(path)), fix="check its permissions") from None
    if text is None:
        raise UserError(f"larger than {MAX_BYTES} bytes", where=shown(Path(path)), fix="records are small; remove it")
    return text


def record_of(
    content: bytes | dict[str, Any], path: str | Path, *, sealed: bool = False, known: bool = False
) -> Record:
    """The record in a JSON text or its content; for the rest see `read_record`.

    Args:
        content: the record.
        path: where it lies, for messages.
        sealed, known: as there.
    """
    context = _KNOWN if known else None
    if isinstance(content, bytes):
        content = without_mark(content)
    try:
        if isinstance(content, bytes):
            record = Record.model_validate_json(content, context=context)
        else:
            record = Record.model_validate(content, context=context)
    except ValidationError as e:
        fault = e.errors(include_url=False)[0]
        place = ".".join(str(p) for p in fault["loc"])
        what = f"not a record: {place + ': ' if place else ''}{fault['msg']}"
        raise UserError(what, where=shown(Path(path)), fix=REMOVE) from None
    if not sealed or known:
        return record
    if record.seal is None:
        raise UserError(NO_SEAL, where=shown(Path(path)), fix=REMOVE)
    if record.seal != seal_of(json.loads(content) if isinstance(content, bytes) else content):
        raise UserError(BROKEN_SEAL, where=shown(Path(path)), fix=REMOVE)
    return record
