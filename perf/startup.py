"""How long the command takes to answer, in a process of its own, piped and on a terminal."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial

import yaml
from latentbench.core.file_cache import STILL
from latentbench.core.paths import suites_dirs

from perf.figures import Figure
from perf.project import project
from perf.timing import interleaved, ratio, seconds

#: Seconds that issue 2 grants, for help and lists alike.
TARGET = 0.5
#: Papers of the whole catalogue, and the seconds in which they are to be listed and one of them shown.
MANY, MANY_TARGET = 326, {"list": 0.2, "show": 0.3}
PAPER = '''
from latentbench.declare import Example, metric, model

SMALL = {{"width": 2}}

@model("model-{i}", "Trainable ExactLikelihood", examples=(Example("real-vector", SMALL),))
class Method:
    """A method of paper {i}."""

    def __init__(self, info, *, width: int = 8): ...

@metric("metric-{i}", "ExactLikelihood", "nats", "lower", "a metric of paper {i}")
def measure(model, view, settings, generator): ...
'''
COMMANDS = ("--help", "list", "list papers")
_HEAVY = ("torch", "lightning", "wandb", "datasets", "pandas", "sklearn", "scipy")


def startup(quick: bool) -> list[Figure]:  # noqa: ARG001  it is quick
    """Wall time of each command, and over a Python that does nothing; heavy imports are looked for first."""
    imported = {command: _imports(command) for command in COMMANDS}
    contenders: dict[str, Callable[[], None]] = {command: partial(_piped, command) for command in COMMANDS}
    contenders |= {"terminal": partial(_on_terminal, "list papers"), "pass": _pass}
    times = interleaved(contenders, repeats=15)
    figures = []
    for command in COMMANDS:
        name = f"startup/{command.strip('-').replace(' ', '-')}"
        what = f"latentbench {command}"
        found = imported[command]
        figures += [
            seconds(name, what, times[command], target=TARGET, heavy_imports=found),
            ratio(f"{name}-over-pass", f"{what} over python -c pass", times[command], times["pass"]),
        ]
    terminal = "latentbench list papers on a terminal of 80 columns"
    figures.append(seconds("startup/list-papers-terminal", terminal, times["terminal"], target=TARGET))
    return [*figures, *_many()]


def _many() -> list[Figure]:
    """`latentbench list` and `show` in a project of hundreds of papers, each with a method and a metric of its own: at
    first, and once they are known."""
    one = yaml.safe_load((suites_dirs()[0] / "quickstart" / "suite.yaml").read_text(encoding="utf-8"))
    with project(one) as root:
        os.environ["XDG_CACHE_HOME"] = str(root / "cache")
        for i in range(1, MANY):
            paper = root / "suites" / f"copy-{i}"
            paper.mkdir()
            mine = {"methods": {**one["methods"], "mine": {"model": f"model-{i}"}}}
            text = yaml.safe_dump(one | mine | {"id": f"copy-{i}"}, sort_keys=False)
            (paper / "suite.yaml").write_text(text, encoding="utf-8")
            (paper / "method.py").write_text(PAPER.format(i=i), encoding="utf-8")
        time.sleep(STILL / 1e9)  # until they have stood still long enough to be remembered
        lines = {"list": "list", "show": "show copy-1"}
        first = {}
        for name, line in lines.items():
            started = time.perf_counter()
            _piped(line)
            first[name] = time.perf_counter() - started
        times = interleaved({name: partial(_piped, line) for name, line in lines.items()})
    return [
        seconds(
            f"startup/{name}-{MANY}-papers",
            f"latentbench {name} with {MANY} papers, all of them seen before",
            times[name],
            target=MANY_TARGET[name],
            first_s=first[name],
        )
        for name in lines
    ]


def _command(line: str) -> list[str]:
    return [sys.executable, "-m", "latentbench", *line.split()]


def _piped(line: str) -> None:
    subprocess.run(_command(line), check=True, stdout=subprocess.DEVNULL)


def _pass() -> None:
    subprocess.run([sys.executable, "-c", "pass"], check=True)


def _on_terminal(line: str) -> None:
    """The same with a terminal for stdout, read to its end as a terminal would."""
    import pty

    ours, theirs = pty.openpty()
    env = {**os.environ, "COLUMNS": "80", "TERM": "xterm-256color"}
    child = subprocess.Popen(_command(line), stdout=theirs, env=env)
    os.close(theirs)
    reader = threading.Thread(target=_drain, args=(ours,))
    reader.start()
    assert child.wait() == 0
    reader.join()
    os.close(ours)


def _drain(handle: int) -> None:
    try:
        while os.read(handle, 65536):
            pass
    except OSError:  # Linux says so when the other end is closed
        pass


def _imports(line: str) -> list[str]:
    """Heavy packages that the command imports.

    Raises:
        AssertionError: torch is among them.
    """
    code = (
        "import sys\n"
        "from latentbench.cli.main import main\n"
        "try: main(sys.argv[1:])\n"
        f"finally: print([m for m in {_HEAVY!r} if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *line.split()],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    found: list[str] = [m for m in _HEAVY if repr(m) in done.stderr.splitlines()[-1]]
    assert "torch" not in found, f"latentbench {line} imports torch"
    return found
