"""What users see of all suites at a revision and in the working tree: plans, states, leaderboards, verdicts.

``python -m perf.before_after REVISION`` prints what differs and exits with 1 if anything does. Known changes of form
are no differences: a model is compared by its name (it was said as ``module:Class``), training by what is not at its
default, and hashes of code are left out. Suites that only the working tree has are named, and are no difference either.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[1]
COMPARED = ("plan", "leaderboard", "verdict")
#: What tells the rows of a table apart.
KEYS = ("cell", "claim", "tier", "dataset", "method", "metric", "identity")


def side(package: str) -> None:
    """Print all that a tree shows, as JSON; executed by path under the tree's own code."""

    def bring(name: str) -> Any:
        return importlib.import_module(f"{package}.{name}")

    command, training = bring("cli.main").cli, bring("spec.protocol").Training
    load_suite, plan = bring("spec.loading").load_suite, bring("planning.plan").plan

    def told(*args: str) -> Any:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            command.main(args=[*args, "--format", "json"], standalone_mode=False)
        return json.loads(out.getvalue())

    def planned(run: Any) -> dict[str, Any]:
        asked = training.model_validate(run.training).model_dump(mode="json", exclude_defaults=True)
        return {"cell": run.cell, **run.settled(), "model": run.model, "training": asked, "exact": run.exact}

    found: dict[str, Any] = {}
    for name in bring("spec.loading").suite_files():
        loaded = load_suite(name)
        found[name] = {"status": told("status", name)}
        for tier in loaded.suite.tiers:
            found[name][f"plan {tier}"] = [planned(run) for run in plan(loaded, tier)]
            for table in ("leaderboard", "verdict") if tier != "smoke" else ():
                found[name][f"{table} {tier}"] = told(table, name, "--tier", tier)
    print(json.dumps(found))


def shown(tree: Path, scratch: Path) -> dict[str, Any]:
    """What a tree shows of its suites.

    Raises:
        SystemExit: it breaks off.
    """
    former = not (tree / "benchmarks/latentbench").is_dir()  # until November 2026 the package was `benchmarks`
    sources, package = (tree, "benchmarks") if former else (tree / "benchmarks", "latentbench")
    scratch.mkdir()
    (scratch / "registry").symlink_to(tree / "data/registry")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LATENTBENCH_")} | {
        "PYTHONPATH": str(sources),
        "LATENTBENCH_ROOT": str(tree),
        "LATENTBENCH_DATA": str(scratch),  # nothing is prepared, so both sides know the same of the data
    }
    command = [sys.executable, "-P", __file__, "--side", package]
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{tree} cannot be shown:\n{done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def differences(before: Any, now: Any, where: str = "") -> Iterator[str]:
    """Where two values differ, a line each; lists of rows are compared row by row, whatever their order."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted({*before, *now}):
            if key not in before or key not in now:
                value = before.get(key, now.get(key))
                yield f"{where} {key}: only {'before' if key in before else 'now'}: {json.dumps(value)[:200]}"
            else:
                yield from differences(before[key], now[key], f"{where} {key}")
    elif _are_rows(before) and _are_rows(now):
        yield from differences(_by_key(before), _by_key(now), where)
    elif before != now:
        yield f"{where}: {json.dumps(before)[:200]} before, {json.dumps(now)[:200]} now"


def _are_rows(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(row, dict) and set(KEYS) & row.keys() for row in value)


def _by_key(rows: list[dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for row in rows:
        name = " / ".join(str(row[key]) for key in KEYS if key in row)
        found[name if name not in found else f"{name} #{len(found)}"] = row
    return found


def main() -> None:
    """Compare and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("revision", nargs="?", default="HEAD")
    parser.add_argument("--tree", type=Path, help="a work tree of the revision, if there is one")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        side(given.side)
        return
    from perf.former_code import checked_out

    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        if given.tree:
            before = shown(given.tree.resolve(), scratch / "before")
        else:
            with checked_out(given.revision) as tree:
                before = shown(tree, scratch / "before")
        now = shown(CHECKOUT, scratch / "now")
    for name in sorted(now.keys() - before.keys()):
        print(f"{name}: a new suite")
    found = list(differences(before, {name: now[name] for name in now if name in before}))
    for line in found:
        print(line.strip())
    counts = {what: sum(len(v) for s in before.values() for k, v in s.items() if what in k) for what in COMPARED}
    print(f"{len(before)} suites before, {len(now)} now, {counts}: {len(found)} differences")
    raise SystemExit(1 if found else 0)


if __name__ == "__main__":
    main()
