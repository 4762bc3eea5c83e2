from __future__ import annotations

import numpy as np
import pytest
from latentbench.core.errors import UserError
from latentbench.metrics import disentanglement as ds
from sklearn.feature_selection import mutual_info_classif
from sklearn.metrics import mutual_info_score
from sklearn.preprocessing import StandardScaler


def test_identity_codes_are_modular_compact_and_explicit(grid):
    result = ds.infomec(grid, grid, discrete_codes=True)
    assert (result.infom, result.infoc) == pytest.approx((1, 1))
    assert result.infoe > 0.95
    np.testing.assert_allclose(np.diag(result.nmi), 1)


def test_unrelated_and_constant_codes(grid, noise):
    blind = ds.infomec(noise, grid)
    assert blind.infoe < 0.05
    with pytest.raises(UserError, match="constant"):
        ds.infomec(np.zeros((len(grid), 2)), grid)
    partly = ds.infomec(np.c_[grid, np.zeros(len(grid))], grid, discrete_codes=True)
    assert partly.active.tolist() == [True, True, True, False]
    assert partly.infoc == pytest.approx(1.0)
    narrow = ds.infomec(np.c_[grid + 0.1 * noise, 0.01 * noise[:, :1]], grid)
    assert narrow.active.tolist() == [True, True, True, False]
    assert np.isfinite(narrow.nmi).all()


def test_information_is_scikit_learn_s(grid, noise):
    z = grid + noise
    expected = mutual_info_classif(
        StandardScaler().fit_transform(z), grid[:, 1], n_neighbors=10, random_state=0
    ) / mutual_info_score(grid[:, 1], grid[:, 1])
    np.testing.assert_allclose(ds.infomec(z, grid).nmi[1], expected, rtol=1e-12)


def test_one_code_for_all_factors_is_compact_but_not_modular():
    v = np.stack([np.arange(400) % 2, np.arange(400) // 2 % 2], axis=1)
    both = (v[:, :1] + 2 * v[:, 1:]).astype(float)
    result = ds.infomec(both, v, discrete_codes=True)
    assert (result.infom, result.infoc) == pytest.approx((0, 1))
