"""Which runs wandb has been told of: noted beside its own files, by the record's seal, the mode and the project."""

from __future__ import annotations

import json
import os
from pathlib import Path

from latentbench.core.bounds import PACK_BYTES, read_at_most
from latentbench.records.record import Record

#: A line of JSON for each run.
FILE = "synced.jsonl"


def mark(record: Record, mode: str) -> str:
    """What stands for a run that was told of."""
    project = os.environ.get("WANDB_PROJECT", "")
    return "\n".join([record.run_id, record.seal or record.provenance.ended, mode, project])


def marks(folder: Path) -> set[str]:
    """Those that are noted in wandb's folder; a line cut short is none, and its run is told of again, as the same."""
    try:
        content = read_at_most(folder / FILE, PACK_BYTES) or b""
    except OSError:
        return set()
    found = set()
    for line in content.decode(errors="replace").splitlines():
        try:
            found.add(str(json.loads(line)))
        except ValueError:
            continue
    return found


def note_told(folder: Path, told: str) -> None:
    """Note one more.

    Raises:
        OSError: it cannot be written.
    """
    with open(folder / FILE, "a", encoding="utf-8") as f:
        f.write(json.dumps(told) + "\n")
