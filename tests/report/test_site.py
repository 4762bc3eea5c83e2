"""The site: whole, self-contained, escaped, true to the records."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import sys
import unicodedata
from pathlib import Path
from types import SimpleNamespace

import pytest
from latentbench.records.record import read_record
from latentbench.report.boards import listed
from latentbench.results.possible import entropy

from tests.project import REPOSITORY, write_made_up, write_sealed
from tests.report import hostile
from tests.report.conftest import CHANGES, CLAIM, fill
from tests.report.pages import Page, read, read_all


def test_links_lead_to_pages_and_places_that_there_are(built):
    pages = read_all(built)
    assert {"index.html", "leaderboards.html", "compare.html", "papers/small.html", "boards/line.html"} <= set(pages)
    for page in pages.values():
        for link in page.all("a"):
            target, _, place = (link.get("href") or "").partition("#")
            if target.startswith("https://"):
                continue
            path = (page.path.parent / target).resolve() if target else page.path
            assert path.is_file(), (page.path, link)
            if place:
                assert place in read(path).ids, (page.path, link)


def test_boards_are_listed_as_one_would_look_at_them():
    def page(dataset, *boards):
        return SimpleNamespace(
            dataset=dataset, boards=[SimpleNamespace(name=n, papers=p, entries=[0] * m) for n, p, m in boards]
        )

    pages = [page("simulated", ("time", 9, 99)), page("a", ("few", 1, 3), ("shared", 2, 4)), page("b", ("many", 1, 30))]
    assert [board.name for _, board in listed(pages)] == ["shared", "many", "few", "time"]


def test_ids_are_there_once(built):
    for page in read_all(built).values():
        assert len(page.ids) == len(set(page.ids)), page.path


def loads(page: Page) -> list[str]:
    """Whatever a browser would fetch for a page."""
    return [given[key] or "" for _, given in page.elements for key in ("src", "srcset", "data") if key in given] + [
        given.get("href") or "" for name, given in page.elements if name in ("link", "use", "image")
    ]


def test_pages_need_nothing_from_elsewhere_and_allow_no_other_script(built):
    for page in read_all(built).values():
        assert all("//" not in each for each in loads(page)), page.path
        assert "style" not in {key for _, given in page.elements for key in given}
        assert not [key for _, given in page.elements for key in given if key.startswith("on")]
        (policy,) = [m["content"] for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
        assert policy.startswith("default-src 'none'")
        assert "unsafe" not in policy
        for tag, given, text in page.inline:
            if given.get("type") == "application/json":
                json.loads(text)
                continue
            allowed = re.search(rf"{tag}-src 'sha256-([^']+)'", policy)
            assert allowed
            assert allowed[1] == base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def test_the_papers_table_stands_beside_ours(built):
    page = read(built / "papers/small.html")
    flat = " ".join(page.text.split())
    assert "1.523" in flat, "our mean of wide"
    assert "the wide one" in flat
    for printed in ("1.51", "2.50", "1.4", "0.5", "0.7"):
        assert f"◆ {printed}" in flat, printed
    assert "read off" in flat
    headings = re.findall(r"<th scope=\"(?:col|row)\"[^>]*><bdi>([^<]*)</bdi>", page.path.read_text())
    assert headings[:3] == ["nll", "the wide one", "narrow"], "Table 1: methods are rows"
    assert headings[3:7] == ["the wide one", "floor", "nll", "bits_per_dim"], "Table 2: methods are columns"


def test_the_best_baseline_is_the_floor(built):
    board = read(built / "boards/line.html")
    assert board.text.count("floor: the best baseline, floor") == 2
    lines = [given for name, given in board.elements if name == "line" and given.get("class") == "control"]
    assert len(lines) == 2 * (1 + 3), "in the legend and in each strip of both tables"


def test_every_claim_has_its_verdict_and_its_evidence(built):
    page = read(built / "papers/small.html")
    text = page.path.read_text()
    claims = re.findall(r'<article class="claim v-([a-z-]+)" id="claim-([a-z]+)">', text)
    assert {i: word for word, i in claims} == {
        "o": "reproduced",
        "t": "reproduced",
        "b": "not-reproduced",
        "v": "information",
        "later": "information",
    }
    assert "2 reproduced, 1 not reproduced" in " ".join(page.text.split())


def test_claims_are_counted_as_the_scoreboard_counts_them(project):
    order = CLAIM | {"kind": "order", "better": "wide", "worse": "narrow"}
    changes = CHANGES | {"claims": [order | {"id": "here", "tiers": ["cpu"]}, order | {"id": "o"}]}
    for tier in ("cpu", "paper"):
        fill(project, changes, tier)
    (counted,) = json.loads(project("scoreboard", "--format", "json").out)
    assert (counted["tier"], counted["reproduced"], counted["not_run"]) == ("paper", 1, 1)
    assert project("report").code == 0
    for name in ("index", "papers/small"):
        bars = [s for s in read(project.results / f"site/{name}.html").all("svg") if "vbar" in (s.get("class") or "")]
        assert {s["aria-label"] for s in bars} == {"1 reproduced, 1 not run"}, name


def test_drawings_say_in_words_what_they_show(built):
    labels = [d.get("aria-label") or "" for d in read(built / "papers/small.html").all("svg") if d.get("role") == "img"]
    assert any("the wide one: 1.523 nats, 95% interval 1.461 to 1.586, 3 seeds" in label for label in labels)
    assert any(label.startswith("Training loss over epochs on line") for label in labels)
    assert all(labels)


def test_a_number_that_cannot_be_ranks_last_and_says_why(project):
    optimum = entropy("linear")
    assert optimum is not None
    data = {"line": {"source": "linear", "split": {"train": "train", "test": "test"}}}
    for spec in project.plan("cpu", CHANGES | {"datasets": data}, methods=["wide", "narrow"]):
        value = optimum - 2 if spec.method == "wide" else optimum + 0.1
        write_made_up(spec, {"nll": value + spec.seed / 1000}, errors={"nll": 0.05})
    assert project("report").code == 0
    board = (project.results / "site/boards/linear.html").read_text()
    assert re.findall(r'<th scope="row"><bdi>([^<]*)</bdi>', board) == ["narrow", "the wide one"]
    assert board.count("impossible: <bdi>") == 1
    assert f"ceiling: the entropy of the data, {optimum:.2f} nats" in board
    assert "floor:" not in board, "no baseline was measured"
    page = read(project.results / "site/papers/small.html").text
    assert "the entropy of the data's known density" in page
    assert "⊘" in page


def test_what_failed_is_counted_and_said(project):
    specs = project.plan("cpu", CHANGES, methods=["wide"])
    write_made_up(specs[0], {"nll": 1.0})
    write_made_up(specs[1], {}, status="diverged")
    assert project("report").code == 0
    flat = " ".join(read(project.results / "site/papers/small.html").text.split())
    assert "Runs that failed: 1" in flat
    assert "diverged made up" in flat
    assert "7 planned runs have no record" in flat


def test_hostile_text_shows_as_text(project):
    fill(project, hostile.changes())
    broken = project.plan("cpu", hostile.changes(), methods=["wide"])[0]
    path = write_made_up(broken, {}, status="failed", ended="2026-02-01T00:00:00+00:00")
    write_sealed(path, read_record(path).model_copy(update={"error": hostile.HOSTILE}))
    assert project("report").code == 0
    for page in read_all(project.results / "site").values():
        assert len(page.all("script")) == (2 if page.path.name == "index.html" else 1), page.path
        assert not page.all("img")
        assert not [k for _, given in page.elements for k in given if k.startswith("on")]
        assert not [a for a in page.all("a") if (a.get("href") or "").lower().startswith("javascript")]
        everything = page.text + "".join(t for _, given, t in page.inline if given.get("type"))
        steering = {c for c in everything if unicodedata.category(c) in ("Cc", "Cf") and c not in "\n\t\u200c\u200d"}
        assert not steering, (page.path, steering)
    shown = read(project.results / "site/papers/small.html").text
    assert hostile.SCRIPT in shown
    assert hostile.QUOTES in shown
    assert hostile.ARABIC in shown
    assert hostile.EMOJI in shown


def test_a_suite_that_cannot_be_read_is_said_and_costs_no_other(filled):
    filled.write("broken", "id: <script>\n- ]")
    answer = filled("report")
    assert answer.code == 0
    assert "left out: " in answer.err
    assert "broken.yaml" in read(filled.results / "site/index.html").text


def test_an_empty_project_has_a_site(project):
    assert project("report").code == 0
    assert "none of them run yet" in read(project.results / "site/index.html").text


def test_the_next_build_says_what_changed(filled):
    site = filled.results / "site"
    assert filled("report").code == 0
    assert "This is the first build" in read(site / "index.html").text
    for spec in filled.plan("cpu", CHANGES, methods=["narrow"]):
        write_made_up(spec, {"nll": 0.5 + spec.seed / 100}, ended="2026-03-01T00:00:00+00:00")
    for _ in range(2):  # building again without a change tells of the last one
        assert filled("report").code == 0
        flat = " ".join(read(site / "index.html").text.split())
        assert re.search(r"small o : ✓ ?reproduced → ✗ ?not reproduced", flat.replace("o:", "o :")), flat[:3000]
        assert re.search(r"small b ?: ✗ ?not reproduced → ✓ ?reproduced", flat)


@pytest.mark.parametrize("left", ["not JSON", "[]", '{"format": 1}', '{"format": 1, "built": 3, "papers": 1}'])
def test_a_damaged_last_build_counts_as_none(filled, left):
    site = filled.results / "site"
    site.mkdir(parents=True)
    (site / "build.json").write_text(left)
    assert filled("report").code == 0
    assert "This is the first build" in read(site / "index.html").text


def test_pages_of_papers_that_are_gone_go(filled):
    assert filled("report").code == 0
    filled.suite(name="other")
    assert filled("report").code == 0
    assert (filled.results / "site/papers/other.html").is_file()
    (filled.root / "suites/other.yaml").unlink()
    assert filled("report").code == 0
    assert not (filled.results / "site/papers/other.html").exists()


def test_a_folder_of_somebody_elses_is_left_alone(filled):
    folder = filled.root / "thesis"
    folder.mkdir()
    (folder / "chapter.tex").write_text("words")
    answer = filled("report", "--out", str(folder))
    assert answer.code == 2
    assert "thesis" in answer.errors[0]
    assert [p.name for p in folder.iterdir()] == ["chapter.tex"]


def test_named_suites_alone(filled):
    filled.suite(name="other")
    folder = filled.root / "site"
    assert filled("report", "small", "--out", str(folder)).code == 0
    assert [p.name for p in (folder / "papers").iterdir()] == ["small.html"]
    assert filled("report", "smal", "--out", str(folder)).code == 2


def test_methods_are_compared_as_the_command_compares_them(filled):
    assert filled("report").code == 0
    page = read(filled.results / "site/compare/small.html")
    flat = " ".join(page.text.split())
    told = json.loads(filled("compare", "small/wide", "small/narrow", "--format", "json").out)
    assert len(told) == 2
    for row in told:
        assert row["text"] in flat
    pairs = {(s["data-a"], s["data-b"]) for s in page.all("section") if "data-a" in s}
    assert pairs == {("0", "1"), ("0", "2"), ("1", "2")}


def test_two_sets_of_results_are_compared(filled):
    other = filled.root / "theirs"
    for spec in filled.plan("cpu", CHANGES, methods=["wide"]):
        write_made_up(spec, {"nll": 9.0 + spec.seed, "bits_per_dim": 1.0}, folder=other / "runs" / "small")
    assert filled("report", "--against", str(other)).code == 0
    flat = " ".join(read(filled.results / "site/compare.html").text.split())
    assert "Two sets of results" in flat
    assert "theirs" in flat
    assert "B is better" in flat
    assert filled("report", "--against", "nothing-such").code == 2


def test_pooled_claims_show_their_cells_gates_and_reasons(project):
    shut = {"metric": "nll", "at_most": 1.0}
    pooled = CLAIM | {"id": "p", "kind": "order", "better": "wide", "worse": "{m}", "pool": "all"}
    changes = CHANGES | {
        "claims": [
            pooled | {"cells": {"m": ["narrow", "floor"]}},
            CLAIM | {"id": "g", "kind": "order", "better": "wide", "worse": "narrow", "gate": [shut]},
            CLAIM | {"id": "s", "kind": "bound", "method": "wide", "at_most": 9.0, "sanity": True},
        ]
    }
    fill(project, changes)
    assert project("report").code == 0
    page = read(project.results / "site/papers/small.html")
    flat = " ".join(page.text.split())
    assert "pooled by all over 2 cells" in flat
    assert "The methods of each cell" in flat
    assert "Gate shut nll of wide on line is 1.52" in flat
    assert "sanity check" in flat
    words = re.findall(r'<article class="claim v-([a-z-]+)"', page.path.read_text())
    assert words == ["reproduced", "not-tested", "holds"]


def test_it_does_without_torch(built):
    call = "try: main(['report'])\nfinally: print('torch' in sys.modules)"
    code = f"import sys\nfrom latentbench.cli.main import main\n{call}"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert found.stdout.split()[-1] == "False", found.stderr


def test_the_shipped_records_make_a_site(tmp_path, monkeypatch):
    """The first page below 1 MB, and one for each paper."""
    from latentbench.report.findings import read_findings
    from latentbench.report.site import build

    monkeypatch.setenv("LATENTBENCH_ROOT", str(REPOSITORY))
    monkeypatch.setenv("LATENTBENCH_RESULTS", str(REPOSITORY / "results"))
    built = build(read_findings(), tmp_path / "site", built="2026-01-01")
    assert built.first.stat().st_size < 1_000_000
    assert built.pages >= 326
    links = Path(built.first).read_text().count('href="papers/')
    assert links > 600
