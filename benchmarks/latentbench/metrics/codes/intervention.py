"""Disentanglement from holding factors fixed: the FactorVAE score, the BetaVAE score and IRS."""

from __future__ import annotations

import numpy as np

from latentbench.core.errors import UserError
from latentbench.declare import of_arrays
from latentbench.metrics.arrays import Floats, Ints, ranks_of_values, same_rows
from latentbench.metrics.codes.inputs import Values, check_codes, check_factors
from latentbench.metrics.codes.sources import ArraySource, FactorSource

CHUNK = 256  # batches drawn at once


@of_arrays("codes factors", "0 … 1", "higher", "Kim & Mnih 2018")
def factor_vae_score(
    codes: Values | None = None,
    factors: Values | None = None,
    *,
    source: FactorSource | None = None,
    rng: np.random.Generator | None = None,
    batch: int = 64,
    train: int = 10_000,
    test: int = 5_000,
    variance_samples: int = 10_000,
    threshold: float = 0.05,
    factor_bins: int | None = None,
) -> float:
    """FactorVAE score (Kim & Mnih 2018), 0 … 1, higher is better; chance is about 1/K.

    In a batch one random factor is held fixed; the code whose variance, relative to its variance over the data, is
    smallest votes for it. The score is the accuracy of a majority vote learnt on `train` batches, over `test` new ones.
    Codes with a standard deviation under `threshold` take no part (disentanglement_lib's published configuration, as
    are the other defaults); 0 if none is left.

    Args:
        codes, factors: (N, D) float, (N, K) int; batches draw rows with replacement.
        source: a data set that can be sampled by factor, instead of arrays.
        rng: default `numpy.random.default_rng(0)`.
    """
    draw, rng = _source(codes, factors, source, factor_bins), rng or np.random.default_rng(0)
    variances = draw.random(variance_samples, rng).var(axis=0, ddof=1, dtype=np.float64)
    active = np.sqrt(variances) >= threshold
    if not active.any():
        return 0.0

    def votes(n: int) -> Ints:
        table = np.zeros((draw.n_factors, int(active.sum())), dtype=np.int64)
        for size in _chunks(n):
            held = rng.integers(draw.n_factors, size=size)
            z = draw.fixed(held, batch, rng)[..., active]
            quietest = np.argmin(z.var(axis=1, ddof=1, dtype=np.float64) / variances[active], axis=1)
            np.add.at(table, (held, quietest), 1)
        return table

    return majority_vote_accuracy(votes(train), votes(test))


def majority_vote_accuracy(train: Ints, test: Ints) -> float:
    """Share of `test` votes (K, D) that fall on the factor with most `train` votes for their code."""
    return float(test[train.argmax(axis=0), np.arange(train.shape[1])].sum() / test.sum())


@of_arrays("codes factors", "0 … 1", "higher", "Higgins et al. 2017")
def beta_vae_score(
    codes: Values | None = None,
    factors: Values | None = None,
    *,
    source: FactorSource | None = None,
    rng: np.random.Generator | None = None,
    batch: int = 64,
    train: int = 10_000,
    test: int = 5_000,
    factor_bins: int | None = None,
) -> float:
    """BetaVAE score (Higgins et al. 2017), 0 … 1, higher is better; chance is 1/K.

    A batch of pairs shares, within each pair, the value of one random factor; from the mean absolute difference of
    codes a logistic regression (scikit-learn's defaults, as in disentanglement_lib) tells which. Accuracy on new
    batches. Arguments as for `factor_vae_score`.
    """
    from sklearn.linear_model import LogisticRegression

    draw, rng = _source(codes, factors, source, factor_bins), rng or np.random.default_rng(0)
    if draw.n_factors < 2:
        raise UserError("there is one factor, and nothing to tell it from", where="factors", fix="give at least two")

    def points(n: int) -> tuple[Floats, Ints]:
        labels, features = [], []
        for size in _chunks(n):
            held = rng.integers(draw.n_factors, size=size)
            first, second = draw.pairs(held, batch, rng)
            features.append(np.abs(first - second).mean(axis=1, dtype=np.float64))
            labels.append(held)
        return np.concatenate(features), np.concatenate(labels)

    return float(LogisticRegression().fit(*points(train)).score(*points(test)))


def _source(
    codes: Values | None, factors: Values | None, source: FactorSource | None, factor_bins: int | None
) -> FactorSource:
    if (source is None) == (codes is None or factors is None):
        raise UserError("give codes and factors, or a source", where="codes")
    return source if source is not None else ArraySource(codes, factors, factor_bins)


def _chunks(n: int) -> list[int]:
    return [min(CHUNK, n - i) for i in range(0, n, CHUNK)]


@of_arrays("codes factors", "0 … 1", "higher", "Suter et al. 2019")
def irs(codes: Values, factors: Values, *, quantile: float = 0.99, bins: int = 20) -> float:
    """Interventional robustness score (Suter et al. 2019), 0 … 1, higher is better.

    How little a code strays, within a group of equal factor value, from the group's mean, relative to how far it
    strays over all data; best factor for each code, averaged with the codes' range as weight. disentanglement_lib's
    conventions: factors cut into `bins` equal-width bins, the `quantile` of deviations instead of the maximum (1.0 is
    the paper's), constant codes left out, 0 if all are constant.
    """
    z = check_codes(codes).astype(np.float64)
    v = check_factors(factors, bins)
    same_rows(codes=z, factors=v)
    z = z[:, z.var(axis=0) > 0]
    if not z.shape[1]:
        return 0.0
    if not 0 < quantile <= 1:
        raise UserError(f"is {quantile}", where="quantile", fix="give a number in (0, 1]")
    spread = np.abs(z - z.mean(axis=0)).max(axis=0)
    strays = np.empty((z.shape[1], v.shape[1]))
    for k, column in enumerate(v.T):
        values, n_values = ranks_of_values(column)
        groups = np.split(z[np.argsort(values, kind="stable")], np.cumsum(np.bincount(values, minlength=n_values))[:-1])
        deviations = [np.quantile(np.abs(g - g.mean(axis=0)), quantile, axis=0) for g in groups]
        strays[:, k] = np.mean(deviations, axis=0)
    return float(np.average((1 - strays / spread[:, None]).max(axis=1), weights=spread))
