"""`latentbench plot`"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from latentbench.cli.options import examples, tier_option

if TYPE_CHECKING:
    from latentbench.results.filters import Wanted
    from latentbench.results.gather import Gathered


@click.command(
    epilog=examples(
        "plot iwae",
        "plot iwae --metric nll_iw --format svg",
        "plot beta-tcvae --only curves --out figures",
        "plot disentanglement-study --only agreement",
    ),
)
@click.argument("suite")
@tier_option("cpu or paper; by default the most faithful tier that has records.")
@click.option("--dataset", help="Only this dataset; its name here or in the registry, or a pattern.")
@click.option("--metric", help="Only this metric; leaves the other figures out.")
@click.option("--only", type=click.Choice(["intervals", "curves", "agreement"]), help="Only these figures.")
@click.option(
    "--format", "forms", type=click.Choice(["png", "svg"]), multiple=True, help="Both by default; repeatable."
)
@click.option("--out", type=click.Path(file_okay=False), help="The folder; results/plots/SUITE by default.")
def command(
    suite: str,
    tier: Any,
    dataset: str | None,
    metric: str | None,
    only: str | None,
    forms: tuple[str, ...],
    out: str | None,
) -> None:
    """Draw a suite's numbers, as PNG and SVG.

    Seeds with mean and 95 % interval of each metric; learning curves; and, of six methods or more with three metrics,
    the rank correlation of each two metrics over all runs.
    """
    from latentbench.cli.gathering import gathered
    from latentbench.core.errors import UserError
    from latentbench.core.paths import results_dir, safe_name, shown
    from latentbench.records.record import write_atomically
    from latentbench.results.filters import Wanted

    if tier == "smoke":
        raise UserError("smoke runs are in no figure", where="--tier", fix="use cpu or paper")
    (found,) = gathered((suite,), tier)
    spec = found.loaded.suite
    wanted = Wanted(dataset, metric)
    wanted.known(
        ((d, each.source or d) for d, each in spec.datasets.items()), ((m, spec.metric_name(m)) for m in spec.metrics)
    )
    folder = Path(out) if out is not None else results_dir() / "plots" / safe_name(spec.id)
    names: set[Path] = set()
    for form in forms or ("png", "svg"):
        for name, content in _figures(found, form, wanted, only):
            path = folder / f"{safe_name(name)}.{form}"
            if path in names:  # the same metric under another identity
                path = folder / f"{safe_name(name)}-{len(names)}.{form}"
            names.add(path)
            try:
                write_atomically(path, content)
            except OSError as e:
                raise UserError(
                    f"cannot be written: {e.strerror}", where=shown(path), fix="name another folder"
                ) from None
            click.echo(shown(path))
    if not names:
        raise UserError(
            "there is nothing to draw",
            where=f"suite {spec.id}, tier {found.tier}",
            fix=f"latentbench run {spec.id} --tier {found.tier}",
        )


def _figures(found: Gathered, form: Any, wanted: Wanted, only: str | None) -> Iterator[tuple[str, bytes]]:
    """Names of figures and what they are."""
    from latentbench.report import figures
    from latentbench.report.agreement import agreements
    from latentbench.report.curves import bundles
    from latentbench.report.findings import SuiteFindings, TierFindings
    from latentbench.report.papers import boards
    from latentbench.results.leaderboard import leaderboard

    if only != "curves":
        tier = TierFindings(found, leaderboard(found, dataset=wanted.dataset, metric=wanted.metric), [])
        for board in boards(SuiteFindings(found.loaded, [tier]), tier) if only != "agreement" else ():
            yield f"intervals-{board.dataset}-{board.metric}", figures.intervals(board, form)
        for matrix in agreements(found.loaded.suite, tier) if only != "intervals" and wanted.metric is None else ():
            yield f"agreement-{matrix.dataset}", figures.agreement(matrix, form)
    if only in (None, "curves") and wanted.metric is None:
        for bundle in bundles(found.loaded.suite, found):
            if wanted.of(bundle.dataset, found.loaded.suite.datasets[bundle.dataset].source or bundle.dataset):
                yield f"curves-{bundle.dataset}", figures.curves(bundle, form)
