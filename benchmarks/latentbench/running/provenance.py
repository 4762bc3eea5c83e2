"""Where a run happens: code revision, packages, machine."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path

from latentbench.core.paths import checkout
from latentbench.core.secrets import hide_in_arguments, without_secrets

PACKAGES = ("latentbench", "torch", "lightning", "numpy", "scipy", "scikit-learn", "zuko", "datasets", "pandas")

#: Those of them that every run may compute with; a record's `depends` names what its own model and metrics import.
NUMERIC = ("torch", "numpy", "scipy", "scikit-learn")
#: Packages that move bytes and words, whose versions change no number.
_NO_NUMBERS = frozenset({"filelock", "safetensors", "tqdm", "typing_extensions"})


def now() -> str:
    """The time in UTC, ISO 8601 to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@cache
def packages(*further: str) -> dict[str, str]:
    """Versions by distribution, of those that every record names and of `further`, where installed."""
    found = {}
    for name in dict.fromkeys((*PACKAGES, *further)):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


#: Of the packages that every run computes with, the modules that are called otherwise.
_CALLED = {"sklearn": "scikit-learn"}


def further_packages(modules: Iterable[str]) -> list[str]:
    """The installed distributions beside `NUMERIC` that top-level modules belong to, sorted; modules of none, and of
    what cannot change a number, are left out."""
    found = {name for module in modules for name in _distributions(module)}
    return sorted(found - _NO_NUMBERS - set(NUMERIC))


@cache
def _distributions(module: str) -> tuple[str, ...]:
    name = _CALLED.get(module, module)
    try:
        return (metadata.metadata(name)["Name"],)
    except metadata.PackageNotFoundError:  # another name than the module's: all that are installed are looked through
        return tuple(_by_module().get(module, ()))


@cache
def _by_module() -> Mapping[str, list[str]]:
    return metadata.packages_distributions()


@cache
def git_state() -> tuple[str | None, bool | None]:
    """Revision of the checkout that this package runs from, and whether its files differ from it."""
    revision, changes = _asked_git()[:2]
    return (revision or None), None if revision is None or changes is None else bool(changes)


@cache
def git_fault() -> str | None:
    """Why the revision of a checkout is not known, in one line; None where it is, or where there is none to know."""
    return _asked_git()[2]


@cache
def _asked_git() -> tuple[str | None, str | None, str | None]:
    """HEAD, changed files, and what git says instead."""
    folder = checkout()
    if folder is None:  # a wheel, which may lie in a repository of somebody's own
        return None, None, None
    found: list[str] = []
    for args in (("rev-parse", "HEAD"), ("status", "--porcelain", "--untracked-files=no")):
        try:
            done = subprocess.run(("git", *args), cwd=folder, capture_output=True, text=True, timeout=10, check=False)
        except (OSError, subprocess.TimeoutExpired) as e:
            said = f"git cannot be asked: {type(e).__name__}"
        else:
            if done.returncode == 0:
                found.append(done.stdout.strip())
                continue
            said = next((line for line in done.stderr.splitlines() if line.strip()), "git failed")
        return (found[0] if found else None), None, f"the git revision is not known: {without_secrets(said)[:300]}"
    return found[0], found[1], None


_sent: list[str] = []


def sent_by(command: Sequence[str]) -> None:
    """From now on, this process works for a `command_line` of another machine."""
    _sent[:] = command


def command_line() -> list[str]:
    """The command as typed, here or where the run was sent from, without secrets and without this machine's folders,
    which say where, not what."""
    if _sent:
        return list(_sent)
    return [Path(sys.argv[0]).name, *map(_placeless, hide_in_arguments(sys.argv[1:]))]


def _placeless(argument: str) -> str:
    """`argument`, of whose absolute path (after ``=``, too) the last part is kept, as in ``--results=…/lab``."""
    option, equals, value = argument.partition("=") if argument.startswith("-") else ("", "", argument)
    place = Path(value).expanduser()
    return f"{option}{equals}…/{place.name}" if place.is_absolute() else argument


def machine() -> str:
    return f"{platform.system()} {platform.machine()}"


def peak_memory(device: str) -> int | None:
    """Peak bytes of this process so far (CPU), or of the CUDA allocator since it was last reset."""
    if device == "cuda":
        import torch

        return int(torch.cuda.max_memory_allocated())
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)


def forget_peak_memory(device: str) -> None:
    """Have `peak_memory` of a GPU count from here; that of a process cannot be reset."""
    if device == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats()
