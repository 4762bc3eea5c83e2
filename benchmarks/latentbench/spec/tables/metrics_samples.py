"""Metrics of samples, reconstructions and transported points."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from latentbench.spec.tables.entries import Better, MetricEntry, metric

_EXTRACTORS = {
    "pixels": "raw pixels (stored values)",
    "random": "an untrained network",
    "lenet": "a LeNet trained on the dataset",
    "inception": "Inception, as torch-fidelity has it",
}


def _sampled(
    target: str,
    unit: str,
    better: Better,
    summary: str,
    settings: Mapping[str, Any] | None = None,
    *,
    least: Mapping[str, float] | None = None,
    reference: bool = True,
    samples: int = 10_000,
    data: tuple[str, ...] = (),
) -> MetricEntry:
    """A metric of as many samples as real rows, `samples` at most; `reference` says of which split those are."""
    common: dict[str, Any] = {"samples": samples, **({"reference": "test"} if reference else {})}
    return metric(
        f"samples:{target}",
        "Sampler",
        unit,
        better,
        summary,
        settings={**common, **(settings or {})},
        lowest={"samples": 10, **(least or {})},
        data=data,
    )


def _of_features(
    name: str,
    unit: str,
    better: Better,
    summary: str,
    settings: Mapping[str, Any] | None = None,
    *,
    least: Mapping[str, float] | None = None,
    reference: bool = True,
    classifier: bool = False,
) -> dict[str, MetricEntry]:
    """One metric a feature extractor (with classes, where it needs a classifier): `<name>_<extractor>`."""
    needs: dict[str, tuple[str, ...]] = {"pixels": (), "random": ("images",), "lenet": ("images", "labels")}
    return {
        f"{name}_{extractor}": _sampled(
            f"{name}_{extractor}",
            unit,
            better,
            f"{summary}; features: {of}",
            settings,
            least=least,
            reference=reference,
            data=needs.get(extractor, ("images",)),
        )
        for extractor, of in _EXTRACTORS.items()
        if not classifier or extractor in ("lenet", "inception")
    }


METRICS: dict[str, MetricEntry] = {
    "few_step_distance": metric(
        "trajectories:few_step_distance",
        "PathSampler",
        "data unit",
        "lower",
        "sliced Wasserstein distance of samples by few Euler steps and real rows as stored",
        settings={"steps": 10, "samples": 2_000, "projections": 200},
        lowest={"steps": 1, "samples": 10, "projections": 1},
    ),
    "path_straightness": metric(
        "trajectories:path_straightness",
        "PathSampler",
        "1",
        "higher",
        "distance between the ends of a generative path by its length",
        settings={"steps": 100, "samples": 1_000},
        lowest={"steps": 2, "samples": 2},
    ),
    "token_accuracy": metric(
        "tokens:token_accuracy",
        "Reconstructor",
        "1",
        "higher",
        "share of tokens that the reconstruction has at the same place, up to the end mark",
        settings={"end": 0},
        lowest={"end": -1},
    ),
    "conditional_bw2_uvp": metric(
        "transport:conditional_bw2_uvp",
        "Transporter",
        "%",
        "lower",
        "error of the plan given a source point, in its first two moments (known plan; Gushchin et al. 2023)",
        settings={"sources": 1000, "samples": 1000},
        lowest={"sources": 1, "samples": 2},
        data=("oracle",),
    ),
    "target_bw2_uvp": metric(
        "transport:target_bw2_uvp",
        "Transporter",
        "%",
        "lower",
        "error of the pushed marginal in its first two moments (known plan; Gushchin et al. 2023)",
        data=("oracle",),
    ),
    "pushed_energy_distance": metric(
        "transport:pushed_energy_distance",
        "Transporter",
        "root raw unit",
        "lower",
        "energy distance of the pushed sources, at a time on their way, from the test targets",
        settings={"time": 1.0, "rows": 5000},
        lowest={"time": 0.0, "rows": 2},
    ),
    "reconstruction_mse": metric(
        "reconstruction:reconstruction_mse",
        "Reconstructor",
        "squared data unit",
        "lower",
        "mean squared error of reconstructions as stored, images in 0 … 1",
    ),
    "reconstruction_psnr": metric(
        "reconstruction:reconstruction_psnr",
        "Reconstructor",
        "dB",
        "higher",
        "peak signal-to-noise ratio of reconstructed images",
        data=("images",),
    ),
    "reconstruction_ssim": metric(
        "reconstruction:reconstruction_ssim",
        "Reconstructor",
        "1",
        "higher",
        "structural similarity of reconstructed images",
        data=("images",),
    ),
    **_of_features("fid", "squared feature unit", "lower", "Fréchet distance of samples and real rows"),
    **_of_features(
        "kid",
        "squared MMD",
        "lower",
        "kernel distance of samples and real rows",
        {"subsets": 100, "subset_size": 1000},
        least={"subsets": 1, "subset_size": 2},
    ),
    **_of_features(
        "precision", "1", "higher", "share of samples within the real rows' reach", {"k": 3}, least={"k": 1}
    ),
    **_of_features("recall", "1", "higher", "share of real rows within the samples' reach", {"k": 3}, least={"k": 1}),
    **_of_features("density", "1", "higher", "how many real rows reach a sample", {"k": 5}, least={"k": 1}),
    **_of_features("coverage", "1", "higher", "share of real rows that reach a sample", {"k": 5}, least={"k": 1}),
    **_of_features("vendi", "samples", "higher", "effective number of different samples"),
    **_of_features(
        "copying",
        "Z score",
        "higher",
        "C_T: below 0 where samples lie nearer to training rows than test rows do",
        {"cells": 3, "smallest": 20},
        least={"cells": 1, "smallest": 1},
        reference=False,
    ),
    **_of_features(
        "inception_score",
        "1",
        "higher",
        "how sure of each sample, and how spread over all, a classifier is",
        {"splits": 10},
        least={"splits": 1},
        reference=False,
        classifier=True,
    ),
    "mmd": _sampled("mmd", "squared MMD", "lower", "Gaussian-kernel distance of samples and real rows as stored"),
    "energy_distance": _sampled(
        "energy_distance", "root data unit", "lower", "energy distance of samples and real rows as stored"
    ),
    "sliced_wasserstein": _sampled(
        "sliced_wasserstein",
        "data unit",
        "lower",
        "sliced Wasserstein distance of samples and real rows as stored",
        {"projections": 500},
        least={"projections": 1},
    ),
    "c2st": _sampled(
        "c2st",
        "1",
        "lower",
        "cross-validated accuracy of telling samples from real rows, 0.5 at best",
        {"classifier": "mlp", "folds": 5},
        least={"folds": 2},
        samples=2_000,
    ),
}
