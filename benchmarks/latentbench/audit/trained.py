"""A run's model as it was trained, taken up from its record and the weights beside it."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from latentbench.audit.rebuild import find_record, rebuild
from latentbench.core.errors import UserError
from latentbench.core.paths import shown
from latentbench.planning.plan import RunSpec
from latentbench.records.beside import WEIGHTS, folder_of
from latentbench.records.record import Record

if TYPE_CHECKING:
    from torch import Tensor

    from latentbench.evaluation.view import View

#: What a method of `TrainedModel` needs of the model -> the capability's name.
_NEEDS = {"sample": "Sampler", "reconstruct": "Reconstructor", "encode": "Encoder", "decode": "Decoder"}


class TrainedModel:
    """A model with the weights of a run, on the CPU, and the data that it was evaluated on.

    Rows go in and come out as they are stored (pixels 0 .. 255, images (H, W) or (H, W, C)); preprocessing is done and
    undone here. Everything that draws takes a seed, and gives the same for the same.

    Attributes:
        record: what came out of the run, and where it was made.
        spec: what was asked for.
        model: the module itself, in evaluation mode.
        view: the test split as metrics see it: `x` preprocessed, `raw` as stored, `columns` with labels and factors.
    """

    def __init__(self, record: Record, spec: RunSpec, weights: Path) -> None:
        self.record, self.spec, self._weights = record, spec, weights

    def __repr__(self) -> str:
        able = ", ".join(name for name in _NEEDS if callable(getattr(self.model, name, None)))
        return f"<TrainedModel {self.record.run_id}: {able or 'no samples, reconstructions or codes'}>"

    @cached_property
    def _data(self) -> Any:
        from latentbench.running.run_data import load_data

        return load_data(self.spec)

    @cached_property
    def view(self) -> View:
        import torch

        from latentbench.running.run_data import view_of

        return view_of(self._data, self.spec.seeds, torch.device("cpu"))

    @cached_property
    def model(self) -> Any:
        from latentbench.running.trained import trained_model

        return trained_model(self.spec, self._data, self._weights)

    def sample(self, n: int = 16, *, seed: int = 0) -> NDArray[np.float32]:
        """(n, *stored shape) samples of the model, in stored units.

        Raises:
            UserError: it draws none.
        """
        import torch

        self._must("sample")
        with torch.no_grad():
            return self._stored(self.model.sample(n, torch.Generator().manual_seed(seed)))

    def rows(self, n: int = 16) -> NDArray[Any]:
        """The first n test rows, as stored: what `reconstruct` and `encode` take by default."""
        return np.asarray(self.view.raw[:n])

    def reconstruct(self, rows: int | NDArray[Any] = 16, *, seed: int = 0) -> NDArray[np.float32]:
        """(N, *stored shape) the mean of p(x | posterior mean), in stored units.

        Args:
            rows: how many of the first test rows, or rows of your own, as stored.
            seed: of preprocessing that draws, such as binarising.

        Raises:
            UserError: the model reconstructs nothing, or these are no rows of its data.
        """
        import torch

        self._must("reconstruct")
        with torch.no_grad():
            return self._stored(self.model.reconstruct(self._given(rows, seed)))

    def encode(self, rows: int | NDArray[Any] = 16, *, seed: int = 0) -> NDArray[np.float32]:
        """(N, D) posterior means of the codes; arguments and errors as of `reconstruct`."""
        import torch

        self._must("encode")
        with torch.no_grad():
            return np.asarray(self.model.encode(self._given(rows, seed)))

    def decode(self, codes: NDArray[Any]) -> NDArray[np.float32]:
        """(N, *stored shape) the mean of p(x | code) for (N, D) topmost codes, in stored units.

        Raises:
            UserError: the model decodes nothing.
        """
        import torch

        self._must("decode")
        with torch.no_grad():
            return self._stored(self.model.decode(torch.as_tensor(np.asarray(codes, dtype=np.float32))))

    def _given(self, rows: int | NDArray[Any], seed: int) -> Tensor:
        import torch

        stored = self.rows(rows) if isinstance(rows, int) else np.asarray(rows)
        y: Tensor = self._data.pipeline.forward(stored, torch.Generator().manual_seed(seed))[0]
        return y

    def _stored(self, y: Tensor) -> NDArray[np.float32]:
        return np.asarray(self._data.pipeline.inverse(y).detach())

    def _must(self, method: str) -> None:
        if not callable(getattr(self.model, method, None)):
            able = [name for name in _NEEDS if callable(getattr(self.model, name, None))]
            raise UserError(
                f"model {self.spec.model!r} is no {_NEEDS[method]}, so it cannot {method}",
                where=self.record.run_id,
                fix=f"it can {', '.join(able)}" if able else "take a run of another method",
            )


def take_up(run: str) -> TrainedModel:
    """The model of a run, by its identifier (or the start of it), its folder, or its record's file.

    Raises:
        UserError: no such record, no weights beside it, or not those that the record names.
    """
    path, record = find_record(run)
    spec, weights = rebuild(record, path), folder_of(path) / WEIGHTS
    if record.status != "finished":
        raise UserError(f"it is {record.status}: {record.error}", where=record.run_id, fix="take a finished run")
    if not weights.is_file():
        raise UserError(
            "its weights are not here, for records travel without them",
            where=record.run_id,
            fix=f"make them: latentbench run {record.suite} --tier {record.tier} --method '{record.method}' "
            f"--dataset '{record.dataset}' --seeds {record.seed},",
        )
    with open(weights, "rb") as f:
        if hashlib.file_digest(f, "sha256").hexdigest() != record.files.get(WEIGHTS):
            raise UserError("these are not the weights that its record names", where=shown(weights), fix="run it again")
    return TrainedModel(record, spec, weights)
