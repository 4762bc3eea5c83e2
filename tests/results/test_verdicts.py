"""What records say of claims."""

from __future__ import annotations

import pytest
from latentbench.results.gather import gather
from latentbench.results.verdicts import verdicts
from scipy import stats

from tests.project import write_made_up

COMMON = {"text": "t", "where": "Table 1", "metric": "nll", "dataset": "line"}
ORDER = {"id": "order", "kind": "order", "better": "wide", "worse": "narrow", **COMMON}
TREND = {"id": "trend", "kind": "trend", "methods": ["wide", "narrow", "floor"], "direction": "rises", **COMMON}
BOUND = {"id": "bound", "kind": "bound", "method": "wide", "at_least": 0.5, **COMMON}
VALUE = {"id": "value", "kind": "value", "method": "wide", "tolerance": 0.5, "reported": 1.1, **COMMON}
CLAIMS = [ORDER, TREND, BOUND, VALUE]

CLEAR = {
    "wide": [1.0, 1.2, 1.1, 1.05, 1.15],
    "narrow": [2.0, 2.3, 2.1, 2.05, 2.2],
    "floor": [5.0, 5.2, 5.1, 5.15, 5.05],
}


def judged(project, values=CLEAR, claims=CLAIMS, tier="cpu", **options):
    changes = {"claims": claims}
    for method, numbers in values.items():
        for spec, number in zip(project.plan(tier, changes, methods=[method], seeds=range(len(numbers))), numbers):
            write_made_up(spec, {"nll": number}, **options)
    return {v.claim: v for v in verdicts(gather(project.load(changes), tier))}


def test_clear_seeds_reproduce_every_kind(project):
    found = judged(project, tier="paper")
    assert {c: v.verdict for c, v in found.items()} == dict.fromkeys(["order", "trend", "bound", "value"], "reproduced")
    assert list(found) == [c["id"] for c in CLAIMS], "in the suite's order"


def test_the_opposite_is_not_reproduced(project):
    turned = [
        ORDER | {"better": "narrow", "worse": "wide"},
        TREND | {"direction": "falls"},
        BOUND | {"at_least": None, "at_most": 0.5},
        VALUE | {"reported": 3.0},
    ]
    turned[2] = {k: v for k, v in turned[2].items() if v is not None}
    found = judged(project, claims=turned, tier="paper")
    assert [found[c].verdict for c in ("order", "trend", "bound")] == ["not-reproduced"] * 3
    assert found["value"].verdict == "better", "lower than reported, and lower is better"
    worse = judged(project, claims=[VALUE | {"reported": 0.1, "tolerance": 0.1}], tier="paper")
    assert worse["value"].verdict == "not-reproduced"


def test_the_order_is_the_paired_t_test(project):
    found = judged(project, {"wide": [1.0, 1.9, 1.2], "narrow": [1.3, 2.4, 1.4]}, [ORDER])["order"]
    test = stats.ttest_rel([1.0, 1.9, 1.2], [1.3, 2.4, 1.4], alternative="less")
    two_sided = stats.ttest_rel([1.0, 1.9, 1.2], [1.3, 2.4, 1.4]).confidence_interval(0.95)
    assert found.estimate == pytest.approx(-1 / 3)
    assert found.interval == pytest.approx(tuple(two_sided))
    assert (found.verdict == "reproduced") == (test.pvalue <= 0.05)


def test_values_are_judged_at_paper_only(project):
    found = judged(project, claims=[VALUE, ORDER])
    assert (found["value"].verdict, found["value"].information) == ("not-run", True)
    assert found["value"].estimate == pytest.approx(1.1)
    assert found["value"].text.startswith("judged at tier paper only")
    assert found["value"].needed_n is None
    assert found["order"].information is False


def test_information_takes_no_part_in_the_correction(project):
    """Twenty value claims shown at cpu leave the one order as it would be alone."""
    many = [VALUE | {"id": f"value-{i}"} for i in range(20)]
    values = {"wide": [1.0, 1.9, 1.2], "narrow": [1.3, 2.4, 1.4]}
    alone, among = judged(project, values, [ORDER])["order"], judged(project, values, [ORDER, *many])["order"]
    assert (alone.verdict, alone.needed_n) == (among.verdict, among.needed_n)
    assert alone.verdict == "reproduced"


def test_more_claims_ask_for_more_evidence(project):
    values = {"wide": [1.0, 1.9, 1.2], "narrow": [1.3, 2.4, 1.4]}
    doubtful = [BOUND | {"id": f"bound-{i}", "at_least": 1.3} for i in range(30)]
    assert judged(project, values, [ORDER, *doubtful])["order"].verdict == "insufficient"


def test_a_claim_for_other_tiers_is_not_asked(project):
    found = judged(project, claims=[ORDER | {"tiers": ["paper"]}])["order"]
    assert (found.verdict, found.information) == ("not-run", True)
    assert found.text.startswith("not asked at tier cpu")


def test_without_records_nothing_is_run(project):
    found = judged(project, {})
    assert {v.verdict for v in found.values()} == {"not-run"}
    assert {v.estimate for v in found.values()} == {None}
    assert {v.n for v in found.values()} == {0}


def test_few_seeds_are_insufficient_and_say_how_many_would_do(project):
    found = judged(project, {"wide": [1.0, 2.0], "narrow": [1.4, 2.2]}, [ORDER])["order"]
    assert found.verdict == "insufficient"
    assert found.needed_n > found.n == 2
    one = judged(project, {"wide": [1.0], "narrow": [2.0]}, [ORDER | {"id": "one"}], tier="paper")["one"]
    assert one.verdict == "insufficient", "one seed has no spread, however clear it looks"


def test_failed_seeds_never_count_and_are_named(project):
    values = {"wide": [1.0, 1.2, None, 1.1], "narrow": [2.0, 2.2, 2.1, 2.15]}
    found = judged(project, values, [ORDER])["order"]
    assert found.n == 3
    assert "1" in found.text
    assert "fail" in found.text
    assert found.estimate == pytest.approx((1.0 + 1.2 + 1.1) / 3 - (2.0 + 2.2 + 2.15) / 3)


def test_a_failed_run_counts_for_nothing_whatever_it_holds(project):
    found = judged(project, {"wide": [-100.0, -100.1, -100.2]}, [BOUND | {"at_least": -1e6}], status="failed")["bound"]
    assert (found.verdict, found.estimate, found.n) == ("not-run", None, 0)


def test_identities_never_mix(project):
    """An order is judged on one quantity: values measured under another identity do not count."""
    changes = {"claims": [ORDER]}
    for spec in project.plan("cpu", changes, methods=["wide", "narrow"], seeds=[0, 1, 2]):
        value = 1.0 + spec.seed / 10 + (5 if spec.method == "narrow" else 0)
        write_made_up(spec, {"nll": value}, identity=("a" if spec.method == "wide" else "b") * 12)
    (found,) = verdicts(gather(project.load(changes), "cpu"))
    assert found.verdict == "not-run"
    assert found.estimate is None


def test_seeds_of_one_method_under_two_identities(project):
    changes = {"claims": [BOUND]}
    for spec in project.plan("cpu", changes, methods=["wide"], seeds=[0, 1, 2]):
        write_made_up(
            spec, {"nll": 1.0 + spec.seed / 10 + 50 * (spec.seed == 2)}, identity=("b" if spec.seed == 2 else "a") * 12
        )
    (found,) = verdicts(gather(project.load(changes), "cpu"))
    assert found.estimate == pytest.approx(1.05)
    assert found.n == 2


def test_the_papers_number_is_taken_where_the_claim_gives_none(project):
    row = {
        "method": "wide",
        "dataset": "line",
        "metric": "nll",
        "value": 1.1,
        "unit": "nats",
        "table": "1",
        "source": "s",
    }
    without = {k: v for k, v in VALUE.items() if k != "reported"}
    changes = {"claims": [without], "reported": [row]}
    for spec in project.plan("paper", changes, methods=["wide"], seeds=range(5)):
        write_made_up(spec, {"nll": CLEAR["wide"][spec.seed]})
    (found,) = verdicts(gather(project.load(changes), "paper"))
    assert found.verdict == "reproduced"
    assert "1.1" in found.text


def test_counts_that_agree_are_no_proof_of_determinism(project):
    """Three seeds with the same whole number do not settle anything exactly."""
    vae = {"model": "vae", "params": {"latent_dim": 2, "hidden": [4]}}
    claim = {"id": "c", "kind": "bound", "method": "vae", "at_least": 1.5, **COMMON, "metric": "active_units"}
    changes = {"methods": {"vae": vae}, "metrics": {"active_units": {}}, "claims": [claim]}
    for spec in project.plan("cpu", changes):
        write_made_up(spec, {"active_units": 2.0})
    (found,) = verdicts(gather(project.load(changes), "cpu"))
    assert found.verdict == "insufficient"


def test_an_exact_method_needs_one_value(project):
    claim = BOUND | {"method": "floor", "at_least": 2.0}
    changes = {"methods.floor.exact": True, "claims": [claim]}
    for spec in project.plan("cpu", changes, methods=["floor"]):
        write_made_up(spec, {"nll": 3.0})
    (found,) = verdicts(gather(project.load(changes), "cpu"))
    assert (found.verdict, found.n) == ("reproduced", 1)


def test_the_json_that_tools_rely_on(project):
    fixed = {"suite", "claim", "kind", "tier", "verdict", "estimate", "interval", "n", "needed_n", "text"}
    words = {"reproduced", "consistent", "better", "not-reproduced", "insufficient", "not-run"}
    for found in judged(project).values():
        data = found.as_dict()
        assert fixed <= set(data)
        assert data["verdict"] in words
        assert data["interval"] is None or (isinstance(data["interval"], list) and len(data["interval"]) == 2)
        assert (data["suite"], data["tier"], data["kind"]) == ("small", "cpu", data["claim"])


def test_missing_and_stale_seeds_are_told(project):
    """A planned seed without a record is no reproduction of anything: the sentence says that it is missing."""
    changes = {"claims": [ORDER]}
    runs = project.plan("cpu", changes, methods=["wide", "narrow"])
    for spec in runs:
        if not (spec.method == "wide" and spec.seed == 2):
            write_made_up(spec, {"nll": CLEAR[spec.method][spec.seed]}, code="f" * 64)
    (found,) = verdicts(gather(project.load(changes), "cpu"))
    assert (found.missing, found.stale) == (1, 5)
    assert "1 planned run has no record" in found.text
    assert "5 records were made by other code than today's" in found.text
