"""The declaration that seeds are added until claims are settled."""

from __future__ import annotations

import json

import pytest
from latentbench.core.errors import UserError
from latentbench.records.declared import declare, declared_path, read_declared
from latentbench.records.design import Declared, Fixed, order

MADE = Declared(
    suite="small", version=1, tier="cpu", declared="2026-01-01T00:00:00+00:00", seeds=[4, 2], first=3, cap=12, there=0
)


def test_there_and_back(tmp_path):
    assert read_declared("small", "cpu", tmp_path) is None
    written = declare(MADE, tmp_path)
    assert read_declared("small", "cpu", tmp_path) == written
    assert read_declared("small", "paper", tmp_path) is None


def test_order():
    assert MADE.order(5) == [4, 2, 0, 1, 3]
    assert MADE.order(1) == [4]
    assert order([0, 1, 2], 5) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("change", [{"cap": 100}, {"first": 2}, {"seeds": [0]}, {"seal": ""}, {"tier": "paper"}])
def test_a_change_is_seen(tmp_path, change):
    declare(MADE, tmp_path)
    path = declared_path("small", "cpu", tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match="seal"):
        read_declared("small", "cpu", tmp_path)


@pytest.mark.parametrize("text", ["", "[]", '{"format": 2}', "\x00"])
def test_a_file_that_is_none(tmp_path, text):
    path = declared_path("small", "cpu", tmp_path)
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(UserError, match="not a declaration"):
        read_declared("small", "cpu", tmp_path)


@pytest.mark.parametrize(("seeds", "kept"), [([0, 1, 2], 3), ([2, 0, 1, 1], 3), ([1, 2], [1, 2]), ([0, 2], [0, 2])])
def test_a_fixed_design_knows_its_seeds(seeds, kept):
    design = Fixed.of(seeds)
    assert design == Fixed(seeds=kept)
    assert [s for s in range(-1, 5) if design.has(s)] == sorted(set(seeds))
