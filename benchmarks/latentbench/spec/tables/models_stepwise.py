"""Models that generate step by step: autoregressive ones and diffusion."""

from __future__ import annotations

from latentbench.spec.tables.entries import ModelEntry, model

MODELS: dict[str, ModelEntry] = {
    "pixelcnn": model(
        "pixelcnn:PixelCNN", "Trainable ExactLikelihood VariationalBound Sampler", "autoregressive density of images"
    ),
    "any-order-arm": model(
        "autoregressive.any_order:AnyOrderARM",
        "Trainable ExactLikelihood Sampler Marginals",
        "conditionals of every variable given every subset, for binary vectors",
    ),
    "marginalization-model": model(
        "autoregressive.any_order:MarginalizationModel",
        "Trainable ExactLikelihood Sampler Marginals",
        "any-order conditionals and, distilled from them, marginals in one pass",
    ),
    "lattice-arm": model(
        "autoregressive.energy:LatticeARM",
        "Trainable KnownTarget",
        "autoregressive model of a spin lattice, trained to its energy without data",
        whole_batch=True,
    ),
    "lattice-mam": model(
        "autoregressive.energy:LatticeMaM",
        "Trainable KnownTarget",
        "marginalization model of a spin lattice, trained to its energy without data",
        whole_batch=True,
    ),
    "vdm": model(
        "diffusion.vdm:VDM",
        "Trainable BoundTerms Sampler PathSampler",
        "variational diffusion with a fixed, a learned scalar or a learned multivariate noise schedule",
    ),
    "mulan": model(
        "diffusion.mulan:MuLAN",
        "Trainable BoundTerms Sampler PathSampler",
        "diffusion whose multivariate noise schedule depends on a latent variable drawn from the datum",
    ),
    "nfdm": model(
        "diffusion.nfdm:NFDM",
        "Trainable BoundTerms Sampler PathSampler",
        "diffusion with a learned Gaussian forward map, and straight paths if wanted",
    ),
}
