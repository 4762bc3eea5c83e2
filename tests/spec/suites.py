"""A suite as text, whose lines the tests change one at a time."""

TEXT = """\
id: small
version: 3
paper:
  title: A small suite
  authors: [A. Nobody]
  year: 2026
datasets:
  line:
    protocol: all
    preprocess: [standardise]
methods:
  wide:
    model: toy
    params: {spread: 2.0}
  vae-k{k}:
    grid: {k: [1, 5]}
    model: vae
    params: {latent_dim: 2, hidden: [4], k: "{k}"}
  floor:
    model: factorised
    baseline: true
metrics:
  nll: {methods: [wide, floor]}
  nll_iw:
    settings: {k: 10}
    methods: ["vae-*"]
training:
  optimizer: {name: adam, lr: 1e-2}
  batch_size: 40
  epochs: 2
overrides:
  - methods: vae-*
    training: {gradient_clip_norm: 5.0}
tiers:
  smoke:
    seeds: 1
    training: {epochs: 1}
    metrics:
      nll_iw: {k: 2}
  cpu:
    seeds: [0, 1]
    overrides:
      - methods: wide
        training: {epochs: 3}
reported:
  - {method: wide, dataset: line, metric: nll, value: 6.5, unit: nats, table: "1", source: nobody}
claims:
  - id: wide-equals
    kind: value
    text: equal
    where: table 1
    metric: nll
    dataset: line
    method: wide
    tolerance: 0.1
  - id: wide-beats-floor
    kind: order
    text: better
    where: table 1
    metric: nll
    dataset: line
    better: wide
    worse: floor
"""


def with_line(old: str, new: str, text: str = TEXT) -> tuple[str, int]:
    """`text` with the line `old` (without its indent, found once) replaced, and the number of the changed line.

    `new` may have several lines and keeps the indent of `old`; ``>`` marks the line that is asked for, else the first.
    """
    rows = text.splitlines()
    at = [i for i, row in enumerate(rows) if row.strip() == old]
    assert len(at) == 1, f"{old!r} stands {len(at)} times"
    indent = rows[at[0]][: len(rows[at[0]]) - len(rows[at[0]].lstrip())]
    put = new.splitlines()
    marked = next((i for i, row in enumerate(put) if row.startswith(">")), 0)
    rows[at[0] : at[0] + 1] = [indent + row.removeprefix(">") for row in put]
    return "\n".join(rows) + "\n", at[0] + marked + 1
