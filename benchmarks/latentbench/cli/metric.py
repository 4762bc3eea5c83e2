"""`latentbench metric`"""

from __future__ import annotations

import math
from pathlib import Path

import click

from latentbench.cli.options import examples, format_option, print_json, print_table
from latentbench.core.console import note
from latentbench.core.errors import UserError

#: Names of suites and of everyday use -> the metric of arrays behind them.
ALSO_CALLED = {
    "fid": "frechet_distance",
    "precision": "precision_recall",
    "recall": "precision_recall",
    "density": "density_coverage",
    "coverage": "density_coverage",
    "vendi": "vendi_score",
    "copying": "copying_statistic",
    "nll": "log_likelihood",
    "explicitness": "modularity_explicitness",
    "infom": "infomec",
    "infoe": "infomec",
    "infoc": "infomec",
    "kmeans_accuracy": "clustering_accuracy",
    "kmeans_nmi": "nmi",
    "reconstruction_mse": "mse",
    "reconstruction_psnr": "psnr",
    "reconstruction_ssim": "ssim",
    "outlier_auroc": "auroc",
    "outlier_ap": "average_precision",
    "outlier_fpr80": "fpr_at_tpr",
    "forecast_rmse": "rmse",
    "nll_iw": "importance_bound",
    "target_bw2_uvp": "bw2_uvp",
    "pushed_energy_distance": "energy_distance",
    "aggregate_mmd": "mmd",
}


@click.command(
    epilog=examples(
        "metric mig codes.npz",
        "metric frechet_distance real.parquet fake.parquet",
        "metric kid features.npz -o subsets=50 -o seed=1 --format json",
        "metric --list",
    )
)
@click.argument("name", required=False)
@click.argument("files", nargs=-1, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--option", "-o", "options", multiple=True, help="NAME=VALUE of the metric, repeatable.")
@click.option("--list", "listing", is_flag=True, help="Every metric with the arrays that it needs.")
@format_option("table", "json")
def command(name: str | None, files: tuple[Path, ...], options: tuple[str, ...], listing: bool, form: str) -> None:
    """Compute a metric on arrays in .npz or .parquet files, for people who only want the number.

    Arrays are found by name: those of an .npz file, columns of a .parquet file, or a whole .parquet file of that name.

    How axes are read is said where they could be meant the other way round, and what does not fit together is refused.
    JSON has no infinity: such a number is null there, and `not_finite` says which of "inf", "-inf" and "nan" it is.
    """
    from latentbench.metrics.catalog import compute, metrics_of_arrays

    if name is not None and name not in metrics_of_arrays() and (array := _of_arrays(name)) is not None:
        raise UserError(f"no metric of arrays is called {name!r}", where="metric", fix=f"it is {array!r} here")
    if listing or name is None:
        rows = [
            {
                "name": e.name,
                "arrays": [*e.arrays, *(f"{a}?" for a in e.optional)],
                "unit": e.unit,
                "better": e.direction,
                "reference": e.reference,
            }
            for e in metrics_of_arrays().values()
            if e.from_file
        ]
        if form == "json":
            print_json(rows)
        else:
            print_table(
                f"{len(rows)} metrics of arrays",
                ["name", "arrays", "unit", "better", "reference"],
                [[r["name"], ", ".join(r["arrays"]), r["unit"], r["better"], r["reference"]] for r in rows],
            )
        return
    pairs = [o.partition("=") for o in options]
    for pair in pairs:
        if not pair[1]:
            raise UserError(f"{pair[0]!r} is no NAME=VALUE", where="--option", fix="e.g. -o bins=20")
    found = compute(name, [str(f) for f in files], {key: value for key, _, value in pairs})
    for remark in found.remarks if form == "table" else ():
        note(remark)
    if form == "json":
        without_end = {k: str(v) for k, v in found.numbers.items() if isinstance(v, float) and not math.isfinite(v)}
        print_json(
            {
                "metric": found.entry.name,
                "numbers": found.numbers,
                "options": found.options,
                "identity": found.identity,
                **({"not_finite": without_end} if without_end else {}),
                "remarks": list(found.remarks),
            }
        )
        return
    print_table(
        f"{found.entry.name}, {found.entry.unit}, {found.entry.direction} is better  ({found.identity})",
        ["", "value"],
        [[k, v if isinstance(v, str) else f"{v:.6g}" if isinstance(v, float) else v] for k, v in found.numbers.items()],
        right=("value",),
    )


def _of_arrays(name: str) -> str | None:
    """The metric of arrays behind a name that suites use, such as ``fid_inception``, if there is one."""
    from latentbench.metrics.catalog import metrics_of_arrays

    stem, _, features = name.rpartition("_")
    plain = stem if features in ("pixels", "random", "lenet", "inception") else name
    return plain if plain in metrics_of_arrays() else ALSO_CALLED.get(plain)
