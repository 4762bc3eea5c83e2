"""Settings laid over settings."""

from __future__ import annotations

from typing import Any


def merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`base` with `changes` laid over it, key by key at every depth; lists are replaced, and so is a mapping that
    names another thing than before (another `name`, as in optimiser or schedule)."""
    out = dict(base)
    for key, value in changes.items():
        old = out.get(key)
        renamed = (
            isinstance(value, dict) and isinstance(old, dict) and value.get("name", old.get("name")) != old.get("name")
        )
        out[key] = merge(old, value) if isinstance(value, dict) and isinstance(old, dict) and not renamed else value
    return out
