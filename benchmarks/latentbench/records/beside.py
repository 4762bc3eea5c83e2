"""Files that belong to a record and lie beside it; those of a packed record have places of their own.

Its learning curve may stand in ``<tier>.curves.jsonl`` beside the pack, a line a run:
``{"curve":"<run-id>","text":"…"}``. Weights, pictures and longer curves lie in ``results/artefacts/<suite>/<run-id>/``,
which git ignores and DVC can track. Both are held to the hashes in the record.
"""

from __future__ import annotations

import hashlib
import json
import re
from functools import lru_cache
from pathlib import Path

from pydantic_core import from_json

from latentbench.core.bounds import ARTEFACT_BYTES, OBJECT_BYTES, read_at_most
from latentbench.core.file_cache import state_of
from latentbench.records.pack import CURVES, MAX_BYTES, SUFFIX
from latentbench.records.packform import NAME
from latentbench.records.record import Record

CURVE = "curve.csv"
WEIGHTS = "weights.safetensors"
#: Bytes of a learning curve that travels in a pack, and of a file among the artefacts.
MAX_CURVE = 16_384
MAX_ARTEFACT = ARTEFACT_BYTES
_LINE = re.compile(rb'\{"curve":"(' + NAME + rb')",')


def most_bytes(name: str) -> int:
    """How large the file `name` of a record may be: weights as an object of a store, any other as an artefact."""
    return OBJECT_BYTES if name == WEIGHTS else MAX_ARTEFACT


def folder_of(path: Path) -> Path:
    """Where the files of the record at `path` lie, or would."""
    if path.parent.suffix != SUFFIX:
        return path.parent
    suite = path.parent.parent
    return suite.parent.parent / "artefacts" / suite.name / path.name


def curve_of(record: Record, path: Path) -> str | None:
    """The learning curve of the record at `path` as CSV; None where it has none, it is not here or not its own."""
    if record.curve is None:
        return None
    expected = record.files.get(CURVE)
    if path.parent.suffix == SUFFIX:
        for text in packed_curves(path.parent).get(path.name, ()):
            if hashlib.sha256(text.encode()).hexdigest() == expected:
                return text
    try:
        content = read_at_most(folder_of(path) / CURVE, MAX_ARTEFACT)
    except OSError:
        return None
    if content is None or hashlib.sha256(content).hexdigest() != expected:
        return None
    return content.decode(errors="replace")


def is_curve_damaged(record: Record, path: Path) -> bool:
    """Whether there is a learning curve beside the record at `path`, and it is not the one that its run left."""
    return record.curve is not None and (folder_of(path) / CURVE).is_file() and curve_of(record, path) is None


def curves_file(pack: Path) -> Path:
    """Where the learning curves of a pack are."""
    return pack.with_name(pack.name.removesuffix(SUFFIX) + CURVES)


def packed_curves(pack: Path) -> dict[str, list[str]]:
    """The learning curves beside a pack, by run, several where two branches did the same one; no damaged ones."""
    file = curves_file(pack)
    try:
        return _curves(str(file), tuple(state_of(file.stat())))
    except OSError:
        return {}


@lru_cache(maxsize=8)
def _curves(file: str, _: tuple[int, ...]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in (read_at_most(Path(file), MAX_BYTES) or b"").split(b"\n"):
        if name := _LINE.match(line):
            try:
                text = from_json(line)["text"]
            except (ValueError, LookupError):
                continue
            if isinstance(text, str) and text not in (there := found.setdefault(name[1].decode(), [])):
                there.append(text)
    return found


def curve_line(run: str, text: str) -> str:
    return json.dumps({"curve": run, "text": text}, separators=(",", ":"))
