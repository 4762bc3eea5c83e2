"""What a process on another machine must find as here: environment variables, plug-in folders, registry entries, and
the command that its records are made by."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from latentbench.core import plugins
from latentbench.core.errors import UserError
from latentbench.core.paths import data_dir
from latentbench.data.registry import entry_file
from latentbench.running import provenance

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
        folders: of each plug-in folder, relative file name -> bytes.
        places: where the sender has them; a machine on which these are importable too uses what was sent.
        command: that was typed there, for the records.
    """

    variables: Mapping[str, str] = field(default_factory=dict)
    folders: tuple[Mapping[str, bytes], ...] = ()
    places: tuple[str, ...] = ()
    command: tuple[str, ...] = ()

    @classmethod
    def here(cls, datasets: Iterable[str] = ()) -> Environment:
        """Those of this process; the entries of `datasets` travel as a plug-in folder of their own.

        Raises:
            UserError: a plug-in folder is too large to be one.
        """
        variables = {k: v for k, v in os.environ.items() if k.startswith(PREFIXES) and k != plugins.VARIABLE}
        variables["LATENTBENCH_DATA"] = str(data_dir())
        places = plugins.folders()
        folders = [_files(folder) for folder in places]
        entries = {f"datasets/{n}.yaml": path.read_bytes() for n in datasets if (path := entry_file(n)) is not None}
        sent = tuple(f for f in (*folders, entries) if f)
        return cls(variables, sent, tuple(map(str, places)), tuple(provenance.command_line()))

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
        sys.path[:] = [p for p in sys.path if p not in self.places]
        os.environ.pop(plugins.VARIABLE, None)
        if self.folders:
            root = Path(tempfile.mkdtemp(prefix="latentbench-plugins-"))
            atexit.register(shutil.rmtree, root, ignore_errors=True)
            for i, files in enumerate(self.folders):
                for name, content in files.items():
                    path = root / str(i) / name
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(content)
                plugins.add_folder(root / str(i))
        plugins.folders()


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
