"""A model built to see whether its parameters are sound: without its numbers where that can be, and within bounds.

Anybody may have written the suite that asks for it, and half a kilobyte can ask for more than any machine has.
"""

from __future__ import annotations

import resource
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.nn.modules import module as hooks

from latentbench.core.bounds import MODEL_BYTES, MODEL_NUMBERS, MODEL_PARTS, MODEL_SECONDS
from latentbench.core.errors import UserError
from latentbench.core.imports import load
from latentbench.core.types import DataInfo


class TooLarge(UserError):
    """A model of more than may be built only to look at it."""


def built(target: str, info: DataInfo, params: dict[str, Any]) -> Any:
    """A model, on torch's meta device unless its constructor looks at its numbers.

    Args:
        target: its class, ``module:Class``.
        info: of the data that it is for.
        params: of its constructor.

    Raises:
        TooLarge: it has more numbers or parts, or takes longer, than `latentbench.core.bounds` admits.
        MemoryError, RuntimeError: it takes more memory than that, where it cannot be built without.
        Exception: whatever its constructor raises.
    """
    make = load(target)
    with _bounded():
        try:
            with torch.device("meta"), warnings.catch_warnings(action="ignore"):
                blank = None if info.mean is None else info.mean.to("meta")
                return make(replace(info, mean=blank), **params)
        except TooLarge:
            raise
        except Exception:  # perhaps of the device's making: the next try says it, if it is not
            pass
        return make(info, **params)


@contextmanager
def _bounded() -> Iterator[None]:
    numbers = parts = 0

    def count_numbers(_module: Any, _name: str, tensor: Any) -> None:
        nonlocal numbers
        numbers += 0 if tensor is None or not hasattr(tensor, "numel") else _numel(tensor)
        if numbers > MODEL_NUMBERS:
            raise TooLarge(f"a model of more than {MODEL_NUMBERS:,} numbers", fix="make it smaller")

    def count_parts(_module: Any, _name: str, _part: Any) -> None:
        nonlocal parts
        parts += 1
        if parts > MODEL_PARTS:
            raise TooLarge(f"a model of more than {MODEL_PARTS:,} parts", fix="make it smaller")

    held = [
        hooks.register_module_parameter_registration_hook(count_numbers),
        hooks.register_module_buffer_registration_hook(count_numbers),
        hooks.register_module_module_registration_hook(count_parts),
    ]
    try:
        with _memory(), _time():
            yield
    finally:
        for hook in held:
            hook.remove()


def _numel(tensor: Any) -> int:
    with suppress(RuntimeError, ValueError):  # of a lazy parameter nobody knows yet
        return int(tensor.numel())
    return 0


@contextmanager
def _memory() -> Iterator[None]:
    """The process may take `MODEL_BYTES` of memory on top, where the system says what it has."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except (OSError, ValueError):
        yield
        return
    most = pages * resource.getpagesize() + MODEL_BYTES
    if soft != resource.RLIM_INFINITY:
        most = min(most, soft)
    resource.setrlimit(resource.RLIMIT_AS, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@contextmanager
def _time() -> Iterator[None]:
    """`MODEL_SECONDS` of processor time, where this thread can be interrupted."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def late(_signal: int, _frame: Any) -> None:
        raise TooLarge(f"a model that takes more than {MODEL_SECONDS} s to build", fix="make it smaller")

    before = signal.signal(signal.SIGVTALRM, late)
    signal.setitimer(signal.ITIMER_VIRTUAL, MODEL_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
