"""Pictures of a trained model, whatever its capabilities and its data allow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from latentbench.core.capabilities import (
    Decoder,
    Encoder,
    ExactLikelihood,
    Forecaster,
    LinkPredictor,
    PathSampler,
    Reconstructor,
    Sampler,
    Transporter,
)
from latentbench.core.seeds import generator
from latentbench.data.columns import Ragged
from latentbench.pictures import drawing
from latentbench.records.pictures import MOST_BYTES

if TYPE_CHECKING:
    from latentbench.planning.plan import RunSpec
    from latentbench.running.run_data import Data

Rows = NDArray[Any]

#: Rows and columns of a sheet of samples; test rows that are encoded; points of a cloud.
ROWS, COLUMNS, CODES, CLOUD = 8, 10, 512, 1000
#: Coordinates of the code that are traversed, steps of each, and how far, in standard deviations of the codes.
COORDINATES, STEPS, REACH = 8, 9, 2.0
#: Nodes of a graph that are drawn; sentences, and characters of each.
NODES, SENTENCES, LONGEST = 60, 8, 200
#: Share of the bytes for each sheet.
BUDGET = {"samples": 0.3, "reconstructions": 0.2, "traversals": 0.25, "interpolations": 0.15, "path": 0.1}


def make(model: Any, data: Data, spec: RunSpec) -> Iterator[tuple[str, bytes]]:
    """Names of files with what they hold, in turn. Draws are the same for the same seed.

    Args:
        model: trained, on the CPU.
        data: what it was trained on.
        spec: its run.

    Yields:
        ``samples.png`` and so on: kinds of `latentbench.records.pictures.KINDS`, below `MOST_BYTES` in all.
    """
    maker = _Maker(model, data, spec)
    left = MOST_BYTES
    was_training = isinstance(model, nn.Module) and model.training
    if hasattr(model, "eval"):
        model.eval()
    try:
        for name, content in maker.all():
            if len(content) <= left:
                left -= len(content)
                yield name, content
    finally:
        if was_training:
            model.train()


class _Maker:
    def __init__(self, model: Any, data: Data, spec: RunSpec) -> None:
        self.model, self.data, self.seeds = model, data, spec.seeds
        rows = data.splits["test" if "test" in data.splits else "train"]
        self.kind = "ragged" if isinstance(rows, Ragged) else data.entry.modality
        self.rows = rows

    def all(self) -> Iterator[tuple[str, bytes]]:
        kinds: dict[str, Callable[[], bytes | None]] = {}
        if self.kind == "ragged":
            return
        if self.data.entry.modality == "text":
            kinds = {"sentences.txt": self._sentences}
        elif self.data.entry.modality == "graph":
            kinds = {"graph.png": self._graph}
        elif self._images():
            kinds = {
                "samples.png": self._samples,
                "reconstructions.png": self._reconstructions,
                "traversals.png": self._traversals,
                "interpolations.png": self._interpolations,
                "path.png": self._path,
                "codes.png": self._codes,
            }
        elif isinstance(self.model, Transporter):
            kinds = {"transport.png": self._transport}
        elif self.data.entry.modality == "sequence":
            kinds = {"series.png": self._series, "forecast.png": self._forecast}
        elif self._dims() >= 2:
            kinds = {"plane.png": self._plane, "density.png": self._density, "codes.png": self._codes}
        for name, draw in kinds.items():
            with torch.no_grad():
                content = draw()
            if content is not None:
                yield name, content

    def _dims(self) -> int:
        return int(np.prod(self._stored(2).shape[1:]))

    def _images(self) -> bool:
        shape = self._stored(1).shape[1:]
        return self.data.entry.modality == "image" and (len(shape) == 2 or (len(shape) == 3 and shape[-1] in (1, 3)))

    def _generator(self, name: str) -> torch.Generator:
        return generator(self.seeds, "evaluation", "pictures", name)

    def _stored(self, n: int) -> Rows:
        return np.asarray(self.rows[:n])

    def _test(self, n: int) -> Tensor:
        """The first test rows as the model sees them."""
        y: Tensor = self.data.pipeline.forward(self._stored(n), self._generator("rows"))[0]
        return y

    def _back(self, y: Tensor) -> Rows:
        rows = np.asarray(self.data.pipeline.inverse(y.detach().float()))
        return rows[..., 0] if self._three() and rows.shape[-1] == 1 else rows

    def _three(self) -> bool:
        return len(self._stored(1).shape) == 4

    def _sheet(self, kind: str, images: Rows) -> bytes:
        shown = self._back(self._test(64))
        return drawing.sheet(images, float(shown.min()), float(shown.max()), int(BUDGET[kind] * MOST_BYTES))

    def _samples(self) -> bytes | None:
        if not isinstance(self.model, Sampler):
            return None
        drawn = self._back(self.model.sample(ROWS * COLUMNS, self._generator("samples")))
        return self._sheet("samples", drawn.reshape(ROWS, COLUMNS, *drawn.shape[1:]))

    def _reconstructions(self) -> bytes | None:
        if not isinstance(self.model, Reconstructor):
            return None
        x = self._test(3 * COLUMNS)
        before, after = self._back(x), self._back(self.model.reconstruct(x))
        pairs = np.stack([before, after]).reshape(2, -1, COLUMNS, *before.shape[1:]).swapaxes(0, 1)
        flat = pairs.reshape(-1, COLUMNS, *before.shape[1:])
        budget = int(BUDGET["reconstructions"] * MOST_BYTES)
        while len(flat) > 2 and len(self._sheet_of(flat)) > budget:
            flat = flat[:-2]  # a row goes with its reconstructions
        return self._sheet_of(flat)

    def _sheet_of(self, images: Rows) -> bytes:
        shown = self._back(self._test(64))
        return drawing.sheet(images, float(shown.min()), float(shown.max()), MOST_BYTES)

    def _decodes(self) -> tuple[Tensor, int] | None:
        """Codes of test rows, and how many coordinates the decoder takes: those of the topmost code, which is last."""
        if not (isinstance(self.model, Encoder) and isinstance(self.model, Decoder)):
            return None
        codes = self.model.encode(self._test(CODES))
        if codes.ndim != 2:
            return None
        for width in dict.fromkeys((codes.shape[1], getattr(self.model, "latent_dim", None), *self._widths())):
            if isinstance(width, int) and 0 < width <= codes.shape[1]:
                try:
                    self.model.decode(codes[:1, -width:])
                except (RuntimeError, ValueError, AssertionError, IndexError):
                    continue
                return codes[:, -width:], width
        return None

    def _widths(self) -> list[int]:
        dims = getattr(self.model, "latent_dims", None)
        return [int(dims[-1])] if isinstance(dims, list | tuple) and dims else []

    def _traversals(self) -> bytes | None:
        if (found := self._decodes()) is None:
            return None
        codes, width = found
        spread = codes.std(0)
        chosen = spread.argsort(descending=True)[: min(COORDINATES, width)]
        steps = torch.linspace(-REACH, REACH, STEPS)
        points = codes[:1].repeat(len(chosen) * STEPS, 1)
        for i, j in enumerate(chosen.tolist()):
            points[i * STEPS : (i + 1) * STEPS, j] = codes[:, j].mean() + steps * spread[j]
        images = self._back(self.model.decode(points))
        return self._sheet("traversals", images.reshape(len(chosen), STEPS, *images.shape[1:]))

    def _interpolations(self) -> bytes | None:
        if (found := self._decodes()) is None or len(found[0]) < 8:
            return None
        codes = found[0]
        way = torch.linspace(0, 1, STEPS)[:, None]
        points = torch.cat([(1 - way) * codes[i] + way * codes[i + 4] for i in range(4)])
        images = self._back(self.model.decode(points))
        return self._sheet("interpolations", images.reshape(4, STEPS, *images.shape[1:]))

    def _path(self) -> bytes | None:
        if not isinstance(self.model, PathSampler):
            return None
        steps = 4 * (STEPS - 1)
        states = self.model.sample_path(4, steps, self._generator("path"))
        shown = torch.stack([states[i] for i in range(0, steps + 1, 4)], 1)
        images = self._back(shown.reshape(-1, *shown.shape[2:]))
        return self._sheet("path", images.reshape(4, STEPS, *images.shape[1:]))

    def _codes(self) -> bytes | None:
        """The first two principal components of the codes, coloured by label where there are few."""
        if not isinstance(self.model, Encoder):
            return None
        codes = self.model.encode(self._test(CODES))
        if codes.ndim != 2 or codes.shape[1] < 2 or not torch.isfinite(codes).all():
            return None
        at = drawing.plane_of(codes.numpy())(codes.numpy())
        return drawing.drawn(lambda axes: self._coloured(axes, at, len(at)))

    def _coloured(self, axes: Any, at: Rows, n: int) -> None:
        columns = self.data.columns["test" if "test" in self.data.splits else "train"]
        labels = next((np.asarray(columns[k][:n]) for k in ("label", "labels", "y", "class") if k in columns), None)
        usable = labels is not None and labels.ndim == 1 and len(np.unique(labels)) <= 20
        hues = np.unique(labels, return_inverse=True)[1] if usable and labels is not None else drawing.COLOURS[0]
        axes.scatter(at[:, 0], at[:, 1], s=6, c=hues, cmap="tab10" if usable else None, alpha=0.7, linewidths=0)
        axes.tick_params(labelsize=7)

    def _plane(self) -> bytes | None:
        if not isinstance(self.model, Sampler):
            return None
        real = self._back(self._test(CLOUD))
        made = self._back(self.model.sample(len(real), self._generator("samples")))
        if not np.isfinite(made).all():
            return None
        at = drawing.plane_of(real)
        return drawing.clouds([("test rows", at(real)), ("samples", at(made))])

    def _density(self) -> bytes | None:
        """log p over the plane, of data of two coordinates."""
        if not isinstance(self.model, ExactLikelihood) or self._dims() != 2:
            return None
        x = self._test(CLOUD).reshape(-1, 2).numpy()
        low, high = x.min(0), x.max(0)
        low, high = low - 0.1 * (high - low), high + 0.1 * (high - low)
        across, up = np.meshgrid(np.linspace(low[0], high[0], 90), np.linspace(low[1], high[1], 90))
        grid = torch.tensor(np.stack([across.ravel(), up.ravel()], 1), dtype=torch.float32)
        log_p = self.model.log_prob(grid.reshape(-1, *self.data.info.shape)).reshape(90, 90).numpy()
        p = np.exp(np.nan_to_num(log_p - np.nanmax(log_p), nan=-np.inf))

        def draw(axes: Any) -> None:
            axes.imshow(p, extent=(low[0], high[0], low[1], high[1]), origin="lower", cmap="magma", aspect="auto")
            axes.tick_params(labelsize=7)

        return drawing.drawn(draw)

    def _transport(self) -> bytes | None:
        x = self._test(CLOUD)
        if x.ndim != 3 or x.shape[1] != 2 or x.shape[2] < 2:
            return None
        sent = self.model.transport(x[:, 0], self._generator("transport"))
        at = drawing.plane_of(x[:, 1].numpy())
        named = [("source", x[:, 0]), ("source, sent", sent), ("target", x[:, 1])]
        return drawing.clouds([(name, at(points.numpy())) for name, points in named])

    def _series(self) -> bytes | None:
        """Up to three series with what the model makes of them, or beside ones that it draws."""
        x = self._test(3)
        if x.ndim not in (2, 3):
            return None
        made = None
        if isinstance(self.model, Reconstructor):
            made, name = self.model.reconstruct(x), "reconstruction"
        elif isinstance(self.model, Sampler):
            made, name = self.model.sample(3, self._generator("samples")), "sample"
        if made is None or made.shape != x.shape:
            return None
        before, after = (self._back(y).reshape(3, x.shape[1], -1) for y in (x, made))

        def draw(axes: Any) -> None:
            for each, real, own in zip(axes, before, after):
                each.plot(real[:, 0], c=drawing.COLOURS[7], lw=1, label="test row")
                each.plot(own[:, 0], c=drawing.COLOURS[0], lw=1.2, label=name)
                each.tick_params(labelsize=7)
            axes[0].legend(fontsize=7, frameon=False)

        return drawing.drawn(draw, columns=3)

    def _forecast(self) -> bytes | None:
        """Three test series, how they go on, and how the model says that they do: in the plane, or over time."""
        if not isinstance(self.model, Forecaster):
            return None
        from latentbench.running.run_data import view_of

        view = view_of(self.data, self.seeds, torch.device("cpu"))
        if "future" not in view.columns or len(view) < 3:
            return None
        future = np.asarray(view.columns["future"][:3])
        columns = {k: torch.from_numpy(v[:3].copy()) for k, v in view.columns.items() if k != "future"}
        x = view.x[:3]
        made = self.model.forecast(x, columns, future.shape[1]).numpy()
        before = self._back(x).reshape(3, x.shape[1], -1)

        def draw(axes: Any) -> None:
            for each, past, real, own in zip(axes, before, future, made):
                for rows, start, look, colour, name in (
                    (past, 0, ".", drawing.COLOURS[7], "test row"),
                    (real, len(past), "-", drawing.COLOURS[1], "what follows"),
                    (own, len(past), "-", drawing.COLOURS[0], "forecast"),
                ):
                    at = rows.T if rows.shape[1] == 2 else (start + np.arange(len(rows)), rows[:, 0])
                    each.plot(*at, look, c=colour, lw=1.2, ms=3, label=name)
                each.tick_params(labelsize=7)
            axes[0].legend(fontsize=7, frameon=False)

        return drawing.drawn(draw, columns=3)

    def _graph(self) -> bytes | None:
        """The nodes of most edges: which are joined, and how likely the model holds it."""
        if not isinstance(self.model, LinkPredictor):
            return None
        from latentbench.running.run_data import view_of

        batch = view_of(self.data, self.seeds, torch.device("cpu")).batch()
        edges = batch.parts.get("edges")
        if edges is None or edges.ndim != 2 or edges.shape[1] != 2:
            return None
        degree = torch.bincount(edges.flatten(), minlength=len(batch.x))
        nodes = degree.argsort(descending=True, stable=True)[:NODES]
        place = torch.full((len(batch.x),), -1)
        place[nodes] = torch.arange(len(nodes))
        ends = place[edges]
        joined = torch.zeros(len(nodes), len(nodes))
        joined[tuple(ends[(ends >= 0).all(1)].T)] = 1.0
        scores = self.model.link_scores(batch, torch.cartesian_prod(nodes, nodes)).reshape(len(nodes), -1)
        panels = (("edges", torch.maximum(joined, joined.T)), ("scores", scores))

        def draw(axes: Any) -> None:
            for each, (name, matrix) in zip(axes, panels):
                each.imshow(matrix.float().numpy(), cmap="magma", interpolation="nearest")
                each.set_title(f"{name} among the {len(nodes)} best-joined nodes", fontsize=8)
                each.set_xticks([])
                each.set_yticks([])

        return drawing.drawn(draw, columns=2)

    def _sentences(self) -> bytes | None:
        """Samples, and test rows with their reconstructions, as text."""
        entry = self.data.entry
        words = self._vocabulary()
        if words is None or not isinstance(self.model, Sampler):
            return None

        def said(tokens: Any) -> str:
            numbers = np.asarray(tokens).astype(int).reshape(-1).tolist()
            while len(numbers) > 1 and numbers[-1] == numbers[-2]:  # what a sentence is filled up with
                numbers.pop()
            mark = "" if max(map(len, words)) == 1 else " "
            return mark.join(words[i] if 0 <= i < len(words) else "?" for i in numbers)[:LONGEST].rstrip()

        lines = ["samples", ""]
        drawn = self.data.pipeline.inverse(self.model.sample(SENTENCES, self._generator("samples")))
        lines += [said(row) for row in drawn]
        if isinstance(self.model, Reconstructor):
            x = self._test(SENTENCES)
            back = self.data.pipeline.inverse(self.model.reconstruct(x))
            lines += ["", f"test rows of {entry.name}, and their reconstructions below", ""]
            for real, own in zip(self._stored(SENTENCES), back):
                lines += [said(real), f"  {said(own)}"]
        return ("\n".join(lines) + "\n").encode()

    def _vocabulary(self) -> list[str] | None:
        """The word of each number; None where the dataset has none."""
        if "vocabulary" not in self.data.entry.splits:
            return None
        from latentbench.data.dataset import open_dataset

        text = open_dataset(self.data.entry.name).table("vocabulary")["text"]
        return [bytes(np.asarray(text[i])).decode(errors="replace") for i in range(len(text))]
