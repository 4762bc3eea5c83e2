"""What a source file declares, read without running it."""

from __future__ import annotations

from pathlib import Path

import pytest
from latentbench.core.errors import UserError
from latentbench.declare import metric, model
from latentbench.discovery.reading import Declared, declarations

HEAD = "from latentbench.declare import Example, metric, model as a_model, step\n"


def read(tmp_path: Path, source: str) -> list[Declared]:
    path = tmp_path / "mine.py"
    path.write_text(HEAD + source)
    return declarations(path, "some.mine")


def test_a_class_declares_itself_and_nothing_is_run(tmp_path):
    source = '''
import a_module_that_is_nowhere
RATE = 2 * 3 - 1
SMALL = {"width": RATE}

@a_model("mine", "Trainable Sampler", version=2, examples=(Example("real-vector", {**SMALL, "deep": -1.5}),))
class Mine:
    """The first line.

    And more.
    """

@a_model("other", "Sampler", "said here")
@no_declaration("x")
class Other: ...
'''
    first, second = read(tmp_path, source)
    assert (first.kind, first.name, first.target, first.line) == ("model", "mine", "some.mine:Mine", 7)
    assert first.arguments["summary"] == "The first line"
    assert first.arguments["version"] == 2
    [example] = first.arguments["examples"]
    assert (example["data"], example["params"]) == ("real-vector", {"width": 5, "deep": -1.5})
    assert (second.name, second.arguments["summary"], second.arguments["version"]) == ("other", "said here", 1)


def test_several_metrics_of_one_function_of_an_assigned_name_and_of_a_family(tmp_path):
    source = """
OF = {"a": {"of": "apples"}, "b": {"of": "bees", "data": ("images",), "better": "lower"}}

@metric("one", "", "1", "higher", "one")
@metric("two", "Sampler|Encoder", "1", "higher", "two", settings={"k": 3}, lowest={"k": 1})
def both(): ...

assigned = made()
metric("three", "", "1", "lower", "three")(assigned)

@metric("many", "", "1", "higher", "many {of}", each=OF)
def __getattr__(name): ...
"""
    found = {d.name: d for d in read(tmp_path, source)}
    assert {n: d.target for n, d in found.items()} == {
        "one": "some.mine:both",
        "two": "some.mine:both",
        "three": "some.mine:assigned",
        "many_a": "some.mine:many_a",
        "many_b": "some.mine:many_b",
    }
    assert found["many_a"].arguments["summary"] == "many apples"
    assert (found["many_b"].arguments["data"], found["many_b"].arguments["better"]) == (["images"], "lower")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("@a_model(name(), 'Sampler')\nclass A: ...\n", r"mine\.py:2: name\(\) is no literal"),
        ("X = 1\nX = 2\n@a_model('x', 'Sampler', version=X)\nclass A: ...\n", r"mine\.py:4: X is no constant"),
        ("X = X\n@a_model('x', 'Sampler', version=X)\nclass A: ...\n", r"mine\.py:2: X is no constant"),
        ("@a_model('x', 'Sampler', wrong=1)\nclass A: ...\n", r"mine\.py:2: declaration @model: .*'wrong'"),
        ("@a_model('x')\nclass A: ...\n", r"mine\.py:2: declaration @model: missing .*'can'"),
        ("@a_model('x', 'Sampling')\nclass A: ...\n", "no capability is called 'Sampling'"),
        ("@step('x', version=1 / 0)\nclass A: ...\n", r"mine\.py:2: declaration @step: division by zero"),
        ("@metric('x', '', '1', 'lower', lowest={'k': 1})\ndef f(): ...\n", "`lowest` of k, which is no setting"),
        ("@metric('x', '', '1', 'none')\ndef f(): ...\n", "`better` is 'none', and should be one of 'higher', 'lower'"),
        ("@metric('x', '', '1', 'lower', likelihood='bound')\ndef f(): ...\n", "`likelihood` is 'bound'.*'elbo'.*None"),
        ("@metric('x', '', '1', 'lower', settings={1: 1})\ndef f(): ...\n", r"mine\.py:2: 1 is no text"),
        ("class A:\n", r"mine\.py: is no Python"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(tmp_path, source, said):
    with pytest.raises(UserError, match=said):
        read(tmp_path, source)


def test_at_run_time_a_declaration_returns_what_it_stands_on():
    def function() -> None: ...

    assert metric("x", "", "1", "lower")(function) is function
    assert model("x", "Sampler")(Path) is Path
