"""Objectives against bounds recomputed with sigma points, theorems against minimisation, data and metrics by hand."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import DataInfo
from latentbench.papers.cvae_hvae_collapse import collapse
from scipy.optimize import minimize
from torch.distributions import Normal, kl_divergence

INFO = DataInfo((1,), "real", 1)
AWKWARD = {"rows": 40, "outputs": 4, "inputs": 2, "latents": 3, "eta_enc": 0.8, "eta_dec": 0.6, "spread": (2.0, 0.4)}
AWKWARD |= {"beta_1": 0.7, "sigma_1": 0.5, "correlation": 0.6}


def made(cls, learnable=True, **more):
    study = cls(INFO, **{**AWKWARD, "learnable": learnable, **more})
    given = study.problem(np.random.default_rng(3)).given
    return study, torch.from_numpy(given["x"]), torch.from_numpy(given["y"])


def weights(study, seed):
    rng = np.random.default_rng(seed)
    drawn = {k: torch.from_numpy(0.5 * rng.standard_normal(shape)) for k, shape in study.shapes().items()}
    return {**drawn, "s": torch.from_numpy(rng.uniform(0.3, 1.2, study.latents))}


def sigma_points(n):
    """(2 n, n), of mean zero and covariance one: means over them are exact for quadratics."""
    eye = n**0.5 * torch.eye(n, dtype=torch.float64)
    return torch.cat([eye, -eye])


def normal(mean, deviation):
    """In double precision, whatever is a plain number."""
    return Normal(torch.as_tensor(mean, dtype=torch.float64), torch.as_tensor(deviation, dtype=torch.float64))


def deviations(study, w):
    return w["s"].abs() if study.learnable else torch.full_like(w["s"], study.eta_enc)


def cvae_bound(study, w, x, y, beta):
    z = normal(x @ w["W1"].T + y @ w["W2"].T, deviations(study, w))
    decoded = [normal((z.mean + z.stddev * e) @ w["U1"].T + x @ w["U2"].T, study.eta_dec) for e in sigma_points(3)]
    kl = kl_divergence(z, normal(0.0, study.eta_enc)).mean(0)
    return beta * kl.sum() - sum(d.log_prob(y).sum(1).mean() for d in decoded) / 6, kl


def mhvae_bound(study, w, x, y, beta):
    """Both noises side by side, six numbers, so that their product's covariances are exact as well."""
    total, kls = 0.0, 0.0
    for e in sigma_points(6):
        lower = normal(y @ w["W1"].T, study.sigma_1)
        z1 = lower.mean + lower.stddev * e[:3]
        upper = normal(z1 @ w["W2"].T, deviations(study, w))
        prior = normal((upper.mean + upper.stddev * e[3:]) @ w["U2"].T, study.eta_dec)
        kl = kl_divergence(upper, normal(0.0, study.eta_enc)).mean(0)
        rate = (lower.log_prob(z1) - prior.log_prob(z1)).sum(1).mean()
        decoded = normal(z1 @ w["U1"].T, study.eta_dec).log_prob(y).sum(1).mean()
        total, kls = total + study.beta_1 * rate + beta * kl.sum() - decoded, kls + kl
    return total / 12, kls / 12


@pytest.mark.parametrize("learnable", [True, False])
@pytest.mark.parametrize(("cls", "bound"), [(collapse.LinearCVAE, cvae_bound), (collapse.LinearMHVAE, mhvae_bound)])
def test_objective_is_the_bound_and_answers_are_its_parts(cls, bound, learnable):
    study, x, y = made(cls, learnable)
    w, other = weights(study, 1), weights(study, 2)
    values = [(study.objective(v, x, y, 1.7) - bound(study, v, x, y, 1.7)[0]).item() for v in (w, other)]
    assert values[0] == pytest.approx(values[1], abs=1e-10)
    answer = study.found(w, x, y)
    np.testing.assert_allclose(answer["kl"], np.sort(bound(study, w, x, y, 1.7)[1])[::-1], rtol=1e-10)
    second = y.numpy().T @ y.numpy() / len(y)
    root = w["W1"].numpy() @ np.linalg.cholesky(second) if cls is collapse.LinearMHVAE else w["U1"].numpy()
    np.testing.assert_allclose(answer["lambdas"], np.linalg.svd(root)[1], rtol=1e-10)
    if cls is collapse.LinearMHVAE:
        np.testing.assert_allclose(answer["omegas"], np.linalg.svd(w["U2"].numpy())[1], rtol=1e-10)


@pytest.mark.parametrize("learnable", [True, False])
@pytest.mark.parametrize(("cls", "beta"), [(collapse.LinearCVAE, 2.0), (collapse.LinearMHVAE, 1.5)])
def test_long_training_ends_where_the_theorems_say(cls, beta, learnable):
    """On problems that have latents on either side of the threshold."""
    study = cls(INFO, **AWKWARD, learnable=learnable, betas=(beta,), iterations=600, rate=0.05)
    problem = study.problem(np.random.default_rng(3))
    answer = study.answer(problem.given, np.random.default_rng(5))
    for name, value in problem.truth.items():
        np.testing.assert_allclose(answer[name], value, atol=0.01, err_msg=name)
    upper = problem.truth.get("omegas", problem.truth["lambdas"])
    assert upper[0] > 0 == upper[-1]


@pytest.mark.parametrize("learnable", [True, False])
@pytest.mark.parametrize(("sigma", "beta"), [(0.4, 0.3), (0.4, 1.1), (1.5, 1.1), (1.5, 4.0)])
def test_two_levels_are_the_minimum_of_one_mode(sigma, beta, learnable):
    """The objective of a single mode, in lambda and omega, its other weights at their best."""
    study = collapse.LinearMHVAE(
        INFO, eta_enc=0.8, eta_dec=0.6, beta_1=0.7, sigma_1=sigma, learnable=learnable, outputs=1, latents=1, inputs=1
    )
    s2, c2, d2 = sigma**2, (0.6 / 0.8) ** 2, 0.6**2
    for theta in (0.2, 0.7, 1.5, 3.0):

        def mode(v, theta=theta):
            a, b = v[0] ** 2 + s2, 0.7 * v[1] ** 2 + beta * c2
            noise = beta * d2 * np.log(b) if learnable else b * 0.8**2
            return theta**2 * s2 / a + a * 0.7 * beta * c2 / b + noise

        ends = [minimize(mode, start, tol=1e-14) for start in ([0.1, 0.1], [2.0, 0.1], [0.1, 2.0], [2.0, 2.0])]
        best = min(ends, key=lambda end: end.fun)
        y = np.full((2, 1), theta)
        theory = study.theory(y, y, beta)
        found = [theory["lambdas"][0], theory["omegas"][0]]
        np.testing.assert_allclose(found, np.abs(best.x), atol=5e-3)
        assert mode(found) <= best.fun + 1e-12


def test_rows_have_the_deviations_and_correlations_that_are_asked_for():
    study = collapse.LinearCVAE(INFO, **{**AWKWARD, "rows": 200_000, "betas": (0.5, 2.0)})
    problems = [study.problem(np.random.default_rng(i)).given for i in range(2)]
    x, y = problems[0]["x"], problems[0]["y"]
    np.testing.assert_allclose(y.std(0), [2.0, 2.0 - 1.6 / 3, 0.4 + 1.6 / 3, 0.4], rtol=0.01)
    np.testing.assert_allclose(x.std(0), 1.0, rtol=0.01)
    expected = np.vstack([0.6 * np.eye(2), np.zeros((2, 2))])
    np.testing.assert_allclose(np.corrcoef(y.T, x.T)[:4, 4:], expected, atol=0.01)
    small = collapse.LinearCVAE(INFO, rows=2, betas=(0.5, 2.0))
    assert {small.problem(np.random.default_rng(i)).given["beta"] for i in range(20)} == {0.5, 2.0}
    for wrong in ({"inputs": 6}, {"latents": 6}, {"correlation": 1.1}):
        with pytest.raises(UserError):
            collapse.LinearCVAE(INFO, **wrong)


def test_training_is_adam_s_from_small_weights():
    """A first step of Adam moves every weight by the rate, against its gradient."""

    class Bare(collapse.LinearCVAE):
        def found(self, w, x, y):
            return {k: v.detach().clone() for k, v in w.items()}

    studies = [Bare(INFO, outputs=40, inputs=40, latents=40, iterations=n, rate=0.02, betas=(3.0,)) for n in (0, 1)]
    given = studies[0].problem(np.random.default_rng(0)).given
    start, moved = (study.answer(given, np.random.default_rng(7)) for study in studies)
    assert start["U2"].std() == pytest.approx(0.1, rel=0.1)
    assert 0 <= start["s"].min() < 0.1 < 0.9 < start["s"].max() <= 1
    start = {k: v.requires_grad_() for k, v in start.items()}
    studies[0].objective(start, torch.from_numpy(given["x"]), torch.from_numpy(given["y"]), 3.0).backward()
    for name, value in start.items():
        np.testing.assert_allclose(moved[name] - value.detach(), -0.02 * value.grad.sign(), rtol=1e-3)


def test_metrics_count_what_is_answered():
    names = ("lambdas", "kl")
    pairs = [
        (([1.0, 0.0], [0.3, 0.0]), ([0.8, 0.1], [0.2, 0.009])),
        (([2.0, 1.0], [0.4, 0.1]), ([2.3, 1.0], [0.5, 0.001])),
    ]
    study = SimpleNamespace(answered=lambda: ([dict(zip(names, np.array(v), strict=True)) for v in p] for p in pairs))

    def value(metric, **settings):
        return metric(study, None, settings, None).value

    assert value(collapse.theory_error, of="lambdas") == pytest.approx(0.15)
    assert value(collapse.collapsed_share, below=0.01) == 0.5
    assert value(collapse.collapsed_share, below=0.005) == 0.25
    assert value(collapse.collapse_foretold, below=0.01) == 0.5
    assert value(collapse.latent_kl) == pytest.approx(0.355)
