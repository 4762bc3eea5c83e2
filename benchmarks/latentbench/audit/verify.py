"""What can be checked of a results folder that somebody sends: that its hashes chain, and that its numbers come out.

The chain: the specification hashes to what the record says, specification, data and code to the fingerprint, the
fingerprint to the run's name; the files beside the record to the hashes in it, and all of it to the seal. Hashes show
damage and careless edits. Whoever edits a number can seal it anew, so stored weights of a sample are evaluated again.
"""

from __future__ import annotations

import hashlib
import math
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Literal

from latentbench.audit.rebuild import hash_holds, rebuild
from latentbench.core.errors import UserError
from latentbench.core.paths import safe_name, shown
from latentbench.data.dataset import open_dataset
from latentbench.data.manifest import content_hash_if_known, prepared_dir, read_manifest
from latentbench.data.registry import load_entry
from latentbench.planning.engines import era
from latentbench.planning.fingerprint import digest
from latentbench.planning.plan import RunSpec
from latentbench.records.below import declarations_below, packs_below, records_below
from latentbench.records.beside import CURVE, WEIGHTS, curve_of, folder_of, most_bytes
from latentbench.records.declared import read_declaration
from latentbench.records.former import made_by_todays
from latentbench.records.pack import SUFFIX, Pack
from latentbench.records.record import Record, place_fault, read_record, seal_fault
from latentbench.running.recording import metric_identity
from latentbench.running.watch import DataWatch
from latentbench.spec.registry import find_metric, find_model

#: Relative difference that evaluating the same weights on another machine may make.
TOLERANCE = 1e-4


@dataclass
class Checked:
    """What was found in one record, declaration of interim analyses, lines of a pack, or the data of this machine.

    Attributes:
        path: its file.
        kind: which of them it is.
        run_id: what it calls itself; of a declaration, the suite and tier that it is about; of data, their name.
        faults: what does not hold: damage, edits, numbers that no run produced.
        remarks: what could not be checked here, or differs for a reason that is no fault.
        evaluated: metrics that came out again from the stored weights.
        has_weights: whether its numbers could be evaluated again, as far as can be seen.
    """

    path: Path
    kind: Literal["record", "declaration", "pack", "data"] = "record"
    run_id: str = ""
    faults: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    evaluated: list[str] = field(default_factory=list)
    has_weights: bool = False


def verify(
    folder: Path,
    *,
    sample: int = 0,
    seed: int = 0,
    within: float | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> list[Checked]:
    """Check every record and declaration below `folder`, and evaluate the stored weights of `sample` records again.

    Args:
        folder: a results folder, or a single record's.
        sample: how many records with weights to evaluate again; -1 for all.
        seed: of the choice.
        within: sample those alone whose evaluation took no more seconds, and whose data are prepared here.
        tell: told what is evaluated.

    Raises:
        UserError: no such folder, or no records in it.
    """
    paths = list(records_below(folder))
    declared = [_declaration(path) for path in declarations_below(folder)]
    packs = [_pack(pack) for pack in packs_below(folder)]
    if not paths and not declared and not packs:
        raise UserError(
            "no records here", where=shown(folder), fix="give a results folder, or one that holds <run>/record.json"
        )
    found, sound = [], []
    for path in paths:
        checked = Checked(path)
        found.append(checked)
        try:
            record = read_record(path)
            checked.run_id = record.run_id
            spec = _chain(record, path, checked)
        except UserError as e:
            checked.faults.append(f"{e.what} ({e.fix})" if e.fix else e.what)  # its file is named anyway
            continue
        except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError) as e:
            checked.faults.append(f"it asks for what makes no sense: {type(e).__name__} {e}"[:300])
            continue
        sound.append((checked, record, spec))
    _twins(sound)
    for checked, record, _ in sound:
        checked.has_weights = WEIGHTS in record.files and _plain(folder_of(checked.path) / WEIGHTS)
    candidates = [one for one in sound if one[0].has_weights and (within is None or _is_at_hand(one[1], within))]
    chosen = candidates if sample < 0 else random.Random(seed).sample(candidates, min(sample, len(candidates)))
    damaged = _damaged_data([record for _, record, _ in chosen])
    for checked, record, spec in chosen:
        if record.spec["data"]["source"] in damaged:
            continue
        tell(record.run_id)
        _evaluate(checked, record, spec)
    for checked, record, _ in sound:
        if not checked.evaluated and not checked.faults and any(m.value is not None for m in record.metrics):
            why = "it is not in the sample" if checked.has_weights else "its weights are not here"
            why = "its data are damaged here" if record.spec["data"]["source"] in damaged else why
            checked.remarks.append(f"its numbers were not evaluated again: {why}")
    return found + [pack for pack in packs if pack.faults] + declared + list(damaged.values())


def _is_at_hand(record: Record, within: float) -> bool:
    """Whether evaluating a record again is a matter of seconds."""
    entry = load_entry(record.spec["data"]["source"])
    return record.cost.evaluation_seconds <= within and (entry.kind == "rendered" or read_manifest(entry) is not None)


def _damaged_data(records: Sequence[Record]) -> dict[str, Checked]:
    """The datasets of records that are prepared here and do not hash to what they say, by name."""
    found: dict[str, Checked] = {}
    for source in dict.fromkeys(record.spec["data"]["source"] for record in records):
        if read_manifest(load_entry(source)) is None:  # it is prepared, and hashed, when it is opened
            continue
        if (fault := DataWatch(open_dataset(source)).fault()) is not None:
            found[source] = Checked(prepared_dir() / source, "data", source, [fault])
    return found


def _declaration(path: Path) -> Checked:
    checked = Checked(path, "declaration")
    try:
        declared = read_declaration(path)
        checked.run_id = f"{declared.suite}-{declared.tier}"
    except UserError as e:
        checked.faults.append(f"{e.what} ({e.fix})" if e.fix else e.what)
    except OSError as e:
        checked.faults.append(f"it cannot be read: {e.strerror}")
    return checked


def _pack(pack: Pack) -> Checked:
    """Lines of a pack that are none, or that are not what their name says."""
    return Checked(pack.path, "pack", pack.path.stem, [*pack.faults, *pack.unused()])


def _chain(record: Record, path: Path, checked: Checked) -> RunSpec:
    faults, remarks = checked.faults, checked.remarks
    if (fault := seal_fault(record)) is not None:
        faults.append(fault)
    spec = rebuild(record, path)
    if not hash_holds(spec, record):
        faults.append("its specification does not hash to hashes.spec")
    if record.fingerprint not in (possible := _fingerprints(record)):
        faults.append("spec, data, code and engine do not hash to its fingerprint")
    fingerprint = record.fingerprint if record.fingerprint in possible else possible[0]
    if record.run_id != f"{spec.cell}--{fingerprint[:10]}":
        faults.append(f"its run_id is not {spec.cell}--{fingerprint[:10]}")
    packed = path.parent.suffix == SUFFIX
    if (fault := place_fault(record, path)) is not None:
        faults.append(fault)
    known = content_hash_if_known(record.spec["data"]["source"])
    if known is None:
        remarks.append(f"dataset {spec.data['source']} is not here, so its hash was not compared")
    elif known != record.hashes["data"]:
        remarks.append("made with other data than are here")
    if not made_by_todays(record, spec):
        remarks.append("made by other code than is here")
    if record.curve not in (None, CURVE):
        faults.append("its learning curve has another name than runs give it")
    for file, expected in record.files.items():
        if not (packed and file == CURVE and curve_of(record, path) is not None):  # which is held to its hash
            _file(folder_of(path), file, expected, checked, needed=path.name == "record.json")
    if record.provenance.started > record.provenance.ended:
        remarks.append("it ended before it started: the clock was set while it ran")
    _numbers(record, spec, faults)
    return spec


def _fingerprints(record: Record) -> list[str]:
    """What a record's hashes may come to: with its engine or the first that this equals; with none in old records."""
    parts = [record.hashes["spec"], record.hashes["data"], record.hashes["code"]]
    engine = record.hashes.get("engine")
    return [digest(parts)] if engine is None else [digest([*parts, e]) for e in (engine, era(engine))]


def _file(folder: Path, name: str, expected: str, checked: Checked, *, needed: bool) -> None:
    if safe_name(name) != name:
        checked.faults.append(f"it names a file outside its folder: {name[:100]!r}")
        return
    path = folder / name
    if not _plain(path):
        if needed and os.path.lexists(path):
            checked.faults.append(f"{name} is a link, or no file")
        else:  # records travel alone, as those under results/reference do
            checked.remarks.append(f"{name} is not there")
        return
    if path.stat().st_size > (most := most_bytes(name)):
        checked.faults.append(f"{name} is larger than {most >> 20} MiB")
        return
    try:
        with open(path, "rb") as f:
            hashed = hashlib.file_digest(f, "sha256").hexdigest()
    except OSError as e:
        checked.faults.append(f"{name} cannot be read: {e.strerror}")
        return
    if hashed != expected:
        checked.faults.append(f"{name} does not hash to what the record says")


def _plain(path: Path) -> bool:
    return not path.is_symlink() and path.is_file()


def _numbers(record: Record, spec: RunSpec, faults: list[str]) -> None:
    """What the numbers must satisfy, whichever they are."""
    asked = [m.key for m in spec.metrics]
    if [m.name for m in record.metrics] != asked:
        faults.append(f"its metrics are not those asked for: {', '.join(asked)}")
        return
    for metric, measured in zip(spec.metrics, record.metrics, strict=True):
        entry = find_metric(metric.name)
        if (measured.unit, measured.better) != (entry.unit, entry.better) or measured.metric != metric.name:
            faults.append(f"{measured.name}: unit or direction is not that of metric {metric.name}")
        if measured.likelihood != entry.kind(metric.settings):
            faults.append(f"{measured.name}: it is no likelihood of kind {measured.likelihood!r}")
        if measured.identity != metric_identity(metric, spec, record.hashes["data"]):
            faults.append(f"{measured.name}: its identity is not that of its settings and data")
        if record.status == "finished" and measured.value is None and not measured.failure:
            faults.append(f"{measured.name}: neither a value nor a failure")
        if record.status != "finished" and measured.value is not None:
            faults.append(f"{measured.name}: a value from a run that is {record.status}")
        if measured.se is not None and measured.se < 0:
            faults.append(f"{measured.name}: a negative standard error")
    if record.cost.training_seconds > record.cost.wall_seconds + 1.0:
        faults.append("training took longer than the whole run")


def _is_ratio(value: float, n: int | None) -> bool:
    """Whether it may be so many of `n` rows, or another ratio of small counts (an F1, a mean over a few problems).

    Ratios with denominators up to 1,000 lie some 1e-6 apart, so hardly any other number is as near to one.
    """
    share = 0 <= value <= 1 and math.isclose(value * (n or 1), round(value * (n or 1)), rel_tol=1e-9)
    return share or math.isclose(value, Fraction(value).limit_denominator(1000), rel_tol=1e-12)


def _twins(sound: Sequence[tuple[Checked, Record, RunSpec]]) -> None:
    """Runs with different seeds that agree in every bit, though their method draws random numbers.

    Counts, whole numbers and their ratios say nothing: an AUROC of 1 is 1 for every seed, and 4 of 5,000 may be any
    two. Where nothing is trained by gradients, two seeds may come to the one optimum (k-means on the same rows), which
    is remarked.
    """
    seen: dict[str, tuple[Checked, int]] = {}
    for checked, record, spec in sound:
        kept = zip(record.metrics, spec.metrics)  # of one length, or that is a fault already
        told = [(m.value, m.n) for m, asked in kept if m.value is not None and not asked.entry.counts]
        told = [(v, n) for v, n in told if v != round(v)]
        # A zero that is off by a rounding proves no copy; where two are off by different ones, nothing was copied.
        tells = not all(abs(v - round(v)) <= 1e-12 or _is_ratio(v, n) for v, n in told)
        if record.status != "finished" or spec.exact or not tells or record.cost.steps == 0:
            continue
        key = digest([record.suite, record.method, record.dataset, record.tier, [v for v, _ in told]])
        if key in seen and seen[key][1] != record.seed:
            by_gradients = "Iterative" not in find_model(spec.model).can
            found = checked.faults if by_gradients else checked.remarks
            found.append(f"the same numbers in every bit as seed {seen[key][1]}, from another seed")
        seen.setdefault(key, (checked, record.seed))


def _evaluate(checked: Checked, record: Record, spec: RunSpec) -> None:
    """Evaluate the stored weights again, and compare every number."""
    from lightning.fabric import Fabric
    from safetensors.torch import load_file

    from latentbench.running.experiment import run_experiment

    if not made_by_todays(record, spec):
        checked.remarks.append("its weights were evaluated by other code than made them")
    try:
        weights = load_file(folder_of(checked.path) / WEIGHTS)
        fabric = Fabric(accelerator="cpu", devices=1, precision=spec.training["precision"])
        fabric.launch()
        outcome = run_experiment(spec, fabric, weights=weights)
    except Exception as e:  # weights of another model, parameters out of reach: torch raises what it likes
        checked.faults.append(f"its weights cannot be evaluated: {type(e).__name__} {' '.join(str(e).split())[:200]}")
        return
    for measured in record.metrics:
        again = outcome.values.get(measured.name)
        if (again is None) != (measured.value is None):
            checked.faults.append(f"{measured.name}: {measured.value} in the record, none from its weights or reverse")
        elif again is not None and measured.value is not None:
            scale = max(abs(measured.value), 1e-3)
            if abs(again.value - measured.value) > TOLERANCE * scale:
                checked.faults.append(
                    f"{measured.name}: {measured.value:.6g} in the record, {again.value:.6g} from its weights"
                )
            else:
                checked.evaluated.append(measured.name)
