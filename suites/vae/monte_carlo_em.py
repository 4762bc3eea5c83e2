"""Monte Carlo EM for the decoder of a VAE, with Hamiltonian Monte Carlo in the E step (Kingma & Welling 2014,
appendix E): no encoder; each training sample keeps a chain in p(z|x), which moves once whenever its minibatch comes,
and the weights then take a few gradient steps on log p(x, z) at where it stands.

Having no encoder, it offers no bound; `nll_iw_mcmc` measures its marginal likelihood by posterior sampling.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import torch
from latentbench.core.errors import Diverged, UserError
from latentbench.core.types import DataInfo
from latentbench.declare import Example, model
from latentbench.models import checks, densities, likelihoods, nets
from latentbench.models.hmc import HMC
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Generator, Tensor, nn


@model(
    "monte-carlo-em",
    "Fittable Sampler Decoder LikelihoodHead StandardNormalPrior",
    "the decoder of a VAE fitted by Monte Carlo EM with Hamiltonian chains; codes of few dimensions",
    examples=(Example("binary-vector", {"latent_dim": 3, "hidden": (8,), "epochs": 3}),),
)
class MonteCarloEM(nn.Module):
    """A decoder p(x|z) with a standard normal prior, fitted by Monte Carlo EM.

    Args:
        info: the data.
        latent_dim: width of the code.
        hidden: widths of the decoder's layers.
        activation: of those layers.
        network, likelihood, init: as for `VAE`.
        epochs: passes over the training set; each minibatch has one E step and one M step.
        batch_size: minibatch.
        leapfrog: leapfrog steps of an E step (the paper: 10).
        acceptance: of the E step's proposals, to which step sizes are tuned (0.9).
        updates: gradient steps of an M step (5).
        lr: of Adagrad.
        weight_decay: L2 penalty, per sample: a standard normal prior on the weights is 1 / n_train.

    Raises:
        UserError: a parameter is out of its range, or the likelihood or network does not fit the data.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        latent_dim: PositiveInt = 3,
        hidden: Sequence[PositiveInt] = (100,),
        activation: str = "tanh",
        network: checks.Choice = "mlp",
        likelihood: checks.Choice | None = None,
        init: str = "glorot",
        epochs: PositiveInt = 300,
        batch_size: PositiveInt = 100,
        leapfrog: int = 10,
        acceptance: float = 0.9,
        updates: PositiveInt = 5,
        lr: PositiveFloat = 0.02,
        weight_decay: NonNegativeFloat = 0.0,
    ) -> None:
        super().__init__()
        self.shape = tuple(info.shape)
        self.latent_dim = checks.whole("latent_dim", latent_dim)
        self.likelihood = likelihoods.build_likelihood(likelihood, info)
        checks.one_of("activation", activation, nets.ACTIVATIONS)
        widths = checks.wholes("hidden", hidden)
        parts = nets.build_network(network, info)
        self.decoder, _ = parts.decoder(self.latent_dim, widths, activation, self.likelihood.outputs)
        nets.initialise(self, checks.one_of("init", init, nets.INITS))
        self.epochs = checks.whole("epochs", epochs)
        self.batch_size = checks.whole("batch_size", batch_size)
        self.kernel = HMC(leapfrog=leapfrog, acceptance=acceptance)
        self.updates = checks.whole("updates", updates)
        self.lr = checks.number("lr", lr, above=True)
        self.weight_decay = checks.number("weight_decay", weight_decay)

    def log_joint(self, x: Tensor, z: Tensor) -> Tensor:
        """log p(x, z), (N, *shape) and (..., N, D) to (..., N) nats."""
        return self.likelihood.log_prob(x.flatten(1), self.decoder(z)) + densities.standard_normal(z)

    @torch.enable_grad()
    def fit(self, x: Tensor, generator: Generator) -> None:
        """Monte Carlo EM on x (N, *shape); chains start at draws of the prior.

        Raises:
            Diverged: the likelihood is not finite.
        """
        if tuple(x.shape[1:]) != self.shape or not len(x):
            raise UserError(f"training samples of shape {tuple(x.shape)} for a model of {self.shape}")
        n, device = len(x), x.device
        z = torch.randn((n, self.latent_dim), generator=generator, device=device)
        size = self.kernel.start(z)
        optimiser = torch.optim.Adagrad(self.parameters(), lr=self.lr, weight_decay=self.weight_decay)
        for _ in range(self.epochs):
            for index in torch.randperm(n, generator=generator, device=device).split(self.batch_size):
                rows = x[index]
                self.requires_grad_(False)  # the E step differentiates with respect to the codes alone
                density = partial(self.log_joint, rows)
                z[index], size[index], _ = self.kernel.move(z[index], size[index], density, generator)
                self.requires_grad_(True)
                for _ in range(self.updates):
                    loss = -self.likelihood.log_prob(rows.flatten(1), self.decoder(z[index])).mean()
                    optimiser.zero_grad()
                    loss.backward()
                    optimiser.step()
            if not math.isfinite(loss.item()):
                raise Diverged(f"the M step's loss is {loss.item()}")
        optimiser.zero_grad()

    def sample(self, n: int, generator: Generator) -> Tensor:
        """(n, *shape) draws of x."""
        z = torch.randn((n, self.latent_dim), generator=generator, device=next(self.parameters()).device)
        return self.likelihood.sample(self.decoder(z), generator).unflatten(1, self.shape)

    def decode(self, z: Tensor) -> Tensor:
        """The mean of p(x|z), (N, *shape)."""
        return self.likelihood.mean(self.decoder(z)).unflatten(1, self.shape)
