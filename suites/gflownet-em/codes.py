"""Laws over compositional codes that are few enough to be listed: K^m codes of m places with K symbols each.

Code c has symbol `symbols(m, K)[c, t]` at place t, the first place being the most significant. Tables are over all
codes: log p(x, z) is (n, K^m), and so is log q(z | x), whatever the form of q.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional
from torch.nn.utils import skip_init


def symbols(places: int, alphabet: int) -> Tensor:
    """(K^m, m) int64, each row a code."""
    return torch.cartesian_prod(*[torch.arange(alphabet)] * places).reshape(-1, places)


def number(z: Tensor, alphabet: int) -> Tensor:
    """(n,) int64: which row of `symbols` each code (n, m) is."""
    return (z * alphabet ** torch.arange(z.shape[1] - 1, -1, -1)).sum(1)


def network(widths: Sequence[int], draws: Generator) -> nn.Sequential:
    """Linear layers with leaky ReLUs between them; weights and biases are uniform within 1 / sqrt(in)."""
    layers = [skip_init(nn.Linear, n, m) for n, m in pairwise(widths)]
    for one in layers:
        for weights in one.parameters():
            nn.init.uniform_(weights, -(one.in_features**-0.5), one.in_features**-0.5, generator=draws)
    return nn.Sequential(*[part for one in layers for part in (one, nn.LeakyReLU())][:-1])


class Policy(nn.Module):
    """q(z | x), which writes the symbols of a code one after the other, and log Z(x): heads of one network.

    Args:
        inputs: numbers in a row x.
        places, alphabet: m and K.
        hidden: widths of the network.
        factorised: whether it is kept from seeing what is written already, so that q is a product over places.
    """

    def __init__(
        self, inputs: int, places: int, alphabet: int, hidden: Sequence[int], factorised: bool, draws: Generator
    ) -> None:
        super().__init__()
        self.places, self.alphabet, self.factorised = places, alphabet, factorised
        self.net = network([inputs + places * alphabet, *hidden, places * alphabet + 1], draws)

    def heads(self, x: Tensor, written: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probabilities (..., m, K) of the symbol at each place and log Z (...,), given `written` (..., m K)."""
        out = self.net(torch.cat([x, written * (not self.factorised)], -1))
        return out[..., :-1].unflatten(-1, (self.places, self.alphabet)).log_softmax(-1), out[..., -1]

    def sample(self, x: Tensor, draws: Generator) -> Tensor:
        """(n, m) symbols."""
        z = torch.zeros(len(x), self.places, dtype=torch.long)
        written = x.new_zeros(len(x), self.places, self.alphabet)
        for t in range(self.places):
            p = self.heads(x, written.flatten(1))[0][:, t].exp()
            z[:, t] = torch.multinomial(p, 1, generator=draws)[:, 0]
            written[torch.arange(len(x)), t, z[:, t]] = 1.0
        return z

    def log_prob(self, x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """log q(z | x) and log Z(x), both (n,), of codes (n, m)."""
        before = torch.ones(self.places, self.places).tril(-1)[:, None, :, None]  # (step, 1, place, 1)
        written = (before * functional.one_hot(z, self.alphabet)).flatten(2)  # (step, n, m K)
        log_p, log_z = self.heads(x.expand(self.places, *x.shape), written)
        steps = log_p.diagonal(dim1=0, dim2=2).permute(0, 2, 1)  # (n, place, symbol)
        return steps.gather(2, z[:, :, None]).sum((1, 2)), log_z[0]

    def log_table(self, x: Tensor) -> Tensor:
        """log q(z | x) of all codes, (n, K^m): a walk over the tree of what can be written."""
        if self.factorised:
            return log_product(self.heads(x, x.new_zeros(len(x), self.places * self.alphabet))[0])
        found = x.new_zeros(len(x), 1)
        for t in range(self.places):
            first = functional.one_hot(symbols(t, self.alphabet), self.alphabet).float() if t else x.new_zeros(1, 0, 1)
            written = functional.pad(first.flatten(1), (0, (self.places - t) * self.alphabet))
            shape = (len(x), len(written), -1)
            log_p, _ = self.heads(x[:, None].expand(shape), written.expand(shape))
            found = (found[:, :, None] + log_p[:, :, t]).flatten(1)
        return found


def trajectory_balance(policy: Policy, x: Tensor, z: Tensor, log_joint: Tensor) -> Tensor:
    """Mean over rows of ((log Z(x) + log q(z | x) - log p(x, z)) / m)^2, given log p(x, z) (n,)."""
    log_q, log_z = policy.log_prob(x, z)
    return ((log_z + log_q - log_joint) / policy.places).square().mean()


def reverse_kl(policy: Policy, x: Tensor, log_joint: Tensor) -> Tensor:
    """Mean over rows of KL(q || p(z | x)) - log p(x), summed over all codes, given log p(x, z) (n, K^m)."""
    log_q = policy.log_table(x)
    return (log_q.exp() * (log_q - log_joint)).sum(1).mean()


def mean_field(log_joint: Tensor, q: Tensor, alphabet: int, sweeps: int) -> Tensor:
    """Coordinate ascent on the ELBO in q (n, m, K), a product over places; place after place, `sweeps` times."""
    q, codes = q.clone(), symbols(q.shape[1], alphabet)
    for t in list(range(q.shape[1])) * sweeps:
        others = log_product(torch.cat([q[:, :t], torch.ones_like(q[:, :1]), q[:, t + 1 :]], 1).log())
        q[:, t] = ((others.exp() * log_joint) @ functional.one_hot(codes[:, t], alphabet).to(q)).softmax(1)
    return q


def log_product(log_q: Tensor) -> Tensor:
    """(n, m, K) to (n, K^m): the log-probability of each code, of those of its symbols."""
    found = log_q.new_zeros(len(log_q), 1)
    for t in range(log_q.shape[1]):
        found = (found[:, :, None] + log_q[:, t, None]).flatten(1)
    return found


def gibbs(log_joint: Tensor, z: Tensor, alphabet: int, sweeps: int, draws: Generator) -> Tensor:
    """Codes (n, m) after `sweeps` of drawing one place after the other given the rest, from log p(x, z) (n, K^m)."""
    z = z.clone()
    for t in list(range(z.shape[1])) * sweeps:
        step = alphabet ** (z.shape[1] - 1 - t)
        candidates = (number(z, alphabet) - step * z[:, t])[:, None] + step * torch.arange(alphabet)
        z[:, t] = torch.multinomial(log_joint.gather(1, candidates).softmax(1), 1, generator=draws)[:, 0]
    return z
