"""What constructors take, by name, type and range, read from sources."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
from latentbench.core import plugins
from latentbench.core.imports import load
from latentbench.discovery import ranges
from latentbench.spec import registry
from latentbench.spec.registry import models, parameters

HEIRS = """
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from annotated_types import Gt, Le
from latentbench.models import checks
from latentbench.models.vae import VAE as Base

Own = Annotated[float, Gt(0), Le(1)]

class Plain(Base):
    pass

class More(Base):
    def __init__(self, info, *, share: Own = 0.5, **rest: Any) -> None:
        super().__init__(info, objective="iwae", **rest)

class Grandchild(More):
    def __init__(self, info, *, kind: Literal["a", "b"] = "a", parts: checks.Choice = "x", **more: Any) -> None:
        super().__init__(info, **more)

class Mixin:
    def __init__(self, info, *, twice: bool = False, **rest: Any) -> None:
        super().__init__(info, **rest)

class Mixed(Mixin, Base):
    pass

class Merged(Base):
    def __init__(self, info, *, share: Own = 0.5, **rest: Any) -> None:
        super().__init__(info, **{**rest, "objective": "iwae"})

class Called(Base):
    def __init__(self, info, share: Own = 0.5, **rest: Any) -> None:
        options = dict(rest, objective="iwae")
        Base.__init__(self, info, **options)

class Alone(Base):
    def __init__(self, info, *, sizes: Sequence[Sequence[int]] = (), table: Mapping[str, int] | None = None,
                 flag: bool = False, free: "Unknown" = 0, bare=1, **rest: Any) -> None:
        super().__init__(info)
"""


@pytest.fixture
def heirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A plug-in folder whose models inherit from ours."""
    folder = tmp_path / "their-models"
    folder.mkdir()
    (folder / "heirs.py").write_text(HEIRS)
    monkeypatch.setenv(plugins.VARIABLE, str(folder))
    registry.forget()
    yield "latentbench.papers.their_models.heirs"
    monkeypatch.undo()
    registry.forget()


@pytest.mark.parametrize("name", models())
def test_a_models_parameters_are_those_of_its_constructor(name):
    target = models()[name].target
    found = inspect.signature(load(target)).parameters.values()
    assert next(iter(found)).name == "info"
    assert set(parameters(target)) >= {p.name for p in found if p.kind is p.KEYWORD_ONLY}


@pytest.mark.parametrize("name", models())
def test_the_examples_of_a_model_are_within_its_ranges(name):
    known = parameters(models()[name].target)
    for example in models()[name].examples:
        assert {k: ranges.fault(known[k], v) for k, v in example.params.items()} == dict.fromkeys(example.params, "")


def test_heirs_in_other_modules_take_what_their_base_takes(heirs):
    base = parameters("latentbench.models.vae:VAE")
    assert parameters(f"{heirs}:Plain") == base
    more = parameters(f"{heirs}:More")
    assert set(more) == {"share", *base} - {"objective"}
    assert set(parameters(f"{heirs}:Mixed")) == {"twice", *base}, "what a mixin hands on goes to the next class"
    assert set(parameters(f"{heirs}:Merged")) == set(parameters(f"{heirs}:Called")) == set(more)
    assert set(parameters(f"{heirs}:Grandchild")) == {"kind", "parts", *more}
    assert set(parameters(f"{heirs}:Alone")) == {"sizes", "table", "flag", "free", "bare"}, "`rest` goes nowhere"


@pytest.mark.parametrize(
    ("name", "parameter", "good", "bad"),
    [
        ("Grandchild", "latent_dim", [1, 50], [0, 1.5, "1", True, None, [1]]),
        ("Grandchild", "hidden", [[], [1, 2], (3,)], [[0], 3, "ab", [1.5]]),
        ("Grandchild", "share", [0.1, 1], [0, 1.5, "0.5"]),
        ("Grandchild", "kind", ["a"], ["c", 1]),
        ("Grandchild", "parts", ["mlp", {"conv": {"channels": [4]}}, {"conv": None}], [3, {"conv": 3}]),
        ("Alone", "sizes", [[[1], []]], [[1], "ab"]),
        ("Alone", "table", [None, {"a": 1}], [{"a": "b"}, 3]),
        ("Alone", "flag", [True], [1, "true"]),
        ("Alone", "free", [1, "x", None], []),
        ("Alone", "bare", [1, "x", None], []),
    ],
)
def test_values_out_of_range_are_told(heirs, name, parameter, good, bad):
    known = parameters(f"{heirs}:{name}")[parameter]
    assert [v for v in good if ranges.fault(known, v)] == []
    assert [v for v in bad if not ranges.fault(known, v)] == []


def test_what_has_no_source_has_no_parameters():
    with pytest.raises(LookupError, match="no source"):
        parameters("latentbench.models.vae:Nobody")
    with pytest.raises(LookupError, match="no source"):
        parameters("latentbench.models.nowhere:VAE")
