"""Ways to learn a latent-variable model p(x, z; theta) with a proposal q(z | x; phi) (Li et al., arXiv 2311.02516).

All need r = log p(x, z) - log q(z | x), (rows, K), of K draws z ~ q alone. A step ascends sum_k c_k grad log p(x, z_k)
in theta and then, with r anew, sum_k d_k grad log q(z_k | x) in phi, a score-function estimator; ways differ in c and
d. These are softmaxes of r and 2 r: no importance weight leaves log space, where the chi^2 divergence would overflow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import torch
from latentbench.core.types import DataInfo, MetricValue
from latentbench.declare import Example, metric, model
from latentbench.evaluation.studies import over_problems
from latentbench.evaluation.view import View
from latentbench.models import checks
from latentbench.models.study import Arrays, Problem, Study
from pydantic import NonNegativeInt, PositiveInt
from torch import Generator, Tensor

from .families import Mixture, Neurons

SMALL = {"epochs": 1, "samples": 2, "problems": 2}
EXAMPLES = (Example("real-vector", SMALL), Example("real-vector", {**SMALL, "family": "neurons"}))
Way = Callable[[Tensor], Tensor]


def vimco(r: Tensor) -> Tensor:
    """Ascends E log mean exp r in q: the signal of a draw is what it adds where else the others' mean r stood."""
    others = (r.sum(1, keepdim=True) - r) / (r.shape[1] - 1)
    share = r.softmax(1)
    return -((1 - share).clamp(min=1e-7) + (others - r.logsumexp(1, keepdim=True)).exp()).log() - share


#: c, of the ELBO or of the estimate log mean exp r of log p(x).
UPDATES: dict[str, Way] = {"elbo": lambda r: torch.ones_like(r) / r.shape[1], "marginal": lambda r: r.softmax(1)}
#: d. The ELBO's is r itself, as in the authors' code, or less the mean of the other draws; KL(p || q)'s has normalised
#: weights; the log of V = E_q[(p / q)^2] = p(x)^2 (1 + chi^2(p || q)) squares them; CHIVI halves ELBO - log V.
DIVERGENCES: dict[str, Way] = {
    "reverse-kl": lambda r: r / r.shape[1],
    "cv": lambda r: (r - r.mean(1, keepdim=True)) / (r.shape[1] - 1),
    "forward-kl": lambda r: r.softmax(1),
    "chi2": lambda r: (2 * r).softmax(1),
    "sandwich": lambda r: (r / r.shape[1] + (2 * r).softmax(1)) / 2,
    "importance": vimco,
}


@model("latent-learner", "Iterative Study", "alternating steps in a model and in its proposal", examples=EXAMPLES)
class LatentLearner(Study):
    """theta and phi, from observations alone; ``marginal`` and ``chi2`` are the paper's algorithm 1.

    Args:
        info: not used.
        family: of `families`, with numbers of observations to learn from, to be judged by and a step, and Adam's rate.
        alone: hidden neurons are ignored.
        update, divergence: what steps in theta and in phi do.
        epochs, samples, problems: passes in order (none leaves the start), K, number of truths.
    """

    def __init__(
        self,
        info: DataInfo,
        *,
        family: Literal["mixture", "neurons"] = "mixture",
        alone: bool = False,
        update: str = "marginal",
        divergence: str = "chi2",
        epochs: NonNegativeInt = 200,
        samples: PositiveInt = 5000,
        problems: PositiveInt = 1,
    ) -> None:
        super().__init__(info, problems=problems)
        self.c = UPDATES[checks.one_of("update", update, UPDATES)]
        self.d = DIVERGENCES[checks.one_of("divergence", divergence, DIVERGENCES)]
        self.family = dict[str, Any](mixture=Mixture, neurons=Neurons)[family]()
        self.family.alone = alone
        self.epochs, self.samples = epochs, checks.whole("samples", samples, 2)

    def problem(self, rng: np.random.Generator) -> Problem:
        draws = torch.Generator().manual_seed(int(rng.integers(2**62)))
        theta = self.family.truth(draws)
        learn, _ = self.family.simulate(theta, self.family.train, draws)
        x, z = self.family.simulate(theta, self.family.test, draws)
        return Problem({"x": learn}, {"learn": learn, "x": x, "z": z, "theta": theta.numpy()})

    def answer(self, given: Arrays, rng: np.random.Generator) -> Mapping[str, Any]:
        family, draws = self.family, torch.Generator().manual_seed(int(rng.integers(2**62)))
        theta, phi = (start.clone().requires_grad_() for start in family.start)
        ascend_theta, ascend_phi = (torch.optim.Adam([a], family.lr, maximize=True) for a in (theta, phi))
        for x in given["x"].split(family.batch) * self.epochs:
            z = family.draw(phi.detach(), x, self.samples, draws)
            log_q, log_p = family.proposal(phi, x, z), family.joint(theta, x, z)
            theta.grad = torch.autograd.grad((self.c((log_p - log_q).detach()) * log_p).sum() / len(x), theta)[0]
            ascend_theta.step()
            r = (family.joint(theta.detach(), x, z) - log_q).detach()
            phi.grad = torch.autograd.grad((self.d(r) * log_q).sum() / len(x), phi)[0]
            ascend_phi.step()
        return {"theta": theta.detach(), "phi": phi.detach()}


@metric("known_ll", "Study", "nats", "higher", settings={"of": "marginal", "draws": 1000}, lowest={"draws": 1})
def known_ll(model: LatentLearner, view: View, settings: Mapping[str, Any], generator: Generator) -> MetricValue:
    """Mean log density of a test observation.

    Of the ``marginal`` p(x), by quadrature or a filter of `draws` particles, the same for all ways of learning; of its
    ``estimate`` by `draws` draws from the learnt proposal, as in the paper; of the ``complete`` p(x, z) at the true z;
    of the true ``latents``, q(z | x). Of the mixture's ``training`` points, less the greatest that there is.
    """
    family, of, draws = model.family, settings["of"], int(settings["draws"])

    def measure(truth: Arrays, answer: Arrays) -> float:
        theta, phi = (torch.as_tensor(answer[name], dtype=torch.float32) for name in ("theta", "phi"))
        x = truth["learn" if of == "training" else "x"]
        if of in ("marginal", "training"):
            best = -torch.distributions.Bernoulli(x.double().mean()).entropy() if of == "training" else 0.0
            return float(family.log_likelihood(theta, x, draws, generator).mean() - best)
        z = family.draw(phi, x, draws, generator) if of == "estimate" else truth["z"]
        log_p, log_q = family.joint(theta, x, z), family.proposal(phi, x, z)
        estimate = (log_p - log_q).logsumexp(1) - np.log(draws)
        return float({"estimate": estimate, "complete": log_p, "latents": log_q}[of].mean())

    return over_problems(model, measure)


@metric("parameter_error", "Study", "1", "lower", settings={"of": "means"}, within=(0.0, None))
def parameter_error(model: LatentLearner, view: View, settings: Mapping[str, Any], generator: Generator) -> MetricValue:
    """Mean absolute error of one of the parts of the model's parameters that its family names."""
    part = model.family.parts[settings["of"]]
    return over_problems(model, lambda truth, answer: np.abs(answer["theta"] - truth["theta"])[part].mean())
