import math

import numpy as np
import pytest
from latentbench.core.errors import UserError
from latentbench.stats.samples import Sample, compare, differences, shared_seeds


def test_what_is_not_finite_is_a_failure_and_nothing_else():
    s = Sample.of({0: 1.0, 1: math.nan, 2: math.inf, 3: None, 4: 2}, failed=2)
    assert s.values == {0: 1.0, 4: 2.0}
    assert (s.n, s.failed) == (2, 5)


def test_a_sample_given_again_keeps_what_it_knows():
    s = Sample.of({0: 1.0}, failed=1, deterministic=True)
    again = Sample.of(s, failed=2)
    assert again.failed == 3
    assert again.deterministic is True
    assert Sample.of(s, deterministic=False).deterministic is False


def test_blind_is_a_single_value_unless_declared_deterministic():
    assert Sample.of([1.0]).blind
    assert Sample.of([1.0], deterministic=False).blind
    assert not Sample.of([1.0], deterministic=True).blind
    assert Sample.of([], deterministic=True).blind
    assert not Sample.of([1.0, 1.0]).blind


@pytest.mark.parametrize("bad", [{0: "high"}, [object()], [[1.0, 2.0]]])
def test_values_are_numbers(bad):
    with pytest.raises(UserError, match="not a number"):
        Sample.of(bad)


def test_failed_is_a_count():
    with pytest.raises(UserError, match="negative"):
        Sample.of([1.0], failed=-1)


def of(*seeds):
    return Sample.of({k: float(k) for k in seeds})


@pytest.mark.parametrize(
    ("a", "b", "shared"),
    [
        ((0, 1, 2), (0, 1, 2), [0, 1, 2]),
        ((2, 0, 1), (0, 1, 2), [2, 0, 1]),
        ((0, 1, 2, 3, 4), (3, 4), [3, 4]),
        ((0, 1, 2), (1, 2, 3), [1, 2]),
        ((0, 1, 2, 3), (2, 3, 4, 5), []),  # half is not most of them
        ((0, 1, 2), (2, 3, 4), []),
        ((0,), (0,), []),
        ((0, 1), (5, 6), []),
    ],
)
def test_seeds_pair_when_most_are_shared(a, b, shared):
    assert shared_seeds([of(*a), of(*b)]) == shared


def test_sequences_have_no_seeds():
    assert shared_seeds([Sample.of([1.0, 2.0, 3.0]), of(0, 1, 2)]) == []


def test_pairing_is_by_seed_and_not_by_place():
    a, b = {0: 1.0, 1: 5.0, 2: 9.0}, {2: 8.0, 0: 0.5, 1: 4.0}
    found = compare([Sample.of(a), Sample.of(b)], [1.0, -1.0])
    assert found.paired
    assert float(found.contrast.estimate) == pytest.approx(np.mean([0.5, 1.0, 1.0]))


def test_seeds_of_one_side_alone_take_no_place_of_the_others():
    first, second = Sample.of({9: 50.0, 0: 1.0, 1: 4.0, 2: 9.0}), Sample.of({2: 8.0, 1: 3.5, 7: -20.0, 0: 1.0})
    found = compare([first, second], [1.0, -1.0])
    assert found.paired
    assert float(found.contrast.estimate) == pytest.approx(0.5)  # 0, 0.5 and 1
    assert float(sum(found.contrast.variances)) == pytest.approx(0.25)


def test_the_smallest_side_counts_unless_it_is_a_known_number():
    many = Sample.of([1.0, 2.0, 3.0, 4.0])
    assert compare([many, Sample.of([1.0, 2.0])], [1.0, -1.0]).n == 2
    assert compare([many, Sample.of([1.0], deterministic=True)], [1.0, -1.0]).n == 4


def test_methods_that_vary_in_step_are_no_numbers_without_randomness():
    """Equal differences of two varying methods are a coincidence or a coarse metric, not a proof."""
    a, b = Sample.of({0: 1.0, 1: 3.0}), Sample.of({0: 2.0, 1: 4.0})
    assert not compare([a, b], [1.0, -1.0]).exact
    assert compare([Sample.of({0: 1.0, 1: 1.0}), Sample.of({0: 2.0, 1: 2.0})], [1.0, -1.0]).exact


@pytest.mark.parametrize("seeds", [[0, 1, 2], [2, 1, 0], [0, 1, 7], [3, 4, 5], [0]])
def test_many_differences_are_those_of_one_comparison_each(seeds):
    """Some on the seeds of the first, some on others, one without randomness."""
    rng = np.random.default_rng(len(seeds))
    first = Sample.of({seed: float(rng.normal()) for seed in range(3)})
    alike = [Sample.of({seed: float(rng.normal(scale=s)) for seed in range(3)}) for s in (0.1, 1.0, 10.0)]
    others = [*alike, Sample.of({s: float(rng.normal()) for s in seeds}, deterministic=len(seeds) == 1), first]
    expected = [tuple(map(float, compare([first, o], [1.0, -1.0]).contrast.interval(0.95))) for o in others]
    assert differences(first, others) == expected
