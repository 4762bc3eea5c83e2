"""What the commands do, from Python: tables as pandas DataFrames, runs, trained models, metrics and datasets.

All of it is reached as ``latentbench.<name>`` (docs/python.md). Where a command would end with a message and exit code
2, these raise `latentbench.core.errors.UserError` with that message.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import pandas as pd

    from latentbench.audit.trained import TrainedModel
    from latentbench.data.dataset import Dataset
    from latentbench.metrics.catalog import Computed
    from latentbench.results.gather import Gathered

Tier = Literal["smoke", "cpu", "paper"]
Names = str | Sequence[str]


def papers() -> pd.DataFrame:
    """The catalogue: a row a paper, with family, scope, priority, title, and how far its suite has come (`state`)."""
    import pandas as pd

    from latentbench.spec import standing

    return pd.DataFrame(standing.papers()).set_index("id")


def suites() -> pd.DataFrame:
    """A row a suite: title, version, tiers, number of methods, datasets, number of claims, state."""
    import pandas as pd

    from latentbench.spec import standing

    return pd.DataFrame(standing.suites()).set_index("id")


def records(
    suites: Names = (), *, tier: Tier | None = None, dataset: str | None = None, metric: str | None = None
) -> pd.DataFrame:
    """Every value that counts by itself: a row for each metric of each run.

    Args:
        suites: one or several, by id or by file; all that have records by default.
        tier: one tier; by default the most faithful one of each suite that has records.
        dataset, metric: only these, by their names in the suite or in the registry, or patterns.

    Returns:
        Columns of `latentbench.results.by_seed.SeedRow`.
    """
    import pandas as pd

    from latentbench.results.by_seed import COLUMNS, seed_rows

    rows = [r for g in _gathered(suites, tier) for r in seed_rows(g, dataset=dataset, metric=metric)]
    return pd.DataFrame([asdict(r) for r in rows], columns=COLUMNS)


def leaderboard(
    suites: Names = (), *, tier: Tier | None = None, dataset: str | None = None, metric: str | None = None
) -> pd.DataFrame:
    """Methods by dataset and metric, best first: mean and 95 % interval over seeds, the paper's number beside ours.

    Rows of different `identity` are of different quantities: rank within one. Arguments as of `records`.

    Returns:
        Columns of `latentbench.results.leaderboard.Row`.
    """
    from latentbench.results.leaderboard import leaderboard as rows_of
    from latentbench.results.leaderboard import to_frame

    return to_frame([r for g in _gathered(suites, tier) for r in rows_of(g, dataset=dataset, metric=metric)])


def verdicts(suites: Names = (), *, tier: Tier | None = None) -> pd.DataFrame:
    """Each claim with its verdict, estimate, interval, and the seeds that would settle it. Arguments as of `records`.

    Returns:
        Columns of `latentbench.results.verdicts.ClaimVerdict`.
    """
    import pandas as pd

    from latentbench.results.verdicts import verdicts as found

    return pd.DataFrame([v.as_dict() for g in _gathered(suites, tier) for v in found(g)])


def scoreboard(*, tier: Tier | None = None) -> pd.DataFrame:
    """A row a suite that has records: its claims by verdict; sanity checks, which are no reproduction, are apart."""
    import pandas as pd

    from latentbench.results.scoreboard import counts_by_suite
    from latentbench.results.verdicts import verdicts as found

    return pd.DataFrame(counts_by_suite([(g, found(g)) for g in _gathered((), tier)]))


def compare(
    a: str, b: str, *, tier: Tier | None = None, dataset: str | None = None, metric: str | None = None
) -> pd.DataFrame:
    """How far B is from A, metric by metric; `regression` where B is worse by more than chance or fails.

    Args:
        a, b: methods (``suite/method``), runs, git revisions, or folders of results.
        tier: by default a method's most faithful one with records, and all but smoke of other sides.
        dataset, metric: only these, by their names in the suite or in the registry, or patterns.

    Returns:
        Columns of `latentbench.results.compare.Compared`, and `regression`.

    Raises:
        UserError: a side is none of these, or has no record.
    """
    import pandas as pd

    from latentbench.results.compare import compare_sides
    from latentbench.results.sides import side

    found = compare_sides(side(a, tier), side(b, tier), dataset=dataset, metric=metric)
    return pd.DataFrame([r.as_dict() for r in found.rows])


def run(
    suites: Names,
    *,
    tier: Tier | None = None,
    seeds: int | Sequence[int] | None = None,
    method: Names = (),
    dataset: Names = (),
    jobs: int | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    force: bool = False,
    quiet: bool = True,
    wandb: Literal["online", "offline", "disabled"] = "disabled",
) -> pd.DataFrame:
    """Run suites, as `latentbench run` does: what has a record is not run again.

    Args:
        suites: one or several, by id or by file.
        tier: by default ``cpu``, or ``paper`` where that is small.
        seeds: a number of seeds, or these; by default the suite's own.
        method, dataset: only these; names or patterns.
        jobs: runs side by side, 0 for all in this process; in a script, others want ``if __name__ == "__main__":``
            around the call.
        device: where.
        force: run again what has a record.
        quiet: without progress and tables.
        wandb: whether wandb mirrors the runs.

    Returns:
        As `records`, of the runs asked for; `status` says which failed.

    Raises:
        UserError: the suite, the data or the folder cannot be used.
    """
    import pandas as pd

    from latentbench.cli.sweep import Sweep
    from latentbench.results.by_seed import COLUMNS, seed_rows
    from latentbench.results.gather import Gathered
    from latentbench.spec.loading import load_suite

    sweep = Sweep(
        _names(suites),
        tier=tier,
        seeds=list(range(seeds)) if isinstance(seeds, int) else None if seeds is None else list(seeds),
        methods=_names(method),
        datasets=_names(dataset),
        jobs=jobs,
        device=device,
        force=force,
        quiet=quiet,
        wandb=wandb,
    )
    sweep.go()
    from latentbench.records.archive import collect

    rows = []
    for name in _names(suites):
        loaded = load_suite(name)
        at = tier or loaded.suite.default_tier
        runs = sweep.planned(loaded)
        rows += seed_rows(Gathered(loaded, at, runs, collect(runs)))
    return pd.DataFrame([asdict(r) for r in rows], columns=COLUMNS)


def load(run: str) -> TrainedModel:
    """The model of a run with its weights, which samples, reconstructs and encodes.

    Args:
        run: the run's identifier or the start of it, its folder, or its record's file.

    Raises:
        UserError: no such record, or no weights beside it.
    """
    from latentbench.audit.trained import take_up

    return take_up(run)


def metric(name: str, *arrays: Any, **options: Any) -> Computed:
    """A metric of arrays: ``float()`` of the result is its value, `numbers` has all that it gives.

    Args:
        name: as `latentbench metric --list` has it.
        arrays: in the order that the list shows; optional ones go by name, among the options.
        options: of the metric; `seed` seeds those that draw (default 0).

    Raises:
        UserError: unknown metric or option, or arrays that do not fit.
    """
    from latentbench.metrics.catalog import compute_arrays

    return compute_arrays(name, arrays, options)


def dataset(name: str) -> Dataset:
    """A dataset of the registry, fetched and prepared first if need be; `split` gives its arrays, memory-mapped.

    Raises:
        UserError: unknown, or it cannot be obtained.
    """
    from latentbench.data.dataset import open_dataset
    from latentbench.data.progress import silent

    return open_dataset(name, silent)


def _names(given: Names) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(map(str, given))


def _gathered(suites: Names, tier: Tier | None) -> list[Gathered]:
    from latentbench.cli.gathering import gathered

    on = gc.isenabled()
    try:
        return gathered(_names(suites), tier)
    finally:
        if on:
            gc.enable()
