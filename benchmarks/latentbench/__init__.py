"""latentbench: rerun the benchmarks of latent-variable and generative-model papers."""

__version__ = "0.1.0"
