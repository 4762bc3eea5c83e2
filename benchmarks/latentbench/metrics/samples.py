"""Sample quality: how generated features (M, D) stand to real ones (N, D), and what they take from the training set.

Features come from an extractor (`latentbench.metrics.extractors`), which is part of the metric's name and identity.
"""

from __future__ import annotations

from latentbench.metrics.fidelity.classifiers import c2st, inception_score
from latentbench.metrics.fidelity.frechet import (
    FeatureMoments,
    frechet_distance,
    frechet_distance_from_moments,
    frechet_distance_infinite,
    frechet_distance_streamed,
)
from latentbench.metrics.fidelity.kernels import energy_distance, gaussian_mmd, kid, mmd, vendi_score
from latentbench.metrics.fidelity.neighbours import (
    DensityCoverage,
    PrecisionRecall,
    authenticity,
    copying_statistic,
    density_coverage,
    nearest,
    nearest_training_ratio,
    precision_recall,
)
from latentbench.metrics.fidelity.projections import sliced_wasserstein

__all__ = [
    "DensityCoverage",
    "FeatureMoments",
    "PrecisionRecall",
    "authenticity",
    "c2st",
    "copying_statistic",
    "density_coverage",
    "energy_distance",
    "frechet_distance",
    "frechet_distance_from_moments",
    "frechet_distance_infinite",
    "frechet_distance_streamed",
    "gaussian_mmd",
    "inception_score",
    "kid",
    "mmd",
    "nearest",
    "nearest_training_ratio",
    "precision_recall",
    "sliced_wasserstein",
    "vendi_score",
]
