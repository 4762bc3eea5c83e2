"""Suite files found by name, and read with their matrices written out."""

from __future__ import annotations

import pytest
from latentbench.core.errors import UserError
from latentbench.spec.loading import find_suite, load_suite, suite_files

from tests.spec.suites import TEXT


def test_a_suite_is_read_whole(project):
    loaded = load_suite(project.write("small", TEXT))
    suite = loaded.suite
    assert list(suite.methods) == ["wide", "vae-k1", "vae-k5", "floor"], "in the order of the file"
    assert [suite.methods[m].params["k"] for m in ("vae-k1", "vae-k5")] == [1, 5]
    assert suite.training.optimizer.lr == 0.01
    assert suite.tiers["smoke"].seeds == [0]
    assert [c.kind for c in suite.claims] == ["value", "order"]
    assert suite.metric_name("nll_iw") == "nll_iw"
    assert loaded.path == project.root / "suites/small.yaml"


def test_a_suite_has_several_names(project):
    (project.root / "suites/small").mkdir()
    path = project.root / "suites/small/suite.yaml"
    path.write_text(TEXT)
    other = project.write("other", TEXT.replace("id: small", "id: other"))
    assert suite_files() == {"other": other, "small": path}
    assert find_suite("small") == path
    assert load_suite(str(path)).suite == load_suite("small").suite


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("smal", "unknown suite 'smal' (did you mean 'small'?)"),
        ("flow/small", "unknown suite 'flow/small'"),
        ("../small", "unknown suite"),
        ("absent.yaml", "absent.yaml: no such file"),
    ],
)
def test_what_is_no_suite(project, name, words):
    project.write("small", TEXT)
    with pytest.raises(UserError) as e:
        load_suite(name)
    assert words in str(e.value)


def test_the_default_tier_is_the_one_a_newcomer_can_afford(project):
    assert load_suite(project.write("small", TEXT)).suite.default_tier == "cpu"
    only = project.suite({"tiers.cpu": None}, "only")
    assert load_suite(only).suite.default_tier == "paper"


def test_the_papers_own_number_goes_first(project):
    row = {"method": "wide", "dataset": "line", "metric": "nll", "unit": "nats", "table": "1", "source": "x"}
    reported = [row | {"value": 1.0, "origin": "later_paper"}, row | {"value": 2.0}]
    suite = load_suite(project.suite({"reported": reported})).suite
    assert suite.reported_for("wide", "line", "nll").value == 2.0
    assert suite.reported_for("narrow", "line", "nll") is None
    foreign = load_suite(project.suite({"reported": reported[:1]})).suite
    assert foreign.reported_for("wide", "line", "nll").value == 1.0


def test_what_a_mac_puts_beside_files_is_no_suite_and_no_dataset(project):
    """Finder and its archives leave a `._x` for every x."""
    project.suite()
    before = project("list", "suites").out, project("list", "datasets").out
    for folder in (project.root / "suites", project.root / "data/registry", project.root / "suites/own"):
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("._small.yaml", "._suite.yaml", "._code.py", ".DS_Store"):
            (folder / name).write_bytes(b"\0\5\x16\7\0\2\0\0")
    assert (project("list", "suites").out, project("list", "datasets").out) == before
    assert project("validate").code == 0
