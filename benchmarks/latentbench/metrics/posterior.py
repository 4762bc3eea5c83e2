"""What a variational posterior does over the data: active units, collapse, and the aggregate posterior's KL terms.

Posteriors are diagonal Gaussians q(z|x_n) = N(means[n], exp(log_variances[n])), arrays or tensors (N, D); the prior is
the standard normal. Torch does the work, on the device that the tensors are on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from latentbench.core.errors import UserError
from latentbench.core.types import MetricValue
from latentbench.declare import of_arrays
from latentbench.metrics.arrays import NotFiniteError, matrix, mean_and_se, vector

if TYPE_CHECKING:
    from torch import Generator, Tensor

Values = Any  # array, list or tensor
Estimator = Literal["mixture", "mws", "mss"]
LOG_2PI = math.log(2 * math.pi)
#: Largest mean share of a code's own posterior at which the mixture over the rows still stands for the population's.
SATURATED = 0.1


@of_arrays("means", "count", "higher", "Burda et al. 2016")
def active_units(means: Values, threshold: float = 0.01) -> MetricValue:
    """Number of code dimensions whose posterior mean varies over the data: Var_x(E_q[u|x]) > threshold.

    Burda et al. 2016 (threshold 0.01). Higher is better, 0 … D.

    Args:
        means: (N, D) posterior means, N > 1.

    Returns:
        The count; details `variances` (D floats) and `share` of D.
    """
    codes = matrix(means, "means", min_rows=2)
    variances = codes.var(axis=0, ddof=1)
    active = int((variances > threshold).sum())
    details = {"share": active / len(variances), "variances": variances.tolist()}
    return MetricValue(float(active), None, len(codes), details)


def gaussian_rate(means: Values, log_variances: Values) -> np.ndarray:
    """KL(q(z_j|x_n) || N(0, 1)) in nats, (N, D)."""
    mu, lv = _pair(means, log_variances)
    with np.errstate(over="ignore"):
        rate = 0.5 * (np.square(mu) + np.exp(lv) - 1 - lv)
    if not np.isfinite(rate).all():
        raise NotFiniteError("a mean or log-variance is so large that its rate overflows", where="posterior")
    return rate


@of_arrays("means log_variances", "share", "lower", "Lucas et al. 2019")
def posterior_collapse(means: Values, log_variances: Values, epsilon: float = 0.01, delta: float = 0.01) -> MetricValue:
    """Share of code dimensions that have collapsed onto the prior; lower is better, 0 … 1.

    A dimension is (ε, δ)-collapsed when P_x(KL(q(z_j|x) || p(z_j)) < ε) >= 1 - δ (Lucas et al. 2019).

    Returns:
        The share; details `collapsed` (count), `rate` (mean nats of each dimension), `fully` (1.0 when all collapsed).
    """
    kl = gaussian_rate(means, log_variances)
    collapsed = (kl < epsilon).mean(axis=0) >= 1 - delta
    details = {"collapsed": int(collapsed.sum()), "fully": float(collapsed.all()), "rate": kl.mean(axis=0).tolist()}
    return MetricValue(float(collapsed.mean()), None, len(kl), details)


@dataclass(frozen=True)
class AggregatePosterior:
    """Parts of the mean rate, nats: rate = mutual_information + kl, kl = total_correlation + dimension_wise_kl.

    Hoffman & Johnson 2016; Chen et al. 2018, eq. 2. `kl` is KL(q(z) || p(z)) of the aggregate posterior q(z).

    Attributes:
        mutual_information: by `mixture` its detail `upper` bounds that of the population from above, as the value does
            from below (both in expectation, over rows and draws; Poole et al. 2019, section 2).
        total_correlation: by `mixture` its detail `lower` bounds that of the population from below in the same way.
        log_n: nats, what `mutual_information` by `mixture` cannot exceed.
        own_share: mean share of a code's own posterior in its density under the mixture, 1/N … 1.
        saturated: `own_share` is above `SATURATED`. The N posteriors then lie so far apart that codes are told by the
            datum they came from, not by what it resembles, and the total correlation (also `kl`) is overrated by more
            than about that many nats, the mutual information underrated, against the population's.
    """

    mutual_information: MetricValue
    kl: MetricValue
    total_correlation: MetricValue
    dimension_wise_kl: MetricValue
    rate: MetricValue
    log_n: float
    own_share: float | None = None
    saturated: bool | None = None


@of_arrays("means log_variances", "nats", "none", "Hoffman & Johnson 2016; Chen et al. 2018", version=2)
def aggregate_posterior(
    means: Values,
    log_variances: Values,
    *,
    generator: Generator,
    samples: int = 10_000,
    estimator: Estimator = "mixture",
    batch: int = 256,
    dataset_size: int | None = None,
) -> AggregatePosterior:
    """Mutual information I(x; z), KL(q(z) || p(z)) and total correlation of the aggregate posterior, nats.

    `mixture` (the default) takes q(z) as what it is on these data, the mixture of all N posteriors, and is exact for
    them but for the choice of z. For the population that the rows come from it is an estimate, with a mutual
    information of at most log N: `AggregatePosterior.saturated` says when it does not stand for it. `mws` and `mss` are
    the minibatch estimators of Chen et al. 2018, appendix C (minibatch-weighted; stratified with the weights of eq.
    S6), biased, kept because training uses them and papers report them; they see `batch` posteriors at a time.

    Args:
        means, log_variances: (N, D), N > 1.
        generator: draws data and codes; on the tensors' device.
        samples: codes drawn, z_m ~ q(z|x_m): every datum in turn when `samples` >= N, else a random subset.
        batch: minibatch size of `mws` and `mss`; of no account to `mixture`.
        dataset_size: size of the data set that the N rows came from, for `mws` and `mss` (default N).
    """
    import torch

    mu, lv = gaussian_tensors(means, log_variances, generator)
    n = len(mu)
    size = dataset_size or n
    if n < 2 or size < n or batch < 2 or samples < 1 or (estimator != "mixture" and samples < 2):
        raise UserError(f"dataset_size = {size}, batch = {batch}, samples = {samples}, N = {n}", where="options")
    order = torch.randperm(n, generator=generator, device=mu.device)
    picked = order if samples >= n else order[:samples]
    z = (
        mu[picked]
        + torch.randn(mu[picked].shape, generator=generator, dtype=mu.dtype, device=mu.device)
        * (0.5 * lv[picked]).exp()
    )
    log_q_zx = _log_normal(z, mu[picked], lv[picked]).sum(1)
    log_others = None
    if estimator == "mixture":
        log_qz, log_qz_product, log_others = _mixture(z, mu, lv, picked)
    elif estimator in ("mws", "mss"):
        log_qz, log_qz_product = _minibatch(z, mu[picked], lv[picked], batch, size, stratified=estimator == "mss")
    else:
        raise UserError(f"unknown estimator {estimator!r}", where="estimator", fix="mixture, mws or mss")
    log_pz = (-0.5 * (z.square() + LOG_2PI)).sum(1)

    def summary(terms: Tensor, **bounds: Tensor) -> MetricValue:
        value, se = mean_and_se(vector(terms, "log-densities of the codes"))
        return MetricValue(value, se, len(terms), {k: float(v.mean()) for k, v in bounds.items()})

    upper, lower, share = {}, {}, None
    if log_others is not None:
        upper, lower = {"upper": log_q_zx - log_others}, {"lower": log_others - log_qz_product}
        share = float((log_q_zx - log_qz).exp().mean()) / n
    return AggregatePosterior(
        mutual_information=summary(log_q_zx - log_qz, **upper),
        kl=summary(log_qz - log_pz),
        total_correlation=summary(log_qz - log_qz_product, **lower),
        dimension_wise_kl=summary(log_qz_product - log_pz),
        rate=summary(log_q_zx - log_pz),
        log_n=math.log(n),
        own_share=share,
        saturated=None if share is None else share > SATURATED,
    )


@of_arrays("codes", "nats", "lower", "Locatello et al. 2019")
def gaussian_total_correlation(codes: Values) -> float:
    """Total correlation of codes under a Gaussian fit, nats: -½ log det of their correlation matrix; lower is better.

    The figure of disentanglement_lib's `gaussian_total_correlation` (Locatello et al. 2019), computed from the
    correlation matrix, in which the scale of the codes cancels. A constant code is independent of all others and drops
    out; codes that are linear functions of each other have infinite total correlation: `UserError`.

    Args:
        codes: (N, D), N > D.
    """
    x = matrix(codes, "codes", min_rows=2)
    x = x[:, x.std(axis=0) > 1e-12 * (1 + np.abs(x).max(axis=0))]
    if x.shape[1] < 2:
        return 0.0
    sign, log_det = np.linalg.slogdet(np.corrcoef(x, rowvar=False))
    if sign <= 0 or log_det < -30 * x.shape[1]:
        raise UserError("codes are linearly dependent: total correlation is infinite", where="codes", fix="drop copies")
    return max(-0.5 * float(log_det), 0.0)


def _pair(means: Values, log_variances: Values) -> tuple[np.ndarray, np.ndarray]:
    mu, lv = matrix(means, "means"), matrix(log_variances, "log_variances")
    if mu.shape != lv.shape:
        raise UserError(f"has shape {lv.shape} where means has {mu.shape}", where="log_variances")
    return mu, lv


def gaussian_tensors(means: Values, log_variances: Values, generator: Generator) -> tuple[Tensor, Tensor]:
    import torch

    mu = torch.as_tensor(means).detach().to(generator.device, torch.float64)
    lv = torch.as_tensor(log_variances).detach().to(generator.device, torch.float64)
    if mu.ndim != 2 or mu.shape != lv.shape or not len(mu):
        raise UserError(
            f"means {tuple(mu.shape)}, log_variances {tuple(lv.shape)}", where="posterior", fix="both (N, D)"
        )
    if not bool(torch.isfinite(mu).all() & torch.isfinite(lv).all()):
        raise NotFiniteError("a mean or log-variance is NaN or infinite", where="posterior")
    return mu, lv


def _log_normal(z: Tensor, mu: Tensor, lv: Tensor) -> Tensor:
    return -0.5 * (LOG_2PI + lv + ((z - mu) * (-0.5 * lv).exp()).square())


def _mixture(z: Tensor, mu: Tensor, lv: Tensor, own: Tensor, cells: int = 4_000_000) -> tuple[Tensor, Tensor, Tensor]:
    """log q(z), Σ_j log q(z_j), and log q(z) without the posterior `own` that each z was drawn from.

    Densities are those of the mixture of all posteriors, in blocks of about `cells` numbers.
    """
    import torch

    n, d = mu.shape
    joint, product, others = [], [], []
    size = max(1, cells // (n * d))
    for block, self_ in zip(z.split(size), own.split(size), strict=True):
        terms = _log_normal(block[:, None], mu[None], lv[None])
        product.append(terms.logsumexp(1).sum(1))
        log_q = terms.sum(2)
        joint.append(log_q.logsumexp(1))
        others.append(log_q.scatter_(1, self_[:, None], -math.inf).logsumexp(1))
    log_n = math.log(n)
    return torch.cat(joint) - log_n, torch.cat(product) - d * log_n, torch.cat(others) - math.log(n - 1)


def _minibatch(z: Tensor, mu: Tensor, lv: Tensor, batch: int, size: int, *, stratified: bool) -> tuple[Tensor, Tensor]:
    import torch

    joint, product = [], []
    for start in range(0, len(z), batch):
        rows = slice(start, start + batch)
        m = len(z[rows])
        if m < 2:  # a lone last row has no batch to be compared with
            rows = slice(max(0, len(z) - batch), len(z))
            m = len(z[rows])
        log_w = _stratified(m, size, z) if stratified else torch.full_like(z[:1, :1], -math.log(size * m))
        terms = _log_normal(z[rows][:, None], mu[rows][None], lv[rows][None])
        keep = slice(None) if start + m <= len(z) else slice(start - (len(z) - m), None)
        joint.append((terms.sum(2) + log_w).logsumexp(1)[keep])
        product.append((terms + log_w[:, :, None]).logsumexp(1).sum(1)[keep])
    return torch.cat(joint), torch.cat(product)


def _stratified(m: int, size: int, like: Tensor) -> Tensor:
    """Log-weights (m, m) of eq. S6 in Chen et al. 2018: own posterior, one other (here the next), all the rest."""
    import torch

    weights = torch.full((m, m), 1 / (m - 1), dtype=like.dtype, device=like.device)
    weights.diagonal().fill_(1 / size)
    rows = torch.arange(m, device=like.device)
    weights[rows, (rows + 1) % m] = (size - m + 1) / (size * (m - 1))
    return weights.log()
