"""Closed-form densities and probabilistic circuits, and what they are compared with."""

from __future__ import annotations

from latentbench.spec.tables.entries import ModelEntry, model

MODELS: dict[str, ModelEntry] = {
    "factorised": model(
        "baselines:Factorised", "Fittable ExactLikelihood Sampler", "independent coordinates: the likelihood's floor"
    ),
    "gaussian": model("baselines:Gaussian", "Fittable ExactLikelihood Sampler", "full-covariance Gaussian"),
    "ppca": model(
        "baselines:PPCA",
        "Fittable ExactLikelihood Sampler Encoder Decoder Reconstructor GaussianEncoder",
        "probabilistic PCA in closed form",
    ),
    "gaussian-mixture": model(
        "mixtures:GaussianMixture", "Fittable ExactLikelihood Sampler", "mixture of Gaussians by EM (scikit-learn)"
    ),
    "bernoulli-mixture": model(
        "mixtures:BernoulliMixture", "Fittable ExactLikelihood Sampler", "mixture of Bernoullis by EM, for binary data"
    ),
    "chow-liu-tree": model(
        "circuits.classical:ChowLiuTree",
        "Fittable ExactLikelihood Sampler",
        "the tree-shaped distribution nearest to binary or discrete data",
    ),
    "learnspn": model(
        "circuits.classical:LearnSPN",
        "Fittable ExactLikelihood Sampler",
        "sum-product network grown by independence tests and clustering, for binary data",
    ),
    "hclt": model(
        "circuits.latent_tree:HCLT",
        "Trainable Preparable ExactLikelihood Sampler",
        "hidden Chow-Liu tree with free tables, by EM or gradient descent",
        whole_batch=True,
    ),
    "pic": model(
        "circuits.pic:PIC",
        "Trainable Preparable ExactLikelihood Sampler",
        "probabilistic integral circuit: a hidden Chow-Liu tree whose weights are networks under quadrature",
    ),
    "patch-circuit": model(
        "circuits.patches:PatchCircuit",
        "Trainable Preparable ExactLikelihood Sampler",
        "circuit of image patches by EM, from a random start or distilled from a VAE's features",
        whole_batch=True,
    ),
    "hmm": model(
        "circuits.hmm:HMM",
        "Trainable Preparable ExactLikelihood Sampler",
        "hidden Markov model of discrete sequences by EM, from a random start or distilled from a transformer",
        whole_batch=True,
    ),
    "sequence-transformer": model(
        "circuits.hmm:SequenceTransformer",
        "Trainable ExactLikelihood Sampler",
        "small causal transformer over discrete sequences",
    ),
}
