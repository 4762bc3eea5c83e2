"""The registry: every entry is whole, and a wrong one is told where and how to mend it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from benchmarks.core.errors import UserError
from benchmarks.data import registry as reg
from benchmarks.data.splits import parse

from .conftest import REGISTRY
from .tiny import entry

NAMES = sorted(p.stem for p in REGISTRY.glob("*.yaml"))


@pytest.mark.parametrize("name", NAMES)
def test_entry_is_whole(registry, name):
    found = reg.load_entry(name)
    rows = {split: declared.rows for split, declared in found.splits.items()}
    for protocol in found.protocols:
        parts = {role: parse(expression, rows) for role, expression in found.protocol(protocol).items()}
        plain = [p for part in parts.values() for p in part if p.listed is None]
        for a in plain:  # no row plays two roles
            for b in plain:
                assert a is b or a.name != b.name or a.stop <= b.start or b.stop <= a.start
    for form in found.forms:
        assert callable(reg.resolve(form.loader))
        assert all(f.sha256 or f.urls for f in form.files), "a mirror file without a hash cannot be verified"
    for function in (found.generate, found.oracle):
        assert function is None or callable(reg.resolve(function))
    for text in (found.title, found.about, found.citation, found.licence):
        assert text.strip()
    if found.kind == "real" and any(f.mirror for form in found.forms for f in form.files):
        assert found.content_hash
    for factors in (found.columns_of(s).get("factors") for s in found.splits):
        assert factors is None or factors.shape == (len(found.factors),)


def test_listing_imports_nothing_heavy(registry):
    code = (
        "import sys; from benchmarks.data.api import list_datasets; n = len(list_datasets());"
        "print(n, [m for m in ('torch', 'datasets', 'pandas', 'scipy', 'sklearn', 'pyarrow') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REGISTRY.parents[1]
    )
    assert done.stdout.split(maxsplit=1) == [str(len(NAMES)), "[]\n"]


def test_unknown_name_gets_a_hint(registry):
    with pytest.raises(UserError, match="mnist"):
        reg.load_entry("mnits")
    with pytest.raises(UserError):
        reg.load_entry("../registry/mnist")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"colour": 1}, "colour"),
        ({"kind": "imaginary"}, "kind"),
        ({"forms": []}, "forms"),
        ({"splits": {}}, "split"),
        ({"columns": {}}, "columns"),
        ({"columns": {"x": {"dtype": "complex64"}}}, "dtype"),
        ({"hub": {"id": "a/b", "revision": "main", "columns": {}, "splits": {}}}, "content_hash"),
        ({"forms": [{"loader": "benchmarks.data.loaders.idx:load", "files": [{"name": "../x"}]}]}, "name"),
        ({"name": "other"}, "tiny.yaml"),
    ],
)
def test_wrong_entries(workplace, changes, message):
    content = entry(files=[{"name": "a", "urls": ["http://127.0.0.1/a"]}])
    path = workplace.data / "registry" / "tiny.yaml"
    workplace.declare(content)
    reg.load_entry("tiny")
    import yaml

    path.write_text(yaml.safe_dump(content | changes))
    with pytest.raises(UserError, match=message) as caught:
        reg.load_entry("tiny")
    assert "tiny.yaml" in str(caught.value)


def test_protocols(workplace):
    workplace.declare(entry(files=[{"name": "a", "urls": ["http://127.0.0.1/a"]}]))
    found = reg.load_entry("tiny")
    assert found.protocol()["train"] == "train[:20]"
    with pytest.raises(UserError, match="plain"):
        found.protocol("plan")


def test_recipe_follows_what_matters(workplace):
    content = entry(files=[{"name": "a", "urls": ["http://127.0.0.1/a"]}])
    workplace.declare(content)
    first = reg.load_entry("tiny").recipe
    workplace.declare(content | {"title": "Another title", "licence": "other"})
    assert reg.load_entry("tiny").recipe == first
    workplace.declare(content | {"version": 2})
    assert reg.load_entry("tiny").recipe != first
    generated = content | {"kind": "generated", "forms": [], "seed": 0}
    generated["generate"] = "benchmarks.data.generated.planar:two_moons"
    workplace.declare(generated | {"params": {"noise": 0.1}})
    first = reg.load_entry("tiny").recipe
    workplace.declare(generated | {"params": {"noise": 0.2}})
    assert reg.load_entry("tiny").recipe != first
