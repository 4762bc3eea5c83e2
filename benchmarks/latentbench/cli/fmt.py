"""`latentbench fmt`"""

from __future__ import annotations

from pathlib import Path

import click

from latentbench.cli.options import examples
from latentbench.core.console import note, printable


@click.command(
    epilog=examples(
        "fmt                       lay out every suite and every dataset's entry",
        "fmt iwae my/suite.yaml    some, by id or path",
        "fmt --check               change nothing; exit with 1 if a file would change",
    ),
)
@click.argument("paths", nargs=-1)
@click.option("--check", is_flag=True, help="Only name the files that would change; exit with 1 if there are any.")
@click.pass_context
def command(ctx: click.Context, paths: tuple[str, ...], check: bool) -> None:
    """Lay out suites and datasets' entries one way: no line over 120 columns, long mappings in
    blocks, two spaces a level.

    Comments, the order of keys, quotes and every value stay: a file whose data would differ afterwards is not touched.
    """
    from latentbench.core.paths import shown
    from latentbench.data.registry import entry_files
    from latentbench.spec.files import find_suite, suite_files

    files = map(find_suite, paths) if paths else [*suite_files().values(), *entry_files().values()]
    changed = [path for path in files if _differs(path, check)]
    for path in changed:
        click.echo(printable(f"{'would change' if check else 'changed'}: {shown(path)}"))
    if not changed:
        note("nothing to change")
    ctx.exit(1 if check and changed else 0)


def _differs(path: Path, check: bool) -> bool:
    """Whether a file is laid out otherwise; unless `check`, it is no longer.

    Raises:
        UserError: it is no YAML that a suite may be, or cannot be laid out without changing what it says.
    """
    from latentbench.core.yamlfile import parse_yaml, read_yaml
    from latentbench.core.yamlformat import formatted
    from latentbench.core.yamlsource import Source
    from latentbench.records.record import write_atomically

    file = read_yaml(path)
    text = path.read_text(encoding="utf-8")
    new = formatted(text)
    if new != text:
        if parse_yaml(new, path).data != file.data or sorted(Source(new).comments) != sorted(Source(text).comments):
            raise file.error("cannot be laid out without changing what it says", fix="write its long texts otherwise")
        if not check:
            write_atomically(path, new)
    return new != text
