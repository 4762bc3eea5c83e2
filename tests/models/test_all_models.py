"""What every model must do. A new model is tested by adding a line to `CASES`."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from latentbench.core.capabilities import capabilities_of
from latentbench.core.types import Batch, DataInfo
from latentbench.models.baselines import PPCA, Factorised, Gaussian
from latentbench.models.circuits.classical import ChowLiuTree, LearnSPN
from latentbench.models.circuits.hmm import HMM, SequenceTransformer
from latentbench.models.circuits.latent_tree import HCLT
from latentbench.models.circuits.patches import PatchCircuit
from latentbench.models.circuits.pic import PIC
from latentbench.models.coupling import CouplingFlow
from latentbench.models.diffusion.mulan import MuLAN
from latentbench.models.diffusion.nfdm import NFDM
from latentbench.models.diffusion.vdm import VDM
from latentbench.models.discrete.class_vae import ClassVAE
from latentbench.models.discrete.vae import DiscreteVAE
from latentbench.models.gon import GON, Autoencoder, VariationalGON
from latentbench.models.mixtures import BernoulliMixture, GaussianMixture
from latentbench.models.monte_carlo_em import MonteCarloEM
from latentbench.models.pixel_vae import PixelVAE
from latentbench.models.pixelcnn import PixelCNN
from latentbench.models.real_nvp import RealNVP
from latentbench.models.sentence_vae import SentenceVAE
from latentbench.models.skip_hvae import SkipHVAE
from latentbench.models.tcvae import BetaTCVAE
from latentbench.models.vae import VAE, HierarchicalVAE
from latentbench.models.wake_sleep import WakeSleep
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

SMALL = {"latent_dim": 3, "hidden": (8,)}
CONV = {"conv": {"channels": [4, 6]}}
CONV_BN = {"conv": {"channels": [4, 6], "batch_norm": True}}
TRAINED = {"Trainable"}
BOUND = {"VariationalBound", "Sampler", "Encoder", "Decoder", "Reconstructor"}
ONE_CODE = TRAINED | BOUND | {"GaussianEncoder"}
DISCRETE_CODE = TRAINED | BOUND | {"EstimatedGradient"}
CLASS = {"Trainable", "VariationalBound", "Sampler"}
CODE_3X2 = {"layout": "3x2", "hidden": (8,)}
FLOW = {"Trainable", "ExactLikelihood", "Sampler"}
DENSITY = {"Fittable", "ExactLikelihood", "Sampler"}
CIRCUIT = FLOW | {"Preparable"}
TEACHER = {"teacher_steps": 3, "width": 8, "layers": 1, "heads": 2}
CODER = {"Trainable", "Encoder", "Decoder", "Reconstructor"}
UNIT_IMAGE = DataInfo((1, 9, 8), "unit", N)
PIXEL = TRAINED | {"VariationalBound", "Sampler", "Encoder", "CodeLikelihood"}
DIFFUSION = {"Trainable", "BoundTerms", "Sampler", "PathSampler"}
NET = {"mlp": {"width": 16, "layers": 2}}
NOISY = {"gamma": [-2.0, 4.0], "sampling_steps": 5}
UNET = {"unet": {"width": 8, "multipliers": [1], "fourier": [1]}}
CAUSAL = {"window": 3, "channels": 4, "layers": 1, "condition": 1}


@dataclass(frozen=True)
class Case:
    name: str
    cls: Callable[..., nn.Module]
    info: DataInfo
    can: set[str]
    params: dict


CASES = [
    Case("vae", VAE, BINARY, ONE_CODE, {**SMALL, "bias_from_mean": True}),
    Case("vae-k", VAE, BINARY, ONE_CODE, {**SMALL, "k": 4, "beta": 2.0}),
    Case("vae-analytic", VAE, BINARY, ONE_CODE, {**SMALL, "k": 2, "kl": "analytic"}),
    Case("iwae", VAE, BINARY, ONE_CODE, {**SMALL, "k": 4, "objective": "iwae"}),
    Case("vae-unit", VAE, UNIT, ONE_CODE, {**SMALL, "likelihood": "bernoulli", "bias_from_mean": True}),
    Case("vae-gaussian", VAE, REAL, ONE_CODE, {**SMALL, "bias_from_mean": True, "activation": "relu"}),
    Case("vae-gaussian-fixed", VAE, REAL, ONE_CODE, {**SMALL, "likelihood": {"gaussian": {"scale": 0.5}}}),
    Case("vae-gaussian-shared", VAE, REAL, ONE_CODE, {**SMALL, "likelihood": {"gaussian": {"scale": "shared"}}}),
    Case("vae-logistic", VAE, DISCRETE, ONE_CODE, {**SMALL, "bias_from_mean": True}),
    Case("vae-categorical", VAE, DISCRETE, ONE_CODE, {**SMALL, "likelihood": "categorical", "init": "default"}),
    Case("vae-conv", VAE, BINARY_IMAGE, ONE_CODE, {**SMALL, "network": CONV, "k": 2}),
    Case("vae-conv-bn", VAE, DISCRETE_IMAGE, ONE_CODE, {**SMALL, "network": CONV_BN, "activation": "relu"}),
    Case("vae-conv-mean", VAE, REAL_IMAGE, ONE_CODE, {**SMALL, "network": CONV, "bias_from_mean": True}),
    Case("hvae", HierarchicalVAE, BINARY, TRAINED | BOUND, {"latent_dims": (4, 2), "hidden": ((8,), (6,)), "k": 2}),
    Case("hvae-3", HierarchicalVAE, REAL, TRAINED | BOUND, {"latent_dims": (4, 3, 2), "hidden": ((8,), (), (5, 5))}),
    Case("tcvae-mws", BetaTCVAE, BINARY, ONE_CODE, {**SMALL, "decoder_hidden": None}),
    Case("tcvae-mss", BetaTCVAE, BINARY_IMAGE, ONE_CODE, {**SMALL, "network": CONV, "estimator": "mss", "alpha": 0.0}),
    Case(
        "skip-hvae",
        SkipHVAE,
        BINARY_IMAGE,
        TRAINED | {"VariationalBound", "Sampler", "OutlierScorer"},
        {"latents": (2, 3), "channels": 4, "kernels": (3, 3), "strides": (2, 2), "blocks": 1},
    ),
    Case(
        "skip-hvae-patch",
        SkipHVAE,
        DISCRETE_IMAGE,
        TRAINED | {"VariationalBound", "Sampler", "OutlierScorer"},
        {"latents": (2, 3), "channels": 4, "kernels": (3, 3), "strides": (2, 1), "blocks": 2, "maps": 2, "patch": 2},
    ),
    Case("pixelcnn", PixelCNN, BINARY_IMAGE, FLOW | {"VariationalBound"}, {"window": 5, "channels": 4, "layers": 2}),
    Case("pixelcnn-rgb", PixelCNN, RGB, FLOW | {"VariationalBound"}, {"window": 3, "channels": 4, "layers": 1}),
    Case("pixel-vae-mmd", PixelVAE, BINARY, PIXEL, {**SMALL, "alpha": 1.0, "strength": 100.0}),
    Case("pixel-vae", PixelVAE, BINARY_IMAGE, PIXEL, {**SMALL, **CAUSAL}),
    Case("pixel-vae-free", PixelVAE, DISCRETE_IMAGE, PIXEL, {**SMALL, **CAUSAL, "free_bits": 0.1, "kernel": 3}),
    Case(
        "pixel-vae-flows", PixelVAE, BINARY, PIXEL, {**SMALL, "prior_flow": 2, "posterior_flow": 2, "flow_hidden": (8,)}
    ),
    Case("gon", GON, UNIT, CODER, SMALL),
    Case("gon-siren", GON, UNIT_IMAGE, CODER, {"latent_dim": 3, "network": {"siren": {"hidden": [8, 8]}}}),
    Case("gon-conv-detached", GON, UNIT_IMAGE, CODER, {**SMALL, "network": CONV, "detach": True}),
    Case("autoencoder", Autoencoder, UNIT_IMAGE, CODER, {**SMALL, "network": CONV}),
    Case("variational-gon", VariationalGON, BINARY, ONE_CODE, SMALL),
    Case(
        "sentence-vae",
        SentenceVAE,
        DISCRETE,
        (ONE_CODE - {"Decoder"}) | {"CodeLikelihood"},
        {"latent_dim": 3, "embedding": 4, "width": 6, "m": 1.0},
    ),
    Case("wake-sleep", WakeSleep, BINARY, ONE_CODE, SMALL),
    Case("wake-sleep-gaussian", WakeSleep, REAL, ONE_CODE, SMALL),
    Case("mcem", MonteCarloEM, BINARY, {"Fittable", "Sampler", "Decoder"}, {**SMALL, "epochs": 3}),
    Case("coupling", CouplingFlow, REAL, FLOW, {"couplings": 3, "hidden": (8,)}),
    Case("coupling-additive", CouplingFlow, REAL, FLOW, {"couplings": 4, "hidden": (8,), "additive": True}),
    Case("real-nvp", RealNVP, REAL_IMAGE, FLOW, {"maps": 4, "blocks": 1}),
    Case("real-nvp-rgb", RealNVP, RGB, FLOW, {"maps": 4, "blocks": 0, "batch_norm": False, "l2": 0.0}),
    Case("real-nvp-additive", RealNVP, REAL_IMAGE, FLOW, {"maps": 4, "blocks": 1, "additive": True, "scales": 3}),
    Case("factorised-binary", Factorised, BINARY, DENSITY, {}),
    Case("factorised-real", Factorised, REAL_IMAGE, DENSITY, {}),
    Case("factorised-discrete", Factorised, DISCRETE, DENSITY, {}),
    Case("gaussian", Gaussian, REAL, DENSITY, {}),
    Case("gaussian-shrunk", Gaussian, REAL_IMAGE, DENSITY, {"shrinkage": "ledoit_wolf"}),
    Case("ppca", PPCA, REAL, DENSITY | (BOUND - {"VariationalBound"}) | {"GaussianEncoder"}, {"latent_dim": 2}),
    Case("mixture-full", GaussianMixture, REAL, DENSITY, {"components": 2}),
    Case("mixture-diag", GaussianMixture, REAL_IMAGE, DENSITY, {"components": 2, "covariance": "diag"}),
    Case("mixture-tied", GaussianMixture, REAL, DENSITY, {"components": 2, "covariance": "tied"}),
    Case("mixture-bernoulli", BernoulliMixture, BINARY_IMAGE, DENSITY, {"components": 3}),
    Case("chow-liu-tree", ChowLiuTree, DISCRETE, DENSITY, {}),
    Case("learnspn", LearnSPN, BINARY, DENSITY, {"min_rows": 5}),
    Case("hclt-adam", HCLT, BINARY, CIRCUIT, {"states": 3}),
    Case("hclt-em", HCLT, DISCRETE_IMAGE, CIRCUIT, {"states": 3, "em": True}),
    Case("pic", PIC, BINARY_IMAGE, CIRCUIT, {"points": 4, "units": 8}),
    Case("pic-legendre", PIC, DISCRETE, CIRCUIT, {"points": 3, "units": 8, "rule": "gauss-legendre"}),
    Case("patch-circuit", PatchCircuit, DISCRETE_IMAGE, CIRCUIT, {"clusters": 3, "states": 2}),
    Case(
        "patch-circuit-lvd",
        PatchCircuit,
        DISCRETE_IMAGE,
        CIRCUIT,
        {**SMALL, "clusters": 4, "states": 2, "start": "progressive", "steps": 4, "teacher_steps": 2},
    ),
    Case("hmm", HMM, DISCRETE, CIRCUIT, {"states": 3}),
    Case("hmm-lvd", HMM, BINARY, CIRCUIT, {"states": 3, "start": "distilled", **TEACHER}),
    Case("sequence-transformer", SequenceTransformer, DISCRETE, FLOW, {"width": 8, "layers": 1, "heads": 2}),
    Case("discrete-gumbel", DiscreteVAE, BINARY, DISCRETE_CODE, {**CODE_3X2, "bias_from_mean": True}),
    Case(
        "discrete-reinmax",
        DiscreteVAE,
        UNIT,
        DISCRETE_CODE,
        {**CODE_3X2, "estimator": "reinmax", "likelihood": "bernoulli"},
    ),
    Case("discrete-rao", DiscreteVAE, REAL, DISCRETE_CODE, {**CODE_3X2, "estimator": {"gumbel_rao": {"draws": 3}}}),
    Case("discrete-nvil", DiscreteVAE, BINARY, DISCRETE_CODE, {**CODE_3X2, "estimator": "nvil", "prior": "learned"}),
    Case("discrete-muprop", DiscreteVAE, BINARY, DISCRETE_CODE, {"layout": "2x4", "hidden": (), "estimator": "muprop"}),
    Case("discrete-exact", DiscreteVAE, BINARY, DISCRETE_CODE, {**CODE_3X2, "estimator": "enumerate"}),
    Case("discrete-conv", DiscreteVAE, BINARY_IMAGE, DISCRETE_CODE, {**CODE_3X2, "network": CONV, "estimator": "darn"}),
    Case("class-vae", ClassVAE, BINARY, CLASS, {"classes": 4, "latent_dim": 2, "hidden": (8,)}),
    Case("vdm", VDM, REAL, DIFFUSION, {**NOISY, "network": NET}),
    Case("vdm-scalar", VDM, DISCRETE, DIFFUSION, {**NOISY, "network": NET, "schedule": "scalar"}),
    Case("vdm-unet", VDM, BINARY_IMAGE, DIFFUSION, {**NOISY, "network": UNET, "schedule": "multivariate"}),
    Case(
        "mulan",
        MuLAN,
        REAL,
        DIFFUSION,
        {**NOISY, "network": NET, "encoder": NET, "latents": 5, "chosen": 2, "schedule_width": 8},
    ),
    Case(
        "nfdm", NFDM, DISCRETE, DIFFUSION, {"network": NET, "forward_network": NET, "delta": 0.3, "sampling_steps": 5}
    ),
    Case(
        "nfdm-ot",
        NFDM,
        REAL,
        DIFFUSION,
        {"network": NET, "forward_network": NET, "delta": 0.3, "curvature": 0.01, "sampling_steps": 5},
    ),
    Case("class-vae-sum", ClassVAE, REAL_IMAGE, CLASS, {"classes": 3, "latent_dim": 2, "estimator": "enumerate"}),
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
    assert capabilities_of(build(case)) == case.can


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
