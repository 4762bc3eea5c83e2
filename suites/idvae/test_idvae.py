"""IDVAE: losses by their formulas, whose gradients reach what, the second VAE's optimum, codes that labels give."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo
from latentbench.data.generated.grid import Grid
from latentbench.papers.idvae import measure
from latentbench.papers.idvae.label_vae import LabelPriorVAE, SupervisedVAE
from torch import Tensor, nn
from torch import distributions as td
from torch.nn.functional import binary_cross_entropy, binary_cross_entropy_with_logits

from tests.evaluation.views import view_of

SIZES = (3, 5)
INFO = DataInfo((6,), "binary", 40)
GRID = Grid(SIZES).factors(np.arange(20) % 15)
X = (torch.rand(20, 6, generator=torch.Generator().manual_seed(0)) < 0.4).float()
U = torch.tensor(GRID / np.array(SIZES), dtype=torch.float32)
VIEW = view_of(X[:15].numpy().astype(np.uint8), levels=2, columns={"factors": GRID[:15]})
STANDARD = td.Normal(0.0, 1.0)


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make(kind: type = LabelPriorVAE, **params: object) -> LabelPriorVAE | SupervisedVAE:
    """With weights so large that every term of the loss is far from its value at a collapse."""
    torch.manual_seed(1)
    model = kind(INFO, **{"sizes": SIZES, "latent_dim": 3, "hidden": (7, 4), **params})
    for parameter in model.parameters():
        parameter.data.add_(0.4 * torch.randn_like(parameter))
    return model


def loss(model: nn.Module) -> Tensor:
    return model.loss(Batch(X, 40, columns={"factors": torch.as_tensor(GRID)}), gen(7))["loss"]


def normal(of: tuple[Tensor, Tensor]) -> td.Normal:
    return td.Normal(of[0], of[1].exp())


def gradients(of: Tensor, part: nn.Module) -> list[Tensor]:
    part.zero_grad(set_to_none=True)
    of.backward()
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in part.parameters()]


@pytest.mark.parametrize("prior", ["double", "learnt", "scale"])
def test_loss_is_the_equations(prior: str):
    model, generator = make(prior=prior, beta=2.0, gamma=0.3), gen(7)
    first, second = (torch.randn(20, 3, generator=generator) for _ in range(2))
    q, code = normal(model.q[0](torch.cat([X, U], 1))), normal(model.label_code(U))
    p_z = td.Normal(0 * code.mean, code.stddev) if prior == "scale" else code
    p_x = torch.sigmoid(model.decoder(q.mean + q.stddev * first))
    total = binary_cross_entropy(p_x, X, reduction="none").sum(1) + 2.0 * td.kl_divergence(q, p_z).sum(1)
    total = total + binary_cross_entropy_with_logits(model.guess(X), U, reduction="none").sum(1)
    if prior == "double":
        missed = model.label_decoder(code.mean + code.stddev * second) - U
        total = total + missed.pow(2).sum(1) + 0.3 * td.kl_divergence(code, STANDARD).sum(1)
    torch.testing.assert_close(loss(model), total.mean())


@pytest.mark.parametrize(("prior", "moves"), [("double", False), ("learnt", True), ("scale", True)])
def test_whether_the_images_move_the_prior(prior: str, moves: bool):
    """The second VAE's gradient is the same whatever weighs the images' KL; iVAE's prior has no other gradient."""
    models = [make(prior=prior, beta=beta) for beta in (0.0, 9.0)]
    one, two = (torch.cat([g.flatten() for g in gradients(loss(m), m.label_code)]) for m in models)
    assert (float((one - two).abs().max()) > 1e-3) == moves == (float(one.abs().max()) == 0)
    one, two = (torch.cat([g.flatten() for g in gradients(loss(m), m.guess)]) for m in models)
    assert (one == two).all()
    assert float(one.abs().max()) > 1e-3


@pytest.mark.parametrize(("gamma", "angle"), [(0.01, 0.0), (0.01, 0.6), (0.1, 0.6), (0.3, 0.0)])
def test_the_second_vae_at_its_linear_optimum(gamma: float, angle: float):
    """With linear networks it is probabilistic PCA of noise gamma / 2: a label of variance v is coded if that is less.

    Then the loss is gamma / 2 (1 + log(2 v / gamma)) a label, and v where it is more: labels in [0, 1) have v < 1/12,
    so gamma = 1 leaves nothing in the code. Labels of equal variance may be turned in it: their loss stays the same.
    """
    n, turn = 64_000, torch.tensor([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]).float()
    batch = Batch(torch.zeros(n, 6), n, columns={"factors": torch.tensor(Grid((8, 8)).factors(np.arange(n) % 64))})
    model = LabelPriorVAE(INFO, sizes=[8, 8], latent_dim=2, hidden=(), gamma=gamma, beta=0)
    u = model.labels(batch.parts)
    v, noise = float(u[:, 0].var(correction=0)), gamma / 2
    slope = max(v - noise, 0.0) ** 0.5 * turn
    code, head = model.label_code.head, model.label_decoder[-1]
    code.weight.data = torch.cat([slope.T / max(v, noise), torch.zeros(2, 2)])
    code.bias.data = torch.cat([-code.weight[:2] @ u.mean(0), torch.full((2,), 0.5 * float(np.log(min(noise / v, 1))))])
    head.weight.data, head.bias.data = slope, u.mean(0)
    out = model.loss(batch, gen())
    found = float(out["loss"].detach() - out["distortion"])
    found -= float(binary_cross_entropy_with_logits(model.guess(batch.x), u).detach()) * 2
    assert found == pytest.approx(2 * (noise * (1 + np.log(v / noise)) if v > noise else v), rel=0.02)
    assert max(float(g.abs().max()) for g in gradients(out["loss"], nn.ModuleList([code, head]))) < 0.01


def test_supervised_loss():
    model = make(SupervisedVAE, beta=3.0, weight=11.0, kl="analytic")
    q = normal(model.posterior(X))
    p_x = torch.sigmoid(model.decoder(q.mean + q.stddev * torch.randn(20, 3, generator=gen(7))))
    elbo = binary_cross_entropy(p_x, X, reduction="sum") / 20 + 3 * td.kl_divergence(q, STANDARD).sum() / 20
    fit = binary_cross_entropy_with_logits(q.mean[:, :2], U, reduction="sum") / 20
    torch.testing.assert_close(loss(model), elbo + 11 * fit)


def test_codes_are_drawn_with_labels_given_guessed_or_alone():
    model, x, noise = make(), VIEW.x, torch.randn(15, 3, generator=gen(3))
    with_guess = model.q[0](torch.cat([x, torch.sigmoid(model.guess(x))], 1))
    with_labels = model.q[0](torch.cat([x, U[:15]], 1))
    for of, law in {"given": with_labels, "guessed": with_guess, "labels": model.label_code(U[:15])}.items():
        torch.testing.assert_close(measure.drawn_codes(model, VIEW, of, gen(3)), law[0] + law[1].exp() * noise)
    mean_free = make(prior="scale")
    expected = mean_free.label_code(U[:15])[1].exp() * noise
    torch.testing.assert_close(measure.drawn_codes(mean_free, VIEW, "labels", gen(3)), expected)
    torch.testing.assert_close(model.encode(x), with_guess[0])
    torch.testing.assert_close(model.reconstruct(x), torch.sigmoid(model.decoder(with_guess[0])))
    rates = td.kl_divergence(normal(model.label_code(U[:15])), STANDARD).sum(1).detach()
    found = measure.label_rate(model, VIEW, {}, gen())
    assert (found.value, found.se) == pytest.approx((float(rates.mean()), float(rates.std() / 15**0.5)))
    supervised = make(SupervisedVAE)
    assert (measure.drawn_codes(supervised, VIEW, "given", gen(3)) == supervised.encode_sample(x, gen(3))).all()
    with pytest.raises(UserError, match="label prior"):
        measure.label_rate(supervised, VIEW, {}, gen())
    with pytest.raises(UserError, match="labels"):
        measure.drawn_codes(supervised, VIEW, "labels", gen())


def test_scores_of_labels_themselves(monkeypatch: pytest.MonkeyPatch):
    u = U[:15] / U[:15].std(0)
    turned = u @ torch.tensor([[1.0, 1.0], [-1.0, 1.0]])
    codes = {"given": u, "twice": torch.cat([u, u], 1), "labels": turned}
    monkeypatch.setattr(measure, "drawn_codes", lambda _model, _view, of, _generator: codes[of])

    def score(of: str, name: str, over: str | None = None) -> float:
        settings = {"score": name, "codes": of, "over": over}
        return measure.label_code_score(make(), VIEW, settings, gen()).value

    for of, *values in (("given", 1, 1, 1), ("twice", 0, 0, 1), ("labels", None, 0, None)):
        for name, expected in zip(("mig", "sap", "modularity"), values, strict=True):
            found = score(of, name)
            assert found < 0.9 if expected is None else found == pytest.approx(expected, abs=1e-6), (name, of)
    assert score("labels", "modularity", over="given") == pytest.approx(score("labels", "modularity") - 1)
