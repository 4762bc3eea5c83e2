"""A small crossed design: how much of a number's spread is initialisation, data order and evaluation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from latentbench.core.errors import UserError
from latentbench.core.seeds import Axis
from latentbench.planning.plan import RunSpec
from latentbench.records.beside import WEIGHTS
from latentbench.records.record import Record, read_record
from latentbench.running.observer import ProgressReport, Report
from latentbench.running.settings import Settings
from latentbench.stats.components import Components, variance_components

#: Axes of the seed that move together as one axis of the design.
INIT: tuple[Axis, ...] = ("init",)
ORDER: tuple[Axis, ...] = ("order", "noise")
EVALUATION: tuple[Axis, ...] = ("evaluation", "preprocess")
#: Evaluations of each training.
EVALUATIONS = 3


@dataclass(frozen=True)
class Noise:
    """One metric of one method on one dataset."""

    method: str
    dataset: str
    metric: str
    unit: str
    mean: float
    components: Components


def design(spec: RunSpec, levels: int, evaluations: int) -> list[list[RunSpec]]:
    """The runs of a method's design: a list a training, its evaluations in it, the first of which trains."""
    trainings = []
    for i, o in product(range(levels), repeat=2):
        trained: dict[Axis, int] = dict.fromkeys(INIT, i) | dict.fromkeys(ORDER, o)
        each = (trained | dict.fromkeys(EVALUATION, e) for e in range(evaluations))
        trainings.append([replace(spec, axes=axes) for axes in each])
    return trainings


def measure_noise(
    specs: Sequence[RunSpec],
    settings: Settings,
    jobs: int,
    *,
    levels: int = 3,
    evaluations: int = EVALUATIONS,
    report: Report = lambda _: None,
    finished: Callable[[str], None] = lambda _: None,
) -> list[Noise]:
    """Run the design of each method and split each metric's spread.

    Args:
        specs: one run a method and dataset; their seeds serve for the axes that the design leaves alone.
        settings: `results` is where the design's own records go, apart from those that count for leaderboards.
        jobs: trainings side by side.
        levels: of initialisation and of data order, 2 or more.
        evaluations: evaluation seeds a training, 1 or more.
        report: told how it goes.
        finished: told the cell of each run that has its record.

    Raises:
        UserError: a run failed.
    """
    from latentbench.scheduling.local import run_all

    settings = replace(settings, weights=True)
    designs = [design(spec, levels, evaluations) for spec in specs]
    records: dict[str, Record] = {}

    def done(spec: RunSpec, record: Record, cached: bool) -> None:  # noqa: ARG001
        if record.status != "finished":
            raise UserError(f"{spec.cell} is {record.status}: {record.error}", fix="run it alone to see why")
        records[spec.cell] = record
        finished(spec.cell)

    run_all([training[0] for one in designs for training in one], settings, jobs, report, done)
    for training in (t for one in designs for t in one):
        for spec in training[1:]:
            report(ProgressReport(spec.cell, "evaluation"))
            records[spec.cell] = _evaluated(spec, training[0], records[training[0].cell], settings)
            finished(spec.cell)
    return [n for spec, one in zip(specs, designs, strict=True) for n in _split(spec, one, records, levels)]


def _evaluated(spec: RunSpec, trained: RunSpec, record: Record, settings: Settings) -> Record:
    """`spec` evaluated on the weights that `trained` left behind; models without weights are fitted again."""
    from lightning.fabric import Fabric
    from safetensors.torch import load_file

    from latentbench.acceleration.distributed import devices_for
    from latentbench.records.archive import run_folder
    from latentbench.records.record import write_record
    from latentbench.running import provenance
    from latentbench.running.conductor import Notes
    from latentbench.running.experiment import run_experiment
    from latentbench.running.recording import make_record
    from latentbench.scheduling.task import perform

    data_hash = record.hashes["data"]
    path = run_folder(spec, data_hash, settings.results) / "record.json"
    if path.is_file():
        return read_record(path)
    file: Path = run_folder(trained, data_hash, settings.results) / WEIGHTS
    if not file.is_file():
        return perform(spec, settings)[0]
    started = provenance.now()
    fabric = Fabric(accelerator=settings.device, devices=1, precision=spec.training["precision"])
    fabric.launch()
    outcome = run_experiment(spec, fabric, weights=load_file(file))
    wall = sum(outcome.seconds.values())
    notes = Notes(devices=devices_for(spec, settings))
    made = make_record(
        spec, settings, data_hash, spec.run_id(data_hash), "finished", None, outcome, started, wall, notes
    )
    write_record(path, made)
    return made


def _split(spec: RunSpec, trainings: list[list[RunSpec]], records: dict[str, Record], levels: int) -> list[Noise]:
    import numpy as np

    found = []
    for metric in spec.metrics:
        measured = [[records[s.cell].value(metric.key) for s in training] for training in trainings]
        values = [[m.value for m in row if m is not None and m.value is not None] for row in measured]
        if any(len(row) != len(trainings[0]) for row in values):
            continue  # a metric without a value in some run has no spread to split
        table = np.array(values, dtype=np.float64).reshape(levels, levels, -1)
        components = variance_components(table)
        found.append(Noise(spec.method, spec.dataset, metric.key, metric.entry.unit, float(table.mean()), components))
    return found
