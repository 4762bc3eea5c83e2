"""What ``changes/`` says of the next release; with a version, it goes into CHANGELOG.md under it."""

from __future__ import annotations

import datetime
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def fragments(root: Path = ROOT) -> list[Path]:
    """One file a topic, each of list items."""
    return sorted((root / "changes").glob("*.md"))


def collected(root: Path = ROOT) -> str:
    """All that is not released yet, as one list."""
    return "\n".join(path.read_text(encoding="utf-8").strip() for path in fragments(root))


def release(version: str, root: Path = ROOT) -> None:
    """Move the fragments into the changelog, above the releases before."""
    page = root / "CHANGELOG.md"
    head, mark, before = page.read_text(encoding="utf-8").partition("\n## ")
    section = f"\n## {version}, {datetime.date.today().isoformat()}\n\n{collected(root)}\n"
    page.write_text(head + section + mark + before, encoding="utf-8")
    for path in fragments(root):
        path.unlink()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        release(sys.argv[1])
    else:
        print(collected())
