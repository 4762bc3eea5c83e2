"""Where files come from: the mirror folder, the cache, the Hugging Face hub, the official address; in that order.

Every file is checked by sha256 wherever it comes from. A file without a published hash is recorded at its first
download (``<file>.sha256`` beside it), and held against that from then on.
"""

from __future__ import annotations

import hashlib
import os
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from latentbench.core.errors import UserError
from latentbench.core.paths import data_dir
from latentbench.core.plugins import TRUST
from latentbench.data.columns import Chunk
from latentbench.data.download import SourceError, download
from latentbench.data.progress import Progress, silent
from latentbench.data.registry import Column, Entry, File, Form, Hub, reads_pickles

Files = Mapping[str, Path]
_BLOCK = 1 << 22
_HUB_ROWS = 2000


def mirror_dir() -> Path | None:
    """The folder that ``LATENTBENCH_MIRROR`` names, or None."""
    named = os.environ.get("LATENTBENCH_MIRROR")
    return Path(named).expanduser() if named else None


def in_mirror(entry: Entry, file: File) -> str:
    """Where a mirror has `file`: where its entry says, else as the cache has it."""
    return file.mirror or f"{file.folder or entry.name}/{file.name}"


def cached(entry: Entry, file: File) -> Path:
    """Where the cache keeps `file`."""
    return data_dir() / "cache" / (file.folder or entry.name) / file.name


def sha256(path: Path, progress: Progress = silent) -> str:
    """Hex digest of a file's bytes."""
    digest = hashlib.sha256()
    done, total = 0, path.stat().st_size
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            done += len(block)
            progress(f"hashing {path.name}", done, total)
    return digest.hexdigest()


def expected_hash(entry: Entry, file: File) -> str | None:
    """The declared sha256 of `file`, else the one recorded at its first download, else None."""
    if file.sha256 is not None:
        return file.sha256
    try:
        return _record(cached(entry, file)).read_text().split()[0]
    except (OSError, IndexError):
        return None


def _record(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


@dataclass(frozen=True)
class HubData:
    """A dataset as the Hugging Face hub has it (a `datasets.DatasetDict`)."""

    hub: Hub
    tables: Any

    def chunks(self, entry: Entry) -> Iterator[Chunk]:
        """Its rows under our names, shapes and dtypes. Raises UserError where they do not fit."""
        for split, theirs in self.hub.splits.items():
            if theirs not in self.tables:
                raise UserError(f"{entry.name}: hub {self.hub.id} has no split {theirs!r}")
            table = self.tables[theirs]
            declared = entry.columns_of(split)
            for start in range(0, len(table), _HUB_ROWS):
                rows = table[start : start + _HUB_ROWS]
                yield Chunk(split, {n: _from_hub(rows[self.hub.columns[n]], c) for n, c in declared.items()})


def _from_hub(values: list[Any], column: Column) -> np.ndarray:
    """Hub values (numbers, nested lists or images) as one array of the declared dtype."""
    stacked = np.stack([np.asarray(v) for v in values])
    if not np.can_cast(stacked.dtype, column.dtype, casting="same_kind") and stacked.dtype.kind not in "iub":
        raise UserError(f"hub values are {stacked.dtype}, declared is {column.dtype}")
    return stacked.astype(column.dtype).reshape(len(values), *column.shape)


@dataclass(frozen=True)
class FormFiles:
    """A form of a dataset whose files are all at hand and verified."""

    form: Form
    files: Files


def obtain(entry: Entry, progress: Progress = silent) -> FormFiles | HubData:
    """The data of `entry` in the first form that is to be had: from mirror and cache, the hub, official addresses.

    Raises:
        UserError: no source gave a whole form; says what each answered.
    """
    reasons: list[str] = []
    forms = [form for form in entry.forms if _is_safe(form, reasons)]
    local = [_local_files(entry, form, progress, reasons) for form in forms]
    for form, found in zip(forms, local):
        if len(found) == len(form.files):
            return FormFiles(form, found)
    if entry.hub is not None:
        try:
            return HubData(entry.hub, _from_hub_id(entry.hub, progress))
        except SourceError as e:
            reasons.append(str(e))
    for form, found in zip(forms, local):
        missing = [file for file in form.files if file.name not in found]
        if not all(file.urls for file in missing):
            continue
        try:
            return FormFiles(form, found | {f.name: _official(entry, f, progress, reasons) for f in missing})
        except SourceError:
            continue
    if not any(file.urls for form in entry.forms for file in form.files):
        reasons.append("no official address is known")
    raise UserError(
        f"{entry.name}: no source has it: {'; '.join(dict.fromkeys(reasons))}",
        fix="set LATENTBENCH_MIRROR to a folder that has it, or go online",
    )


def _is_safe(form: Form, reasons: list[str]) -> bool:
    """Whether a form's files may be read: pickles only as the entry knows them, or where the user trusts the source."""
    unknown = [file.name for file in form.files if file.sha256 is None]
    if not unknown or not reads_pickles(form.loader) or os.environ.get(TRUST) == "1":
        return True
    reasons.append(f"{unknown[0]} is a pickle whose sha256 its entry does not give (`latentbench --trust` reads it)")
    return False


def _local_files(entry: Entry, form: Form, progress: Progress, reasons: list[str]) -> dict[str, Path]:
    found = {}
    for file in form.files:
        path = _local(entry, file, progress, reasons)
        if path is not None:
            found[file.name] = path
    return found


def _local(entry: Entry, file: File, progress: Progress, reasons: list[str]) -> Path | None:
    """`file` from the mirror or the cache, if it is there and its hash is right."""
    want = expected_hash(entry, file)
    mirror, inner = mirror_dir(), in_mirror(entry, file)
    if mirror is not None:
        path = mirror / inner
        if not path.is_file():
            reasons.append(f"the mirror has no {inner}")
        elif want is None:
            reasons.append(f"no hash is known for {inner} of the mirror")
        elif (got := sha256(path, progress)) != want:
            reasons.append(f"wrong hash: the mirror's {inner} has sha256 {got[:16]}…, expected {want[:16]}…")
        else:
            return path
    else:
        reasons.append(f"LATENTBENCH_MIRROR is not set, where {inner} would be looked for")
    path = cached(entry, file)
    if path.is_file() and want is not None:
        if (got := sha256(path, progress)) == want:
            return path
        reasons.append(f"wrong hash: {file.name} in the cache has sha256 {got[:16]}…, expected {want[:16]}…")
        path.unlink()
    return None


def _official(entry: Entry, file: File, progress: Progress, reasons: list[str]) -> Path:
    """`file` downloaded and verified, by one process at a time. Raises SourceError where no address gives it."""
    from filelock import FileLock

    path = cached(entry, file)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(path.name + ".lock")):
        found = _local(entry, file, progress, [])  # another process may have fetched it meanwhile
        if found is not None:
            return found
        for url in file.urls:
            try:
                download(url, path, progress, size=file.bytes)
            except SourceError as e:
                reasons.append(str(e))
                continue
            want, got = expected_hash(entry, file), sha256(path, progress)
            if want is not None and got != want:
                path.unlink()
                reasons.append(f"wrong hash: {url} has sha256 {got[:16]}…, expected {want[:16]}…")
                continue
            if file.sha256 is None:
                progress(f"{file.name}: its entry gives no sha256; it is taken as it came, and held to it from now on")
                _record(path).write_text(f"{got}  {path.name}\n")
            return path
    raise SourceError(f"no address gave {file.name}")


def _from_hub_id(hub: Hub, progress: Progress) -> Any:
    """The `datasets.DatasetDict` of a hub repository.

    Raises:
        SourceError: no network, no such repository or revision, or not readable.
    """
    _reach_hub(hub)
    import datasets

    progress(f"Hugging Face hub: {hub.id}")
    datasets.disable_progress_bars()
    try:
        return datasets.load_dataset(hub.id, hub.config, revision=hub.revision)
    except Exception as e:  # the hub raises dozens of types for gone, gated, offline and malformed alike
        raise SourceError(f"Hugging Face hub {hub.id}@{hub.revision}: {type(e).__name__}: {str(e)[:200]}") from e
    finally:
        datasets.enable_progress_bars()


def _reach_hub(hub: Hub) -> None:
    """Ask the hub for anything at all: its own client would try for half a minute where there is no network.

    Raises:
        SourceError: no answer.
    """
    if Path(hub.id).is_dir() or os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0"):
        return  # a local copy, or the hub's own cache
    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    try:
        urllib.request.urlopen(urllib.request.Request(endpoint, method="HEAD"), timeout=10).close()
    except urllib.error.HTTPError:
        return  # an answer all the same
    except (OSError, ValueError) as e:
        raise SourceError(f"Hugging Face hub {endpoint}: {getattr(e, 'reason', e)}") from e
