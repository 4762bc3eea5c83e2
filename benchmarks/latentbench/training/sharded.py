"""One training over several devices: each takes its share of every batch, and gradients are averaged over the rows.

Every process runs the same loop on the same order and the same preprocessing noise; what differs is which rows of a
batch its model sees. A share (shard) has a stream of random numbers of its own, derived from the run's seed, the step
and the shard's number, so one process that takes the shards in turn (`InTurn`) computes what several do side by side
(`SideBySide`), up to the order of sums. Both are strategies of Lightning Fabric: the loop does not know of them, and
weights keep the model's own names.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from lightning.fabric.strategies import DDPStrategy, SingleDeviceStrategy
from torch import Generator, Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from latentbench.core.seeds import derive
from latentbench.core.types import Batch
from latentbench.training.stand_in import own_loss, put_in_place, take_out

#: Buffers of these names are means of batches, so their mean over the shards is kept.
STATISTICS = {"running_mean", "running_var", "mean", "var"}
#: Name of a buffer, the module that holds it, and its key there.
_Place = tuple[str, nn.Module, str]


class SideBySide(DDPStrategy):
    """A process a device, each with its shard of every batch; torch's DistributedDataParallel averages the gradients.

    The process group is the caller's to open and close. Parameters that a step leaves out keep no gradient, as in one
    process.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(broadcast_buffers=False, find_unused_parameters=True, **options)
        self._module: nn.Module | None = None

    def setup_module(self, module: nn.Module) -> nn.Module:  # type: ignore[override]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*broadcast_buffers")  # older torch has no other name for it
            shared = super().setup_module(_Own(module))
        self._module = module
        put_in_place(module, ShardedLoss(self.world_size, self.global_rank, shared))
        return module  # Fabric would hand one that it sees wrapped its inputs in lower precision

    def release(self) -> None:
        """The training is over: the model's loss is its own again, and no process waits for another."""
        if self._module is not None:
            take_out(self._module)


class _Own(nn.Module):
    """A model's own loss as the `forward` of a module."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        # never used: torch warns where a search for such parameters finds none
        self.idle = nn.Parameter(torch.zeros(1, device=next(model.parameters()).device))

    def forward(self, batch: Batch, noise: Generator) -> dict[str, Tensor]:
        return own_loss(self.model, batch, noise)


class InTurn(SingleDeviceStrategy):
    """One process that takes the shards of every batch one after the other: what `SideBySide` is held against."""

    def __init__(self, shards: int, device: str | torch.device = "cpu") -> None:
        super().__init__(device)
        self._shards = shards

    def setup_module(self, module: nn.Module) -> nn.Module:
        put_in_place(module, ShardedLoss(self._shards))
        return module


class ShardedLoss:
    """A model's loss over the shards of a batch: their means, weighted by rows.

    Gradients come out as those of the whole mean once they are averaged over the processes; the scalars are those of
    the whole batch in every process. What a batch's statistics decide (batch normalisation, a batch's own estimate of
    the aggregate posterior) is of the shard. Running statistics are averaged like the loss.

    Args:
        shards: into how many a batch is cut; the first ones are a row longer where it does not divide evenly.
        rank: the shard that this process computes; None for all of them, in turn.
        shared: what computes that shard's loss, so that its gradients are averaged over the processes.
    """

    def __init__(self, shards: int, rank: int | None = None, shared: nn.Module | None = None) -> None:
        self._shards, self._rank, self._shared = shards, rank, shared
        self._draws: Generator | None = None

    def __call__(self, model: nn.Module, batch: Batch, noise: Generator) -> dict[str, Tensor]:
        """The loss of `batch`, of which every process is given all rows; `noise` is not drawn from in training."""
        if not model.training:
            return self._validation(model, batch, noise)
        mine = range(self._shards) if self._rank is None else (self._rank,)
        buffers = _Buffers(model, copies=len(mine) > 1)
        local: Tensor | None = None
        shown: Tensor | None = None
        for shard in mine:
            rows, weight = _share(len(batch.x), self._shards, shard)
            columns = {k: v[rows] for k, v in batch.columns.items()}
            index = None if batch.index is None else batch.index[rows]
            buffers.begin()
            part, draws = replace(batch, x=batch.x[rows], columns=columns, index=index), self._draw(noise, batch, shard)
            terms = own_loss(model, part, draws) if self._shared is None else self._shared(part, draws)
            buffers.add(weight)
            loss = terms["loss"] * weight
            values = torch.stack([v.detach().float() for v in terms.values()]) * weight
            local = loss if local is None else local + loss
            shown = values if shown is None else shown + values
        assert local is not None
        assert shown is not None
        if self._rank is not None:
            dist.all_reduce(shown)
            local = local * self._shards  # DistributedDataParallel divides by it
        buffers.settle(everywhere=self._rank is not None)
        means = dict(zip(terms, shown.unbind(), strict=True))
        return means | {"loss": _Shown.apply(local, means["loss"])}

    def _validation(self, model: nn.Module, batch: Batch, noise: Generator) -> dict[str, Tensor]:
        """Rank 0's loss of the whole batch, to the bit: all processes take the same decisions from it."""
        if self._rank is None:
            return own_loss(model, batch, noise)
        value = torch.zeros((), device=batch.x.device)
        if self._rank == 0:
            value = own_loss(model, batch, noise)["loss"].detach().float().clone()
        dist.broadcast(value, 0)
        return {"loss": value}

    def _draw(self, noise: Generator, batch: Batch, shard: int) -> Generator:
        """The shard's generator at this step; torch's global one, which layers draw from, is set likewise."""
        if self._draws is None or self._draws.device != noise.device:
            self._draws = Generator(device=noise.device)
        run = noise.initial_seed()
        torch.manual_seed(derive(run, "noise", "shard", batch.step, shard, "global"))
        return self._draws.manual_seed(derive(run, "noise", "shard", batch.step, shard))


def _share(rows: int, shards: int, shard: int) -> tuple[slice, float]:
    """The rows of one shard, and its share of the mean. A shard without rows takes one that counts nothing."""
    each, left = divmod(rows, shards)
    size = each + (shard < left)
    start = shard * each + min(shard, left)
    return (slice(start, start + size) if size else slice(0, 1)), size / rows


class _Shown(torch.autograd.Function):
    """A scalar with the value of `shown` and the gradient of `local`."""

    @staticmethod
    def forward(ctx: Any, local: Tensor, shown: Tensor) -> Tensor:
        ctx.dtype = local.dtype
        return shown.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient.to(ctx.dtype), None


class _Buffers:
    """Buffers that a loss changes: each shard starts from the same. Of running statistics the means are kept; of what
    may be no mean of anything (counts, the states of Markov chains), what the first shard made of it.

    They are replaced, not written to: a graph that still needs the old ones must find them as they were.

    Args:
        model: whose buffers.
        copies: several shards are computed here, so each needs a copy to change.
    """

    def __init__(self, model: nn.Module, *, copies: bool) -> None:
        self._places = list(_places(model))
        self._start = {p[0]: _at(p).clone() for p in self._places} if copies else {}
        self._kept: dict[str, Tensor] = {}
        self._before: dict[str, tuple[int, int]] = {}

    def begin(self) -> None:
        """A shard's loss comes next."""
        for place in self._places:
            if place[0] in self._start:
                _put(place, self._start[place[0]].clone())
        self._before = {p[0]: (id(_at(p)), _at(p)._version) for p in self._places}

    def add(self, weight: float) -> None:
        """That loss has been computed, and counts `weight`."""
        for place in self._places:
            name, buffer = place[0], _at(place)
            # torch's own running statistics change without a new version
            if not isinstance(place[1], _NormBase) and self._before[name] == (id(buffer), buffer._version):
                continue
            if place[2] in STATISTICS:
                part = buffer.detach() * weight
                self._kept[name] = self._kept[name] + part if name in self._kept else part
            else:
                self._kept.setdefault(name, buffer.detach().clone())

    def settle(self, *, everywhere: bool) -> None:
        """Put what is kept in place; with `everywhere` it is that of all processes."""
        for place in self._places:
            if (kept := self._kept.get(place[0])) is not None:
                if everywhere and place[2] in STATISTICS:
                    dist.all_reduce(kept)
                elif everywhere:
                    dist.broadcast(kept, 0)
                _put(place, kept)


def _places(model: nn.Module) -> Iterator[_Place]:
    for path, module in model.named_modules():
        for key, _ in module.named_buffers(recurse=False):
            yield f"{path}.{key}", module, key


def _at(place: _Place) -> Tensor:
    buffer = place[1]._buffers[place[2]]
    assert buffer is not None
    return buffer


def _put(place: _Place, value: Tensor) -> None:
    place[1]._buffers[place[2]] = value
