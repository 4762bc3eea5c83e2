"""Log-likelihoods and bounds on them: means with standard errors, units, and the importance-weighted bound.

Everything is in nats unless a name says otherwise. Which quantity a number is (exact, ELBO, importance-weighted with
K, annealed) is part of its identity: the functions here never turn one into another.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from latentbench.core.errors import UserError
from latentbench.core.types import MetricValue
from latentbench.declare import of_arrays
from latentbench.metrics.arrays import NotFiniteError, mean_and_se, same_rows, vector

if TYPE_CHECKING:
    from torch import Tensor

Values = Any  # array, list or tensor
LN2 = math.log(2.0)


def nats_to_bits(nats: float) -> float:
    """Nats to bits."""
    return nats / LN2


def bits_to_nats(bits: float) -> float:
    """Bits to nats."""
    return bits * LN2


@of_arrays("log_prob log_abs_det?", "nats", "higher")
def log_likelihood(log_prob: Values, log_abs_det: Values | None = None) -> MetricValue:
    """Mean log-likelihood a sample, in nats; higher is better.

    Args:
        log_prob: (N,) nats, in the space that the model sees.
        log_abs_det: (N,) or scalar nats, log |dy/dx| of the preprocessing y(x): added, so that the density is one of x.

    Raises:
        NotFiniteError: a value is NaN or infinite (a probability of zero included).
    """
    lp = _with_jacobian(log_prob, log_abs_det)
    value, se = mean_and_se(lp)
    return MetricValue(value, se, len(lp))


@of_arrays("log_prob log_abs_det?", "bits/dim", "lower", "Theis et al. 2016")
def bits_per_dim(log_prob: Values, dims: int, log_abs_det: Values | None = None) -> MetricValue:
    """Negative log-likelihood in bits a dimension, with the preprocessing's Jacobian; lower is better.

    -(log p_model(y) + log |dy/dx|) / (dims ln 2), with x in raw units (pixels 0 … 256): an exact figure for data of 256
    levels, whatever the model's own scale (Theis et al. 2016, section 3.1; Papamakarios et al. 2017).

    Args:
        log_prob: (N,) nats.
        dims: coordinates of one sample.
        log_abs_det: (N,) or scalar nats.
    """
    if dims < 1:
        raise UserError(f"is {dims}", where="dims", fix="give the number of coordinates of one sample")
    bits = -_with_jacobian(log_prob, log_abs_det) / (dims * LN2)
    value, se = mean_and_se(bits)
    return MetricValue(value, se, len(bits))


def _with_jacobian(log_prob: Values, log_abs_det: Values | None) -> np.ndarray:
    lp = vector(log_prob, "log_prob")
    if log_abs_det is None:
        return lp
    if np.ndim(log_abs_det) == 0:
        return lp + float(log_abs_det)
    jacobian = vector(log_abs_det, "log_abs_det")
    same_rows(log_prob=lp, log_abs_det=jacobian)
    return lp + jacobian


@of_arrays("rate distortion log_abs_det?", "nats", "higher", "Kingma & Welling 2014")
def elbo(rate: Values, distortion: Values, log_abs_det: Values | None = None) -> MetricValue:
    """Mean evidence lower bound in nats a sample, -(rate + distortion) (Kingma & Welling 2014, eq. 3).

    Args:
        rate: (N,) KL(q(z|x) || p(z)) or its estimate.
        distortion: (N,) -E_q log p(x|z).
        log_abs_det: as for `log_likelihood`; goes to the bound, not to the distortion.

    Returns:
        The bound; details `rate`, `distortion`, each with `_se` (Alemi et al. 2018 for the pair).
    """
    r, d = vector(rate, "rate"), vector(distortion, "distortion")
    same_rows(rate=r, distortion=d)
    (r_mean, r_se), (d_mean, d_se) = mean_and_se(r), mean_and_se(d)
    value, se = mean_and_se(_with_jacobian(-(r + d), log_abs_det))
    return MetricValue(
        value, se, len(r), {"rate": r_mean, "rate_se": r_se, "distortion": d_mean, "distortion_se": d_se}
    )


@of_arrays("log_prob tokens", "1 …", "lower", "Jelinek et al. 1977")
def perplexity(log_prob: Values, tokens: Values) -> MetricValue:
    """exp of the negative log-likelihood a token, over a whole corpus (not a mean of sentences' perplexities).

    Args:
        log_prob: (N,) nats a sequence.
        tokens: (N,) predicted tokens of each sequence (the end mark counts where the model predicts it).

    Returns:
        The perplexity; its standard error by the delta method for a ratio of means; details `nats_per_token`.
    """
    lp, t = vector(log_prob, "log_prob"), vector(tokens, "tokens")
    same_rows(log_prob=lp, tokens=t)
    if (t < 0).any() or t.sum() <= 0:
        raise UserError("must be counts with a positive sum", where="tokens")
    n, rate = len(lp), -lp.sum() / t.sum()
    value = math.exp(min(rate, 700.0)) if rate <= 700 else _overflow(rate)
    se = float(np.std(-lp - rate * t, ddof=1) / math.sqrt(n) / t.mean() * value) if n > 1 else None
    return MetricValue(value, se, n, {"nats_per_token": float(rate)})


def _overflow(rate: float) -> float:
    raise NotFiniteError(f"a mean of {rate:.4g} nats a token overflows a perplexity", where="log_prob")


@of_arrays("", "share", "higher", from_file=False)
def attainable_share(value: MetricValue, floor: float, optimum: float) -> MetricValue:
    """Share of the attainable likelihood that a model reached: 0 at `floor`, 1 at `optimum` (both nats a sample).

    `optimum` is the true density's mean log-likelihood on the same samples (or minus its entropy), `floor` that of a
    model without structure, for instance independent coordinates. Above 1 means that the sample favours the model over
    the truth by chance, or a wrong likelihood.
    """
    if not math.isfinite(optimum - floor) or optimum <= floor:
        raise UserError(f"optimum {optimum} is not above floor {floor}", where="optimum")
    width = optimum - floor
    return MetricValue((value.value - floor) / width, None if value.se is None else value.se / width, value.n)


class ImportanceBound:
    """The importance-weighted bound log (1/K) Σ w_i, streamed over K in memory that does not grow with it.

    Burda et al. 2016, eq. 8. Feed chunks of log-weights; sums are kept in float64 relative to a running maximum. The
    bound is biased low by about Var(w) / (2 K E[w]²) (delta method; Nowozin 2018, proposition 1), estimated from the
    same weights, and by a delete-one-group jackknife over `groups` interleaved parts of the weights, which sees more of
    the bias where the weights are heavy-tailed (both underrate it when no draw has hit the posterior's bulk).

    Args:
        n: number of data N.
        groups: parts of the jackknife, at least 2.
        device: where the log-weights live.
    """

    def __init__(self, n: int, *, groups: int = 10, device: Any = None) -> None:
        import torch

        if n < 1 or groups < 2:
            raise UserError(f"n = {n}, groups = {groups}", where="ImportanceBound", fix="n >= 1 and groups >= 2")
        self.k = 0
        self._max = torch.full((n,), -math.inf, dtype=torch.float64, device=device)
        self._sums = torch.zeros(groups, n, dtype=torch.float64, device=device)
        self._squares = torch.zeros(n, dtype=torch.float64, device=device)

    def update(self, log_weights: Tensor) -> None:
        """Add a chunk (k, N) of log p(x, z) - log q(z | x); -inf is a weight of zero, NaN and +inf are refused."""
        import torch

        if log_weights.ndim != 2 or log_weights.shape[1] != len(self._max):
            raise UserError(f"has shape {tuple(log_weights.shape)}", where="log_weights", fix="give (k, N)")
        w = log_weights.detach().to(torch.float64)
        top = torch.maximum(self._max, w.amax(0))
        if not bool((top < math.inf).all()) or bool(torch.isnan(w).any()):
            raise NotFiniteError("a log importance weight is NaN or +inf", where="log_weights")
        base = torch.where(torch.isinf(top), 0.0, top)
        shrink = torch.exp(self._max - base)
        weights = torch.exp(w - base)
        slots = (self.k + torch.arange(len(w), device=w.device)) % len(self._sums)
        self._sums.mul_(shrink).index_add_(0, slots, weights)
        self._squares.mul_(shrink.square()).add_(weights.square().sum(0))
        self._max, self.k = top, self.k + len(w)

    def log_prob(self) -> Tensor:
        """(N,) float64 nats: the bound of each datum; -inf where every weight was zero."""
        self._need(1)
        return self._max + (self._sums.sum(0) / self.k).log()

    def ess(self) -> Tensor:
        """(N,) effective sample size (Σw)² / Σw², in [1, K]; 0 where every weight was zero."""
        self._need(1)
        return (self._sums.sum(0).square() / self._squares.clamp_min(1e-300)).clamp_max(self.k)

    def variance(self) -> Tensor:
        """(N,) Monte-Carlo variance of `log_prob`, by the delta method: (K/ESS - 1) / (K - 1)."""
        self._need(2)
        return (self.k / self.ess().clamp_min(1e-300) - 1).clamp_min(0) / (self.k - 1)

    def bias(self) -> Tensor:
        """(N,) nats, delta method: estimated E[`log_prob`] - log p(x), at most 0."""
        return -self.variance() / 2

    def jackknife_bias(self) -> Tensor:
        """(N,) nats: the delete-one-group jackknife's estimate of the same bias."""
        groups = len(self._sums)
        self._need(groups)
        counts = (self.k - _arange_like(self._sums) + groups - 1) // groups
        total = self._sums.sum(0)
        left = ((total - self._sums).clamp_min(1e-300) / (self.k - counts)[:, None]).log()
        return (groups - 1) * (left.mean(0) - (total / self.k).log())

    def _need(self, k: int) -> None:
        if self.k < k:
            raise UserError(f"has {self.k} weights a datum", where="ImportanceBound", fix=f"add at least {k}")

    def summary(self, log_abs_det: Values | None = None, *, low_ess: float = 10.0) -> MetricValue:
        """Mean bound in nats a sample, with standard error over the data.

        Returns:
            Details: `k`; `bias` (delta) and `bias_jackknife`, mean over the data; `mc_se`, the part of the standard
            error that comes from the finite K; `ess_median`, `ess_min`, `share_low_ess` (share of data with an
            effective sample size under `low_ess`); `warnings`, a tuple of sentences, empty when all is well.
        """
        value = log_likelihood(self.log_prob(), log_abs_det)
        details: dict[str, Any] = {"k": self.k, "warnings": ()}
        if self.k > 1:
            ess = self.ess()
            low = float((ess < low_ess).double().mean())
            details |= {
                "bias": float(self.bias().mean()),
                "mc_se": float(self.variance().sum().sqrt()) / len(ess),
                "ess_median": float(ess.median()),
                "ess_min": float(ess.min()),
                "share_low_ess": low,
            }
            if low > 0 and self.k >= low_ess:
                details["warnings"] = (
                    f"{low:.1%} of the data have an effective sample size under {low_ess:g} of {self.k}: "
                    "their bound is loose and its bias underrated",
                )
        if self.k >= 2 * len(self._sums):
            details["bias_jackknife"] = float(self.jackknife_bias().mean())
        return MetricValue(value.value, value.se, value.n, details)


@of_arrays("log_weights log_abs_det?", "nats", "higher", "Burda et al. 2016")
def importance_bound(log_weights: Values, log_abs_det: Values | None = None) -> MetricValue:
    """The importance-weighted bound of weights that are at hand, nats; see `ImportanceBound`, which streams them.

    Args:
        log_weights: (K, N) log p(x_n, z_kn) - log q(z_kn | x_n).
        log_abs_det: as for `log_likelihood`.
    """
    import torch

    weights = torch.as_tensor(log_weights)
    if weights.ndim != 2 or not weights.numel():
        raise UserError(f"has shape {tuple(weights.shape)}", where="log_weights", fix="give (K, N)")
    bound = ImportanceBound(weights.shape[1], device=weights.device)
    bound.update(weights)
    return bound.summary(log_abs_det)


def _arange_like(sums: Tensor) -> Tensor:
    import torch

    return torch.arange(len(sums), device=sums.device)


def importance_weighted(
    draw: Callable[[int], Tensor], k: int, *, chunk: int = 50, record: Sequence[int] = ()
) -> tuple[ImportanceBound, dict[int, float]]:
    """Stream K importance weights a datum from `draw` into an `ImportanceBound`.

    Args:
        draw: draws a chunk: given k', returns (k', N) log-weights. Encode once, outside.
        k: number of weights K.
        chunk: largest number asked of `draw` at once; bounds memory at chunk x N weights.
        record: values of K on the way at which to note the mean bound too (the bound as a function of K).

    Returns:
        The filled bound, and {K: mean bound in nats} for `record`.
    """
    if k < 1 or chunk < 1:
        raise UserError(f"k = {k}, chunk = {chunk}", where="importance_weighted", fix="give positive numbers")
    stops = sorted({r for r in record if 0 < r < k} | {k})
    bound: ImportanceBound | None = None
    noted: dict[int, float] = {}
    done = 0
    for stop in stops:
        while done < stop:
            weights = draw(min(chunk, stop - done))
            bound = bound or ImportanceBound(weights.shape[1], device=weights.device)
            bound.update(weights)
            if bound.k <= done:
                raise UserError("drew no weights", where="draw", fix="return (k', N) with k' as asked")
            done = bound.k
        if bound is not None and done in record:
            noted[done] = float(bound.log_prob().mean())
    assert bound is not None
    return bound, noted
