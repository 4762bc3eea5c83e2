"""Disentanglement: how codes (N, D) stand to ground-truth factors (N, K).

Defaults are disentanglement_lib's published configuration (Locatello et al. 2019); every other convention is an option,
with an identity of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

from latentbench.declare import of_arrays
from latentbench.metrics.codes.infomec import InfoMEC, infomec
from latentbench.metrics.codes.information import mig, mig_gaussian, modularity, mutual_information_score
from latentbench.metrics.codes.inputs import Values, split
from latentbench.metrics.codes.intervention import beta_vae_score, factor_vae_score, irs
from latentbench.metrics.codes.matching import mcc, mcc_affine, udr
from latentbench.metrics.codes.prediction import DCI, TRAIN_SHARE, dci, explicitness, sap
from latentbench.metrics.codes.sources import ArraySource, FactorSource, GroundTruthSource
from latentbench.metrics.posterior import gaussian_total_correlation

__all__ = [
    "DCI",
    "ArraySource",
    "FactorSource",
    "GroundTruthSource",
    "InfoMEC",
    "ModularityExplicitness",
    "beta_vae_score",
    "dci",
    "factor_vae_score",
    "gaussian_total_correlation",
    "infomec",
    "irs",
    "mcc",
    "mcc_affine",
    "mig",
    "mig_gaussian",
    "modularity",
    "modularity_explicitness",
    "mutual_information_score",
    "sap",
    "udr",
]


@dataclass(frozen=True)
class ModularityExplicitness:
    """Modularity, and explicitness on test rows (`explicitness_train` on training rows); 0 … 1, higher is better."""

    modularity: float
    explicitness: float
    explicitness_train: float


@of_arrays("codes factors codes_test? factors_test?", "0 … 1", "higher", "Ridgeway & Mozer 2018")
def modularity_explicitness(
    codes: Values,
    factors: Values,
    codes_test: Values | None = None,
    factors_test: Values | None = None,
    *,
    bins: int = 20,
    train_share: float = TRAIN_SHARE,
    factor_bins: int | None = None,
) -> ModularityExplicitness:
    """Modularity and explicitness (Ridgeway & Mozer 2018), as disentanglement_lib scores them.

    Modularity from the training rows' mutual information (`bins` equal-width bins), explicitness as the mean
    one-against-rest AUROC of a logistic regression (chance is 0.5). The last third of the rows tests, unless test rows
    are given.
    """
    data = split(codes, factors, codes_test, factors_test, train_share, factor_bins)
    train, test = explicitness(data)
    return ModularityExplicitness(modularity(data.codes, data.factors, bins=bins), test, train)
