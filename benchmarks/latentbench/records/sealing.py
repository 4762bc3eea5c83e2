"""The hash that shows damage and edits of a record; it does not show who wrote it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def seal_of(data: Mapping[str, Any]) -> str:
    """Hash of everything in a record's JSON but the seal itself.

    Raises:
        ValueError: a number without end, or what is none.
    """
    text = json.dumps({k: v for k, v in data.items() if k != "seal"}, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
