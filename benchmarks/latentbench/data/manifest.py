"""What is known of prepared data without opening them: their manifests and content hashes. Neither numpy nor Arrow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from latentbench.core.bounds import DECLARATION_BYTES, read_at_most
from latentbench.core.paths import data_dir
from latentbench.data.registry import Entry, load_entry

FORMAT = 1
MANIFEST = "latentbench.json"


def prepared_dir() -> Path:
    return data_dir() / "prepared"


def read_manifest(entry: Entry) -> dict[str, Any] | None:
    """What was recorded when `entry` was prepared; None where that is not there, not whole, or of another recipe."""
    folder = prepared_dir() / entry.name
    try:
        manifest = json.loads(read_at_most(folder / MANIFEST, DECLARATION_BYTES) or b"")
        if manifest["format"] != FORMAT or manifest["recipe"] != entry.recipe:
            return None
        whole = all((folder / s["file"]).stat().st_size == s["bytes"] for s in manifest["splits"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return manifest if whole else None


def content_hash_if_known(name: str) -> str | None:
    """The content hash of dataset `name` without preparing it: as prepared, else as declared, else None."""
    entry = load_entry(name)
    if entry.kind == "rendered":
        return entry.recipe
    manifest = read_manifest(entry)
    return entry.content_hash if manifest is None else str(manifest["content_hash"])
