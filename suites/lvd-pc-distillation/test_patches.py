from __future__ import annotations

import itertools

import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo
from latentbench.models.circuits.distillation import kmeans
from latentbench.papers.lvd_pc_distillation.patches import STARTS, PatchCircuit
from torch import Tensor

from tests.models.circuits.test_latent_tree import gen

INFO = DataInfo((1, 4, 4), "discrete", 300, levels=4)
TINY = DataInfo((1, 2, 4), "binary", 300)
SMALL = {"patch": 2, "channels": (4,), "latent_dim": 2, "hidden": (8,), "teacher_steps": 5, "states": 2, "clusters": 4}


def images(info: DataInfo, n: int = 300, seed: int = 0) -> Tensor:
    """Patches of one tone each, with noise."""
    g = gen(seed)
    levels = info.levels or 2
    c, h, w = info.shape
    tone = torch.randint(levels, (n, c, h // 2, w // 2), generator=g).float()
    x = tone.repeat_interleave(2, 2).repeat_interleave(2, 3)
    other = torch.randint(levels, x.shape, generator=g).float()
    return torch.where(torch.rand(x.shape, generator=g) < 0.2, other, x)


def made(info: DataInfo, **params) -> PatchCircuit:
    torch.manual_seed(0)
    model = PatchCircuit(info, **{**SMALL, "steps": 20, "batch_size": 200, **params})
    model.prepare(images(info), gen())
    return model.eval()


@pytest.mark.parametrize("start", STARTS)
def test_probabilities_of_all_images_sum_to_one(start: str):
    every = torch.tensor(list(itertools.product((0.0, 1.0), repeat=8))).view(-1, 1, 2, 4)
    assert made(TINY, start=start).log_prob(every).exp().sum().item() == pytest.approx(1.0, abs=1e-5)


def test_equals_the_sum_over_clusters():
    """log sum over (z_1, z_2) of p(z_1) p(z_2 | z_1) p_{z_1}(x_1) p_{z_2}(x_2), for two patches."""
    model = made(TINY)
    x = images(TINY, 5, seed=3)
    tables = {name: p.detach() for name, p in model.free.items()}
    order = model.structure[0].tolist()
    parts = model.patches(x)
    first, second = (model.cluster_log_prob(parts[:, place], tables).exp() for place in order)
    p = torch.einsum("a,ab,na,nb->n", tables["prior"], tables["top"][0], first, second)
    torch.testing.assert_close(model.log_prob(x), p.log(), rtol=1e-4, atol=1e-5)


def test_patches_are_cut_row_by_row_and_put_together_again():
    model = PatchCircuit(INFO, **SMALL)
    x = torch.arange(16.0).view(1, 1, 4, 4)
    assert model.patches(x)[0].tolist()[1] == [2.0, 3.0, 6.0, 7.0]
    torch.testing.assert_close(model.images(model.patches(x)), x)


def test_samples_have_the_model_s_frequencies():
    model = made(TINY, start="k-means")
    every = torch.tensor(list(itertools.product((0.0, 1.0), repeat=8)))
    with torch.no_grad():
        p = model.log_prob(every.view(-1, 1, 2, 4)).exp()
        drawn = model.sample(20_000, gen()).flatten(1)
    seen = torch.bincount((drawn * 2 ** torch.arange(7, -1, -1)).sum(1).long(), minlength=256) / len(drawn)
    assert (seen - p).abs().max() < 5 * (p.max() / len(drawn)).sqrt()


def test_full_em_never_lowers_the_likelihood():
    x = images(INFO)
    model = made(INFO, pseudocount=1e-12).train()
    optimiser = torch.optim.SGD(model.parameters(), 1.0)
    losses = []
    for step in range(15):
        loss = model.loss(Batch(x, 300, step), gen())["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert all(later <= earlier + 1e-5 for earlier, later in itertools.pairwise(losses))


def test_labels_set_the_top_tables():
    """LVD's supervised step: the top tables are the labels' relative frequencies."""
    model = made(TINY, start="random", pseudocount=1e-6)
    pixels = model.patches(images(TINY)).flatten(0, 1)
    label = (pixels.sum(1) > 2).long() + 2 * (pixels[:, 0] > 0).long()
    model.start = "k-means"
    model._fit_clusters = lambda *_: None  # the top alone
    import latentbench.papers.lvd_pc_distillation.patches as module

    original, module.kmeans = module.kmeans, lambda *_: label
    try:
        model._distil(pixels, pixels, gen())
    finally:
        module.kmeans = original
    order = model.structure[0]
    places = label.view(-1, 2)[:, order]
    for a, b in itertools.product(range(4), repeat=2):
        mine = places[:, 0] == a
        expected = (places[mine, 1] == b).float().mean() if mine.any() else torch.tensor(0.25)
        assert model.free["top"][0, a, b].item() == pytest.approx(expected.item(), abs=1e-4)


def test_images_of_a_known_tree_are_explained_as_well_as_by_the_tree():
    """Patches of four kinds under a known tree, told apart by their pixels: distillation comes to its likelihood."""
    info, g, n = DataInfo((1, 2, 6), "binary", 6000), gen(4), 6000
    kinds = torch.tensor([[1, 1, 1, 1], [0, 0, 0, 0], [1, 0, 1, 0], [0, 1, 1, 0]]).float() * 0.96 + 0.02
    prior = torch.tensor([0.4, 0.3, 0.2, 0.1])
    top = torch.tensor([[0.7, 0.1, 0.1, 0.1], [0.1, 0.1, 0.7, 0.1], [0.1, 0.2, 0.1, 0.6], [0.5, 0.3, 0.1, 0.1]])
    places = [torch.multinomial(prior, n, replacement=True, generator=g)]
    for _ in range(2):  # a chain of three patches, from left to right
        places.append(torch.multinomial(top[places[-1]], 1, generator=g)[:, 0])
    patches = torch.bernoulli(kinds[torch.stack(places, 1)], generator=g)
    torch.manual_seed(0)
    model = PatchCircuit(info, **{**SMALL, "steps": 120, "batch_size": 1000, "pseudocount": 1e-2}).eval()
    x = model.images(patches)
    model.prepare(x, gen())
    model.start = "k-means"
    pixels = patches.flatten(0, 1)
    model._distil(pixels, pixels, gen(1))
    log_kind = torch.stack([torch.distributions.Bernoulli(k).log_prob(patches).sum(-1) for k in kinds], -1)
    forward = prior.log() + log_kind[:, 0]
    for i in (1, 2):
        forward = torch.logsumexp(forward[:, :, None] + top.log(), 1) + log_kind[:, i]
    truth = forward.logsumexp(-1).mean().item()
    with torch.no_grad():
        assert model.log_prob(x).mean().item() == pytest.approx(truth, abs=0.05)
        assert made(info).log_prob(x).mean().item() < truth - 2.0


@pytest.mark.parametrize("start", ["k-means", "progressive"])
def test_distillation_starts_above_random(start: str):
    x = images(INFO, seed=8)
    random, distilled = made(INFO), made(INFO, start=start, steps=40, teacher_steps=60)
    assert distilled.log_prob(x).mean() > random.log_prob(x).mean() + 1.0


def test_growth_splits_the_worst_cluster():
    model = made(TINY)
    pixels = model.patches(images(TINY)).flatten(0, 1)
    used = {name: model.free[name][:2] for name in ("heads", "inner", "leaves")}
    with torch.no_grad():
        fit = model.cluster_log_prob(pixels, used)
    label = fit.argmax(1)
    own = fit.gather(1, label[:, None])[:, 0]
    worst = min((0, 1), key=lambda c: own[label == c].mean().item())
    after = model._split(pixels, pixels, label.clone(), 2, 3, gen())
    moved = after == 2
    assert moved.any()
    assert (label[moved] == worst).all()  # only the cluster that is explained worst has lost patches
    assert (after[~moved] == label[~moved]).all()


def test_kmeans_finds_separate_clusters():
    x = torch.cat([torch.randn(50, 3, generator=gen(k)) * 0.1 + 5 * k for k in range(3)])
    label = kmeans(x, 3, gen())
    assert all(len(label[50 * k : 50 * (k + 1)].unique()) == 1 for k in range(3))
    assert len(label.unique()) == 3


@pytest.mark.parametrize(
    "wrong",
    [
        {"patch": 3},
        {"start": "best"},
        {"clusters": 1},
        {"step_size": 1.5},
        {"start": "k-means", "channels": (4, 4)},
    ],
)
def test_bad_parameters(wrong: dict):
    with pytest.raises(UserError):
        PatchCircuit(INFO, **{**SMALL, **wrong})


@pytest.mark.parametrize("start", STARTS)
def test_one_patch_is_its_clusters_alone(start: str):
    model = made(INFO, patch=4, channels=(4, 4), start=start)
    x = images(INFO, 6)
    clusters = model.cluster_log_prob(x.flatten(1), dict(model.free))
    assert model.log_prob(x).tolist() == pytest.approx((clusters + model.free["prior"].log()).logsumexp(1).tolist())


def test_vectors_and_wrong_images_are_refused():
    with pytest.raises(UserError, match="images"):
        PatchCircuit(DataInfo((16,), "binary", 3))
    with pytest.raises(UserError, match="shape"):
        made(INFO).log_prob(torch.zeros(2, 1, 6, 6))
    with pytest.raises(UserError, match="prepare"):
        PatchCircuit(INFO, **SMALL).log_prob(images(INFO, 2))
