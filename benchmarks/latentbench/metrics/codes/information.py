"""Disentanglement from mutual information between single codes and single factors: MIG and modularity."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from latentbench.core.errors import UserError
from latentbench.core.types import MetricValue
from latentbench.declare import of_arrays
from latentbench.metrics.arrays import Floats, Ints, NotFiniteError, compact
from latentbench.metrics.codes.inputs import Values, check_codes, check_factors, check_pair, histogram_bins

if TYPE_CHECKING:
    from torch import Generator, Tensor

CELLS = 4_000_000  # histogram cells or densities held at once


def entropies(labels: Ints) -> Floats:
    """Plug-in entropy of each column, nats, (K,)."""
    return np.array([_entropy(np.bincount(compact(column)[0])) for column in labels.T])


def _entropy(counts: Ints) -> float:
    n = counts.sum()
    return float(math.log(n) - (_xlogx(counts)).sum() / n)


def _counts(index: Ints, cells: int) -> Ints:
    # a joint histogram of two nearly continuous columns would not fit in memory: count the cells in use
    return np.bincount(index) if cells <= max(CELLS, 8 * len(index)) else np.unique(index, return_counts=True)[1]


def _xlogx(counts: Ints) -> Floats:
    c = np.maximum(counts, 1).astype(np.float64)
    return c * np.log(c)


def mutual_information(first: Ints, second: Ints) -> Floats:
    """Plug-in mutual information of every column of `first` with every column of `second`, nats, (D, K).

    scikit-learn's `mutual_info_score`, for all pairs at once: joint counts by one `bincount` a column, in 64-bit
    integers, over values renumbered from 0, so that neither large nor negative labels can overflow a histogram.
    """
    n, d = first.shape
    a = np.empty((d, n), dtype=np.int64)
    sizes: list[int] = []
    for j, column in enumerate(np.ascontiguousarray(first.T)):
        a[j], size = compact(column)
        sizes.append(size)
    counts = [np.bincount(row) for row in a]
    h_first = np.array([_entropy(c) for c in counts])
    constant = np.array([np.count_nonzero(c) == 1 for c in counts])
    out = np.empty((d, second.shape[1]))
    index = np.empty(n, dtype=np.int64)
    for k, column in enumerate(np.ascontiguousarray(second.T)):
        b, size = compact(column)
        h_second = _entropy(np.bincount(b))
        for j in range(d):
            np.multiply(a[j], size, out=index)
            index += b
            out[j, k] = h_first[j] + h_second - _entropy(_counts(index, sizes[j] * size))
    # a constant column knows nothing: rounding must not make it seem to
    out[constant] = 0.0
    return np.maximum(out, 0.0)


def _gap(information: Floats, entropy: Floats) -> float:
    """Mean over factors of (largest - second largest information) / entropy; an absent second code has none."""
    ordered = np.sort(np.vstack([np.zeros_like(information[:1]), information]), axis=0)
    return float(np.mean((ordered[-1] - ordered[-2]) / entropy))


@of_arrays("codes factors", "0 … 1", "higher", "Chen et al. 2018; Locatello et al. 2019")
def mig(codes: Values, factors: Values, *, bins: int = 20, factor_bins: int | None = None) -> float:
    """Mutual information gap, 0 … 1, higher is better: disentanglement_lib's convention.

    Codes (posterior means) are cut into `bins` equal-width bins over each code's range; the plug-in mutual information
    with each factor gives the gap between the two best codes, in units of the factor's entropy (Chen et al. 2018;
    Locatello et al. 2019). The estimate depends on the bins: another number is another metric, and
    `mig_gaussian` is a third. With one code the runner-up counts as zero. Own code, because one histogram for all pairs
    is some fifty times faster than a call of scikit-learn a pair; the values are the same.

    Args:
        codes: (N, D) float.
        factors: (N, K) int.
        bins: bins of the codes.
        factor_bins: cut real-valued factors into so many equal-width bins.

    Raises:
        UserError: NaN, unequal rows, or a factor with one value.
    """
    z, v = check_pair(codes, factors, factor_bins)
    return _gap(mutual_information(histogram_bins(z, bins), v), entropies(v))


@of_arrays("codes factors", "0 … 1", "higher", "Ridgeway & Mozer 2018")
def modularity(codes: Values, factors: Values, *, bins: int = 20, factor_bins: int | None = None) -> float:
    """Modularity of Ridgeway & Mozer 2018, averaged over codes, 0 … 1, higher is better.

    A code is modular when it informs of one factor only. A code that informs of none scores 0, as in
    disentanglement_lib (and unlike the paper, which leaves it open). Needs two factors.
    """
    z, v = check_pair(codes, factors, factor_bins)
    if v.shape[1] < 2:
        raise UserError("modularity compares factors, and there is one", where="factors", fix="give at least two")
    squared = np.square(mutual_information(histogram_bins(z, bins), v))
    best = squared.max(axis=1)
    rest = squared.sum(axis=1) - best
    safe = np.where(best > 0, best, 1.0)
    return float(np.mean(np.where(best > 0, 1 - rest / (safe * (v.shape[1] - 1)), 0.0)))


@of_arrays("codes", "nats", "lower", "Locatello et al. 2019")
def mutual_information_score(codes: Values, *, bins: int = 20) -> float:
    """Mean mutual information between different codes, nats, lower is better (Locatello et al. 2019)."""
    z = check_codes(codes)
    d = z.shape[1]
    if d < 2:
        return 0.0
    binned = histogram_bins(z, bins)
    information = mutual_information(binned, binned)
    return float((information.sum() - np.trace(information)) / (d * (d - 1)))


@of_arrays("means log_variances factors", "0 … 1", "higher", "Chen et al. 2018")
def mig_gaussian(
    means: Values,
    log_variances: Values,
    factors: Values,
    *,
    generator: Generator,
    samples: int = 10_000,
) -> MetricValue:
    """Mutual information gap from the full posterior q(z|x), as Chen et al. 2018 compute it.

    I(z_j; v_k) = H(z_j) - H(z_j | v_k), with q(z_j) and q(z_j | v_k) the mixtures of the posteriors of all data and of
    those with that value of v_k, and entropies by Monte Carlo: codes drawn from the mixture, `samples` of them at most
    (all data, if there are fewer). Needs the whole grid of factors, or a sample of it. Not comparable with `mig`.

    Args:
        means, log_variances: (N, D) of diagonal Gaussian posteriors.
        factors: (N, K) int.
        generator: draws the codes, and sits on the device that does the work.
        samples: Monte-Carlo samples of every entropy.

    Returns:
        The gap; details: `information`, a K x D list of I(z_j; v_k) in nats.
    """
    import torch

    from latentbench.metrics.posterior import gaussian_tensors

    mu, lv = gaussian_tensors(means, log_variances, generator)
    v = check_factors(factors)
    if len(mu) != len(v):
        raise UserError(f"has {len(v)} rows where means has {len(mu)}", where="factors", fix="pair them row by row")
    noise = torch.randn(mu.shape, generator=generator, dtype=mu.dtype, device=mu.device) * (0.5 * lv).exp()
    z = mu + noise
    if not bool(torch.isfinite(z).all()):
        raise NotFiniteError("a log-variance is so large that its draws overflow", where="log_variances")

    def entropy(rows: Tensor) -> Tensor:
        order = torch.randperm(len(rows), generator=generator, device=mu.device)[:samples]
        drawn = rows[order]
        return _mixture_entropy(z[drawn], mu[drawn], noise[drawn], mu[rows], lv[rows])

    marginal = entropy(torch.arange(len(mu), device=mu.device))
    information = np.empty((v.shape[1], mu.shape[1]))
    for k, column in enumerate(v.T):
        conditional = torch.zeros_like(marginal)
        for value in np.unique(column):
            rows = torch.from_numpy(np.flatnonzero(column == value)).to(mu.device)
            conditional += entropy(rows) * (len(rows) / len(mu))
        information[k] = (marginal - conditional).cpu().numpy()
    value = _gap(information.T, entropies(v))
    return MetricValue(value, None, len(mu), {"information": information.tolist()})


#: Digits of log N that expanding its quadratic may cost: the square of the codes' range in their least deviations.
EXPANDED = 1e9


def _mixture_entropy(z: Tensor, own: Tensor, noise: Tensor, mu: Tensor, lv: Tensor) -> Tensor:
    """-mean_m log (1/n) Σ_n N(z_m; mu_n, exp(lv_n)), for each dimension, (D,); z_m = own_m + noise_m.

    log N is a quadratic in z: expanded, it is three products with what depends on n alone, which is fast and loses no
    digits that matter while posteriors are not too sharp for where they lie. Else it is taken from the differences.
    """
    import torch

    n, d = mu.shape
    inverse = (-lv).exp()
    constant = -0.5 * (math.log(2 * math.pi) + lv + mu.square() * inverse)
    lost = (z.abs().amax(0) + mu.abs().amax(0)).square() * inverse.amax(0)
    out = torch.empty(d, dtype=mu.dtype, device=mu.device)
    for j in range(d):
        if not bool(lost[j] < EXPANDED):
            out[j] = _entropy_by_differences(own[:, j], noise[:, j], mu[:, j], lv[:, j])
            continue
        terms = torch.stack([constant[:, j], (mu * inverse)[:, j], -0.5 * inverse[:, j]])
        total = torch.zeros((), dtype=mu.dtype, device=mu.device)
        for block in z[:, j].split(max(1, CELLS // n)):
            powers = torch.stack([torch.ones_like(block), block, block.square()], dim=1)
            total += (powers @ terms).logsumexp(1).sum()
        out[j] = math.log(n) - total / len(z)
    return out


def _entropy_by_differences(own: Tensor, noise: Tensor, mu: Tensor, lv: Tensor) -> Tensor:
    """`_mixture_entropy` of one dimension. A draw's distance from its own mean is its noise, whatever rounding leaves
    of the sum; a deviation too small for a float is divided by in logarithms."""
    total = mu.new_zeros(())
    size = max(1, CELLS // len(mu))
    for a, b in zip(own.split(size), noise.split(size), strict=True):
        distance = (a[:, None] - mu) + b[:, None]
        terms = -0.5 * (math.log(2 * math.pi) + lv + (distance.abs().log() - 0.5 * lv).exp().square())
        total += terms.logsumexp(1).sum()
    return math.log(len(mu)) - total / len(own)
