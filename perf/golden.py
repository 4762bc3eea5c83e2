"""Whether today's engine gives the bits of the last one that was accepted: `nox -s golden`.

Some fifty short runs, one or more of each kind of model, optimiser, schedule, step, stopping rule and metric, are done
by the code of the accepted engine's revision (in a work tree) and by the code that is here, side by side on this
machine, each with its own data. Values, standard errors and final weights must have the same bits. Then today's engine
joins the accepted ones (`latentbench.planning.engines`), and records that earlier ones made go on counting.

A run whose own code has changed as well says nothing about the engine and is left out, as is one that only one of the
two has; where fewer than `ENOUGH` are left, nothing is accepted.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from latentbench.core.paths import data_dir
from latentbench.planning.engines import FILE, eras, is_todays
from latentbench.planning.fingerprint import engine_hash

from perf.former_code import PACKAGE as FORMER
from perf.former_code import FormerCode, checked_out

CHECKOUT = Path(__file__).resolve().parents[1]
OWN = Path(__file__).with_name("golden.yaml")
RUNS = Path(__file__).with_name("golden_runs.py")
ENOUGH = 30

#: Suites and methods whose smoke runs are taken; datasets where not all of them are.
CHOSEN: dict[str, list[str]] = {
    "autogen": ["annealed", "autogen-1"],
    "beta-tcvae": ["tcvae-4"],
    "gon": ["gon on mnist", "autoencoder on mnist", "variational-gon"],
    "gumbel-softmax": ["vae-cat-muprop", "sbn-bern-stgs", "class-gs-10"],
    "infovae": ["mmd on mnist-14x14-1k", "mmd-points"],
    "iwae": ["factorised", "iwae-k5-2l"],
    "light-schrodinger-bridge": ["light-sb on bridge-2d", "sinkhorn on bridge-2d", "dsbm on bridge-2d"],
    "lvd-pc": ["teacher", "lvd-k32"],
    "lvd-pc-distillation": ["lvd"],
    "marginalization-models": ["mixture", "ao-arm-s", "mam", "lattice-mam"],
    "mulan": ["multivariate"],
    "neural-ode": ["cnf-2", "planar-2", "latent-ode-30", "rnn-30", "ode-net"],
    "nfdm": ["nfdm-ot"],
    "pic": ["chow-liu-tree", "learnspn", "hclt-em-k8", "pic-n4"],
    "quickstart": ["ppca", "mixture on digits", "real-nvp on linear-gaussian"],
    "real-nvp": ["real-nvp"],
    "reinmax": ["reinmax-8x4", "poly-reinmax-p2"],
    "vae": ["wake-sleep-frey-2", "mcem-small"],
    "vlae": ["pixelcnn-w5"],
    str(OWN): ["*"],
}


class Side:
    """One of the two trees, at work.

    Args:
        tree: the work tree.
        data: folder of its prepared data; the downloads and mirrors are shared.
    """

    def __init__(self, tree: Path, data: Path) -> None:
        self._tree = tree
        self.former = not (tree / "benchmarks/latentbench").is_dir()
        sources, package, experiment = (
            (tree, FORMER, "runner.experiment:run_experiment")
            if self.former
            else (tree / "benchmarks", "latentbench", "")
        )
        data.mkdir()
        (data / "registry").symlink_to(tree / "data/registry")
        if (downloads := data_dir() / "cache").is_dir():
            (data / "cache").symlink_to(downloads)
        environment = os.environ | {
            "PYTHONPATH": str(sources),
            "LATENTBENCH_ROOT": str(tree),
            "LATENTBENCH_DATA": str(data),
            "OMP_NUM_THREADS": "1",
        }
        command = [sys.executable, "-P", str(RUNS), package, experiment, json.dumps(CHOSEN)]
        self._process = subprocess.Popen(
            command, env=environment, cwd=tree, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def result(self) -> tuple[str, dict[str, Any]]:
        """The engine's hash, and what came out by run.

        Raises:
            SystemExit: it broke off.
        """
        out, err = self._process.communicate()
        if self._process.returncode:
            raise SystemExit(f"the golden set broke off in {self._tree}:\n{err[-2000:]}")
        first, *lines = (json.loads(line) for line in out.splitlines())
        runs = {one["run"]: one for one in lines if "run" in one}
        for one in lines:
            if "fault" in one:
                print(f"  left out: {one['fault']}", file=sys.stderr)
        if not self.former:
            return first["engine"], runs
        hashes = FormerCode(self._tree)
        return hashes.engine(), {name: one | {"code": hashes.of(one["roots"])} for name, one in runs.items()}


def differences(before: dict[str, Any], now: dict[str, Any]) -> tuple[list[str], list[str], list[str]]:
    """Runs that agree, what differs, and runs that say nothing, with the reason."""
    same, other, silent = [], [], []
    for name in sorted({*before, *now}):
        one, two = before.get(name), now.get(name)
        if one is None or two is None:
            silent.append(f"{name}: only one side has it")
        elif one["spec"] != two["spec"]:
            parts = [k for k in {*one["spec"], *two["spec"]} if one["spec"].get(k) != two["spec"].get(k)]
            silent.append(f"{name}: it asks for something else ({', '.join(sorted(parts))})")
        elif one["code"] != two["code"]:
            silent.append(f"{name}: its own code has changed")
        elif wrong := [k for k in ("failed", "values", "failures", "weights") if one.get(k) != two.get(k)]:
            other.append(f"{name}: {', '.join(wrong)}: {_short(one, wrong)} before, {_short(two, wrong)} now")
        else:
            same.append(name)
    return same, other, silent


def _short(one: dict[str, Any], keys: list[str]) -> str:
    return "; ".join(str(one.get(k))[:120] for k in keys)


@contextmanager
def accepted_tree(given: Path | None) -> Iterator[tuple[str, Path]]:
    """The newest accepted engine whose revision this clone has, and a work tree of it."""
    for entry in reversed(eras()[-1]):
        revision = entry["revision"]
        there = subprocess.run(["git", "cat-file", "-e", f"{revision}^{{commit}}"], cwd=CHECKOUT, check=False)
        if there.returncode == 0:
            if given is not None:
                yield entry["engine"], given
            else:
                with checked_out(revision) as tree:
                    yield entry["engine"], tree
            return
    raise SystemExit("no revision of an accepted engine is in this clone: fetch its whole history")


def accept(runs: int, *, new_era: bool = False) -> None:
    """Add today's engine to the accepted ones: to the last era, or as the first of a new one."""
    revision = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=CHECKOUT, capture_output=True, text=True, check=True
    ).stdout.strip()
    entry = {
        "engine": engine_hash(),
        "revision": revision,
        "date": datetime.now(UTC).date().isoformat(),
        "platform": f"{platform.system()} {platform.machine()}",
        "torch": torch.__version__,
        "runs": runs,
    }
    found = [*eras(), [entry]] if new_era else [*eras()[:-1], [*eras()[-1], entry]]
    FILE.write_text(json.dumps(found, indent=1) + "\n")


def main() -> None:
    """Compare, and accept where everything agrees."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tree", type=Path, help="a work tree of the accepted revision, if there is one")
    parser.add_argument("--compare-anyway", action="store_true", help="also where today's engine is accepted already")
    parser.add_argument(
        "--new-era", action="store_true", help="accept other bits: records of earlier engines are stale"
    )
    given = parser.parse_args()
    if is_todays(eras()[-1][0]["engine"]) and not given.compare_anyway:
        print("today's engine is one of the accepted ones")
        return
    changed = ["git", "status", "--porcelain", "benchmarks", "suites", "data/registry"]
    if subprocess.run(changed, cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout.strip():
        raise SystemExit("commit first: what is accepted is known by its revision")
    with tempfile.TemporaryDirectory() as folder, accepted_tree(given.tree) as (wanted, tree):
        sides = Side(tree.resolve(), Path(folder, "before")), Side(CHECKOUT, Path(folder, "now"))
        (engine, before), (todays, now) = (side.result() for side in sides)
    if engine != wanted:
        raise SystemExit(f"the accepted revision has engine {engine[:12]}, not {wanted[:12]}: engines.json is wrong")
    same, other, silent = differences(before, now)
    for line in silent:
        print(f"  says nothing: {line}")
    for line in other:
        print(f"  DIFFERS: {line}")
    print(f"{len(same)} runs came to the same bits, {len(other)} did not, {len(silent)} say nothing")
    if (other and not given.new_era) or len(same) + len(other) < ENOUGH:
        raise SystemExit(1)
    if not is_todays(eras()[-1][0]["engine"]):
        accept(len(same), new_era=bool(other))
        print(f"engine {todays[:12]} is accepted: commit {FILE.name}")


if __name__ == "__main__":
    main()
