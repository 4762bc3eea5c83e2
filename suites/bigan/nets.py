"""The networks of Donahue et al. 2017 (arXiv 1605.09782) for permutation-invariant MNIST, as the authors' `net.py` has
them (`mnist_mlp`, `deconvnet_mnist_mlp`): no biases and no gains, weights from N(0, 0.02^2), batch normalisation
without parameters. `Networks` holds the encoder E and the generator G that all methods have alike.
"""

from __future__ import annotations

import torch
from latentbench.core.errors import UserError
from latentbench.core.types import DataInfo
from torch import Generator, Tensor, nn
from torch.nn import functional as F  # noqa: N812

#: The authors' sizes, and the standard deviation of their initial weights.
PIXELS, WIDTH, CODE = 784, 1024, 50
STD = 0.02
LEAK = 0.2
EPSILON = 1e-8
#: Share of a batch in the statistics that evaluation uses, once 100 batches are seen.
SHARE = 0.01


class BatchNorm(nn.Module):
    """Batch normalisation without parameters. Evaluation uses moments of the batches that were `noted`, averaged over
    all of them at first and over about the last hundred later on.
    """

    mean: Tensor
    variance: Tensor
    seen: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("variance", torch.ones(width))
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, h: Tensor, noted: bool = True) -> Tensor:
        if not self.training:
            return F.batch_norm(h, self.mean, self.variance, eps=EPSILON)
        if noted:
            with torch.no_grad():
                self.seen += 1
                share = (1 / self.seen).clamp(min=SHARE)
                self.mean.lerp_(h.mean(0), share)
                self.variance.lerp_(h.var(0), share)
        return F.batch_norm(h, None, None, training=True, eps=EPSILON)


class Features(nn.Module):
    """(N, n_in) to (N, width): two layers with leaky ReLU, the second batch-normalised.

    With `condition` a code (N, condition) is added, linearly, before the second layer is normalised.
    """

    def __init__(self, n_in: int, width: int, condition: int = 0) -> None:
        super().__init__()
        self.first, self.second = linear(n_in, width, PIXELS), linear(width, width, WIDTH)
        self.condition = linear(condition, width, CODE) if condition else None
        self.norm = BatchNorm(width)

    def forward(self, x: Tensor, z: Tensor | None = None, *, noted: bool = True) -> Tensor:
        h = self.second(F.leaky_relu(self.first(x), LEAK))
        if self.condition is not None:
            h = h + self.condition(z)
        return F.leaky_relu(self.norm(h, noted), LEAK)


class Discriminator(nn.Module):
    """Log-odds (N,) that a row is real: of x, or with `latent_dim` of the pair (x, z). They are 0 before training."""

    def __init__(self, n_in: int, width: int, latent_dim: int = 0) -> None:
        super().__init__()
        self.features, self.head = Features(n_in, width, latent_dim), linear(width, 1, WIDTH, std=0.0)

    def forward(self, x: Tensor, z: Tensor | None = None, *, noted: bool = True) -> Tensor:
        return self.head(self.features(x, z, noted=noted)).squeeze(1)


class Decoder(nn.Module):
    """G: codes (N, latent_dim) to rows (N, n_out) in (0, 1); two layers with ReLU, both of which see the code."""

    def __init__(self, latent_dim: int, width: int, n_out: int) -> None:
        super().__init__()
        self.first, self.second = linear(latent_dim, width, CODE), linear(width, width, WIDTH)
        self.last, self.condition = linear(width, n_out, WIDTH), linear(latent_dim, width, CODE)
        self.norms = nn.ModuleList([BatchNorm(width), BatchNorm(width)])

    def forward(self, z: Tensor) -> Tensor:
        h = torch.relu(self.norms[0](self.first(z)))
        h = torch.relu(self.norms[1](self.second(h) + self.condition(z)))
        return torch.sigmoid(self.last(h))


class Networks(nn.Module):
    """E and G, and what they say of rows in [0, 1]; codes lie in (-1, 1)^latent_dim.

    Features are what the nearest neighbours are looked for in: the encoder's layer before its code, N x width
    (NNC_e- in the authors' README).

    Args:
        info: of rows in [0, 1].
        latent_dim: coordinates of a code.
        width: units of every hidden layer.
        code_std: standard deviation of the initial weights between features and code.

    Raises:
        UserError: the rows are no vectors in [0, 1].
    """

    def __init__(self, info: DataInfo, latent_dim: int, width: int, code_std: float = STD) -> None:
        super().__init__()
        if info.support not in ("unit", "binary") or len(info.shape) != 1:
            raise UserError("the generator gives vectors in [0, 1]", fix="preprocess: [flatten, to_unit]")
        self.latent_dim = latent_dim
        self.encoder, self.code = Features(info.dims, width), linear(width, latent_dim, WIDTH, std=code_std)
        self.generator = Decoder(latent_dim, width, info.dims)

    def code_of(self, x: Tensor) -> Tensor:
        """E(x), (N, latent_dim) in (-1, 1)."""
        return to_range(self.code(self.encoder(x)))

    def encode(self, x: Tensor) -> Tensor:
        """Features of x, (N, width)."""
        features: Tensor = self.encoder(x)
        return features

    def encode_sample(self, x: Tensor, generator: Generator) -> Tensor:
        """As `encode`: the encoder has no noise."""
        return self.encode(x)

    def reconstruct(self, x: Tensor) -> Tensor:
        """G(E(x))."""
        rows: Tensor = self.generator(self.code_of(x))
        return rows


class Generative(Networks):
    """`Networks` whose codes are uniform on (-1, 1)^latent_dim."""

    def prior(self, n: int, generator: Generator) -> Tensor:
        """Codes (n, latent_dim)."""
        like = self.code.weight
        return 2 * torch.rand(n, self.latent_dim, generator=generator, device=like.device, dtype=like.dtype) - 1

    def sample(self, n: int, generator: Generator) -> Tensor:
        """G(z), (n, dims)."""
        rows: Tensor = self.generator(self.prior(n, generator))
        return rows


def to_range(logits: Tensor) -> Tensor:
    """Log-odds to the range of the codes."""
    return 2 * torch.sigmoid(logits) - 1


def linear(n_in: int, n_out: int, authors: int, std: float = STD) -> nn.Linear:
    """A layer without bias: weights from N(0, std^2) at the authors' number of inputs, and where there are fewer
    or more, as much wider or narrower as gives its outputs the same variance.
    """
    layer = nn.Linear(n_in, n_out, bias=False)
    nn.init.normal_(layer.weight, std=std * (authors / n_in) ** 0.5)
    return layer
