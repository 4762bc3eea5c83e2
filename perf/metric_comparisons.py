"""Every metric beside an independent implementation, on the same arrays: what docs/metrics.md prints.

A comparison names its metric in the catalogue and returns ours and theirs. Peers are libraries where one computes the
metric, else the definition written out with other means (`by definition`).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import numpy as np
import torch
from latentbench.metrics import (
    ais,
    disentanglement,
    likelihood,
    posterior,
    prediction,
    reconstruction,
    representation,
    samples,
    structure,
    transport,
)

from perf.metric_peers import disentanglement_lib, torch_fidelity

fidelity = torch_fidelity("metric_fid")  # before torchmetrics, which would import it without its stand-in


@dataclass(frozen=True)
class Comparison:
    """One metric against one peer.

    Attributes:
        metric: its name in the catalogue; `part` says which of its numbers, where it has several.
        peer: distribution that computes the same, or `by definition`.
        inputs: what it was computed on.
        run: () -> ours, theirs.
        tolerance: largest |ours - theirs| that passes.
    """

    metric: str
    part: str
    peer: str
    inputs: str
    run: Callable[[], tuple[float, float]]
    tolerance: float

    @property
    def peer_version(self) -> str:
        """The peer with its version."""
        try:
            return f"{self.peer} {metadata.version(self.peer)}"
        except metadata.PackageNotFoundError:
            return self.peer


COMPARISONS: list[Comparison] = []
DEFINITION = "by definition"


def compare(
    metric: str, peer: str, inputs: str, *, part: str = "", tolerance: float = 1e-9
) -> Callable[[Callable[[], tuple[Any, Any]]], None]:
    """Add a comparison."""

    def add(run: Callable[[], tuple[Any, Any]]) -> None:
        COMPARISONS.append(Comparison(metric, part, peer, inputs, lambda: _floats(run()), tolerance))

    return add


def _floats(pair: tuple[Any, Any]) -> tuple[float, float]:
    ours, theirs = pair
    return float(getattr(ours, "value", ours)), float(theirs)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# ---- arrays that several comparisons share

SIZES = (3, 4, 5, 6)
FACTORS = np.stack([rng(100 + s).integers(0, s, 3000) for s in SIZES], axis=1)
CODES = FACTORS @ rng(2).normal(size=(4, 6)) + 0.5 * rng(3).normal(size=(3000, 6))
TEST = slice(2000, None)
F = "3,000 rows, 6 mixed noisy codes, 4 factors of 3 to 6 values"
REAL = rng(4).normal(size=(600, 16)) @ rng(5).normal(size=(16, 16))
FAKE = rng(6).normal(size=(500, 16)) @ rng(5).normal(size=(16, 16)) * 1.1 + 0.2
S = "600 and 500 Gaussian rows, 16 dimensions"
MEANS, LOG_VARIANCES = rng(7).normal(size=(150, 3)), rng(8).normal(size=(150, 3)) - 1
P = "150 diagonal Gaussian posteriors, 3 dimensions"


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# ---- likelihood


@compare("log_likelihood", "scipy", "1,000 draws from a 3-d Gaussian seen through y = 2x", tolerance=1e-9)
def _() -> tuple[Any, Any]:
    from scipy.stats import multivariate_normal

    x = rng().normal(size=(1000, 3))
    seen = multivariate_normal(np.zeros(3), 4 * np.eye(3)).logpdf(2 * x)
    return likelihood.log_likelihood(seen, 3 * math.log(2)), multivariate_normal(np.zeros(3)).logpdf(x).mean()


@compare("bits_per_dim", DEFINITION, "uniform density over 256 levels: 8 bits")
def _() -> tuple[Any, Any]:
    return likelihood.bits_per_dim(np.zeros(10), 784, -784 * math.log(256)), 8.0


@compare("elbo", "torch", f"{P}; rate as torch.distributions' KL", tolerance=1e-6)
def _() -> tuple[Any, Any]:
    normal = torch.distributions.Normal
    q = normal(torch.tensor(MEANS), torch.tensor(LOG_VARIANCES).mul(0.5).exp())
    rate = torch.distributions.kl_divergence(q, normal(torch.zeros(3).double(), torch.ones(3).double())).sum(1)
    return likelihood.elbo(posterior.gaussian_rate(MEANS, LOG_VARIANCES).sum(1), np.ones(150)), -(rate.mean() + 1)


@compare("importance_bound", "scipy", "500 x 40 log-weights of spread 30, one logsumexp")
def _() -> tuple[Any, Any]:
    from scipy.special import logsumexp

    w = rng().normal(scale=30, size=(500, 40))
    return likelihood.importance_bound(w), (logsumexp(w, axis=0) - math.log(500)).mean()


@compare("perplexity", "torchmetrics", "2 x 50 tokens, 20 words", tolerance=1e-4)
def _() -> tuple[Any, Any]:
    from torchmetrics.functional.text import perplexity

    logits, target = torch.randn(2, 50, 20, generator=generator()), torch.arange(100).view(2, 50) % 20
    lp = logits.double().log_softmax(-1).gather(-1, target[..., None])[..., 0].sum(1)
    return likelihood.perplexity(lp, [50, 50]), perplexity(logits, target)


@compare("attainable_share", DEFINITION, "halfway between floor and optimum")
def _() -> tuple[Any, Any]:
    return likelihood.attainable_share(likelihood.log_likelihood([-2.0, -1.0]), -2.0, -1.0), 0.5


@compare(
    "annealed_importance_sampling",
    "torch",
    "linear-Gaussian model with its exact log-likelihood, 30 data, 1,000 temperatures, 16 chains: an estimate",
    tolerance=0.1,
)
def _() -> tuple[Any, Any]:
    g = generator()
    w = torch.randn(4, 2, generator=g, dtype=torch.float64)
    x = torch.randn(30, 2, generator=g).double() @ w.T + 0.3 * torch.randn(30, 4, generator=g).double()
    exact = torch.distributions.MultivariateNormal(torch.zeros(4).double(), w @ w.T + 0.09 * torch.eye(4).double())

    def log_normal(u: torch.Tensor) -> torch.Tensor:
        return (-0.5 * (u.square() + math.log(2 * math.pi))).sum(-1)

    found = ais.annealed_importance_sampling(
        log_normal,
        lambda z: log_normal((x - z @ w.T) / 0.3) - 4 * math.log(0.3),
        torch.randn(16, 30, 2, generator=g, dtype=torch.float64),
        generator=g,
        betas=ais.temperatures(1000),
        leapfrog=5,
    )
    return found.bound.log_prob().mean(), exact.log_prob(x).mean()


# ---- posterior


@compare("active_units", DEFINITION, P)
def _() -> tuple[Any, Any]:
    means = MEANS * [1, 0.5, 0.01]
    return posterior.active_units(means), (np.cov(means.T).diagonal() > 0.01).sum()


@compare("posterior_collapse", "torch", f"{P}, one of them the prior; KL as torch.distributions'")
def _() -> tuple[Any, Any]:
    means, lv = MEANS * [1, 1, 0], LOG_VARIANCES * [1, 1, 0]
    normal = torch.distributions.Normal
    q = normal(torch.tensor(means), torch.tensor(lv).mul(0.5).exp())
    kl = torch.distributions.kl_divergence(q, normal(torch.zeros(3).double(), torch.ones(3).double()))
    return posterior.posterior_collapse(means, lv), ((kl < 0.01).double().mean(0) >= 0.99).double().mean()


def _aggregate(part: str) -> tuple[Any, Any]:
    """All terms by scipy's densities at the very codes that ours draws."""
    from scipy.special import logsumexp
    from scipy.stats import norm

    g = generator()
    order = torch.randperm(150, generator=g)
    mu, std = MEANS[order], np.exp(LOG_VARIANCES[order] / 2)
    z = mu + torch.randn(150, 3, generator=g, dtype=torch.float64).numpy() * std
    terms = norm(MEANS, np.exp(LOG_VARIANCES / 2)).logpdf(z[:, None])
    joint = logsumexp(terms.sum(2), axis=1) - math.log(150)
    product = (logsumexp(terms, axis=1) - math.log(150)).sum(1)
    theirs = {
        "mutual_information": norm(mu, std).logpdf(z).sum(1) - joint,
        "total_correlation": joint - product,
        "kl": joint - norm.logpdf(z).sum(1),
    }
    found = posterior.aggregate_posterior(MEANS, LOG_VARIANCES, generator=generator())
    return getattr(found, part), theirs[part].mean()


for _part in ("mutual_information", "total_correlation", "kl"):
    compare("aggregate_posterior", "scipy", P, part=_part)(lambda part=_part: _aggregate(part))


@compare(
    "aggregate_posterior", DEFINITION, f"{P}, rows of one minibatch; eq. S6 row by row", part="mss total_correlation"
)
def _() -> tuple[Any, Any]:
    from scipy.stats import norm

    g, n, size = generator(), 150, 1000
    order = torch.randperm(n, generator=g)
    mu, std = MEANS[order], np.exp(LOG_VARIANCES[order] / 2)
    z = mu + torch.randn(n, 3, generator=g, dtype=torch.float64).numpy() * std
    terms = []
    for i in range(n):
        density = norm(mu, std).pdf(z[i])  # (n, 3): of code i under every posterior
        own, last = density[i], density[(i + 1) % n]
        rest = np.delete(density, [i, (i + 1) % n], axis=0)
        m = n - 1

        def s6(own: Any, last: Any, rest: Any, m: int = m) -> Any:
            return own / size + rest.sum(0) / m + last * (size - m) / (size * m)

        joint = s6(own.prod(), last.prod(), rest.prod(1))
        terms.append(np.log(joint) - np.log(s6(own, last, rest)).sum())
    found = posterior.aggregate_posterior(
        MEANS, LOG_VARIANCES, generator=generator(), estimator="mss", batch=n, dataset_size=size
    )
    return found.total_correlation, np.mean(terms)


@compare("gaussian_total_correlation", "disentanglement_lib", F)
def _() -> tuple[Any, Any]:
    peer = disentanglement_lib("unsupervised_metrics")
    return posterior.gaussian_total_correlation(CODES), peer.gaussian_total_correlation(np.cov(CODES.T))


# ---- disentanglement


class _GroundTruth:
    """disentanglement_lib's view of the shared arrays: training rows, then test rows."""

    num_factors = len(SIZES)

    def __init__(self, *parts: slice) -> None:
        self._parts = list(parts)

    def sample(self, *_: Any) -> tuple[Any, Any]:
        part = self._parts.pop(0)
        return FACTORS[part], CODES[part]


def _whole(metric: str, function: str, key: str) -> float:
    peer = getattr(disentanglement_lib(metric), function)
    options = {"num_train": 3000, "batch_size": 3000}
    return peer(_GroundTruth(slice(None)), lambda z: z, None, **options)[key]


@compare("mig", "disentanglement_lib", F)
def _() -> tuple[Any, Any]:
    return disentanglement.mig(CODES, FACTORS), _whole("mig", "compute_mig", "discrete_mig")


@compare("mig_gaussian", "scipy", "9,000 posteriors, one binary factor; integrals by quadrature", tolerance=0.03)
def _() -> tuple[Any, Any]:
    from scipy.integrate import quad
    from scipy.stats import norm

    def density(x: float) -> float:
        return (norm.pdf(x, 0, 0.7) + norm.pdf(x, 1.5, 0.7)) / 2

    marginal = -quad(lambda x: density(x) * math.log(density(x)), -6, 8)[0]
    v = np.arange(9000)[:, None] % 2
    ours = disentanglement.mig_gaussian(v * 1.5, np.full(v.shape, 2 * math.log(0.7)), v, generator=generator())
    return ours, (marginal - norm(0, 0.7).entropy()) / math.log(2)


@compare("mutual_information_score", "disentanglement_lib", F)
def _() -> tuple[Any, Any]:
    theirs = _whole("unsupervised_metrics", "unsupervised_metrics", "mutual_info_score")
    return disentanglement.mutual_information_score(CODES), theirs


@compare("irs", "disentanglement_lib", F)
def _() -> tuple[Any, Any]:
    return disentanglement.irs(CODES, FACTORS), _whole("irs", "compute_irs", "IRS")


def _dci(part: str, key: str) -> tuple[Any, Any]:
    peer = disentanglement_lib("dci")
    classifier = peer.ensemble.GradientBoostingClassifier
    rows, test = slice(0, 400), slice(400, 600)
    peer.ensemble.GradientBoostingClassifier = lambda: classifier(random_state=0)
    try:
        theirs = peer._compute_dci(CODES[rows].T, FACTORS[rows].T, CODES[test].T, FACTORS[test].T)
    finally:
        peer.ensemble.GradientBoostingClassifier = classifier
    return getattr(disentanglement.dci(CODES[:600], FACTORS[:600]), part), theirs[key]


for _part, _key in (
    ("disentanglement", "disentanglement"),
    ("completeness", "completeness"),
    ("informativeness", "informativeness_test"),
):
    compare("dci", "disentanglement_lib", "first 600 of those rows, the peer's seed set to 0", part=_part)(
        lambda part=_part, key=_key: _dci(part, key)
    )


@compare("sap", "disentanglement_lib", F)
def _() -> tuple[Any, Any]:
    peer = disentanglement_lib("sap_score")
    train = slice(0, 2000)
    theirs = peer._compute_sap(CODES[train].T, FACTORS[train].T, CODES[TEST].T, FACTORS[TEST].T, False)
    return disentanglement.sap(CODES, FACTORS), theirs["SAP_score"]


def _explicit(part: str, key: str) -> tuple[Any, Any]:
    peer = disentanglement_lib("modularity_explicitness")
    data = _GroundTruth(slice(0, 2000), TEST)
    theirs = peer.compute_modularity_explicitness(
        data, lambda z: z, None, num_train=2000, num_test=1000, batch_size=2000
    )
    return getattr(disentanglement.modularity_explicitness(CODES, FACTORS), part), theirs[key]


for _part, _key in (("modularity", "modularity_score"), ("explicitness", "explicitness_score_test")):
    compare("modularity_explicitness", "disentanglement_lib", F, part=_part)(
        lambda part=_part, key=_key: _explicit(part, key)
    )


@compare("modularity", "disentanglement_lib", F)
def _() -> tuple[Any, Any]:
    utils, peer = disentanglement_lib("utils"), disentanglement_lib("modularity_explicitness")
    information = utils.discrete_mutual_info(utils.make_discretizer(CODES.T), FACTORS.T)
    return disentanglement.modularity(CODES, FACTORS), peer.modularity(information)


class _Recorded:
    """A source that hands ours' draws to the peer: a ground truth, its codes as observations, and a random state."""

    n_factors = num_factors = len(SIZES)

    def __init__(self) -> None:
        self._source = disentanglement.ArraySource(CODES, FACTORS)
        self.calls: list[tuple[int, list[np.ndarray]]] = []
        self._current: list[np.ndarray] = []

    # ours
    def random(self, n: int, r: np.random.Generator) -> np.ndarray:
        return self._source.random(n, r)

    def fixed(self, factors: np.ndarray, size: int, r: np.random.Generator) -> np.ndarray:
        z = self._source.fixed(factors, size, r)
        self.calls += [(int(k), [batch]) for k, batch in zip(factors, z, strict=True)]
        return z

    def pairs(self, factors: np.ndarray, size: int, r: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        first, second = self._source.pairs(factors, size, r)
        self.calls += [(int(k), [a, b]) for k, a, b in zip(factors, first, second, strict=True)]
        return first, second

    # theirs
    def sample_observations(self, *_: Any) -> np.ndarray:
        return CODES

    def randint(self, *_: Any) -> int:
        factor, self._current = self.calls.pop(0)
        return factor

    def sample_factors(self, n: int, _: Any) -> np.ndarray:
        return np.zeros((n, self.num_factors))

    def sample_observations_from_factors(self, *_: Any) -> np.ndarray:
        return self._current.pop(0)


@compare("factor_vae_score", "disentanglement_lib", f"{F}; 1,000 + 500 batches of 64, the same draws")
def _() -> tuple[Any, Any]:
    source = _Recorded()
    ours = disentanglement.factor_vae_score(source=source, train=1000, test=500, variance_samples=3000)
    peer = disentanglement_lib("factor_vae")
    theirs = peer.compute_factor_vae(
        source, lambda z: z, source, None, batch_size=64, num_train=1000, num_eval=500, num_variance_estimate=3000
    )
    return ours, theirs["eval_accuracy"]


@compare("beta_vae_score", "disentanglement_lib", f"{F}; 1,000 + 500 batches of 64, the same draws")
def _() -> tuple[Any, Any]:
    source = _Recorded()
    ours = disentanglement.beta_vae_score(source=source, train=1000, test=500)
    peer = disentanglement_lib("beta_vae")
    seed, peer.linear_model.LogisticRegression = peer.linear_model.LogisticRegression, _unseeded
    try:
        theirs = peer.compute_beta_vae_sklearn(
            source, lambda z: z, source, None, batch_size=64, num_train=1000, num_eval=500
        )
    finally:
        peer.linear_model.LogisticRegression = seed
    return ours, theirs["eval_accuracy"]


def _unseeded(random_state: Any = None) -> Any:  # noqa: ARG001 (the recorded draws are no numpy random state)
    from sklearn.linear_model._logistic import LogisticRegression

    return LogisticRegression()


@compare("mcc", DEFINITION, "4 of those codes; the best of all permutations")
def _() -> tuple[Any, Any]:
    table = np.abs(np.corrcoef(CODES[:, :4].T, FACTORS.T)[:4, 4:])
    best = max(table[list(order), range(4)].mean() for order in itertools.permutations(range(4)))
    return disentanglement.mcc(CODES[:, :4], FACTORS), best


@compare("mcc_affine", "statsmodels", F)
def _() -> tuple[Any, Any]:
    return disentanglement.mcc_affine(CODES, FACTORS), _canonical(CODES, FACTORS).mean()


def _canonical(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    from statsmodels.multivariate.cancorr import CanCorr

    return np.asarray(CanCorr(y.astype(float), x).cancorr)


def _infomec(part: str) -> tuple[Any, Any]:
    """The definition with scikit-learn's estimators, as in the authors' code."""
    from sklearn.feature_selection import mutual_info_classif
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss, mutual_info_score
    from sklearn.preprocessing import StandardScaler

    z = StandardScaler().fit_transform(CODES)
    found = disentanglement.infomec(CODES, FACTORS)
    if part == "infoe":
        shares = []
        for y in FACTORS.T:
            fitted = LogisticRegression(C=np.inf, class_weight="balanced").fit(z, y)
            null = LogisticRegression(C=np.inf, class_weight="balanced").fit(np.zeros_like(z), y)
            worst = log_loss(y, null.predict_proba(np.zeros_like(z)))
            shares.append(1 - log_loss(y, fitted.predict_proba(z)) / worst)
        return found.infoe, np.mean(shares)
    nmi = np.stack([mutual_info_classif(z, y, n_neighbors=10, random_state=0) for y in FACTORS.T])
    nmi /= np.array([[mutual_info_score(y, y)] for y in FACTORS.T])
    axis = 0 if part == "infom" else 1
    n = nmi.shape[axis]
    return getattr(found, part), ((nmi.max(axis) / nmi.sum(axis)).mean() - 1 / n) / (1 - 1 / n)


for _part in ("infom", "infoe", "infoc"):
    compare("infomec", "scikit-learn", F, part=_part, tolerance=1e-6)(lambda part=_part: _infomec(part))


@compare("udr", DEFINITION, "two models, three codes, rank correlation")
def _() -> tuple[Any, Any]:
    from scipy.stats import spearmanr

    a, b = CODES[:, :3], CODES[:, 3:]
    table = np.abs(spearmanr(a, b).statistic[:3, 3:])
    sides = [(table.max(axis) ** 2 / table.sum(axis)).mean() for axis in (0, 1)]
    return disentanglement.udr([a, b], method="spearman")[0], np.mean(sides)


@compare("udr", "scikit-learn", "two models, three codes, Lasso of alpha 0.1")
def _() -> tuple[Any, Any]:
    from sklearn.linear_model import Lasso
    from sklearn.preprocessing import StandardScaler

    a, b = (StandardScaler().fit_transform(c) for c in (CODES[:, :3], CODES[:, 3:]))
    # the first model's score: how its codes are predicted from the other's
    table = np.abs(np.stack([Lasso(alpha=0.1).fit(b, column).coef_ for column in a.T]))
    sides = [(table.max(axis) ** 2 / table.sum(axis)).mean() for axis in (0, 1)]
    return disentanglement.udr([a, b])[0], np.mean(sides)


# ---- samples


def _moments() -> list[dict[str, np.ndarray]]:
    return [{"mu": x.mean(0), "sigma": np.cov(x.T)} for x in (REAL, FAKE)]


@compare("frechet_distance", "torch-fidelity", S, tolerance=1e-6)
def _() -> tuple[Any, Any]:
    theirs = fidelity.fid_statistics_to_metric(*_moments(), False)[fidelity.KEY_METRIC_FID]
    return samples.frechet_distance(REAL, FAKE), theirs


@compare("frechet_distance", "torchmetrics", S, tolerance=1e-6)
def _() -> tuple[Any, Any]:
    from torchmetrics.image.fid import _compute_fid

    return samples.frechet_distance(REAL, FAKE), _compute_fid(
        *(torch.tensor(m[k]) for m in _moments() for k in ("mu", "sigma"))
    )


@compare("frechet_distance_infinite", "scikit-learn", f"{S}; intercept of the regression on 1/N", tolerance=1e-6)
def _() -> tuple[Any, Any]:
    from sklearn.linear_model import LinearRegression

    r, sizes, distances = rng(), np.unique(np.linspace(50, 500, 15).astype(int)), []
    for size in sizes:
        distances.append(samples.frechet_distance(REAL, FAKE[r.permutation(500)[:size]]))
    line = LinearRegression().fit(1 / sizes[:, None], distances)
    return samples.frechet_distance_infinite(REAL, FAKE, rng=rng()), line.intercept_


@compare("kid", "torch-fidelity", f"{S}; 20 subsets of 300, the same", tolerance=1e-6)
def _() -> tuple[Any, Any]:
    peer = torch_fidelity("metric_kid")
    theirs = peer.kid_features_to_metric(
        torch.tensor(REAL), torch.tensor(FAKE), kid_subsets=20, kid_subset_size=300, verbose=False, rng_seed=2020
    )
    ours = samples.kid(REAL, FAKE, subsets=20, subset_size=300, rng=np.random.RandomState(2020))
    return ours, theirs[peer.KEY_METRIC_KID_MEAN]


@compare("mmd", "scikit-learn", f"{S}, bandwidth 5")
def _() -> tuple[Any, Any]:
    from sklearn.metrics.pairwise import rbf_kernel

    xx, yy, xy = (rbf_kernel(a, b, gamma=1 / 50) for a, b in ((REAL, REAL), (FAKE, FAKE), (REAL, FAKE)))
    within = [(k.sum() - np.trace(k)) / len(k) / (len(k) - 1) for k in (xx, yy)]
    return samples.mmd(REAL, FAKE, bandwidth=5.0), sum(within) - 2 * xy.mean()


@compare("energy_distance", "scipy", "one dimension of those rows")
def _() -> tuple[Any, Any]:
    from scipy.stats import energy_distance

    return samples.energy_distance(REAL[:, :1], FAKE[:, :1]), energy_distance(REAL[:, 0], FAKE[:, 0])


@compare("sliced_wasserstein", "POT", f"{S}; 100 directions, the same")
def _() -> tuple[Any, Any]:
    import ot

    directions = rng().normal(size=(100, 16))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    theirs = ot.sliced_wasserstein_distance(REAL, FAKE, projections=directions.T, p=2)
    return samples.sliced_wasserstein(REAL, FAKE, directions=directions), theirs


for _part in ("precision", "recall"):

    def _precision_recall(part: str = _part) -> tuple[Any, Any]:
        peer = torch_fidelity("metric_prc")
        theirs = peer.prc_features_to_metric(torch.tensor(FAKE), torch.tensor(REAL), verbose=False)
        return getattr(samples.precision_recall(REAL, FAKE), part), theirs[part]

    compare("precision_recall", "torch-fidelity", S, part=_part, tolerance=1e-6)(_precision_recall)

for _part in ("density", "coverage"):

    def _density_coverage(part: str = _part) -> tuple[Any, Any]:
        from prdc import compute_prdc

        theirs = compute_prdc(REAL, FAKE, nearest_k=5)
        return getattr(samples.density_coverage(REAL, FAKE), part), theirs[part]

    compare("density_coverage", "prdc", S, part=_part)(_density_coverage)


@compare("inception_score", "torch-fidelity", "500 x 10 logits, 10 parts, the same", tolerance=1e-6)
def _() -> tuple[Any, Any]:
    peer = torch_fidelity("metric_isc")
    logits = rng().normal(size=(500, 10)) * 2
    ours = samples.inception_score(logits, rng=np.random.RandomState(2020))
    return ours, peer.isc_features_to_metric(torch.tensor(logits))[peer.KEY_METRIC_ISC_MEAN]


@compare("vendi_score", "vendi-score", "600 rows, 16 dimensions, cosine", tolerance=1e-6)
def _() -> tuple[Any, Any]:
    from vendi_score import vendi

    return samples.vendi_score(REAL), vendi.score_dual(REAL, normalize=True)


@compare("c2st", "scikit-learn", "Gaussians one standard deviation apart; optimal accuracy Φ(½)", tolerance=0.03)
def _() -> tuple[Any, Any]:
    from scipy.stats import norm

    x, y = rng(1).normal(size=(2000, 2)), rng(2).normal(size=(2000, 2)) + np.array([1.0, 0])
    return samples.c2st(x, y, classifier="linear"), norm.cdf(0.5)


@compare("nearest_training_ratio", "scipy", "distances by cdist")
def _() -> tuple[Any, Any]:
    from scipy.spatial.distance import cdist

    test = rng(9).normal(size=(300, 16)) * 3
    reference = np.median(cdist(test, REAL).min(1))
    return samples.nearest_training_ratio(FAKE, REAL, test), (cdist(FAKE, REAL).min(1) < reference).mean()


@compare("authenticity", "scipy", "distances by cdist")
def _() -> tuple[Any, Any]:
    from scipy.spatial.distance import cdist

    own, cross = cdist(REAL, REAL), cdist(FAKE, REAL)
    np.fill_diagonal(own, np.inf)
    return samples.authenticity(FAKE, REAL), (cross.min(1) >= own.min(1)[cross.argmin(1)]).mean()


@compare("copying_statistic", "scipy", "one cell; Z of the Mann-Whitney test's p-value", tolerance=1e-6)
def _() -> tuple[Any, Any]:
    from scipy.spatial.distance import cdist
    from scipy.stats import mannwhitneyu, norm

    test = rng(9).normal(size=(300, 16)) * 3
    fake, held = cdist(FAKE[:300], REAL).min(1), cdist(test, REAL).min(1)
    p = mannwhitneyu(fake, held, use_continuity=False, alternative="less", method="asymptotic").pvalue
    return samples.copying_statistic(FAKE[:300], REAL, test, cells=1), norm.ppf(p)


# ---- representation

LABELS, OTHER = FACTORS[:, 3], FACTORS[:, 2]
ROWS = slice(0, 2000)


@compare("linear_probe", "scikit-learn", F)
def _() -> tuple[Any, Any]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    peer = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(CODES[ROWS], LABELS[ROWS])
    ours = representation.linear_probe(CODES[ROWS], LABELS[ROWS], CODES[TEST], LABELS[TEST])
    return ours, peer.score(CODES[TEST], LABELS[TEST])


@compare("knn_probe", "scipy", f"{F}; neighbours by cdist")
def _() -> tuple[Any, Any]:
    from scipy.spatial.distance import cdist

    nearest = np.argsort(cdist(CODES[TEST], CODES[ROWS]), axis=1)[:, :5]
    votes = [np.bincount(LABELS[ROWS][row]).argmax() for row in nearest]
    ours = representation.knn_probe(CODES[ROWS], LABELS[ROWS], CODES[TEST], LABELS[TEST])
    return ours, np.mean(votes == LABELS[TEST])


@compare("clustering_accuracy", DEFINITION, "two labellings of 3,000; best of all permutations")
def _() -> tuple[Any, Any]:
    predicted, labels = OTHER, (OTHER + (FACTORS[:, 0] == 0)) % 5
    best = max(np.mean(np.array(order)[predicted] == labels) for order in itertools.permutations(range(5)))
    return representation.clustering_accuracy(predicted, labels), best


MIXED = np.where(rng(10).random(3000) < 0.7, OTHER, FACTORS[:, 0])


@compare("nmi", "torchmetrics", "two labellings of 3,000", tolerance=1e-6)
def _() -> tuple[Any, Any]:
    from torchmetrics.functional.clustering import normalized_mutual_info_score

    return representation.nmi(MIXED, OTHER), normalized_mutual_info_score(torch.tensor(MIXED), torch.tensor(OTHER))


@compare("ari", "torchmetrics", "two labellings of 3,000", tolerance=1e-6)
def _() -> tuple[Any, Any]:
    from torchmetrics.functional.clustering import adjusted_rand_score

    return representation.ari(MIXED, OTHER), adjusted_rand_score(torch.tensor(MIXED), torch.tensor(OTHER))


@compare("silhouette", "scipy", "300 rows; distances by cdist")
def _() -> tuple[Any, Any]:
    from scipy.spatial.distance import cdist

    z, y = CODES[:300], LABELS[:300]
    d = cdist(z, z)
    sums = np.stack([d[:, y == c].sum(1) for c in range(6)], axis=1)
    counts = np.bincount(y)
    rows = np.arange(300)
    own = sums[rows, y] / (counts[y] - 1)
    means = sums / counts
    means[rows, y] = np.inf
    other = means.min(1)
    return representation.silhouette(z, y), np.mean((other - own) / np.maximum(own, other))


@compare("cka", DEFINITION, "500 rows, 6 and 4 columns; by N x N kernels")
def _() -> tuple[Any, Any]:
    centre = np.eye(500) - 1 / 500
    k, m = (centre @ x[:500] @ x[:500].T @ centre for x in (CODES, FACTORS))
    return representation.cka(CODES[:500], FACTORS[:500]), (k * m).sum() / np.sqrt((k * k).sum() * (m * m).sum())


@compare("svcca", "statsmodels", f"{F}; 99 % of the variance by scikit-learn's PCA", tolerance=1e-6)
def _() -> tuple[Any, Any]:
    from sklearn.decomposition import PCA

    x, y = (PCA(0.99).fit_transform(a) for a in (CODES, FACTORS.astype(float)))
    return representation.svcca(CODES, FACTORS, variance=0.99), _canonical(x, y).mean()


@compare("mean_correlation", "statsmodels", f"{F}; up to an affine map")
def _() -> tuple[Any, Any]:
    return representation.mean_correlation(CODES, FACTORS, up_to="affine"), _canonical(CODES, FACTORS).mean()


# ---- reconstruction

IMAGES = rng(11).random((3, 3, 192, 176))
NOISY = np.clip(IMAGES + 0.1 * rng(12).normal(size=IMAGES.shape), 0, 1)
I = "3 noisy images, 192 x 176 x 3"  # noqa: E741


@compare("mse", "scikit-learn", I)
def _() -> tuple[Any, Any]:
    from sklearn.metrics import mean_squared_error

    return reconstruction.mse(IMAGES, NOISY), mean_squared_error(IMAGES.ravel(), NOISY.ravel())


@compare("psnr", "scikit-image", I)
def _() -> tuple[Any, Any]:
    from skimage.metrics import peak_signal_noise_ratio

    ratios = [peak_signal_noise_ratio(a, b, data_range=1) for a, b in zip(IMAGES, NOISY, strict=True)]
    return reconstruction.psnr(IMAGES, NOISY, data_range=1), np.mean(ratios)


@compare("ssim", "scikit-image", I)
def _() -> tuple[Any, Any]:
    from skimage.metrics import structural_similarity

    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "channel_axis": 0}
    values = [structural_similarity(a, b, data_range=1, **options) for a, b in zip(IMAGES, NOISY, strict=True)]
    return reconstruction.ssim(IMAGES, NOISY, data_range=1), np.mean(values)


@compare("ms_ssim", "pytorch-msssim", f"{I}; the peer's window is float32", tolerance=1e-6)
def _() -> tuple[Any, Any]:
    from pytorch_msssim import ms_ssim

    theirs = ms_ssim(torch.tensor(IMAGES), torch.tensor(NOISY), data_range=1)
    return reconstruction.ms_ssim(IMAGES, NOISY, data_range=1), theirs


@compare("bits_per_pixel", DEFINITION, "three codes, 100 pixels")
def _() -> tuple[Any, Any]:
    return reconstruction.bits_per_pixel([100.0, 200, 600], 100), 3.0


@compare("rate_distortion_curve", DEFINITION, "200 points; number that no other beats, by all pairs")
def _() -> tuple[Any, Any]:
    r, d = rng(13).random((2, 200))
    beaten = ((r[None] <= r[:, None]) & (d[None] <= d[:, None])).sum(1) > 1
    return len(reconstruction.rate_distortion_curve(r, d).rates), (~beaten).sum()


CURVES = ([100.0, 200, 400, 800], [30.0, 33, 35.5, 38], [90.0, 210, 390, 700], [30.5, 33.2, 36, 37.5])


@compare("bd_rate", "bjontegaard", "two curves of four points, cubic", tolerance=1e-6)
def _() -> tuple[Any, Any]:
    import bjontegaard

    theirs = bjontegaard.bd_rate(*CURVES, method="cubic", require_matching_points=False, min_overlap=0)
    return reconstruction.bd_rate(*CURVES), theirs


@compare("bd_psnr", "bjontegaard", "two curves of four points, pchip", tolerance=1e-6)
def _() -> tuple[Any, Any]:
    import bjontegaard

    theirs = bjontegaard.bd_psnr(*CURVES, method="pchip", require_matching_points=False, min_overlap=0)
    return reconstruction.bd_psnr(*CURVES, fit="pchip"), theirs


# ---- prediction

PROBABILITIES, CLASSES = rng(14).dirichlet(np.ones(4), size=500), rng(15).integers(0, 4, 500)
POSITIVE = rng(16).integers(0, 2, 400)
SCORES = POSITIVE + rng(17).normal(size=400)
TARGET, PREDICTED = rng(18).normal(size=300), rng(19).normal(size=300)
Y = "300 normal targets and predictions"


@compare("accuracy", "scikit-learn", "500 rows, 4 classes")
def _() -> tuple[Any, Any]:
    from sklearn.metrics import accuracy_score

    predicted = PROBABILITIES.argmax(1)
    return prediction.accuracy(predicted, CLASSES), accuracy_score(CLASSES, predicted)


@compare("brier_score", "scikit-learn", "400 rows, 2 classes; the peer's figure is half of ours, here doubled")
def _() -> tuple[Any, Any]:
    from sklearn.metrics import brier_score_loss

    p = rng(20).random(400)
    return prediction.brier_score(p, POSITIVE), 2 * brier_score_loss(POSITIVE, p)


@compare("expected_calibration_error", "torchmetrics", "500 rows, 4 classes, 15 bins", tolerance=1e-6)
def _() -> tuple[Any, Any]:
    from torchmetrics.functional.classification import multiclass_calibration_error

    theirs = multiclass_calibration_error(torch.tensor(PROBABILITIES), torch.tensor(CLASSES), num_classes=4, n_bins=15)
    return prediction.expected_calibration_error(PROBABILITIES, CLASSES), theirs


@compare("auroc", DEFINITION, "400 scores; share of ordered pairs")
def _() -> tuple[Any, Any]:
    hit, miss = SCORES[POSITIVE == 1], SCORES[POSITIVE == 0]
    return prediction.auroc(SCORES, POSITIVE), (hit[:, None] > miss).mean()


@compare("average_precision", "torchmetrics", "400 scores", tolerance=1e-6)
def _() -> tuple[Any, Any]:
    from torchmetrics.functional.classification import binary_average_precision

    scores = (SCORES - SCORES.min()) / np.ptp(SCORES)
    theirs = binary_average_precision(torch.tensor(scores), torch.tensor(POSITIVE))
    return prediction.average_precision(SCORES, POSITIVE), theirs


for _tpr in (0.95, 0.8):

    def _fpr(tpr: float = _tpr) -> tuple[Any, Any]:
        from sklearn.metrics import roc_curve

        fpr, hit, _ = roc_curve(POSITIVE, SCORES, drop_intermediate=False)
        return prediction.fpr_at_tpr(SCORES, POSITIVE, tpr=tpr), fpr[np.argmax(hit >= tpr)]

    compare("fpr_at_tpr", "scikit-learn", "400 scores, read off the ROC curve", part=f"{_tpr:.0%}")(_fpr)


@compare("rmse", "scikit-learn", Y)
def _() -> tuple[Any, Any]:
    from sklearn.metrics import mean_squared_error

    return prediction.rmse(PREDICTED, TARGET), math.sqrt(mean_squared_error(TARGET, PREDICTED))


@compare("mae", "scikit-learn", Y)
def _() -> tuple[Any, Any]:
    from sklearn.metrics import mean_absolute_error

    return prediction.mae(PREDICTED, TARGET), mean_absolute_error(TARGET, PREDICTED)


@compare("quantile_loss", "scikit-learn", f"{Y}, 90 %")
def _() -> tuple[Any, Any]:
    from sklearn.metrics import mean_pinball_loss

    return prediction.quantile_loss(PREDICTED, TARGET, quantile=0.9), mean_pinball_loss(TARGET, PREDICTED, alpha=0.9)


@compare("crps_samples", "properscoring", "300 targets, ensembles of 20")
def _() -> tuple[Any, Any]:
    import properscoring

    ensemble = rng(21).normal(size=(300, 20))
    return prediction.crps_samples(ensemble, TARGET), properscoring.crps_ensemble(TARGET, ensemble).mean()


@compare("crps_gaussian", "properscoring", Y)
def _() -> tuple[Any, Any]:
    import properscoring

    return prediction.crps_gaussian(PREDICTED, np.full(300, 1.3), TARGET), properscoring.crps_gaussian(
        TARGET, PREDICTED, 1.3
    ).mean()


@compare("interval_coverage", DEFINITION, f"{Y}, ± 1")
def _() -> tuple[Any, Any]:
    ours = prediction.interval_coverage(PREDICTED - 1, PREDICTED + 1, TARGET)
    return ours, (np.abs(PREDICTED - TARGET) <= 1).mean()


@compare("interval_width", DEFINITION, "± 1")
def _() -> tuple[Any, Any]:
    return prediction.interval_width(PREDICTED - 1, PREDICTED + 1), 2.0


# ---- structure


def _dag(seed: int, n: int = 8) -> np.ndarray:
    order = rng(seed).permutation(n)
    return np.triu(rng(seed).random((n, n)) < 0.4, 1)[np.ix_(order, order)]


G = "two random acyclic graphs, 8 nodes"
OFF = ~np.eye(8, dtype=bool)


@compare("shd", "gadjid", G)
def _() -> tuple[Any, Any]:
    import gadjid

    p, t = _dag(1), _dag(2)
    return structure.shd(p, t), gadjid.shd(t.astype(np.int8), p.astype(np.int8))[1]


@compare("sid", "gadjid", f"{G}; mean over 20 pairs")
def _() -> tuple[Any, Any]:
    import gadjid

    pairs = [(_dag(s), _dag(s + 100)) for s in range(20)]
    theirs = [gadjid.sid(t.astype(np.int8), p.astype(np.int8), "from row to column")[1] for p, t in pairs]
    return np.mean([structure.sid(p, t) for p, t in pairs]), np.mean(theirs)


@compare("edge_f1", "scikit-learn", G, part="f1")
def _() -> tuple[Any, Any]:
    from sklearn.metrics import f1_score

    p, t = _dag(1), _dag(2)
    return structure.edge_f1(p, t).f1, f1_score(t[OFF], p[OFF])


@compare("edge_auroc", "scikit-learn", "random scores of a graph of 8 nodes")
def _() -> tuple[Any, Any]:
    from sklearn.metrics import roc_auc_score

    t, scores = _dag(1), rng(22).normal(size=(8, 8))
    return structure.edge_auroc(scores, t), roc_auc_score(t[OFF], scores[OFF])


@compare("edge_average_precision", "torchmetrics", "random scores of a graph of 8 nodes", tolerance=1e-6)
def _() -> tuple[Any, Any]:
    from torchmetrics.functional.classification import binary_average_precision

    t, scores = _dag(1), rng(22).random((8, 8))
    return structure.edge_average_precision(scores, t), binary_average_precision(
        torch.tensor(scores[OFF]), torch.tensor(t[OFF]).long()
    )


RANKED, RELEVANT = rng(23).normal(size=(40, 60)), (rng(24).random((40, 60)) < 0.2).astype(int)


@compare("ndcg", "scikit-learn", "40 queries, 60 items, k = 20")
def _() -> tuple[Any, Any]:
    from sklearn.metrics import ndcg_score

    return structure.ndcg(RANKED, RELEVANT, k=20), ndcg_score(RELEVANT, RANKED, k=20)


@compare("recall_at_k", "torchmetrics", "40 queries, 60 items, k = 5: the peer's precision at k", tolerance=1e-6)
def _() -> tuple[Any, Any]:
    from torchmetrics.functional.retrieval import retrieval_precision

    assert (RELEVANT.sum(1) >= 5).all()  # then min(k, relevant) = k, and recall so normalised is precision at k
    theirs = [
        retrieval_precision(torch.tensor(s), torch.tensor(r), top_k=5) for s, r in zip(RANKED, RELEVANT, strict=True)
    ]
    return structure.recall_at_k(RANKED, RELEVANT, k=5), np.mean(theirs)


@compare("link_prediction", "scikit-learn", "400 scores", part="auroc")
def _() -> tuple[Any, Any]:
    from sklearn.metrics import roc_auc_score

    ours = structure.link_prediction(SCORES[POSITIVE == 1], SCORES[POSITIVE == 0])
    return ours.auroc, roc_auc_score(POSITIVE, SCORES)


@compare("rank_metrics", "scikit-learn", "40 queries with one relevant item", part="mrr")
def _() -> tuple[Any, Any]:
    from sklearn.metrics import label_ranking_average_precision_score

    rows, true = np.arange(40), rng(25).integers(0, 60, 40)
    ranks = (RANKED[rows, true][:, None] < RANKED).sum(1) + 1
    return structure.rank_metrics(ranks).mrr, label_ranking_average_precision_score(np.eye(60)[true], RANKED)


# ---- transport


@compare("bw2_uvp", "POT", S, tolerance=1e-6)
def _() -> tuple[Any, Any]:
    import ot

    mean, cov = REAL.mean(0), np.cov(REAL.T)
    distance = ot.gaussian.bures_wasserstein_distance(FAKE.mean(0), mean, np.cov(FAKE.T), cov)
    return transport.bw2_uvp(FAKE, mean, cov), 100 * distance**2 / np.trace(cov)


@compare("conditional_bw2_uvp", "POT", "two conditions", tolerance=1e-6)
def _() -> tuple[Any, Any]:
    import ot

    plans = np.stack([FAKE[:250], FAKE[250:]])
    mean, cov = REAL.mean(0), np.cov(REAL.T)
    distances = [ot.gaussian.bures_wasserstein_distance(p.mean(0), mean, np.cov(p.T), cov) ** 2 for p in plans]
    ours = transport.conditional_bw2_uvp(plans, np.stack([mean] * 2), np.stack([cov] * 2), np.trace(cov))
    return ours, 100 * np.mean(distances) / np.trace(cov)


@compare("gaussian_entropic_cost", "scipy", "one dimension; best coupling by search", tolerance=1e-6)
def _() -> tuple[Any, Any]:
    from scipy.optimize import minimize_scalar

    a, b, eps = 1.7, 0.6, 0.8
    top = math.sqrt(a * b) * (1 - 1e-9)
    best = minimize_scalar(
        lambda c: 0.5 * (a + b - 2 * c) - 0.5 * eps * math.log(1 - c * c / (a * b)),
        bounds=(-top, top),
        method="bounded",
        options={"xatol": 1e-10},
    )
    return transport.gaussian_entropic_cost([0.0], [[a]], [2.0], [[b]], eps), best.fun + 2


@compare("gaussian_sinkhorn_divergence", "POT", "two Gaussians in one dimension on 241 points", tolerance=1e-2)
def _() -> tuple[Any, Any]:
    import ot

    points = np.linspace(-6, 6, 241)
    a, b = (np.exp(-((points - m) ** 2) / (2 * v)) for m, v in ((-0.5, 1.0), (0.8, 0.5)))
    a, b = a / a.sum(), b / b.sum()
    cost = (points[:, None] - points) ** 2 / 2
    values = [
        ot.solve(cost, p, q, reg=0.7, reg_type="KL", max_iter=100_000, tol=1e-12).value
        for p, q in ((a, b), (a, a), (b, b))
    ]
    ours = transport.gaussian_sinkhorn_divergence([-0.5], [[1.0]], [0.8], [[0.5]], 0.7)
    return ours, values[0] - 0.5 * (values[1] + values[2])


@compare("sinkhorn_divergence", "POT", "80 and 60 rows, 2 dimensions, epsilon 0.5", tolerance=1e-5)
def _() -> tuple[Any, Any]:
    import ot

    x, y = REAL[:80, :2] / 3, FAKE[:60, :2] / 3

    def value(a: np.ndarray, b: np.ndarray) -> float:
        cost = ot.dist(a, b) / 2
        return ot.solve(cost, reg=0.5, reg_type="KL", max_iter=100_000, tol=1e-12).value

    theirs = value(x, y) - 0.5 * (value(x, x) + value(y, y))
    return transport.sinkhorn_divergence(x, y, epsilon=0.5, tolerance=1e-9), theirs
