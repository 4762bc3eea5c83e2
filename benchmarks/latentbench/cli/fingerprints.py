"""`latentbench fingerprints`"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from latentbench.cli.options import examples, format_option, print_json, print_table, tier_option
from latentbench.core.errors import UserError


@click.command(
    epilog=examples(
        "fingerprints iwae --tier cpu",
        "fingerprints --tier cpu --format json > before.json      and again after a change, to see what it redoes",
    ),
)
@click.argument("suites", nargs=-1)
@tier_option("Default: the tier that `latentbench run` takes.")
@click.option(
    "--write", type=click.Path(file_okay=False), help="Write <suite>.json for each into a folder, as `dvc repro` does."
)
@format_option("table", "json")
def command(suites: tuple[str, ...], tier: Any, write: str | None, form: str) -> None:
    """What each run depends on, as hashes: of its specification, its data, its own code and the engine.

    Code is what the run's model, metrics, steps and oracle reach, definition by definition. An engine of the same bits
    (`nox -s golden`) shows under the hash of the first of them.

    A run is done again where its fingerprint changes, and nowhere else. Data count once they are prepared, or where the
    registry says what they must come to.
    """
    from latentbench.spec.loading import suite_files

    found = [_of_suite(name, tier, lenient=write is not None) for name in suites or suite_files()]
    if write is not None:
        _write(Path(write), found)
    elif form == "json":
        print_json(found)
    else:
        print_table(
            "",
            ["suite", "run", "specification", "data", "code", "engine"],
            [
                [one["suite"], cell, *((h or "unknown")[:12] for h in hashes.values())]
                for one in found
                for cell, hashes in one["runs"].items()
            ],
        )


def _of_suite(name: str, tier: Any, *, lenient: bool) -> dict[str, Any]:
    """A suite's runs with their hashes; if `lenient`, what is wrong with it in their place, for `run` to stumble on.

    Raises:
        UserError: it cannot be planned.
    """
    from latentbench.data.manifest import content_hash_if_known
    from latentbench.planning.engines import todays_era
    from latentbench.planning.plan import plan
    from latentbench.spec.loading import load_suite

    try:
        loaded = load_suite(name)
        runs = plan(loaded, tier or loaded.suite.default_tier)
        data = {source: content_hash_if_known(source) for source in {r.data["source"] for r in runs}}
        hashes = {
            r.cell: {
                "spec": r.spec_hash,
                "data": data[r.data["source"]],
                "code": r.code_hash,
                "engine": todays_era(),
            }
            for r in runs
        }
    except UserError as e:
        if not lenient:
            raise
        return {"suite": name, "fault": str(e), "runs": {}}
    return {"suite": loaded.suite.id, "runs": hashes}


def _write(folder: Path, found: list[dict[str, Any]]) -> None:
    """One file a suite; those of suites that are no more go."""
    from latentbench.records.record import write_atomically

    names = {f"{one['suite']}.json" for one in found}
    for old in folder.glob("*.json"):
        if old.name not in names:
            old.unlink()
    for one in found:
        write_atomically(folder / f"{one['suite']}.json", json.dumps(one, indent=1, sort_keys=True) + "\n")
