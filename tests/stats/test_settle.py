import random

import numpy as np
import pytest
from latentbench.core.errors import UserError
from latentbench.stats.claims import decide, judge_bound, judge_order, judge_trend, judge_value, settle

RNG = np.random.default_rng(0)


def seeds(mean, std, n):
    """`n` values with exactly this mean and standard deviation."""
    x = RNG.standard_normal(n)
    return dict(enumerate(mean + std * (x - x.mean()) / x.std(ddof=1)))


def bound_with_p_near(p, n=5):
    from scipy.stats import t

    return judge_bound(seeds(t.isf(p, n - 1) / np.sqrt(n), 1.0, n), 0.0, "above")


def test_holm_over_the_suite():
    ps = [0.001, 0.015, 0.04, 0.3]
    judgements = [bound_with_p_near(p) for p in ps]
    np.testing.assert_allclose([j.p_reproduced for j in judgements], ps, rtol=1e-9)
    assert decide(judgements) == ["reproduced", "reproduced", "insufficient", "insufficient"]
    assert [decide([j])[0] for j in judgements] == ["reproduced"] * 3 + ["insufficient"]
    assert decide(judgements, alpha=0.003) == ["insufficient"] * 4


def test_what_is_clear_by_itself_alone_is_said_to_be():
    judgements = [bound_with_p_near(p) for p in (0.001, 0.04, 0.3)]
    said = ["clear by itself, not as one of 3 claims (Holm)" in j.text for j in settle(judgements)]
    assert said == [False, True, False]
    judgements = [bound_with_p_near(p) for p in (0.03, 0.04, 0.3)]
    said = ["clear by itself, not as one of 3 claims (Holm)" in j.text for j in settle(judgements)]
    assert said == [True, True, False]
    assert not any("by itself" in settle([j])[0].text for j in judgements)


def test_claims_not_run_keep_their_place():
    found = bound_with_p_near(0.02)
    assert decide([found]) == ["reproduced"]
    assert decide([found, judge_bound({}, 0.0, "above"), judge_bound({0: 1.0}, 0.0, "above")]) == [
        "insufficient",
        "not-run",
        "insufficient",
    ]


def mixed():
    a, b = seeds(0.0, 1.0, 5), seeds(1.5, 1.0, 5)
    return [
        judge_value(a, 0.0, 3.0),
        judge_value(a, 0.2, 0.1),
        judge_value(a, 9.0, 0.1, "lower"),
        judge_order(a, b, "lower"),
        judge_order(b, a, "lower"),
        judge_trend([a, b, seeds(6.0, 1.0, 5)], "rises"),
        judge_bound(a, -0.7, "above"),
        judge_bound({}, 0.0, "above"),
    ]


def test_the_order_of_claims_does_not_matter():
    judgements = mixed()
    words = decide(judgements)
    assert {"reproduced", "consistent", "better", "not-run", "insufficient"} <= set(words)
    for i in range(5):
        order = list(range(len(judgements)))
        random.Random(i).shuffle(order)
        assert decide([judgements[k] for k in order]) == [words[k] for k in order]


def test_an_empty_suite_has_no_verdicts():
    assert settle([]) == []


@pytest.mark.parametrize("alpha", [0, 0.5, 5, -0.05])
def test_alpha_is_checked(alpha):
    with pytest.raises(UserError, match="alpha"):
        decide(mixed(), alpha)


def test_settled_claims_say_how_many_seeds_it_took_and_others_how_many_it_takes():
    for j in settle(mixed()):
        if j.verdict in ("reproduced", "better", "not-reproduced"):
            assert j.needed_n == j.n
        elif j.verdict in ("consistent", "insufficient") and j.needed_n is not None:
            assert j.needed_n > j.n
            assert f"about {j.needed_n} seeds" in j.text


def test_an_open_claim_asks_for_more_seeds_than_it_has():
    # With so little power asked for, the plan alone would be content with the two seeds that just failed.
    found = settle([bound_with_p_near(0.06, 5)], power=0.1)[0]
    assert found.verdict == "insufficient"
    assert found.needed_n == 6


def test_the_plan_is_for_the_whole_suite():
    claim = judge_bound(seeds(0.5, 1.0, 5), 0.0, "above")
    alone, among = settle([claim])[0], settle([claim] * 10)[0]
    assert alone.needed_n == claim.needed_n
    assert among.needed_n > alone.needed_n


MEAN, STD = 0.7, 1.0


@pytest.mark.parametrize(
    "judge",
    [
        lambda x: judge_bound(x(0), 0.0, "above"),
        lambda x: judge_bound(x(0), 1.4, "above"),
        lambda x: judge_order(x(0), list(x(1, mean=0.0).values()), "higher"),
        lambda x: judge_order(x(0), list(x(1, mean=0.0).values()), "lower"),
        lambda x: judge_value(x(0), 0.5, 1.0),
        lambda x: judge_value(x(0), 0.5, 1.0, reported_std=0.2, reported_runs=5),
        lambda x: judge_value(x(0), 4.5, 1.0, "lower"),
        lambda x: judge_trend([x(0, mean=0.0), x(1), x(2, mean=1.5)], "rises"),
        lambda x: judge_trend([x(0, mean=0.0), x(1), x(2, mean=0.1)], "rises"),
        lambda x: judge_trend([x(0, mean=0.0), x(1), x(2, mean=0.1)], "rises", shape="overall"),
    ],
)
@pytest.mark.parametrize("family", [1, 4])
def test_the_seeds_asked_for_settle_it(judge, family):
    """With the observed mean and spread as the truth, the plan reaches its power, and is not lavish."""

    def pilot(i, mean=MEAN):
        x = np.random.default_rng(i).standard_normal(2)
        return dict(enumerate(mean + STD * (x - x.mean()) / x.std(ddof=1)))

    # Levels and sides are independent: their seeds do not pair.
    first = judge(lambda i, mean=MEAN: {(i, k): v for k, v in pilot(i, mean).items()})
    plan = settle([first] * family)[0]
    assert plan.verdict in ("insufficient", "consistent")
    n = plan.needed_n
    assert n is not None
    rng = np.random.default_rng(9)

    def settled(n, repetitions=250):
        words = []
        for _ in range(repetitions):
            found = judge(lambda i, mean=MEAN: {(i, k): v for k, v in enumerate(rng.normal(mean, STD, n))})
            others = judge_bound({}, 0.0, "above")
            words.append(decide([found] + [others] * (family - 1))[0])
        return np.mean([w not in ("insufficient", "consistent") for w in words])

    assert settled(n) > 0.8 - 0.08
    if n > 3:
        assert settled(n // 2) < 0.8
