"""A VAE with one layer of categorical (or Bernoulli) variables, trained by any of the gradient estimators.

    loss = E_q(z|x) [-log p(x | z)] + KL(q(z | x) || p(z)),     q a product of L categorical variables

The KL term is exact, so the estimators differ in the gradient of the first term alone. Bounds that are reported always
take hard samples, whatever the estimator hands to the decoder in training.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Generator, Tensor, nn

from latentbench.core.capabilities import Elbo
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo
from latentbench.declare import Example, model
from latentbench.models import checks, likelihoods, nets
from latentbench.models.discrete import layout as codes
from latentbench.models.discrete.estimator import Cost, Hints, gradient_estimates
from latentbench.models.discrete.estimators import build_estimator

ROWS = 4096
"""Codes that are decoded together where a gradient is enumerated."""


@model(
    "discrete-vae",
    "Trainable VariationalBound Sampler Encoder Decoder Reconstructor EstimatedGradient LikelihoodHead",
    "VAE with categorical or Bernoulli variables, trained by any of twelve gradient estimators",
    scalars=("estimator.straight_through.temperature", "estimator.gumbel_softmax.temperature"),
    whole_batch=True,
    examples=(
        Example("binary-vector", {"layout": "3x2", "hidden": (8,), "bias_from_mean": True}),
        Example("unit-vector", {"layout": "3x2", "hidden": (8,), "estimator": "reinmax", "likelihood": "bernoulli"}),
        Example("real-vector", {"layout": "3x2", "hidden": (8,), "estimator": {"gumbel_rao": {"draws": 3}}}),
        Example("binary-vector", {"layout": "3x2", "hidden": (8,), "estimator": "nvil", "prior": "learned"}),
        Example("binary-vector", {"layout": "2x4", "hidden": (), "estimator": "muprop"}),
        Example("binary-vector", {"layout": "3x2", "hidden": (8,), "estimator": "enumerate"}, "elbo"),
        Example(
            "binary-image",
            {"layout": "3x2", "hidden": (8,), "network": {"conv": {"channels": [4, 6]}}, "estimator": "darn"},
        ),
    ),
)
class DiscreteVAE(nn.Module):
    """A VAE with categorical latent variables.

    Args:
        info: the data.
        layout: categories x variables, such as ``8x4``; two categories are Bernoulli variables.
        hidden: widths of the encoder's deterministic layers; empty for a linear encoder.
        decoder_hidden: those of the decoder; None mirrors `hidden`.
        activation: tanh, relu, elu, silu or softplus.
        network: ``mlp`` or ``{conv: {channels, batch_norm}}``.
        likelihood: the head of p(x | z), see `likelihoods`; None takes the support's natural one.
        estimator: of the gradient of q, see `estimators`: a name or ``{name: {parameter: value}}``.
        prior: ``uniform`` or ``learned`` (logits of its own).
        init: ``default`` (PyTorch's) or ``glorot``.
        bias_from_mean: starts the output bias at the training mean.

    Raises:
        UserError: a parameter is out of its range, or the likelihood or network does not fit the data.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        layout: str = "10x20",
        hidden: Sequence[PositiveInt] = (512, 256),
        decoder_hidden: Sequence[int] | None = None,
        activation: str = "relu",
        network: checks.Choice = "mlp",
        likelihood: checks.Choice | None = None,
        estimator: checks.Choice = "gumbel_softmax",
        prior: Literal["uniform", "learned"] = "uniform",
        init: str = "default",
        bias_from_mean: bool = False,
    ) -> None:
        super().__init__()
        self.shape = tuple(info.shape)
        self.layout = codes.Layout.parse(layout)
        up = checks.wholes("hidden", hidden)
        down = up[::-1] if decoder_hidden is None else checks.wholes("decoder_hidden", decoder_hidden)
        checks.one_of("activation", activation, nets.ACTIVATIONS)
        checks.one_of("init", init, nets.INITS)
        self.likelihood = likelihoods.build_likelihood(likelihood, info)
        parts = nets.build_network(network, info)
        body, features = parts.encoder(up, activation)
        self.encoder = nn.Sequential(body, nn.Linear(features, self.layout.width))
        self.decoder, last = parts.decoder(self.layout.width, down, activation, self.likelihood.outputs)
        self.estimator = build_estimator(estimator, info.dims)
        prior_logits = torch.zeros(self.layout.latents, self.layout.categories)
        if checks.one_of("prior", prior, ("uniform", "learned")) == "learned":
            self.prior = nn.Parameter(prior_logits)
        else:
            self.register_buffer("prior", prior_logits, persistent=False)
        nets.initialise(self, init)
        if checks.flag("bias_from_mean", bias_from_mean):
            if info.mean is None or not isinstance(last, nn.Linear):
                raise UserError("bias_from_mean needs a training mean and network mlp", fix="set it to false")
            with torch.no_grad():
                last.bias.copy_(self.likelihood.output_bias(torch.as_tensor(info.mean, dtype=torch.float32).flatten()))

    def _cost(self, x: Tensor) -> Cost:
        """-log p(x | z) as a function of the code."""
        flat = x.flatten(1)
        return lambda z: -self.likelihood.log_prob(flat, self.decoder(self.layout.flat(z)))

    def posterior(self, x: Tensor) -> Tensor:
        """Logits of q(z | x), (N, L, C)."""
        return self._logits(x)

    def _logits(self, x: Tensor, progress: float | None = None) -> Tensor:
        return self.estimator.sharpened(self.layout.logits(self.encoder(x)), progress)

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        """The estimator's surrogate plus the exact KL term; `distortion` is the cost at the estimator's codes."""
        logits = self._logits(batch.x, batch.progress)
        hints = Hints(batch.step, batch.progress, batch.x.flatten(1))
        rate = codes.kl(self.estimator.balanced(logits), self.prior).mean()
        distortion = self.estimator(logits, self._cost(batch.x), generator, hints).mean()
        return {"loss": distortion + rate, "rate": rate.detach(), "distortion": distortion.detach()}

    def elbo(self, x: Tensor, generator: Generator) -> Elbo:
        """Exact rate, and the distortion of one hard sample."""
        logits = self.posterior(x)
        return Elbo(rate=codes.kl(logits, self.prior), distortion=self._cost(x)(codes.draw(logits, generator)))

    def log_importance_weights(self, x: Tensor, posterior: Tensor, k: int, generator: Generator) -> Tensor:
        """log p(x, z_i) - log q(z_i | x) for k hard draws, (k, N) nats."""
        z = codes.draw(posterior, generator, k)
        log_ratio = codes.log_prob(z, self.prior) - codes.log_prob(z, posterior)
        return log_ratio.sum(-1) - self._cost(x)(z)

    def sample(self, n: int, generator: Generator) -> Tensor:
        """(n, *shape) draws of x."""
        z = codes.draw(self.prior, generator, n)
        return self.likelihood.sample(self.decoder(self.layout.flat(z)), generator).unflatten(1, self.shape)

    def encode(self, x: Tensor) -> Tensor:
        """Posterior probabilities as the decoder would read them, (N, width)."""
        return self.layout.flat(self.posterior(x).softmax(-1))

    def encode_sample(self, x: Tensor, generator: Generator) -> Tensor:
        """One draw of the code, (N, width)."""
        return self.layout.flat(codes.draw(self.posterior(x), generator))

    def decode(self, z: Tensor) -> Tensor:
        """(N, width) to the mean of p(x | z), (N, *shape)."""
        return self.likelihood.mean(self.decoder(z)).unflatten(1, self.shape)

    def reconstruct(self, x: Tensor) -> Tensor:
        """The mean of p(x | posterior probabilities), (N, *shape)."""
        return self.decode(self.encode(x))

    def gradient_estimates(self, x: Tensor, draws: int, generator: Generator) -> Tensor:
        """Independent estimates of the gradient of each row's expected cost in its logits, (draws, N, L * C).

        Schedules stand where training starts.
        """

        def repeated(k: int) -> Cost:
            return self._cost(x.repeat(k, *[1] * (x.dim() - 1)))

        return gradient_estimates(self.estimator, self.posterior(x), repeated, x.flatten(1), draws, generator)

    def exact_gradient(self, x: Tensor) -> Tensor:
        """The same gradient over all codes, (N, L * C).

        Raises:
            UserError: the layout has too many states.
        """
        states, flat = self.layout.states(x.device), x.flatten(1)
        with torch.no_grad():
            outs = [self.decoder(self.layout.flat(s)) for s in states.split(ROWS)]
            costs = torch.cat([torch.stack([-self.likelihood.log_prob(row, out) for row in flat], 1) for out in outs])
            return codes.expectation_gradient(self.posterior(x), costs, states).flatten(1)
