"""docs/suite-format.md: its examples are what it says they are."""

from __future__ import annotations

import re
import textwrap

from latentbench.core.yamlfile import parse_yaml
from latentbench.core.yamlformat import formatted
from latentbench.planning.plan import plan
from latentbench.spec.expansion import expand
from latentbench.spec.loading import load_suite
from latentbench.spec.validation import problems

from tests.project import REPOSITORY

PAGE = REPOSITORY / "docs/suite-format.md"
BLOCKS = [textwrap.dedent(b) for b in re.findall(r"^ *```yaml\n(.*?)^ *```", PAGE.read_text(), re.M | re.S)]


def test_the_whole_suite_validates_and_plans(project):
    loaded = load_suite(project.write("example", BLOCKS[0]))
    assert [str(p) for p in problems(loaded)] == []
    assert list(loaded.suite.methods) == ["gaussian", "vae-k5", "vae-k50", "iwae-k5", "iwae-k50"]
    assert [(r.method, r.value, r.std) for r in loaded.suite.reported] == [
        ("vae-k5", 2.31, None),
        ("vae-k50", 2.3, 0.01),
        ("iwae-k50", 2.21, None),
    ]
    assert len(plan(loaded, "cpu")) == 25
    assert formatted(BLOCKS[0]) == BLOCKS[0], "laid out as `fmt` would"


def test_the_pieces_can_be_written_out():
    for block in BLOCKS[1:]:
        assert expand(parse_yaml(block, PAGE))
        assert formatted(block) == block
