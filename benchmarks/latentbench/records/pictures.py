"""Pictures of what a model makes, and where they lie: beside the record of the run that they are of.

A run has them in ``pictures/`` of its folder, a packed one in ``results/reference/<suite>/pictures/<run-id>/``. They
belong to no record: no hash of one names them, and a run is the same with and without them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from latentbench.core.bounds import read_at_most
from latentbench.records.pack import SUFFIX

FOLDER = "pictures"
#: Bytes that the pictures of one method take, and those of one that is read.
MOST_BYTES = 60_000
_LARGEST = 1_000_000
_PNG = b"\x89PNG\r\n\x1a\n"

#: What a picture's file is called, and what it shows, in the order in which pages show them.
KINDS: dict[str, str] = {
    "samples": "Samples",
    "reconstructions": "Reconstructions, below the test rows that they are of",
    "traversals": "Traversals: one coordinate of the code after the other, the rest held",
    "interpolations": "Interpolations between the codes of two test rows",
    "path": "From noise to samples",
    "density": "The model's density",
    "plane": "Samples and test rows in the plane of the data",
    "codes": "Codes of test rows",
    "transport": "Source, target, and where the source is sent",
    "series": "Series and what the model makes of them",
    "forecast": "Series, how they go on, and the model's forecast",
    "graph": "Edges, and the model's scores",
    "sentences": "Sentences",
}


@dataclass(frozen=True)
class Picture:
    """A picture (`text` is None), or text that was made; width and height in pixels."""

    kind: str
    path: Path
    width: int = 0
    height: int = 0
    text: str | None = None

    @property
    def title(self) -> str:
        return KINDS[self.kind]


def folder_for(record: Path) -> Path:
    """Where the pictures of the record at a path lie, or would."""
    if record.parent.suffix == SUFFIX:
        return record.parent.parent / FOLDER / record.name
    return record.parent / FOLDER


def pictures_of(record: Path) -> list[Picture]:
    """The pictures beside a record, in the order of `KINDS`; what is none is passed over."""
    return pictures_in(folder_for(record))


def pictures_in(folder: Path) -> list[Picture]:
    """As `pictures_of`, of a folder."""
    if not folder.is_dir() or folder.is_symlink():
        return []
    found = []
    for kind in KINDS:
        for suffix in (".png", ".txt"):
            picture = _read(kind, folder / f"{kind}{suffix}")
            if picture is not None:
                found.append(picture)
    return found


def _read(kind: str, path: Path) -> Picture | None:
    if path.is_symlink():
        return None
    try:
        content = read_at_most(path, _LARGEST)
    except OSError:
        return None
    if content is None:
        return None
    if path.suffix == ".txt":
        return Picture(kind, path, text=content.decode(errors="replace"))
    if content[:8] != _PNG or content[12:16] != b"IHDR":
        return None
    width, height = (int.from_bytes(content[i : i + 4], "big") for i in (16, 20))
    return Picture(kind, path, width, height) if 0 < width <= 10_000 and 0 < height <= 10_000 else None
