"""Gradient origin networks: an autoencoder without an encoder (Bond-Taylor & Willcocks 2021, arXiv 2007.02798).

    z(x) = -s grad_z L(x, F(z)) at z = 0,     minimise L(x, F(z(x))) over F                              (eq. 3 and 4)

The gradient is part of the graph, so training shapes F until one step from the origin is a good code. Beside it stand
the autoencoder of the same decoder with a mirrored encoder, and the variational form, whose code is a Gaussian.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo
from latentbench.declare import Example, model
from latentbench.models import checks, nets
from latentbench.models.vae import VAE, Gaussian
from latentbench.papers.gon.siren import Siren
from pydantic import PositiveFloat
from torch import Generator, Tensor, nn

#: The code is the gradient itself (abstract, eq. 3). The authors' scripts average the inner loss over minibatches of
#: 64, which makes it 64 times smaller; batch normalisation, where they have it, undoes that, and nothing would here.
STEP = 1.0


def origin_code(loss: Callable[[Tensor], Tensor], like: Tensor, width: int, step: float) -> Tensor:
    """-step times the gradient at z = 0 of `loss`, which takes z (N, width) to (N,); differentiable, (N, width)."""
    zero = torch.zeros((like.shape[0], width), device=like.device, dtype=like.dtype)
    gradient: Tensor = torch.func.grad(lambda z: loss(z).sum())(zero)
    return -step * gradient


def _require_no_batch_norm(decoder: nn.Module) -> None:
    """A datum's code must not depend on its batch, nor the first of two passes change the statistics of the second."""
    if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in decoder.modules()):
        raise UserError("a gradient origin network with batch normalisation", fix="network.conv.batch_norm: false")


def _siren(*, hidden: Sequence[int] = (256,) * 4, frequency: float = 30.0) -> dict[str, Any]:
    return {"hidden": hidden, "frequency": frequency}


class _Decoding(nn.Module):
    """What both autoencoders share: a decoder to values in (0, 1) and the squared error."""

    def __init__(
        self, info: DataInfo, latent_dim: int, hidden: Sequence[int], activation: str, network: checks.Choice, init: str
    ) -> None:
        checks.support("an autoencoder by squared error", info, "unit")
        super().__init__()
        self.shape = tuple(info.shape)
        self.latent_dim = checks.whole("latent_dim", latent_dim)
        self.activation = checks.one_of("activation", activation, nets.ACTIVATIONS)
        self.widths = checks.wholes("hidden", hidden)
        if (network if isinstance(network, str) else next(iter(network), "")) == "siren":
            _, parameters = checks.chosen("network", network, {"siren": _siren})
            self.decoder: nn.Module = Siren(info, self.latent_dim, **parameters)
        else:
            parts = nets.build_network(network, info)
            self.decoder, _ = parts.decoder(self.latent_dim, self.widths[::-1], self.activation, 1)
            nets.initialise(self.decoder, checks.one_of("init", init, nets.INITS))

    def squared_error(self, x: Tensor, z: Tensor) -> Tensor:
        """Squared error of the decoded code, summed over the coordinates, (N,)."""
        return (torch.sigmoid(self.decoder(z)) - x.flatten(1)).square().sum(-1)

    def encode(self, x: Tensor) -> Tensor:
        """The code, (N, latent_dim)."""
        raise NotImplementedError

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        """Mean squared error summed over the coordinates of a sample; `mse` is that of one coordinate."""
        error = self.squared_error(batch.x, self.encode(batch.x)).mean()
        return {"loss": error, "mse": error.detach() / batch.x[0].numel()}

    def encode_sample(self, x: Tensor, generator: Generator) -> Tensor:
        """The code, which is no draw: (N, latent_dim)."""
        return self.encode(x)

    def decode(self, z: Tensor) -> Tensor:
        """(N, latent_dim) to (N, *shape), in (0, 1)."""
        return torch.sigmoid(self.decoder(z)).unflatten(1, self.shape)

    def reconstruct(self, x: Tensor) -> Tensor:
        """(N, *shape)."""
        return self.decode(self.encode(x))


_SMALL = {"latent_dim": 3, "hidden": (8,)}


@model(
    "gon",
    "Trainable Encoder Decoder Reconstructor",
    "gradient origin network: the code is one gradient step from zero; decoder explicit or implicit (SIREN)",
    examples=(
        Example("unit-vector", _SMALL),
        Example("unit-image", {"latent_dim": 3, "network": {"siren": {"hidden": [8, 8]}}}),
        Example("unit-image", {**_SMALL, "network": {"conv": {"channels": [4, 6]}}, "detach": True}),
    ),
)
class GON(_Decoding):
    """A gradient origin network with squared error.

    Args:
        info: the data, in [0, 1].
        latent_dim: width of the code.
        hidden: widths of the fully connected layers, as an encoder would have them (the decoder reverses them).
        activation: of the decoder; it must be smooth, since its second derivatives are used.
        network: ``mlp``, ``{conv: {channels}}``, or ``{siren: {hidden, frequency}}`` for an implicit decoder.
        step: s, of the one gradient step.
        detach: cuts the gradient through z(x), the paper's ablation.
        init: ``glorot`` or ``default``.

    Raises:
        UserError: a parameter is out of its range, or the network does not fit the data.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        latent_dim: int = 32,
        hidden: Sequence[int] = (),
        activation: str = "elu",
        network: checks.Choice = "mlp",
        step: PositiveFloat = STEP,
        detach: bool = False,
        init: str = "default",
    ) -> None:
        super().__init__(info, latent_dim, hidden, activation, network, init)
        _require_no_batch_norm(self.decoder)
        self.step = checks.number("step", step, above=True)
        self.detach = checks.flag("detach", detach)

    def encode(self, x: Tensor) -> Tensor:
        """z(x), (N, latent_dim)."""
        z = origin_code(lambda z: self.squared_error(x, z), x, self.latent_dim, self.step)
        return z.detach() if self.detach else z


@model(
    "autoencoder",
    "Trainable Encoder Decoder Reconstructor",
    "autoencoder by squared error",
    examples=(Example("unit-image", {**_SMALL, "network": {"conv": {"channels": [4, 6]}}}),),
)
class Autoencoder(_Decoding):
    """An autoencoder by squared error, whose encoder mirrors its decoder; about twice the parameters of a `GON`.

    Args:
        info, latent_dim, hidden, activation, network, init: as for `GON`; there is no implicit encoder to mirror a
            ``siren``.

    Raises:
        UserError: a parameter is out of its range, or the network does not fit the data.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        latent_dim: int = 32,
        hidden: Sequence[int] = (),
        activation: str = "elu",
        network: checks.Choice = "mlp",
        init: str = "default",
    ) -> None:
        parts = nets.build_network(network, info)
        super().__init__(info, latent_dim, hidden, activation, network, init)
        body, features = parts.encoder(self.widths, self.activation)
        self.encoder = nn.Sequential(body, nn.Linear(features, self.latent_dim))
        nets.initialise(self.encoder, init)

    def encode(self, x: Tensor) -> Tensor:
        code: Tensor = self.encoder(x)
        return code


@model(
    "variational-gon",
    "Trainable VariationalBound Sampler Encoder Decoder Reconstructor GaussianEncoder "
    "LikelihoodHead StandardNormalPrior",
    "VAE whose posterior is read off one gradient step from zero",
    examples=(Example("binary-vector", _SMALL),),
)
class VariationalGON(VAE):
    """A VAE whose posterior is read off the gradient at the origin: mean and log standard deviation are linear in z(x),
    and z(x) = -s grad (-ELBO) at z = 0, where codes are drawn from the same linear maps (section 3.3).

    The inner draw has noise in training and none in evaluation, as in the authors' code.

    Args:
        info, latent_dim, hidden, activation, network, likelihood, init: as for `VAE`.
        step: s, of the one gradient step.

    Raises:
        UserError: a parameter is out of its range, or the likelihood or network does not fit the data.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        latent_dim: int = 48,
        hidden: Sequence[int] = (),
        activation: str = "elu",
        network: checks.Choice = "mlp",
        likelihood: checks.Choice | None = None,
        step: PositiveFloat = STEP,
        init: str = "default",
    ) -> None:
        super().__init__(
            info,
            latent_dim=latent_dim,
            hidden=hidden,
            activation=activation,
            network=network,
            likelihood=likelihood,
            kl="analytic",
            init=init,
        )
        _require_no_batch_norm(self.decoder)
        self.step = checks.number("step", step, above=True)
        self.q = nn.ModuleList([nets.GaussianLayer(nn.Identity(), latent_dim, latent_dim)])  # in place of an encoder

    def _from_origin(self, x: Tensor, noise: Tensor) -> Gaussian:
        def inner(z: Tensor) -> Tensor:
            log_px, rate = self._analytic_terms(x, self.q[0](z), noise)
            return rate - log_px

        posterior: Gaussian = self.q[0](origin_code(inner, x, self.latent_dims[0], self.step))
        return posterior

    def posterior(self, x: Tensor) -> Gaussian:
        """Mean and log standard deviation of q(z|x), each (N, latent_dim)."""
        return self._from_origin(x, x.new_zeros(x.shape[0], self.latent_dims[0]))

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        """The negative ELBO at the posterior from the origin, one sample; `rate` and `distortion` in nats."""
        x = batch.x
        inner, outer = (self._noise(x.shape[0], generator=generator, like=x) for _ in range(2))
        log_px, rate = self._analytic_terms(x, self._from_origin(x, inner), outer)
        rate, distortion = rate.mean(), -log_px.mean()
        return {"loss": distortion + rate, "rate": rate.detach(), "distortion": distortion.detach()}

    def encode(self, x: Tensor) -> Tensor:
        """Posterior means, (N, latent_dim)."""
        return self.posterior(x)[0]

    def encode_sample(self, x: Tensor, generator: Generator) -> Tensor:
        """One posterior draw, (N, latent_dim)."""
        mean, log_std = self.posterior(x)
        return torch.addcmul(mean, torch.exp(log_std), self._noise(x.shape[0], generator=generator, like=x))
