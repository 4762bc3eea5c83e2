"""InfoMEC: modularity, compactness and explicitness in units of information."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

from latentbench.core.errors import UserError
from latentbench.declare import of_arrays
from latentbench.metrics.arrays import Floats, Ints, ranks_of_values
from latentbench.metrics.codes.information import entropies, mutual_information
from latentbench.metrics.codes.inputs import Values, check_pair


@dataclass(frozen=True)
class InfoMEC:
    """InfoM (modularity), InfoE (explicitness), InfoC (compactness), higher is better, at most 1.

    Attributes:
        nmi: (K, D) mutual information over the factor's entropy.
        active: (D,) the codes that took part in InfoM and InfoC.
    """

    infom: float
    infoe: float
    infoc: float
    nmi: Floats
    active: np.ndarray


@of_arrays("codes factors", "… 1", "higher", "Hsu et al. 2023")
def infomec(
    codes: Values,
    factors: Values,
    *,
    discrete_codes: bool = False,
    neighbours: int = 10,
    factor_bins: int | None = None,
    seed: int = 0,
) -> InfoMEC:
    """InfoM, InfoE and InfoC (Hsu et al. 2023), with the conventions of the authors' code.

    Mutual information of single codes with single factors, over the factor's entropy, gives the two sparsity ratios.
    Continuous codes: the nearest-neighbour estimate (scikit-learn's `mutual_info_classif`, 10 neighbours) on
    standardised codes; codes whose range is under a twentieth of the widest are inactive. Discrete codes: the plug-in
    estimate; constant codes are inactive. InfoE is the drop in cross-entropy, on the same rows, from a constant to a
    logistic regression on all codes (standardised, or one-hot), over the former.

    With one active code InfoC is 1, with one factor InfoM is 1: nothing can be shared. An active code that informs of
    no factor counts as evenly spread.

    Args:
        codes: (N, D) float, or integers where `discrete_codes`.
        factors: (N, K) int.
        seed: of the tiny noise by which the nearest-neighbour estimate breaks ties.
    """
    z, v = check_pair(codes, factors, factor_bins)
    if neighbours < 1:
        raise UserError(f"is {neighbours}", where="neighbours", fix="give at least 1")
    if not discrete_codes:
        _check_neighbours(v)
    z = z.astype(np.float64)
    v = np.stack([ranks_of_values(c)[0] for c in v.T], axis=1)
    ranges = z.max(axis=0) - z.min(axis=0)
    active = ranges > (0.0 if discrete_codes else ranges.max() / 20)
    if not active.any():
        raise UserError("all codes are constant", where="codes", fix="they inform of nothing: a collapsed model")
    constant = ranges == 0
    labels = np.stack([ranks_of_values(c)[0] for c in z.T], axis=1) if discrete_codes else None
    if labels is not None:
        information = mutual_information(labels, v).T
    else:
        information = np.zeros((v.shape[1], z.shape[1]))
        for k in range(v.shape[1]):
            information[k, ~constant] = _neighbour_information(z[:, ~constant], v[:, k], neighbours, seed)
    nmi = information / entropies(v)[:, None]
    inputs = _one_hot(labels) if labels is not None else _standardise(z[:, ~constant])
    explained = [_explained_share(inputs, v[:, k]) for k in range(v.shape[1])]
    return InfoMEC(
        infom=_sparsity(nmi[:, active].T),
        infoe=float(np.mean(explained)),
        infoc=_sparsity(nmi[:, active]),
        nmi=nmi,
        active=active,
    )


def _check_neighbours(factors: Ints) -> None:
    """Refuse rows that have no neighbours: the estimate looks for them among rows with the same value of a factor."""
    for k, column in enumerate(factors.T):
        shared = np.unique(column, return_counts=True)[1]
        if shared[shared > 1].sum() < 4:
            raise UserError(
                f"column {k} has fewer than 4 rows that share their value with another",
                where="factors",
                fix="give more rows, or set discrete_codes",
            )


def _sparsity(rows: Floats) -> float:
    """Mean over rows of max / sum, rescaled so that an even row has 0 and a row with one entry 1."""
    n = rows.shape[1]
    if n == 1:
        return 1.0
    total = rows.sum(axis=1)
    share = np.where(total > 0, rows.max(axis=1) / np.where(total > 0, total, 1.0), 1 / n)
    return float((share.mean() - 1 / n) / (1 - 1 / n))


def _neighbour_information(z: Floats, y: Ints, neighbours: int, seed: int) -> Floats:
    from sklearn.feature_selection import mutual_info_classif

    return mutual_info_classif(_standardise(z), y, discrete_features=False, n_neighbors=neighbours, random_state=seed)


def _standardise(z: Floats) -> Floats:
    from sklearn.preprocessing import StandardScaler

    return StandardScaler().fit_transform(z)


def _one_hot(labels: Ints) -> Floats:
    from sklearn.preprocessing import OneHotEncoder

    return OneHotEncoder().fit_transform(labels)


def _explained_share(x: Floats, y: Ints) -> float:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss

    classifier = LogisticRegression(C=np.inf, class_weight="balanced", max_iter=100)
    with warnings.catch_warnings():  # separable classes never converge; a hundred steps are the definition
        warnings.simplefilter("ignore", ConvergenceWarning)
        classifier.fit(x, y)
    conditional = log_loss(y, classifier.predict_proba(x))
    # with balanced classes a constant predictor's best guess is uniform
    marginal = np.log(len(classifier.classes_))
    return float((marginal - conditional) / marginal)
