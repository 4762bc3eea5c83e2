"""Preprocessing: exact Jacobians, densities that keep their mass, draws from the generator alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from latentbench.core import plugins
from latentbench.core.errors import UserError
from latentbench.data.columns import Ragged
from latentbench.data.draws import hashed_uniform
from latentbench.data.generated.grid import Grid, RenderedColumn
from latentbench.data.preprocess import build
from latentbench.data.registry import Column
from latentbench.discovery import finding

GREY = Column(shape=(3, 2), dtype="uint8", levels=256)
COLOUR = Column(shape=(4, 3, 3), dtype="uint8", levels=256)
VECTOR = Column(shape=(5,), dtype="float32")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def images(n=50, column=GREY, seed=0):
    return np.random.default_rng(seed).integers(0, column.levels, (n, *column.shape)).astype(np.uint8)


def fitted(steps, column=GREY, x=None):
    pipe = build(steps, column)
    x = images(column=column) if x is None else x
    pipe.fit(x)
    return pipe, x


DENSITIES = [
    ["dequantise"],
    ["dequantise", "to_unit"],
    ["dequantise", {"to_range": [-1, 1]}],
    ["dequantise", {"logit": 0.05}],
    ["dequantise", {"logit": {"alpha": 1e-6, "symmetric": True}}, "flatten"],
    ["flatten", "dequantise", "to_unit", {"logit": 0.05}, "standardise"],
    ["dequantise", {"standardise": "all"}],
    ["dequantise", {"logit": 0.01}, {"standardise": "channel"}],
    ["to_unit", {"standardise": "coordinate"}, "flatten"],
    ["flatten", "to_unit"],
]


@pytest.mark.parametrize("steps", DENSITIES)
def test_log_abs_det_is_that_of_autograd(steps):
    """The map with its noise held fixed, differentiated in float64 at every row."""
    pipe, x = fitted(steps)
    rows = torch.as_tensor(x[:4])
    y, log_abs_det = pipe.forward(rows, seeded())
    assert y.dtype == torch.float32
    assert log_abs_det.shape == (4,)

    def with_fixed_noise(row):
        state, generator = row[None].double().reshape(1, 1, 3, 2).clone(), seeded(7)  # steps write in place
        for step in pipe.steps:
            state = step.forward(state, generator)
        return state.reshape(-1)

    for row in rows:
        jacobian = torch.autograd.functional.jacobian(with_fixed_noise, row.double())
        expected = torch.linalg.slogdet(jacobian.reshape(6, 6)).logabsdet
        y, got = pipe.forward(row[None], seeded(7))
        assert got.item() == pytest.approx(expected.item(), rel=1e-4, abs=1e-3)


@pytest.mark.parametrize("steps", DENSITIES)
def test_log_volume(steps):
    pipe, x = fitted(steps)
    _, log_abs_det = pipe.forward(x, seeded())
    if "logit" in str(steps):
        assert pipe.log_volume is None
    else:
        assert log_abs_det.numpy() == pytest.approx(pipe.log_volume, rel=1e-5)


@pytest.mark.parametrize("levels", [2, 17, 256])
@pytest.mark.parametrize(
    ("steps", "mass"),
    [
        # a standard logistic density on y has the mass 1 - alpha above logit(alpha), and 1 - 2 alpha between the two
        (["dequantise", {"logit": 0.05}], 0.95),
        (["dequantise", {"logit": {"alpha": 0.1, "symmetric": True}}], 0.8),
        (["dequantise", "to_unit", {"logit": 0.05}], 0.95),
    ],
)
def test_a_density_on_y_keeps_its_mass_on_x(steps, mass, levels):
    """sum over k of E_u exp(log p(y) + log |dy/dx|) at x = k + u is the integral of p over raw units 0 .. levels."""
    pipe = build(steps, Column(shape=(1,), dtype="uint8", levels=levels))
    per_level = 2_000_000 // levels
    x = np.repeat(np.arange(levels, dtype=np.uint8), per_level)[:, None]
    y, log_abs_det = pipe.forward(x, seeded())
    log_p = -torch.nn.functional.softplus(y[:, 0]) - torch.nn.functional.softplus(-y[:, 0])
    density = (log_p + log_abs_det).double().exp().numpy()
    error = 4 * density.std() * levels / math.sqrt(len(density))
    assert density.mean() * levels == pytest.approx(mass, abs=max(error, 2e-4))


def test_bits_per_dimension_of_uniform_noise_are_eight():
    """A uniform density on dequantised pixels, through every step: -log p(x) / (dims ln 2) = 8 with nothing to add."""
    pipe, x = fitted(["dequantise", "to_unit", "flatten"], COLOUR)
    y, log_abs_det = pipe.forward(x, seeded())
    assert ((y >= 0) & (y < 1)).all()
    bits = -(0.0 + log_abs_det) / (36 * math.log(2))
    assert bits.numpy() == pytest.approx(8.0, rel=1e-6)


@pytest.mark.parametrize("steps", [*DENSITIES, [], ["to_unit"], [{"to_range": [-1, 1]}], ["flatten"]])
@pytest.mark.parametrize("column", [GREY, COLOUR])
def test_inverse_gives_the_pixels_back(steps, column):
    pipe, x = fitted(steps, column)
    y, _ = pipe.forward(x, seeded())
    back = pipe.inverse(y)
    assert back.shape == x.shape
    off = abs(back.numpy() - x)
    # noise may lie within rounding of the next integer: then the pixel next to it comes back
    assert off.max() <= 1
    assert (off < 0.01).mean() > 0.995


def test_layout():
    pipe, x = fitted([], COLOUR)
    y, log_abs_det = pipe.forward(x)
    assert y.shape == (50, 3, 4, 3)
    assert (y[3, 2, 1, 0] == x[3, 1, 0, 2]).all()
    assert (log_abs_det == 0).all()
    info = pipe.info(x, {"y": np.zeros(50), "factors": np.zeros((50, 2))})
    assert (info.shape, info.support, info.levels, info.n_train) == ((3, 4, 3), "discrete", 256, 50)
    assert info.columns == {"y": (), "factors": (2,)}
    assert fitted([])[0].info(images()).shape == (1, 3, 2)
    vector, rows = fitted([], VECTOR, np.ones((4, 5), np.float32))
    assert vector.info(rows).shape == (5,)
    assert vector.info(rows).support == "real"


@pytest.mark.parametrize(
    ("steps", "levels", "support"),
    [
        (["to_unit"], 256, "unit"),
        (["to_unit"], 2, "binary"),
        ([], 2, "binary"),
        ([{"binarise": "dynamic"}], 256, "binary"),
        (["to_unit", {"binarise": "static"}], 256, "binary"),
        (["dequantise", "to_unit"], 256, "unit"),
        (["dequantise"], 2, "real"),
        (["dequantise", "logit"], 256, "real"),
        (["to_unit", "standardise"], 256, "real"),
        ([{"to_range": [-1, 1]}], 256, "real"),
    ],
)
def test_support(steps, levels, support):
    column = Column(shape=(4, 4), dtype="uint8", levels=levels)
    pipe, x = fitted(steps, column)
    assert pipe.info(x).support == support
    y, _ = pipe.forward(x, seeded())
    if support == "binary":
        assert set(y.unique().tolist()) <= {0.0, 1.0}
    if support == "unit":
        assert 0 <= y.min() <= y.max() <= 1


class TestBinarise:
    def test_dynamic_draws_anew_from_the_generator(self):
        pipe, x = fitted(["flatten", {"binarise": "dynamic"}], Column(shape=(20, 20), dtype="uint8", levels=256))
        assert pipe.stochastic
        one, again, other = (pipe.forward(x, seeded(s))[0] for s in (0, 0, 1))
        assert (one == again).all()
        assert (one != other).any()
        with pytest.raises(UserError, match="generator"):
            pipe.forward(x)

    def test_dynamic_frequencies(self):
        column = Column(shape=(17,), dtype="uint8", levels=17)
        x = np.tile(np.arange(17, dtype=np.uint8), (20_000, 1))
        y, _ = build([{"binarise": "dynamic"}], column).forward(x, seeded())
        assert y.mean(0).numpy() == pytest.approx(np.arange(17) / 16, abs=5 * 0.5 / math.sqrt(20_000))
        assert y[:, 0].max() == 0
        assert y[:, 16].min() == 1

    def test_static_belongs_to_the_row(self):
        column = Column(shape=(8, 8), dtype="uint8", levels=256)
        x = images(200, column)
        pipe = build([{"binarise": "static"}], column)
        assert not pipe.stochastic
        whole, _ = pipe.forward(x)
        order = np.random.default_rng(1).permutation(200)
        assert (pipe.forward(x[order])[0] == whole[order]).all()
        assert (torch.cat([pipe.forward(x[i : i + 7])[0] for i in range(0, 200, 7)]) == whole).all()
        assert (build([{"binarise": {"mode": "static", "seed": 1}}], column).forward(x)[0] != whole).any()

    def test_static_frequencies(self):
        u = hashed_uniform(torch.as_tensor(images(20_000, GREY).reshape(20_000, 6)), 0).numpy()
        assert 0 <= u.min() <= u.max() < 1
        for k in range(6):
            counts = np.histogram(u[:, k], 20, (0, 1))[0]
            assert ((counts - 1000) ** 2 / 1000).sum() < 60  # chi-squared on 19 degrees of freedom, p of 4e-6
        assert abs(np.corrcoef(u.T) - np.eye(6)).max() < 5 / math.sqrt(20_000)
        lag = np.corrcoef(u[1:, 0], u[:-1, 0])[0, 1]
        assert abs(lag) < 5 / math.sqrt(20_000)

    def test_deterministic(self):
        pipe = build([{"binarise": "deterministic"}], GREY)
        x = np.array([0, 127, 128, 255, 10, 200], np.uint8).reshape(1, 3, 2)
        assert pipe.forward(x)[0].flatten().tolist() == [0, 0, 1, 1, 0, 1]

    def test_levels_other_than_256(self):
        column = Column(shape=(3,), dtype="uint8", levels=17)
        x = np.array([[0, 16, 9]], np.uint8)
        assert build([{"binarise": "deterministic"}], column).forward(x)[0].tolist() == [[0, 1, 1]]
        assert build(["to_unit"], column).forward(x)[0][0].tolist() == pytest.approx([0, 1, 9 / 16])


class TestMean:
    @pytest.mark.parametrize(
        "steps",
        [
            ["flatten"],
            ["flatten", {"binarise": "dynamic"}],
            ["dequantise", "to_unit"],
            ["dequantise", {"logit": 0.05}, "flatten"],
            [{"binarise": "static"}],
            [{"binarise": "deterministic"}],
            ["to_unit", "standardise"],
            ["flip", "to_unit"],
        ],
    )
    def test_is_that_of_the_preprocessed_rows(self, steps):
        x = images(4000)
        pipe, _ = fitted(steps, x=x)
        mean = pipe.info(x).mean
        sample = torch.stack([pipe.forward(x, seeded(s))[0].mean(0) for s in range(20)])
        assert mean.shape == sample[0].shape
        noise = float(sample.std(0).max())  # of the same rows over draws: none of it is the rows' own spread
        assert abs(mean - sample.mean(0)).max() < 5 * noise + 1e-5 * (1.0 + float(sample.abs().max()))

    def test_rendered_rows_are_sampled(self):
        grid = Grid((50_000,))
        column = RenderedColumn(grid, lambda f: (f % 5 == 0).astype(np.uint8).repeat(2, 1), (2,), np.dtype(np.uint8))
        pipe = build([], Column(shape=(2,), dtype="uint8", levels=2))
        pipe.fit(column)
        assert pipe.info(column).mean.tolist() == pytest.approx([0.2, 0.2], abs=0.02)


class TestStandardise:
    def test_on_train_only(self):
        rng = np.random.default_rng(0)
        train = (rng.standard_normal((5000, 5)) * [1, 10, 0.1, 3, 0] + [0, 1e4, 5, -3, 7]).astype(np.float32)
        test = train[:100] + 50
        pipe, _ = fitted(["standardise"], VECTOR, train)
        y, log_abs_det = pipe.forward(train)
        assert y.mean(0).numpy() == pytest.approx(0, abs=1e-2)
        assert y[:, :4].std(0).numpy() == pytest.approx(1, abs=1e-2)
        assert (y[:, 4] == 0).all(), "a coordinate that never varies is only centred"
        expected = -np.log(train[:, :4].std(0, dtype=np.float64)).sum()
        assert log_abs_det.numpy() == pytest.approx(expected, rel=1e-3)
        shifted, _ = pipe.forward(test)
        assert (shifted.mean(0)[:4] > 1).all()

    def test_chunks_do_not_matter(self, monkeypatch):
        train = np.random.default_rng(0).standard_normal((999, 5)).astype(np.float32) + 100
        whole, _ = fitted(["standardise"], VECTOR, train)
        monkeypatch.setattr("latentbench.data.preprocess._CHUNK", 7)
        parts, _ = fitted(["standardise"], VECTOR, train)
        assert whole.forward(train)[0].numpy() == pytest.approx(parts.forward(train)[0].numpy(), abs=1e-3)

    @pytest.mark.parametrize(("per", "axes"), [("channel", (0, 2, 3)), ("all", (0, 1, 2, 3))])
    def test_per_channel_and_all(self, per, axes):
        x = images(300, COLOUR)
        x[..., 0] //= 2
        pipe, _ = fitted(["to_unit", {"standardise": per}], COLOUR, x)
        y, _ = pipe.forward(x)
        assert y.mean(axes).numpy() == pytest.approx(0, abs=1e-4)
        assert y.std(axes, correction=0).numpy() == pytest.approx(1, abs=1e-4)

    def test_a_channel_is_moved_alike_at_all_places(self):
        x = images(300, COLOUR)
        x[:, 0] //= 4
        pipe, _ = fitted(["to_unit", {"standardise": "channel"}], COLOUR, x)
        unit = x.transpose(0, 3, 1, 2) / 255
        expected = (unit - unit.mean((0, 2, 3), keepdims=True)) / unit.std((0, 2, 3), keepdims=True)
        assert pipe.forward(x)[0].numpy() == pytest.approx(expected, abs=1e-4)

    def test_augmentation_is_left_out_of_what_is_learnt(self):
        x = images(300)
        x[:, :, 0] //= 4
        plain, flipped = (fitted(["to_unit", *steps, "standardise"], GREY, x)[0] for steps in ([], ["flip"]))
        assert (plain.forward(x)[0] == flipped.forward(x)[0]).all()

    def test_must_be_fitted(self):
        pipe = build(["standardise"], VECTOR)
        with pytest.raises(UserError, match="not fitted"):
            pipe.forward(np.zeros((2, 5), np.float32))
        with pytest.raises(UserError, match="no rows"):
            pipe.fit(np.zeros((0, 5), np.float32))


def test_flip_is_for_training_rows():
    pipe, x = fitted(["flip", "to_unit"], COLOUR)
    assert pipe.augments
    assert not pipe.stochastic
    plain, _ = pipe.forward(x)
    assert (pipe.forward(x, seeded())[0] == plain).all()
    turned, log_abs_det = pipe.forward(x, seeded(), train=True)
    same = (turned == plain).flatten(1).all(1)
    mirrored = (turned == plain.flip(-1)).flatten(1).all(1)
    assert (same | mirrored).all()
    assert 10 < mirrored.sum() < 40
    assert log_abs_det.numpy() == pytest.approx(pipe.log_volume)


@pytest.mark.parametrize("threshold", [0.25, 0.7])
def test_bits_are_set_above_the_threshold(threshold):
    pipe, x = fitted([{"binarise": {"mode": "deterministic", "threshold": threshold}}])
    assert (pipe.forward(x)[0][:, 0].numpy() == (x > threshold * 255)).all()


def test_a_new_variable_has_no_volume_of_the_steps_before_it():
    pipe, x = fitted(["to_unit", {"binarise": "dynamic"}, "flatten"])
    assert (pipe.forward(x, seeded())[1] == 0).all()


def test_dequantise_never_reaches_the_next_level():
    """float32 would round 255 + 0.99999997 up to 256, and the logit of 1 is infinite."""
    column = Column(shape=(1,), dtype="uint8", levels=256)
    pipe = build(["dequantise", {"logit": 0.05}], column)
    x = np.full((4_000_000, 1), 255, np.uint8)
    y, log_abs_det = pipe.forward(x, seeded())
    assert torch.isfinite(y).all()
    assert torch.isfinite(log_abs_det).all()


def test_bits_with_their_own_noise_have_a_density():
    """binarise after dequantise takes the noise away again; noise on the bits makes them continuous once more."""
    steps = ["dequantise", "to_unit", {"binarise": "dynamic"}, "dequantise", {"logit": 0.05}]
    pipe, x = fitted(steps)
    y, log_abs_det = pipe.forward(x, seeded())
    assert torch.isfinite(y).all()
    assert torch.isfinite(log_abs_det).all()


@pytest.mark.parametrize("column", [GREY, COLOUR, VECTOR])
def test_values_of_arranged_rows_are_those_of_forward(column):
    x = images(column=column) if column.levels else np.random.default_rng(0).random((9, 5)).astype(np.float32)
    steps = ["flip", "dequantise", "to_unit"] if column.levels else ["standardise"]
    pipe, _ = fitted(steps, column, x)
    rows = pipe.arrange(x)
    assert rows.is_contiguous()
    assert rows.dtype == torch.as_tensor(x).dtype
    before = rows.clone()
    for train in (False, True):
        y = pipe.values(rows, seeded(), train=train)
        assert (y == pipe.forward(x, seeded(), train=train)[0]).all()
        assert y.is_contiguous()
    assert (rows == before).all(), "rows handed in are left alone"


def test_rows_handed_in_are_left_alone():
    x = np.random.default_rng(0).standard_normal((9, 5)).astype(np.float32)
    pipe, _ = fitted(["standardise"], VECTOR, x)
    tensor = torch.tensor(x)
    pipe.forward(tensor)
    pipe.forward(x)
    assert (tensor.numpy() == x).all()
    mean = pipe.info(x).mean
    assert mean.numpy() == pytest.approx(0, abs=1e-6)


def test_figures_after_steps_that_change_the_quantity_are_kept_apart():
    steps = [
        [],
        ["dequantise"],
        ["flatten", {"binarise": "dynamic"}],
        ["flatten", {"binarise": "static"}],
        ["flatten", {"binarise": {"mode": "static", "seed": 1}}],
        ["dequantise", {"binarise": "dynamic"}],
    ]
    assert len({str(build(s).quantity) for s in steps}) == len(steps)
    assert build(["dequantise", {"logit": 0.05}, "flip"]).quantity == build([{"dequantise": "uniform"}]).quantity


STEP = """
from latentbench.data.step import Step
from latentbench.declare import step

@step("round-off"{said})
class RoundOff(Step):
    name = "round-off"

    def map(self, y):
        return y.round_()
"""


@pytest.mark.parametrize(
    ("said", "quantity"),
    [
        ("", [{"name": "round-off"}]),
        (", version=2", [{"name": "round-off", "version": 2}]),
        (", same_quantity=True", []),
    ],
)
def test_a_step_of_a_plug_in_counts_unless_it_says_otherwise(said, quantity, tmp_path, monkeypatch):
    (tmp_path / "rounding.py").write_text(STEP.format(said=said))
    monkeypatch.setenv(plugins.VARIABLE, str(tmp_path))
    finding.forget()
    try:
        pipe = build(["round-off"], Column(shape=(2,), dtype="float32"))
        assert pipe.quantity == quantity
        assert pipe.forward(np.full((1, 2), 1.4, np.float32))[0].tolist() == [[1.0, 1.0]]
    finally:
        monkeypatch.undo()
        finding.forget()


def test_every_step_of_ours_is_called_as_it_declares():
    for name, declared in finding.found("step").items():
        assert finding.thing(declared).name == name


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        (["flaten"], "flatten"),
        ([{"binarise": "sometimes"}], "dynamic, static or deterministic"),
        ([{"binarise": {"mod": "static"}}], "mode"),
        ([{"logit": 0.7}], "alpha"),
        ([{"logit": ["a"]}], "logit"),
        ([{"flatten": 3}], "parameters"),
        ([{"to_range": [1, -1]}], "low < high"),
        ([{"a": 1, "b": 2}], "one name"),
        ([3], "one name"),
        (["logit"], "dequantise"),
        (["to_unit", "logit"], "dequantise"),
        (["to_unit", "dequantise"], "first"),
        (["dequantise", "dequantise"], "first"),
        (["standardise"], "real values"),
        (["dequantise", "standardise", "to_unit"], "known range"),
        (["flatten", "flip"], "images"),
        (["flatten", "to_unit", {"standardise": "channel"}], "channels"),
        (["dequantise", {"binarise": "dynamic"}], "intensities"),
        ([{"binarise": "static"}, "logit"], "dequantise"),
        (["dequantise", "to_unit", {"binarise": "dynamic"}, "logit"], "dequantise"),
    ],
)
def test_wrong_pipelines(steps, message):
    with pytest.raises(UserError, match=message):
        build(steps, GREY)


def test_wrong_data():
    pipe = build(["to_unit"], GREY)
    with pytest.raises(UserError, match="shape"):
        pipe.forward(np.zeros((2, 5), np.uint8))
    with pytest.raises(UserError, match="does not know"):
        build([]).forward(np.zeros((2, 5), np.uint8))
    with pytest.raises(UserError, match="levels"):
        build(["to_unit"]).fit(np.zeros((3, 4, 4), np.uint8))
    with pytest.raises(UserError, match="varying length"):
        build([]).fit(Ragged.of([np.zeros(3, np.uint8)], np.uint8))


def test_eight_bit_images_need_no_declaration():
    x = images()
    plain, declared = build(["to_unit"]), build(["to_unit"], GREY)
    plain.fit(x)
    declared.fit(x)
    assert (plain.forward(x)[0] == declared.forward(x)[0]).all()


@given(
    st.lists(
        st.sampled_from(["flatten", "to_unit", "dequantise", {"logit": 0.1}, "standardise", {"binarise": "static"}]),
        max_size=4,
    )
)
def test_any_order_works_or_says_why(steps):
    """Whatever the steps: a clear refusal, or finite values of the promised shape, and a way back."""
    x = images(20)
    try:
        pipe = build(steps, GREY)
    except UserError:
        return
    pipe.fit(x)
    info = pipe.info(x)
    y, log_abs_det = pipe.forward(x, seeded())
    assert tuple(y.shape[1:]) == info.shape
    assert info.mean.shape == info.shape
    assert torch.isfinite(y).all()
    assert torch.isfinite(log_abs_det).all()
    assert pipe.inverse(y).shape == x.shape
