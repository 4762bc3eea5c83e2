"""A suite of thousands of runs, and records as these runs would have left them."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
from latentbench.core.paths import results_dir
from latentbench.data.manifest import content_hash_if_known
from latentbench.planning.fingerprint import engine_hash
from latentbench.planning.plan import RunSpec, plan
from latentbench.records.packform import lines_of
from latentbench.records.record import Cost, Measured, Provenance, Record, seal
from latentbench.running.recording import metric_identity
from latentbench.spec.loading import load_suite

SUITE = "large"
DATASETS, METHODS, METRICS, CLAIMS = 10, 100, 4, 120
_WIDTHS = [2, 4, 6, 8, 10, 12, 16, 20, 24, 32]
_KS = [1, 2, 3, 4, 5, 8, 10, 20, 40, 50]


def suite(seeds: int) -> dict[str, Any]:
    """A suite of 1000 * `seeds` runs at tier cpu: 100 methods on 10 datasets (digits, under ten names), with 4 metrics,
    100 reported numbers and 120 claims."""
    names = [f"digits-{i}" for i in range(DATASETS)]
    return {
        "id": SUITE,
        "version": 1,
        "paper": {"title": "A large suite", "authors": ["nobody"], "year": 2026},
        "datasets": {
            n: {"source": "digits", "protocol": "1297-200-300", "preprocess": ["flatten", {"binarise": "dynamic"}]}
            for n in names
        },
        "methods": {
            "iwae-k{k}-d{d}": {
                "grid": {"k": list(_KS), "d": list(_WIDTHS)},
                "model": "vae",
                "label": "IWAE, k = {k}, {d} latents",
                "params": {"latent_dim": "{d}", "hidden": [200, 200], "objective": "iwae", "k": "{k}"},
            }
        },
        "metrics": {"nll_iw": {"settings": {"k": 500}}, "elbo": {}, "active_units": {}, "mutual_information": {}},
        "training": {
            "optimizer": {"name": "adam", "lr": 0.001},
            "schedule": {"name": "cosine"},
            "batch_size": 100,
            "epochs": 40,
        },
        "tiers": {"cpu": {"seeds": seeds, "overrides": [{"methods": "iwae-k5*", "training": {"epochs": 50}}]}},
        "reported": [
            {
                "method": f"iwae-k{k}-d16",
                "dataset": name,
                "metric": "elbo",
                "value": -100.0 - k,
                "unit": "nats",
                "table": "Table 1",
                "source": "made up",
            }
            for name in names
            for k in _KS
        ],
        "claims": [claim for name in names for claim in _claims(name)],
    }


def _claims(dataset: str) -> list[dict[str, Any]]:
    """Nine orders, a trend, a bound and a value."""
    at = {"where": "Table 1", "text": "as the benchmark has it", "dataset": dataset, "metric": "elbo"}
    orders: list[dict[str, Any]] = [
        {"id": f"order-{dataset}-{k}", "kind": "order", "better": f"iwae-k{more}-d16", "worse": f"iwae-k{k}-d16"}
        for k, more in itertools.pairwise(_KS)
    ]
    trend: dict[str, Any] = {"methods": [f"iwae-k{k}-d16" for k in _KS], "direction": "rises", "form": "overall"}
    others: list[dict[str, Any]] = [
        {"id": f"trend-{dataset}", "kind": "trend", **trend},
        {"id": f"bound-{dataset}", "kind": "bound", "method": "iwae-k1-d2", "at_most": 0.0},
        {"id": f"value-{dataset}", "kind": "value", "method": "iwae-k50-d16", "tolerance": 1.0},
    ]
    return [{**at, **claim} for claim in orders + others]


def write_records() -> int:
    """Records of all runs of the suite in the results folder, a file each; their number."""
    count = 0
    for record in _records():
        path = results_dir() / "runs" / SUITE / record.run_id / "record.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(record.model_dump(mode="json"), indent=1) + "\n")  # fsync would take minutes
        count += 1
    return count


def write_pack() -> int:
    """The same records as references, in one file; their number."""
    records = [lines_of(record.model_dump(mode="json")) for record in _records()]
    path = results_dir() / "reference" / SUITE / "cpu.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("".join(f"{line}\n" for line in sorted({line for lines in records for line in lines})))
    return len(records)


def _records() -> Iterator[Record]:
    rng = np.random.default_rng(0)
    runs = plan(load_suite(SUITE), "cpu")
    data_hash = content_hash_if_known("digits") or "0" * 64
    identities = {m.key: metric_identity(m, runs[0], data_hash) for m in runs[0].metrics}
    for run in runs:
        record = _record(run, data_hash, identities, rng)
        yield record.model_copy(update={"seal": seal(record)})


def _record(run: RunSpec, data_hash: str, identities: dict[str, str], rng: np.random.Generator) -> Record:
    level = -100.0 + 0.3 * run.params["k"] + 0.5 * run.params["latent_dim"] + rng.normal()
    values = {"nll_iw": 2.0 - level, "elbo": level, "active_units": 10.0, "mutual_information": 8.0}
    return Record(
        run_id=run.run_id(data_hash),
        suite=run.suite,
        version=run.suite_version,
        tier=run.tier,
        method=run.method,
        dataset=run.dataset,
        seed=run.seed,
        status="finished",
        fingerprint=run.fingerprint(data_hash),
        hashes={"spec": run.spec_hash, "data": data_hash, "code": run.code_hash, "engine": engine_hash()},
        spec=run.settled(),
        metrics=[
            Measured(
                name=m.key,
                metric=m.name,
                value=values[m.key] + 0.1 * rng.normal(),
                se=0.4,
                n=300,
                unit=m.entry.unit,
                better=m.entry.better,
                likelihood=m.entry.kind(m.settings),
                identity=identities[m.key],
                details={"rate": 12.5, "distortion": 90.25, "effective_sample_size": 31.0},
            )
            for m in run.metrics
        ],
        curve="curve.csv",
        cost=Cost(wall_seconds=12.0, training_seconds=10.0, steps=520, epochs=40.0, parameters=123_456),
        provenance=Provenance(
            git_revision="0" * 40,
            git_dirty=False,
            packages={"latentbench": "0.1.0", "torch": "2.13.0", "lightning": "2.6.6", "numpy": "2.4.0"},
            python="3.11.7",
            platform="Linux x86_64",
            device="cpu",
            threads=1,
            command=["latentbench", "run", SUITE],
            started="2026-01-01T00:00:00+00:00",
            ended="2026-01-01T00:00:12+00:00",
        ),
    )
