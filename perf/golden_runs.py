"""One side of the golden set: the runs of a tree, a line of JSON each.

Executed by path under either tree's code, so it imports nothing but what both have. Arguments: the package's name; the
function that does an experiment, where the package does not say itself; the chosen runs as JSON.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import sys
from pathlib import Path
from typing import Any

import torch
from lightning.fabric import Fabric

PACKAGE, EXPERIMENT, CHOSEN = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])


def bring(name: str) -> Any:
    return importlib.import_module(f"{PACKAGE}.{name}")


def say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


def main() -> None:
    torch.set_num_threads(1)
    fingerprint, plan = bring("planning.fingerprint"), bring("planning.plan").plan
    load_suite = bring("spec.loading").load_suite
    say(engine=fingerprint.engine_hash() if hasattr(fingerprint, "engine_hash") else None)
    for suite, methods in CHOSEN.items():
        try:
            loaded = load_suite(Path(suite) if suite.endswith(".yaml") else suite)
            runs = plan(loaded, "smoke")
        except Exception as e:  # another revision may have no such suite, or read it otherwise
            say(fault=f"{suite}: {e}")
            continue
        for run in runs:
            if {"*", run.method, f"{run.method} on {run.dataset}"} & set(methods):
                say(**asked(run), **done(run, *(EXPERIMENT or fingerprint.ENGINE).split(":")))


def asked(run: Any) -> dict[str, Any]:
    """What a run is: its name, what it asks for, its code."""
    training = bring("spec.protocol").Training.model_validate(run.training)
    spec = run.settled() | {"model": run.model, "training": training.model_dump(mode="json", exclude_defaults=True)}
    return {"run": f"{run.suite} {run.method} on {run.dataset}", "spec": spec, "code": run.code_hash} | (
        {"roots": roots_of(run)} if EXPERIMENT else {}
    )


def roots_of(run: Any) -> dict[str, str]:
    """What today's `RunSpec.roots` gives, of a run of the revision that had none."""
    steps = bring("data.steps").STEPS
    names = [s if isinstance(s, str) else next(iter(s)) for s in run.data["preprocess"]]
    roots = {f"model {run.model}": run.target} | {f"metric {m.name}": m.target for m in run.metrics}
    roots |= {f"step {name}": f"{PACKAGE}.data.steps:{steps[name].__name__}" for name in names}
    oracle = bring("data.registry").load_entry(run.data["source"]).oracle
    return roots | ({f"oracle {run.data['source']}": oracle} if oracle else {})


def done(run: Any, module: str, function: str) -> dict[str, Any]:
    """What came out: values and standard errors bit for bit, what failed, a hash of the final weights."""
    fabric = Fabric(accelerator="cpu", devices=1, precision=run.training["precision"])
    fabric.launch()
    try:
        out = getattr(bring(module), function)(run, fabric)
    except Exception as e:  # the other side may fail in the same way
        return {"failed": f"{type(e).__name__}: {e}"}
    times = {m.key for m in run.metrics if m.entry.unit == "ms"}
    values = {k: [bits(v.value), bits(v.se)] for k, v in out.values.items() if k not in times}
    hashed = hashlib.sha256()
    state = out.model.state_dict() if hasattr(out.model, "state_dict") else {}
    for key, tensor in sorted(state.items()):
        hashed.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
        hashed.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return {"values": values, "failures": sorted(out.failures), "weights": hashed.hexdigest()}


def bits(value: float | None) -> str | None:
    return None if value is None else float(value).hex()


main()
