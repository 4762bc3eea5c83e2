"""Every mistake in a suite: one line with file, line number and the way to mend it, exit code 2, nothing lost."""

from __future__ import annotations

import pytest

from tests.project import Project
from tests.spec.suites import TEXT, with_line

#: What is wrong: (line of the suite, what stands there instead, words of the message, words of the remedy).
FORM = {
    "no YAML": ("version: 3", "version: [3\n>paper:", "not YAML", "mend"),
    "unknown key": ("version: 3", "verson: 3", "unknown key 'verson'", "did you mean 'version'?"),
    "unknown key in a method": ("baseline: true", "base_line: true", "methods.floor.base_line", "'baseline'"),
    "unknown key of a grid": ("grid: {k: [1, 5]}", "grid: {k: [1, 5]}\n>lable: x", "vae-k1.lable", "'label'"),
    "unknown key in training": ("batch_size: 40", "batchsize: 40", "training.batchsize", "'batch_size'"),
    "unknown key in a tier": ("seeds: 1", "seed: 1", "tiers.smoke.seed", "'seeds'"),
    "unknown key in a tier's training": (
        "training: {epochs: 1}",
        "training:\n>  epoch: 1",
        "tiers.smoke.training.epoch",
        "'epochs'",
    ),
    "unknown key in a claim": ("tolerance: 0.1", "tolerence: 0.1", "claims.0.tolerence", "'tolerance'"),
    "a value's key in an order": (
        "worse: floor",
        "worse: floor\n>tolerance: 1",
        "claims.1.tolerance",
        "are known; its documentation",
    ),
    "missing key": ("id: small", "# id: small", "'id' is missing", "add it"),
    "id of another file": ("id: small", "id: large", "not the file's name", "the same"),
    "twice the same key": ("batch_size: 40", "batch_size: 40\n>batch_size: 50", "stands twice", "keep one"),
    "negative epochs": ("epochs: 2", "epochs: -2", "training.epochs: input should be greater", "change"),
    "epochs as text": ("epochs: 2", "epochs: 'two'", "training.epochs", "change"),
    "epochs yes": ("epochs: 2", "epochs: yes", "training.epochs", "change"),
    "epochs and steps": ("batch_size: 40", "steps: 5", "both given", ""),
    "batch of nothing": ("batch_size: 40", "batch_size: 0", "training.batch_size", "change"),
    "negative learning rate": ("optimizer: {name: adam, lr: 1e-2}", "optimizer: {lr: -1}", "training.optimizer.lr", ""),
    "unknown optimiser": ("optimizer: {name: adam, lr: 1e-2}", "optimizer: {name: adem}", "optimizer.name", ""),
    "no seeds": ("seeds: 1", "seeds: 0", "at least one seed", "change"),
    "an empty list of seeds": ("seeds: 1", "seeds: []", "at least one seed", "change"),
    "negative seeds": ("seeds: 1", "seeds: [-1]", "not negative", "change"),
    "the same seed twice": ("seeds: 1", "seeds: [1, 1]", "distinct", "change"),
    "seeds as text": ("seeds: 1", "seeds: many", "seeds are a number", "change"),
    "negative epochs in a tier": (
        "training: {epochs: 1}",
        "training: {epochs: -1}",
        "tiers.smoke.training.epochs: input should be greater",
        "change",
    ),
    "no tolerance": ("tolerance: 0.1", "tolerance: 0", "claims.0.tolerance", "change"),
    "unknown tier": ("cpu:", "gpu:", "tiers.gpu", "change"),
    "unknown kind of claim": ("kind: order", "kind: ordre", "claims.1", ""),
    "a number that is none": ("tolerance: 0.1", "tolerance: .nan", "no number", "finite"),
    "a grid without values": ("grid: {k: [1, 5]}", "grid: {k: []}", "must be a list", "e.g."),
    "a trap for the reader": ("title: A small suite", "title: !!python/name:os.system", "not allowed", "plain"),
}

MEANING = {
    "unknown model": ("model: factorised", "model: factorized", "unknown model 'factorized'", "'factorised'"),
    "unknown parameter": ("params: {spread: 2.0}", "params: {spred: 2.0}", "no parameter 'spred'", "'spread'"),
    "unknown dataset": ("line:", "lime:", "unknown dataset 'lime'", "'line'"),
    "unknown protocol": ("protocol: all", "protocol: al", "no protocol 'al'", "'all'"),
    "unknown metric": ("nll: {methods: [wide, floor]}", "nil: {methods: [wide]}", "unknown metric 'nil'", "'nll'"),
    "unknown setting": ("settings: {k: 10}", "settings: {K: 10}", "no setting 'K'", "did you mean 'k'?"),
    "a metric's k of nothing": ("settings: {k: 10}", "settings: {k: 0}", "k of metric 'nll_iw' is 0", "1 or more"),
    "a metric's k as text": ("settings: {k: 10}", "settings: {k: ten}", "is 'ten'", "give a number"),
    "a tier's k of nothing": ("nll_iw: {k: 2}", "nll_iw: {k: 0}", "k of metric 'nll_iw' is 0", "1 or more"),
    "a tier's unknown metric": ("nll_iw: {k: 2}", "nlliw: {k: 2}", "no metric 'nlliw'", "'nll_iw'"),
    "a lacking capability": (
        "nll: {methods: [wide, floor]}",
        "nll: {}",
        "metric 'nll' needs ExactLikelihood, which model 'vae'",
        "methods:",
    ),
    "a method of a claim": ("better: wide", "better: wild", "method 'wild', which this suite does not have", "'wide'"),
    "a dataset of a reported number": (
        '- {method: wide, dataset: line, metric: nll, value: 6.5, unit: nats, table: "1", source: nobody}',
        '- {method: wide, dataset: lyne, metric: nll, value: 6.5, unit: nats, table: "1", source: nobody}',
        "dataset 'lyne', which this suite does not have",
        "'line'",
    ),
    "another unit": (
        '- {method: wide, dataset: line, metric: nll, value: 6.5, unit: nats, table: "1", source: nobody}',
        '- {method: wide, dataset: line, metric: nll, value: 6.5, unit: bits, table: "1", source: nobody}',
        "'bits'",
        "convert",
    ),
    "a number reported twice": (
        '- {method: wide, dataset: line, metric: nll, value: 6.5, unit: nats, table: "1", source: nobody}',
        '- {method: wide, dataset: line, metric: nll, value: 6.5, unit: nats, table: "1", source: nobody}\n'
        '>- {method: wide, dataset: line, metric: nll, value: 6.6, unit: nats, table: "1", source: nobody}',
        "'nll' of 'wide' on 'line' in '1' is reported twice",
        "keep one",
    ),
    "a pattern for nothing": ('methods: ["vae-*"]', 'methods: ["vea-*"]', "selects nothing", "vae-k1"),
    "an override for nothing": ("- methods: vae-*", "- methods: vea-*", "selects nothing", "vae-k1"),
    "a claim twice": ("- id: wide-beats-floor", "- id: wide-equals", "stands twice", "its own id"),
    "a model's k of nothing": ("grid: {k: [1, 5]}", "grid: {k: [0, 5]}", "k of model 'vae' is 0", "greater than 0"),
    "a model's width of nothing": (
        'params: {latent_dim: 2, hidden: [4], k: "{k}"}',
        'params: {latent_dim: 0, hidden: [4], k: "{k}"}',
        "latent_dim of model 'vae' is 0",
        "greater than 0",
    ),
    "a plug-in's own check": ("params: {spread: 2.0}", "params: {spread: -1}", "spread is -1", "0 or more"),
    "unknown preprocessing": ("preprocess: [standardise]", "preprocess: [standardize]", "standardize", "'standardise'"),
    "preprocessing that does not fit": ("preprocess: [standardise]", "preprocess: [dequantise]", "integer values", ""),
    "a step that is no name": (
        "preprocess: [standardise]",
        "preprocess: [[{a: 1}]]",
        "one name with",
        "",
    ),
    "two steps in one": ("preprocess: [standardise]", "preprocess: [{flatten: , logit: }]", "one name with", ""),
    "a name that holds the separator": ("wide:", "wide--one:", "name 'wide--one' holds `--`", "one dash is free"),
    "two names for one file": ("floor:", "wide=1: {model: toy}\n>wide,1:", "are both 'wide_1'", "rename"),
    "no length of training": ("epochs: 2", "# epochs: 2", "no length of training", "epochs"),
}

#: Where the line to mend is another than the changed one.
ELSEWHERE = {
    "missing key": 2,  # the mapping that lacks it starts there
    "epochs and steps": TEXT.splitlines().index("training:") + 1,
    "unknown kind of claim": TEXT.splitlines().index("  - id: wide-beats-floor") + 1,
    "a model's k of nothing": TEXT.splitlines().index('    params: {latent_dim: 2, hidden: [4], k: "{k}"}') + 1,
    "a method of a claim": TEXT.splitlines().index("  - id: wide-beats-floor") + 1,
    "no length of training": TEXT.splitlines().index("  cpu:") + 1,
}
CASES = {**FORM, **MEANING}


def refused(project: Project, command: tuple[str, ...], text: str, line: int, words: str, remedy: str) -> None:
    path = project.write("small", text)
    answer = project(*command)
    assert answer.code == 2
    assert answer.out == ""
    found = [e for e in answer.errors if words in e]
    assert found, answer.err
    assert f"suites/{path.name}:{line}: " in found[0]
    assert remedy in found[0]
    assert found[0].endswith(")"), "it says how to mend it"
    assert "Traceback" not in answer.err


@pytest.mark.parametrize("case", CASES)
def test_validate(project, case):
    old, new, words, remedy = CASES[case]
    text, line = with_line(old, new)
    refused(project, ("validate", "small"), text, ELSEWHERE.get(case, line), words, remedy)


@pytest.mark.parametrize("case", ["no YAML", "unknown key in a tier's training", "negative epochs", *MEANING])
def test_run_refuses_before_it_does_anything(project, case):
    old, new, words, remedy = CASES[case]
    text, line = with_line(old, new)
    tier = "cpu" if case == "no length of training" else "smoke"
    refused(project, ("run", "small", "--tier", tier), text, ELSEWHERE.get(case, line), words, remedy)
    assert not (project.results / "runs").exists()


def test_the_suite_itself_is_fine(project):
    project.write("small", TEXT)
    answer = project("validate", "small")
    assert (answer.code, answer.out, answer.errors) == (0, "ok: small\n", [])


def test_a_claim_about_what_is_not_measured(project):
    text, _ = with_line("better: wide", "better: vae-k1")
    line = TEXT.splitlines().index("  - id: wide-beats-floor") + 1
    refused(project, ("validate", "small"), text, line, "'nll' of 'vae-k1' on 'line'", "widen")


def test_a_value_without_its_number(project):
    old = '- {method: wide, dataset: line, metric: nll, value: 6.5, unit: nats, table: "1", source: nobody}'
    text, _ = with_line(old, "[]")
    line = text.splitlines().index("  - id: wide-equals") + 1
    refused(project, ("validate", "small"), text, line, "no reported number", "add it under `reported`")


def test_all_faults_are_shown_each_on_a_line_of_its_own(project):
    text, first = with_line("model: factorised", "model: factorized")
    text, _ = with_line("better: wide", "better: wild", text)
    project.write("small", text)
    answer = project("validate", "small")
    assert answer.code == 2
    assert len(answer.errors) == len(answer.err.splitlines()) == 2
    assert f":{first}: unknown model" in answer.errors[0]


def test_a_bad_suite_does_not_hide_a_good_one(project):
    project.write("small", TEXT)
    project.write("broken", TEXT.replace("id: small", "id: broken").replace("version: 3", "version: three"))
    answer = project("validate")
    assert answer.code == 2
    assert answer.out == "ok: small\n"
    assert len(answer.errors) == 1
    assert "suites/broken.yaml:2: version:" in answer.errors[0]


@pytest.mark.parametrize(
    ("text", "words"), [("", "a suite is a mapping"), ("- a\n", "a suite is a mapping"), ("just text", "a mapping")]
)
def test_what_is_no_suite_at_all(project, text, words):
    project.write("small", text)
    answer = project("validate", "small")
    assert answer.code == 2
    assert len(answer.errors) == 1
    assert words in answer.errors[0]


def test_records_survive_a_suite_that_breaks(project):
    project.write("small", TEXT)
    assert project.run("small", "--tier", "smoke", "--quiet").code == 0
    kept = {p: p.read_bytes() for p in project.results.rglob("*") if p.is_file()}
    assert any(p.name == "record.json" for p in kept)
    for old, new in [
        ("version: 3", "verson: 3"),
        ("settings: {k: 10}", "settings: {k: 0}"),
        ("epochs: 2", "epochs: -1"),
    ]:
        project.write("small", with_line(old, new)[0])
        for command in ("run", "validate", "status", "leaderboard", "verdict"):
            if command != "run" and old.startswith("settings"):
                continue  # reading commands do not ask what a run would
            assert project(command, "small", *(["--tier", "smoke"] if command == "run" else [])).code == 2
    assert {p: p.read_bytes() for p in project.results.rglob("*") if p.is_file()} == kept
