"""What is exact: the tree's law and its root's posterior, the network node by node, the losses, the correlations."""

from __future__ import annotations

from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo
from latentbench.data.registry import load_entry
from latentbench.papers.ssl_dual_nets.measure import best_correlations, node_correlation
from latentbench.papers.ssl_dual_nets.references import LeafComponents, RootPosterior
from latentbench.papers.ssl_dual_nets.tree_net import TreeContrast, TreeNet, UntrainedTree
from latentbench.papers.ssl_dual_nets.trees import latent_tree, make_tree
from latentbench.spec.loading import load_suite
from sklearn.decomposition import PCA

from tests.project import REPOSITORY

NINE = DataInfo((2, 9), "real", 40)
SHAPE = {"depth": 2, "children": 3, "lowest": 0.3, "structure_seed": 5}


def views(n: int = 40, seed: int = 0) -> torch.Tensor:
    return (torch.rand(n, 2, 9, generator=torch.Generator().manual_seed(seed)) < 0.4).float()


def probability(tree, values: dict[tuple[int, int], int]) -> float:
    """Of one assignment of all variables, (level, node) to 0 or 1, link by link."""
    p = 0.5
    for level, polarities in enumerate(tree.polarities, start=1):
        for node, polarity in enumerate(polarities):
            equal = values[level, node] == values[level - 1, node // tree.children]
            p *= (1 + polarity) / 2 if equal else (1 - polarity) / 2
    return p


def test_a_link_keeps_its_parents_value_with_probability_one_plus_polarity_over_two():
    tree, n = make_tree(**SHAPE), 40_000
    rng = np.random.default_rng(1)
    root = rng.integers(0, 2, n)
    levels = tree.draw(root, rng)
    assert [level.shape for level in levels] == [(n, 1), (n, 3), (n, 9)]
    for above, below, polarity in zip(levels, levels[1:], tree.polarities, strict=False):
        equal = (below == np.repeat(above, 3, axis=1)).mean(0)
        np.testing.assert_allclose(equal, (1 + polarity) / 2, atol=4.5 * 0.5 / n**0.5)


def test_sizes_of_polarities_fill_their_range_and_signs_are_fair():
    polarities = np.concatenate(make_tree(6, 3, 0.3, 2).polarities)
    size = np.abs(polarities)
    assert 0.3 <= size.min() < 0.31
    assert 0.99 < size.max() <= 1.0
    assert abs(size.mean() - 0.65) < 4.5 * 0.7 / (12 * len(size)) ** 0.5
    assert abs((polarities > 0).mean() - 0.5) < 4.5 * 0.5 / len(size) ** 0.5
    again, other = make_tree(6, 3, 0.3, 2), make_tree(6, 3, 0.3, 3)
    assert np.array_equal(np.concatenate(again.polarities), polarities)
    assert not np.array_equal(np.concatenate(other.polarities), polarities)


def test_two_views_share_the_root_and_nothing_else():
    made = latent_tree(60_000, np.random.default_rng(3), **SHAPE)
    root = made["factors"][:, 0]
    assert made["x"].shape == (60_000, 2, 9)
    assert abs(root.mean() - 0.5) < 4.5 * 0.5 / len(root) ** 0.5
    for value in (0, 1):
        x = made["x"][root == value]
        across = np.cov(np.hstack([x[:, 0], x[:, 1]]).T)[:9, 9:]
        assert np.abs(across).max() < 5 * 0.25 / len(x) ** 0.5


def test_latents_are_those_of_the_first_view_from_the_root_downwards():
    deep = {"depth": 3, "children": 2, "lowest": 0.3, "structure_seed": 5}
    made, tree = latent_tree(60_000, np.random.default_rng(3), **deep), make_tree(**deep)
    assert np.array_equal(made["latents"][:, 0], made["factors"][:, 0])
    levels = [*np.split(made["latents"], [1, 3], axis=1), made["x"][:, 0]]
    for above, below, polarities in zip(levels, levels[1:], tree.polarities, strict=False):
        for node, polarity in enumerate(polarities):
            found = np.corrcoef(above[:, node // 2], below[:, node])[0, 1]
            assert found == pytest.approx(polarity, abs=0.02)


@pytest.mark.parametrize("shape", [SHAPE, {"depth": 3, "children": 2, "lowest": 0.5, "structure_seed": 1}])
def test_the_roots_posterior_is_that_of_enumeration(shape):
    tree, children = make_tree(**shape), shape["children"]
    nodes = [(level, node) for level in range(shape["depth"]) for node in range(children**level)]
    count = children ** shape["depth"]
    leaves = np.random.default_rng(4).integers(0, 2, (6, count))
    for row, odds in zip(leaves, tree.log_odds(leaves), strict=True):
        joint = [0.0, 0.0]
        for values in product((0, 1), repeat=len(nodes)):
            everything = dict(zip(nodes, values, strict=True)) | {(shape["depth"], i): v for i, v in enumerate(row)}
            joint[values[0]] += probability(tree, everything)
        assert odds == pytest.approx(np.log(joint[1] / joint[0]), rel=1e-6)


def test_a_link_that_always_holds_gives_a_certain_root():
    tree = make_tree(depth=2, children=2, lowest=1.0, structure_seed=0)
    for root in (0, 1):
        leaves = tree.draw(np.array([root]), np.random.default_rng(0))[-1]
        posterior = 1 / (1 + np.exp(-tree.log_odds(leaves)))
        assert posterior[0] == pytest.approx(root, abs=1e-6)


def test_no_code_correlates_more_with_the_root_than_its_posterior():
    made = latent_tree(30_000, np.random.default_rng(6), **SHAPE)
    x, root = torch.from_numpy(made["x"]), made["factors"][:, 0]
    code = RootPosterior(NINE, **SHAPE).encode(x)
    odds = make_tree(**SHAPE).log_odds(made["x"][:, 0])
    np.testing.assert_allclose(code[:, 0], 1 / (1 + np.exp(-odds)), atol=1e-6)
    reached = abs(np.corrcoef(code[:, 0], root)[0, 1])
    leaves = np.c_[made["x"][:, 0], np.ones(len(root))]
    fitted = leaves @ np.linalg.lstsq(leaves, root, rcond=None)[0]
    assert reached >= abs(np.corrcoef(fitted, root)[0, 1]) - 1e-3


def build(kind=TreeContrast, **params):
    torch.manual_seed(2)
    model = kind(NINE, **{"children": 3, "hidden": 4, **params})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 1.7
    return model


def test_the_network_is_one_linear_layer_a_node():
    model, x = build(), views()[:, 0]
    below = [x[:, i : i + 1] for i in range(9)]
    for units, weight, bias in zip(model.units(x), model.weights, model.biases, strict=True):
        seen = [torch.relu(torch.cat(below[3 * k : 3 * k + 3], 1)) for k in range(len(weight))]
        below = [torch.nn.functional.linear(s, w, b) for s, w, b in zip(seen, weight, bias, strict=True)]
        torch.testing.assert_close(units, torch.stack(below, 1))
    assert len(below) == 1
    torch.testing.assert_close(model.encode(views()), below[0])


def test_a_node_sees_its_own_leaves_alone():
    model, x = build(), views()[:, 0]
    low, _ = model.units(x)
    changed, _ = model.units(torch.cat([x[:, :3], 1 - x[:, 3:6], x[:, 6:]], 1))
    assert torch.equal(low[:, [0, 2]], changed[:, [0, 2]])
    assert not torch.equal(low[:, 1], changed[:, 1])


@pytest.mark.parametrize("objective", ["nce", "simple"])
def test_the_loss_is_its_formula(objective):
    model, x = build(objective=objective, temperature=0.3), views(7)
    terms = model.loss(Batch(x, 40), torch.Generator())
    f = [v / (v.norm() + 1e-4) for v in model.encode(x)]
    positive = [v / (v.norm() + 1e-4) for v in model.encode(x.flip(1))]
    near = np.mean([((a - b) ** 2).mean().item() for a, b in zip(f, positive, strict=True)])
    far = np.mean([((f[i] - f[i - 1]) ** 2).mean().item() for i in range(7)])
    assert terms["near"].item() == pytest.approx(near, rel=1e-5)
    assert terms["far"].item() == pytest.approx(far, rel=1e-5)
    e_near, e_far = np.exp(-near / 0.3), np.exp(-far / 0.3)
    expected = near - far if objective == "simple" else -e_near / (e_near + e_far)
    assert terms["loss"].item() == pytest.approx(expected, rel=1e-5)


def test_training_brings_units_nearer_to_the_root_than_they_were():
    made = latent_tree(2000, np.random.default_rng(8), depth=2, children=3, lowest=0.6, structure_seed=5)
    x, root = torch.from_numpy(made["x"]), torch.from_numpy(made["factors"])
    torch.manual_seed(0)
    model = TreeContrast(NINE, children=3, hidden=6)
    before = best_correlations(model.units(x[:, 0])[-1], root).item()
    optimiser = torch.optim.SGD(model.parameters(), 0.1)
    for step in range(400):
        rows = torch.arange(step * 50, step * 50 + 50) % len(x)
        loss = model.loss(Batch(x[rows], len(x)), torch.Generator())["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert best_correlations(model.units(x[:, 0])[-1], root).item() > before + 0.03


def test_untrained_weights_are_those_that_training_begins_with():
    torch.manual_seed(4)
    model = UntrainedTree(NINE, children=3, hidden=4)
    model.fit(views(), torch.Generator().manual_seed(1))
    torch.manual_seed(4)
    begun = TreeContrast(NINE, children=3, hidden=4)
    for one, other in zip(model.parameters(), begun.parameters(), strict=True):
        assert torch.equal(one, other)


def test_initial_weights_follow_the_law_of_torchs_linear_layers():
    torch.manual_seed(5)
    made = TreeNet(NINE, children=3, hidden=400)
    for weight, bias in zip(made.weights, made.biases, strict=True):
        layer = torch.nn.Linear(weight.shape[-1], 4000)
        for ours, theirs in ((weight, layer.weight), (bias, layer.bias)):
            assert ours.std().item() == pytest.approx(theirs.std().item(), rel=0.1)
            assert ours.abs().max().item() == pytest.approx(theirs.abs().max().item(), rel=0.02)
            assert abs(ours.mean()) < 0.2 * ours.std()


def test_components_are_scikit_learns_of_the_first_view():
    x = views(60) * torch.arange(1, 10)
    model = LeafComponents(NINE, components=4)
    model.fit(x, torch.Generator())
    expected = PCA(4).fit_transform(x[:, 0].double().numpy())
    np.testing.assert_allclose(model.encode(x).abs().numpy(), np.abs(expected), atol=1e-3)


def test_the_best_unit_counts_whatever_its_sign():
    generator = torch.Generator().manual_seed(3)
    units, latents = torch.randn(50, 3, 4, generator=generator) + 5.0, torch.randint(0, 2, (50, 3), generator=generator)
    units[:, 1, 2] -= 3.0 * latents[:, 1]
    units[:, 2] = 7.0
    found = best_correlations(units, latents)
    for k in range(2):
        each = [abs(np.corrcoef(units[:, k, h], latents[:, k])[0, 1]) for h in range(4)]
        assert found[k].item() == pytest.approx(max(each), rel=1e-5)
    assert found[1] > 0.7
    assert found[2] == 0.0, "units that are constant follow nothing"


def test_a_level_is_held_against_the_variables_at_its_own_nodes():
    torch.manual_seed(2)
    model = TreeNet(DataInfo((2, 8), "real", 40), children=2, hidden=4)
    x, latents = views(50)[..., :8], np.random.default_rng(1).integers(0, 2, (50, 7))
    view = SimpleNamespace(x=x, columns={"latents": latents}, blocks=lambda size: [slice(0, 20), slice(20, 50)])
    nodes = {1: latents[:, 3:], 2: latents[:, 1:3], 3: latents[:, :1]}
    for level, units in enumerate(model.units(x[:, 0]), start=1):
        found = node_correlation(model, view, {"level": level}, torch.Generator())
        expected = best_correlations(units, torch.from_numpy(nodes[level])).mean().item()
        assert found.value == pytest.approx(expected, rel=1e-6)
        assert found.n == 50
    with pytest.raises(UserError, match="3 above its leaves"):
        node_correlation(model, view, {"level": 4}, torch.Generator())
    with pytest.raises(UserError, match="no units"):
        node_correlation(LeafComponents(NINE), view, {"level": 1}, torch.Generator())
    with pytest.raises(UserError, match="latents"):
        node_correlation(model, SimpleNamespace(x=x, columns={}, blocks=view.blocks), {"level": 1}, torch.Generator())


def test_the_known_trees_are_those_of_the_data():
    loaded = load_suite(REPOSITORY / "suites/ssl-dual-nets/suite.yaml")
    for tree in ("07", "08", "09"):
        params = loaded.suite.methods[f"posterior-{tree}"].params
        assert {"depth": 5, "children": 2, **params} == load_entry(f"latent-tree-{tree}").params


@pytest.mark.parametrize("shape", [(9,), (3, 9), (2, 8), (2, 1), (2, 3, 3)])
def test_data_that_are_not_two_views_of_a_tree_are_refused(shape):
    with pytest.raises(UserError, match="two views"):
        TreeNet(DataInfo(shape, "real", 40), children=3)
