"""Records into packs, and out of them again."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from latentbench.core.errors import UserError
from latentbench.core.paths import is_companion, safe_name, shown, stays_inside, without_mark
from latentbench.records.beside import (
    CURVE,
    MAX_ARTEFACT,
    MAX_CURVE,
    curve_line,
    curve_of,
    curves_file,
    folder_of,
    packed_curves,
)
from latentbench.records.pack import MAX_BYTES, SUFFIX, Pack, open_pack, pack_of
from latentbench.records.packform import Json, canonical, lines_of
from latentbench.records.pictures import folder_for, pictures_in
from latentbench.records.record import Cost, Measured, Provenance, Record, read_record, write_atomically


@dataclass
class Packed:
    """What became of the records that were given for one pack, as run identifiers.

    `curves`, `pictures` and `artefacts` count learning curves, pictures and other files that were taken along.
    """

    pack: Path
    added: list[str] = field(default_factory=list)
    there: list[str] = field(default_factory=list)
    curves: int = 0
    pictures: int = 0
    artefacts: int = 0


def pack_records(
    paths: Iterable[Path], results: Path, *, replace: bool = False, artefacts: bool = False
) -> list[Packed]:
    """Add records to the packs of a results folder.

    Of each method on each dataset, the finished run with the least seed brings its learning curve and its pictures.

    Args:
        paths: records, whose seals are checked; they stay where they are.
        results: the folder that has, or will have, ``reference/``.
        replace: take them also where the pack has the same run.
        artefacts: of those runs, take weights and whatever else lies beside the record, into ``artefacts/``.

    Raises:
        UserError: a record is damaged, or a pack is and would lose records.
    """
    by_pack: dict[Path, dict[str, tuple[Record, Path]]] = {}
    for path in paths:
        record = read_record(path, sealed=True)
        by_pack.setdefault(_pack_for(record, results), {})[record.run_id] = record, path
    return [_packed(pack, given, results, replace, artefacts) for pack, given in by_pack.items()]


def _pack_for(record: Record, results: Path) -> Path:
    return stays_inside(results / "reference" / safe_name(record.suite) / f"{record.tier}{SUFFIX}", results)


def is_packed(path: Path, results: Path) -> bool:
    """Whether the very record at `path` is in a pack of a results folder."""
    record = read_record(path)
    pack = open_pack(_pack_for(record, results))
    return record.run_id in pack.names() and canonical(pack.record(record.run_id)) == canonical(raw_record(path))


def _packed(
    file: Path, given: Mapping[str, tuple[Record, Path]], results: Path, replace: bool, artefacts: bool
) -> Packed:
    from filelock import FileLock

    done = Packed(file)
    lock = results / "locks" / "reference.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock):
        pack = _whole(file)
        kept = set(pack.names())
        done.there = sorted(given.keys() & kept)
        done.added = sorted(given.keys() - kept) if not replace else sorted(given)
        lines = {line for name in kept - set(done.added) for line in lines_of(pack.record(name))}
        lines |= {line for name in done.added for line in lines_of(raw_record(given[name][1]))}
        _write(file, lines)
        first = _first_seeds([(record, path) for record, path in given.values()])
        curves = {name: set(texts) for name, texts in packed_curves(file).items()}
        for record, path in first:
            text = curve_of(record, path)
            if text is not None and len(text) <= MAX_CURVE and text not in curves.setdefault(record.run_id, set()):
                curves[record.run_id].add(text)
                done.curves += 1
        for record, path in first:
            done.pictures += _pictured(folder_for(path), folder_for(file / record.run_id))
        if done.curves:
            _write(curves_file(file), {curve_line(name, text) for name, each in curves.items() for text in each})
    for record, path in first if artefacts else ():
        done.artefacts += _copied(record, folder_of(path), folder_of(file / record.run_id))
    return done


def _pictured(here: Path, there: Path) -> int:
    """Copy a run's pictures, in place of those that are there; how many came."""
    found = pictures_in(here) if here != there else []
    if not found:
        return 0
    for old in pictures_in(there):
        old.path.unlink()
    for picture in found:
        write_atomically(there / picture.path.name, picture.path.read_bytes())
    return len(found)


def _whole(file: Path) -> Pack:
    """A pack that can be written anew without loss.

    Raises:
        UserError: some of it cannot be read.
    """
    pack = open_pack(file)
    faults = [*pack.faults, *pack.unused()] if file.exists() else []
    if faults:
        raise UserError(f"it is damaged and is not written: {faults[0]}", where=shown(file), fix="restore it from git")
    return pack


def _write(file: Path, lines: Iterable[str]) -> None:
    text = "".join(f"{line}\n" for line in sorted(lines))
    if len(text) > MAX_BYTES:
        raise UserError(f"it would be larger than {MAX_BYTES} bytes", where=shown(file), fix="part the suite")
    if not file.is_file() or file.read_text(encoding="utf-8") != text:
        write_atomically(file, text)


def _first_seeds(records: Iterable[tuple[Record, Path]]) -> list[tuple[Record, Path]]:
    """The finished record with the least seed of each method on each dataset."""
    first: dict[tuple[str, str], tuple[Record, Path]] = {}
    for record, path in sorted(records, key=lambda r: (r[0].seed, r[0].run_id)):
        if record.status == "finished":
            first.setdefault((record.method, record.dataset), (record, path))
    return list(first.values())


def _copied(record: Record, here: Path, there: Path) -> int:
    """Copy what a record names and hashes, but for short curves, which travel in the pack; how many files came."""
    came = 0
    for name, expected in record.files.items():
        file = here / name
        if Path(name).name != name or file.is_symlink() or not file.is_file() or file.stat().st_size > MAX_ARTEFACT:
            continue
        content = file.read_bytes()
        if (name == CURVE and len(content) <= MAX_CURVE) or hashlib.sha256(content).hexdigest() != expected:
            continue
        write_atomically(there / name, content)
        came += 1
    return came


def unpack(pack: Pack, folder: Path) -> list[str]:
    """Write each record of a pack as a run was left: ``<run-id>/record.json`` with what there is beside it.

    Returns:
        What could not be read, as messages.
    """
    faults = list(pack.faults)
    for name in pack.names():
        try:
            record = read_record(pack.path / name, sealed=True)
        except UserError as e:
            faults.append(str(e))
            continue
        place = stays_inside(folder / name, folder)
        if (curve := curve_of(record, pack.path / name)) is not None:
            write_atomically(place / CURVE, curve)
        for file in _files(folder_of(pack.path / name)):
            shutil.copyfile(file, place / file.name)
        write_atomically(place / "record.json", as_written(pack.path / name))
    return faults


def _files(folder: Path) -> Iterator[Path]:
    if folder.is_dir() and not folder.is_symlink():
        yield from (f for f in sorted(folder.iterdir()) if f.is_file() and not (f.is_symlink() or is_companion(f.name)))


def raw_record(path: Path) -> Json:
    """The JSON of a record that `read_record` takes."""
    if (pack := pack_of(path)) is not None:
        return pack.record(path.name)
    content: Json = json.loads(without_mark(path.read_bytes()))
    return content


def as_written(path: Path) -> str:
    """The text of the file that a run wrote, for a record at any path that `read_record` takes."""
    record = raw_record(path)
    out = {k: record[k] for k in Record.model_fields if k in record}
    out["cost"], out["provenance"] = _like(Cost, out["cost"]), _like(Provenance, out["provenance"])
    out["metrics"] = [_like(Measured, m) for m in out.get("metrics", [])]
    return json.dumps(out, indent=1, allow_nan=False) + "\n"


def _like(model: type[Cost | Measured | Provenance], content: Mapping[str, Any]) -> Json:
    return {k: content[k] for k in model.model_fields if k in content}
