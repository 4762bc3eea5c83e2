"""Text that would do harm if a page took it for anything but text."""

from __future__ import annotations

from typing import Any

SCRIPT = "</script><script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
QUOTES = "\"' onmouseover='x' \" autofocus onfocus=\"document.title='owned'\" {{ 7*7 }} {% raw %} ${7*7} <!-- ]]>"
ARABIC = "\u0646\u0645\u0648\u0630\u062c"
EMOJI = "\N{WOMAN}\u200d\N{MICROSCOPE} \N{FAMILY} e\u0301\u0332"
STEERING = "\u202egnirts\u2066 \x1b[2J\x00\x9b"
LONG = "x" * 3000

HOSTILE = f"{SCRIPT} {QUOTES} {ARABIC} {EMOJI} {STEERING}"


def changes() -> dict[str, Any]:
    """Changes to the tests' small suite that put hostile text wherever a suite holds free text."""
    claim = {"text": HOSTILE, "where": HOSTILE, "metric": "nll", "dataset": "line"}
    return {
        "paper.title": HOSTILE,
        "paper.authors": [HOSTILE, LONG],
        "paper.venue": HOSTILE,
        "paper.bibtex": HOSTILE,
        "paper.arxiv": "javascript:alert(1)",
        "paper.code": {"url": "javascript:alert(1)", "licence": HOSTILE},
        "summary": HOSTILE,
        "methods.wide.label": HOSTILE,
        "methods.narrow.label": LONG,
        "tiers.cpu.deviations": [HOSTILE, LONG],
        "tiers.cpu.cost": HOSTILE,
        "protocol": [{"item": HOSTILE, "value": LONG, "status": "inferred", "source": HOSTILE}],
        "reported": [
            {
                "table": HOSTILE,
                "source": HOSTILE,
                "method": "wide",
                "dataset": "line",
                "metric": "nll",
                "unit": "nats",
                "value": 1.5,
                "note": HOSTILE,
                "row": HOSTILE,
                "column": LONG,
            }
        ],
        "claims": [
            claim | {"id": "first", "kind": "order", "better": "wide", "worse": "narrow"},
            claim | {"id": "second", "kind": "bound", "method": "wide", "at_most": 0.5},
            claim | {"id": "third", "kind": "value", "method": "wide", "tolerance": 0.1},
        ],
    }
