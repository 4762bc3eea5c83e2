"""Scientific faults, planted one by one into a copy of the checkout, and who notices each.

`perf/faults/<kind>.yaml` maps source files to faults; a fault has a name, the text that it replaces, which stands in
that file exactly once, and what it becomes:

    benchmarks/latentbench/models/coupling.py:
      determinant-left-out:
        was: log_det = log_det + log_scale.sum(-1)
        becomes: log_det = log_det
        check: coupling-flow            # what `latentbench check` is asked, of a fault in a likelihood
        tests: [tests/models/test_coupling.py]

`tests` are those of the file by default (`own_tests`). ``python -m perf.mutants [WORD ...]`` plants all whose kind,
file or name holds a word, and prints who noticed. Outcomes are kept in perf/faults/outcomes.jsonl, which is
committed: a fault that was noticed is not planted again while its text and file are as they were, one that was missed
while its tests are, too. A test that also fails without the fault counts for nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

CHECKOUT = Path(__file__).resolve().parents[1]
FAULTS = CHECKOUT / "perf/faults"
KEPT = FAULTS / "outcomes.jsonl"
#: Seconds of CPU time after which a fault counts as one that keeps a test from ending; as many times that on the clock.
LIMIT, PATIENCE = 300, 6


@dataclass(frozen=True)
class Fault:
    """One scientific fault.

    Attributes:
        name, kind, file: what it is called, the list that it stands in, and the source that it is planted in.
        was, becomes: the text that it replaces, once in the file, and its replacement.
        tests: what pytest is to run, files or single tests.
        check: what `latentbench check` is to be asked; empty for faults that no contract can know of.
    """

    name: str
    kind: str
    file: str
    was: str
    becomes: str
    tests: tuple[str, ...]
    check: str = ""

    def planted(self, text: str) -> str:
        """The source with the fault in it.

        Raises:
            ValueError: the text that it replaces does not stand there exactly once.
        """
        if (found := text.count(self.was)) != 1:
            raise ValueError(f"{self.kind}.yaml: {self.name}: {self.file} has {found} times: {self.was!r}")
        return text.replace(self.was, self.becomes)


@dataclass(frozen=True)
class Outcome:
    """Who noticed a fault.

    Attributes:
        key: of the fault and its file, as they were.
        tested: of its tests, as they were.
        tests, check: ``noticed``, ``missed``, ``endless`` or, where it was not asked, empty.
        said: the first test that failed, and what `check` said first.
        seconds: that it took.
    """

    name: str
    kind: str
    key: str
    tested: str
    tests: str
    check: str
    said: str
    seconds: float

    @property
    def noticed(self) -> bool:
        return bool({"noticed", "endless"} & {self.tests, self.check})


def faults() -> Iterator[Fault]:
    """All of the list, kind by kind."""
    for listed in sorted(FAULTS.glob("*.yaml")):
        for file, entries in yaml.safe_load(listed.read_text(encoding="utf-8")).items():
            for name, entry in entries.items():
                tests = tuple(entry.pop("tests", own_tests(file)))
                yield Fault(name=name, kind=listed.stem, file=file, tests=tests, **entry)


def own_tests(file: str) -> tuple[str, ...]:
    """The tests beside a source: of the same name, or else all of a paper's folder."""
    path = Path(file)
    if path.parts[0] == "suites":
        beside = path.parent / f"test_{path.stem}.py"
        found = [beside] if (CHECKOUT / beside).exists() else sorted((CHECKOUT / path.parent).glob("test_*.py"))
        return tuple(str(CHECKOUT.joinpath(f).relative_to(CHECKOUT)) for f in found)
    place = Path("tests", *path.parts[2:-1], f"test_{path.stem}.py")
    return (str(place),) if (CHECKOUT / place).exists() else ()


def key_of(fault: Fault, root: Path) -> str:
    """Changes with the fault and its file."""
    text = json.dumps(asdict(fault), sort_keys=True)
    return hashlib.sha256(text.encode() + (root / fault.file).read_bytes()).hexdigest()[:16]


def tested_by(fault: Fault, root: Path) -> str:
    """Changes with the fault's tests, files or folders."""
    named = [root / t.partition("::")[0] for t in fault.tests]
    files = sorted({file for path in named for file in (path.rglob("*.py") if path.is_dir() else [path])})
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]


def plant(fault: Fault, root: Path, sound: Callable[[str], bool]) -> Outcome:
    """Plant one fault in the copy at `root`, ask tests and `check`, and take it out again.

    Args:
        fault: what to plant.
        root: the copy.
        sound: whether a test passes without any fault.
    """
    start, key, tested = time.monotonic(), key_of(fault, root), tested_by(fault, root)
    with _written(root / fault.file, fault.planted((root / fault.file).read_text(encoding="utf-8"))):
        tests, failed = _pytest(root, fault.tests) if fault.tests else ("", "")
        check, said = _check(root, fault.check) if fault.check else ("", "")
    if tests == "noticed" and not sound(failed):
        tests, failed = "", f"fails without the fault: {failed}"
    told = "; ".join(filter(None, (failed, said)))
    return Outcome(fault.name, fault.kind, key, tested, tests, check, told, round(time.monotonic() - start, 1))


@contextmanager
def _written(path: Path, text: str) -> Iterator[None]:
    """The file holds `text`, with a time of its own, so that no compiled copy stands for it; and then what it held."""
    before, times = path.read_bytes(), path.stat()
    path.write_text(text, encoding="utf-8")
    try:
        yield
    finally:
        path.write_bytes(before)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def _pytest(root: Path, tests: Sequence[str]) -> tuple[str, str]:
    def run() -> int:
        import pytest

        return int(pytest.main(["-n", "0", "-x", "-q", "--tb=no", "-rfE", *tests]))

    code, out = _apart(root, run)
    wrong = [line.split(" - ")[0].split(" ", 1)[1] for line in out.splitlines() if line.startswith(("FAILED", "ERROR"))]
    said = wrong[0] if wrong else ""
    return _verdict(code, said, ", ".join(tests), out), said


def _check(root: Path, target: str) -> tuple[str, str]:
    def run() -> int:
        from latentbench.cli.check import findings

        wrong = next((f for f in findings(target) if not f.holds), None)
        if wrong is not None:
            print(f"NO {wrong.subject}: {wrong.test}: {wrong.why}")
        return int(wrong is not None)

    code, out = _apart(root, run)
    said = next((line.strip() for line in out.splitlines() if line.startswith("NO")), "")
    return _verdict(code, said, target, out), said


def _verdict(code: int | None, said: str, asked: str, out: str) -> str:
    if code and not said:  # nothing of what was asked failed: it did not come to that
        raise RuntimeError(f"exit code {code} before any of {asked}:\n{out[-2000:]}")
    return "endless" if code is None else "noticed" if code else "missed"


def _apart(root: Path, run: Callable[[], int]) -> tuple[int | None, str]:
    """Exit code of `run` in a process of its own in the copy, None where it does not end, and what it printed.

    The process is forked, so that torch is imported once for all.
    """
    with tempfile.TemporaryFile() as out:
        sys.stdout.flush()
        child = os.fork()
        if not child:
            code = 70
            try:
                os.setpgid(0, 0)
                resource.setrlimit(resource.RLIMIT_CPU, (LIMIT, LIMIT))  # killed: runs stop softly at SIGXCPU
                os.dup2(out.fileno(), 1)
                os.dup2(out.fileno(), 2)
                _move(root)
                code = run()
            except BaseException as e:
                print(f"ERROR {type(e).__name__}: {e}", flush=True)
            finally:
                sys.stdout.flush()
                os._exit(code)
        ended = _waited(child)
        out.seek(0)
        return ended, out.read().decode(errors="replace")


def _move(root: Path) -> None:
    """This process is one that was started in the copy."""
    os.chdir(root)
    sys.dont_write_bytecode = True
    ours = {str(CHECKOUT), str(CHECKOUT / "benchmarks")}  # an environment may lie in the checkout, too
    sys.path[:] = [str(root), str(root / "benchmarks"), *(p for p in sys.path if p not in ours)]
    for name in [n for n in sys.modules if n.partition(".")[0] in ("perf", "latentbench")]:
        del sys.modules[name]
    os.environ |= {
        "LATENTBENCH_ROOT": str(root),
        "PYTHONPATH": os.pathsep.join((str(root / "benchmarks"), str(root))),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
    }


def _waited(child: int) -> int | None:
    end = time.monotonic() + PATIENCE * LIMIT
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            return None if code == -signal.SIGKILL else code
        time.sleep(0.05)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def copied(folder: Path) -> Path:
    """The checkout's files, those in git and those that it does not ignore, in `folder`, compiled; prepared data by
    link."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=CHECKOUT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (CHECKOUT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(CHECKOUT / name, folder / name)
    for name in ("data/prepared", "data/cache"):
        if (CHECKOUT / name).exists():
            (folder / name).symlink_to(CHECKOUT / name)
    subprocess.run([sys.executable, "-m", "compileall", "-q", "benchmarks", "suites", "tests"], cwd=folder)
    return folder


def kept() -> dict[str, Outcome]:
    """Outcomes by key, of this and earlier calls."""
    lines = KEPT.read_text(encoding="utf-8").splitlines() if KEPT.exists() else []
    return {o.key: o for o in (Outcome(**json.loads(line)) for line in lines)}


def report(outcomes: Sequence[Outcome]) -> str:
    """A Markdown table by kind, and the names of what nobody noticed."""
    rows = ["| kind | planted | noticed by tests | likelihood faults | noticed by `check` alone |"]
    rows += ["| --- | ---: | ---: | ---: | ---: |"]
    for kind in [*sorted({o.kind for o in outcomes}), "all"]:
        of = [o for o in outcomes if kind in (o.kind, "all")]
        asked = [o for o in of if o.check]
        by_check = sum(o.check != "missed" for o in asked)
        rows.append(f"| {kind} | {len(of)} | {sum(o.noticed for o in of)} | {len(asked)} | {by_check} |")
    rows += ["", *(f"- noticed by nothing: {o.kind}: {o.name} {o.said}".rstrip() for o in outcomes if not o.noticed)]
    rows += [f"- not by `check`: {o.kind}: {o.name}" for o in outcomes if o.check == "missed" and o.noticed]
    return "\n".join(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="perf.mutants", description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("words", nargs="*", metavar="WORD", help="in a fault's kind, file or name; all by default")
    parser.add_argument("--report", action="store_true", help="only what is known already")
    parser.add_argument("--again", action="store_true", help="also those anew that tests or `check` missed")
    options = parser.parse_args(arguments)
    chosen = [
        f for f in faults() if not options.words or any(w in f"{f.kind} {f.file} {f.name}" for w in options.words)
    ]
    known, outcomes = kept(), []
    with tempfile.TemporaryDirectory(prefix="latentbench-mutants-") as folder:
        root = CHECKOUT if options.report else copied(Path(folder))
        sound = _soundness(root)
        for i, fault in enumerate(chosen, 1):
            outcome = known.get(key_of(fault, root))
            if outcome is not None and not _stands(outcome, tested_by(fault, root), again=options.again):
                outcome = None
            if outcome is None and not options.report:
                outcome = plant(fault, root, sound)
                KEPT.parent.mkdir(parents=True, exist_ok=True)
                with KEPT.open("a", encoding="utf-8") as file:
                    print(json.dumps(asdict(outcome)), file=file)
                print(f"{i}/{len(chosen)} {fault.kind} {fault.name}: {_line(outcome)}", flush=True)
            if outcome is not None:
                outcomes.append(outcome)
    print(report(outcomes))
    if left := len(chosen) - len(outcomes):
        print(f"- not planted yet: {left}")
    return int(any(not o.noticed for o in outcomes))


def _stands(outcome: Outcome, tested: str, *, again: bool) -> bool:
    """Whether an outcome holds for tests as they are now."""
    if again and "missed" in (outcome.tests, outcome.check):
        return False
    return outcome.noticed or outcome.tested == tested


def _line(outcome: Outcome) -> str:
    return f"tests {outcome.tests or '-'}, check {outcome.check or '-'}, {outcome.seconds:g} s: {outcome.said}"


def _soundness(root: Path) -> Callable[[str], bool]:
    """Whether a test passes in the copy as it is, each run once; what pytest did not name is taken to."""
    found: dict[str, bool] = {"": True}

    def ask(test: str) -> bool:
        if test not in found:
            found[test] = _pytest(root, [test])[0] == "missed"
        return found[test]

    return ask


def _warm() -> None:
    """Import what every test imports; nothing of latentbench, which each process takes from the copy."""
    for name in (
        "torch",
        "pytest",
        "scipy.stats",
        "sklearn",
        "pydantic",
        "lightning.fabric",
        "hypothesis",
        "statsmodels.stats.multitest",
    ):
        __import__(name)


if __name__ == "__main__":
    _warm()
    sys.exit(main())
