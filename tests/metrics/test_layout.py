"""Whatever way the same numbers lie: order of rows, of bytes, of axes, their range and their scale."""

from __future__ import annotations

import itertools
import json
import re

import numpy as np
import pytest
import torch
from latentbench.core.errors import UserError
from latentbench.metrics import disentanglement as ds
from latentbench.metrics import posterior, prediction, structure
from latentbench.metrics import samples as sm
from latentbench.metrics.catalog import compute_arrays, find

from tests.metrics.test_bad_input import ENTRIES, FREE, GRAPHS, OPTIONS, arrays_of

RNG = np.random.default_rng(0)
#: Several arrays a row of which are a different thing each.
UNPAIRED = {"real", "fake", "train", "test", "codes_test", "labels_test", "factors_test", "positive_scores"}
UNPAIRED |= {"negative_scores", "directions", "mean1", "mean2", "mean", "covariance", "cov1", "cov2", "anchor_rates"}
UNPAIRED |= {"anchor_quality", "rates", "quality"}


def answer(entry, arrays):
    found = compute_arrays(entry.name, list(arrays.values()), OPTIONS.get(entry.name, {}))
    return {k: v for k, v in found.numbers.items() if isinstance(v, float)}


def draws(entry) -> bool:
    return bool({"generator", "rng", "seed"} & set(entry.options()))


def reordered(entry, arrays):
    """The same rows in another order, those that are paired alike."""
    unpaired = UNPAIRED - {"mean"} if entry.name == "crps_gaussian" else UNPAIRED
    sizes = {len(a) for k, a in arrays.items() if k not in unpaired and (entry.name, k) not in FREE}
    orders = {n: RNG.permutation(n) for n in sizes}
    out = {}
    for name, array in arrays.items():
        a = np.asarray(array)
        if entry.name in GRAPHS:
            out[name] = a[np.ix_(orders[len(a)], orders[len(a)])]
        elif name == "log_weights":
            out[name] = a[:, orders[a.shape[1]]]
        elif name in unpaired or (entry.name, name) in FREE or isinstance(array, list):
            out[name] = array
        else:
            out[name] = a[orders[len(a)]]
    return out


@pytest.mark.parametrize("entry", [e for e in ENTRIES if not draws(e)], ids=lambda e: e.name)
def test_the_order_of_rows_says_nothing(entry):
    arrays = arrays_of(entry)
    before, after = answer(entry, arrays), answer(entry, reordered(entry, arrays))
    assert after == pytest.approx(before, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: e.name)
def test_bytes_and_axes_may_lie_in_any_order_in_memory(entry):
    if entry.name == "udr":
        pytest.skip("a list of arrays")
    arrays = arrays_of(entry)
    swapped = {k: np.asarray(a).astype(np.asarray(a).dtype.newbyteorder(">")) for k, a in arrays.items()}
    assert answer(entry, swapped) == pytest.approx(answer(entry, arrays))
    columns = {k: np.asfortranarray(a) for k, a in arrays.items()}
    assert answer(entry, columns) == pytest.approx(answer(entry, arrays), rel=1e-6, abs=1e-9)


def bounds(unit: str) -> tuple[float, float]:
    low, _, high = (part.strip() for part in unit.partition("…"))
    return float(low or "-inf"), float(high) if re.fullmatch(r"-?[\d.]+", high) else float("inf")


@pytest.mark.parametrize("entry", [e for e in ENTRIES if "…" in e.unit], ids=lambda e: e.name)
@pytest.mark.parametrize("kind", ["plain", "copies", "sorted", "sharp"])
def test_a_value_lies_in_the_range_that_is_declared(entry, kind):
    arrays = dict(arrays_of(entry))
    if kind == "copies" and {"real", "fake"} <= set(arrays):
        arrays["fake"] = arrays["real"] + 1e-9 * RNG.normal(size=arrays["real"].shape)
    if kind == "sorted":
        arrays = {k: np.sort(a, axis=0) if k in ("real", "fake", "scores") else a for k, a in arrays.items()}
    if kind == "sharp" and "log_variances" in arrays:
        arrays["log_variances"] = arrays["log_variances"] - 400
    low, high = bounds(entry.unit)
    values = answer(entry, arrays)
    assert low - 1e-9 <= next(iter(values.values())) <= high + 1e-9


# ---- scale and place: no figure is made of rounding


def gaussian_mig(means, log_variances, factors, samples=500):
    generator = torch.Generator().manual_seed(3)
    return ds.mig_gaussian(means, log_variances, factors, generator=generator, samples=samples)


@pytest.mark.parametrize("log_variance", [-1.0, -12.0, -24.0, -60.0, -800.0, -2000.0, 40.0, 800.0])
def test_mig_of_gaussians_bears_any_sharpness(log_variance):
    """The least overlap is none: every code then names its row, and no code says more of a factor than another."""
    factors = np.stack([np.arange(120) % 3, np.arange(120) // 3 % 4], axis=1)
    means = np.c_[factors + 0.1 * RNG.normal(size=(120, 2)), RNG.normal(size=120)] * 30
    found = gaussian_mig(means, np.full(means.shape, log_variance), factors)
    assert -1e-6 <= found.value <= 1 + 1e-6
    entropy = [np.log(3), np.log(4)]
    if log_variance <= -24:
        np.testing.assert_allclose(found.details["information"], np.repeat(entropy, 3).reshape(2, 3), atol=1e-9)
        assert found.value == pytest.approx(0, abs=1e-9)
    if log_variance >= 40:
        np.testing.assert_allclose(found.details["information"], 0, atol=1e-6)


@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e6])
def test_mig_of_gaussians_knows_no_unit_and_no_origin(scale):
    factors = np.stack([np.arange(120) % 3, np.arange(120) // 3 % 4], axis=1)
    means, lv = np.c_[factors, RNG.normal(size=120)] * 0.7, np.full((120, 3), -2.0)
    plain = gaussian_mig(means, lv, factors).details["information"]
    scaled = gaussian_mig(means * scale, lv + 2 * np.log(scale), factors).details["information"]
    np.testing.assert_allclose(scaled, plain, rtol=1e-6, atol=1e-8)
    moved = gaussian_mig(means * scale + 1e5 * scale, lv + 2 * np.log(scale), factors).details["information"]
    np.testing.assert_allclose(moved, plain, rtol=1e-5, atol=1e-6)


def test_parts_of_the_aggregate_posterior_bear_sharp_posteriors():
    means = RNG.normal(size=(50, 2))
    for lv in (-60.0, -200.0, -800.0):
        found = posterior.aggregate_posterior(means, np.full((50, 2), lv), generator=torch.Generator().manual_seed(0))
        assert found.mutual_information.value == pytest.approx(np.log(50), abs=1e-6)
        assert found.saturated


@pytest.mark.parametrize("far", [0.0, 1e4, 1e7])
def test_neighbours_within_a_cluster_do_not_depend_on_how_far_another_lies(far):
    """An expanded square would lose them in the rounding of the distance between clusters."""
    x, y = RNG.normal(size=(60, 3)) * 1e-2, RNG.normal(size=(50, 3)) * 1e-2
    x[30:] += far
    y[25:] += far
    d_xy = np.linalg.norm(x[:, None] - y, axis=2)
    radius = np.sort(np.linalg.norm(x[:, None] - x, axis=2), axis=1)[:, 3]
    inside = d_xy <= radius[:, None]
    assert sm.precision_recall(x, y, k=3).precision == inside.any(0).mean()
    assert sm.density_coverage(x, y, k=3).density == pytest.approx(inside.sum() / (3 * len(y)))
    assert sm.density_coverage(x, y, k=3).coverage == inside.any(1).mean()
    np.testing.assert_array_equal(sm.nearest(y, x)[1], d_xy.argmin(0))


# ---- two samples: of any sizes, in any order


@pytest.mark.parametrize("classifier", ["forest", "linear"])
def test_c2st_draws_from_all_of_the_larger_sample(classifier):
    real, fake = RNG.normal(size=(120, 2)), RNG.normal(size=(900, 2))
    ordered = fake[np.argsort(fake[:, 0])]
    assert sm.c2st(real, ordered, classifier=classifier).value < 0.62
    assert sm.c2st(ordered, real, classifier=classifier).value < 0.62


def test_c2st_of_near_copies_is_bad():
    real = RNG.normal(size=(120, 3))
    copies = real + 1e-6 * RNG.normal(size=real.shape)
    found = sm.c2st(real, copies, classifier="forest")
    perfect = sm.c2st(real, RNG.normal(size=real.shape), classifier="forest")
    assert 0.5 <= perfect.value < 0.65 < found.value <= 1
    assert found.details["accuracy"] == pytest.approx(1 - found.value)
    assert found.details["warnings"]
    assert not perfect.details["warnings"]


def test_the_bandwidth_of_mmd_is_that_of_all_rows():
    """Not of the first ones, which are of one kind where a sample is sorted."""
    real, fake = RNG.normal(size=(2100, 1)), RNG.normal(size=(2200, 1)) * 3
    shuffled = compute_arrays("mmd", [real, fake], {})
    ordered = compute_arrays("mmd", [np.sort(real, axis=0), np.sort(fake, axis=0)], {})
    assert ordered.numbers["bandwidth"] == pytest.approx(shuffled.numbers["bandwidth"], rel=0.1)
    assert ordered.numbers["value"] == pytest.approx(shuffled.numbers["value"], rel=0.1)


def test_rows_sorted_by_a_factor_are_no_split():
    grid = np.array(list(itertools.product(range(4), range(5), range(6))))
    codes = grid + 0.01 * RNG.normal(size=grid.shape)
    for metric in (ds.sap, ds.modularity_explicitness):
        with pytest.raises(UserError, match=r"in order.*shuffle"):
            metric(codes, grid)
    order = RNG.permutation(len(grid))
    assert np.isfinite(ds.sap(codes[order], grid[order]))


def test_equal_scores_count_as_if_in_any_order():
    relevance = np.array([[1, 1, 0, 0, 0, 0], [0, 0, 0, 0, 1, 1]])
    equal = structure.ndcg(np.zeros((2, 6)), relevance, k=3).value
    orders = [structure.ndcg(np.array([p, p], float), relevance, k=3).value for p in itertools.permutations(range(6))]
    assert equal == pytest.approx(np.mean(orders))
    assert structure.recall_at_k(np.zeros((2, 6)), relevance, k=3).value == pytest.approx(0.5)
    confidence, labels = np.full(40, 0.7), np.repeat([1, 0], [28, 12])
    assert prediction.expected_calibration_error(confidence, labels, equal="mass") == pytest.approx(0)


# ---- axes and range


def test_weights_that_lie_the_other_way_round():
    weights = RNG.normal(size=(20, 7))
    found = compute_arrays("importance_bound", [weights], {})
    assert found.remarks[0] == "log_weights is read as 20 draws x 7 rows"
    assert compute_arrays("importance_bound", [weights, np.zeros(7)], {}).numbers["n"] == 7
    with pytest.raises(UserError, match="transpose"):
        compute_arrays("importance_bound", [weights, np.zeros(20)], {})


def test_axes_that_could_be_meant_otherwise_are_told(project):
    np.savez(project.root / "a.npz", real=RNG.normal(size=(5, 9)), fake=RNG.normal(size=(12, 9)))
    said = project("metric", "energy_distance", str(project.root / "a.npz"))
    assert said.err == "real is read as 5 rows x 9 features\n"
    found = json.loads(project("metric", "energy_distance", str(project.root / "a.npz"), "--format", "json").out)
    assert found["remarks"] == ["real is read as 5 rows x 9 features"]
    graph = np.triu(np.ones((3, 3)), 1)
    assert "predicted is read as 3 from node x 3 to node" in compute_arrays("shd", [graph, graph], {}).remarks


@pytest.mark.parametrize("name", ["psnr", "ssim"])
def test_a_range_that_pixels_exceed_is_refused(name):
    image = RNG.random((2, 1, 12, 12)) * 255
    with pytest.raises(UserError, match="more than data_range"):
        compute_arrays(name, [image, image * 0.9], {"data_range": 1.0})
    assert any(
        "hundredth" in r for r in compute_arrays(name, [image / 255, image / 300], {"data_range": 255.0}).remarks
    )
    assert not compute_arrays("psnr", [image, image * 0.9], {"data_range": 255.0}).remarks


@pytest.mark.parametrize("seed", [-1, 2**32, 2**63, 2**64])
@pytest.mark.parametrize("name", ["infomec", "kid", "mig_gaussian"])
def test_seeds_that_no_library_takes(name, seed):
    with pytest.raises(UserError, match=r"seed=.* out of range"):
        compute_arrays(name, list(arrays_of(find(name)).values()), {"seed": seed})


@pytest.mark.parametrize("rows", [2, 3, 4, 5, 6])
@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: e.name)
def test_few_rows_give_a_number_or_say_why_not(entry, rows):
    arrays = {
        k: a if k in UNPAIRED - {"real", "fake", "train", "test"} or isinstance(a, list) else np.asarray(a)[:rows]
        for k, a in arrays_of(entry).items()
    }
    if entry.name in GRAPHS:
        arrays = {k: a[:, :rows] for k, a in arrays.items()}
    try:
        found = compute_arrays(entry.name, list(arrays.values()), OPTIONS.get(entry.name, {}))
    except UserError:
        return
    assert all(v is None or np.isfinite(v) for v in found.numbers.values())


@pytest.mark.parametrize("rows", range(8, 14))
def test_an_extrapolation_needs_three_sizes(rows):
    """With D dimensions, rows from D + 1 on make a size each."""
    real, fake = RNG.normal(size=(40, 8)), RNG.normal(size=(rows, 8))
    if rows < 11:
        with pytest.raises(UserError, match="size"):
            sm.frechet_distance_infinite(real, fake)
    else:
        found = sm.frechet_distance_infinite(real, fake)
        assert np.isfinite([found.value, found.se]).all()
