"""Prepared datasets in the store, by content hash: what one machine has prepared, the others need not."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from latentbench.core.errors import UserError
from latentbench.core.paths import is_companion, safe_name
from latentbench.data.arrow import rehash
from latentbench.data.dataset import open_dataset
from latentbench.data.manifest import MANIFEST, content_hash_if_known, prepared_dir, read_manifest
from latentbench.data.prepare import adopt
from latentbench.data.registry import Entry, load_entry
from latentbench.scheduling.object_store import Store

FOLDER = "shared-data"


def share(store: Store, name: str) -> None:
    """Put dataset `name`, as it is prepared here, into the store unless its content is there."""
    manifest = read_manifest(load_entry(name))
    if manifest is None:  # rendered at each access: there is nothing to share
        return
    place = f"{FOLDER}/{manifest['content_hash']}"
    there = store.names(place)
    if MANIFEST in there:
        return
    folder = prepared_dir() / name
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST and not is_companion(p.name))
    for path in (*files, folder / MANIFEST):  # the manifest last: where it is, all else is
        store.write(f"{place}/{path.relative_to(folder).as_posix()}", path.read_bytes())


def have(store: Store, name: str, content_hash: str) -> None:
    """See to it that dataset `name` is here with that content: found, brought from the store, or prepared.

    Raises:
        UserError: it cannot be had, or what this machine makes of its registry entry has other content.
    """
    if content_hash_if_known(name) != content_hash or read_manifest(load_entry(name)) is None:
        entry = load_entry(name)
        if entry.kind != "rendered" and store.read(f"{FOLDER}/{content_hash}/{MANIFEST}") is not None:
            adopt(entry, lambda folder: _bring(store, entry, content_hash, folder))
    if (found := open_dataset(name).content_hash) != content_hash:
        raise UserError(
            f"dataset {name} has other content here ({found[:12]}…) than where the sweep was started "
            f"({content_hash[:12]}…)",
            where=prepared_dir() / name,
            fix=f"`latentbench data fetch {name} --force` on that machine, or give the nodes data folders of their own",
        )


def _bring(store: Store, entry: Entry, content_hash: str, folder: Path) -> dict[str, Any]:
    """Fill `folder` from the store; the manifest.

    Raises:
        UserError: what lies there is damaged, or not what its name says.
    """
    place = f"{FOLDER}/{content_hash}"

    def refused(why: str) -> UserError:
        return UserError(f"data in the store are refused: {why}", where=f"{store.shown}/{place}", fix="remove them")

    names = store.names(place)
    for name in names:
        parts = name.split("/")
        if len(parts) > 3 or any(safe_name(p) != p for p in parts):
            raise refused(f"a file is named {name[:100]!r}")
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(store.read(f"{place}/{name}") or b"")
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_bytes())
        if set(manifest["splits"]) != set(entry.splits):
            raise refused("their splits are not those of the registry entry")
        files = {split: kept["file"] for split, kept in manifest["splits"].items()}
        if strange := set(files.values()) - set(names):
            raise refused(f"they lack {min(strange)[:100]!r}")
        try:
            hashes = {split: rehash(folder / files[split], entry.columns_of(split)) for split in entry.splits}
        except UserError as e:
            raise refused(e.what) from None
        recipe = manifest["recipe"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as e:
        raise refused(f"{type(e).__name__} {e}"[:200]) from None
    found = hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()
    if found != content_hash or manifest["content_hash"] != content_hash:
        raise refused("they do not hash to their name")
    if recipe != entry.recipe:
        raise refused("they were made by another recipe than this machine's registry has")
    return manifest
