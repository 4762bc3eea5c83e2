"""What records say of claims."""

from __future__ import annotations

import pytest
from latentbench.records.design import Fixed
from latentbench.results.answered import tallied
from latentbench.results.gather import gather
from latentbench.results.scoreboard import counts_by_suite
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
            write_made_up(spec, {"nll": number}, design=Fixed.of(range(len(numbers))), **options)
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


SANITY = BOUND | {"id": "sanity", "sanity": True}


def test_sanity_checks_stand_outside_the_family_and_have_words_of_their_own(project):
    many = [SANITY | {"id": f"sanity-{i}", "at_least": 9.0} for i in range(30)]
    values = {"wide": [1.0, 1.9, 1.2], "narrow": [1.3, 2.4, 1.4]}
    alone, among = judged(project, values, [ORDER])["order"], judged(project, values, [ORDER, SANITY, *many])
    assert (among["order"].verdict, among["order"].needed_n) == (alone.verdict, alone.needed_n)
    assert (among["sanity"].verdict, among["sanity-3"].verdict) == ("holds", "fails")
    assert among["sanity"].sanity
    assert not among["sanity"].counted
    assert tallied(among.values()) == ({"reproduced": 1}, {"holds": 1, "fails": 30})


def test_a_known_value_is_a_sanity_check_at_every_tier(project):
    found = judged(project, claims=[VALUE | {"sanity": True}])["value"]
    assert (found.verdict, found.information) == ("holds", False)


MEANS = {"wide": 1.0, "narrow": 2.0, "floor": 3.0}


def test_verdicts_of_an_analogue_are_counted_as_such(project):
    for spec in project.plan("cpu", {"claims": [ORDER], "analogue": True}):
        write_made_up(spec, {"nll": MEANS[spec.method] * (1 + 0.01 * spec.seed)})
    gathered = gather(project.load({"claims": [ORDER], "analogue": True}), "cpu")
    found = verdicts(gathered)
    assert found[0].analogue
    (row,) = counts_by_suite([(gathered, found)])
    assert (row["analogue"], row["claims"], row["reproduced"], row["sanity"]) == (True, 1, 1, 0)


@pytest.mark.parametrize(
    ("gate", "shut"),
    [
        ({"metric": "nll", "at_least": 0.5}, False),
        ({"metric": "nll", "at_least": 1.5}, True),
        ({"metric": "nll", "at_most": 1.5}, True),
        ({"metric": "nll", "methods": "wide", "at_most": 1.5}, False),
        ({"metric": "nll", "better_than": "floor"}, False),
        ({"metric": "nll", "methods": ["floor"], "better_than": "narrow"}, True),
        ([{"metric": "nll", "at_least": 0.5}, {"metric": "nll", "at_most": 1.0}], True),
        ({"metric": "bits_per_dim", "at_least": 0.1}, True),
    ],
)
def test_a_claim_whose_gate_is_shut_is_not_tested(project, gate, shut):
    """Neither is what its methods say then, whatever that is, and the family stays what it was."""
    found = judged(project, claims=[ORDER | {"gate": gate}, BOUND])
    order = found["order"]
    assert order.verdict == ("not-tested" if shut else "reproduced")
    assert bool(order.reason) == shut
    assert order.reason in order.text
    assert all(g.open for g in order.gates) == (not shut)
    assert found["bound"].verdict == "reproduced"


def test_a_gate_may_ask_for_a_part_and_compare_with_another_metric(project):
    from latentbench.records.record import read_record, seal, write_record

    gates = [{"metric": "nll", "part": "latent", "at_least": 0.1}, {"metric": "nll", "part": "latent", "at_least": 0.3}]
    claims = [ORDER | {"id": f"part-{i}", "gate": g | {"methods": "wide"}} for i, g in enumerate(gates)]
    judged(project, claims=claims)
    for path in (project.results / "runs" / "small").glob("wide*/record.json"):
        record = read_record(path)
        measured = [m.model_copy(update={"details": {"latent": 0.2}}) for m in record.metrics]
        record = record.model_copy(update={"metrics": measured})
        write_record(path, record.model_copy(update={"seal": seal(record)}) if record.seal else record)
    found = verdicts(gather(project.load({"claims": claims}), "cpu"))
    assert [v.verdict for v in found] == ["reproduced", "not-tested"]
    assert "latent of nll of wide on line is 0.2, and must be at least 0.3" in found[1].reason


def test_a_gate_whose_number_cannot_be_is_no_gate(project):
    gate = {"metric": "bits_per_dim", "better_than": "floor", "reference": "bits_per_dim"}
    changes = {
        "claims": [ORDER | {"gate": gate}],
        "datasets": {"line": {"protocol": "all", "preprocess": ["dequantise"]}},
    }
    for spec in project.plan("cpu", changes):
        values = {"nll": MEANS[spec.method] + 0.1 * spec.seed, "bits_per_dim": -1.0}
        write_made_up(spec, values, errors={"bits_per_dim": 0.01})
    found = verdicts(gather(project.load(changes), "cpu"))[0]
    assert found.verdict == "impossible"


def test_a_gate_without_runs_leaves_a_claim_not_run(project):
    assert judged(project, {}, [ORDER | {"gate": {"metric": "nll", "at_least": 0.5}}])["order"].verdict == "not-run"


def test_exact_numbers_need_one_seed_and_refuse_seeds_that_differ(project):
    exact = ORDER | {"exact": True}
    one = {"wide": [1.0], "narrow": [2.0]}
    assert judged(project, one, [ORDER])["order"].verdict == "insufficient"
    assert judged(project, one, [exact])["order"].verdict == "reproduced"


def test_exact_numbers_that_differ_are_not_judged(project):
    found = judged(project, {"wide": [1.0, 1.0], "narrow": [2.0, 2.001]}, [ORDER | {"exact": True}])["order"]
    assert found.verdict == "insufficient"
    assert "claimed to have no spread, and its seeds differ: 2 to 2.001 nats" in found.text


REPORTED = {"dataset": "line", "metric": "nll", "unit": "nats", "table": "Table 1", "source": "s"}


@pytest.mark.parametrize(("paper", "flagged"), [(1.9, False), (1.2, True), (9.0, True), (0.5, True)])
def test_the_papers_effect_stands_beside_ours(project, paper, flagged):
    numbers = [REPORTED | {"method": "wide", "value": 1.0}, REPORTED | {"method": "narrow", "value": paper}]
    changes = {"claims": [ORDER], "reported": numbers}
    for spec in project.plan("cpu", changes):
        write_made_up(spec, {"nll": MEANS[spec.method] + 0.1 * spec.seed})
    found = verdicts(gather(project.load(changes), "cpu"))[0]
    assert (found.effect.ours, found.effect.paper) == pytest.approx((-1.0, 1.0 - paper))
    assert found.effect.flagged == flagged
    assert "in the paper" in found.text
    assert found.as_dict()["effect"]["ratio"] == pytest.approx(-1 / (1 - paper))


def test_an_effect_from_memory_or_of_another_cell_is_none(project):
    numbers = [
        REPORTED | {"method": "wide", "value": 1.0, "origin": "memory"},
        REPORTED | {"method": "narrow", "value": 2},
    ]
    changes = {"claims": [ORDER, TREND | {"reported_effect": 8.0}], "reported": numbers}
    for spec in project.plan("cpu", changes):
        write_made_up(spec, {"nll": MEANS[spec.method] + 0.1 * spec.seed})
    order, trend = verdicts(gather(project.load(changes), "cpu"))
    assert order.effect is None
    assert (trend.effect.ours, trend.effect.flagged) == (pytest.approx(2.0), True)
    assert "a factor of 4 apart" in trend.text


POOLED = {"id": "pooled", "text": "t", "where": "w", "metric": "nll", "dataset": "line"}


@pytest.mark.parametrize(
    ("pool", "said", "verdict"),
    [
        ("mean", {"kind": "order", "better": "{m}", "worse": "floor"}, "reproduced"),
        ("mean", {"kind": "order", "better": "floor", "worse": "{m}"}, "not-reproduced"),
        ("all", {"kind": "order", "better": "{m}", "worse": "floor"}, "reproduced"),
        ("all", {"kind": "bound", "method": "{m}", "at_most": 1.6}, "not-reproduced"),
        ("sign", {"kind": "order", "better": "{m}", "worse": "floor"}, "insufficient"),
    ],
)
def test_a_pooled_claim_is_one_claim_with_its_cells_as_evidence(project, pool, said, verdict):
    claim = POOLED | said | {"pool": pool, "cells": {"m": ["wide", "narrow"]}}
    found = judged(project, claims=[claim])["pooled"]
    assert found.verdict == verdict
    assert (found.kind, found.pool, found.n) == (said["kind"], pool, 5)
    assert [c.label for c in found.cells] == ["wide", "narrow"]
    assert all(c.n == 5 and c.interval for c in found.cells)
    assert found.as_dict()["cells"][0]["methods"][0] in ("wide", "floor")


def test_a_rank_over_cells(project):
    said = {"kind": "rank", "pool": "rank", "method": "wide", "among": ["wide", "narrow", "floor"]}
    claim = POOLED | said | {"dataset": "{d}", "cells": {"d": ["a", "b", "c", "e"]}}
    changes = {"datasets": {d: {"source": "line", "protocol": "all"} for d in "abce"}, "claims": [claim]}
    changes |= {"metrics": {"nll": {}}}
    for spec in project.plan("cpu", changes):
        write_made_up(spec, {"nll": MEANS[spec.method] + 0.1 * spec.seed})
    found = verdicts(gather(project.load(changes), "cpu"))[0]
    assert (found.verdict, found.estimate, found.dataset) == ("reproduced", 1.0, "a, b, c, e")
    assert "chance gives 2" in found.text
    assert [c.as_claimed for c in found.cells] == [True] * 4


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cells": {"m": ["wide"]}}, "at least 2"),
        ({"cells": {"m": ["wide", "wide"]}}, "two of its cells are the same"),
        ({"cells": ["wide", "narrow"]}, "cells must map names to values"),
        ({"pool": "rank"}, "`pool: rank` and `kind: rank` go together"),
        ({"pool": "median"}, "pool"),
        (
            {"pool": "mean", "kind": "bound", "better": None, "worse": None, "method": "{m}", "at_most": 1},
            "is for orders",
        ),
        ({"gate": {"metric": "nll"}}, "give one of `at_least`, `at_most` and `better_than`"),
        ({"gate": {"metric": "null", "at_least": 1}}, "names metric 'null'"),
        ({"gate": {"metric": "nll", "better_than": "flor"}}, "did you mean 'floor'"),
        ({"cells": {"m": ["wide", "norrow"]}}, "names method 'norrow'"),
    ],
)
def test_a_pooled_claim_that_makes_no_sense_is_refused_with_its_place(project, change, words):
    from latentbench.core.errors import UserError
    from latentbench.spec.validation import problems

    claim = POOLED | {
        "kind": "order",
        "better": "{m}",
        "worse": "floor",
        "pool": "sign",
        "cells": {"m": ["wide", "narrow"]},
    }
    claim = {k: v for k, v in (claim | change).items() if v is not None}
    try:
        found = [str(p) for p in problems(project.load({"claims": [claim]}))]
    except UserError as e:
        found = [str(e), *map(str, e.also)]
    assert any(words in one and "suites/small.yaml:" in one for one in found), found


RUNS = {"text": "t", "where": "w", "dataset": "line", "metric": "nll"}
ALIKE = RUNS | {"id": "runs", "kind": "correlation", "other": "kl", "methods": ["wide", "narrow", "floor"]}
SHARE = RUNS | {"id": "runs", "kind": "variance", "groups": {"sharp": ["wide", "narrow"], "none": ["floor"]}}


@pytest.mark.parametrize(
    ("claim", "verdict", "unit"),
    [
        (ALIKE | {"at_least": 0.2}, "reproduced", "1"),
        (ALIKE | {"at_most": 0.2}, "not-reproduced", "1"),
        (SHARE | {"at_least": 0.5}, "reproduced", "1"),
        (SHARE | {"at_most": 0.5}, "not-reproduced", "1"),
        (SHARE | {"at_least": 0.9, "groups": {}, "methods": ["wide", "narrow", "floor"]}, "reproduced", "1"),
    ],
)
def test_claims_about_all_runs_at_once(project, claim, verdict, unit):
    changes = {"claims": [claim], "metrics": {"nll": {}, "kl": {"metric": "nll", "settings": {}}}}
    kl = {"wide": [1, 2.5, 1.2, 2.2, 1.6], "narrow": [2, 1.9, 3, 1.5, 2.6], "floor": [3.5, 4, 3.2, 5, 3.8]}
    for method, values in CLEAR.items():
        for spec, x, y in zip(project.plan("cpu", changes, methods=[method], seeds=range(5)), values, kl[method]):
            write_made_up(spec, {"nll": x, "kl": y}, design=Fixed.of(range(5)))
    found = verdicts(gather(project.load(changes), "cpu"))[0]
    assert (found.verdict, found.n, found.unit) == (verdict, 5, unit)
    assert found.interval is not None
    assert found.metric == ("nll, kl" if claim["kind"] == "correlation" else "nll")


@pytest.mark.parametrize(
    ("claim", "words"),
    [
        (ALIKE, "give one of `at_least` and `at_most`"),
        (ALIKE | {"at_least": 1.5}, "between -1 and 1"),
        (ALIKE | {"at_least": -1}, "between -1 and 1"),
        (SHARE | {"at_least": -0.5}, "between 0 and 1"),
        (SHARE | {"at_least": 0}, "between 0 and 1"),
        (SHARE | {"at_most": 1}, "between 0 and 1"),
        (ALIKE | {"at_least": 0, "other": "nll"}, "name two metrics"),
        (ALIKE | {"at_least": 0, "other": "mig"}, "names metric 'mig'"),
        (ALIKE | {"at_least": 0, "methods": ["wide", "narrow", "flor"]}, "names method 'flor'"),
        (SHARE | {"at_most": 0.5, "groups": {"a": ["wide"], "b": ["wide", "floor"]}}, "each method is named once"),
        (SHARE | {"at_most": 0.5, "groups": {"a": ["wide"], "b": ["flor"]}}, "names method 'flor'"),
        (SHARE | {"at_most": 0.5, "exact": True}, "`exact`"),
        (SHARE | {"at_most": 0.5, "methods": ["wide", "floor"]}, "give two `groups` or more"),
        (SHARE | {"at_most": 0.5, "groups": {"a": ["wide", "floor"]}}, "give two `groups` or more"),
    ],
)
def test_claims_about_all_runs_that_make_no_sense_are_refused(project, claim, words):
    from latentbench.core.errors import UserError
    from latentbench.spec.validation import problems

    changes = {"claims": [claim], "metrics": {"nll": {}, "kl": {"metric": "nll", "settings": {}}}}
    try:
        found = [str(p) for p in problems(project.load(changes))]
    except UserError as e:
        found = [str(e), *map(str, e.also)]
    assert any(words in one and "suites/small.yaml:" in one for one in found), found


def test_pooled_claims_are_judged_sequentially_too(project):
    from latentbench.results.settling import declaration, standing

    claim = POOLED | {
        "kind": "order",
        "better": "{m}",
        "worse": "floor",
        "pool": "mean",
        "cells": {"m": ["wide", "narrow"]},
    }
    loaded = project.load({"claims": [claim]})
    declaration(loaded, "cpu", 6, project.results)
    found = judged(project, claims=[claim])["pooled"]
    assert found.sequential
    assert found.verdict == "reproduced"
    assert standing(loaded, "cpu", None, project.results).unsettled == []


def test_far_and_failed_seeds_are_named(project):
    values = {"wide": [1.0, 1.2, 1.1, 1.05, -2750.0], "narrow": [2.0, 2.3, 2.1, 2.05, 2.2]}
    order = judged(project, values, [ORDER])["order"]
    assert order.outliers == ("far from the other seeds of wide on line: seed 4 (-2750 nats)",)
    assert order.outliers[0] in order.text
    write_made_up(project.plan("cpu", {"claims": [ORDER]}, methods=["narrow"], seeds=[5])[0], {}, status="diverged")
    again = verdicts(gather(project.load({"claims": [ORDER]}), "cpu"))[0]
    assert "without a result of narrow on line: seed 5 (diverged)" in again.outliers
