"""PixelCNN: what each pixel may see, and that its probabilities sum to one."""

from __future__ import annotations

import itertools

import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import DataInfo
from latentbench.models.pixelcnn import CausalDecoder, PixelCNN


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("support", "levels", "shape"), [("binary", 2, (1, 2, 4)), ("discrete", 3, (1, 2, 3)), ("binary", 2, (2, 2, 2))]
)
def test_probabilities_sum_to_one(support: str, levels: int, shape: tuple[int, int, int]):
    torch.manual_seed(0)
    model = PixelCNN(DataInfo(shape, support, 9, levels=levels), window=3, channels=5, layers=2)
    dims = shape[0] * shape[1] * shape[2]
    x = torch.tensor(list(itertools.product(range(levels), repeat=dims))).float().reshape(-1, *shape)
    with torch.no_grad():
        assert model.log_prob(x).double().exp().sum().item() == pytest.approx(1.0, abs=1e-4)


def sees(net: CausalDecoder, shape: tuple[int, int, int], pixel: tuple[int, int]) -> torch.Tensor:
    """(H, W): whether the features of `pixel` depend on each pixel of x."""
    x = torch.randn(1, *shape, generator=gen()).requires_grad_(True)
    out = net(x).unflatten(1, (-1, *shape[1:]))[:, :, pixel[0], pixel[1]]
    (gradient,) = torch.autograd.grad(out.square().sum(), x)
    return gradient.abs().sum((0, 1)) > 0


@pytest.mark.parametrize(("window", "kernel", "layers"), [(3, 1, 2), (5, 1, 1), (7, 3, 3)])
def test_the_window_is_what_a_pixel_sees(window: int, kernel: int, layers: int):
    torch.manual_seed(0)
    net = CausalDecoder(
        DataInfo((1, 9, 9), "real", 9), outputs=1, condition=0, window=window, kernel=kernel, channels=16, layers=layers
    )
    seen = sees(net, (1, 9, 9), (5, 4))
    raster = torch.zeros(9, 9, dtype=torch.bool)
    raster[:5] = True
    raster[5, :4] = True
    assert not (seen & ~raster).any(), "never itself, nor what comes after"
    if kernel == 1:
        reach = (window - 1) // 2
        box = torch.zeros(9, 9, dtype=torch.bool)
        box[5 - reach : 6, 4 - reach : 5 + reach] = True
        assert torch.equal(seen, raster & box)
    else:
        assert seen.sum() > (window - 1) // 2 * window + window // 2


@pytest.mark.parametrize(("window", "kernel"), [(3, 1), (5, 3)])
def test_no_logit_depends_on_its_own_or_a_later_pixel(window: int, kernel: int):
    """d logit_i / d x_j is 0 for every j >= i in raster order, and not for all j < i."""
    torch.manual_seed(0)
    net = CausalDecoder(
        DataInfo((1, 4, 4), "real", 9), outputs=1, condition=0, window=window, kernel=kernel, channels=8, layers=2
    )
    x = torch.randn(1, 1, 4, 4, generator=gen())
    jacobian = torch.autograd.functional.jacobian(lambda v: net(v)[0], x).reshape(16, 16)
    assert (jacobian.triu() == 0).all()
    assert ((jacobian != 0).any(1)[1:]).all()


def test_without_a_code_bounds_are_the_likelihood():
    torch.manual_seed(0)
    model = PixelCNN(DataInfo((1, 3, 4), "binary", 9), window=3, channels=5, layers=1)
    x = (torch.rand(6, 1, 3, 4, generator=gen()) < 0.5).float()
    bound, weights = model.elbo(x, gen()), model.log_importance_weights(x, model.posterior(x), 4, gen())
    assert (bound.rate == 0).all()
    torch.testing.assert_close(bound.value, model.log_prob(x))
    torch.testing.assert_close(weights, model.log_prob(x).expand(4, -1))


def test_a_code_reaches_every_pixel_and_repeats_share_x():
    torch.manual_seed(0)
    net = CausalDecoder(
        DataInfo((1, 4, 4), "binary", 9), outputs=1, condition=2, window=3, kernel=1, channels=6, layers=1
    )
    x, maps = torch.randn(3, 1, 4, 4, generator=gen()), torch.randn(6, 2, 4, 4, generator=gen(1))
    out = net(x, maps)
    torch.testing.assert_close(out[:3], net(x, maps[:3]))
    torch.testing.assert_close(out[3:], net(x, maps[3:]))
    assert ((net(x, maps[:3] + 1.0) - out[:3]).abs() > 0).all()


def test_samples_follow_the_density():
    torch.manual_seed(0)
    model = PixelCNN(DataInfo((1, 2, 2), "binary", 9), window=3, channels=6, layers=1)
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(2.0)
        x = torch.tensor(list(itertools.product((0.0, 1.0), repeat=4))).reshape(-1, 1, 2, 2)
        drawn = model.sample(20000, gen())
        found = torch.stack([(drawn == row).flatten(1).all(1).float().mean() for row in x])
        torch.testing.assert_close(found, model.log_prob(x).exp(), rtol=0, atol=0.015)


@pytest.mark.parametrize(
    ("params", "message"), [({"window": 4}, "odd"), ({"window": 1}, "window is 1"), ({"layers": 0}, "layers is 0")]
)
def test_refusals(params: dict, message: str):
    with pytest.raises(UserError, match=message):
        PixelCNN(DataInfo((1, 4, 4), "binary", 9), **params)
    with pytest.raises(UserError, match="needs images"):
        PixelCNN(DataInfo((4,), "binary", 9))
