"""What is exact in the mixture VAE, in the clusterings of its codes and in how they are judged."""

import copy
import math
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo
from latentbench.papers.mnist_nd import clusterings as c
from latentbench.papers.mnist_nd.mixture_vae import ANNEALED, Diagonal, MixtureVAE
from scipy.optimize import brentq
from scipy.special import digamma, logsumexp
from scipy.stats import multivariate_t
from sklearn.metrics import adjusted_rand_score
from torch.distributions import Bernoulli, Categorical, Normal, kl_divergence

D, K, N, X = 2, 4, 7, 5
RNG = np.random.default_rng(3)
MEANS = np.array([[0.0, 0, 0], [9, 0, 0], [0, 9, 0]])
LABELS = np.arange(150) % 3
BLOBS = MEANS[LABELS] + RNG.standard_normal((150, 3))


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def vae_and_rows(**params):
    torch.manual_seed(1)
    wanted = {"latent_dim": D, "categories": K, "hidden": (6,), "likelihood": "bernoulli", "rate": 0.1, **params}
    made = MixtureVAE(DataInfo((X,), "unit", 50), **wanted)
    with torch.no_grad():
        for p in made.parameters():
            p.mul_(2).add_(0.1)
    return made, torch.rand((N, X), generator=draws(9))


@pytest.mark.parametrize("step", [0, 4])
def test_the_loss_is_that_of_the_authors(step):
    (model, x), again = vae_and_rows(weight=3.0, class_weight=0.25), draws(5)
    found = model.loss(Batch(x, 50, step), draws(5))
    logits = model.classify(x)
    y = model.category(logits, step, again)
    q, p = (Normal(mean, log_std.exp()) for mean, log_std in (model.posterior(x, y), model.p_z(y)))
    z = q.mean + q.stddev * torch.randn((N, D), generator=again)
    distortion = -Bernoulli(logits=model.decoder(z), validate_args=False).log_prob(x).sum(1).mean()
    gaussian = (q.log_prob(z) - p.log_prob(z)).sum(1).mean()
    category = kl_divergence(Categorical(logits=logits), Categorical(torch.ones(K))).mean()
    parts = {"distortion": distortion, "rate": gaussian, "class_rate": category}
    for name, value in {**parts, "loss": distortion + 3 / D * gaussian + category / 4}.items():
        assert found[name].item() == pytest.approx(value.item(), rel=1e-5), name


def test_gradients_of_all_parts_are_those_of_the_loss():
    model, x = vae_and_rows()
    model, batch = model.double(), Batch(x.double(), 50)
    model.loss(batch, draws())["loss"].backward()
    for name, p in model.named_parameters():
        way = torch.randn(p.shape, generator=draws(2), dtype=p.dtype)
        ends = []
        for h in (1e-5, -1e-5):
            moved = copy.deepcopy(model)
            dict(moved.named_parameters())[name].data.add_(h * way)
            ends.append(moved.loss(batch, draws())["loss"].item())
        assert (p.grad * way).sum().item() == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-4, abs=1e-7), name


def test_categories_are_gumbel_softmax_draws_that_sharpen_to_a_half():
    model, logits = vae_and_rows()[0], torch.randn((1, K), generator=draws(1)).expand(20000, K)
    for step, temperature in {0: 1.0, 3: math.exp(-0.3), 400: 0.5, ANNEALED: 0.5}.items():
        first, y = (model.category(logits, s, draws(4)).log() for s in (0, step))
        assert torch.allclose((y[:, :1] - y) * temperature, first[:, :1] - first, atol=1e-3)
    shares = torch.bincount(y.argmax(1), minlength=K) / len(y)
    assert torch.allclose(shares, logits[0].softmax(0), atol=0.015)


def test_codes_are_posterior_means_at_annealed_draws_and_variances_are_softplus():
    model, x = vae_and_rows()
    y = model.category(model.classify(x), 10**6, draws(8))
    assert torch.equal(model.row_codes(x, draws(8)), model.posterior(x, y)[0])
    assert torch.equal(model.encode(x), model.posterior(x, model.classify(x).softmax(1))[0])
    hidden, layer = model.q_z
    mean, raw = layer.head(hidden(torch.cat([x, y], 1))).split(D, 1)
    assert torch.allclose(model.posterior(x, y)[0], mean, atol=1e-5)
    assert isinstance(model.p_z, Diagonal)
    std = (1 + raw.exp()).log().sqrt()
    assert torch.allclose(model.posterior(x, y)[1].exp(), std, atol=1e-5)
    again = draws(8)
    model.category(model.classify(x), ANNEALED, again)
    drawn = model.encode_sample(x, draws(8))
    assert torch.allclose(drawn, mean + std * torch.randn((N, D), generator=again), atol=1e-5)


def test_the_neighbour_graph_is_that_of_umap_pair_by_pair():
    x, k = RNG.standard_normal((40, 3)), 6
    a = np.zeros((40, 40))
    for i, d in enumerate(np.sqrt(np.square(x[:, None] - x).sum(-1))):
        near = np.argsort(d)[1:k]
        beyond = d[near] - d[near[0]]
        scale = brentq(lambda s, beyond=beyond: np.exp(-beyond / s).sum() - math.log2(k), 1e-6, 1e3)
        a[i, near] = np.exp(-beyond / scale)
    assert np.allclose(c.neighbour_graph(x, k).toarray(), 1 - (1 - a) * (1 - a.T), atol=1e-6)
    assert c.neighbour_graph(x).getnnz(1).min() == 14


def test_leiden_parts_the_neighbour_graph_by_weighted_modularity_of_resolution_1_or_into_as_many_as_told(monkeypatch):
    pytest.importorskip("leidenalg", reason="needs leidenalg, of the extra `clustering`")
    x = np.random.default_rng(5).standard_normal((150, 2))
    w = c.neighbour_graph(x).toarray()
    gain = w - np.outer(w.sum(1), w.sum(1)) / w.sum()
    for found in (c.CLUSTERINGS["leiden"](x, 10, seed) for seed in range(8)):  # no row is better off elsewhere
        joined = gain @ np.eye(found.max() + 1)[found] - np.eye(found.max() + 1)[found] * np.diag(gain)[:, None]
        assert np.allclose(joined[np.arange(150), found], joined.max(1))
    assert [len(np.unique(c.CLUSTERINGS["leiden-told"](x, k, 0))) for k in (3, 6, 15)] == [3, 6, 15]
    assert c.ari(c.CLUSTERINGS["leiden-told"](BLOBS, 3, 0), LABELS) == pytest.approx(1.0)
    monkeypatch.setitem(sys.modules, "leidenalg", None)
    with pytest.raises(UserError) as error:
        c.CLUSTERINGS["leiden"](BLOBS, 3, 0)
    assert "latentbench[clustering]" in str(error.value.fix)


@pytest.mark.parametrize("by", ["k-means", "gmm-spherical", "gmm-full", "tmm"])
def test_clusterings_find_groups_that_lie_apart_and_spherical_ones_no_long_groups(by):
    assert max(c.ari(c.CLUSTERINGS[by](BLOBS, 3, s), LABELS) for s in range(3)) == pytest.approx(1.0)
    y = np.arange(400) % 2
    x = np.random.default_rng(3).standard_normal((400, 2)) * [2, 0.3] + np.outer(y, [0, 3])
    best = max(c.ari(c.CLUSTERINGS[by](x, 2, s), y) for s in range(3))
    assert best > 0.98 if by in ("gmm-full", "tmm") else best < 0.2


def test_t_densities_and_degrees_of_freedom():
    x, v = RNG.standard_normal((6, 3)), np.array([1.5, 4.0, 60.0])
    scale = np.stack([np.cov(RNG.standard_normal((3, 20))) for _ in v])
    found, m = c.t_log_densities(x - MEANS[:, None], scale, v)
    for j in range(3):
        assert np.allclose(found[j], multivariate_t(MEANS[j], scale[j], v[j]).logpdf(x))
        assert np.allclose(m[j], [(r - MEANS[j]) @ np.linalg.inv(scale[j]) @ (r - MEANS[j]) for r in x])
    assert np.allclose(c.degrees(digamma(v / 2) - np.log(v / 2)), v, rtol=1e-5)
    assert np.allclose(c.degrees(np.array([1.0, -50.0])), [1e4, 1.0], rtol=1e-3)


def test_the_t_mixture_climbs_to_where_nothing_climbs_on():
    tails = np.sqrt(4 / RNG.chisquare(4, 600))[:, None]
    x = MEANS[np.arange(600) % 2, :2] / 2 + RNG.standard_normal((600, 2)) @ np.array([[1.0, 0.6], [0, 1]]) * tails
    r, fit = c.t_mixture(x, 2, 0, tolerance=1e-12)
    bounds = fit.pop("bounds")
    assert np.diff(bounds).min() > -1e-9
    assert np.allclose(r.sum(0), 1)

    def bound(share, mean, scale, degrees):
        return float(logsumexp(c.t_log_densities(x - mean[:, None], scale, degrees)[0].T + np.log(share), 1).mean())

    assert bound(**fit) == pytest.approx(bounds[-1], abs=1e-8)
    for name, value in fit.items():
        for i in np.ndindex(value.shape):
            way = np.zeros_like(value)
            way[i] = 1e-4
            way -= way.mean() if name == "share" else 0
            way = (way + way.transpose(0, 2, 1)) / 2 if name == "scale" else way
            ends = [bound(**{**fit, name: value + sign * way}) for sign in (1, -1)]
            assert abs(ends[0] - ends[1]) / 2e-4 < 2e-4, name


class Codes:
    """A model that keeps a start; its codes are the rows, each moved by its draws."""

    start = torch.tensor(11)

    def row_codes(self, x, generator):
        return x + torch.rand(x.shape, generator=generator)


def test_measures_see_the_same_codes_from_the_same_start(monkeypatch):
    asked = []

    def given(labels):
        return lambda z, k, seed: (asked.append((z.tobytes(), k, seed)), labels)[1]

    truth, half = LABELS + 5, np.minimum(LABELS, 1)
    told = {"half": given(half), "one": given(0 * LABELS)}
    monkeypatch.setattr(c, "TOLD", told)
    monkeypatch.setattr(c, "CLUSTERINGS", {**told, "right": given(truth)})
    monkeypatch.setattr(c, "BLOCK", 40)
    train = SimpleNamespace(x=torch.tensor(np.tile(BLOBS, (2, 1))), columns={"y": np.tile(LABELS, 2)})
    view = SimpleNamespace(x=torch.tensor(BLOBS), columns={"y": LABELS}, train=train)
    found = {by: c.code_clusters_ari(Codes(), view, {"by": by}, draws(i)) for i, by in enumerate(c.CLUSTERINGS)}
    middle = adjusted_rand_score(LABELS, half)
    assert {by: f.value for by, f in found.items()} == pytest.approx({"right": 1, "one": 0, "half": middle})
    assert {by: f.details["clusters"] for by, f in found.items()} == {"right": 3, "one": 1, "half": 2}
    for of, lead in {"right": 1 - middle, "one": -middle, "half": middle}.items():
        led = c.code_clusters_lead(Codes(), view, {"of": of}, draws(len(of)))
        assert led.value == pytest.approx(lead)
        assert led.details == pytest.approx({by: found[by].value for by in (of, *told)})
    assert len(set(asked)) == 1
    assert asked[0][1] == 3
    seen = []
    monkeypatch.setattr(c, "linear_probe", lambda *a: seen.append(a))
    c.code_line(Codes(), view, {"rows": 200}, draws())
    codes, labels, z, y = seen[0]
    assert z.tobytes() == asked[0][0]
    assert np.array_equal(np.floor(codes - train.x.numpy()[:200]), np.zeros_like(codes))
    assert np.array_equal(labels, train.columns["y"][:200])
    assert np.array_equal(y, LABELS)


def test_each_vae_keeps_a_start_of_its_own():
    one, other = vae_and_rows()[0], MixtureVAE(DataInfo((X,), "unit", 50), likelihood="bernoulli", hidden=(6,))
    assert one.state_dict()["start"] != other.start
