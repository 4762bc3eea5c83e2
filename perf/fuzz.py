"""`python -m perf.fuzz suite --minutes 30`: what strangers may send, mutated under coverage guidance (atheris).

Only a `UserError` may come out of the readers, soon and without much memory. Each other exception is a finding: it is
kept once for each place that raises it, input and traceback, below ``results/fuzz/<target>/``. Exit code 1 where there
is any.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import json
import random
import resource
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import click

#: Seconds of processor time that one input may take before that is a finding.
SLOW = 5.0
MEMORY = 4 << 30
LONGEST = 60_000

Reader = Callable[[bytes], None]
Mutator = Callable[[bytes, random.Random], bytes]


def suite(folder: Path) -> tuple[Reader, Mutator, list[bytes]]:
    """A suite file, read, checked and planned at each tier."""
    import yaml
    from latentbench.planning.plan import plan
    from latentbench.spec.files import suite_files
    from latentbench.spec.loading import load_suite
    from latentbench.spec.validation import problems

    from perf import mutations

    path = folder / "fuzz.yaml"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        loaded = load_suite(path)
        if not problems(loaded):
            for tier in loaded.suite.tiers:
                for run in plan(loaded, tier):
                    _ = run.spec_hash, run.cell

    def mutate(data: bytes, rng: random.Random) -> bytes:
        if rng.random() < 0.15:
            return mutations.raw(data, rng)
        try:
            parsed = yaml.load(data, Loader=yaml.CSafeLoader)
        except (yaml.YAMLError, ValueError, LookupError, RecursionError):
            return mutations.raw(data, rng)
        try:
            return yaml.dump(mutations.document(parsed, rng), Dumper=yaml.CSafeDumper, sort_keys=False).encode()
        except (yaml.YAMLError, ValueError, TypeError, RecursionError):
            return mutations.raw(data, rng)

    files = suite_files()
    seeds = [p.read_bytes().replace(f"id: {name}".encode(), b"id: fuzz", 1) for name, p in files.items()]
    return read, mutate, [s for s in seeds if len(s) < LONGEST]


def _json_mutator(data: bytes, rng: random.Random) -> bytes:
    from perf import mutations

    if rng.random() < 0.3:
        return mutations.raw(data, rng)
    try:
        return json.dumps(mutations.document(json.loads(data), rng)).encode()
    except (ValueError, RecursionError):
        return mutations.raw(data, rng)


def _records() -> list[bytes]:
    """One reference record of each suite and method's first letter: enough variety, small enough a corpus."""
    from latentbench.core.paths import project_root
    from latentbench.records.below import records_below
    from latentbench.records.packing import as_written

    found: dict[str, bytes] = {}
    for path in sorted(records_below(project_root() / "results/reference")):
        found.setdefault(f"{path.parts[-3]}/{path.name[0]}", as_written(path).encode())
    return [r for r in found.values() if len(r) < LONGEST]


def record(folder: Path) -> tuple[Reader, Mutator, list[bytes]]:
    """A record, read and checked for its seal."""
    from latentbench.records.record import read_record, seal

    path = folder / "record.json"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        seal(read_record(path))

    return read, _json_mutator, _records()


def rebuild(folder: Path) -> tuple[Reader, Mutator, list[bytes]]:
    """A record as `replay` and `verify` take it up: specification, hashes, identities, files."""
    from latentbench.audit.rebuild import rebuild as rebuilt
    from latentbench.audit.verify import verify
    from latentbench.core.seeds import derive
    from latentbench.records.record import read_record

    path = folder / "record.json"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        verify(path)
        spec = rebuilt(read_record(path), path)
        _ = spec.spec_hash, spec.cell, derive(spec.seeds, "init")

    return read, _json_mutator, _records()


def checkpoint(folder: Path) -> tuple[Reader, Mutator, list[bytes]]:
    """A checkpoint and the values kept beside it, each under the hash that its bytes have."""
    import hashlib

    import torch
    from latentbench.running.checkpoints import Checkpoints
    from latentbench.running.nested_state import pack
    from safetensors.torch import save

    from perf import mutations

    state = {
        "finished": False,
        "model": {"weight": torch.arange(6.0).reshape(2, 3), "steps": torch.tensor(3)},
        "optimizer": {"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{"lr": 0.1, "betas": (0.9, 0.99)}]},
        "out": {"seconds": 1.5, "curve": [{"epoch": 1.0, "loss": 2.0}]},
        "random": [torch.arange(8, dtype=torch.uint8)],
    }
    tensors, structure = pack(state)
    whole = save(tensors, {"state": structure, "fingerprint": "f" * 64, "step": "7"})
    values = {"nll": {"value": 1.0, "se": 0.5, "n": 3, "details": {"a": 1}}}
    kept = json.dumps({"fingerprint": "f" * 64, "values": values}).encode()

    def read(data: bytes) -> None:
        for old in folder.iterdir():
            old.unlink()
        if data.startswith(b"{"):
            with suppress(ValueError, RecursionError, TypeError, AttributeError):
                body = json.loads(data)
                text = json.dumps(body.get("values"), sort_keys=True)
                data = json.dumps(body | {"sha256": hashlib.sha256(text.encode()).hexdigest()}).encode()
            (folder / "values.json").write_bytes(data)
        else:
            (folder / f"{7:012d}-{hashlib.sha256(data).hexdigest()}.safetensors").write_bytes(data)
        checkpoints = Checkpoints(folder, "f" * 64, 60.0)
        checkpoints.latest()
        checkpoints.values()
        checkpoints.last_step()

    def mutate(data: bytes, rng: random.Random) -> bytes:
        if data.startswith(b"{"):
            return _json_mutator(data, rng)
        length = int.from_bytes(data[:8], "little")
        if rng.random() < 0.3 or not 0 < length < len(data):
            return mutations.raw(data, rng)
        try:
            header = json.loads(data[8 : 8 + length])
            if rng.random() < 0.7:
                inner = json.loads(header["__metadata__"]["state"])
                header["__metadata__"]["state"] = json.dumps(mutations.document(inner, rng))
            else:
                header = mutations.document(header, rng)
            text = json.dumps(header).encode()
        except (ValueError, TypeError, LookupError, RecursionError):
            return mutations.raw(data, rng)
        return len(text).to_bytes(8, "little") + text + data[8 + length :]

    return read, mutate, [whole, kept]


TARGETS = {"suite": suite, "record": record, "rebuild": rebuild, "checkpoint": checkpoint}


class Watch:
    """Runs a reader on one input after another, and keeps what it should not have done."""

    def __init__(self, read: Reader, out: Path, seconds: float) -> None:
        self._read, self._out = read, out
        self._end = time.monotonic() + seconds
        self._seen: set[str] = set()
        self.runs = self.refused = 0
        self.slowest = 0.0

    def __call__(self, data: bytes) -> None:
        from latentbench.core.errors import UserError

        clock = time.process_time()
        try:
            self._read(data)
        except UserError:
            self.refused += 1
        except Exception as e:  # whatever it is, it is a finding
            last = traceback.extract_tb(e.__traceback__)
            ours = next((f for f in reversed(last) if "latentbench" in Path(f.filename).parts), last[-1])
            self._keep(f"{type(e).__name__}-{Path(ours.filename).stem}-{ours.lineno}", data, traceback.format_exc())
        spent = time.process_time() - clock
        self.slowest = max(self.slowest, spent)
        if spent > SLOW:
            self._keep(f"slow-{spent:.0f}s", data, f"{spent:.1f} s of processor time")
        self.runs += 1
        if time.monotonic() > self._end:
            self.close()

    def _keep(self, name: str, data: bytes, text: str) -> None:
        if name in self._seen:
            return
        self._seen.add(name)
        (self._out / f"{name}.input").write_bytes(data)
        (self._out / f"{name}.txt").write_text(text, encoding="utf-8", errors="backslashreplace")
        print(f"finding: {name}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """Say what came of it and end the process, which libFuzzer otherwise never does."""
        summary = {
            "executions": self.runs,
            "refused": self.refused,
            "read": self.runs - self.refused,
            "findings": sorted(self._seen),
            "slowest_seconds": round(self.slowest, 3),
            "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
        }
        (self._out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
        print(json.dumps(summary), flush=True)
        os._exit(1 if self._seen else 0)


@click.command()
@click.argument("target", type=click.Choice(list(TARGETS)))
@click.option("--minutes", type=click.FloatRange(min=0.01), default=10.0, show_default=True)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=Path("results/fuzz"))
def main(target: str, minutes: float, out: Path) -> None:
    """Fuzz one reader for a while."""
    import atheris

    with atheris.instrument_imports(include=["latentbench"], enable_loader_override=False):
        folder = Path(tempfile.mkdtemp(prefix="latentbench-fuzz-"))
        read, mutate, seeds = TARGETS[target](folder)
        with suppress(Exception):  # imports that wait for the first input are instrumented, too
            read(seeds[0])
    place = out.resolve() / target
    corpus = place / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for i, seed in enumerate(seeds):
        (corpus / f"seed-{i:03d}").write_bytes(seed)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    watch = Watch(read, place, 60 * minutes)

    def mutator(data: bytes, most: int, seed: int) -> bytes:
        return mutate(data, random.Random(seed))[:most]

    options = [
        f"-max_len={2 * LONGEST}",
        "-timeout=120",
        "-rss_limit_mb=0",
        f"-artifact_prefix={place}/",
        "-verbosity=0",
    ]
    atheris.Setup([sys.argv[0], *options, str(corpus)], watch, custom_mutator=mutator)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
