"""The registry: every entry is whole, and a wrong one is told where and how to mend it."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from latentbench.core.errors import UserError
from latentbench.core.reach import installed
from latentbench.data import registry as reg
from latentbench.data.splits import parse

from .conftest import ENTRY_FILES, REGISTRY
from .tiny import entry

NAMES = sorted(p.stem for p in ENTRY_FILES)


@pytest.mark.parametrize("name", NAMES)
def test_entry_is_whole(registry, name):
    found = reg.load_entry(name)
    rows = {split: declared.rows for split, declared in found.splits.items()}
    for protocol in found.protocols:
        parts = {role: parse(expression, rows) for role, expression in found.protocol(protocol).items()}
        if found.parts and len(set(found.protocol(protocol).values())) == 1:
            continue  # a whole problem, whose parts say what each role is about
        plain = [p for part in parts.values() for p in part if p.listed is None]
        for a in plain:  # no row plays two roles
            for b in plain:
                assert a is b or a.name != b.name or a.stop <= b.start or b.stop <= a.start
    for form in found.forms:
        assert callable(reg.resolve("loader", form.loader))
        assert all(f.sha256 or f.urls for f in form.files), "a mirror file without a hash cannot be verified"
    for kind, named in (("generator", found.generate), ("oracle", found.oracle)):
        assert named is None or callable(reg.resolve(kind, named))
    for text in (found.title, found.about, found.citation, found.licence):
        assert text.strip()
    if found.kind == "real" and any(f.mirror for form in found.forms for f in form.files):
        assert found.content_hash
    for factors in (found.columns_of(s).get("factors") for s in found.splits):
        assert factors is None or factors.shape == (len(found.factors),)


def test_pickles_have_a_hash_but_two_whose_publishers_give_none(registry):
    entries = [reg.load_entry(name) for name in NAMES]
    forms = [(entry.name, form) for entry in entries for form in entry.forms if reg.reads_pickles(form.loader)]
    assert {name for name, form in forms if not all(f.sha256 for f in form.files)} == {"freyfaces", "maf-gas"}
    assert {"cora", "citeseer", "pubmed", "cifar10"} <= {name for name, _ in forms}


def test_listing_imports_nothing_heavy(registry):
    code = (
        "import sys; from latentbench.data.api import list_datasets; n = len(list_datasets());"
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
        ({"forms": [{"loader": "latentbench.data.loaders.idx:load", "files": [{"name": "../x"}]}]}, "name"),
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
    generated["generate"] = "latentbench.data.generated.planar:two_moons"
    workplace.declare(generated | {"params": {"noise": 0.1}})
    first = reg.load_entry("tiny").recipe
    workplace.declare(generated | {"params": {"noise": 0.2}})
    assert reg.load_entry("tiny").recipe != first


GENERATOR = '''"""Rows of ones."""

import numpy as np

from own_data.size import WIDTH


def ones(n, rng):
    # a comment
    return {"x": np.ones((n, WIDTH), np.float32)}
'''


@pytest.fixture
def own(workplace, tmp_path, monkeypatch):
    """Writes the package `own_data` of two modules, which an entry names, and gives the entry's recipe."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("LATENTBENCH_TRUST", "1")
    content = entry() | {"kind": "generated", "forms": [], "generate": "own_data.rows:ones"}
    workplace.declare(content)

    def recipe(generator=GENERATOR, width="WIDTH = 3\n"):
        (tmp_path / "own_data").mkdir(exist_ok=True)
        (tmp_path / "own_data/__init__.py").touch()
        (tmp_path / "own_data/rows.py").write_text(generator)
        (tmp_path / "own_data/size.py").write_text(width)
        installed.forget()
        return reg.load_entry("tiny").recipe

    yield recipe
    installed.forget()
    for name in [m for m in sys.modules if m.partition(".")[0] == "own_data"]:
        del sys.modules[name]


def test_recipe_follows_the_meaning_of_a_generator_and_of_what_it_imports(own):
    first = own()
    assert own(GENERATOR.replace("# a comment", "# another").replace("Rows of ones", "Nothing but ones")) == first
    assert own(GENERATOR.replace("np.ones((n, WIDTH)", "np.ones((n,  # rows\n WIDTH)")) == first
    assert own(width='"""How wide."""\nWIDTH = 3\n') == first
    assert own(GENERATOR.replace("np.ones", "np.zeros")) != first
    assert own(width="WIDTH = 4\n") != first


def test_recipe_of_bundled_data_follows_their_loader(registry, monkeypatch):
    first, files = reg.load_entry("digits").recipe, reg.load_entry("mnist").recipe
    monkeypatch.setattr(reg, "_source_of", lambda _: "changed")
    assert reg.load_entry("digits").recipe != first
    assert reg.load_entry("mnist").recipe == files, "real data outlive their loaders: `version` stands for them"


def test_missing_module_of_a_generator(workplace, monkeypatch):
    monkeypatch.setenv("LATENTBENCH_TRUST", "1")
    workplace.declare(entry() | {"kind": "generated", "forms": [], "generate": "nowhere.at_all:rows"})
    with pytest.raises(UserError, match="nowhere"):
        reg.load_entry("tiny").recipe  # noqa: B018


def test_strange_packages_are_not_even_looked_for(workplace, tmp_path, monkeypatch):
    """Listing computes recipes, and finding a module of a package runs the package."""
    (tmp_path / "strange_data").mkdir()
    (tmp_path / "strange_data/__init__.py").write_text("raise SystemExit('it ran')")
    (tmp_path / "strange_data/rows.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delenv("LATENTBENCH_TRUST", raising=False)
    workplace.declare(entry() | {"kind": "generated", "forms": [], "generate": "strange_data.rows:ones"})
    with pytest.raises(UserError, match="strange_data"):
        reg.load_entry("tiny").recipe  # noqa: B018


@pytest.mark.parametrize(
    ("line", "text", "message"),
    [
        ("title: Tiny", "title: [Tiny", "not YAML"),
        ("title: Tiny", "title: !!python/object:os.system {}", "tag"),
        ("title: Tiny", "title: Tiny\ntitle: Twice", "twice"),
        ("title: Tiny", "title: " + "[" * 60 + "]" * 60, "nested too deeply"),
        ("licence: none", "licence: &a none\nhomepage: *a", "aliases"),
        ("modality: image", "modality: smell", "modality"),
        ("modality: image", "modality: image\ncolumn: 1", "did you mean 'columns'"),
        ("    rows: 30", "    rows: many", "splits.train.rows"),
        ("    dtype: uint8", "    dtype: uint9", "columns.x.dtype"),
    ],
)
def test_faults_are_told_with_their_line(workplace, line, text, message):
    workplace.declare(entry(files=[{"name": "a", "urls": ["http://127.0.0.1/a"]}]))
    path = workplace.data / "registry" / "tiny.yaml"
    before = path.read_text()
    assert f"\n{line}\n" in before
    path.write_text(before.replace(f"\n{line}\n", f"\n{text}\n", 1))
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        reg.load_entry("tiny")
    at = 1 + before.splitlines().index(line)
    assert caught.value.line in (at, at + 1)
    assert f"tiny.yaml:{caught.value.line}" in str(caught.value)
    assert caught.value.fix
