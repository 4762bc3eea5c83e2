"""Scale mixtures of NNGPs: kernels by quadrature, posteriors by joint laws, choices by a plain search."""

from __future__ import annotations

from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo
from latentbench.papers.scale_mixture_nngp import nets, regression
from latentbench.papers.scale_mixture_nngp.kernels import kernels, moment, posterior
from latentbench.papers.scale_mixture_nngp.laws import (
    covered,
    distribution,
    law_miscoverage,
    law_nll,
    law_rmse,
    log_density,
)
from latentbench.papers.scale_mixture_nngp.nets import WideNets, distance, ks_to_limit, outputs
from latentbench.papers.scale_mixture_nngp.regression import Burr, Constant, InverseGamma, Nngp, simulated
from scipy import stats
from scipy.optimize import minimize_scalar
from scipy.special import erf

INFO = DataInfo((3,), "real", 60, columns={"y": (1,)})
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(200)


def expectation(activation, k, left, right):
    """E[phi(u) phi(v)] by quadrature over u and over what v adds to it."""
    phi = {"erf": erf, "relu": lambda a: np.maximum(a, 0)}[activation]
    u = np.sqrt(left) * NODES[:, None]
    v = k / left * u + np.sqrt(right - k**2 / left) * NODES[None]
    return float((np.outer(WEIGHTS, WEIGHTS) * phi(u) * phi(v)).sum() / (2 * np.pi))


@pytest.mark.parametrize("activation", ["erf", "relu"])
@pytest.mark.parametrize(("k", "left", "right"), [(0.3, 1.0, 2.0), (-0.7, 0.8, 1.5), (0.0, 1.0, 1.0), (1.1, 2.0, 0.7)])
def test_moments_are_those_of_quadrature(activation, k, left, right):
    found = moment(activation, *(torch.tensor(a, dtype=torch.float64) for a in (k, left, right)))
    assert float(found) == pytest.approx(
        expectation(activation, k, left, right), abs=2e-3 if activation == "relu" else 1e-9
    )


def test_moments_of_relu_in_closed_form():
    one = torch.ones((), dtype=torch.float64)
    values = [float(moment("relu", c * one, one, 4 * one)) for c in (2.0, 0.0, -2.0)]
    assert values == pytest.approx([1.0, 1 / np.pi, 0.0], abs=1e-12)


@pytest.mark.parametrize("activation", ["erf", "relu"])
def test_kernels_by_recursion_for_one_pair(activation):
    g = np.random.default_rng(0)
    x, others, w, b = g.standard_normal((4, 3)), g.standard_normal((5, 3)), 1.7, 0.4

    def pair(p, q, layers):
        if layers == 0:
            return w * p @ q / 3 + b
        inner = [pair(*each, layers - 1) for each in ((p, q), (p, p), (q, q))]
        value = float(moment(activation, *(torch.tensor(a, dtype=torch.float64) for a in inner)))
        return w * value + b

    found = dict(zip((1, 3), kernels(torch.tensor(x), torch.tensor(others), activation, w, b, (1, 3)), strict=True))
    for depth, (k, variances) in found.items():
        expected = [[(pair(p, q, depth) - b) / w for q in others] for p in x]
        np.testing.assert_allclose(k.numpy(), expected, atol=1e-10)
        np.testing.assert_allclose(variances.numpy(), [(pair(q, q, depth) - b) / w for q in others], atol=1e-7)


def test_a_row_of_zeros_without_biases_gives_zeros():
    x = torch.zeros(1, 3, dtype=torch.float64)
    for k, variance in kernels(x, torch.cat([x, x + 1]), "relu", 2.0, 0.0, (1, 4)):
        assert k.tolist() == [[0.0, 0.0]]
        assert variance[0] == 0.0


def example(n=6, m=3, seed=1):
    """(K over training and new rows, training rows', targets) of an erf network."""
    g = np.random.default_rng(seed)
    x = torch.tensor(g.standard_normal((n + m, 2)))
    k, prior = next(kernels(x, x, "erf", 2.0, 0.1, (2,)))
    return k, prior, torch.tensor(2 * g.standard_normal(n))


@pytest.mark.parametrize("observed", [False, True])
def test_a_posterior_by_inverses(observed):
    k, prior, y = example()
    found = posterior(k[:6], prior, y, 0.05, observed)
    amount = 0.05 * np.diag(k)[:6].mean()
    full = k.numpy()
    s, cross = full[:6, :6] + amount * np.eye(6), full[:6, 6:]
    np.testing.assert_allclose(found.mean, cross.T @ np.linalg.inv(s) @ y.numpy())
    variance = np.diag(full[6:, 6:] - cross.T @ np.linalg.inv(s) @ cross) + amount * observed
    np.testing.assert_allclose(found.variance, variance)
    assert found.quadratic == pytest.approx(float(y.numpy() @ np.linalg.inv(s) @ y.numpy()))


def law_of(found, scale, which=slice(None)):
    return {"mean": found.mean.numpy()[which], "std": found.variance.sqrt().numpy()[which], **scale._asdict()}


def test_an_inverse_gamma_prior_gives_the_conditional_of_a_joint_student_law():
    k, prior, y = example()
    found = posterior(k[:6], prior, y, 0.05, True)
    amount = 0.05 * float(prior[:6].mean())
    new = np.array([0.3, -1.2, 4.0])
    scales = list(InverseGamma(INFO).scales(found, 6, np.zeros(1)))
    assert len(scales) == 36
    for (alpha, beta), scale in zip(product(regression.SHAPES, repeat=2), scales, strict=True):
        for i in range(3):
            rows = [*range(6), 6 + i]
            joint = k.numpy()[np.ix_(rows, rows)] + amount * np.eye(7)
            both = stats.multivariate_t(shape=beta / alpha * joint, df=2 * alpha).logpdf([*y.tolist(), new[i]])
            alone = stats.multivariate_t(shape=beta / alpha * joint[:6, :6], df=2 * alpha).logpdf(y.numpy())
            assert log_density(law_of(found, scale), new)[i] == pytest.approx(both - alone, abs=1e-8)


def test_draws_of_burr_weighted_by_the_likelihood_are_its_posterior():
    k, prior, y = example()
    y /= posterior(k[:6], prior, y, 0.05, False).quadratic ** 0.5 / 6**0.5  # so that v near 1 is likely
    found = posterior(k[:6], prior, y, 0.05, False)
    mean, variance = float(found.mean[0]), float(found.variance[0])
    even = (np.arange(40000) + 0.5) / 40000
    v = np.geomspace(1e-3, 1e4, 20001)
    for (c, d), scale in zip(product((1, 2, 3), repeat=2), Burr(INFO).scales(found, 6, even), strict=True):
        assert scale.weights.sum() == pytest.approx(1.0)
        joint = stats.burr12.pdf(v, c, d) * v**-3.0 * np.exp(-0.5 * found.quadratic / v)
        evidence = np.trapezoid(joint, v)
        for at in mean + np.sqrt(variance) * np.array([-2.0, 0.1, 1.0]):
            expected = np.trapezoid(joint * stats.norm.pdf(at, mean, np.sqrt(v * variance)), v) / evidence
            got = np.exp(log_density(law_of(found, scale, slice(1)), np.array([at])))[0]
            assert got == pytest.approx(expected, rel=2e-3)


def test_the_fitted_last_layer_maximises_the_marginal_likelihood():
    k, prior, y = example()
    found = posterior(k[:6], prior, y, 0.05, False)
    s = k[:6, :6].numpy() + 0.05 * float(prior[:6].mean()) * np.eye(6)

    def negative(log_v):
        return -stats.multivariate_normal(cov=np.exp(log_v) * s).logpdf(y.numpy())

    (scale,) = Nngp(INFO, last="likelihood").scales(found, 6, np.zeros(1))
    assert float(scale.variances[0]) == pytest.approx(np.exp(minimize_scalar(negative).x), rel=1e-5)
    assert [float(s.variances[0]) for s in Nngp(INFO).scales(found, 6, np.zeros(1))] == [1.0, 4.0]
    fine = [float(s.variances[0]) for s in Nngp(INFO, last="fine").scales(found, 6, np.zeros(1))]
    assert len(fine) == 36
    assert (fine[0], fine[-1]) == pytest.approx((0.01, 100))


MIXTURE = {"mean": np.array([0.5, -1.0]), "std": np.array([0.7, 2.0]), "df": np.inf}
MIXTURE |= {"weights": np.array([0.3, 0.7]), "variances": np.array([0.5, 4.0])}
STUDENT = {**MIXTURE, "df": 3.0, "weights": np.ones(1), "variances": np.array([2.5])}


def test_densities_and_distributions_of_laws():
    y = np.array([0.1, 2.0])
    plain = sum(
        w * stats.norm.pdf(y, MIXTURE["mean"], np.sqrt(v) * MIXTURE["std"]) for w, v in ((0.3, 0.5), (0.7, 4.0))
    )
    np.testing.assert_allclose(log_density(MIXTURE, y), np.log(plain))
    spread = np.sqrt(2.5) * STUDENT["std"]
    np.testing.assert_allclose(log_density(STUDENT, y), stats.t.logpdf(y, 3, STUDENT["mean"], spread))
    np.testing.assert_allclose(distribution(STUDENT, y), stats.t.cdf(y, 3, STUDENT["mean"], spread))
    for law in (MIXTURE, STUDENT):
        slope = (distribution(law, y + 1e-5) - distribution(law, y - 1e-5)) / 2e-5
        np.testing.assert_allclose(slope, np.exp(log_density(law, y)), rtol=1e-6)
        np.testing.assert_allclose(distribution(law, law["mean"]), 0.5)
    edge = STUDENT["mean"] + stats.t.ppf(0.975, 3) * spread
    assert covered(STUDENT, edge - 1e-6).all()
    assert covered(STUDENT, 2 * STUDENT["mean"] - edge + 1e-6).all()
    assert not covered(STUDENT, 2 * STUDENT["mean"] - edge - 1e-6).any()
    assert not covered(STUDENT, edge + 1e-6).any()


def test_measures_of_two_problems():
    truths = [np.array([0.5, 3.0]), np.array([0.5, -1.0])]
    study = SimpleNamespace(answered=lambda: (({"y": y}, STUDENT) for y in truths))
    expected = -np.mean([log_density(STUDENT, y) for y in truths])
    assert law_nll(study, None, {}, None).value == pytest.approx(expected)
    assert law_rmse(study, None, {}, None).value == pytest.approx(4 / np.sqrt(2) / 2)
    far = SimpleNamespace(answered=lambda: (({"y": y + 100 * (y == 3)}, STUDENT) for y in truths))
    assert law_miscoverage(far, None, {}, None).value == pytest.approx(0.2)


def table(cls=Nngp, n=60, **settings):
    g = np.random.default_rng(5)
    x = np.column_stack([g.standard_normal((n, 2)) * [1, 30], np.full(n, 7.0)])
    study = cls(INFO, design="rows", **settings)
    y = torch.tensor(x[:, :1] + 5 + 0.1 * g.standard_normal((n, 1)))
    study.start(Batch(torch.tensor(x).float(), n, columns={"y": y}), torch.Generator().manual_seed(3))
    return study, x, y[:, 0].numpy()


def test_problems_are_splits_of_the_rows():
    study, _, y = table()
    problem = study.problem(np.random.default_rng(0))
    assert [len(problem.given[k]) for k in ("x", "y", "y_valid")] == [60, 48, 6]
    assert len(problem.truth["y"]) == 6
    z = problem.given["x"]
    np.testing.assert_allclose(z[:48, :2].mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(z[:48, :2].std(0), 1, atol=1e-6)
    assert (z[:, 2] == 0).all()
    np.testing.assert_allclose(problem.given["y"].std(), 1)
    targets = np.concatenate([problem.given["y"], problem.given["y_valid"], problem.truth["y"]])
    assert np.corrcoef(targets, z[:, 0])[0, 1] > 0.99  # rows stay together
    back = targets * (y.std() / targets.std())
    np.testing.assert_allclose(np.sort(back - back.mean()), np.sort(y - y.mean()), atol=1e-9)
    again = table(InverseGamma)[0].problem(np.random.default_rng(0))
    np.testing.assert_array_equal(again.given["x"], z)
    other = study.problem(np.random.default_rng(1))
    assert np.abs(other.given["x"] - z).max() > 0.5
    assert len(table(most=40)[0].problem(np.random.default_rng(0)).given["x"]) == 40


def test_shifted_rows_are_farthest_along_a_direction():
    study, x, y = table(shift=True)
    problem = study.problem(np.random.default_rng(0))
    rng = np.random.default_rng(0)
    order = rng.permutation(60)
    z = (x[:, :2] - x[:, :2].mean(0)) / x[:, :2].std(0)
    along = z[order] @ rng.standard_normal(3)[:2]
    inner = np.sort(y[order][np.argsort(along)[-6:]])
    scale, shift = np.polyfit(np.sort(problem.truth["y"]), inner, 1)
    np.testing.assert_allclose(scale * np.sort(problem.truth["y"]) + shift, inner, atol=1e-8)
    assert not np.allclose(np.sort(along), along[np.argsort(y[order])])
    plain = problem.given["x"][:54, :2] @ rng.standard_normal(2)
    assert np.abs(stats.spearmanr(plain, np.arange(54)).statistic) < 0.5  # training and validation rows are mixed


def test_rows_need_a_target():
    with pytest.raises(UserError, match="one target each"):
        Nngp(DataInfo((3,), "real", 60), design="rows")


def test_a_stopped_study_has_its_rows_again():
    study = table(Constant, problems=2)[0]
    study.advance(None, None)
    other = Constant(INFO, design="rows", problems=2)
    other.load_state_dict(study.state_dict())
    for s in (study, other):
        s.advance(None, None)
    assert law_nll(other, None, {}, None).value == law_nll(study, None, {}, None).value
    assert law_nll(other, None, {}, None).value == pytest.approx(1.4, abs=0.6)


@pytest.mark.parametrize("observed", [False, True])
@pytest.mark.parametrize("cls", [Nngp, InverseGamma])
def test_answers_are_the_best_of_a_plain_search(cls, observed):
    """All networks, by naive inverses; the law that suits the validation rows best."""
    study = table(cls, n=30, depths=[2, 1], observed=observed)[0]
    given = study.problem(np.random.default_rng(2)).given
    x, y, y_valid = torch.tensor(given["x"]), given["y"], given["y_valid"]
    n, m = len(y), len(y_valid)
    best, law = -np.inf, None
    for activation, w, b, depth, e in product(("relu", "erf"), (1, 2, 4), (0, 0.09, 1), (1, 2), (5, 6, 7, 8, 9)):
        k = next(kernels(x, x, activation, w, b, (depth,)))[0].numpy()
        amount = 10 ** (-6 + e / 2) * np.trace(k[:n, :n]) / n
        inverse = np.linalg.inv(k[:n, :n] + amount * np.eye(n))
        mean = k[n:, :n] @ inverse @ y
        variance = np.diag(k[n:, n:] - k[n:, :n] @ inverse @ k[:n, n:]) + amount * observed
        if cls is Nngp:
            choices = [(np.inf, np.sqrt(v * variance)) for v in (1, 4)]
        else:
            choices = [
                (2 * a + n, np.sqrt((2 * beta + y @ inverse @ y) / (2 * a + n) * variance))
                for a, beta in product((0.5, 1, 1.5, 2, 4, 8), repeat=2)
            ]
        for df, spread in choices:
            value = stats.t.logpdf(y_valid, df, mean[:m], spread[:m]).mean()
            if value > best:
                best, law = value, (df, mean[m:], spread[m:])
    answer = study.answer(given, np.random.default_rng(0))
    at = np.linspace(-2, 2, len(answer["mean"]))
    np.testing.assert_allclose(log_density(answer, at), stats.t.logpdf(at, *law), atol=1e-5)


def test_burr_takes_its_draws_from_the_stream():
    study = table(Burr, n=30, depths=[1])[0]
    given = study.problem(np.random.default_rng(2)).given
    one, same, other = (study.answer(given, np.random.default_rng(s)) for s in (0, 0, 1))
    np.testing.assert_array_equal(one["variances"], same["variances"])
    assert one["variances"].max() != other["variances"].max()


@pytest.mark.parametrize(("design", "n", "decay"), [("normal-noise", 100, 0.02), ("t-noise", 300, 0.0)])
def test_simulated_series_have_the_characteristic_function_of_their_law(design, n, decay):
    g = np.random.default_rng(0)
    x = simulated(design, g)[0]
    y = np.array([simulated(design, g)[1] for _ in range(300)])
    assert x.shape == (n, 1)
    assert (x[0, 0], x[-1, 0]) == (-n / 2, n / 2)
    heavy = 0.8 if design == "t-noise" else 0.0
    for s in (0.5, 1.0):
        expected = np.exp(-(0.5 + decay) * s**2 - heavy * s)
        assert np.cos(s * y).mean() == pytest.approx(expected, abs=0.02)
    step = x[1, 0] - x[0, 0]
    together = np.exp(-(1 - np.exp(-0.5 * step**2)) - 2 * decay - 2 * heavy)  # of cos(y1 - y2)
    assert np.cos(y[:, 1:] - y[:, :-1]).mean() == pytest.approx(together, abs=0.02)


@pytest.mark.parametrize("size", [1.0, 0.05])  # where inputs are small, biases are most of it
def test_networks_have_the_second_moment_of_their_limit_at_every_width(size):
    g = np.random.default_rng(0)
    x = size * np.array([[1.0, -2.0, 0.5, 3.0]])
    second = (nets.W * (nets.W * (x @ x.T).item() / 4 + nets.B) / 2 + nets.B) / 2
    limit = next(kernels(torch.tensor(x), torch.tensor(x), "relu", nets.W, nets.B, (2,)))[0].item()
    assert limit == pytest.approx(second)
    for width in (3, 16):
        f = outputs(x, width, np.full(40000, 2.5), g)
        assert f.shape == (40000, 1)
        assert (f**2).mean() / 2.5 == pytest.approx(second, rel=0.06)
        assert f.mean() == pytest.approx(0, abs=0.1)


@pytest.mark.parametrize("shift", [0.2, -0.2])
def test_distance_is_that_of_kolmogorov_and_smirnov(shift):
    x = np.random.default_rng(0).standard_normal(200) + shift
    assert distance(stats.norm.cdf(x)) == pytest.approx(stats.kstest(x, "norm").statistic)


def test_draws_of_exact_gaussian_outputs_follow_the_limit(monkeypatch):
    """The prior on v, the direction and the limit's scale and degrees of freedom, without any network."""

    def exact(x, width, v, rng):
        rows = torch.tensor(x)
        k = next(kernels(rows, rows, "relu", nets.W, nets.B, (2,)))[0].numpy()
        return np.sqrt(v)[:, None] * rng.multivariate_normal(np.zeros(3), k, len(v))

    monkeypatch.setattr(nets, "outputs", exact)
    study = WideNets(INFO, draws=20000, alpha=1.2, beta=3.0, problems=2)
    study.start(None, torch.Generator().manual_seed(0))
    while not study.done():
        study.advance(None, None)
    assert ks_to_limit(study, None, {}, None).value < 0.012


def test_narrow_networks_are_farther_from_the_limit():
    values = []
    for width in (1, 64):
        study = WideNets(INFO, width=width, draws=5000)
        study.start(None, torch.Generator().manual_seed(0))
        study.advance(None, None)
        values.append(ks_to_limit(study, None, {}, None).value)
    assert values[0] > 0.1
    assert values[1] < 0.03
