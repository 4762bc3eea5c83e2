"""`latentbench verdict`"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from latentbench.cli.export import export, export_options
from latentbench.cli.options import examples, judged_tier_option, mixed_option


@click.command(
    epilog=examples(
        "verdict iwae",
        "verdict iwae --all",
        "verdict iwae --method 'iwae-*' --dataset mnist",
        "verdict --format json",
        "verdict iwae --format latex -o verdicts.tex",
        "verdict iwae --noise --tier cpu --method vae-k1-1l",
    ),
)
@click.argument("suites", nargs=-1)
@judged_tier_option("cpu or paper; by default the most faithful tier that has records.")
@click.option("--all", "everything", is_flag=True, help="Claim by claim, with all that the seeds say.")
@click.option("--noise", is_flag=True, help="Split the spread over seeds by axis instead; this runs a crossed design.")
@click.option("--method", "methods", multiple=True, help="Only claims about these methods; name or pattern.")
@click.option("--dataset", "datasets", multiple=True, help="Only claims on these datasets; name or pattern.")
@mixed_option()
@click.option("--levels", type=click.IntRange(2, 20), help="With --noise: of each axis. Default: 3.")
@click.option("--jobs", type=click.IntRange(1, 256), help="With --noise: trainings side by side.")
@export_options
def command(
    suites: tuple[str, ...],
    tier: Any,
    everything: bool,
    noise: bool,
    methods: tuple[str, ...],
    datasets: tuple[str, ...],
    mixed: Any,
    levels: int | None,
    jobs: int | None,
    form: str,
    output: Path | None,
) -> None:
    """What a suite's records say of the paper's claims: a line for each question first, details with --all.

    Sanity checks, which are no reproduction, stand apart: they hold or fail. A claim is `not-tested` where its gate is
    shut (its methods are not trained enough to have an opinion), and `impossible` where it rests on a number that
    cannot be, such as a likelihood beyond a known optimum.

    Verdicts: reproduced, consistent, better, not-reproduced, insufficient (open) or not-run. A value is judged at tier
    paper only, by an equivalence test; all other kinds by one-sided tests. All are Holm-corrected over the
    suite's claims, also where --method or --dataset show some of them. `insufficient` names the number of seeds that
    would settle it. Where seeds are added by `run --until-settled`, the tests are sequential: they allow for having
    looked before. Without a suite: a line for each, as `latentbench scoreboard`.

    A claim whose runs are of several environments (versions of numeric packages, devices, platforms) says so. With
    --mixed refuse it is `insufficient` for that reason; with --mixed split all claims are judged once in each.

    With --noise: each level of initialisation meets each level of data order, each such training is evaluated with
    several evaluation seeds, and the spread of every metric is split among them. 9 trainings a method by default; their
    records lie under results/noise and count for nothing else.
    """
    from latentbench.core.errors import UserError

    if noise:
        from latentbench.cli.noise import show_noise

        if form not in ("table", "json") or output is not None:
            raise UserError("components of noise are a table or JSON", where="--format", fix="use table or json")
        show_noise(suites, tier or "cpu", form, methods=methods, datasets=datasets, levels=levels or 3, jobs=jobs)
        return
    for option, given in (("--levels", levels), ("--jobs", jobs)):
        if given is not None:
            raise UserError("it goes with --noise", where=option, fix="give both, or neither")
    from latentbench.cli.gathering import gathered
    from latentbench.results.exporting import dated
    from latentbench.results.sheets import verdict_sheets
    from latentbench.results.verdicts import verdicts

    found = [(g, _asked_for(g, verdicts(g), methods, datasets)) for g in gathered(suites, tier, mixed)]
    if methods or datasets:
        from latentbench.core.errors import UserError

        if not any(part for _, part in found):
            raise UserError("no claim is about these", where="--method/--dataset", fix="`latentbench show SUITE`")

    def table() -> None:
        from latentbench.cli.answering import print_answers, print_details
        from latentbench.cli.render import said
        from latentbench.cli.scoreboard import print_scoreboard
        from latentbench.results.answers import answers

        if not suites and not everything and not (methods or datasets):
            print_scoreboard(found)
            return
        for k, (g, part) in enumerate(found):
            if part or suites:
                if k:
                    click.echo()
                if g.environment:
                    said(f"in {g.environment}:", style="bold")
                print_answers(answers(g, part), everything=everything)
                if everything:
                    print_details(part, g)

    export(
        form,
        output,
        rows=lambda: [v.as_dict() | dated(g) for g, part in found for v in part],
        columns=None,
        sheets=lambda: verdict_sheets(found),
        table=table,
    )


def _asked_for(gathered: Any, found: list[Any], methods: tuple[str, ...], datasets: tuple[str, ...]) -> list[Any]:
    """The verdicts on claims that name one of the methods, on one of the datasets."""
    from fnmatch import fnmatchcase

    from latentbench.results.filters import is_of
    from latentbench.spec.claims import methods_of, statements

    suite = gathered.loaded.suite
    by_id = {c.id: c for c in suite.claims}

    def on(dataset: str) -> bool:
        return not datasets or any(is_of(d, dataset, suite.datasets[dataset].source or dataset) for d in datasets)

    def about(method: str) -> bool:
        return not methods or any(fnmatchcase(method, m) for m in methods)

    return [
        v
        for v in found
        if any(on(said.dataset) and any(map(about, methods_of(said))) for said in statements(by_id[v.claim]))
    ]
