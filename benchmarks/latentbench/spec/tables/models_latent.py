"""Models with latent variables."""

from __future__ import annotations

from latentbench.spec.tables.entries import ModelEntry, model

MODELS: dict[str, ModelEntry] = {
    "vae": model(
        "vae:VAE",
        "Trainable VariationalBound Sampler Encoder Decoder Reconstructor GaussianEncoder",
        "variational autoencoder with one stochastic layer; ELBO, beta-ELBO or IWAE objective",
        scalars=("beta",),
        draws="k",
    ),
    "hierarchical-vae": model(
        "vae:HierarchicalVAE",
        "Trainable VariationalBound Sampler Encoder Decoder Reconstructor",
        "variational autoencoder with several stochastic layers; ELBO or IWAE objective",
        scalars=("beta",),
        draws="k",
    ),
    "wake-sleep": model(
        "wake_sleep:WakeSleep",
        "Trainable VariationalBound Sampler Encoder Decoder Reconstructor GaussianEncoder",
        "the networks of a VAE with one stochastic layer, trained by wake-sleep",
    ),
    "monte-carlo-em": model(
        "monte_carlo_em:MonteCarloEM",
        "Fittable Sampler Decoder",
        "the decoder of a VAE fitted by Monte Carlo EM with Hamiltonian chains; codes of few dimensions",
    ),
    "skip-hvae": model(
        "skip_hvae:SkipHVAE",
        "Trainable VariationalBound Sampler OutlierScorer",
        "convolutional hierarchical VAE with skip connections; outlier scores by likelihood, LLR>k or complexity",
    ),
    "pixel-vae": model(
        "pixel_vae:PixelVAE",
        "Trainable VariationalBound Sampler Encoder CodeLikelihood",
        "VAE with PixelCNN decoder, autoregressive-flow prior or posterior, and the InfoVAE loss, each if wanted",
        whole_batch=True,
    ),
    "gon": model(
        "gon:GON",
        "Trainable Encoder Decoder Reconstructor",
        "gradient origin network: the code is one gradient step from zero; decoder explicit or implicit (SIREN)",
    ),
    "autoencoder": model("gon:Autoencoder", "Trainable Encoder Decoder Reconstructor", "autoencoder by squared error"),
    "variational-gon": model(
        "gon:VariationalGON",
        "Trainable VariationalBound Sampler Encoder Decoder Reconstructor GaussianEncoder",
        "VAE whose posterior is read off one gradient step from zero",
    ),
    "sentence-vae": model(
        "sentence_vae:SentenceVAE",
        "Trainable VariationalBound Sampler Encoder Reconstructor GaussianEncoder CodeLikelihood",
        "LSTM sentence VAE; AutoGen's m, annealed KL or word dropout",
    ),
    "beta-tcvae": model(
        "tcvae:BetaTCVAE",
        "Trainable VariationalBound Sampler Encoder Decoder Reconstructor GaussianEncoder",
        "VAE with weights on mutual information, total correlation and dimension-wise KL",
        scalars=("alpha", "beta", "gamma"),
        whole_batch=True,
    ),
    "polynomial-programme": model(
        "discrete.programme:PolynomialProgramme",
        "Trainable EstimatedGradient ExpectedCost",
        "binary variables that minimise an expected polynomial: a test of gradient estimators, without data",
        whole_batch=True,
    ),
    "discrete-vae": model(
        "discrete.vae:DiscreteVAE",
        "Trainable VariationalBound Sampler Encoder Decoder Reconstructor EstimatedGradient",
        "VAE with categorical or Bernoulli variables, trained by any of eleven gradient estimators",
        scalars=("estimator.straight_through.temperature", "estimator.gumbel_softmax.temperature"),
        whole_batch=True,
    ),
    "class-vae": model(
        "discrete.class_vae:ClassVAE",
        "Trainable VariationalBound Sampler",
        "VAE with a class and a style, the class marginalised or sampled",
        whole_batch=True,
    ),
    "structured-predictor": model(
        "discrete.structured:StructuredPredictor",
        "Trainable ConditionalBound",
        "stochastic network that predicts the second half of a binary vector from the first",
        whole_batch=True,
    ),
}
