"""What every model must do, on each of its declared examples."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from latentbench.core.capabilities import PROPERTIES, capabilities_of
from latentbench.core.imports import load
from latentbench.core.types import Batch, DataInfo
from latentbench.spec.registry import models
from torch import Generator, Tensor, nn

N = 24

BINARY = DataInfo((12,), "binary", N, mean=torch.linspace(0.0, 1.0, 12))
BINARY_IMAGE = DataInfo((1, 9, 8), "binary", N)
UNIT = DataInfo((10,), "unit", N, mean=torch.full((10,), 0.3))
REAL = DataInfo((5,), "real", N, mean=torch.zeros(5))
REAL_IMAGE = DataInfo((1, 8, 8), "real", N, mean=torch.full((1, 8, 8), 0.5))
RGB = DataInfo((3, 8, 8), "real", N)
DISCRETE = DataInfo((7,), "discrete", N, levels=6, mean=torch.full((7,), 2.5))
DISCRETE_IMAGE = DataInfo((1, 8, 8), "discrete", N, levels=4)
UNIT_IMAGE = DataInfo((1, 9, 8), "unit", N)

#: Data of declared examples, as far as a tensor of independent rows is all that they are.
KINDS = {
    "binary-vector": BINARY,
    "binary-image": BINARY_IMAGE,
    "unit-vector": UNIT,
    "unit-image": UNIT_IMAGE,
    "real-vector": REAL,
    "real-image": REAL_IMAGE,
    "rgb-image": RGB,
    "discrete-vector": DISCRETE,
    "discrete-image": DISCRETE_IMAGE,
}


#: Models that are learnt without data, or keep only a part of what is asked here: their own tests say which.
APART = ("cnf", "lattice-arm", "lattice-mam", "marginalization-model", "planar-flow", "polynomial-programme")


@dataclass(frozen=True)
class Case:
    name: str
    cls: Callable[..., nn.Module]
    info: DataInfo
    can: frozenset[str]
    params: Mapping[str, Any]


CASES = [
    Case(f"{name}/{i}", load(entry.target), KINDS[example.data], entry.can, example.params)
    for name, entry in models().items()
    for i, example in enumerate(entry.examples)
    if example.data in KINDS and name not in APART
]


def gen(seed: int = 0) -> Generator:
    return torch.Generator().manual_seed(seed)


def data(info: DataInfo, n: int = N, seed: int = 1) -> Tensor:
    """Samples of the support with some structure: two clusters."""
    g = gen(seed)
    middle = torch.randn(2, *info.shape, generator=g)[torch.arange(n) % 2]
    y = middle + 0.5 * torch.randn(n, *info.shape, generator=g)
    if info.support == "binary":
        return (y > 0).float()
    if info.support == "unit":
        return torch.sigmoid(y)
    return torch.floor(torch.sigmoid(y) * (info.levels or 1)) if info.support == "discrete" else y


def extreme(info: DataInfo) -> Tensor:
    """The corners of the support, and for real data values far out."""
    low, high = {"real": (-1e4, 1e4), "discrete": (0.0, float((info.levels or 1) - 1))}.get(info.support, (0.0, 1.0))
    x = torch.full((4, *info.shape), low)
    x[1], x[2].view(-1)[::2] = high, high
    return x


def build(case: Case, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return case.cls(case.info, **case.params)


def train(model: nn.Module, info: DataInfo, steps: int = 3) -> list[float]:
    """A few steps of Adam, or `fit`; the losses."""
    x = data(info)
    if "Fittable" in capabilities_of(model):
        model.fit(x, gen())
        return []
    if "Preparable" in capabilities_of(model):
        model.prepare(x, gen())
    optimiser, g, losses = torch.optim.Adam(model.parameters(), 1e-2), gen(), []
    model.train()
    for step in range(steps):
        out = model.loss(Batch(x, N, step), g)
        optimiser.zero_grad()
        out["loss"].backward()
        optimiser.step()
        losses.append(out["loss"].item())
    model.eval()
    return losses


def answers(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """What the model says of x and draws, by capability."""
    can, n = capabilities_of(model), x.shape[0]
    out = {}
    if "ExactLikelihood" in can:
        out["log_prob"] = model.log_prob(x)
    if "VariationalBound" in can:
        bound = model.elbo(x, gen())
        out["rate"], out["distortion"] = bound.rate, bound.distortion
        out["log_weights"] = model.log_importance_weights(x, model.posterior(x), 5, gen())
    if "BoundTerms" in can:
        out |= {f"bound {k}": v for k, v in model.bound_terms(x, gen()).items()}
    if "PathSampler" in can:
        out["path"] = model.sample_path(n, 3, gen())
    if "Sampler" in can:
        out["sample"] = model.sample(n, gen())
    if "Encoder" in can:
        out["code"], out["draw"] = model.encode(x), model.encode_sample(x, gen())
    if "Reconstructor" in can:
        out["reconstruction"] = model.reconstruct(x)
    if "GaussianEncoder" in can:
        out["mean"], out["log_var"] = model.encode_gaussian(x)
    return out


every = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


@every
def test_capabilities(case: Case):
    assert capabilities_of(build(case)) == case.can - PROPERTIES.keys()


@every
def test_shapes_types_and_finite(case: Case):
    model = build(case)
    train(model, case.info)
    x = data(case.info, seed=2)
    with torch.no_grad():
        out = answers(model, x)
        one = answers(model, x[:1])
    for name, value in {**out, **{f"one {k}": v for k, v in one.items()}}.items():
        assert value.dtype == torch.float32, name
        assert value.isfinite().all(), name
    for name in {"log_prob", "rate", "distortion"} & set(out):
        assert out[name].shape == (N,)
    for name in {"sample", "reconstruction"} & set(out):
        assert out[name].shape == x.shape
    if "log_weights" in out:
        assert out["log_weights"].shape == (5, N)
    if "code" in out:
        assert out["code"].shape == out["draw"].shape
        assert out["code"].shape[0] == N
    if "mean" in out:
        assert out["mean"].shape == out["log_var"].shape == out["code"].shape
    if "Decoder" in case.can:
        top = getattr(model, "latent_dims", (getattr(model, "latent_dim", None) or out["code"].shape[1],))[-1]
        assert model.decode(torch.randn(4, top)).shape == (4, *case.info.shape)


@every
def test_samples_lie_in_the_support(case: Case):
    if "Sampler" not in case.can:
        pytest.skip("draws no samples")
    model = build(case)
    train(model, case.info)
    with torch.no_grad():
        x = model.sample(50, gen())
    if case.info.support == "binary" or case.params.get("likelihood") == "bernoulli":
        assert ((x == 0) | (x == 1)).all()
    if case.info.support == "discrete":
        assert ((x == x.round()) & (x >= 0) & (x < case.info.levels)).all()
    assert x.std(0).max() > 0


@every
def test_same_seeds_give_the_same_numbers(case: Case):
    results = []
    for seed in (0, 0, 7):
        model = build(case, seed)
        losses = train(model, case.info)
        with torch.no_grad():
            results.append((losses, answers(model, data(case.info, seed=2))))
    (losses, first), (again, second), (other, _) = results
    assert losses == again
    for name, value in first.items():
        torch.testing.assert_close(value, second[name], rtol=0, atol=0)
    if losses:
        assert losses != other


@every
def test_draws_come_from_the_generator_alone(case: Case):
    model = build(case)
    before = torch.get_rng_state()
    train(model, case.info)
    with torch.no_grad():
        x = data(case.info)
        answers(model, x)
        assert torch.equal(torch.get_rng_state(), before)
        if "Sampler" in case.can:
            assert not torch.equal(model.sample(N, gen(0)), model.sample(N, gen(1)))
        if "VariationalBound" in case.can and "ExactLikelihood" not in case.can:  # without a code there is no draw
            posterior = model.posterior(x)
            draws = [model.log_importance_weights(x, posterior, 2, gen(i)) for i in (0, 1)]
            assert not torch.equal(*draws)


@every
def test_gradients_reach_every_parameter(case: Case):
    if "Trainable" not in case.can:
        pytest.skip("fitted in closed form")
    model = build(case)
    train(model, case.info, steps=2)  # zero starting values may block a gradient at the first step
    model.train()
    model.zero_grad()
    out = model.loss(Batch(data(case.info), N), gen())
    assert all(value.shape == () and value.isfinite() for value in out.values())
    assert [name for name, value in out.items() if value.requires_grad] == ["loss"]
    out["loss"].backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        # A weight-normalised direction has a gradient orthogonal to itself, which is zero where it has one entry.
        if parameter.numel() > 1 or parameter.dim() < 2:
            assert parameter.grad.abs().max() > 0, name


@every
def test_training_lowers_the_loss(case: Case):
    if "Trainable" not in case.can:
        pytest.skip("fitted in closed form")
    losses = train(build(case), case.info, steps=30)
    assert sum(losses[-5:]) < sum(losses[:5])


@every
def test_no_nan_on_extreme_input(case: Case):
    model = build(case)
    train(model, case.info)
    x = extreme(case.info)
    with torch.no_grad():
        for name, value in answers(model, x).items():
            assert not value.isnan().any(), name
    if "Trainable" in case.can:
        model.train()
        model.loss(Batch(x, N), gen())["loss"].backward()
        assert not any(p.grad.isnan().any() for p in model.parameters() if p.grad is not None)


@every
def test_answers_do_not_depend_on_the_rest_of_the_batch(case: Case):
    model = build(case)
    train(model, case.info)
    x = data(case.info, seed=2)
    names = {"log_prob", "code", "reconstruction", "mean", "log_var"}
    with torch.no_grad():
        whole, part = answers(model, x), answers(model, x[3:5])
    for name in names & set(whole):
        torch.testing.assert_close(whole[name][3:5], part[name], rtol=1e-4, atol=1e-4)


@every
def test_state_dict_carries_everything(case: Case):
    model = build(case)
    train(model, case.info)
    other = build(case, seed=5)
    other.load_state_dict(copy.deepcopy(model.state_dict()))
    other.eval()
    x = data(case.info, seed=2)
    with torch.no_grad():
        for name, value in answers(model, x).items():
            torch.testing.assert_close(value, answers(other, x)[name], rtol=0, atol=0)


@every
def test_evaluation_leaves_no_trace(case: Case):
    model = build(case)
    train(model, case.info)
    before = copy.deepcopy(model.state_dict())
    with torch.no_grad():
        answers(model, data(case.info))
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0, msg=name)


@every
def test_seeds_can_be_stacked(case: Case):
    """Losses and gradients of several seeds side by side, under `torch.func.vmap`, are those of each alone."""
    if "Trainable" not in case.can:
        pytest.skip("fitted in closed form")
    models = [_Loss(build(case, seed)) for seed in (0, 1)]
    for model in models:  # off the kinks of rectifiers, where biases start and a derivative may be either
        train(model.model, case.info, steps=2)
        model.train().zero_grad()
    x = torch.stack([data(case.info, seed=seed) for seed in (3, 4)])
    parameters, buffers = torch.func.stack_module_state(models)

    def loss(parameters: dict, buffers: dict, x: Tensor) -> Tensor:
        # The same draws for both, so that each alone can be compared.
        return torch.func.functional_call(models[0], (parameters, buffers), (x, gen()))

    stacked = torch.func.vmap(torch.func.grad_and_value(loss), randomness="same")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says which of its operations it loops over
        gradients, losses = stacked(parameters, copy.deepcopy(buffers), x)
    for i, model in enumerate(models):
        alone = model(x[i], gen())
        alone.backward()
        torch.testing.assert_close(losses[i], alone.detach(), rtol=1e-4, atol=1e-4)
        for name, p in model.named_parameters():
            torch.testing.assert_close(gradients[name][i], p.grad, rtol=2e-3, atol=1e-3, msg=name)


class _Loss(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, generator: Generator) -> Tensor:
        return self.model.loss(Batch(x, N), generator)["loss"]
