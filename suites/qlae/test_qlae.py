"""QLAE: quantisation by brute force, the loss by its formula, which gradients go where, InfoMEC of known codes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo
from latentbench.metrics.arrays import NotFiniteError
from latentbench.papers.qlae.measure import infomec_by_kind, symbols
from latentbench.papers.qlae.quantized import QuantizedAutoencoder
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

from tests.evaluation.views import view_of

INFO = DataInfo((2, 3), "binary", 50)
X = (torch.rand(9, 2, 3, generator=torch.Generator().manual_seed(0)) < 0.4).float()
KINDS = {"scalar": {}, "vector": {"width": 2}}
GRID = np.stack(np.meshgrid(*[np.arange(4)] * 3, indexing="ij"), -1).reshape(-1, 3).repeat(4, 0)  # (256, 3)


def build(codebook="scalar", **params):
    """Codebooks of their own and encodings spread over them."""
    torch.manual_seed(1)
    params = {"latent_dim": 3, "hidden": (7,), "values": 4, **KINDS.get(codebook, {}), **params}
    model = QuantizedAutoencoder(INFO, codebook=codebook, **params)
    for parameter in (*model.encoder[-1].parameters(), *model.decoder.parameters()):
        parameter.data *= 3.0
    model.encoder[-1].bias.data -= model.encoder(X).detach().mean(0)
    if codebook != "none":
        model.codebook.data += 0.1 * torch.randn(model.codebook.shape)
    return model


@pytest.mark.parametrize("codebook", KINDS)
def test_codes_are_the_nearest_entries_and_the_loss_and_its_gradients_are_the_papers(codebook):
    model = build(codebook, quantization=0.7, commitment=0.2)
    out = model.loss(Batch(X, 50), torch.Generator())
    out["loss"].backward()
    with torch.no_grad():
        z = model.continuous(X)
        numbers = model.nearest(z)
        quantised = torch.empty_like(z)
        for n, d in np.ndindex(9, 3):
            book = model.codebook[d if codebook == "scalar" else 0]
            quantised[n, d] = book[(book - z[n, d]).norm(dim=1).argmin()]
        assert not torch.allclose(z, quantised, atol=1e-2)
        assert all(len(numbers[:, d].unique()) > 1 for d in range(3))
        torch.testing.assert_close(model.encode(X), quantised.flatten(1))
        logits, distance = model.decoder(quantised.flatten(1)), (z - quantised).square().mean()
        torch.testing.assert_close(model.reconstruct(X), torch.sigmoid(logits).view(X.shape))
        entropy = binary_cross_entropy_with_logits(logits, X.flatten(1))
        torch.testing.assert_close(out["cross_entropy"], entropy)
        torch.testing.assert_close(out["distance"], distance)
        torch.testing.assert_close(out["loss"].detach(), entropy + 0.9 * distance)
        learnt = torch.zeros_like(model.codebook)  # codebooks learn by their own term alone
        for n, d in np.ndindex(9, 3):
            error = 2.0 * (quantised[n, d] - z[n, d]) / z.numel()
            learnt[d if codebook == "scalar" else 0, numbers[n, d]] += 0.7 * error
    torch.testing.assert_close(model.codebook.grad, learnt, rtol=1e-4, atol=1e-7)
    at_codes = quantised.flatten(1).clone().requires_grad_()
    binary_cross_entropy_with_logits(model.decoder(at_codes), X.flatten(1)).backward()
    straight = at_codes.grad.view_as(z) + 0.2 * 2.0 * (z - quantised) / z.numel()
    torch.testing.assert_close(model.encoder[-1].bias.grad, straight.sum(0).flatten(), rtol=1e-4, atol=1e-7)


def test_codebooks_start_as_in_the_authors_code():
    start = QuantizedAutoencoder(INFO, latent_dim=3, values=5).codebook[..., 0].detach()
    torch.testing.assert_close(start, torch.tensor([-0.5, -0.25, 0.0, 0.25, 0.5]).expand(3, 5))
    vectors = QuantizedAutoencoder(INFO, codebook="vector", values=500, width=12).codebook.detach()
    assert 0.49 < vectors.abs().max() <= 0.5


def test_without_a_codebook_it_is_an_autoencoder_by_cross_entropy():
    model = build("none")
    entropy = binary_cross_entropy_with_logits(model.decoder(model.encode(X)), X.flatten(1))
    torch.testing.assert_close(model.loss(Batch(X, 50), torch.Generator())["loss"], entropy)
    torch.testing.assert_close(model.encode(X), model.encoder(X))


def identity(codebook, book):
    """A model whose encoder is the identity on rows of 3 (or 6) numbers, with the codebook (V,) or (V, 2)."""
    book = torch.as_tensor(book, dtype=torch.float32).view(len(book), -1)
    info = DataInfo((3 * book.shape[1],), "real", 256)
    params = {"values": len(book), "width": book.shape[1]}
    model = QuantizedAutoencoder(info, latent_dim=3, hidden=(4,), codebook=codebook, **params)
    model.encoder = nn.Identity()
    model.codebook.data = book.expand(3 if codebook == "scalar" else 1, -1, -1).clone()
    return model


def score(model, x, factors=GRID, **settings):
    view = view_of(np.asarray(x, np.float32), columns={"factors": factors})
    settings = {"part": "infom", "rows": 1000, "active": 0.125, "bins": 10, **settings}
    with torch.no_grad():
        return infomec_by_kind(model, view, settings, torch.Generator().manual_seed(0))


def test_infomec_of_codes_that_are_factors_and_of_codes_that_mix_two():
    model = identity("scalar", range(4))
    noise = 0.3 * np.sin(np.arange(768)).reshape(256, 3)
    assert score(model, GRID + noise).value == pytest.approx(1.0), "noise is rounded off"
    mixed = GRID.copy()
    mixed[:, 0] = 2 * (GRID[:, 0] // 2) + GRID[:, 1] // 2  # one bit of each of two factors
    assert score(model, mixed + noise, bins=2).value == pytest.approx((0.25 + 1.0 + 1.0) / 3), "has symbols of its own"
    assert score(model, mixed + noise, part="infoc").value == pytest.approx((1.0 + 0.5 + 1.0) / 3)


def test_codes_of_little_range_are_left_out():
    model = identity("scalar", [0.0, 1.0, 2.0, 3.0])
    model.codebook.data[1] *= 0.1  # its entries are 0 to 0.3
    x = GRID * np.array([1.0, 0.1, 1.0])
    x[:, 1] = 0.1 * (2 * (GRID[:, 0] // 2) + GRID[:, 1] // 2)  # mixes two factors, but is left out
    assert score(model, x).value == pytest.approx(1.0)
    assert score(model, x).details["active"] == 2
    assert score(model, x, active=0.05, rows=200).details["active"] == 3
    assert score(model, x, rows=200).n == 200
    with pytest.raises(NotFiniteError):
        score(model, np.zeros((256, 3)))


def test_infoe_reads_scalars_by_value_and_vectors_by_number():
    scalars, vectors = identity("scalar", [0, 2, 1, 3]), identity("vector", [[v, v] for v in range(4)])
    assert score(scalars, GRID, GRID // 2, part="infoe").value > 0.95, "linear in the value, not in the number"
    assert score(scalars, GRID, GRID % 2, part="infoe").value < 0.3, "odd or even is not linear in the value"
    assert score(vectors, GRID.repeat(2, 1), GRID % 2, part="infoe").value > 0.95


def test_continuous_codes_are_cut_into_symbols_of_equally_many_rows():
    columns = np.array([[3.0, 1, 100, 2], [5, 5, 5, 5], [1, 1, 1, 2]])
    assert symbols(columns.T, 2).T.tolist() == [[1, 0, 1, 0], [0] * 4, [0, 0, 0, 1]], "equal values stay together"
    continuous = identity("scalar", range(4))
    continuous.kind = "none"
    spread = np.exp(GRID + 0.4 * np.sin(np.arange(768)).reshape(256, 3))
    assert score(continuous, spread, bins=4, active=0.0).value == pytest.approx(1.0)
    assert 0.7 < score(continuous, spread, bins=0).value < 1.0, "the nearest neighbours' estimate has a bias of its own"
    with pytest.raises(UserError, match="infom, infoe, infoc"):
        score(continuous, GRID, part="infox")
