"""The law by its integrals, the energy distance by loops, latents by their quantiles, and the tail of known samples."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo
from latentbench.papers.dgm_statistical_capacity.heavy import StudentClusters, student_clusters
from latentbench.papers.dgm_statistical_capacity.measure import extreme_quantile_error, hill, tail_index
from latentbench.papers.dgm_statistical_capacity.push_forward import PushForward, energy_loss
from scipy import stats

LAW = StudentClusters(2, 4.0, 1.5)
INFO = DataInfo((3,), "real", 50)


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def made(**params: object) -> PushForward:
    torch.manual_seed(0)
    return PushForward(INFO, latent_dim=5, hidden=(7,), **params)


def test_the_density_integrates_to_one_and_to_the_entropy():
    axis = np.linspace(-80, 80, 1601)
    grid = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    assert np.exp(LAW.log_prob(grid)).sum() * 0.1**2 == pytest.approx(1, abs=1e-4)
    x = LAW.draw(400_000, np.random.default_rng(1))
    loss = -LAW.log_prob(x)
    assert loss.mean() == pytest.approx(LAW.entropy, abs=5 * loss.std() / math.sqrt(len(x)))


def test_draws_exceed_what_they_are_said_to():
    x = student_clusters(400_000, np.random.default_rng(2), dims=3, df=4.0, centre=1.5)["x"]
    assert (x.shape, x.dtype) == ((400_000, 3), np.float32)
    for level in (0.2, 0.01, 0.001):
        beyond = int((np.abs(x[:, 0]) > LAW.exceedance(level)).sum())
        assert stats.binomtest(beyond, len(x), level).pvalue > 1e-4
    assert stats.kstest(x[:, 2], stats.t(4).cdf).pvalue > 1e-4
    assert x[:, 0].mean() == pytest.approx(0, abs=0.02)


def test_energy_is_the_mean_over_pairs():
    x, y = torch.randn(4, 2, generator=gen(3)), torch.randn(5, 2, generator=gen(4)) + 1.0
    across = sum((a - b).norm() for a in x for b in y) / 20
    within = sum((a - b).norm() for i, a in enumerate(y) for j, b in enumerate(y) if i != j) / 20
    assert float(energy_loss(x, y)) == pytest.approx(float(2 * across - within), rel=1e-5)


def test_the_energy_is_least_at_the_law_itself():
    x = torch.from_numpy(LAW.draw(1500, np.random.default_rng(5)))
    same, moved, wide = (torch.from_numpy(LAW.draw(1500, np.random.default_rng(6))) for _ in range(3))
    best = energy_loss(x, same)
    assert best < energy_loss(x, moved + 0.4)
    assert best < energy_loss(x, 1.4 * wide)


@pytest.mark.parametrize(("df", "law"), [(0.0, stats.norm), (3.0, stats.t(3)), (6.0, stats.t(6))])
def test_latents_are_of_their_law_and_independent(df, law):
    u = made(df=df).latents(20_000, gen(7)).numpy()
    assert u.shape == (20_000, 5)
    assert min(stats.kstest(u[:, i], law.cdf).pvalue for i in range(5)) > 1e-4
    ranks = stats.spearmanr(np.abs(u)).statistic[np.triu_indices(5, 1)]
    assert np.abs(ranks).max() < 0.03


def test_the_loss_is_of_fresh_samples_and_reaches_every_weight():
    model, x = made(df=3.0), torch.randn(9, 3, generator=gen(8))
    found = model.loss(Batch(x, 50), gen(9))["loss"]
    assert found.item() == pytest.approx(energy_loss(x, model.sample(9, gen(9))).item())
    found.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


@pytest.mark.parametrize("index", [2.0, 5.0])
def test_hill_finds_the_index_of_a_pareto_law(index):
    x = np.random.default_rng(10).pareto(index, 200_000) + 1
    assert hill(x, 2000) == pytest.approx(index, abs=4 * index / math.sqrt(2000))


def test_hill_is_the_inverse_mean_of_log_excess():
    assert hill(np.exp([0.0, 2.5, -1.0, 1.0, 2.0]), 3) == pytest.approx(3 / 5.5)


class Known:
    """Draws of a law, in model space, where data are divided by 2."""

    def __init__(self, law: StudentClusters) -> None:
        self.law = law

    def sample(self, n: int, draws: torch.Generator) -> torch.Tensor:
        seed = int(torch.randint(2**31, (), generator=draws))
        return torch.from_numpy(self.law.draw(n, np.random.default_rng(seed)) / 2)


def view(oracle: object) -> SimpleNamespace:
    pipeline = SimpleNamespace(inverse=lambda y: 2 * y, arrange=lambda rows: rows)
    return SimpleNamespace(oracle=oracle, pipeline=pipeline, x=torch.zeros(1, 2))


def test_the_law_has_no_error_and_lighter_tails_do():
    index = {"samples": 40_000, "share": 0.01}
    error = {"samples": 40_000, "level": 1e-3}
    same = tail_index(Known(LAW), view(LAW), index, gen())
    assert same.value == pytest.approx(same.details["law"], abs=5 * same.se)
    assert same.se == pytest.approx(same.value / 20)
    light = Known(StudentClusters(2, 50.0, 1.5))
    assert tail_index(light, view(LAW), index, gen()).value > 1.5 * same.value
    found = extreme_quantile_error(Known(LAW), view(LAW), error, gen())
    assert max(found.value, found.details["floor"]) < 0.2
    far = extreme_quantile_error(light, view(LAW), error, gen())
    exact = StudentClusters(2, 50.0, 1.5).exceedance(1e-3) / LAW.exceedance(1e-3)
    assert far.value == pytest.approx(-math.log(exact), abs=0.1)
    assert far.details["ratio"] == pytest.approx(math.exp(-far.value))


def test_other_data_and_too_few_samples_are_refused():
    with pytest.raises(UserError, match="student-clusters"):
        tail_index(Known(LAW), view(None), {"samples": 1000, "share": 0.01}, gen())
    with pytest.raises(UserError, match="too few"):
        extreme_quantile_error(Known(LAW), view(LAW), {"samples": 1000, "level": 1e-3}, gen())
