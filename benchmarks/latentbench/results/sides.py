"""What the two sides of a comparison may be called, and the records that they stand for."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from glob import escape
from pathlib import Path

from latentbench.audit.rebuild import find_record
from latentbench.core.errors import UserError, did_you_mean
from latentbench.core.paths import project_root, results_dir, shown
from latentbench.data.archive import unpack
from latentbench.records.archive import record_files, suites_with_records
from latentbench.records.below import records_below
from latentbench.records.record import Record, read_record
from latentbench.results.compare import Side, one_a_seed
from latentbench.results.gather import best, gather
from latentbench.spec.claims import Tier
from latentbench.spec.files import suite_files
from latentbench.spec.loading import load_suite

#: Bytes of reference records that are taken out of a revision.
MOST_BYTES = 1 << 30


def side(name: str, tier: Tier | None = None) -> Side:
    """The side that is called `name`.

    A folder of results (or a pack of records); ``suite/method``; a run, by its identifier, folder or record; or a
    revision of git, whose records are those that its code made, else those that were committed there.

    Args:
        name: of it.
        tier: only this one; by default a method's most faithful tier with records, and of others all but smoke.

    Raises:
        UserError: it is none of these, or has no record.
    """
    path = Path(name)
    if (os.path.isdir(name) and not (path / "record.json").is_file()) or path.suffix == ".jsonl":
        return _set(name, f"the results in {shown(path)}", _below(path), tier)
    if (found := _method(name, tier)) is not None:
        return found
    try:
        record = find_record(name)[1]
    except UserError as fault:
        if (revision := _revision(name)) is None:
            raise _unknown(name, fault) from None
        return _of_revision(name, revision, tier)
    return Side(f"{record.method} (seed {record.seed})", f"run {record.run_id}", [record], single=True)


def _unknown(name: str, fault: UserError) -> UserError:
    if "fits" in fault.what:
        return fault
    suite, _, method = name.partition("/")
    if method and suite in suite_files():
        methods = load_suite(suite).suite.methods
        return UserError(f"suite {suite!r} has no method {method!r}", fix=did_you_mean(method, methods))
    return UserError(
        f"{name[:100]!r} is no folder, suite/method, run or revision", fix="e.g. iwae/iwae-k5-1l, or results/runs"
    )


def _below(folder: Path) -> Iterator[Record]:
    """Sound records in a folder, whatever its layout; broken ones are passed over, as everywhere."""
    for path in records_below(folder):
        try:
            yield read_record(path, sealed=True)
        except UserError:
            continue


def _set(name: str, what: str, records: Iterator[Record], tier: Tier | None) -> Side:
    kept = list(one_a_seed(r for r in records if (r.tier != "smoke" if tier is None else r.tier == tier)))
    if not kept:
        of = "that is no smoke run" if tier is None else f"of tier {tier}"
        raise UserError(f"{name!r} has no record {of}", fix="smoke runs are compared with --tier smoke")
    seeds = f"{len(kept)} record{'s' if len(kept) > 1 else ''}"
    return Side(name, f"{what}: {seeds}", kept, single=len({(r.suite, r.method) for r in kept}) == 1)


def _method(name: str, tier: Tier | None) -> Side | None:
    suite, _, method = name.partition("/")
    if not method or suite not in suite_files():
        return None
    loaded = load_suite(suite)
    if method not in loaded.suite.methods:
        return None
    found = best(loaded) if tier is None else gather(loaded, tier) if tier in loaded.suite.tiers else None
    records = [] if found is None else [r for r in found.collected.found.values() if r.method == method]
    if found is None or not records:
        at = "" if tier is None else f" at tier {tier}"
        raise UserError(
            f"{name} has no record{at}", fix=f"latentbench run {suite} --method '{escape(method)}' makes them"
        )
    seeds = len({r.seed for r in records})
    what = f"method {method} of suite {suite}, tier {found.tier}, {seeds} seed{'s' if seeds > 1 else ''}"
    return Side(loaded.suite.methods[method].label or method, what, records, single=True)


def _revision(name: str) -> str | None:
    """The commit that a name stands for; None where it is none, or there is no git."""
    if not name or name.startswith("-"):
        return None
    done = _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    return done.stdout.decode().strip() or None if done is not None and done.returncode == 0 else None


def _git(*args: str) -> subprocess.CompletedProcess[bytes] | None:
    try:
        return subprocess.run(("git", *args), cwd=project_root(), capture_output=True, timeout=120, check=False)
    except (OSError, ValueError, subprocess.TimeoutExpired):  # a name with a null byte is none
        return None


def _of_revision(name: str, revision: str, tier: Tier | None) -> Side:
    root = results_dir()
    made = [
        record
        for suite in suites_with_records(root)
        for _, file in record_files(suite, root)
        if (record := _sound(file)) is not None and record.provenance.git_revision == revision
    ]
    if any(r.tier != "smoke" if tier is None else r.tier == tier for r in made):
        return _set(name, f"what the code of revision {revision[:10]} made", iter(made), tier)
    with tempfile.TemporaryDirectory(prefix="latentbench-records-") as folder:
        records = iter(list(_below(_taken_out(revision, Path(folder)))))
    return _set(name, f"the reference records of revision {revision[:10]}", records, tier)


def _sound(file: str) -> Record | None:
    try:
        return read_record(Path(file), sealed=True)
    except UserError:
        return None


def _taken_out(revision: str, scratch: Path) -> Path:
    """A folder below `scratch` with the reference records of a revision."""
    packed, tree = scratch / "packed.tar", scratch / "tree"
    done = _git("archive", "--format=tar", f"--output={packed}", revision, "--", "results/reference")
    if done is not None and done.returncode == 0:
        unpack(packed, tree, MOST_BYTES)
    return tree
