"""Image flows: exact inverses, determinants and densities; masks, scales and batch normalisation."""

from __future__ import annotations

import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo
from latentbench.papers.real_nvp.image_coupling import Checkerboard, Coupling, FlowNorm, HalfChannels, Settings
from latentbench.papers.real_nvp.real_nvp import RealNVP, Scale

SETTINGS = Settings(maps=4, blocks=1, batch_norm=True, additive=False)


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def shaken(module: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """In evaluation mode, away from starting values, with running statistics of its own."""
    g = gen(seed)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.2 * torch.randn(p.shape, generator=g))
        for name, b in module.named_buffers():
            if name.endswith("var"):
                b.copy_(0.5 + torch.rand(b.shape, generator=g))
            elif name.endswith("mean"):
                b.copy_(0.3 * torch.randn(b.shape, generator=g))
    return module.eval()


def make(shape: tuple[int, ...], **params: object) -> RealNVP:
    torch.manual_seed(0)
    return RealNVP(DataInfo(shape, "real", 100), **{"maps": 4, "blocks": 1, **params})


@pytest.mark.parametrize("additive", [False, True])
@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize(("shape", "scales"), [((1, 4, 4), 2), ((2, 4, 2), 1), ((1, 4, 8), 2), ((3, 2, 2), 1)])
def test_inverse_and_determinant(shape: tuple, scales: int, additive: bool, batch_norm: bool):
    model = shaken(make(shape, scales=scales, additive=additive, batch_norm=batch_norm)).double()
    x = torch.randn(2, *shape, generator=gen()).double()
    z, log_det = model(x)
    torch.testing.assert_close(model.inverse(z), x, rtol=1e-7, atol=1e-7)
    for i in range(2):
        jacobian = torch.autograd.functional.jacobian(lambda v: model(v.view(1, *shape))[0][0], x[i].flatten())
        torch.testing.assert_close(torch.linalg.slogdet(jacobian)[1], log_det[i], rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize(
    ("shape", "sizes"),
    [
        ((1, 8, 8), [(2, 4, 4), (2, 4, 4)]),
        ((1, 28, 28), [(2, 14, 14), (4, 7, 7), (4, 7, 7)]),
        ((3, 32, 32), [(6, 16, 16), (12, 8, 8), (24, 4, 4), (24, 4, 4)]),
    ],
)
def test_default_scales(shape: tuple, sizes: list):
    model = shaken(make(shape, maps=2, blocks=0))
    assert model.sizes == sizes
    x = torch.randn(2, *shape, generator=gen())
    with torch.no_grad():
        assert (model.inverse(model(x)[0]) - x).abs().max() < 1e-3
        assert model.sample(2, gen()).shape == x.shape


def test_64x64_goes_down_to_4x4():
    assert [size[1] for size in make((3, 64, 64), maps=1, blocks=0).sizes] == [32, 16, 8, 4, 4]


def test_round_trip_after_training():
    model = make((1, 8, 8))
    x = torch.randn(64, 1, 8, 8, generator=gen()) * 2.0 + 1.0
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(25):
        optimiser.zero_grad()
        model.loss(Batch(x, 64), gen())["loss"].backward()
        optimiser.step()
    model.eval()
    with torch.no_grad():
        assert (model.inverse(model(x)[0]) - x).abs().max() < 1e-3


def test_density_integrates_to_one():
    """Importance sampling in four dimensions: the mean of p(x) / g(x) under a wide Gaussian g is one."""
    model = shaken(make((1, 2, 2), scales=1))
    with torch.no_grad():
        samples = model.sample(5000, gen(1)).flatten(1)
        g = torch.distributions.MultivariateNormal(samples.mean(0), 2.0 * torch.cov(samples.T))
        torch.manual_seed(0)
        x = g.sample((60000,))
        ratio = (model.log_prob(x.view(-1, 1, 2, 2)) - g.log_prob(x)).exp()
    assert ratio.mean().item() == pytest.approx(1.0, abs=4.0 * ratio.std().item() / 60000**0.5)
    assert ratio.std() < 5


@pytest.mark.parametrize("parity", [0, 1])
def test_masks_leave_the_other_places_alone(parity: int):
    x = torch.randn(2, 4, 4, 4, generator=gen())
    board, halves = (shaken(cls((4, 4, 4), parity, SETTINGS)) for cls in (Checkerboard, HalfChannels))
    with torch.no_grad():
        changed = (board(x)[0] != x).all(0).all(0)
        same = (board(x)[0] == x).all(0).all(0)
        assert torch.equal(changed, (torch.arange(4)[:, None] + torch.arange(4)) % 2 == parity)
        assert torch.equal(same, ~changed)
        same = (halves(x)[0] == x).flatten(2).all(2).all(0)
        assert same.tolist() == [not parity, not parity, bool(parity), bool(parity)]


def test_a_changed_place_depends_on_kept_ones_only_through_the_network():
    """Values at changed places do not enter the network: shifting them moves the output by exp(s) times as much."""
    board = shaken(Checkerboard((1, 4, 4), 0, SETTINGS))
    x = torch.randn(1, 1, 4, 4, generator=gen())
    step = board.places * 0.5
    with torch.no_grad():
        (a, log_det_a), (b, log_det_b), (c, _) = board(x), board(x + step), board(x + 2 * step)
    torch.testing.assert_close(c - b, b - a, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(log_det_a, log_det_b)


def test_what_goes_on_is_a_checkerboard_of_the_image():
    scale = Scale((1, 4, 4), SETTINGS, last=False)
    image = torch.arange(16.0).view(1, 1, 4, 4)
    squeezed = torch.nn.functional.pixel_unshuffle(image, 2)[:, scale.order]
    on = sorted(squeezed[:, :2].flatten().int().tolist())
    assert on == [i for i in range(16) if (i // 4 + i % 4) % 2 == 0]
    assert torch.equal(scale.order[scale.back], torch.arange(4))


class TestFlowNorm:
    def test_training_normalises_the_places_and_follows_the_batch(self):
        norm, places = FlowNorm(2), ((torch.arange(16) % 3) > 0).float().view(1, 4, 4)
        x = 3.0 + 2.0 * torch.randn(50, 2, 4, 4, generator=gen())
        at = x[:, :, places[0] > 0]
        for _ in range(200):
            mean, log_var = norm(x, places)
        torch.testing.assert_close(mean.flatten(), at.mean((0, 2)))
        torch.testing.assert_close(log_var.exp().flatten(), at.transpose(0, 1).flatten(1).var(1, correction=0) + 1e-4)
        torch.testing.assert_close(norm.mean, mean)
        norm.eval()
        torch.testing.assert_close(norm(torch.zeros_like(x), places)[1], log_var)

    def test_statistics_carry_gradients(self):
        norm, x = FlowNorm(1), torch.randn(4, 1, 2, 2, requires_grad=True)
        sum(norm(x, torch.ones(1, 2, 2))).sum().backward()
        assert x.grad.abs().min() > 0
        assert not norm.mean.requires_grad


def test_log_prob_takes_running_statistics_in_either_mode():
    model = shaken(make((1, 4, 4)))
    x = torch.randn(6, 1, 4, 4, generator=gen())
    with torch.no_grad():
        evaluated = model.log_prob(x)
        model.train()
        torch.testing.assert_close(model.log_prob(x), evaluated, rtol=0, atol=0)
    assert model.training
    assert all(m.training for m in model.modules())


def test_penalty_is_the_papers():
    """L2 on the gains of weight normalisation and the scales of s, in nats per sample like the rest."""
    plain, heavy = make((1, 4, 4), l2=0.0), make((1, 4, 4), l2=0.5)
    x = torch.randn(6, 1, 4, 4, generator=gen())
    difference = heavy.loss(Batch(x, 6), gen())["loss"] - plain.loss(Batch(x, 6), gen())["loss"]
    gains = sum((m.weight.flatten(1) ** 2).sum() for m in heavy.modules() if isinstance(m, torch.nn.Conv2d))
    scales = sum(m.scale**2 for m in heavy.modules() if isinstance(m, Coupling))
    torch.testing.assert_close(heavy.penalty(), gains + scales)
    torch.testing.assert_close(difference, 0.5 * (gains + scales), rtol=1e-4, atol=1e-3)


def test_training_loss_counts_the_batch_statistics():
    """Without batch normalisation the training loss is the likelihood; with it, the minibatch's own statistics."""
    x = torch.randn(6, 1, 4, 4, generator=gen())
    model = make((1, 4, 4), batch_norm=False, l2=0.0)
    torch.testing.assert_close(model.loss(Batch(x, 6), gen())["loss"], -model.log_prob(x).mean())
    model = make((1, 4, 4), l2=0.0)
    far = model.loss(Batch(100.0 + x, 6), gen())["loss"]
    assert far < 200  # standardised by its own batch
    assert -make((1, 4, 4), l2=0.0).log_prob(100.0 + x).mean() > 1000


@pytest.mark.parametrize(
    ("shape", "support", "params", "message"),
    [
        ((784,), "real", {}, "needs images"),
        ((1, 8, 8), "discrete", {}, "support 'discrete'"),
        ((1, 28, 28), "real", {"scales": 4}, "scales is 4 for images of 28x28"),
        ((1, 4, 4), "real", {"scales": 3}, "scales is 3"),
        ((1, 8, 8), "real", {"scales": 0}, "scales is 0"),
        ((1, 8, 8), "real", {"maps": 0}, "maps is 0"),
        ((1, 8, 8), "real", {"blocks": -1}, "blocks is -1"),
        ((1, 8, 8), "real", {"l2": -1e-5}, "l2"),
        ((1, 1, 8), "real", {}, "scales is 1"),
    ],
)
def test_refusals(shape: tuple, support: str, params: dict, message: str):
    with pytest.raises(UserError, match=message):
        RealNVP(DataInfo(shape, support, 9, levels=4), **params)
