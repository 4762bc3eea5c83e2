"""The short forms of a suite: groups of claims, tables of numbers, the protocol by item."""

from __future__ import annotations

from pathlib import Path

import pytest
from latentbench.core.errors import UserError
from latentbench.core.yamlfile import YamlFile, read_yaml
from latentbench.spec.expansion import expand
from latentbench.spec.loading import load_suite
from latentbench.spec.validation import problems

from tests.spec.suites import TEXT


@pytest.fixture
def read(tmp_path: Path):
    def read(text: str) -> YamlFile:
        (tmp_path / "s.yaml").write_text(text)
        return read_yaml(tmp_path / "s.yaml")

    return read


GROUP = """\
claims:
  - id: first
    kind: bound
  - grid:
      tier:
        cpu: {dataset: mnist, tiers: [cpu], end: ""}
        paper: {dataset: mnist-static, tiers: [paper], end: -paper}
    kind: order
    where: Table 1
    claims:
      - id: gs-over-{o}{tier.end}
        grid: {o: [st, sf]}
        worse: "{o}"
      - id: grows{tier.end}
        kind: trend
        where: Figure 5
"""


def test_a_group_of_claims_is_written_out_tier_by_tier(read):
    file = read(GROUP)
    found = expand(file)["claims"]
    assert [c["id"] for c in found] == [
        *("first", "gs-over-st", "gs-over-sf", "grows"),
        *("gs-over-st-paper", "gs-over-sf-paper", "grows-paper"),
    ]
    assert found[2] == {
        "id": "gs-over-sf",
        "kind": "order",
        "where": "Table 1",
        "dataset": "mnist",
        "tiers": ["cpu"],
        "worse": "sf",
    }
    assert (found[6]["kind"], found[6]["where"]) == ("trend", "Figure 5"), "a claim's own word goes first"
    assert (found[6]["dataset"], found[6]["tiers"]) == ("mnist-static", ["paper"])
    assert file.line(("claims", 5, "worse")) == 13
    assert file.line(("claims", 5, "dataset")) == 7
    assert file.line(("claims", 3, "where")) == 16
    assert file.line(("claims", 2, "where")) == 9


def test_a_claims_own_gate_stands_for_the_groups(read):
    group = """\
claims:
  - gate: {metric: nll, at_most: 3.0, methods: vae}
    claims:
      - {id: as-the-group}
      - {id: its-own, gate: {metric: nll, at_most: 2.0}}
      - {id: none, gate: []}
"""
    assert [c["gate"] for c in expand(read(group))["claims"]] == [
        {"metric": "nll", "at_most": 3.0, "methods": "vae"},
        {"metric": "nll", "at_most": 2.0},
        [],
    ]


TABLE = """\
reported:
  - table: Table 1
    source: arXiv 1
    method: "{row}-{column}"
    dataset: mnist
    metric: nll
    unit: nats
    columns: [sf, gs]
    rows:
      vae-bern: [112.2, 105]
      sbn-bern: {metric: conditional, note: rounded, cells: [null, 58.5 ± 0.3]}
      vae-cat:
        - {value: 110.6, runs: 3, note: "of {column}"}
        - 101.5 +- 1e-1
"""


def test_a_table_has_a_number_in_each_cell(read):
    file = read(TABLE)
    found = expand(file)["reported"]
    cells = [(n["method"], n["metric"], n["value"], n.get("std"), n.get("runs"), n.get("note")) for n in found]
    assert cells == [
        ("vae-bern-sf", "nll", 112.2, None, None, None),
        ("vae-bern-gs", "nll", 105, None, None, None),
        ("sbn-bern-gs", "conditional", 58.5, 0.3, None, "rounded"),
        ("vae-cat-sf", "nll", 110.6, None, 3, "of sf"),
        ("vae-cat-gs", "nll", 101.5, 0.1, None, None),
    ]
    assert all(set(n) >= {"table", "source", "dataset", "unit"} and "rows" not in n for n in found)
    assert [file.line(("reported", i)) for i in range(5)] == [10, 10, 11, 13, 14]
    assert file.line(("reported", 2, "metric")) == 11
    assert file.line(("reported", 3, "unit")) == 7


def test_columns_may_say_what_they_measure(read):
    text = """\
reported:
  - table: Table 1
    method: "{row}"
    columns:
      NLL: {metric: nll_iw, unit: nats}
      active units: {metric: active_units, unit: units, note: "the column {column}"}
    rows: {vae-k1: [86.76, 19]}
  - table: poster
    dataset: "bridge-{row}"
    rows:
      2d: 0.05 ± 0.003
      16d: {value: 0.09 ± 0.006, note: other parameters}
  - {table: text, value: 3}
"""
    assert expand(read(text))["reported"] == [
        {
            "row": "vae-k1",
            "column": "NLL",
            "table": "Table 1",
            "method": "vae-k1",
            "metric": "nll_iw",
            "unit": "nats",
            "value": 86.76,
        },
        {
            "row": "vae-k1",
            "column": "active units",
            "table": "Table 1",
            "method": "vae-k1",
            "metric": "active_units",
            "unit": "units",
            "note": "the column active units",
            "value": 19,
        },
        {"row": "2d", "table": "poster", "dataset": "bridge-2d", "value": 0.05, "std": 0.003},
        {
            "row": "16d",
            "table": "poster",
            "dataset": "bridge-16d",
            "value": 0.09,
            "std": 0.006,
            "note": "other parameters",
        },
        {"table": "text", "value": 3},
    ]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("[112.2, 105]", "[112.2]", "s.yaml:10: row 'vae-bern' must list a cell for each of 2 columns"),
        ("[112.2, 105]", "[112.2, 105, 3]", "s.yaml:10: row 'vae-bern' must list a cell for each of 2 columns"),
        ("[112.2, 105]", "112.2", "s.yaml:10: row 'vae-bern' must list"),
        ("[112.2, 105]", "{note: x}", "s.yaml:10: row 'vae-bern' must list"),
        ("[112.2, 105]", "[112.2, true]", "s.yaml:10: a cell is a number"),
        ("[112.2, 105]", "[112.2, [1]]", "s.yaml:10: a cell is a number"),
        ("- 101.5 +- 1e-1", "- 101.5?", "s.yaml:14: '101.5?' is no number"),
        ("- 101.5 +- 1e-1", "- 1.5.5 ± 1", "s.yaml:14: '1.5.5 ± 1' is no number"),
        ("58.5 ± 0.3", "{value: 58.5 ± 0.3, std: 0.3}", "s.yaml:11: '58.5 ± 0.3' is no number"),
        ("columns: [sf, gs]", "columns: gs", "s.yaml:8: 'column' must be a list"),
        ('"{row}-{column}"', '"{row}-{colum}"', "{colum} asks for 'colum', which no grid has"),
        ('"{row}-{column}"', '"{row.label}-{column}"', "s.yaml:10: 'vae-bern' of 'row' has no 'label'"),
    ],
)
def test_tables_that_are_refused(read, old, new, words):
    assert old in TABLE
    with pytest.raises(UserError) as e:
        expand(read(TABLE.replace(old, new)))
    assert words in str(e.value)


@pytest.mark.parametrize("rows", ["rows: []", "rows: {}", "rows:", "rows: 3"])
def test_a_table_without_rows(read, rows):
    with pytest.raises(UserError, match=r"s.yaml:3: rows must map names to cells"):
        expand(read(f"reported:\n- table: 1\n  {rows}\n"))


def test_a_table_cannot_explode(read):
    columns = ", ".join(f"c{i}" for i in range(100))
    rows = "\n".join(f"    r{i}: [{', '.join(['1'] * 100)}]" for i in range(20))
    text = f"reported:\n- note: {'x' * 5000}\n  columns: [{columns}]\n  rows:\n{rows}\n"
    with pytest.raises(UserError, match=r"s.yaml:2: table writes out more than a suite may hold"):
        expand(read(text))


def test_a_table_of_too_many_cells(read):
    rows = "\n".join(f"    r{i}: 1" for i in range(2001))
    with pytest.raises(UserError, match=r"s.yaml:3: table writes out more than 2000 entries"):
        expand(read(f"reported:\n- table: 1\n  rows:\n{rows}\n"))


def test_a_group_cannot_explode(read):
    claims = "\n".join(f"  - id: c{i}-{{k}}" for i in range(3000))
    with pytest.raises(UserError, match="writes out more than a suite may hold"):
        expand(read(f"claims:\n- grid: {{k: {list(range(2000))}}}\n  claims:\n{claims}\n"))


PROTOCOL = """\
protocol:
  data: {value: MNIST, stated: section 4}
  batch size: {value: "100", inferred: the authors' notebooks}
  rate:
    value: 3e-3
    status: unknown
  seeds: {value: "3", unknown: }
"""


def test_the_protocol_by_item(read):
    file = read(PROTOCOL)
    items = expand(file)["protocol"]
    assert items[:2] == [
        {"item": "data", "value": "MNIST", "status": "stated", "source": "section 4"},
        {"item": "batch size", "value": "100", "status": "inferred", "source": "the authors' notebooks"},
    ]
    assert [(i["item"], i["status"], i.get("source")) for i in items[2:]] == [
        ("rate", "unknown", None),
        ("seeds", "unknown", None),
    ]
    assert file.line(("protocol", 2, "status")) == 6
    assert expand(read("protocol:\n- {item: data, value: x, stated: 3}\n"))["protocol"] == [
        {"item": "data", "value": "x", "status": "stated", "source": 3}
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("data: {item: data, value: x}", "s.yaml:2: item 'data' is named twice"),
        ("data: {value: x, stated: here, source: there}", "s.yaml:2: status and source are given twice"),
        ("data: {value: x, stated: here, unknown: }", "s.yaml:2: status and source are given twice"),
    ],
)
def test_protocols_that_are_refused(read, text, words):
    with pytest.raises(UserError) as e:
        expand(read(f"protocol:\n  {text}\n"))
    assert words in str(e.value)


def test_faults_of_what_was_written_out_are_found_in_the_file(project):
    """Names, units and cells that validation finds wrong, each at the line of its row, cell or value."""
    head, _, claims = TEXT.partition("reported:\n")
    table = """\
reported:
  - table: Table 1
    source: nobody
    dataset: line
    metric: nll
    method: "{row}"
    unit: nats
    rows:
      wide: 6.5
      floor: {value: 7.0, unit: bits}
      flour: 8.0
"""
    text = head + table + claims[claims.index("claims:") :]
    loaded = load_suite(project.write("small", text))
    start = head.count("\n")
    found = sorted((p.line, p.what) for p in problems(loaded))
    assert [line - start for line, _ in found] == [10, 11]
    assert "'bits'" in found[0][1]
    assert "'flour'" in found[1][1]


def test_patterns_stand_alone_or_in_lists(project):
    one = load_suite(project.write("small", TEXT)).suite
    text = TEXT.replace("methods: vae-*", "methods: [vae-k1, vae-k5]").replace("datasets: line\n", "datasets: [line]\n")
    more = load_suite(project.write("small", text)).suite
    assert one.overrides[0].methods == ["vae-*"]
    assert [m for m in more.methods if more.overrides[0].matches(m, "line")] == ["vae-k1", "vae-k5"]
    bad = load_suite(project.write("small", TEXT.replace("methods: vae-*", "methods:\n    - vae-k1\n    - vea-*")))
    [fault] = problems(bad)
    assert "'vea-*' selects nothing" in fault.what
    assert fault.line == TEXT.splitlines().index("  - methods: vae-*") + 3
