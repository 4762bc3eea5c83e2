"""Circuits of image patches, and latent variable distillation into them.

Liu, Zhang & Van den Broeck 2023, "Scaling up probabilistic circuits by latent variable distillation" (LVD, arXiv
2210.04398), and Liu, Liu, Van den Broeck & Liang 2023, "Understanding the distillation process" (LVD-PG, 2302.08086).

An image is a grid of patches. Each patch p has a discrete variable z_p of M clusters; a tree joins the z_p, and given
z_p = c the pixels of the patch follow a small hidden Chow-Liu tree of cluster c, the same at every place:

    log p(x) = log sum_z p(z_root) prod_p p(z_p | z_parent(p)) p_{z_p}(x_p).

EM from a random start has to find the clusters alone. LVD observes them first: a teacher's features of each patch are
clustered, the parameters maximise log p(x, z) at those labels (LVD, eq. 1), and EM on log p(x) fine-tunes. LVD-PG grows
the clusters: those that the circuit explains worst are split, and patches may move to the cluster that explains them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import torch
from annotated_types import Ge, Gt, Le
from latentbench.core.errors import UserError
from latentbench.core.types import Batch, DataInfo
from latentbench.declare import Example, model
from latentbench.models import checks
from latentbench.models.circuits.distillation import kmeans, train_teacher
from latentbench.models.circuits.em import Tables, em_loss, normalised
from latentbench.models.circuits.latent_tree import simplex
from latentbench.models.circuits.trees import CHUNK, TINY, Tree, chow_liu, pair_counts
from latentbench.models.vae import VAE
from pydantic import PositiveFloat, PositiveInt
from torch import Generator, Tensor, nn

STARTS = ("random", "k-means", "progressive")
#: Grey levels that a structure is learnt from, whatever the data have.
COARSE = 8
INNER = ("heads", "inner", "leaves")


@model(
    "patch-circuit",
    "Trainable Preparable ExactLikelihood Sampler",
    "circuit of image patches by EM, from a random start or distilled from a VAE's features",
    whole_batch=True,
    examples=(
        Example("discrete-image", {"clusters": 3, "states": 2}),
        Example(
            "discrete-image",
            {
                "latent_dim": 3,
                "hidden": (8,),
                "clusters": 4,
                "states": 2,
                "start": "progressive",
                "steps": 4,
                "teacher_steps": 2,
            },
        ),
    ),
)
class PatchCircuit(nn.Module):
    """A tree over patch clusters above one hidden Chow-Liu tree a cluster, trained by EM (plain ``sgd``, see `em`).

    Args:
        patch: side of a patch, a power of two that divides height and width.
        clusters: M, values of a patch's variable.
        states: hidden states of each pixel's variable in a cluster's circuit.
        start: ``random``; ``k-means`` (clusters of the teacher's features); ``progressive`` (LVD-PG, from a quarter of
            the clusters up).
        steps: EM steps of a cluster's circuits on labelled patches, over all stages of growing together.
        step_size: of those EM steps at first; it falls linearly to a tenth.
        batch_size: patches a step.
        channels, latent_dim, hidden: of the teacher, a convolutional VAE; one entry of `channels` a halving of `patch`.
        teacher_steps: Adam steps of the teacher, in batches of 128 images with learning rate 1e-3.
        pseudocount: added by EM to the expected counts of each row of a table in a batch, and to those of labels.
    """

    structure: Tensor
    patch_structure: Tensor

    def __init__(
        self,
        info: DataInfo,
        *,
        patch: Annotated[int, Ge(2)] = 4,
        clusters: Annotated[int, Ge(2)] = 16,
        states: Annotated[int, Ge(2)] = 4,
        start: str = "random",
        steps: PositiveInt = 300,
        step_size: Annotated[float, Gt(0), Le(1)] = 0.5,
        batch_size: PositiveInt = 2048,
        channels: Sequence[PositiveInt] = (16, 32),
        latent_dim: int = 32,
        hidden: Sequence[int] = (128,),
        teacher_steps: PositiveInt = 500,
        pseudocount: PositiveFloat = 0.1,
    ) -> None:
        super().__init__()
        checks.support("PatchCircuit", info, "binary", "discrete")
        self.shape = checks.image_shape("PatchCircuit", info)
        self.levels = 2 if info.support == "binary" else info.levels or 0
        self.patch, self.clusters = checks.whole("patch", patch, 2), checks.whole("clusters", clusters, 2)
        self.states = checks.whole("states", states, 2)
        c, h, w = self.shape
        if h % self.patch or w % self.patch:
            raise UserError(f"patch is {patch} for images of {h}x{w}", fix="a divisor of height and width")
        self.grid, self.pixels = (h // self.patch, w // self.patch), c * self.patch**2
        self.start = checks.one_of("start", start, STARTS)
        self.steps, self.batch_size = checks.whole("steps", steps), checks.whole("batch_size", batch_size)
        self.step_size = checks.number("step_size", step_size, above=True, most=1.0)
        self.teacher_steps = checks.whole("teacher_steps", teacher_steps)
        self.pseudocount = checks.number("pseudocount", pseudocount, above=True)
        m, k, places = self.clusters, self.states, math.prod(self.grid)
        shapes = {
            "prior": (m,),
            "top": (places - 1, m, m),
            "heads": (m, k),
            "inner": (m, self.pixels - 1, k, k),
            "leaves": (m, self.pixels, k, self.levels),
        }
        self.free = nn.ParameterDict({name: simplex(*shape) for name, shape in shapes.items()})
        self.register_buffer("structure", torch.full((2, places), -1))
        self.register_buffer("patch_structure", torch.full((2, self.pixels), -1))
        self.trees: tuple[Tree, Tree] | None = None
        self.register_load_state_dict_post_hook(lambda module, _: module._grow())
        #: Not a submodule: it is gone once its features are clustered.
        self._teacher: list[VAE] = []
        if self.start != "random":
            widths = checks.wholes("channels", channels)
            if 2 ** len(widths) != self.patch:
                raise UserError(f"channels has {len(widths)} entries", fix="one a halving of `patch`")
            network = {"conv": {"channels": list(widths)}}
            self._teacher = [VAE(info, latent_dim=latent_dim, hidden=hidden, activation="relu", network=network)]

    def _grow(self) -> None:
        tables = (self.structure, self.patch_structure)
        known = not any(bool((t[0] < 0).any()) for t in tables)
        self.trees = (Tree(self.structure.cpu()), Tree(self.patch_structure.cpu())) if known else None

    def patches(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) to (N, P, pixels), row by row."""
        if tuple(x.shape[1:]) != self.shape:
            raise UserError(f"samples of shape {tuple(x.shape[1:])} for a model of {self.shape}")
        return nn.functional.unfold(x, self.patch, stride=self.patch).transpose(1, 2)

    def images(self, patches: Tensor) -> Tensor:
        """The inverse of `patches`."""
        return nn.functional.fold(patches.transpose(1, 2), self.shape[1:], self.patch, stride=self.patch)

    def prepare(self, x: Tensor, generator: Generator) -> None:
        """Learns both trees from coarse pixels, then what `start` asks for."""
        found = self.patches(x)
        bins = min(COARSE, self.levels)
        coarse = found.mul(bins / self.levels).floor()
        self.patch_structure.copy_(chow_liu(coarse.flatten(0, 1), bins, 0.01))
        self.structure.copy_(chow_liu(found.mean(-1).mul(COARSE / self.levels).floor(), COARSE, 0.01))
        self._grow()
        if self.start == "random":
            return
        features = train_teacher(self._teacher[0].to(x.device), x, self.teacher_steps, generator).flatten(0, 1)
        self._distil(found.flatten(0, 1), features, generator)
        self._teacher.clear()

    def _distil(self, pixels: Tensor, features: Tensor, generator: Generator) -> None:
        """Parameters from labelled patches: pixels (N * P, pixels), features (N * P, F)."""
        now = self.clusters if self.start == "k-means" else max(1, self.clusters // 4)
        sizes = [now]
        while sizes[-1] < self.clusters:
            sizes.append(min(self.clusters, sizes[-1] + max(1, sizes[-1] // 2)))
        label = kmeans(features, now, generator)
        for stage, size in enumerate(sizes):
            if stage:
                label = self._split(pixels, features, label, sizes[stage - 1], size, generator)
            self._fit_clusters(pixels, label, size, self.steps // len(sizes), generator)
        places = label.view(-1, math.prod(self.grid))[:, self.structure[0]]
        counts = pair_counts(places, self.clusters) + self.pseudocount / self.clusters
        first = counts[0, :, 0].diagonal()
        with torch.no_grad():
            for i, parent in enumerate(self.structure[1, 1:].tolist()):
                top = counts[parent, :, i + 1]
                self.free["top"][i] = top / top.sum(-1, keepdim=True)
            self.free["prior"].copy_(first / first.sum())

    def _fit_clusters(self, pixels: Tensor, label: Tensor, size: int, steps: int, generator: Generator) -> None:
        """EM of the first `size` clusters' circuits, each on the patches that carry its label."""
        inner = {name: self.free[name] for name in INNER}
        for step in range(steps):
            index = torch.randint(len(pixels), (self.batch_size,), generator=generator, device=pixels.device)
            rows, own = pixels[index], label[index]

            def log_prob(tables: Tables, rows: Tensor = rows, own: Tensor = own) -> Tensor:
                used = {name: table[:size] for name, table in tables.items()}
                return self.cluster_log_prob(rows, used).gather(1, own[:, None])[:, 0]

            slopes = torch.autograd.grad(em_loss(log_prob, inner, self.pseudocount), list(inner.values()))
            with torch.no_grad():
                for table, slope in zip(inner.values(), slopes, strict=True):
                    table[:size] -= self.step_size * (1.0 - 0.9 * step / steps) * slope[:size]

    @torch.no_grad()
    def _split(
        self, pixels: Tensor, features: Tensor, label: Tensor, before: int, after: int, generator: Generator
    ) -> Tensor:
        """One growth of LVD-PG: moves patches, then splits the clusters that are explained worst; the new labels."""
        used = normalised({name: self.free[name][:before] for name in INNER})
        fit = torch.cat([self.cluster_log_prob(part, used) for part in pixels.split(8192)])
        own = fit.gather(1, label[:, None])[:, 0]
        size = torch.bincount(label, minlength=before).clamp_min(1)
        mean = torch.zeros(before, device=fit.device).index_add_(0, label, own) / size
        fit.scatter_add_(1, label[:, None], torch.ones_like(fit[:, :1]))  # a nat for staying
        label = fit.argmax(1)
        worst = mean.argsort()[: after - before]
        for new, old in enumerate(worst.tolist(), before):
            mine = torch.nonzero(label == old)[:, 0]
            if len(mine) < 2:
                continue
            halves = kmeans(features[mine], 2, generator)
            label[mine[halves == 1]] = new
        for name in INNER:
            table = self.free[name]
            noise = torch.rand(table[worst].shape, generator=generator, device=table.device)
            grown = table[worst] * (0.8 + 0.4 * noise)
            table[before:after] = grown / grown.sum(-1, keepdim=True)
        return label

    def cluster_log_prob(self, pixels: Tensor, tables: Tables) -> Tensor:
        """(R, M) log p_c(x_p) of patches (R, pixels)."""
        tree = self._known()[1]
        log_leaves = tables["leaves"].clamp_min(TINY).log()
        values = pixels.T[tree.variables.to(pixels.device)].long()
        index = torch.arange(self.pixels, device=pixels.device)[:, None]
        leaves = log_leaves.transpose(2, 3)[:, index, values]
        root = torch.func.vmap(tree.upward)(leaves, tables["inner"])
        heads = tables["heads"].clamp_min(TINY).log()
        return (root + heads[:, None]).logsumexp(-1).T

    def _known(self) -> tuple[Tree, Tree]:
        if self.trees is None:
            raise UserError("PatchCircuit has no trees yet", fix="call prepare(x) with the training set first")
        return self.trees

    def evaluate(self, x: Tensor, tables: Tables) -> Tensor:
        """(N,) nats of images."""
        found = self.patches(x)
        tree = self._known()[0]
        clusters = self.cluster_log_prob(found.flatten(0, 1), tables).unflatten(0, found.shape[:2])
        leaves = clusters.transpose(0, 1)[tree.variables.to(x.device)]
        root = tree.upward(leaves, tables["top"])
        return (root + tables["prior"].clamp_min(TINY).log()).logsumexp(-1)

    def loss(self, batch: Batch, generator: Generator) -> dict[str, Tensor]:
        """The negative log-likelihood in nats per sample, with the gradient of an EM step."""
        tables = dict(self.free.items())
        return {"loss": em_loss(lambda t: self.evaluate(batch.x, t), tables, self.pseudocount)}

    def log_prob(self, x: Tensor) -> Tensor:
        tables = normalised(self.free)
        size = max(1, CHUNK // (math.prod(self.grid) * self.pixels * self.clusters * self.states))
        return torch.cat([self.evaluate(part, tables) for part in x.split(size)])

    def sample(self, n: int, generator: Generator) -> Tensor:
        tree, inner = self._known()
        t = normalised(self.free)
        drawn = tree.sample(t["prior"], t["top"], n, generator)
        label = torch.empty_like(drawn)
        label[tree.variables.to(drawn.device)] = drawn
        out = torch.zeros(n, len(tree), self.pixels, device=drawn.device)
        for c in label.unique().tolist():
            mine = c == label.T
            states = inner.sample(t["heads"][c], t["inner"][c], int(mine.sum()), generator)
            out[mine] = inner.emit(t["leaves"][c], states, generator)
        return self.images(out)
