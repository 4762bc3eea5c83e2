"""Members that differ in their draws a row: each ends as alone, with its own noise."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from latentbench.core.types import Batch
from latentbench.running.checkpoints import Checkpoints
from latentbench.spec import registry
from latentbench.training.draws_by_member import CannotStack, MemberNoise, Tiling, by_member, heard
from latentbench.training.member import Member
from latentbench.training.stacked import train_stacked
from torch import Generator, Tensor, nn

from tests.models import declared as models
from tests.training.test_loop import DIMS, source
from tests.training.test_stacked import Kept, Rows, alone, assert_equal, case_of, fabric_of, made, protocol

Build = Callable[[], nn.Module]


def together(
    builds: Sequence[Build], spec: Any, data: Any, valid: Any = None, draws: str = "k", **more: Any
) -> list[tuple[nn.Module, Any]]:
    members = [Member(made(b, i), spec, i, **{k: v[i] for k, v in more.items()}) for i, b in enumerate(builds)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        out = train_stacked(members, data, valid, fabric_of(spec), draws=draws)
    return list(zip([m.model for m in members], out))


def of(name: str, **params: Any) -> Build:
    """A model of the tests' cases with other parameters."""
    case = case_of(name)
    return lambda: case.cls(case.info, **{**case.params, **params})


class Last(Checkpoints):
    """Keeps the state at the end alone."""

    def due(self, *, final: bool = False) -> bool:
        return final


TWO_LAYERS = {"latent_dims": (4, 2), "hidden": ((8,), (6,))}


@pytest.mark.parametrize(
    ("name", "params", "ks"),
    [
        ("vae/0", {"objective": "elbo", "beta": 2.0}, (1, 5, 10)),
        ("vae/0", {"objective": "iwae"}, (10, 1, 5)),
        ("vae/0", {"objective": "iwae"}, (2, 3)),
        ("vae/2", {}, (1, 5)),
        ("hierarchical-vae/0", {**TWO_LAYERS, "objective": "elbo"}, (1, 5)),
        ("hierarchical-vae/0", {**TWO_LAYERS, "objective": "iwae"}, (10, 1, 5)),
        ("vae/10", {"objective": "iwae"}, (1, 2)),
    ],
    ids=lambda v: v if isinstance(v, str) else "-".join(map(str, v)) if isinstance(v, tuple) else v.get("objective"),
)
def test_each_member_ends_as_alone(name, params, ks, tmp_path):
    """Batches of 14 rows and of 10, as many as the largest k."""
    entry = next(e for e in registry.models().values() if e.target.endswith(f":{case_of(name).cls.__name__}"))
    assert entry.draws == "k"
    steps = 10 if name == "vae/10" else 100
    spec = protocol(steps=steps, batch_size=14, optimizer={"name": "adam", "lr": 2e-3, "eps": 1e-3})
    data = Rows(models.data(case_of(name).info))
    builds = [of(name, **params, k=k) for k in ks]
    kept = [[Last(tmp_path / f"{how}-{i}", "f" * 64, math.inf) for i in range(len(ks))] for how in "ab"]
    found = together(builds, spec, data, checkpoints=kept[0])
    for seed, build in enumerate(builds):
        assert_equal(found[seed], alone(build, spec, data, None, seed, checkpoints=kept[1][seed]), 1e-4)
        assert found[seed][0].k == ks[seed]
        ends = [k[seed].latest() for k in kept]
        assert torch.equal(ends[0]["noise"], ends[1]["noise"])


def test_every_model_whose_draws_the_registry_names_is_tested_above():
    marks = [m.args[1] for m in test_each_member_ends_as_alone.pytestmark if "name" in m.args[0]]
    tested = {case_of(name).cls.__name__ for name, *_ in marks[0]}
    assert {e.target.rpartition(":")[2] for e in registry.models().values() if e.draws} == tested


class Shown(nn.Module):
    """Hands out its noise as terms, by names that are the same for all k: the first and the last draw."""

    def __init__(self, k: int, width: int = 2, draw: Any = torch.randn) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(3))
        self.k, self.width, self.draw = k, width, draw

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        rows = batch.x.shape[0]
        shape = (rows, self.width) if self.k == 1 else (self.k, rows, self.width)
        noise = self.draw(shape, generator=generator)
        noise = noise[None] if self.k == 1 else noise
        terms = {f"{i}{r}{c}": noise[i, r, c] for i in (0, -1) for r in range(rows) for c in range(self.width)}
        return {"loss": (self.w.sum() * noise.mean(0)).mean() + self.w.square().sum(), **terms}


@pytest.mark.parametrize("draw", [torch.randn, torch.rand])
@pytest.mark.parametrize(("rows", "width"), [(3, 2), (5, 1), (8, 4)])
def test_noise_is_that_of_separate_runs_bit_for_bit(rows, width, draw):
    """Below sixteen numbers torch makes normal ones in another way."""
    spec = protocol(steps=6, batch_size=rows)
    builds = [lambda k=k: Shown(k, width, draw) for k in (1, 2, 6, 3)]
    seen = []
    for seed, (_, out) in enumerate(together(builds, spec, source(rows))):
        expected = alone(builds[seed], spec, source(rows), None, seed)[1]
        curves = [[{k: v for k, v in row.items() if k[-1].isdigit()} for row in o.curve] for o in (out, expected)]
        assert curves[0] == curves[1]
        assert len(curves[0]) == 6
        assert len(curves[0][0]) == 2 * rows * width
        seen.append(curves[0])
    assert all(seen[0] != other for other in seen[1:])


def test_what_is_drawn_is_known_by_function_and_number():
    """On a GPU the generator's state alone does not tell: it moves in blocks."""
    with heard(alone_ := torch.Generator()) as drawn:
        torch.randn((2, 3), generator=alone_)
        torch.rand(4, generator=alone_)
        torch.rand(4)
    assert drawn == [("randn", 6), ("rand", 4)]
    noise = MemberNoise([torch.Generator() for _ in range(2)])
    noise.drawn = [[], []]

    def draw(member: Tensor) -> Tensor:
        with by_member(noise, member, Tiling([1, 4], rows=3)):
            return torch.randn((4, 3, 2), generator=noise) + torch.rand((4, 2, 1), generator=noise).sum()

    assert torch.func.vmap(draw)(torch.arange(2)).shape == (2, 4, 3, 2)
    assert noise.drawn == [[("randn", 6), ("rand", 8)], [("randn", 24), ("rand", 8)]]


class Bound(nn.Module):
    """Has k in a submodule, and a loss whose kind the tests choose."""

    def __init__(self, k: int, how: str = "mean") -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(DIMS, 4), nn.Tanh(), nn.Linear(4, DIMS))
        self.inner, self.how = nn.Identity(), how
        self.inner.k = k
        self.register_buffer("seen", torch.zeros(()))
        if how == "two":
            self.k = 2 * k

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        x, k = batch.x, self.inner.k
        rows = len(x)
        shape = (rows, k, DIMS) if self.how == "rows first" else (k, rows, DIMS)
        noise = torch.randn(shape, generator=generator)
        if self.how == "rows first":
            noise = noise.transpose(0, 1)
        if self.how == "rows of noise":
            x = x + 0.3 * torch.randn(x.shape, generator=generator)
        if self.how == "bernoulli":
            noise = torch.bernoulli(torch.sigmoid(noise), generator=generator)
        errors = (self.net(x + 0.3 * noise) - x).square().mean(-1)
        match self.how:
            case "sum":
                loss = errors.sum(0).mean()
            case "maximum":
                loss = errors.amax(0).mean()
            case "weights":  # the same number as a log-mean-exp, with the gradient of doubly reparametrised weights
                weights = torch.softmax(-errors.detach(), 0)
                surrogate = (weights.square() * errors).sum(0)
                loss = (surrogate - surrogate.detach() - torch.logsumexp(-errors.detach(), 0) + math.log(k)).mean()
            case "term":
                return {"loss": errors.mean(), "total": errors.detach().sum(0).mean()}
            case "statistics":
                self.seen = 0.9 * self.seen + 0.1 * errors.detach().var()
                loss = errors.mean()
            case _:
                loss = errors.mean()
        return {"loss": loss}


@pytest.mark.parametrize("how", ["mean", "maximum"])
def test_the_number_may_stand_in_a_submodule(how):
    spec = protocol(steps=60, optimizer={"name": "sgd", "lr": 0.05})
    builds = [lambda k=k: Bound(k, how) for k in (4, 1, 2)]
    found = together(builds, spec, source())
    for seed, build in enumerate(builds):
        assert_equal(found[seed], alone(build, spec, source(), None, seed))
        assert found[seed][0].inner.k == (4, 1, 2)[seed]


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("sum", "its loss is"),
        ("weights", "its gradient is another one"),
        ("term", "its total is"),
        ("rows first", "its loss is|draws other numbers"),
        ("bernoulli", "draws other numbers"),
        ("statistics", "keeps statistics"),
        ("two", "two numbers of draws"),
    ],
)
def test_a_loss_that_repeated_draws_would_change_is_refused(how, why):
    builds = [lambda k=k: Bound(k, how) for k in (4, 1, 2)]
    with pytest.raises(CannotStack, match=why):
        together(builds, protocol(steps=4), source())


def test_batch_normalisation_of_the_draws_is_refused():
    builds = [of("vae/11", k=k) for k in (1, 2)]
    with pytest.raises(CannotStack, match="statistics"):
        together(builds, protocol(steps=4, batch_size=12), Rows(models.data(case_of("vae/11").info)))


def test_without_the_name_they_are_refused():
    with pytest.raises(CannotStack, match=r"differ in model\.k"):
        together([of("vae/0", k=k) for k in (1, 2)], protocol(steps=4), Rows(models.data(models.BINARY)), draws="")


@pytest.mark.parametrize("rows", [25, 24])
def test_noise_for_rows_is_not_taken_for_draws(rows):
    """A batch of as many rows as draws, the first or the last of an epoch; the noise of its rows stays whole."""
    spec = protocol(epochs=2, batch_size=4 if rows == 24 else 7, optimizer={"name": "sgd", "lr": 0.05})
    builds = [lambda k=k: Bound(k, "rows of noise") for k in (4, 1)]
    data = source(rows)
    found = together(builds, spec, data)
    for seed, build in enumerate(builds):
        assert_equal(found[seed], alone(build, spec, data, None, seed))


class Square(Bound):
    """Draws a square of numbers between its rows besides."""

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        rows = len(batch.x)
        return {"loss": super().loss(batch, generator)["loss"] * torch.rand((rows, rows), generator=generator).mean()}


@pytest.mark.parametrize("batch_size", [4, 7])
def test_a_draw_that_has_their_shape_by_accident_is_refused(batch_size):
    """With as many rows as draws: at once, or when the last batch of the epoch has so many."""
    seen: list[int] = []
    builds = [lambda k=k: Square(k) for k in (4, 1)]
    spec = protocol(epochs=2, batch_size=batch_size)
    with pytest.raises(CannotStack, match="draws other numbers"):
        together(builds, spec, source(25), on_log=[lambda row: seen.append(row["step"])] * 2)
    assert max(seen, default=0) == (0 if batch_size == 4 else 3)


def test_the_others_go_on_with_fewer_draws_when_one_leaves():
    """Six draws, of which three and two are left: none of them divides the other."""
    spec = protocol(epochs=60, early_stopping={"patience": 2}, select="best", optimizer={"name": "adam", "lr": 0.03})
    valid = source(30, seed=5)
    builds = [lambda k=k: Bound(k) for k in (6, 3, 2, 1)]
    found = together(builds, spec, source(), valid)
    for seed, build in enumerate(builds):
        assert_equal(found[seed], alone(build, spec, source(), valid, seed))
    assert len({out.steps for _, out in found}) > 1


@pytest.mark.parametrize("then", ["stacked", "alone"])
def test_an_interrupted_stack_goes_on(tmp_path, then):
    spec = protocol(steps=60, ema=0.9, select="best")
    data, valid = source(), source(9, seed=5)
    builds = [lambda k=k: Bound(k) for k in (1, 5)]
    keepers = [Kept(tmp_path / str(i), 31) for i in range(2)]
    with pytest.raises(KeyboardInterrupt):
        together(builds, spec, data, valid, checkpoints=keepers)
    again = [Checkpoints(tmp_path / str(i), "f" * 64, math.inf) for i in range(2)]
    if then == "stacked":
        found = together(builds, spec, data, valid, kept=[k.latest() for k in again])
    else:
        found = [alone(b, spec, data, valid, i, checkpoints=again[i]) for i, b in enumerate(builds)]
    for seed, build in enumerate(builds):
        assert_equal(found[seed], alone(build, spec, source(), valid, seed))


def test_mixed_precision():
    spec = protocol(steps=40, precision="bf16-mixed", optimizer={"name": "sgd", "lr": 0.05})
    builds = [lambda k=k: Bound(k) for k in (1, 4)]
    found = together(builds, spec, source())
    for seed, build in enumerate(builds):
        assert_equal(found[seed], alone(build, spec, source(), None, seed), 0.02)
