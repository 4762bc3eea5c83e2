"""Means over several environments: what is said, refused, split."""

from __future__ import annotations

import json

import pytest
from latentbench.results.compare import compare_sides
from latentbench.results.environments import by_environment, under_policy
from latentbench.results.gather import gather
from latentbench.results.leaderboard import leaderboard
from latentbench.results.sides import side
from latentbench.results.verdicts import verdicts

from tests.project import write_made_up

PACKAGES = {"torch": "2.13.0+cpu", "numpy": "2.4.6", "scipy": "1.17.1", "scikit-learn": "1.9.1", "pandas": "3.0.0"}
ORDER = {
    "id": "order",
    "kind": "order",
    "text": "wide is better",
    "where": "Table 1",
    "better": "wide",
    "worse": "narrow",
    "dataset": "line",
    "metric": "nll",
}
WITHOUT_SCIPY = {"packages": {k: v for k, v in PACKAGES.items() if k != "scipy"}}
VALUES = {"wide": [1.0, 1.2, 1.1, 1.15], "narrow": [2.0, 2.3, 2.2, 2.1]}


def here(**others):
    """Provenance of the usual environment, with other versions."""
    return {"packages": PACKAGES | {k.replace("_", "-"): v for k, v in others.items()}}


def fill(project, made=None, values=VALUES):
    """Records by method and seed; `made` is the provenance of some: (method, seed) -> parts."""
    changes = {"claims": [ORDER], "tiers.cpu.seeds": 4}
    loaded = project.load(changes)
    for method, numbers in values.items():
        for spec in project.plan("cpu", changes, methods=[method]):
            parts = (made or {}).get((method, spec.seed), here())
            write_made_up(spec, {"nll": numbers[spec.seed]}, made=parts)
    return gather(loaded, "cpu")


def rows_of(gathered):
    return {r.method: r for r in leaderboard(gathered, metric="nll")}


def test_one_environment_says_nothing(project):
    found = fill(project)
    assert [r.mixed for r in rows_of(found).values()] == ["", ""]
    (said,) = verdicts(found)
    assert (said.mixed, said.environment, said.verdict) == ("", "", "reproduced")
    assert by_environment(found) == [found]
    assert under_policy(found, "refuse")[0].refuses_mixed
    assert [r.mark for r in rows_of(under_policy(found, "refuse")[0]).values()] == ["best", ""]


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (here(scikit_learn="1.6.1"), "scikit-learn 1.6.1 (seed 1), 1.9.1 (seeds 0, 2, 3)"),
        (here(torch="2.13.1+cpu"), "torch 2.13.0 (seeds 0, 2, 3), 2.13.1 (seed 1)"),
        (here(numpy="2.4.7"), "numpy 2.4.6 (seeds 0, 2, 3), 2.4.7 (seed 1)"),
        (here(torch="2.13.0+cu126") | {"device": "cuda"}, "device cpu (seeds 0, 2, 3), cuda (seed 1)"),
        (here() | {"platform": "Darwin arm64"}, "platform Darwin arm64 (seed 1), test (seeds 0, 2, 3)"),
        (WITHOUT_SCIPY, "scipy 1.17.1 (seeds 0, 2, 3), unknown (seed 1)"),
        (here(torch="2.13.0"), ""),  # a build is no other version
        (here(pandas="2.0.0"), ""),  # computes nothing
    ],
)  # fmt: skip
def test_what_differs_is_said_beside_the_number(project, other, said):
    found = fill(project, {("wide", 1): other})
    rows = rows_of(found)
    assert rows["wide"].mixed == said
    assert rows["narrow"].mixed == "", "of its own seeds alone"
    assert [r.mark for r in rows.values()] == ["best", ""], "said, and no more"
    (verdict,) = verdicts(found)
    assert verdict.verdict == "reproduced"
    assert bool(verdict.mixed) == bool(said) == ("several environments" in verdict.text)


def test_what_a_model_imports_counts_and_what_it_does_not_does_not(project):
    named = {"packages": PACKAGES | {"gensim": "4.4.0"}, "depends": ["gensim"]}
    later = {"packages": PACKAGES | {"gensim": "4.5.0"}, "depends": ["gensim"]}
    of_old = {"packages": PACKAGES}
    made = {("wide", 0): named, ("wide", 1): later, ("wide", 2): of_old, ("wide", 3): named}
    found = fill(project, made | {("narrow", 0): {"packages": PACKAGES | {"gensim": "3.0"}}})
    rows = rows_of(found)
    assert rows["wide"].mixed == "gensim 4.4.0 (seeds 0, 3), 4.5.0 (seed 1), unknown (seed 2)"
    assert rows["narrow"].mixed == "", "installed, and not used"
    (said,) = verdicts(found)
    assert said.mixed == "gensim 4.4.0 (2 runs), 4.5.0 (1 run), unknown (1 run)"
    parts = by_environment(found)
    assert [p.environment for p in parts] == ["gensim 4.4.0", "gensim 4.5.0", "gensim unknown"]
    assert [(len(p.records("wide", "line")), len(p.records("narrow", "line"))) for p in parts] == [
        (2, 4),
        (1, 4),
        (1, 4),
    ], "what does not use it stands with every version"


def test_methods_of_different_environments_make_a_mixed_comparison(project):
    found = fill(project, {("narrow", k): here(torch="2.12.0") for k in range(4)})
    assert [r.mixed for r in rows_of(found).values()] == ["", ""], "no mean is mixed"
    assert verdicts(found)[0].mixed == "torch 2.12.0 (4 runs), 2.13.0 (4 runs)"


def test_refused_means_bear_no_mark_and_no_verdict(project):
    (found,) = under_policy(fill(project, {("wide", 1): here(scikit_learn="1.6.1")}), "refuse")
    rows = leaderboard(found, metric="nll")
    assert [(r.method, r.mark, r.refused) for r in rows] == [("narrow", "", False), ("wide", "", True)]
    (said,) = verdicts(found)
    assert (said.verdict, said.needed_n) == ("insufficient", None)
    assert said.reason.startswith("its runs are of several environments: scikit-learn 1.6.1 (1 run)")
    assert said.text.startswith(said.reason)


def test_split_means_are_those_of_each_environment_alone(project):
    other = here(scikit_learn="1.6.1")
    whole = fill(project, {(m, s): other for m in VALUES for s in (1, 3)})
    parts = under_policy(whole, "split")
    assert [p.environment for p in parts] == ["scikit-learn 1.6.1", "scikit-learn 1.9.1"]
    for part, seeds in zip(parts, [(1, 3), (0, 2)], strict=True):
        for method, row in rows_of(part).items():
            own = [VALUES[method][s] for s in seeds]
            assert (row.n, row.mean) == (2, pytest.approx(sum(own) / 2))
            assert (row.mixed, row.environment, row.missing) == ("", part.environment, 0)
        (said,) = verdicts(part)
        assert (said.environment, said.mixed, said.n) == (part.environment, "", 2)


def test_the_commands_say_refuse_and_split(project):
    fill(project, {("wide", 1): here(scikit_learn="1.6.1")})
    said = project("leaderboard", "small")
    assert "mixed: scikit-learn 1.6.1 (seed 1), 1.9.1 (seeds 0, 2, 3)" in " ".join(said.out.split())
    assert "several environments: scikit-learn" in project("leaderboard", "small", "--format", "md").out
    assert "several environments: scikit-learn" in project("leaderboard", "--all").out
    words = {
        policy: [
            v["verdict"] for v in json.loads(project("verdict", "small", "--mixed", policy, "--format", "json").out)
        ]
        for policy in ("say", "refuse", "split")
    }
    assert words["say"] == ["reproduced"]
    assert words["refuse"] == ["insufficient"]
    assert len(words["split"]) == 2
    rows = json.loads(project("leaderboard", "small", "--mixed", "split", "--format", "json").out)
    assert [(r["method"], r["environment"], r["n"]) for r in rows if r["metric"] == "nll"] == [
        ("wide", "scikit-learn 1.6.1", 1),
        ("wide", "scikit-learn 1.9.1", 3),
        ("narrow", "scikit-learn 1.9.1", 4),
    ]
    for command in ("leaderboard", "verdict"):
        for policy in ("refuse", "split"):
            assert project(command, "small", "--mixed", policy).code == 0
            assert project(command, "--mixed", policy).code == 0
    assert "in scikit-learn 1.6.1:" in project("verdict", "small", "--mixed", "split").out
    refused = project("leaderboard", "--write", "tables", "--mixed", "split")
    assert refused.code == 2
    assert "--mixed" in refused.errors[0]


def test_sides_of_a_comparison_in_different_environments(project):
    fill(project, {("narrow", k): here(torch="2.12.0") for k in range(4)})
    found = compare_sides(side("small/wide", "cpu"), side("small/narrow", "cpu"))
    assert [r.mixed for r in found.rows] == ["torch 2.13.0 in A, 2.12.0 in B"]
    assert "torch 2.13.0 in A, 2.12.0 in B" in project("compare", "small/wide", "small/narrow").out.replace("\n", " ")
