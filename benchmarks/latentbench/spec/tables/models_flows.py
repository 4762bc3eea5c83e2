"""Normalising flows, differential equations and bridges."""

from __future__ import annotations

from latentbench.spec.tables.entries import ModelEntry, model

MODELS: dict[str, ModelEntry] = {
    "coupling-flow": model(
        "coupling:CouplingFlow",
        "Trainable ExactLikelihood Sampler",
        "affine (Real NVP) or additive (NICE) coupling flow of vectors",
    ),
    "real-nvp": model(
        "real_nvp:RealNVP", "Trainable ExactLikelihood Sampler", "multi-scale convolutional coupling flow of images"
    ),
    "light-sb": model(
        "bridges.light_sb:LightSB", "Trainable Transporter", "light Schrödinger bridge: a mixture as adjusted potential"
    ),
    "sinkhorn": model(
        "bridges.sinkhorn:Sinkhorn", "Fittable Transporter", "discrete entropic transport, looked up at new points"
    ),
    "cnf": model("ode.cnf:CNF", "Trainable ExactLikelihood Sampler", "continuous normalising flow with gated units"),
    "planar-flow": model(
        "ode.planar:PlanarFlow", "Trainable ExactLikelihood Sampler", "planar normalising flow of vectors"
    ),
    "ode-net": model(
        "ode.odenet:OdeNet",
        "Trainable Classifier",
        "image classifier with an equation or residual blocks in the middle",
    ),
    "latent-ode": model(
        "ode.latent:LatentODE", "Trainable Forecaster", "VAE of irregular series with a latent equation or recurrence"
    ),
    "recurrent-predictor": model(
        "ode.latent:RecurrentPredictor", "Trainable Forecaster", "recurrent network of irregular series, one ahead"
    ),
    "dsbm": model(
        "bridges.dsbm:DSBM", "Trainable Transporter", "diffusion Schrödinger bridge matching with two small networks"
    ),
}
