"""`latentbench check`"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from latentbench.cli.options import examples, format_option, print_json
from latentbench.core.console import note, out, printable
from latentbench.core.errors import UserError, did_you_mean
from latentbench.core.paths import CATALOGUE, is_companion, shown
from latentbench.core.plugins import PAPERS, package_name
from latentbench.discovery.finding import sources
from latentbench.discovery.reading import declarations
from latentbench.spec import registry
from latentbench.spec.files import SUITE, suite_files

if TYPE_CHECKING:
    from latentbench.contracts.finding import Finding


@click.command(
    epilog=examples(
        "check vae                           a model or a metric by its name",
        "check iwae                          a suite by its id, with what its folder declares",
        "check suites/vae/suite.yaml         a suite that is called as a model is",
        "check my-plugins/my_model.py        models and metrics in a module of your own",
        "check my-plugins                    everything in a folder: modules, suites, data/*.yaml",
    ),
)
@click.argument("what", metavar="PATH|NAME")
@format_option("table", "json")
@click.option("--quiet", "-q", is_flag=True, help="Only what does not hold.")
@click.pass_context
def command(ctx: click.Context, what: str, form: str, quiet: bool) -> None:
    """The contract tests, on models, metrics, datasets and suites, yours and ours.

    A model, on each example that it declares: seeds, draws, gradients, learning, shapes, saving; on small data, that
    its probabilities sum to one, samples follow them and bounds bound them, as trained and with larger weights; and
    that its loss is the objective that the example states. A module: each model and metric that it declares. A suite:
    it validates, its models keep their contracts on its own data, its smoke tier runs. A dataset's entry: it prepares,
    twice the same. A fault comes with your file and line, once a cause. Modules are imported: check those that you
    trust. Exit code 1: something does not hold.
    """
    found: list[Finding] = []
    for finding in findings(what, quiet=quiet):
        found.append(finding)
        if form == "table" and not (quiet and finding.holds):
            _print(finding)
    broken = [f for f in found if not f.holds]
    if form == "json":
        print_json([vars(f) for f in found])
    elif not quiet or broken:
        skipped = sum(bool(f.skipped) for f in found)
        click.echo(
            f"{len(found)} tests: {len(found) - len(broken) - skipped} hold, {len(broken)} do not, {skipped} skipped"
        )
    ctx.exit(1 if broken else 0)


def _print(finding: Finding) -> None:
    from rich.text import Text

    mark, style = ("-", "dim") if finding.skipped else ("ok", "green") if finding.holds else ("NO", "bold red")
    said = finding.why or finding.skipped
    where = f" ({shown(Path(finding.where))})" if finding.where else ""
    line = f"{mark:3}{finding.subject}: {finding.test}" + (f": {said}" if said else "") + where
    out().print(Text(printable(line), style=style), soft_wrap=True)


def findings(what: str, *, quiet: bool = False) -> Iterator[Finding]:
    """The findings of the contract tests on what a user names, as they come; `quiet`, nothing is said meanwhile."""
    path = Path(what)
    if not path.exists() and what not in {*registry.models(), *registry.metrics()} and what in suite_files():
        file = suite_files()[what]
        path = file.parent if file.name == SUITE else file
    if not path.exists():
        yield from _named(what)
    elif path.is_dir():
        yield from _folder(path, quiet=quiet)
    elif path.suffix == ".py":
        yield from _module(path, alone=True)
    elif path.suffix in (".yaml", ".yml"):
        yield from _yaml(path, quiet=quiet)
    else:
        raise UserError("neither a module, nor YAML, nor a folder", where=path, fix="name a .py or .yaml file")


def _folder(folder: Path, *, quiet: bool) -> Iterator[Finding]:
    files = sorted([*folder.glob("*.py"), *folder.glob("*.yaml"), *folder.glob("*/*.yaml")])
    files = [f for f in files if not any(map(is_companion, f.relative_to(folder).parts))]
    files = [f for f in files if f.resolve().parts[-2:] != CATALOGUE.parts]  # a list of papers, no suite
    if not files:
        raise UserError("nothing to check here", where=folder, fix="name a folder with modules or YAML files")
    registry.add_folder(folder)
    for file in files:
        yield from _module(file, alone=False) if file.suffix == ".py" else _yaml(file, quiet=quiet)


def _yaml(path: Path, *, quiet: bool) -> Iterator[Finding]:
    from latentbench.contracts.datasets import check_dataset
    from latentbench.contracts.suites import check_suite
    from latentbench.core.yamlfile import read_yaml

    data = read_yaml(path).data
    if isinstance(data, dict) and "kind" in data and "splits" in data:
        if path.resolve().parent.name == "data":
            registry.add_folder(path.resolve().parent.parent)
        yield from check_dataset(path)
    else:
        yield from check_suite(path, (lambda _: None) if quiet else lambda subject: note(f"checking {subject}"))


def _module(path: Path, *, alone: bool) -> Iterator[Finding]:
    """The findings on a module's models and metrics; `alone`, it must have some."""
    file = path.resolve()
    known = {place: module for place, module, _ in sources()}
    if str(file) not in known:
        registry.add_folder(file.parent)
    declared = declarations(file, known.get(str(file), f"{PAPERS}.{package_name(file.parent)}.{file.stem}"))
    names = [d.name for kind in ("model", "metric") for d in declared if d.kind == kind]
    if alone and not names:
        raise UserError(
            "it declares neither a model nor a metric", where=path, fix="see what `latentbench new model NAME` writes"
        )
    for name in names:
        yield from _named(name)


def _named(name: str) -> Iterator[Finding]:
    from latentbench.contracts.examples import check_examples
    from latentbench.contracts.metrics import check_metric

    models, metrics = registry.models(), registry.metrics()
    if name in models:
        yield from check_examples(name, models[name])
    elif name in metrics:
        yield from check_metric(name, metrics[name])
    else:
        raise UserError(
            f"{name!r} is no file, model, metric or suite",
            fix=did_you_mean(name, [*models, *metrics, *suite_files()]),
            where="check",
        )
