"""What a process on another machine must find as here: environment variables, plug-in folders, registry entries, and
the command that its records are made by."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from latentbench.core import plugins
from latentbench.core.errors import UserError
from latentbench.core.paths import data_dir
from latentbench.data.registry import entry_file
from latentbench.running import provenance
from latentbench.scheduling.scratch import scratch_for_good
from latentbench.spec import registry

#: Environment variables that go along: ours, and those by which data, stores and trackers are reached.
PREFIXES = ("LATENTBENCH_", "AWS_", "FSSPEC_", "HF_", "WANDB_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "THP_MEM_")
#: Those that name a folder; where a machine has no such folder, its own setting stands.
FOLDERS = ("LATENTBENCH_DATA", "LATENTBENCH_MIRROR", "LATENTBENCH_ROOT")
#: Where a machine without the sender's data folder keeps its data.
OWN_DATA = "~/.cache/latentbench/data"
#: Bytes of plug-in folders; they hold code.
MOST_BYTES = 50_000_000

_entered: list[Environment] = []


@dataclass(frozen=True)
class Environment:
    """See the module.

    Attributes:
        variables: name -> value.
        folders: of each folder of code that need not be there, its name and relative file name -> bytes.
        command: that was typed there, for the records.
    """

    variables: Mapping[str, str] = field(default_factory=dict)
    folders: tuple[tuple[str, Mapping[str, bytes]], ...] = ()
    command: tuple[str, ...] = ()

    @classmethod
    def here(cls, datasets: Iterable[str] = ()) -> Environment:
        """Those of this process; the entries of `datasets` travel as a plug-in folder of their own.

        Raises:
            UserError: a plug-in folder is too large to be one.
        """
        variables = {k: v for k, v in os.environ.items() if k.startswith(PREFIXES) and k != plugins.VARIABLE}
        variables["LATENTBENCH_DATA"] = str(data_dir())
        folders = [(folder.name, _files(folder)) for folder in plugins.strangers()]
        entries = {f"data/{n}.yaml": path.read_bytes() for n in datasets if (path := entry_file(n)) is not None}
        sent = tuple((name, files) for name, files in (*folders, ("sent-entries", entries)) if files)
        return cls(variables, sent, tuple(provenance.command_line()))

    def enter(self) -> None:
        """Make this process see them; once is enough, also where every task of a worker brings a copy."""
        if self in _entered or not (self.variables or self.folders):
            return
        _entered.append(self)
        if self.command:
            provenance.sent_by(self.command)
        for name, value in self.variables.items():
            if name not in FOLDERS or Path(value).is_dir():
                os.environ[name] = value
        if not Path(self.variables.get("LATENTBENCH_DATA", "")).is_dir():
            os.environ.setdefault("LATENTBENCH_DATA", str(Path(OWN_DATA).expanduser()))
        os.environ.pop(plugins.VARIABLE, None)
        if self.folders:
            root = scratch_for_good()
            for folder, files in self.folders:
                for name, content in files.items():
                    path = root / folder / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(content)
                plugins.add_folder(root / folder)
        registry.forget()


def _files(folder: Path) -> dict[str, bytes]:
    """The files of a plug-in folder, without those that Python or git put there."""
    found: dict[str, bytes] = {}
    size = 0
    for path in sorted(folder.rglob("*")):
        inner = path.relative_to(folder)
        if path.is_file() and not any(p.startswith(".") or p == "__pycache__" for p in inner.parts):
            if (size := size + path.stat().st_size) > MOST_BYTES:
                raise UserError(
                    f"a plug-in folder of more than {MOST_BYTES // 1_000_000} MB cannot be sent to other machines",
                    where=folder,
                    fix="keep data and results elsewhere",
                )
            found[inner.as_posix()] = path.read_bytes()
    return found
