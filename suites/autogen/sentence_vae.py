"""A VAE of sentences with LSTM encoder and decoder (Bowman et al. 2016, arXiv 1511.06349), and AutoGen's objective.

AutoGen (Mansbridge et al. 2018, arXiv 1806.04480) maximises the likelihood of the data together with that
of m perfect reconstructions of each datum, which are further draws of p(x|z) at the same code. The bound on

    log integral p(z) p(x|z)^(1 + m) dz   is   (1 + m) E_q log p(x|z) - KL(q(z|x) || p(z)).

m = 0 is the VAE. The bounds that are reported never carry m.
"""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge, Le
from latentbench.core.capabilities import Elbo
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo
from latentbench.declare import Example, model
from latentbench.models import checks, densities
from pydantic import NonNegativeFloat, PositiveInt
from torch import Generator, Tensor, nn

Gaussian = tuple[Tensor, Tensor]
#: The number of the end mark, with which rows are padded.
END = 0


def autogen_bound(log_px: Tensor, rate: Tensor, m: float) -> Tensor:
    """(1 + m) log p(x|z) - KL, nats: the bound on the log-likelihood of x and m reconstructions of it."""
    return (1.0 + m) * log_px - rate


@model(
    "sentence-vae",
    "Trainable VariationalBound Sampler Encoder Reconstructor GaussianEncoder CodeLikelihood "
    "StandardNormalPrior NormalisedLikelihood",
    "LSTM sentence VAE; AutoGen's m, annealed KL or word dropout",
    examples=(
        Example("tokens", {"latent_dim": 3, "embedding": 4, "width": 6}, "elbo"),
        Example("tokens", {"latent_dim": 3, "embedding": 4, "width": 6, "m": 1.0, "word_dropout": 0.3}),
    ),
)
class SentenceVAE(nn.Module):
    """An LSTM sentence VAE.

    The decoder has the code at every step, beside the word before, and in its first state. A sentence's probability is
    that of its words and of the end mark; what stands after is padding and has no part in it.

    Args:
        info: the data; vectors of word numbers, 0 from the end on.
        latent_dim: width of the code.
        embedding: width of the words' vectors, shared by encoder and decoder.
        width: of either LSTM.
        m: reconstructions, AutoGen's m; 0 is the VAE.
        warmup: share of training over which the weight of the KL rises linearly from 0 to 1.
        word_dropout: share of the words before that the decoder does not see in training (it sees ``<unk>``, number 1).

    Raises:
        UserError: a parameter is out of its range, or the data are not discrete vectors.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        latent_dim: PositiveInt = 32,
        embedding: PositiveInt = 128,
        width: PositiveInt = 256,
        m: NonNegativeFloat = 0.0,
        warmup: Annotated[float, Ge(0), Le(1)] = 0.0,
        word_dropout: Annotated[float, Ge(0), Le(1)] = 0.0,
    ) -> None:
        checks.support("SentenceVAE", info, "discrete")
        super().__init__()
        self.length = checks.vector_length("SentenceVAE", info)
        self.words = info.levels or 0
        self.latent_dim = checks.whole("latent_dim", latent_dim)
        self.m = checks.number("m", m)
        self.warmup = checks.number("warmup", warmup, most=1.0)
        self.word_dropout = checks.number("word_dropout", word_dropout, most=1.0)
        embedding, width = checks.whole("embedding", embedding), checks.whole("width", width)
        self.embedding = nn.Embedding(self.words + 1, embedding)  # the last one opens a sentence
        self.encoder = nn.LSTM(embedding, width, batch_first=True)
        self.q = nn.Linear(width, 2 * self.latent_dim)
        self.first = nn.Linear(self.latent_dim, 2 * width)
        self.decoder = nn.LSTM(embedding + self.latent_dim, width, batch_first=True)
        self.out = nn.Linear(width, self.words)

    def _tokens(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Word numbers (N, T) and which of them count, (N, T) float: up to the first end mark."""
        tokens = x.long()
        if tokens.shape[1:] != (self.length,):
            raise UserError(f"sentences of shape {tuple(x.shape[1:])} for a model of {self.length} words")
        ended = (tokens == END).long().cumsum(1)
        return tokens, (ended - (tokens == END).long() == 0).to(x.dtype)

    def posterior(self, x: Tensor) -> Gaussian:
        """Mean and log standard deviation of q(z|x), each (N, latent_dim), from the encoder's state at the end mark."""
        tokens, counts = self._tokens(x)
        states, _ = self.encoder(self.embedding(tokens))
        last = counts.sum(1).long() - 1
        at_end = states.gather(1, last[:, None, None].expand(-1, 1, states.shape[-1]))[:, 0]
        mean, log_std = self.q(at_end).chunk(2, -1)
        return mean, log_std.clamp(-6.0, 6.0)

    def _states(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The decoder's first hidden and cell state, each (1, N, width)."""
        hidden, cell = torch.tanh(self.first(z)).chunk(2, -1)
        return hidden[None].contiguous(), cell[None].contiguous()

    def log_likelihood(self, x: Tensor, z: Tensor, seen: Tensor | None = None) -> Tensor:
        """log p(x | z), (N, T) and (N, latent_dim) to (N,) nats.

        `seen` (N, T - 1) are the words before as the decoder sees them, where word dropout has changed them.
        """
        tokens, counts = self._tokens(x)
        before = tokens[:, :-1] if seen is None else seen
        opened = nn.functional.pad(before, (1, 0), value=self.words)
        given = torch.cat([self.embedding(opened), z[:, None].expand(-1, self.length, -1)], -1)
        states, _ = self.decoder(given, self._states(z))
        logits = self.out(states)
        log_p = logits.gather(-1, tokens[..., None])[..., 0] - logits.logsumexp(-1)
        return (log_p * counts).sum(1)

    def _noise(self, *shape: int, generator: Generator, like: Tensor) -> Tensor:
        return torch.randn((*shape, self.latent_dim), generator=generator, device=like.device, dtype=like.dtype)

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        """The negative AutoGen bound with the KL's weight; `rate` and `distortion` in nats a sentence, without m."""
        x = batch.x
        noise = self._noise(x.shape[0], generator=generator, like=x)
        seen = None
        if self.word_dropout:
            uniform = torch.rand((x.shape[0], self.length - 1), generator=generator, device=x.device)
            seen = torch.where(uniform < self.word_dropout, 1, x[:, :-1].long())
        mean, log_std = self.posterior(x)
        log_px = self.log_likelihood(x, torch.addcmul(mean, torch.exp(log_std), noise), seen).mean()
        rate = densities.normal_kl(mean, log_std).mean()
        weight = min(batch.progress / self.warmup, 1.0) if self.warmup else 1.0
        loss = -autogen_bound(log_px, weight * rate, self.m)
        return {"loss": loss, "rate": rate.detach(), "distortion": -log_px.detach()}

    def elbo(self, x: Tensor, generator: Generator) -> Elbo:
        """One-sample distortion and the closed-form rate; no m, no weight."""
        mean, log_std = self.posterior(x)
        z = torch.addcmul(mean, torch.exp(log_std), self._noise(x.shape[0], generator=generator, like=x))
        return Elbo(rate=densities.normal_kl(mean, log_std), distortion=-self.log_likelihood(x, z))

    def log_importance_weights(self, x: Tensor, posterior: Gaussian, k: int, generator: Generator) -> Tensor:
        """log p(x, z_i) - log q(z_i | x) for k fresh draws, (k, N) nats; one draw of every sentence at a time."""
        mean, log_std = posterior
        weights = []
        for noise in self._noise(k, x.shape[0], generator=generator, like=x):
            z = torch.addcmul(mean, torch.exp(log_std), noise)
            log_q = densities.standard_normal(noise) - log_std.sum(-1)
            weights.append(self.log_likelihood(x, z) + densities.standard_normal(z) - log_q)
        return torch.stack(weights)

    def encode(self, x: Tensor) -> Tensor:
        """Posterior means, (N, latent_dim)."""
        return self.posterior(x)[0]

    def encode_sample(self, x: Tensor, generator: Generator) -> Tensor:
        """One posterior draw, (N, latent_dim)."""
        mean, log_std = self.posterior(x)
        return torch.addcmul(mean, torch.exp(log_std), self._noise(x.shape[0], generator=generator, like=x))

    def encode_gaussian(self, x: Tensor) -> Gaussian:
        """Mean and log-variance of q(z|x), each (N, latent_dim)."""
        mean, log_std = self.posterior(x)
        return mean, 2.0 * log_std

    def _write(self, z: Tensor, generator: Generator | None) -> Tensor:
        """Sentences (N, T) float, word by word: drawn, or the likeliest word at each step; 0 after the end mark."""
        state = self._states(z)
        word = torch.full((z.shape[0],), self.words, dtype=torch.long, device=z.device)
        going = torch.ones_like(word)
        written = []
        for _ in range(self.length):
            step, state = self.decoder(torch.cat([self.embedding(word), z], -1)[:, None], state)
            logits = self.out(step[:, 0])
            if generator is not None:
                logits = logits - torch.empty_like(logits).exponential_(generator=generator).log()  # Gumbel-max
            word = logits.argmax(-1)
            written.append(word * going)
            going = going * (word != END).long()
        return torch.stack(written, 1).to(z.dtype)

    def sample(self, n: int, generator: Generator) -> Tensor:
        """(n, T) sentences at codes from the prior."""
        return self._write(self._noise(n, generator=generator, like=self.q.weight), generator)

    def reconstruct(self, x: Tensor) -> Tensor:
        """(N, T): the likeliest word at each step, at the posterior mean."""
        return self._write(self.encode(x), None)
