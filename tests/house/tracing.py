"""Which of our definitions are executed while something runs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from latentbench.core.plugins import paper_folders
from latentbench.core.reach.modules import Module, read_module

from tests.project import REPOSITORY

PACKAGE = REPOSITORY / "benchmarks/latentbench"


class Seen:
    """Definitions whose code was entered.

    Args:
        outside: whether what a module does, and what it calls in turn, is none of a run's business.
    """

    def __init__(self, outside: Any) -> None:
        self.definitions: set[tuple[str, str]] = set()
        self._outside, self._codes = outside, set[CodeType]()

    def __call__(self, frame: FrameType, event: str, argument: object) -> None:
        code = frame.f_code
        if event != "call" or code in self._codes:
            return
        module = module_of(code.co_filename)
        if module is None:
            self._codes.add(code)
        elif not self._is_aside(frame):
            self._codes.add(code)
            self.definitions.add((module.name, definition(module, code.co_firstlineno)))

    def _is_aside(self, frame: FrameType | None) -> bool:
        """Whether it runs at an import, or on behalf of what does not count."""
        while frame is not None:
            name = frame.f_code.co_name
            module = module_of(frame.f_code.co_filename)
            if module is not None and (name == "<module>" or self._outside(module.name)):
                return True
            frame = frame.f_back
        return False


@contextmanager
def traced(seen: Seen) -> Iterator[None]:
    """Watch every call inside the block."""
    before = sys.getprofile()
    sys.setprofile(seen)
    try:
        yield
    finally:
        sys.setprofile(before)


@cache
def module_of(file: str) -> Module | None:
    """Our module in a file; None where it is not ours."""
    path = Path(file)
    for package, folder in [("latentbench", PACKAGE), *((f"latentbench.papers.{n}", f) for n, f in folders())]:
        if path.is_relative_to(folder):
            parts = path.relative_to(folder).with_suffix("").parts
            return read_module(".".join([package, *(p for p in parts if p != "__init__")]), path)
    return None


@cache
def folders() -> tuple[tuple[str, Path], ...]:
    return tuple((name, folder.resolve()) for name, folder in paper_folders().items())


def definition(module: Module, line: int) -> str:
    """The definition that a line of a module belongs to."""
    return next((name for name, first, last in module.lines() if first <= line <= last), f"line {line}")
