"""A run's record: one JSON file that says what was asked, what came out, what it cost and where it ran."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from benchmarks.core.errors import UserError
from benchmarks.core.paths import shown

MAX_BYTES = 4_000_000

Status = Literal["finished", "failed", "diverged", "out-of-memory", "interrupted"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Measured(_Strict):
    """One metric of one run. `value` is None where it could not be had, and `failure` says why."""

    name: str
    metric: str
    value: float | None = Field(None, allow_inf_nan=False)
    se: float | None = Field(None, allow_inf_nan=False)
    n: int | None = None
    unit: str
    better: Literal["higher", "lower"]
    likelihood: str = ""
    identity: str
    failure: str | None = None
    details: dict[str, Any] = {}


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


class Provenance(_Strict):
    """Where a number comes from."""

    git_revision: str | None = None
    git_dirty: bool | None = None
    packages: dict[str, str] = {}
    python: str
    platform: str
    device: str
    threads: int
    command: list[str] = []
    started: str
    ended: str


class Record(_Strict):
    """See the module. `hashes` are those of spec, data and code that make up the fingerprint."""

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
    hashes: dict[Literal["spec", "data", "code"], str]
    exact: bool = False
    spec: dict[str, Any]
    metrics: list[Measured] = []
    curve: str | None = Field(None, description="file beside the record")
    cost: Cost
    provenance: Provenance

    def value(self, metric: str) -> Measured | None:
        """The measurement of a metric key, if the run finished and has one."""
        if self.status != "finished":
            return None
        return next((m for m in self.metrics if m.name == metric and m.value is not None), None)


def write_atomically(path: Path, text: str) -> None:
    """Write a whole file or nothing: a reader never sees half of it, also after a crash."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as f:
            f.write(text)
            f.flush()
            os.fsync(f.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_record(path: Path, record: Record) -> None:
    """Write `record` to `path` atomically, as indented JSON."""
    write_atomically(path, json.dumps(record.model_dump(mode="json"), indent=1, allow_nan=False) + "\n")


def read_record(path: Path) -> Record:
    """Read a record that anybody may have written.

    Raises:
        UserError: it is not a record of this format.
    """
    try:
        with open(path, "rb") as f:
            text = f.read(MAX_BYTES + 1)
        if len(text) > MAX_BYTES:
            raise UserError(f"larger than {MAX_BYTES} bytes", where=shown(path), fix="records are small; remove it")
        return Record.model_validate_json(text)
    except ValidationError as e:
        fault = e.errors(include_url=False)[0]
        place = ".".join(str(p) for p in fault["loc"])
        raise UserError(
            f"not a record: {place + ': ' if place else ''}{fault['msg']}",
            where=shown(path),
            fix="remove the file; its run is then done again",
        ) from None
    except OSError as e:
        raise UserError(f"cannot be read: {e.strerror}", where=shown(path), fix="check its permissions") from None
