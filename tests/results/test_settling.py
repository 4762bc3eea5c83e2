"""Claims judged while seeds are added, and which runs come next."""

from __future__ import annotations

import pytest
from latentbench.core.errors import UserError
from latentbench.records.declared import declared_path, read_declared
from latentbench.records.design import Fixed
from latentbench.records.record import read_record
from latentbench.results.gather import gather
from latentbench.results.judging import judge_claim
from latentbench.results.settling import declaration, drafted, first_runs, standing
from latentbench.results.verdicts import verdicts

from tests.project import write_made_up, write_sealed

COMMON = {"text": "t", "where": "Table 1", "metric": "nll", "dataset": "line"}
ORDER = {"id": "order", "kind": "order", "better": "wide", "worse": "narrow", **COMMON}
BOUND = {"id": "bound", "kind": "bound", "method": "floor", "at_least": 0.0, **COMMON}
CHANGES = {"claims": [ORDER, BOUND]}
NOISE = [0.3, -0.4, 0.1, -0.2, 0.25, -0.15, 0.35, -0.3, 0.05, 0.2, -0.1, 0.0, 0.15]


def make(project, n, gap, methods=("wide", "narrow", "floor"), start=0, design=None):
    """Seeds `start` to n - 1: `wide` is better by `gap`, `floor` clearly above its bound."""
    values = {"wide": lambda i: 1 + NOISE[i], "narrow": lambda i: 1 + gap - NOISE[i], "floor": lambda i: 9 + NOISE[i]}
    for method in methods:
        for spec in project.plan("cpu", CHANGES, methods=[method], seeds=range(start, n)):
            write_made_up(spec, {"nll": values[method](spec.seed)}, design=design)


def found(project):
    return {v.claim: v for v in verdicts(gather(project.load(CHANGES), "cpu"))}


def next_runs(project, cap=None):
    now = standing(project.load(CHANGES), "cpu", cap, project.results)
    return sorted({(r.method, r.seed) for r in now.runs}), now


def test_the_declaration_is_written_once(project):
    loaded = project.load(CHANGES)
    first = declaration(loaded, "cpu", 8, project.results)
    assert (first.first, first.cap, first.there) == (3, 8, 0)
    assert declaration(loaded, "cpu", 40, project.results) == first, "what was declared stands"
    assert {r.seed for r in first_runs(loaded, first)} == {0, 1, 2}


def test_records_that_were_there_are_counted(project):
    make(project, 2, 1.0)
    assert declaration(project.load(CHANGES), "cpu", None, project.results).there == 6


def test_settled_claims_get_no_more_seeds(project):
    declaration(project.load(CHANGES), "cpu", 12, project.results)
    make(project, 3, 0.3)
    runs, now = next_runs(project)
    assert [v.claim for v in now.unsettled] == ["order"], "the bound is clear"
    assert runs == [("narrow", 3), ("wide", 3)], "to the analysis at four"
    assert "1 of 2 claims settled" in str(now)
    make(project, 4, 0.3, methods=("wide", "narrow"))
    assert next_runs(project)[0] == [(m, s) for m in ("narrow", "wide") for s in (4, 5)]
    assert found(project)["bound"].verdict == "reproduced", "and stays so"


def test_the_cap_ends_it(project):
    declaration(project.load(CHANGES), "cpu", 6, project.results)
    make(project, 6, 0.05, methods=("wide", "narrow"))
    make(project, 3, 0.05, methods=("floor",))
    runs, now = next_runs(project)
    assert (runs, [v.claim for v in now.unsettled]) == ([], ["order"])
    assert next_runs(project, cap=8)[0], "a larger cap has further analyses"
    assert next_runs(project, cap=4)[0] == []


def test_the_sequential_verdict_is_harder_to_get_and_says_what_it_is(project):
    values = {"wide": [1.0, 1.9, 1.2], "narrow": [1.3, 2.4, 1.4]}
    only = {"claims": [ORDER]}
    for method, numbers in values.items():
        for spec, number in zip(project.plan("cpu", only, methods=[method], seeds=range(3)), numbers):
            write_made_up(spec, {"nll": number})
    loaded = project.load(only)
    [fixed] = verdicts(gather(loaded, "cpu"))
    declaration(loaded, "cpu", 12, project.results)
    [sequential] = verdicts(gather(loaded, "cpu"))
    assert (fixed.verdict, sequential.verdict) == ("reproduced", "insufficient")
    assert (fixed.sequential, sequential.sequential) == (False, True)
    assert "sequential, 1 interim analysis (at 3 seeds)" in sequential.text
    assert sequential.interval[0] < fixed.interval[0] < fixed.interval[1] < sequential.interval[1]
    assert sequential.needed_n in (4, 6, 8, 12)


def test_a_look_takes_whole_sets_of_seeds_only(project):
    """A fourth seed of one side, or a hand-picked one, changes nothing until its analysis is complete."""
    declaration(project.load(CHANGES), "cpu", 12, project.results)
    make(project, 3, 0.3)
    before = found(project)["order"]
    make(project, 5, 9.0, methods=("wide",), start=4)
    make(project, 4, 9.0, methods=("wide",), start=3)
    after = found(project)["order"]
    assert (after.estimate, after.interval, after.verdict) == (before.estimate, before.interval, before.verdict)
    make(project, 4, 9.0, methods=("narrow",), start=3)
    assert found(project)["order"].estimate != before.estimate


def test_before_the_first_look_nothing_is_settled(project):
    declaration(project.load(CHANGES), "cpu", 12, project.results)
    make(project, 2, 5.0)
    now = found(project)
    assert {v.verdict for v in now.values()} == {"insufficient"}
    assert "the first interim analysis is to come, at 3 seeds" in now["order"].text


def test_a_failed_seed_completes_a_look(project):
    declaration(project.load(CHANGES), "cpu", 12, project.results)
    make(project, 2, 5.0)
    for spec in project.plan("cpu", CHANGES, seeds=[2]):
        write_made_up(spec, {}, status="failed")
    assert "sequential, 1 interim analysis" in found(project)["order"].text
    assert next_runs(project)[1].seeds == 4


def test_an_exact_method_has_said_all(project):
    changes = {"methods.floor.exact": True, "datasets.line.preprocess": [], "claims": [ORDER | {"worse": "floor"}]}
    loaded = project.load(changes)
    declaration(loaded, "cpu", 12, project.results)
    for method, seeds in (("wide", range(3)), ("floor", [0])):
        for spec in project.plan("cpu", changes, methods=[method], seeds=seeds):
            write_made_up(spec, {"nll": 1 + NOISE[spec.seed]})
    now = standing(loaded, "cpu", None, project.results)
    assert {(r.method, r.seed) for r in now.runs} == {("wide", 3)}


@pytest.mark.parametrize("tier", ["smoke", "cpu"])
def test_nothing_to_settle(project, tier):
    with pytest.raises(UserError, match="no claim"):
        drafted(project.load({"claims": []} if tier == "cpu" else CHANGES), tier, None)


def test_an_edited_declaration_gives_no_verdict(project):
    make(project, 3, 1.0)
    declaration(project.load(CHANGES), "cpu", 12, project.results)
    path = declared_path("small", "cpu", project.results)
    path.write_text(path.read_text().replace('"cap": 12', '"cap": 3'))
    with pytest.raises(UserError, match="seal"):
        found(project)


def made_by(project, seed, *options):
    """Say that this command made the floor's record of a seed."""
    [path] = (project.results / "runs/small").glob(f"floor--*--s{seed}--*/record.json")
    record = read_record(path)
    provenance = record.provenance.model_copy(update={"command": ["latentbench", "run", "small", *options]})
    write_sealed(path, record.model_copy(update={"provenance": provenance}))


@pytest.mark.parametrize(
    ("seed", "options"), [(2, ["--until-settled"]), (3, ["--budget", "8h"]), (3, ["--budget=8h", "-q"])]
)
def test_a_declaration_that_was_taken_away_is_missed(project, seed, options):
    """Records from before they said their design hold the command that made them."""
    make(project, 3, 1.0)
    assert not found(project)["bound"].sequential
    make(project, 4, 1.0, start=3)
    made_by(project, seed, *options)
    bound = found(project)["bound"]
    assert bound.sequential
    assert "1 record was made by `run --until-settled` or `--budget`, whose declaration is missing" in bound.text
    assert "declaration" not in found(project)["order"].text


@pytest.mark.parametrize("lost", ["the file", "the file, copied without time", "nothing"])
def test_verdicts_do_not_depend_on_whether_the_declaration_came_along(project, lost):
    """A copy of runs/, or what `store pull` brings, has the records alone: they say how they came about."""
    make(project, 3, 1.2)
    declared = declaration(project.load(CHANGES), "cpu", 12, project.results)
    make(project, 5, 1.2, start=3, design=declared)
    before = found(project)
    if lost != "nothing":
        declared_path("small", "cpu", project.results).unlink()
        (project.results / "sequential").rmdir()
    assert found(project) == before
    assert before["order"].sequential
    if lost == "the file":  # a second declaration, after what was seen, does not count against the first
        declaration(project.load(CHANGES), "cpu", 4, project.results)
        assert gather(project.load(CHANGES), "cpu").declared == declared


@pytest.mark.parametrize("design", ["unknown", "grown", "another's", "at once"])
def test_seeds_beyond_the_tiers_own_are_fixed_only_where_every_record_says_so(project, design):
    """What was looked at may have decided on more seeds: without their word, it is allowed for."""
    make(project, 3, 1.2, design=Fixed.of(range(5 if design == "at once" else 3)))
    later = {
        "unknown": None,
        "grown": Fixed.of(range(5)),
        "another's": Fixed.of(range(3)),
        "at once": Fixed.of(range(5)),
    }
    make(project, 5, 1.2, start=3, design=later[design])
    found_now = found(project)
    fixed = design == "at once"
    assert [v.sequential for v in found_now.values()] == [not fixed] * 2
    assert ("asked for together with the others" in found_now["order"].text) == fixed
    plain = judge_claim(project.load(CHANGES).suite.claims[0], gather(project.load(CHANGES), "cpu"), 0.05)
    if fixed:
        assert found_now["order"].interval == (plain.low, plain.high)
    else:
        low, high = found_now["order"].interval
        assert (low < plain.low, high > plain.high) == (True, True)


def test_a_run_says_how_many_seeds_were_asked_for(project):
    path = project.suite(CHANGES)
    assert project.run(path, "--seeds", "1,4", "--method", "wide", "--quiet").code == 0
    assert [r.provenance.design for r in project.records().values()] == [Fixed(seeds=[1, 4])] * 2
    assert project.run(path, "--until-settled", "--cap", "4", "--quiet").code == 0
    designs = {r.seed: r.provenance.design for r in project.records().values()}
    assert designs[0] == designs[2] == read_declared("small", "cpu", project.results)
    assert designs[4] == Fixed(seeds=[1, 4])


def test_what_a_budget_buys_for_the_first_look_needs_no_declaration(project):
    make(project, 3, 1.0)
    made_by(project, 2, "--budget", "8h")
    assert "declaration" not in found(project)["bound"].text


def test_what_is_planned_after_a_failed_seed_is_a_look_to_come(project):
    """Three seeds were run, two have a value: the next analysis is at four, not at three again."""
    only = {"claims": [ORDER]}
    loaded = project.load(only)
    declaration(loaded, "cpu", 12, project.results)
    for method, numbers in {"wide": [1.0, 1.1], "narrow": [2.0, 2.2]}.items():
        for spec, number in zip(project.plan("cpu", only, methods=[method], seeds=range(2)), numbers):
            write_made_up(spec, {"nll": number})
    for spec in project.plan("cpu", only, seeds=[2]):
        write_made_up(spec, {}, status="diverged")
    [verdict] = verdicts(gather(loaded, "cpu"))
    assert (verdict.verdict, verdict.n) == ("insufficient", 2)
    assert verdict.needed_n in (4, 6, 8, 12, 16)


def test_seeds_beyond_the_tiers_own_are_named_where_no_looks_were_declared(project):
    """Planning more seeds from those that were seen, and judging all by the fixed test, is looking twice."""
    make(project, 3, 1.0)
    assert "beyond" not in found(project)["order"].text
    make(project, 5, 1.0, methods=("wide",))
    assert "beyond" not in found(project)["order"].text, "pairs of seeds are compared, and there are no more of them"
    make(project, 5, 1.0, methods=("wide", "narrow"))
    assert "there are 2 seeds beyond the tier's own, and no record says" in found(project)["order"].text
    assert "beyond" not in found(project)["bound"].text
    declaration(project.load(CHANGES), "cpu", 12, project.results)
    text = found(project)["order"].text
    assert "beyond" not in text
    assert "13 records from before the interim analyses were declared" in text
