"""The library that draws DVC's plots, as a file beside them, so that a browser shows them without a network.

``python -m latentbench.report.vega FILE`` writes it. DVC's own pages ask a server for it.
"""

from __future__ import annotations

import sys
from pathlib import Path

#: The Vega-Lite that the templates in ``.dvc/plots`` are written for.
VEGA_LITE = "5.21"


def write_library(path: Path) -> None:
    """Write Vega, Vega-Lite and Vega-Embed as one script, from the package ``vl-convert-python``."""
    import vl_convert

    from latentbench.records.record import write_atomically

    write_atomically(path, vl_convert.javascript_bundle(vl_version=VEGA_LITE))  # type: ignore[call-arg]


if __name__ == "__main__":
    write_library(Path(sys.argv[1]))
