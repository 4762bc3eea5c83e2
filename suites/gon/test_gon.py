"""Gradient origin networks: the code by hand, the gradient through it, and the ablation."""

from __future__ import annotations

import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo
from latentbench.papers.gon.gon import GON, Autoencoder, VariationalGON
from latentbench.papers.gon.siren import Siren
from latentbench.papers.gon.tied import TiedAutoencoder
from torch import distributions as td

UNIT = DataInfo((6,), "unit", 40)
BINARY = DataInfo((6,), "binary", 40)
IMAGE = DataInfo((3, 4, 5), "unit", 40)
BATCH_NORM = {"conv": {"channels": [3], "batch_norm": True}}
X = torch.rand(8, 6, generator=torch.Generator().manual_seed(0))
B = (X > 0.5).float()


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make(cls=GON, info: DataInfo = UNIT, **params: object):
    torch.manual_seed(1)
    return cls(info, **{"latent_dim": 3, "hidden": (7,), **params})


def by_hand(model: GON, x: torch.Tensor) -> torch.Tensor:
    z = torch.zeros(len(x), 3, requires_grad=True)
    loss = (torch.sigmoid(model.decoder(z)) - x).square().sum()
    return -model.step * torch.autograd.grad(loss, z, create_graph=True)[0]


def test_the_code_is_the_negative_gradient_at_the_origin():
    model = make(step=0.5)
    expected = by_hand(model, X)
    torch.testing.assert_close(model.encode(X), expected)
    with torch.no_grad():  # evaluators forbid gradients; the code is one all the same
        torch.testing.assert_close(model.encode(X), expected.detach())


@pytest.mark.parametrize("detach", [False, True])
def test_loss_and_its_gradient(detach: bool):
    """The outer gradient passes through the inner one (eq. 4), unless it is cut."""
    model = make(detach=detach, step=0.5)
    out = model.loss(Batch(X, 40), gen())
    z = by_hand(model, X)
    z = z.detach() if detach else z
    expected = (torch.sigmoid(model.decoder(z)) - X).square().sum(-1).mean()
    torch.testing.assert_close(out["loss"], expected)
    torch.testing.assert_close(out["mse"], expected.detach() / 6)
    found = torch.autograd.grad(out["loss"], list(model.parameters()))
    for a, b in zip(found, torch.autograd.grad(expected, list(model.parameters())), strict=True):
        torch.testing.assert_close(a, b)


def test_cutting_the_gradient_changes_it():
    whole, cut = make(step=0.5), make(step=0.5, detach=True)
    grads = [torch.autograd.grad(m.loss(Batch(X, 40), gen())["loss"], list(m.parameters()))[0] for m in (whole, cut)]
    assert (grads[0] - grads[1]).abs().max() > 1e-4


def test_by_default_the_code_is_the_gradient_itself():
    """Eq. 3 has no step size: z(x) is the gradient of the datum's own loss, whatever the batch it comes in."""
    model = make()
    assert model.step == 1.0
    torch.testing.assert_close(model.encode(X)[:3], model.encode(X[:3]))
    torch.testing.assert_close(model.encode(X), by_hand(model, X))


def test_one_linear_step_is_known():
    """For a linear decoder near 1/2, sigmoid'(b) = p(1-p): z = -2 s W^T [(p - x) p (1 - p)]."""
    model = make(hidden=(), step=0.3)
    w, b = model.decoder[0].weight, model.decoder[0].bias
    p = torch.sigmoid(b)
    torch.testing.assert_close(model.encode(X), -0.6 * ((p - X) * p * (1 - p)) @ w)


def test_it_learns_what_its_decoder_can_draw():
    """Rows on a one-dimensional curve: a trained network reconstructs them from one gradient step."""
    t = torch.rand(64, 1, generator=gen(3))
    x = 0.5 + 0.4 * torch.sin(3 * t + torch.arange(6.0))
    model = make(latent_dim=2, hidden=(32,))
    optimiser, errors = torch.optim.Adam(model.parameters(), 1e-2), []
    for _ in range(300):
        optimiser.zero_grad()
        out = model.loss(Batch(x, 64), gen())
        out["loss"].backward()
        optimiser.step()
        errors.append(out["mse"].item())
    assert errors[-1] < 0.2 * float(x.var(0).mean())
    torch.testing.assert_close(model.reconstruct(x), model.decode(model.encode(x)))


def test_an_autoencoder_has_about_twice_the_parameters():
    def count(cls):
        model = make(cls, DataInfo((784,), "unit", 40), latent_dim=8, hidden=(64,))
        return sum(p.numel() for p in model.parameters())

    assert 1.9 < count(Autoencoder) / count(GON) < 2.1


@pytest.mark.parametrize(
    ("info", "params"),
    [(UNIT, {"hidden": (7, 5)}), (IMAGE, {"hidden": (), "network": {"conv": {"channels": [4, 6]}}})],
)
def test_an_encoder_of_tied_weights_is_the_transpose_of_its_decoder(info, params):
    """With no nonlinearity between, encoder and linear part of the decoder are adjoint: <E x, z> = <x, D z>."""
    model = make(TiedAutoencoder, info, **params).double()
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, torch.nn.ELU):
                setattr(module, name, torch.nn.Identity())
    x, z = (torch.randn(n, generator=gen(5), dtype=torch.float64) for n in ((8, *info.shape), (8, 3)))
    flat = model.decoder(z) - model.decoder(torch.zeros_like(z))
    torch.testing.assert_close((model.encode(x) * z).sum(-1), (x.flatten(1) * flat).sum(-1))


def test_tied_layers_have_biases_and_activations_between():
    model = make(TiedAutoencoder, hidden=(7,))
    for i, bias in enumerate(model.biases):
        bias.data.normal_(generator=gen(i))
    (first, _, last), (outer, inner) = model.decoder, model.biases
    h = torch.nn.functional.elu(X @ last.weight + outer)
    torch.testing.assert_close(model.encode(X), h @ first.weight + inner)


class TestVariational:
    def test_loss_is_the_elbo_at_the_posterior_from_the_origin(self):
        model, g = make(VariationalGON, BINARY, step=0.5), gen(3)
        inner, outer = torch.randn(8, 3, generator=g), torch.randn(8, 3, generator=g)

        def terms(z, noise):
            mean, log_std = model.q[0](z)
            kl = td.kl_divergence(td.Normal(mean, log_std.exp()), td.Normal(0.0, 1.0)).sum(-1)
            logits = model.decoder(mean + log_std.exp() * noise)
            return kl - td.Bernoulli(logits=logits).log_prob(B).sum(-1)

        z = torch.zeros(8, 3, requires_grad=True)
        z = -0.5 * torch.autograd.grad(terms(z, inner).sum(), z, create_graph=True)[0]
        expected = terms(z, outer).mean()
        torch.testing.assert_close(model.loss(Batch(B, 40), gen(3))["loss"], expected)

    def test_bounds_agree(self):
        model = make(VariationalGON, BINARY)
        with torch.no_grad():
            elbo = torch.stack([model.elbo(B, gen(i)).value for i in range(400)]).mean(0)
            weights = model.log_importance_weights(B, model.posterior(B), 4000, gen(9))
        torch.testing.assert_close(elbo, weights.mean(0), rtol=0.03, atol=0.15)
        assert (weights.logsumexp(0) > weights.mean(0) + torch.log(torch.tensor(4000.0))).all()


def test_siren_is_a_function_of_place_and_code():
    torch.manual_seed(0)
    net = Siren(IMAGE, 3, hidden=(16, 16))
    z = torch.randn(2, 3, generator=gen())
    out = net(z).unflatten(1, (3, 4, 5))
    at = torch.tensor([-1.0 + 2 * 1 / 3, -1.0 + 2 * 3 / 4])  # row 1 of 4, column 3 of 5
    h = torch.cat([at, z[1]])
    for layer in list(net.layers)[:-1]:
        h = torch.sin(30.0 * layer(h))
    torch.testing.assert_close(out[1, :, 1, 3], net.layers[-1](h))


@pytest.mark.parametrize(
    ("cls", "params", "message"),
    [
        (GON, {"step": 0.0}, "step is 0"),
        (GON, {"detach": 1}, "true or false"),
        (GON, {"network": "siren"}, "needs images"),
        (GON, {"network": {"siren": {"hiden": (3,)}}}, "no parameter 'hiden'"),
        (GON, {"network": "conv"}, "needs images"),
        (GON, {"info": IMAGE, "network": BATCH_NORM}, "batch normalisation"),
        (VariationalGON, {"info": IMAGE, "likelihood": "bernoulli", "network": BATCH_NORM}, "batch normalisation"),
        (Autoencoder, {"network": "siren"}, "network is 'siren'"),
        (TiedAutoencoder, {"network": "siren"}, "network is 'siren'"),
        (TiedAutoencoder, {"info": IMAGE, "network": BATCH_NORM}, "batch normalisation"),
        (Autoencoder, {"latent_dim": 0}, "latent_dim is 0"),
    ],
)
def test_refusals(cls, params: dict, message: str):
    with pytest.raises(UserError, match=message):
        make(cls, **params)


def test_real_data_are_refused():
    with pytest.raises(UserError, match="support 'real'"):
        make(info=DataInfo((6,), "real", 40))
