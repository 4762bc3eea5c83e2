"""What is exact in VGAE: encoder, weighted cross-entropy, KL term; walks and embeddings of the baselines."""

from __future__ import annotations

import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo, Part
from latentbench.evaluation.links import link_auroc, link_average_precision
from latentbench.papers.vgae.embeddings import DeepWalk, Spectral
from latentbench.papers.vgae.smoothed import SmoothedFeatures
from latentbench.papers.vgae.vgae import VGAE, gaussian_kl, pair_cross_entropy
from latentbench.planning.plan import plan
from latentbench.running.run_data import load_data
from latentbench.spec.loading import load_suite

EDGES = torch.tensor([[0, 1], [1, 2], [0, 4], [3, 4]])
N, D = 6, 5  # node 5 has no edge
INFO = DataInfo((D,), "real", N, parts={"edges": Part((2,), "discrete", role="edges", whole=True)})


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


def batch(edges=EDGES, seed=0):
    x = torch.randn(N, D, generator=torch.Generator().manual_seed(seed))
    return Batch(x, N, columns={"edges": edges}, index=torch.arange(N))


def adjacency() -> np.ndarray:
    a = np.eye(N)
    for i, j in EDGES.tolist():
        a[i, j] = a[j, i] = 1
    return a


def build(**params):
    torch.manual_seed(3)
    model = VGAE(INFO, hidden=4, latent_dim=3, **params)
    for parameter in model.parameters():
        parameter.data *= 1.7
    return model


@pytest.mark.parametrize("features", [True, False])
def test_the_encoder_is_two_graph_convolutions(features):
    model, rows = build(features=features), batch()
    a = adjacency()
    root = np.diag(a.sum(1) ** -0.5)
    mixing = root @ a @ root
    w0, w1, w2 = (layer.weight.detach().numpy() for layer in (model.first, model.mean, model.log_scale))
    h = np.maximum(mixing @ (rows.x.numpy() if features else np.eye(N)) @ w0, 0)
    mean, log_scale = model.encode_nodes(rows)
    np.testing.assert_allclose(mean.detach(), mixing @ h @ w1, atol=1e-5)
    np.testing.assert_allclose(log_scale.detach(), mixing @ h @ w2, atol=1e-5)


def test_the_cross_entropy_weighs_edges_and_pairs_without_one_alike():
    z = torch.randn(N, 3, generator=torch.Generator().manual_seed(1))
    logits = z @ z.T
    ones = 2 * len(EDGES)
    total = 0.0
    for i in range(N):
        for j in range(N):
            p = 1 / (1 + np.exp(-float(logits[i, j])))
            total -= (N * N - ones) / ones * np.log(p) if adjacency()[i, j] else np.log(1 - p)
    assert float(pair_cross_entropy(z, EDGES)) == pytest.approx(total / (2 * (N * N - ones)), rel=1e-5)


def test_the_kl_term_is_that_of_the_gaussians_and_counted_over_pairs():
    mean, log_scale = torch.randn(2, N, 3, generator=torch.Generator().manual_seed(2))
    prior = torch.distributions.Normal(0.0, 1.0)
    exact = torch.distributions.kl_divergence(torch.distributions.Normal(mean, log_scale.exp()), prior).sum()
    assert float(gaussian_kl(mean, log_scale)) == pytest.approx(float(exact), rel=1e-5)
    model, rows = build(), batch()
    terms = model.loss(rows, torch.Generator().manual_seed(0))
    exact = float(gaussian_kl(*model.encode_nodes(rows)))
    assert float(terms["rate_per_pair"]) == pytest.approx(exact / N**2, rel=1e-5)
    assert float(terms["loss"]) == pytest.approx(float(terms["cross_entropy"] + terms["rate_per_pair"]), rel=1e-6)


def test_training_draws_codes_around_the_means_with_the_scale():
    model, rows = build(), batch()
    mean, log_scale = model.encode_nodes(rows)
    noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(9))
    z = mean + log_scale.exp() * noise
    terms = model.loss(rows, torch.Generator().manual_seed(9))
    assert float(terms["cross_entropy"]) == pytest.approx(float(pair_cross_entropy(z, EDGES)), rel=1e-5)


def test_without_noise_the_loss_is_the_cross_entropy_of_the_means():
    model, rows = build(variational=False), batch()
    mean, none = model.encode_nodes(rows)
    assert none is None
    terms = model.loss(rows, torch.Generator())
    assert float(terms["loss"]) == pytest.approx(float(pair_cross_entropy(mean, EDGES)), rel=1e-6)


def test_scores_are_inner_products_of_means():
    model, rows, pairs = build(), batch(), torch.tensor([[5, 0], [2, 1]])
    mean, _ = model.encode_nodes(rows)
    expected = [float(mean[5] @ mean[0]), float(mean[2] @ mean[1])]
    assert model.link_scores(rows, pairs).tolist() == pytest.approx(expected, rel=1e-5)


def test_data_that_are_no_graph_are_refused():
    with pytest.raises(UserError, match="one graph"):
        VGAE(DataInfo((D,), "real", N))


class Scores:
    """A link predictor that knows the answers."""

    def __init__(self, scores):
        self.scores = torch.tensor(scores)

    def link_scores(self, batch, pairs):
        return self.scores


@pytest.mark.parametrize(
    ("scores", "auc", "ap"), [([4, 3, 2, 1], 1, 1), ([1, 2, 3, 4], 0, 5 / 12), ([4, 1, 3, 2], 0.5, 0.75)]
)
def test_metrics_rank_edges_before_pairs_without_one(scores, auc, ap):
    parts = {"links": torch.tensor([[0, 1], [1, 2], [0, 2], [0, 3]]), "linked": torch.tensor([1, 1, 0, 0])}
    view = SimpleNamespace(parts=parts, batch=lambda: None)
    assert link_auroc(Scores(scores), view, {}, torch.Generator()).value == pytest.approx(auc)
    assert link_average_precision(Scores(scores), view, {}, torch.Generator()).value == pytest.approx(ap)


def test_no_role_sees_a_held_out_edge_and_all_methods_of_a_seed_get_the_same():
    if not os.environ.get("LATENTBENCH_MIRROR"):
        pytest.skip("needs Cora, from the folder that LATENTBENCH_MIRROR names")
    runs = [r for r in plan(load_suite("vgae"), "cpu", seeds=[0, 1]) if r.method in ("vgae", "spectral")]
    found = {(r.method, r.seed): load_data(r).whole for r in runs}
    for whole in found.values():
        seen = {tuple(e) for e in whole["train"]["edges"].tolist()}
        assert "links" not in whole["train"]
        for role in ("valid", "test"):
            held = whole[role]["links"][whole[role]["linked"] == 1]
            assert len(held) == 5278 // (20 if role == "valid" else 10)
            assert not seen & {tuple(e) for e in held.tolist()}
            np.testing.assert_array_equal(whole[role]["edges"], whole["train"]["edges"])
    links = {key: whole["test"]["links"] for key, whole in found.items()}
    np.testing.assert_array_equal(links["vgae", 0], links["spectral", 0])
    assert not np.array_equal(links["vgae", 0], links["vgae", 1])


def two_cliques() -> torch.Tensor:
    return torch.tensor([[i + o, j + o] for o in (0, 8) for i in range(8) for j in range(i + 1, 8)] + [[0, 8]])


@pytest.mark.parametrize(("kind", "params"), [(Spectral, {}), (DeepWalk, {"walks": 200, "length": 20, "window": 3})])
def test_baselines_part_two_cliques(kind, params):
    edges, n = two_cliques(), 16
    model = kind(DataInfo((D,), "real", n, parts=INFO.parts), dim=4, **params)
    rows = Batch(torch.zeros(n, D), n, columns={"edges": edges})
    model.start(rows, torch.Generator())
    model.advance(rows, torch.Generator().manual_seed(4))
    assert model.done()
    within, across = torch.tensor([[1, 2], [3, 4], [9, 10]]), torch.tensor([[1, 9], [3, 12], [5, 14]])
    assert model.link_scores(rows, within).min() > model.link_scores(rows, across).max()


@pytest.mark.parametrize("hops", [1, 3])
def test_the_rival_scores_cosines_of_smoothed_features(hops):
    rows, a = batch(), adjacency()
    rows.x[5] = 0  # no features within its reach
    root = np.diag(a.sum(1) ** -0.5)
    mixed = np.linalg.matrix_power(root @ a @ root, hops) @ rows.x.numpy()
    pairs = torch.tensor([[0, 2], [3, 1], [4, 4], [5, 0]])
    want = [
        0.0 if 5 in (i, j) else mixed[i] @ mixed[j] / np.linalg.norm(mixed[i]) / np.linalg.norm(mixed[j])
        for i, j in pairs.tolist()
    ]
    assert np.allclose(SmoothedFeatures(INFO, hops=hops).link_scores(rows, pairs), want, atol=1e-6)
