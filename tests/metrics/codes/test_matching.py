from __future__ import annotations

import itertools

import numpy as np
import pytest
from latentbench.core.errors import UserError
from latentbench.metrics import disentanglement as ds
from scipy.stats import spearmanr


def test_mcc_is_blind_to_order_sign_and_scale(grid):
    assert ds.mcc(grid[:, [2, 0, 1]] * [-1.0, 5, 1e-6], grid) == pytest.approx(1.0)
    assert ds.mcc(np.exp(grid[:, [1, 2, 0]]), grid, correlation="spearman") == pytest.approx(1.0)
    assert ds.mcc(np.zeros(grid.shape), grid) == 0.0
    assert ds.mcc(grid[:, :1], grid) == pytest.approx(1 / 3)  # two factors have no code


@pytest.mark.parametrize("correlation", ["pearson", "spearman"])
def test_mcc_is_the_best_of_all_permutations(grid, noise, correlation):
    z = grid @ np.random.default_rng(3).normal(size=(3, 3)) + noise
    table = spearmanr(z, grid).statistic[:3, 3:] if correlation == "spearman" else np.corrcoef(z.T, grid.T)[:3, 3:]
    best = max(np.mean(np.abs(table[list(p), range(3)])) for p in itertools.permutations(range(3)))
    assert ds.mcc(z, grid, correlation=correlation) == pytest.approx(best, abs=1e-12)


def test_affine_mcc_undoes_a_mixing(grid, noise):
    mixing = np.random.default_rng(4).normal(size=(3, 3))
    assert ds.mcc_affine(grid @ mixing + 7, grid) == pytest.approx(1.0)
    assert ds.mcc(grid @ mixing, grid) < 0.95
    assert ds.mcc_affine(noise, grid) < 0.1


@pytest.mark.parametrize("method", ["lasso", "spearman"])
def test_udr_ranks_a_model_that_agrees_above_one_that_does_not(grid, noise, method):
    good = [grid[:, list(p)] * s for p, s in (((0, 1, 2), 1.0), ((2, 0, 1), -1.0), ((1, 2, 0), 3.0))]
    mixed = [grid @ np.random.default_rng(s).normal(size=(3, 3)) for s in range(2)]
    scores = [s.value for s in ds.udr([*good, *mixed], method=method)]
    assert min(scores[:3]) > max(scores[3:])
    agreed = ds.udr(good, method=method)[0].value  # the Lasso's penalty of 0.1 shrinks a coefficient of 1 to 0.9
    assert agreed == pytest.approx(0.9 if method == "lasso" else 1.0, abs=0.03)


def test_udr_leaves_out_codes_without_rate(grid, noise):
    z = [np.c_[grid, noise], np.c_[grid[:, ::-1], noise[::-1]]]
    rates = [np.r_[np.ones(3), np.zeros(3)]] * 2
    masked = ds.udr(z, rates, method="spearman")
    assert masked[0].value > ds.udr(z, method="spearman")[0].value
    assert masked[0].value == pytest.approx(ds.udr([c[:, :3] for c in z], method="spearman")[0].value)
    assert ds.udr(z, [np.zeros(6)] * 2)[0].value == 0.0
    with pytest.raises(UserError, match="models"):
        ds.udr(z, rates[:1])
    with pytest.raises(UserError, match="two or more"):
        ds.udr(z[:1])


def test_bad_options(grid):
    with pytest.raises(UserError, match="correlation"):
        ds.mcc(grid, grid, correlation="kendall")
    with pytest.raises(UserError, match="method"):
        ds.udr([grid, grid], method="ridge")
