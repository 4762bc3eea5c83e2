"""`latentbench new`"""

from __future__ import annotations

import datetime
import keyword
import re
from importlib import resources
from pathlib import Path

import click

from latentbench.cli.options import examples
from latentbench.cli.prefilled import known_of
from latentbench.core.errors import UserError
from latentbench.core.paths import shown
from latentbench.spec.registry import metrics, models

#: kind -> (template, where it goes below the folder), for each file that is written.
FILES: dict[str, tuple[tuple[str, str], ...]] = {
    "suite": (("suite.yaml.txt", "suites/{name}/suite.yaml"),),
    "model": (("model.py.txt", "{module}.py"),),
    "metric": (("metric.py.txt", "{module}.py"),),
    "dataset": (("dataset.yaml.txt", "data/{name}.yaml"), ("generator.py.txt", "{module}.py")),
}
#: What `--like` writes in place of the model's template: a method that is trained or fitted in that way.
LIKE = {kind: f"model_{kind}.py.txt" for kind in ("vae", "flow", "diffusion", "fit")}
NEXT: dict[str, tuple[str, ...]] = {
    "suite": ("check {file}", "run {file} --tier cpu"),
    "model": ("check {file}", "--plugins {folder} run SUITE --method '*'    with a method `model: {name}` in a suite"),
    "metric": ("check {file}", "--plugins {folder} list metrics"),
    "dataset": ("check {file}", "--plugins {folder} data show {name}"),
}


@click.command(
    epilog=examples(
        "new suite pixelcnn                a paper of the catalogue: title, arXiv number, claim are filled in",
        "new model my-flow --folder my-plugins",
        "new model my-vae --like vae",
        "new metric mean-gap --folder my-plugins",
        "new dataset my-curve --folder my-plugins",
    ),
)
@click.argument("kind", type=click.Choice(list(FILES)))
@click.argument("name")
@click.option(
    "--folder", type=click.Path(file_okay=False, path_type=Path), default=".", help="Where to write. Default: here."
)
@click.option("--like", type=click.Choice(list(LIKE)), help="Of a model: begin with one of that kind.")
def command(kind: str, name: str, folder: Path, like: str | None) -> None:
    """Write a suite, model, metric or dataset to begin with: it passes `latentbench check` as it is.

    A suite is called as its paper is in the catalogue (`latentbench list papers`), which fills in what it knows.
    Comments say where you decide. Nothing that is there is overwritten.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*([-_][a-z0-9]+)*", name) or len(name) > 60:
        raise UserError(f"{name!r} is no name", where="NAME", fix="use lower-case words, digits and hyphens: my-flow")
    if kind in ("model", "metric") and name in (models() if kind == "model" else metrics()):
        raise UserError(f"latentbench has a {kind} {name!r}", where="NAME", fix="choose another name")
    if like is not None and kind != "model":
        raise UserError("it is for models", where="--like", fix=f"leave it out, or `latentbench new model {name}`")
    module = name.replace("-", "_")
    if keyword.iskeyword(module):
        raise UserError(f"{name!r} is a word of Python's", where="NAME", fix="choose another")
    words = {
        "name": name,
        "module": module,
        "function": module if kind != "metric" else f"measure_{module}",
        "cls": "".join(part.capitalize() for part in module.split("_")),
        "title": name.replace("-", " ").replace("_", " ").capitalize(),
        "year": str(datetime.date.today().year),
    }
    if kind == "suite":
        words |= known_of(name)
    files = FILES[kind] if like is None else ((LIKE[like], FILES[kind][0][1]),)
    written = [(folder / place.format(**words), _text(template, words)) for template, place in files]
    for path, _ in written:
        if path.exists():
            raise UserError("it is there already", where=shown(path), fix="choose another name or --folder")
    for path, text in written:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        click.echo(f"wrote {shown(path)}")
    click.echo("next:")
    for line in NEXT[kind]:
        said = line.format(file=shown(written[0][0]), folder=shown(folder), name=name)
        click.echo(f"  latentbench {said}")


def _text(template: str, words: dict[str, str]) -> str:
    source = resources.files("latentbench.scaffold").joinpath(template)
    return source.read_text(encoding="utf-8").format(**words)
