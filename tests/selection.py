"""Which tests run: those of what changed, and of a tenth of the others, whose turn has come.

Tests that belong to a suite (those in its folder, and those that bear the mark ``suite(id)``: its smoke tier, the
contract of its models) grow with every paper, so a run of everything takes hours one day. `pytest` without paths takes
the suites that differ from an earlier revision (`tests.changes`), at most `MOST`, and a tenth of the rest, another one
with each revision; ten revisions see them all. So it is with the harness's tests that bear the mark ``slow``, most of
which wait for processes: those of the rooms (folders of the package) that changed, and a tenth of the others' files.
All its other tests always run. Paths, `-k` or ``--suites all`` take what they name.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import os
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.changes import base_revision, changed_rooms, changed_suites, git, room_of
from tests.project import REPOSITORY

#: Changed suites that are taken at most: an edit to what all share changes all.
MOST = 40
#: Revisions after which every suite has been taken.
ROUND = 10
#: Rooms whose tests run whole commands or trainings: after the others, since quick tests tell soon what is wrong.
LATE = frozenset(
    {"acceleration", "api", "audit", "cli", "contracts", "house", "perf", "running", "scheduling", "training"}
)


@dataclass(frozen=True)
class Selection:
    """Suites and rooms whose tests run, and why, for people to read."""

    suites: list[str]
    why: list[str]
    #: Rooms whose slow tests run, those of other rooms on their turn; None for all.
    rooms: list[str] | None = None
    turn: int = 0

    def takes_slow(self, file: str) -> bool:
        """Whether the slow tests of a file run.

        Args:
            file: its path below the repository, with slashes; a test of a room lies in ``tests/<room>/``.
        """
        return self.rooms is None or room_of(file) in self.rooms or slot(file) == self.turn % ROUND


def slot(name: str, of: int = ROUND) -> int:
    """When a suite's turn comes."""
    return int(hashlib.sha256(name.encode()).hexdigest(), 16) % of


def select(
    known: Collection[str],
    changed: Mapping[str, str] | None,
    turn: int,
    since: str = "",
    rooms: Collection[str] | None = None,
) -> Selection:
    """Choose among the suites and rooms that there are.

    Args:
        known: ids of suites.
        changed: those that changed, with what says so; None where nothing can be compared with.
        turn: counts revisions or days.
        since: what was compared with.
        rooms: those that changed; None where nothing can be compared with.
    """
    asked = dict.fromkeys(known, "unknown") if changed is None else dict(changed)
    order = sorted(asked, key=lambda name: (asked[name] != "files", (slot(name) - turn) % ROUND, slot(name, 1 << 32)))
    taken = order[:MOST]
    rest = sorted(name for name in known if name not in asked and slot(name) == turn % ROUND)
    many = f", the first {MOST} of them" if len(order) > MOST else ""
    if changed is None:
        why = [f"no earlier revision to compare with: all {len(order)} suites count as changed{many}"]
    else:
        why = [f"{len(order)} suites changed since {since}{many}"]
        why += [f"  {name}: {asked[name]}" for name in taken]
    why += [
        f"{len(rest)} of the other {len(known) - len(asked)}, turn {turn % ROUND + 1} of {ROUND}: {', '.join(rest)}"
    ]
    if rooms is not None:
        why += [f"slow tests of {', '.join(sorted(rooms)) or 'no room'}, and a tenth of the other files with some"]
    why += ["`nox -s everything` takes all"]
    return Selection([*taken, *rest], why, None if rooms is None else sorted(rooms), turn)


def here(root: Path = REPOSITORY) -> Selection:
    """The selection for the repository as it stands."""
    known = {path.parent.name for path in root.glob("suites/*/suite.yaml")}
    base = base_revision(root)
    count = git(root, "rev-list", "--count", "HEAD") if base else None
    turn = int(count) if count else datetime.date.today().toordinal()
    if base is None:
        return select(known, None, turn)
    return select(known, changed_suites(root, base), turn, base[:10], changed_rooms(root, base))


def pytest_addoption(parser: pytest.Parser) -> None:
    text = "Suites whose own tests run: all, changed, or ids with commas. Default: changed; with paths or -k, all."
    parser.addoption("--suites", help=text)


def _wanted(config: pytest.Config) -> Selection | None:
    """None where all are wanted."""
    given = config.getoption("suites")
    named = config.args_source is pytest.Config.ArgsSource.ARGS or config.option.keyword
    given = given or ("all" if named else "changed")
    if given == "all":
        return None
    return here() if given == "changed" else Selection(given.split(","), [f"suites: {given}"])


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "suite(id): belongs to a suite; runs where that is selected (--suites)")
    if hasattr(config, "workerinput"):
        sent = json.loads(config.workerinput["suites"])
        selection = Selection(**sent) if sent else None
    else:
        selection = _wanted(config)
    config.stash[SELECTION] = selection


SELECTION = pytest.StashKey[Selection | None]()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """xdist's workers take what was selected once."""
    selection = node.config.stash[SELECTION]
    node.workerinput["suites"] = json.dumps(selection and asdict(selection))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """As many as there are cores: each imports all that is tested, which costs more than a wait for a process."""
    return os.cpu_count() or 1


def pytest_sessionstart(session: pytest.Session) -> None:
    selection, reporter = session.config.stash[SELECTION], session.config.pluginmanager.get_plugin("terminalreporter")
    if selection is not None and reporter is not None:
        reporter.write_line("\n".join(selection.why))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """A folder of a suite that is not selected is not even imported."""
    selection, parts = config.stash[SELECTION], _below(collection_path)
    return True if selection is not None and parts and parts[0] not in selection.suites else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    selection = config.stash[SELECTION]
    if selection is not None and (left := [item for item in items if not _takes(selection, item)]):
        config.hook.pytest_deselected(items=left)
        gone = set(left)
        items[:] = [item for item in items if item not in gone]
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (item.path in slow, not _below(item.path), room_of(_file(item)) in LATE))


def _takes(selection: Selection, item: pytest.Item) -> bool:
    mark = item.get_closest_marker("suite")
    if mark and mark.args[0] not in selection.suites:
        return False
    return not item.get_closest_marker("slow") or selection.takes_slow(_file(item))


def _file(item: pytest.Item) -> str:
    """Below the repository."""
    return item.nodeid.partition("::")[0]


def _below(path: Path) -> tuple[str, ...]:
    """Parts of a path below ``suites/``."""
    suites = REPOSITORY / "suites"
    return path.relative_to(suites).parts if path.is_relative_to(suites) else ()
