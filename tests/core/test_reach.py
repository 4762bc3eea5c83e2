"""Hashes of definitions with all that they reach: what changes them, and what may not."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from latentbench.core.reach.colours import Colours
from latentbench.core.reach.graph import ALL, PREAMBLE, Boundary, Graph, Sources, Tree
from latentbench.core.reach.modules import read_module

FILES = {
    "__init__": "",
    "main": """
        \"\"\"What a run starts from.\"\"\"
        from __future__ import annotations
        from typing import TYPE_CHECKING
        import math
        import numpy as np
        from toy.near import helper
        from toy import words

        if TYPE_CHECKING:
            from toy.hints import Hint

        def run(x: int, near=3) -> int:
            # a comment
            def inner() -> int:
                from toy import late
                return late.value()
            size: Hint = math.sqrt(np.linalg.norm(x))
            if x < 0:
                raise words.WrongError(x)
            return helper(x) + inner() + near

        def unused():
            return run(0)
        """,
    "near": """
        from .deep.far import BASE

        def helper(x):
            \"\"\"Words.\"\"\"
            return x + BASE + len(str(x))
        """,
    "late": "def value():\n    return 1\n",
    "words": "class WrongError(Exception):\n    text = 'wrong'\n",
    "hints": "class Hint: ...\n",
    "alone": "def nobody(): return 0\n",
    "deep/__init__": "",
    "deep/far": "from .. import last\nBASE = 2\nOTHER = last.NAME\n",
    "last": "NAME = 'x'\n",
}

Hash = Callable[..., str]


def graph_in(folder: Path, package: str = "toy") -> Graph:
    def find(module: str) -> Path | None:
        path = folder.joinpath(*module.split("."))
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        return file if file.is_file() else None

    return Graph(Sources(Tree(package.__eq__, find)), Boundary(frozenset({f"{package}.words"})))


def write(folder: Path, files: dict[str, str | None], package: str = "toy") -> None:
    for name, text in files.items():
        path = folder / package / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        if text is not None:
            path.write_text(textwrap.dedent(text))


@pytest.fixture
def hashed(tmp_path: Path) -> Hash:
    """Writes the package `toy` with some modules changed and hashes `toy.main:run`."""

    def hashed(changes: dict[str, str | None] | None = None, root: str = "toy.main:run") -> str:
        write(tmp_path, {**FILES, **(changes or {})})
        graph = graph_in(tmp_path)
        return Colours(graph).of(graph.root(root))

    return hashed


def reached(folder: Path, root: str = "toy.main:run") -> set[str]:
    graph = graph_in(folder)
    return {f"{m.removeprefix('toy.')}:{n}" for m, n in graph.closure([graph.root(root)])}


def test_what_counts_is_what_is_reached(hashed, tmp_path):
    hashed()
    assert reached(tmp_path) == {"main:run", "near:helper", "deep.far:BASE", "late:value"}


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("main", "# a comment", "# another"),
        ("main", "What a run starts from.", "Other words."),
        ("main", "(x: int, near=3) -> int", "(x: float, near=3)"),
        ("main", "size: Hint =", "size ="),
        ("main", "size: Hint =", "size: int ="),
        ("main", "return helper(x) + inner() + near", "return (helper(x)\n                    + inner() + near)"),
        ("main", "return run(0)", "return run(1)"),
        ("main", "import numpy as np", "import numpy"),
        ("near", '"""Words."""', '"""Better words."""'),
        ("near", '"""Words."""', ""),
        ("deep/far", "BASE = 2", "BASE = (2)"),
        ("deep/far", "BASE = 2", "BASE: int = 2"),
        ("deep/far", "OTHER = last.NAME", "OTHER = 5"),
        ("last", "NAME = 'x'", 'NAME = "y"'),
        ("words", "wrong", "mistaken"),
        ("hints", "class Hint: ...", "class Hint: x = 1"),
        ("late", "return 1\n", "return 1\n\ndef near(x):\n    return x\n\ninner = size = helper = near\n"),
        ("near", "from .deep.far import BASE", "from toy.deep.far import *"),
        ("near", "from .deep.far import BASE", "from toy.deep.far import BASE, OTHER"),
    ],
)
def test_what_may_change_nothing(hashed, module, old, new):
    assert old in FILES[module]
    text = FILES[module].replace(old, new)
    if new == "import numpy":
        text = text.replace("np.linalg", "numpy.linalg")
    assert hashed({module: text}) == hashed()


def test_how_something_is_imported_does_not_count(hashed):
    before = hashed()
    near = FILES["near"].replace("from .deep.far import BASE", "import toy.deep.far as f").replace("+ BASE", "+ f.BASE")
    assert hashed({"near": near}) == before
    assert hashed({"near": near.replace("import toy.deep.far as f", "from toy.deep import far as f")}) == before
    assert (
        hashed(
            {"near": near.replace("import toy.deep.far as f", "import toy.deep.far").replace("f.B", "toy.deep.far.B")}
        )
        == before
    )
    main = FILES["main"].replace("from toy.near import helper", "from toy.alone import helper")
    assert hashed({"main": main, "alone": "from toy.near import helper\n"}) == before, "a name that is handed on"
    inside = FILES["main"].replace("from toy.near import helper", "").replace("# a comment", "from .near import helper")
    assert hashed({"main": inside}) == before
    own = FILES["main"].replace("import math", "from math import sqrt").replace("math.sqrt", "sqrt")
    assert hashed({"main": own}) == before, "other packages' names, too"


def test_where_something_lies_does_not_count(hashed, tmp_path):
    before = hashed()
    moved = {"near": None, "deep/near": FILES["near"].replace(".deep.far", "toy.deep.far")}
    main = FILES["main"].replace("toy.near", "toy.deep.near")
    assert hashed({**moved, "main": main}) == before
    merged = "BASE = 2\n" + textwrap.dedent(FILES["near"]).replace("from .deep.far import BASE", "")
    assert hashed({"near": merged}) == before
    write(tmp_path, {n: t.replace("toy", "game") for n, t in FILES.items()}, "game")
    graph = graph_in(tmp_path, "game")
    assert Colours(graph).of(graph.root("game.main:run")) == before


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        ("main", "helper(x) + inner()", "helper(x) - inner()"),
        ("main", "near=3", "near=4"),
        ("main", "np.linalg.norm", "np.linalg.det"),
        ("main", "words.WrongError", "words.OtherError"),
        ("near", "x + BASE", "BASE + x"),
        ("near", "len(str(x))", "len(repr(x))"),
        ("near", "def helper(x)", "def helper(x, y=None)"),
        ("near", "from .deep.far import BASE", "from .deep.far import OTHER as BASE"),
        ("deep/far", "BASE = 2", "BASE = 2.0"),
        ("deep/far", "BASE = 2", "BASE = True"),
        ("late", "return 1", "return None"),
        ("late", "return 1", "return"),
        ("late", "return 1", "yield 1"),
        ("near", '"""Words."""', 'x = """Words."""'),
        ("near", "    return x +", "    global BASE\n            BASE = 3\n            return x +"),
        ("deep/far", "BASE = 2", "BASE = 2\nprint(BASE)"),
        ("deep/far", "BASE = 2", "BASE = 2\nBASE += 1"),
        ("deep/far", "BASE = 2", "if OTHER:\n    BASE = 2"),
        ("last", "NAME = 'x'", "NAME = 'x'\nprint(NAME)"),
    ],
)
def test_what_must_change_it(hashed, module, old, new):
    assert old in FILES[module]
    assert hashed({module: FILES[module].replace(old, new)}) != hashed()


def test_another_definition_of_the_same_name_counts(hashed):
    twin = {"alone": FILES["near"].replace(".deep.far import BASE", ".last import NAME as BASE")}
    assert hashed({**twin, "main": FILES["main"].replace("toy.near", "toy.alone")}) != hashed(twin)


def test_two_constants_of_one_statement_are_not_the_same(hashed):
    both = {"late": "a, b = 1, 2\ndef value():\n    return a\n"}
    assert hashed(both) != hashed({"late": both["late"].replace("return a", "return b")})


@pytest.mark.parametrize(
    "text",
    [
        "from toy import alone\ndef value(): return getattr(alone, 'nobody')",
        "from toy import alone\ndef value(): return vars(alone)",
        "import toy.alone\ndef value(): return toy.alone.made_up",
        "from importlib import import_module\ndef value(): return import_module('toy.alone')",
        "import importlib\ndef value(x): return importlib.import_module(f'toy.al{x}')",
        "def value(): return load('toy.alone:nobody')",
        "from toy.alone import *\ndef value(): return nobody()",
        "from toy import alone\ndef value(f=alone.nobody): return f()",
        "from toy.alone import nobody\n@nobody\ndef value(): return 1",
        "from toy.alone import nobody\nclass A:\n    nobody = nobody\ndef value(): return A",
        "from toy.alone import nobody\nvalue = 1\nTABLE = {}\nTABLE['x'] = nobody",
        "from toy.alone import nobody\ndef __getattr__(name): return nobody",
        "try:\n    from toy.alone import nobody\nexcept ImportError:\n    nobody = None\ndef value(): return nobody",
        "def value():\n    from toy.alone import nobody\n    return [nobody for _ in 'ab']",
    ],
)
def test_what_cannot_be_told_is_taken(hashed, tmp_path, text):
    """In whatever way `nobody` may be come by, a change of it shows."""
    before = hashed({"late": text})
    assert hashed({"late": text, "alone": "def nobody(): return 1\n"}) != before
    assert not {"main:unused", "hints:Hint"} & reached(tmp_path)


def test_a_class_is_taken_whole_with_its_bases(hashed):
    text = """
        from dataclasses import dataclass
        from toy.alone import nobody
        class Base:
            def other(self):
                return nobody()
        @dataclass
        class Made(Base):
            size: int = 1
            def value(self):
                return self.size
        def value():
            return Made().value()
        """
    before = hashed({"late": text})
    assert hashed({"late": text, "alone": "def nobody(): return 1\n"}) != before
    assert hashed({"late": text.replace("size: int", "size: float")}) != before, "dataclasses read annotations"
    assert hashed({"late": text.replace("return self.size", "return -self.size")}) != before
    assert hashed({"late": text.replace("def value(self)", "def value(self: Made) -> int")}) == before


def test_names_of_a_functions_own_hide_those_of_the_module(hashed):
    text = "def value(step=1):\n    mine = [step for step in range(3)]\n    return (lambda other: other)(mine)\n"
    before = hashed({"late": text})
    more = "def step(): ...\ndef mine(): ...\ndef other(): ...\n"
    assert hashed({"late": more + text}) == before


def test_definitions_in_a_circle(hashed):
    text = "def value(n=9):\n    return other(n)\ndef other(n):\n    return value(n - 1) if n else twice(n)\n"
    text += "def twice(n):\n    return twice(n) + 1\n"
    before = hashed({"late": text})
    assert before == hashed({"late": text})
    assert hashed({"late": text.replace("n - 1", "n - 2")}) != before
    assert hashed({"late": text.replace("return twice(n) + 1", "return twice(n) + 2")}) != before
    assert hashed({"late": text.replace("else twice(n)", "else other(n)")}) != before


def test_declarations_do_not_count(hashed, tmp_path):
    text = "def value():\n    return 1\n"
    says = "from latentbench.declare import Example, metric\nfrom latentbench import declare\n"
    before = hashed({"late": text})
    assert hashed({"late": says + "@metric('value', unit='nats')\n" + text}) == before
    assert hashed({"late": says + "@declare.metric('value', examples=(Example('x'),))\n" + text}) == before
    assert hashed({"late": says + text + "metric('value')(value)\n"}) == before
    assert read_module("late", tmp_path / "toy/late.py").preamble == []


def test_a_module_as_a_whole_and_what_runs_at_import_have_names_of_their_own(hashed, tmp_path):
    hashed({"late": "from toy import alone\nprint(alone)\ndef value(): return 1\n"})
    assert {f"late:{PREAMBLE}", f"alone:{ALL}"} <= reached(tmp_path)


def test_roots_may_be_handed_on_or_made_when_asked_for(hashed):
    handed = {"alone": "from toy.main import run\n"}
    assert hashed(handed, "toy.alone:run") == hashed(handed)
    made = {"alone": "from toy.late import value\ndef __getattr__(name): return value\n"}
    before = hashed(made, "toy.alone:anything")
    assert hashed({**made, "late": "def value(): return 2\n"}, "toy.alone:anything") != before
    for absent in ("toy.absent:run", "toy.main:absent"):
        with pytest.raises(LookupError, match="absent"):
            hashed(None, absent)
