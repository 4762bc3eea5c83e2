from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from latentbench.core.errors import UserError
from latentbench.metrics import disentanglement as ds
from latentbench.metrics.codes.information import entropies, mutual_information
from latentbench.metrics.codes.inputs import histogram_bins
from sklearn.metrics import mutual_info_score


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 300),
    st.integers(1, 40),
    st.sampled_from([np.float32, np.float64]),
    st.integers(0, 10**6),
    st.sampled_from(["normal", "grid", "constant", "tiny"]),
)
def test_bins_are_numpy_s(n, bins, dtype, seed, kind):
    rng = np.random.default_rng(seed)
    x = {
        "normal": rng.normal(scale=rng.choice([1e-30, 1.0, 1e30]), size=(n, 2)),
        "grid": rng.integers(-3, 9, size=(n, 2)) * 0.1,
        "constant": np.full((n, 2), 0.3),
        "tiny": 1 + rng.integers(0, 3, size=(n, 2)) * 1e-16,
    }[kind].astype(dtype)
    ours = histogram_bins(x, bins)
    for column, binned in zip(x.T, ours.T):
        if (column == column[0]).all():
            assert (binned == 0).all()
            continue
        try:
            expected = np.digitize(column, np.histogram(column, bins)[1][:-1]) - 1
        except ValueError:  # numpy cannot cut a range of a few units in the last place; its order must still hold
            assert (np.diff(binned[np.argsort(column)]) >= 0).all()
            assert (binned.min(), binned.max()) == (0, bins - 1)
        else:
            np.testing.assert_array_equal(binned, expected)


def test_many_bins_too():
    x = np.random.default_rng(0).normal(size=(500, 1)).astype(np.float32)
    expected = np.digitize(x[:, 0], np.histogram(x[:, 0], 5000)[1][:-1]) - 1
    np.testing.assert_array_equal(histogram_bins(x, 5000)[:, 0], expected)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 200), st.integers(1, 30), st.integers(1, 30), st.integers(0, 10**6), st.integers(-(2**62), 2**62))
def test_mutual_information_is_scikit_learn_s(n, a, b, seed, shift):
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, a, size=(n, 2)) * 10**6 + shift, rng.integers(0, b, size=(n, 3))
    ours = mutual_information(x, y)
    expected = [[mutual_info_score(y[:, k], x[:, j]) for k in range(3)] for j in range(2)]
    np.testing.assert_allclose(ours, expected, atol=1e-12)


def test_labels_at_the_ends_of_64_bits_do_not_overflow():
    ends = np.array([np.iinfo(np.int64).min, np.iinfo(np.int64).max] * 50)[:, None]
    np.testing.assert_allclose(mutual_information(ends, ends), [[math.log(2)]])
    np.testing.assert_allclose(entropies(ends), [math.log(2)])


def test_nearly_continuous_columns_need_no_square_histogram():
    x = np.random.default_rng(0).permutation(100_000)[:, None]  # 10^10 cells
    np.testing.assert_allclose(mutual_information(x, x), [[math.log(100_000)]])


def test_mig_of_identity_codes_is_one_and_of_independent_codes_nearly_none(grid, noise):
    assert ds.mig(grid, grid) == pytest.approx(1.0)
    assert ds.mig(noise, grid) < 0.03
    assert ds.mig(np.zeros_like(noise), grid) == 0.0
    assert ds.mig(np.c_[grid, grid], grid) == pytest.approx(0.0)  # every factor in two codes
    assert ds.mig(np.random.default_rng(0).permutation(grid), grid) < 0.03


def test_mig_in_closed_form():
    # one factor of 4 equal values; the first code tells it all (log 4), the second its parity (log 2)
    v = np.arange(400)[:, None] % 4
    assert ds.mig(np.c_[v, v % 2], v) == pytest.approx(0.5)
    assert ds.mig(v, v) == pytest.approx(1.0)  # one code: no runner-up


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e6])
def test_mig_ignores_scale_and_order_of_codes(grid, noise, scale):
    z = grid + 0.3 * noise
    assert ds.mig(z[:, ::-1] * scale, grid) == pytest.approx(ds.mig(z, grid), abs=1e-9)


def test_bins_are_part_of_the_metric_and_real_factors_can_be_binned(grid, noise):
    z = grid + 0.3 * noise
    assert ds.mig(z, grid, bins=5) != ds.mig(z, grid)
    with pytest.raises(UserError, match="fractions"):
        ds.mig(z, grid + 0.5 * noise)
    assert 0 < ds.mig(z, grid + 0.5 * noise, factor_bins=10) < 1


def test_modularity(grid, noise):
    assert ds.modularity(grid, grid) == pytest.approx(1.0)
    assert ds.modularity(np.zeros_like(noise), grid) == 0.0
    v = np.stack([np.arange(400) % 2, np.arange(400) // 2 % 2], axis=1)
    both = (v[:, 0] + 2 * v[:, 1])[:, None]  # informs of both factors equally
    assert ds.modularity(both, v) == pytest.approx(0.0)
    with pytest.raises(UserError, match="at least two"):
        ds.modularity(grid, grid[:, :1])


def test_mutual_information_score_between_codes(grid):
    assert ds.mutual_information_score(np.c_[grid[:, 0], grid[:, 0]]) == pytest.approx(math.log(4))
    assert ds.mutual_information_score(grid[:, :1]) == 0.0
    assert ds.mutual_information_score(grid) == pytest.approx(0, abs=1e-12)


def test_gaussian_mig_of_narrow_and_of_prior_posteriors(grid):
    def score(means, log_variances):
        g = torch.Generator().manual_seed(0)
        return ds.mig_gaussian(means, log_variances, grid, generator=g, samples=400)

    narrow = score(grid * 10.0, np.full(grid.shape, -2.0))
    assert narrow.value == pytest.approx(1.0, abs=0.06)
    np.testing.assert_allclose(np.diag(narrow.details["information"]), np.log([4, 5, 6]), atol=0.12)
    assert score(np.zeros(grid.shape), np.zeros(grid.shape)).value == pytest.approx(0, abs=0.06)


def test_gaussian_mig_against_numerical_integration():
    from scipy.integrate import quad
    from scipy.stats import norm

    v = np.arange(100)[:, None] % 2
    sd = 0.7
    density = lambda x: (norm.pdf(x, 0, sd) + norm.pdf(x, 1.5, sd)) / 2  # noqa: E731
    marginal = -quad(lambda x: density(x) * np.log(density(x)), -6, 8)[0]
    expected = marginal - norm(0, sd).entropy()
    g = torch.Generator().manual_seed(0)
    rows = np.tile(v, (60, 1))
    ours = ds.mig_gaussian(rows * 1.5, np.full(rows.shape, 2 * np.log(sd)), rows, generator=g, samples=2000)
    assert ours.details["information"][0][0] == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize(
    ("codes", "factors", "says"),
    [
        (np.full((4, 2), np.nan), np.arange(4)[:, None], "NaN"),
        (np.zeros((4, 2)), np.zeros((4, 1), dtype=int), "single value"),
        (np.zeros((4, 2)), np.arange(3)[:, None], "rows"),
        (np.zeros((1, 2)), np.zeros((1, 1), dtype=int), "at least 2"),
        (np.zeros(4), np.arange(4)[:, None], "shape"),
        (np.array([[-1.7e308], [1.7e308]]), np.arange(2)[:, None], "spans"),
    ],
)
def test_bad_input(codes, factors, says):
    with pytest.raises(UserError, match=says):
        ds.mig(codes, factors)
