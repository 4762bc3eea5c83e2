"""Hashes of values and of source: equal for equal meaning, different for anything that can change a result."""

from __future__ import annotations

import importlib
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from latentbench.core import codehash
from latentbench.core.imports import module_file
from latentbench.planning import fingerprint
from latentbench.planning.fingerprint import canonical, code_hash, code_modules, digest

from tests.project import REPOSITORY

PACKAGE = {
    "__init__": "",
    "main": """
        \"\"\"What a run starts from.\"\"\"
        from __future__ import annotations
        from typing import TYPE_CHECKING
        import math
        from toy.near import helper

        if TYPE_CHECKING:
            from toy.hints import Hint

        def run(x: int) -> int:
            # a comment
            def inner() -> int:
                from toy import late
                return late.value()
            return helper(x) + inner()
        """,
    "near": """
        from .deep.far import BASE

        def helper(x):
            \"\"\"Words.\"\"\"
            return x + BASE
        """,
    "late": "def value():\n    return 1\n",
    "hints": "class Hint: ...\n",
    "alone": "def nobody(): return 0\n",
    "deep/__init__": "",
    "deep/far": "from .. import last\nBASE = 2\n",
    "last": "NAME = 'x'\n",
}

Hash = Callable[[dict[str, str]], str]


@pytest.fixture
def hashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hash]:
    """Writes the package `toy` with some modules changed and hashes what `toy.main` imports."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def forget() -> None:
        for cached in (module_file, codehash._module, fingerprint._closure_hash):
            cached.cache_clear()
        for name in [m for m in sys.modules if m == "toy" or m.startswith("toy.")]:
            del sys.modules[name]
        importlib.invalidate_caches()

    def hashed(changes: dict[str, str]) -> str:
        forget()
        for name, text in {**PACKAGE, **changes}.items():
            path = tmp_path / "toy" / f"{name}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(text))
        return code_hash(["toy.main"], "toy")

    yield hashed
    forget()


def test_what_counts_is_what_is_imported(hashed):
    hashed({})
    assert code_modules(["toy.main"], "toy") == ["toy", "toy.deep.far", "toy.last", "toy.late", "toy.main", "toy.near"]


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("main", "# a comment", "# another\n            # comment"),
        ("main", "What a run starts from.", "Other words."),
        (
            "main",
            "            return helper(x) + inner()",
            "\n\n            return (helper(x)\n                + inner())",
        ),
        ("main", "import math\n", "import math  # noqa\n"),
        ("near", '"""Words."""', '"""Better words."""'),
        ("near", '    """Words."""\n', ""),
        ("deep/far", "BASE = 2", "BASE = (2)"),
        ("last", "NAME = 'x'", 'NAME = "x"'),
    ],
)
def test_comments_docstrings_and_layout_change_nothing(hashed, module, old, new):
    text = textwrap.dedent(PACKAGE[module])
    assert textwrap.dedent(old) in text or old in PACKAGE[module]
    assert hashed({module: PACKAGE[module].replace(old, new)}) == hashed({})


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("main", "helper(x) + inner()", "helper(x) - inner()"),
        ("near", "x + BASE", "BASE + x"),
        ("near", "def helper(x)", "def helper(x, y=None)"),
        ("deep/far", "BASE = 2", "BASE = 2.0"),
        ("deep/far", "BASE = 2", "BASE = True"),
        ("last", "'x'", "'y'"),
        ("last", "'x'", "b'x'"),
        ("late", "return 1", "return None"),
        ("late", "return 1", "return"),
        ("late", "return 1", "yield 1"),
        ("near", '"""Words."""', 'x = """Words."""'),
    ],
)
def test_a_change_of_code_in_what_is_imported_shows(hashed, module, old, new):
    assert old in PACKAGE[module]
    assert hashed({module: PACKAGE[module].replace(old, new)}) != hashed({})


def test_modules_that_are_not_imported_do_not_count(hashed):
    before = hashed({})
    assert hashed({"alone": "def nobody(): return 1\n"}) == before
    assert hashed({"brand_new": "x = 1\n"}) == before


def test_imports_for_type_checkers_do_not_count(hashed):
    before = hashed({})
    assert hashed({"hints": "class Hint: x = 1\n"}) == before
    used = PACKAGE["main"].replace("if TYPE_CHECKING:", "if True:")
    assert hashed({"main": used}) != hashed({"main": used, "hints": "class Hint: x = 1\n"})


def test_the_other_branch_of_type_checking_counts(hashed):
    both = PACKAGE["main"].replace("import Hint\n", "import Hint\n        else:\n            from toy import alone\n")
    assert hashed({"main": both}) != hashed({"main": both, "alone": "def nobody(): return 1\n"})


def test_a_new_import_counts(hashed):
    more = PACKAGE["late"] + "import toy.alone\n"
    assert hashed({"late": more}) != hashed({"late": more, "alone": "def nobody(): return 1\n"})


def test_modules_in_a_circle_end(hashed):
    circle = {"last": "from toy import near\nNAME = 'x'\n"}
    assert hashed(circle) == hashed(circle)


def test_a_root_that_is_missing_says_so(hashed):
    hashed({})
    with pytest.raises(LookupError, match=r"toy\.absent"):
        code_hash(["toy.absent"], "toy")


def test_runs_of_ours_hash_what_they_execute_and_no_more():
    modules = set(code_modules(["latentbench.running.experiment", "latentbench.models.vae"]))
    for used in ("training.loop", "training.optim", "spec.protocol", "models.nets", "core.seeds"):
        assert f"latentbench.{used}" in modules
    for foreign in (
        "cli.main",
        "results.leaderboard",
        "stats.hypothesis_tests",
        "models.real_nvp",
        "spec.suite",
        "core.console",
    ):
        assert f"latentbench.{foreign}" not in modules


def test_packages_execute_nothing_when_they_are_imported():
    """So that the hash may leave out the packages above a module."""
    root = REPOSITORY / "benchmarks/latentbench"
    assert [p for p in root.rglob("__init__.py") if p.parent != root and p.read_text().strip()] == []


value = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(value, value)
def test_digests_are_equal_just_for_equal_values(one, other):
    assert (digest(one) == digest(other)) == (canonical(one) == canonical(other))
    assert len(digest(one)) == 64
    if canonical(one) == canonical(other):
        assert one == other
    else:
        assert one is not other


@given(st.dictionaries(st.text(max_size=3), value, max_size=4), st.randoms(use_true_random=False))
def test_the_order_of_keys_does_not_count(data, random):
    keys = list(data)
    random.shuffle(keys)
    assert digest({k: data[k] for k in keys}) == digest(data)


def test_values_that_no_json_holds_are_refused():
    for bad in (float("nan"), float("inf"), {1, 2}, object()):
        with pytest.raises((ValueError, TypeError)):
            digest(bad)
