"""Claims about all runs of many methods at once."""

from __future__ import annotations

import numpy as np
import pytest
from latentbench.core.errors import UserError
from latentbench.stats.across_runs import judge_correlation, judge_variance
from latentbench.stats.claims import settle
from latentbench.stats.samples import Sample
from latentbench.stats.simulate_runs import Design, wrong
from scipy import stats

METHODS = ["a", "b", "c", "d", "e"]


def table(rng, means, seeds=6, spread=1.0):
    return {m: dict(enumerate(rng.normal(at, spread, seeds))) for m, at in zip(METHODS, means)}


def plain(values):
    return np.array([list(v.values()) for v in values.values()])


def jackknife(statistic, *tables):
    """Mean and standard error of the pseudo-values of z, one seed left out at a time, by plain loops."""
    n = tables[0].shape[1]
    pseudo = []
    for i in range(n):
        kept = [j for j in range(n) if j != i]
        z = np.arctanh([statistic(*tables), statistic(*(t[:, kept] for t in tables))])
        pseudo.append(n * z[0] - (n - 1) * z[1])
    return np.mean(pseudo), np.std(pseudo, ddof=1) / np.sqrt(n)


def r_squared(values, belongs=(0, 0, 1, 1, 1)):
    """Of a regression on dummies, by least squares."""
    x = np.repeat(np.eye(2)[list(belongs)], values.shape[1], axis=0)
    y = values.ravel()
    rest = y - x @ np.linalg.lstsq(x, y, rcond=None)[0]
    return 1 - (rest**2).sum() / ((y - y.mean()) ** 2).sum()


def test_the_correlation_is_spearmans_with_the_jackknifes_error():
    rng = np.random.default_rng(0)
    x = table(rng, [0, 1, 2, 3, 4])
    y = {m: {s: 0.5 * v + rng.normal() for s, v in values.items()} for m, values in x.items()}
    found = judge_correlation(x, y, 0.2, "above", names=("mig", "sap"))
    z, error = jackknife(lambda a, b: stats.spearmanr(a.ravel(), b.ravel()).statistic, plain(x), plain(y))
    assert found.estimate == pytest.approx(np.tanh(z))
    assert found.p_reproduced == pytest.approx(stats.t.sf((z - np.arctanh(0.2)) / error, 5))
    assert found.p_against == pytest.approx(stats.t.cdf((z - np.arctanh(0.2)) / error, 5))
    ends = np.tanh([z - stats.t.ppf(0.975, 5) * error, z + stats.t.ppf(0.975, 5) * error])
    assert (found.low, found.high) == pytest.approx(tuple(ends))
    assert (found.n, found.kind, found.reference) == (6, "correlation", 0.2)
    assert "mig and sap over the runs of 5 methods" in found.text
    below = judge_correlation(x, y, 0.2, "below")
    assert (below.p_reproduced, below.side) == (pytest.approx(found.p_against), -found.side)


def test_the_share_is_that_of_a_regression_on_groups():
    values = table(np.random.default_rng(1), [0, 1, 3, 2, 4])
    groups = {"one": ["d", "a"], "two": ["e", "c", "b"]}
    found = judge_variance(values, groups, 0.5, "below", name="mig")
    z, error = jackknife(lambda t: np.sqrt(r_squared(t, (0, 1, 1, 0, 1))), plain(values))
    assert found.estimate == pytest.approx(np.tanh(z) ** 2)
    assert found.p_reproduced == pytest.approx(stats.t.cdf((z - np.arctanh(np.sqrt(0.5))) / error, 5))
    assert 0 < found.low < found.estimate < found.high < 1
    assert "mig's variance that 2 groups of 5 methods explain" in found.text
    assert found.needed_n is not None


def test_methods_without_groups_of_their_own_explain_nothing_and_all_of_it():
    rng = np.random.default_rng(2)
    groups = {m: [m] for m in METHODS}
    all_of_it = judge_variance(table(rng, [0, 50, 100, 150, 200]), groups, 0.9, "above")
    nothing = judge_variance(table(rng, [0, 0, 0, 0, 0], seeds=40), groups, 0.3, "below")
    assert [j.verdict for j in settle([all_of_it, nothing])] == ["reproduced", "reproduced"]
    turned = judge_variance(table(rng, [0, 50, 100, 150, 200]), groups, 0.9, "below")
    assert settle([turned])[0].verdict == "not-reproduced"


@pytest.mark.parametrize("design", [Design(5, 2.0, groups=2), Design(5, 1.0, slope=0.6)])
def test_both_hold_their_level_at_the_limit(design):
    """The limit is what the number is with seeds without end; on the share itself 9 to 12 % would be wrong."""
    limit, above, below = wrong(design, 8, 400, np.random.default_rng(3), 0.05)
    assert 0.2 < limit < 0.7
    assert max(above, below) <= 0.08


def test_simulated_designs_are_what_they_say():
    x, y = Design(4, 6.0, groups=2, slope=0.5, noise=0.1).draw(5000, np.random.default_rng(0))
    assert x.mean(1) == pytest.approx([0, 2, 4, 6], abs=0.1)
    assert x.std(1) == pytest.approx(np.ones(4), abs=0.05)
    assert (y - 0.5 * x).std() == pytest.approx(0.1, abs=0.01)
    assert Design(4, 6.0, groups=2).truth(np.random.default_rng(1)) == pytest.approx(4 / 6, abs=0.02)  # 4 of 5 + 1


def test_a_method_without_randomness_gives_its_value_to_every_seed_and_lost_seeds_are_left_out():
    rng = np.random.default_rng(4)
    values = table(rng, [0, 1, 2, 3, 4], seeds=5)
    values["b"] = Sample.of({0: 1.5}, deterministic=True)
    values["d"][2] = None
    found = judge_variance(values, {"one": ["a", "b"], "two": ["c", "d", "e"]}, 0.5, "above")
    whole = np.array([[1.5] * 4 if m == "b" else [values[m][s] for s in (0, 1, 3, 4)] for m in METHODS])
    assert found.estimate == pytest.approx(np.tanh(jackknife(lambda t: np.sqrt(r_squared(t)), whole)[0]) ** 2)
    assert (found.n, found.failed) == (4, 1)
    assert "1 of 21 runs failed" in found.text


def test_runs_that_two_metrics_order_alike_are_so_for_every_seed():
    values = table(np.random.default_rng(7), [0, 1, 2, 3, 4])
    doubled = {m: {s: 2 * v for s, v in of.items()} for m, of in values.items()}
    found = judge_correlation(values, doubled, 0.5, "above")
    assert settle([found])[0].verdict == "reproduced"
    assert 0.99 < found.estimate <= 1


def test_ranks_that_agree_for_every_seed_are_a_coincidence_of_coarse_numbers():
    """Ranks are the same whichever seed is left out: a sign test, but where no number varies at all."""
    apart = table(np.random.default_rng(8), [0, 9, 18, 27, 36], seeds=5, spread=0.1)
    turned = {m: dict.fromkeys(range(5), at) for m, at in zip(METHODS, [0.0, 2.0, 1.0, 4.0, 3.0])}
    found = judge_correlation(apart, turned, 0.5, "above")
    assert found.low == pytest.approx(found.high)
    assert 0.7 < found.estimate < 0.9
    assert (found.p_reproduced, found.p_against) == (0.5**5, 1)
    still = {m: dict.fromkeys(range(5), next(iter(of.values()))) for m, of in apart.items()}
    assert judge_correlation(still, turned, 0.5, "above").p_reproduced == 0


def test_a_run_without_one_of_two_metrics_is_lost_once():
    x, y = (table(np.random.default_rng(seed), [0, 1, 2, 3, 4]) for seed in (9, 10))
    x["a"][0] = y["a"][0] = x["b"][1] = y["c"][1] = None
    y["e"] = Sample.of({0: 4.0}, deterministic=True)
    found = judge_correlation(x, y, 0.0, "above")
    assert (found.n, found.failed) == (4, 3)
    assert "3 of 30 runs failed" in found.text
    x["d"] = {}
    absent = judge_correlation(x, y, 0.0, "above")
    assert (settle([absent])[0].verdict, absent.failed) == ("not-run", 9)
    assert "of 5 methods: 1 without a result; 9 of 30 runs failed" in absent.text


def test_too_few_seeds_or_equal_values_are_not_judged():
    rng = np.random.default_rng(5)
    groups = {"one": ["a", "b"], "two": ["c", "d", "e"]}
    two = judge_variance(table(rng, [0, 1, 2, 3, 4], seeds=2), groups, 0.1, "above")
    same = {m: dict.fromkeys(range(5), 0.25) for m in METHODS}
    level = judge_correlation(table(rng, [0, 1, 2, 3, 4], seeds=5), same, 0.0, "above")
    absent = judge_variance(table(rng, [0, 1, 2, 3, 4]) | {"e": {}}, groups, 0.1, "above")
    assert [j.verdict for j in settle([two, level, absent])] == ["insufficient", "insufficient", "not-run"]
    assert two.estimate is not None
    assert level.estimate is None
    assert "not defined" in level.text


@pytest.mark.parametrize(
    "wrong",
    [
        lambda v: judge_correlation(v, v, 1.2, "above"),
        lambda v: judge_correlation(v, v, -1, "above"),
        lambda v: judge_variance(v, {m: [m] for m in METHODS}, 0, "above"),
        lambda v: judge_variance(v, {m: [m] for m in METHODS}, 1, "below"),
        lambda v: judge_correlation(v, {m: v[m] for m in "abc"}, 0.0, "above"),
        lambda v: judge_correlation({m: v[m] for m in "ab"}, {m: v[m] for m in "ab"}, 0.0, "above"),
        lambda v: judge_variance(v, {"all": METHODS}, 0.5, "above"),
        lambda v: judge_variance(v, {"one": ["a", "b"], "two": ["b", "c", "d", "e"]}, 0.5, "above"),
        lambda v: judge_variance(v, {"one": ["a", "b"], "two": ["c", "d"]}, 0.5, "above"),
        lambda v: judge_variance(v, {"one": ["a", "b"], "two": ["c", "d", "e"]}, -0.1, "above"),
    ],
)
def test_what_makes_no_sense_is_refused(wrong):
    with pytest.raises(UserError):
        wrong(table(np.random.default_rng(6), [0, 1, 2, 3, 4]))
