"""Generated data: what they promise holds, against other ways of computing it."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from latentbench.data.columns import Indexed
from latentbench.data.dataset import open_dataset
from latentbench.data.generated import gaussians, planar, rooms, series, sprites, structures
from latentbench.data.generated.grid import Grid
from latentbench.data.progress import silent
from latentbench.data.registry import read_entry, resolve, target_of
from scipy.integrate import solve_ivp
from scipy.special import logsumexp
from scipy.stats import multivariate_normal

from .conftest import ENTRY_FILES

ENTRIES = {e.name: e for e in map(read_entry, ENTRY_FILES) if e.generate is not None}
PLANE = {n: e for n, e in ENTRIES.items() if "planar" in target_of("generator", e.generate) or n == "gaussian-mixture"}
#: Entries whose oracle knows the density of a row; that of a transport plan knows the plan instead.
ORACLES = {n: e for n, e in ENTRIES.items() if e.oracle is not None and e.oracle != "bridge"}


def sample(entry, n, seed=0, split=None):
    params = entry.params | (entry.splits[split].params if split else {})
    return resolve("generator", entry.generate)(n, np.random.default_rng(seed), **params)


@pytest.mark.parametrize("name", [n for n, e in ENTRIES.items() if e.kind == "generated"])
def test_as_declared_and_seeded(registry, name):
    """Preparation checks rows, shapes, dtypes and ranges; the same seed gives the same data."""
    dataset = open_dataset(name, silent)
    split = next(iter(dataset.entry.splits))
    first = next(iter(dataset.split(split).values()))
    assert len(first) == dataset.entry.splits[split].rows
    a, b, c = (sample(dataset.entry, 50, seed, split) for seed in (0, 0, 1))
    for column in a:
        x, y, z = (getattr(made[column], "values", made[column]) for made in (a, b, c))
        assert x.tobytes() == y.tobytes()
        if "small" not in name and len(first) > 1:  # a single row stands for data that are simulated elsewhere
            assert x.tobytes() != z.tobytes()


@pytest.mark.parametrize("name", list(ORACLES))
def test_oracle_fits_its_samples(name):
    """The mean log-density of samples is minus the entropy; it is lower for any other data."""
    entry = ORACLES[name]
    oracle = resolve("oracle", entry.oracle)(**entry.params)
    x = sample(entry, 8_000, split="train")["x"]
    log_p = oracle.log_prob(x)
    assert log_p.shape == (len(x),)
    if oracle.entropy is not None:
        error = 5 * log_p.std() / math.sqrt(len(x)) + 1e-9
        assert -log_p.mean() == pytest.approx(oracle.entropy, abs=error)
    moved = x * 1.3 + 0.2
    assert oracle.log_prob(moved).mean() < log_p.mean() - 0.01


@pytest.mark.parametrize("name", [n for n in PLANE if n in ORACLES])
def test_planar_densities_have_mass_one(name):
    entry = PLANE[name]
    oracle = resolve("oracle", entry.oracle)(**entry.params)
    side = np.linspace(-6, 6, 241)
    cell = (side[1] - side[0]) ** 2
    centres = (side[1:] + side[:-1]) / 2
    u, v = np.meshgrid(centres, centres)
    p = np.exp(oracle.log_prob(np.column_stack([u.ravel(), v.ravel()]))).reshape(240, 240)
    assert p.sum() * cell == pytest.approx(1, abs=1e-3)
    # and the samples lie where the density says: expected against observed counts on a coarse grid
    n = 200_000
    x = sample(entry, n)["x"]
    counts, _, _ = np.histogram2d(x[:, 1], x[:, 0], bins=[side[::10], side[::10]])
    expected = n * cell * p.reshape(24, 10, 24, 10).sum((1, 3))
    busy = expected > 20
    assert counts[~busy].sum() < expected[~busy].sum() * 1.2 + 100
    chi2 = ((counts - expected)[busy] ** 2 / expected[busy]).sum()
    assert chi2 < busy.sum() + 6 * math.sqrt(2 * busy.sum()) + 0.01 * n / 100


def test_pinwheel_has_its_arms():
    x = sample(ENTRIES["pinwheel"], 50_000)["x"]
    angle = 2 * np.pi / 5
    turned = x @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]], np.float32)
    bins = np.linspace(-5, 5, 26)
    a, _, _ = np.histogram2d(*x.T, bins=[bins, bins])
    b, _, _ = np.histogram2d(*turned.T, bins=[bins, bins])
    busy = a + b > 40
    assert ((a - b)[busy] ** 2 / (a + b)[busy]).sum() < busy.sum() + 6 * math.sqrt(2 * busy.sum())


def test_gaussians_against_scipy():
    oracle = gaussians.correlated_oracle(4, 0.7)
    x = oracle.sample(50, np.random.default_rng(0))
    reference = multivariate_normal(np.zeros(4), oracle.covariance)
    assert oracle.log_prob(x) == pytest.approx(reference.logpdf(x))
    assert oracle.entropy == pytest.approx(reference.entropy())
    mixed = gaussians.mixture_oracle(3, 2.0, 0.8, 0.3)
    parts = [
        multivariate_normal(m, c).logpdf(x[:, :2]) + np.log(w)
        for w, m, c in zip(mixed.weights, mixed.means, mixed.covariances)
    ]
    assert mixed.log_prob(x[:, :2]) == pytest.approx(logsumexp(parts, axis=0))


class TestLinearGaussian:
    model = gaussians.LinearGaussian(6, 2, 0.5, 0)

    def test_marginal_and_posterior(self):
        """p(x) p(z|x) = p(z) p(x|z) at any z."""
        x, z = self.model.sample_with_latents(20, np.random.default_rng(0))
        means, covariance = self.model.posterior(x)
        for k in range(20):
            joint = multivariate_normal(np.zeros(2), np.eye(2)).logpdf(z[k])
            joint += multivariate_normal(z[k] @ self.model.weight.T + self.model.mean, 0.25 * np.eye(6)).logpdf(x[k])
            posterior = multivariate_normal(means[k], covariance).logpdf(z[k])
            assert self.model.log_prob(x[k : k + 1])[0] == pytest.approx(joint - posterior)

    def test_best_fit_is_that_of_scikit_learn(self):
        from sklearn.decomposition import PCA

        x, _ = self.model.sample_with_latents(500, np.random.default_rng(0))
        fitted, value = gaussians.best_linear_fit(x, 2)
        assert value == pytest.approx(fitted.log_prob(x).mean())
        # scikit-learn scales the covariance by 1 / (n - 1), so its fit is not quite the best
        reference = PCA(2, svd_solver="full").fit(x).score(x)
        assert reference <= value
        assert value == pytest.approx(reference, abs=1e-4)
        assert value > self.model.log_prob(x).mean()
        with pytest.raises(ValueError, match="latent"):
            gaussians.best_linear_fit(x, 6)


def test_hidden_markov_against_enumeration():
    model = series.HiddenMarkov(length=4, states=3, stay=0.6, radius=1.0, noise=0.7)
    x, path = model.sample(5, np.random.default_rng(0))
    for row, value in zip(x, model.log_prob(x)):
        total = []
        for states in itertools.product(range(3), repeat=4):
            log_p = np.log(model.start[states[0]])
            log_p += sum(np.log(model.transition[a, b]) for a, b in itertools.pairwise(states))
            log_p += sum(multivariate_normal(model.places[s], 0.49 * np.eye(2)).logpdf(p) for s, p in zip(states, row))
            total.append(log_p)
        assert value == pytest.approx(logsumexp(total))
    _, path = series.HiddenMarkov(50, 5, 0.8, 3.0, 0.5).sample(2000, np.random.default_rng(0))
    stays = (path[:, 1:] == path[:, :-1]).mean()
    assert stays == pytest.approx(0.8, abs=5 * 0.4 / math.sqrt(2000 * 49))
    assert set(np.unique((path[:, 1:] - path[:, :-1]) % 5)) == {0, 1, 4}


def test_lorenz_against_scipy():
    made = series.lorenz(3, np.random.default_rng(0), length=20, dt=0.05, noise=0.5)

    def slope(_, s):
        return [10 * (s[1] - s[0]), s[0] * (28 - s[2]) - s[1], s[0] * s[1] - 8 / 3 * s[2]]

    for row in made["clean"]:
        exact = solve_ivp(slope, (0, 0.95), row[0], t_eval=np.linspace(0, 0.95, 20), rtol=1e-9, atol=1e-9).y.T
        assert abs(row - exact).max() < 0.01
    noise = made["x"] - made["clean"]
    assert noise.std() == pytest.approx(0.5, rel=0.25)


def test_pendulum_keeps_its_energy_without_damping():
    made = series.pendulum(200, np.random.default_rng(0), length=100, dt=0.1, damping=0.0, noise=0.01)
    angle, rate = np.moveaxis(made["state"].astype(float), -1, 0)
    energy = rate**2 / 2 - np.cos(angle)
    assert abs(energy - energy[:, :1]).max() < 1e-4
    assert made["x"] == pytest.approx(np.stack([np.sin(angle), np.cos(angle)], -1), abs=0.06)
    damped = series.pendulum(200, np.random.default_rng(0), length=100, dt=0.1, damping=0.1, noise=0.01)[
        "state"
    ].astype(float)
    energy = damped[..., 1] ** 2 / 2 - np.cos(damped[..., 0])
    assert (np.diff(energy, axis=1) < 1e-6).all()


def test_spikes_follow_their_rates():
    made = series.spikes(200, np.random.default_rng(0), length=50, neurons=20, rate=0.3, depth=1.0, structure_seed=0)
    total, expected = made["x"].sum((0, 1)), made["rates"].sum((0, 1))
    assert abs(total - expected).max() < 5 * math.sqrt(expected.max())
    assert made["z"] ** 2 @ np.ones(2) == pytest.approx(1, abs=1e-5)


class TestCausalModel:
    def test_linear_model_is_a_gaussian(self):
        model = structures.CausalModel(6, 2.0, False, 0)
        mix = np.linalg.inv(np.eye(6) - model.weights)
        reference = multivariate_normal(np.zeros(6), mix @ np.diag(model.noise**2) @ mix.T)
        x = model.sample(50, np.random.default_rng(0))
        assert model.log_prob(x) == pytest.approx(reference.logpdf(x))
        assert model.entropy == pytest.approx(reference.entropy())

    def test_structure(self):
        model = structures.CausalModel(8, 2.0, True, 3)
        assert (np.triu(model.weights) == 0).all(), "causes come first, so there is no cycle"
        edges = model.weights[model.weights != 0]
        assert (abs(edges) >= 0.5).all()
        rows = structures.causal(8, np.random.default_rng(0), 8, 2.0, True, 3, structure=True)["weights"]
        assert rows == pytest.approx(model.weights)

    def test_residuals_are_the_noise(self):
        model = structures.CausalModel(5, 3.0, True, 1)
        x = model.sample(20_000, np.random.default_rng(0))
        residual = x - np.tanh(x) @ model.weights.T
        assert residual.std(0) == pytest.approx(model.noise, rel=0.03)
        assert abs(np.corrcoef(residual.T) - np.eye(5)).max() < 5 / math.sqrt(20_000)


def test_block_graphs():
    made = structures.block_graphs(200, np.random.default_rng(0), nodes=30, blocks=3, within=0.4, between=0.05)
    inside = outside = pairs_inside = pairs_outside = 0
    for edges, block in zip(made["edges"], made["block"]):
        same = block[:, None] == block
        pairs_inside += np.triu(same, 1).sum()
        pairs_outside += np.triu(~same, 1).sum()
        hit = block[edges[:, 0]] == block[edges[:, 1]]
        inside, outside = inside + hit.sum(), outside + (~hit).sum()
        assert (edges[:, 0] < edges[:, 1]).all()
    assert inside / pairs_inside == pytest.approx(0.4, abs=0.01)
    assert outside / pairs_outside == pytest.approx(0.05, abs=0.01)


class TestGrid:
    def test_numbering(self):
        grid = Grid((2, 3, 4))
        rows = np.arange(grid.size)
        assert (grid.rows(grid.factors(rows)) == rows).all()
        assert grid.factors(np.array([1])).tolist() == [[0, 0, 1]], "the last factor is fastest"

    def test_reads_like_an_array(self):
        made = sprites.rendered(3 * 2 * 4 * 3 * 3, 16, 2, 4, 3)
        x, factors = made["x"], made["factors"]
        assert isinstance(x, Indexed)
        whole = np.asarray(x)
        assert whole.shape == x.shape == (216, 16, 16)
        for index in (5, -1, np.int64(3), slice(3, 9), slice(None, None, 50), np.array([7, 7, -2]), [1, 2]):
            assert (x[index] == whole[index]).all()
        mask = np.arange(216) % 7 == 0
        assert (x[mask] == whole[mask]).all()
        part = x.restrict(range(10, 20)).restrict(np.array([3, 1]))
        assert (part[:] == whole[[13, 11]]).all()
        assert (factors[10:20] == np.asarray(factors)[10:20]).all()
        for bad in (216, -217, np.array([216])):
            with pytest.raises(IndexError):
                x[bad]
        with pytest.raises(ValueError, match="216"):
            sprites.rendered(215, 16, 2, 4, 3)


class TestSprites:
    full = sprites.Sprites()

    def image(self, *factors):
        return self.full.render(np.array([factors]))[0]

    def test_positions_move_the_sprite_by_whole_pixels(self):
        rng = np.random.default_rng(0)
        for _ in range(30):
            shape, scale, turn = rng.integers(3), rng.integers(6), rng.integers(40)
            x, y = rng.integers(0, 31, 2)
            here = self.image(shape, scale, turn, x, y)
            assert (np.roll(here, 1, axis=1) == self.image(shape, scale, turn, x + 1, y)).all()
            assert (np.roll(here, 1, axis=0) == self.image(shape, scale, turn, x, y + 1)).all()

    def test_every_sprite_lies_whole_in_its_image(self):
        grid = np.array(list(itertools.product(range(3), range(6), range(40), (0, 31), (0, 31))))
        images = self.full.render(grid)
        assert set(np.unique(images)) == {0, 1}
        edge = images.copy()
        edge[:, 1:-1, 1:-1] = 0
        assert edge.sum() == 0
        area = images.sum((1, 2)).reshape(3, 6, 40, 4)
        assert (area == area[..., :1]).all(), "the place does not change the shape"
        assert (np.diff(area.mean((2, 3)), axis=1) > 0).all(), "a greater scale is larger"

    def test_areas_are_those_of_the_shapes(self):
        area = self.full.render(np.array(list(itertools.product(range(2), [5], range(40), [15], [15])))).sum(
            (1, 2), dtype=float
        )
        assert area[:40] == pytest.approx(22**2, rel=0.04)
        assert area[40:] == pytest.approx(math.pi * 11 * 1.3 * 11 * 0.75, rel=0.02)

    def test_turning(self):
        for quarter in range(1, 4):
            assert (
                self.image(0, 4, 7, 16, 16) == self.image(0, 4, 7 + 10 * quarter if quarter < 4 else 7, 16, 16)
            ).all()
        assert (self.image(1, 4, 7, 16, 16) == self.image(1, 4, 27, 16, 16)).all()
        heart = [self.image(2, 5, turn, 16, 16) for turn in range(40)]
        assert all((a != b).sum() > 5 for a, b in itertools.combinations(heart, 2)), "no two hearts are alike"
        upright = heart[0]
        assert (upright == upright[:, ::-1]).mean() > 0.99
        # a quarter turn of the angle is a quarter turn of the image about the corner that the sprite is centred on
        window = upright[32 - 15 : 32 + 15, 32 - 15 : 32 + 15]
        turned = heart[10][32 - 15 : 32 + 15, 32 - 15 : 32 + 15]
        assert (np.rot90(window, -1) == turned).mean() > 0.99 or (np.rot90(window) == turned).mean() > 0.99

    def test_splits_of_the_small_set_are_disjoint(self, registry):
        dataset = open_dataset("sprites2d-small", silent)
        grid = Grid(tuple(f.size for f in dataset.entry.factors))
        rows = [grid.rows(dataset.split(s)["factors"]) for s in ("train", "test")]
        assert sorted(np.concatenate(rows)) == list(range(grid.size))
        small = sprites.Sprites(**dataset.entry.params)
        some = dataset.split("test[:50]")
        assert (small.render(some["factors"]) == some["x"]).all()


class TestRooms:
    full = rooms.Rooms()

    def test_hues_colour_their_own_part(self):
        base = np.array([2, 5, 8, 4, 0, 7])
        parts = []
        for factor in range(3):
            other = base.copy()
            other[factor] = (other[factor] + 4) % 10
            a, b = self.full.render(np.stack([base, other]))
            parts.append((a != b).any(-1))
        floor, wall, thing = parts
        assert (floor | wall | thing).all(), "every pixel belongs to something"
        overlap = floor.astype(int) + wall + thing
        assert (overlap > 1).mean() < 0.15, "only edges mix"
        assert wall[:5].all()
        assert floor[-5:].all()
        assert thing[32, 32]

    def test_size_shape_and_orientation_show(self):
        def silhouette(scale, shape, orientation):
            pair = np.array([[0, 3, 6, scale, shape, orientation], [0, 3, 1, scale, shape, orientation]])
            a, b = self.full.render(pair)
            return (a != b).any(-1)

        for shape in range(4):
            areas = [silhouette(k, shape, 7).sum() for k in range(8)]
            assert (np.diff(areas) > 0).all()
        shapes = [silhouette(7, k, 7) for k in range(4)]
        assert all((a != b).sum() > 20 for a, b in itertools.combinations(shapes, 2))
        views = self.full.render(np.array([[0, 3, 6, 4, 0, k] for k in range(15)])).astype(int)
        assert all(abs(a - b).mean() > 0.5 for a, b in itertools.combinations(views, 2))
        ball = silhouette(7, 2, 7)
        height, width = ball.any(1).sum(), ball.any(0).sum()
        assert abs(int(height) - int(width)) <= 2

    def test_mirror_symmetry(self):
        """Opposite azimuths see mirrored outlines of what is symmetric (light comes from one side, so not colours)."""
        left, right, left_b, right_b = self.full.render(np.array([[0, 3, h, 7, 1, k] for h in (6, 1) for k in (2, 12)]))
        a, b = (left != left_b).any(-1), (right != right_b).any(-1)
        assert (a == b[:, ::-1]).mean() > 0.99


def test_moons_match_scikit_learn():
    """Ours are scikit-learn's, moved to the common centre and scaled."""
    from sklearn.datasets import make_moons

    theirs, _ = make_moons(20_000, noise=0.0, random_state=0)
    ours = planar.two_moons(20_000, np.random.default_rng(0), scale=2.0, noise=1e-9)["x"] / 2 + [0.5, 0.25]
    for axis in range(2):
        a, b = np.sort(theirs[:, axis]), np.sort(ours[:, axis])
        assert abs(a - b).max() < 0.05
