"""A record as lines of a pack: what the seeds of a method share stands once, in a line of its own.

There are four kinds of lines, each a JSON object whose first key says which it is and whose first value is its name::

    {"cell":"<hash>", …}         what was asked of a method on a dataset: specification without seed, metrics, hashes
    {"environment":"<hash>", …}  code, packages, machine and command
    {"run":"<run-id>","cell":"<hash>","environment":"<hash>","measured":[[value, se, n, failure, details], …], …}
    {"whole":"<run-id>","record":{…}}   a record that these three do not give back exactly

A run has its costs in the order of the names that its cell gives, and says of `status`, `error`, `outcomes`,
`resumed_from` and `faults` only what is not as usual: finished, none of the others.

Cells and environments are named by the hash of their content, so two branches that add seeds of one method add the same
line. No line depends on another's place: sorted or not, once or twice, they say the same.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal, cast

Kind = Literal["cell", "environment", "run", "whole"]
Json = dict[str, Any]

#: What a name may be: a run's is that of a folder, too.
NAME = rb"(?!\.)[A-Za-z0-9._+-]{1,255}"
LINE = re.compile(rb'\{"(cell|environment|run|whole)":"(' + NAME + rb')",')
_CELL = ("format", "suite", "version", "tier", "method", "dataset", "exact", "curve")
_SEED = ("seed", "axes")
_ENVIRONMENT = (
    "git_revision",
    "git_dirty",
    "packages",
    "python",
    "platform",
    "device",
    "threads",
    "devices",
    "command",
    "design",
)
_MEASURED = ("value", "se", "n", "failure", "details")
_APART = ("run_id", "hashes", "spec", "metrics", "cost", "provenance")
#: Keys of a run, and of a cell, that are not those of its record.
IN_RUN = frozenset(("run", "cell", "environment", "axes", "spec", "measured", "cost", "provenance"))
_NOT_AS_IS = frozenset(("hashes", "spec", "metrics", "cost"))
#: What a run says only where it is otherwise.
_USUAL: Json = {"status": "finished", "error": None, "outcomes": []}
_USUALLY_MADE: Json = {"resumed_from": None, "faults": []}


def lines_of(record: Json) -> list[str]:
    """The lines that a record becomes, to the same JSON when `joined`; without line breaks."""
    try:
        cell, environment, run = _parted(record)
        whole = canonical(joined(run, cell, environment)) != canonical(record)
    except (KeyError, TypeError, AttributeError, ValueError):
        whole = True
    if whole:
        return [_line("whole", record["run_id"], {"record": record})]
    shared = [(kind, named(content), content) for kind, content in (("cell", cell), ("environment", environment))]
    content = {kind: name for kind, name, _ in shared} | {k: v for k, v in run.items() if k != "run"}
    return [*(_line(kind, name, content) for kind, name, content in shared), _line("run", run["run"], content)]


def joined(run: Json, cell: Json, environment: Json) -> Json:
    """The record of the three parts, which are left as they are; its cell's specification is not copied in depth.

    Raises:
        KeyError, TypeError, AttributeError, ValueError: they do not belong together.
    """
    record = {k: v for k, v in cell.items() if k not in _NOT_AS_IS}
    record.update((k, v) for k, v in run.items() if k not in IN_RUN)
    record["run_id"] = run["run"]
    record["hashes"] = {"spec": run["spec"], **cell["hashes"]}
    record["spec"] = cell["spec"] | {k: run[k] for k in _SEED if k in run}
    record["metrics"] = [
        {**m, "value": value, "se": se, "n": n, "failure": failure, "details": details}
        for m, (value, se, n, failure, details) in zip(cell["metrics"], run["measured"], strict=True)
    ]
    record["cost"] = dict(zip(cell["cost"], run["cost"], strict=True))
    record["provenance"] = environment["provenance"] | run["provenance"]
    return record


def _parted(record: Json) -> tuple[Json, Json, Json]:
    cell = {k: record[k] for k in _CELL if k in record}
    cell |= {k: v for k, v in _USUAL.items() if k in record}
    cell["hashes"] = {k: v for k, v in record["hashes"].items() if k != "spec"}
    cell["spec"] = {k: v for k, v in record["spec"].items() if k not in _SEED}
    cell["metrics"] = [{k: v for k, v in m.items() if k not in _MEASURED} for m in record["metrics"]]
    cell["cost"] = list(record["cost"])
    made: Json = record["provenance"]
    shared = {k: v for k, v in made.items() if k in _ENVIRONMENT}
    run = {"run": record["run_id"], "spec": record["hashes"]["spec"]}
    run |= {k: v for k, v in record["spec"].items() if k in _SEED}
    run["measured"] = [[m[k] for k in _MEASURED] for m in record["metrics"]]
    run |= {k: v for k, v in sorted(record.items()) if k not in (*_CELL, *_APART) and not _usual(_USUAL, k, v)}
    run["cost"] = list(record["cost"].values())
    own = {k: v for k, v in sorted(made.items()) if k not in _ENVIRONMENT}
    run["provenance"] = {k: v for k, v in own.items() if not _usual(_USUALLY_MADE, k, v)}
    return cell, {"provenance": shared | {k: v for k, v in _USUALLY_MADE.items() if k in made}}, run


def _usual(usual: Json, key: str, value: Any) -> bool:
    return key in usual and usual[key] == value


def named(content: Mapping[str, Any]) -> str:
    """The name of a cell or environment: 16 hexadecimal digits of the hash of what is in it."""
    return hashlib.sha256(canonical(content).encode()).hexdigest()[:16]


def canonical(value: Any) -> str:
    """The same text for the same JSON, which tells 1 from 1.0."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _line(kind: str, name: str, content: Mapping[str, Any]) -> str:
    return json.dumps({kind: name, **content}, separators=(",", ":"), allow_nan=False)


def numbered(text: bytes) -> Iterator[tuple[int, Kind | None, str, bytes]]:
    """Number, kind, name and content of each line that is not empty; kind None where it is of no known form."""
    for number, line in enumerate(text.split(b"\n"), 1):
        if line := line.strip():
            found = LINE.match(line)
            yield (
                (number, cast(Kind, found[1].decode()), found[2].decode(), line) if found else (number, None, "", line)
            )
