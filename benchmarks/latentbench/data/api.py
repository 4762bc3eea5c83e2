"""What ``latentbench data list|fetch|verify|show`` do, as functions that return plain data structures."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from latentbench.core.errors import UserError
from latentbench.data.manifest import prepared_dir, read_manifest
from latentbench.data.prepare import prepare
from latentbench.data.progress import Progress, silent
from latentbench.data.registry import Entry, Form, load_entry, names

Have = Literal["prepared", "ready", "local", "remote", "missing"]


@dataclass(frozen=True)
class Status:
    """What there is of a dataset here.

    Attributes:
        entry: its registry entry.
        have: ``prepared``; ``ready`` (made by code or shipped with a dependency, no network needed); ``local`` (all
            files in mirror or cache); ``remote`` (must be fetched); ``missing`` (no address known, mirror lacks it).
        bytes: size of the prepared form, 0 where not prepared.
        content_hash: as prepared, else as declared.
    """

    entry: Entry
    have: Have
    bytes: int
    content_hash: str | None

    @property
    def rows(self) -> dict[str, int]:
        return {name: split.rows for name, split in self.entry.splits.items()}


def status(name: str) -> Status:
    """What there is of dataset `name`; looks at sizes, not at content, so it is quick."""
    entry = load_entry(name)
    if entry.kind == "rendered":
        return Status(entry, "ready", 0, entry.recipe)
    manifest = read_manifest(entry)
    if manifest is not None:
        size = sum(split["bytes"] for split in manifest["splits"].values())
        return Status(entry, "prepared", size, manifest["content_hash"])
    return Status(entry, _have(entry), 0, entry.content_hash)


def list_datasets() -> list[Status]:
    """The status of every dataset of the registry, by name."""
    return [status(name) for name in names()]


def _have(entry: Entry) -> Have:
    if entry.kind != "real":
        return "ready"
    if any(all(_is_here(entry, form)) for form in entry.forms):
        return "local"
    reachable = entry.hub is not None or any(
        all(here or file.urls for here, file in zip(_is_here(entry, form), form.files)) for form in entry.forms
    )
    return "remote" if reachable else "missing"


def _is_here(entry: Entry, form: Form) -> list[bool]:
    from latentbench.data.sources import cached, in_mirror, mirror_dir

    mirror = mirror_dir()
    return [
        cached(entry, file).is_file() or (mirror is not None and (mirror / in_mirror(entry, file)).is_file())
        for file in form.files
    ]


def fetch(name: str, progress: Progress = silent, *, force: bool = False) -> Status:
    """Obtain, verify and prepare dataset `name`; a broken download is resumed, and what is prepared stays as it is.

    Args:
        force: prepare anew even so.

    Raises:
        UserError: as `latentbench.data.prepare.prepare`.
    """
    entry = load_entry(name)
    if entry.kind != "rendered":
        prepare(entry, progress, force=force)
    return status(name)


@dataclass(frozen=True)
class Check:
    """One thing that was verified.

    Attributes:
        dataset: whose.
        what: file or column.
        ok: whether it is as it should be; None where there is nothing to hold it against.
        detail: what was found, where it is not.
    """

    dataset: str
    what: str
    ok: bool | None
    detail: str = ""


def verify(name: str, progress: Progress = silent) -> list[Check]:
    """Hash again all that is here of dataset `name`: its files in mirror and cache, and its prepared columns.

    Returns:
        One check a file or column; empty where nothing is here. Nothing is changed.
    """
    entry = load_entry(name)
    checks = list(_check_files(entry, progress))
    manifest = read_manifest(entry) if entry.kind != "rendered" else None
    if manifest is not None:
        from latentbench.data.arrow import rehash

        for split, kept in manifest["splits"].items():
            progress(f"{name}: hashing {split}")
            try:
                found = rehash(prepared_dir() / name / kept["file"], entry.columns_of(split))
            except UserError as e:
                checks.append(Check(name, f"prepared {split}", False, str(e)))
                continue
            for column, want in kept["hashes"].items():
                right = found.get(column) == want
                checks.append(Check(name, f"prepared {split}.{column}", right, "" if right else "the data changed"))
        if entry.content_hash is not None:
            right = manifest["content_hash"] == entry.content_hash
            checks.append(Check(name, "content hash", right, "" if right else "not the declared one"))
    elif entry.kind != "rendered" and (prepared_dir() / name).exists():
        checks.append(Check(name, "prepared", False, "cut short, or made by another version; fetch makes it anew"))
    return checks


def _check_files(entry: Entry, progress: Progress) -> Iterable[Check]:
    from latentbench.data.sources import cached, expected_hash, in_mirror, mirror_dir, sha256

    mirror = mirror_dir()
    for form in entry.forms:
        for file in form.files:
            places: list[tuple[str, Path]] = [("cache", cached(entry, file))]
            if mirror is not None:
                places.insert(0, ("mirror", mirror / in_mirror(entry, file)))
            for place, path in places:
                if not path.is_file():
                    continue
                want, got = expected_hash(entry, file), sha256(path, progress)
                right = None if want is None else got == want
                detail = (
                    "" if right else "no hash is known" if want is None else f"sha256 {got[:16]}…, not {want[:16]}…"
                )
                yield Check(entry.name, f"{place} {file.name}", right, detail)
