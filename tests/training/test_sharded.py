"""Two processes on one training, against one process: the same losses, weights and decisions within rounding."""

from __future__ import annotations

import copy
import multiprocessing
import os
from dataclasses import dataclass, field
from types import MethodType
from typing import Any

import pytest
import torch
import torch.distributed as dist
from latentbench.core.errors import Diverged
from latentbench.core.types import Batch, DataInfo
from latentbench.models.vae import VAE
from latentbench.spec.protocol import Training
from latentbench.training.loop import train
from latentbench.training.sharded import InTurn, ShardedLoss, SideBySide
from lightning.fabric import Fabric
from torch import nn

from tests.training.test_loop import DIMS, source

DEVICES = 2


class Quiet(nn.Module):
    """A regression that draws nothing, with a part that only every other step uses."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(DIMS, 5), nn.Tanh(), nn.Linear(5, DIMS))
        self.odd = nn.Parameter(torch.ones(DIMS))
        self.register_buffer("constant", torch.full((DIMS,), 0.5))

    def loss(self, batch, generator):
        scale = self.odd if batch.step % 2 else self.constant
        error = (self.net(batch.x) * scale - batch.x).square().sum(1)
        return {"loss": error.mean(), "error": error.detach().mean(), "row": batch.columns["row"].float().mean()}


class Pixels(nn.Module):
    """Sees dequantised pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(2 * DIMS))

    def loss(self, batch, generator):
        return {"loss": (batch.x / 256 - self.mean).square().mean()}


class Noisy(nn.Module):
    """Draws from its generator and from torch's, and keeps running statistics."""

    def __init__(self) -> None:
        super().__init__()
        # No bias before the normalisation: its gradient is rounding alone, which Adam makes steps of full length of.
        first = nn.Linear(DIMS, 6, bias=False)
        self.net = nn.Sequential(first, nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.3), nn.Linear(6, DIMS))

    def loss(self, batch, generator):
        noise = 0.1 * torch.randn(batch.x.shape, generator=generator)
        return {"loss": (self.net(batch.x + noise) - batch.x).square().mean()}


class Exploding(Quiet):
    """Its loss is no number in one process from the fourth step on."""

    def loss(self, batch, generator):
        terms = super().loss(batch, generator)
        bad = batch.step > 2 and dist.is_initialized() and dist.get_rank() == 1
        return {**terms, "loss": terms["loss"] * float("nan")} if bad else terms


class Rising(Quiet):
    """Its validation loss rises from some weights on, in the leading process alone."""

    def loss(self, batch, generator):
        terms = super().loss(batch, generator)
        if self.training:
            return terms
        led = not dist.is_initialized() or dist.get_rank() == 0
        return {"loss": self.net[0].bias.abs().sum() if led else torch.tensor(0.0)}


def vae() -> nn.Module:
    info = DataInfo(shape=(DIMS,), support="real", n_train=25)
    return VAE(info, latent_dim=2, hidden=(8,), likelihood={"gaussian": {}}, objective="iwae", k=3)


@dataclass(frozen=True)
class Case:
    model: Any
    protocol: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)

    def train(self, fabric: Fabric) -> dict[str, Any]:
        spec = Training.model_validate(
            {"batch_size": 10, "epochs": 4, "optimizer": {"name": "adam", "lr": 0.02}, **self.protocol}
        )
        torch.manual_seed(1)
        model = self.model()
        out = train(model, source(**self.data), source(9, seed=5), spec, fabric, 4)
        return {
            "weights": {k: v.detach().tolist() for k, v in model.state_dict().items()},
            "curve": [{k: v for k, v in row.items() if k != "seconds"} for row in out.curve],
            "counts": (out.steps, out.samples, out.best_step, out.stopped_early),
            "grads": [p.grad is None for p in model.parameters()],
        }


PIXELS = {"dtype": "uint8", "steps": ("flatten", "dequantise")}
#: Those that draw nothing are held against the plain loop, the others against one process with as many shards.
PLAIN = {
    "uneven last batch": Case(Quiet),
    "a last batch of one row": Case(Quiet, data={"n": 21}),
    "clipped": Case(Quiet, {"gradient_clip_norm": 0.05, "optimizer": {"name": "sgd", "lr": 0.5}}),
    "averaged weights, the best of them": Case(Quiet, {"ema": 0.8, "select": "best"}),
    "noise of preprocessing": Case(Pixels, data=PIXELS),
    "stopped early": Case(Rising, {"epochs": 50, "early_stopping": {"patience": 2}, "select": "best"}),
}
IN_TURN = {
    "VAE": Case(vae, {"epochs": 6}),
    "VAE in half precision": Case(vae, {"precision": "bf16-mixed"}),
    "batch normalisation and dropout": Case(Noisy, {"ema": 0.9, "select": "best"}),
}


def _process(rank: int, store: str, pipe: Any) -> None:
    os.environ.update(LOCAL_RANK=str(rank), GLOO_SOCKET_IFNAME="lo")
    torch.set_num_threads(1)
    dist.init_process_group("gloo", store=dist.FileStore(store, DEVICES), rank=rank, world_size=DEVICES)
    found = {}
    for name, case in (PLAIN | IN_TURN).items():
        strategy = SideBySide()
        precision = case.protocol.get("precision", "32-true")
        fabric = Fabric(accelerator="cpu", devices=DEVICES, strategy=strategy, precision=precision)
        fabric.launch()
        found[name] = case.train(fabric)
        strategy.release()
    fabric = Fabric(accelerator="cpu", devices=DEVICES, strategy=SideBySide())
    fabric.launch()
    try:
        Case(Exploding).train(fabric)
    except Diverged as error:
        found["diverged"] = str(error)
    pipe.send(found)
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def side_by_side(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two processes found, case by case."""
    store = str(tmp_path_factory.mktemp("processes") / "store")
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    for rank in range(DEVICES):
        ours, theirs = context.Pipe()
        processes.append(context.Process(target=_process, args=(rank, store, theirs), daemon=True))
        processes[-1].start()
        theirs.close()
        pipes.append(ours)
    found = []
    for pipe in pipes:
        assert pipe.poll(300), "the processes wait for each other"
        found.append(pipe.recv())
    for process in processes:
        process.join(20)
        assert process.exitcode == 0
    return found


def one_process(name: str) -> dict[str, Any]:
    if name in PLAIN:
        return PLAIN[name].train(Fabric(accelerator="cpu", devices=1))
    case = IN_TURN[name]
    precision = case.protocol.get("precision", "32-true")
    return case.train(Fabric(accelerator="cpu", devices=1, strategy=InTurn(DEVICES), precision=precision))


@pytest.mark.slow
@pytest.mark.parametrize("name", [*PLAIN, *IN_TURN])
def test_two_processes_and_one(side_by_side, name):
    alone = one_process(name)
    led, helped = (found[name] for found in side_by_side)
    close = {"rel": 1e-4, "abs": 1e-6} if "half" not in name else {"rel": 0.02, "abs": 0.02}
    for found in (led, helped):
        assert found["counts"] == alone["counts"]
        assert found["grads"] == alone["grads"]
        assert len(found["curve"]) == len(alone["curve"])
        for row, expected in zip(found["curve"], alone["curve"], strict=True):
            assert row == pytest.approx(expected, **close)
        assert found["weights"].keys() == alone["weights"].keys(), "under the model's own names"
        for key, value in alone["weights"].items():
            torch.testing.assert_close(
                torch.tensor(found["weights"][key]), torch.tensor(value), rtol=close["rel"], atol=close["abs"]
            )
    assert led == helped, "both processes hold the same, to the bit"
    assert alone["curve"][0]["loss"] > alone["curve"][-1].get("loss", -1.0)


@pytest.mark.slow
def test_the_cases_are_what_they_say(side_by_side):
    led = side_by_side[0]
    steps, _, best, early = led["stopped early"]["counts"]
    assert early
    assert steps < 50 * 3
    assert best is not None
    assert led["uneven last batch"]["counts"][:2] == (12, 100)
    clipped = PLAIN["clipped"]
    loose = Case(clipped.model, {**clipped.protocol, "gradient_clip_norm": 1e9}).train(
        Fabric(accelerator="cpu", devices=1)
    )
    assert loose["weights"] != led["clipped"]["weights"]


@pytest.mark.slow
def test_one_process_that_diverges_takes_the_others_along(side_by_side):
    assert [found["diverged"] for found in side_by_side] == ["the loss is nan at step 4 of 12"] * DEVICES


def batch_of(n: int, step: int = 0) -> Batch:
    x = torch.arange(n * DIMS, dtype=torch.float32).reshape(n, DIMS)
    return Batch(x, n, step, 0.0, {"row": torch.arange(n)})


class Seen(nn.Module):
    """Notes its rows and draws."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(()))
        self.rows: list[list[int]] = []
        self.draws: list[float] = []

    def loss(self, batch, generator):
        self.rows.append(batch.columns["row"].tolist())
        self.draws.append(float(torch.randn((), generator=generator)))
        return {"loss": (self.w * batch.x).mean()}


def test_each_shard_has_its_rows_and_a_stream_of_its_own():
    model, noise = Seen(), torch.Generator().manual_seed(8)
    before = noise.get_state()
    sharded = ShardedLoss(3)
    for step in (0, 1, 0):
        sharded(model, batch_of(8, step), noise)
    assert model.rows == [[0, 1, 2], [3, 4, 5], [6, 7]] * 3, "every row once, in order"
    assert len(set(model.draws)) == 6, "another draw each shard and step"
    assert model.draws[:3] == model.draws[6:], "and the same one for the same step, whatever came before"
    assert torch.equal(noise.get_state(), before), "the run's own stream is left to preprocessing"


@pytest.mark.parametrize("rows", [1, 2, 7, 8])
def test_the_mean_counts_every_row_alike(rows):
    model, whole = Seen(), Seen()
    batch = batch_of(rows)
    found = ShardedLoss(3)(model, batch, torch.Generator())["loss"]
    expected = whole.loss(batch, torch.Generator())["loss"]
    found.backward()
    expected.backward()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(model.w.grad, whole.w.grad)


class Counting(nn.Module):
    """A running sum of what it has seen, which its loss also depends on."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.ones(()))
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("chain", torch.zeros(()))
        self.register_buffer("fixed", torch.ones(3))

    def loss(self, batch, generator):
        loss = (self.w * self.mean).square() + self.w * batch.x.mean()
        self.mean = 0.5 * self.mean + batch.x.mean()
        self.chain.add_(batch.x[0, 0] + 1)
        return {"loss": loss}


def test_running_statistics_are_averaged_and_the_graph_keeps_the_old_ones():
    model, batch = Counting(), batch_of(5)
    fixed = model.fixed
    sharded = ShardedLoss(2)
    sharded(model, batch, torch.Generator())["loss"].backward()
    torch.testing.assert_close(model.mean, batch.x.mean())  # 3 rows and 2 rows, weighted
    assert float(model.chain) == 1.0, "the first shard's: a chain's states have no mean"
    assert model.fixed is fixed or torch.equal(model.fixed, fixed)
    model.w.grad = None
    sharded(model, batch, torch.Generator())["loss"].backward()
    mean = batch.x.mean()
    torch.testing.assert_close(model.w.grad, 2 * mean**2 + mean)
    torch.testing.assert_close(model.mean, 1.5 * mean)


def test_evaluation_is_of_the_whole_batch():
    model = Seen()
    vars(model)["loss"] = MethodType(ShardedLoss(2), model)
    twin = copy.deepcopy(model).eval()
    twin.loss(batch_of(5), torch.Generator())
    assert twin.rows == [[0, 1, 2, 3, 4]]
    assert model.rows == [], "a copy, as the moving average makes one, computes on its own weights"


def test_releasing_gives_the_model_its_own_loss_back():
    strategy = SideBySide()
    strategy.release()  # nothing was ever set up
    model = Seen()
    vars(model)["loss"] = MethodType(ShardedLoss(2), model)
    strategy._module = model
    strategy.release()
    model.loss(batch_of(5), torch.Generator())
    assert model.rows == [[0, 1, 2, 3, 4]]
