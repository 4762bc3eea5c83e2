"""Two sides compared: methods, runs, revisions, folders."""

from __future__ import annotations

import json
import shutil
import subprocess

import latentbench as lb
import numpy as np
import pandas as pd
import pytest
from latentbench.planning.plan import plan
from latentbench.records.record import read_record
from latentbench.results.compare import Side, compare_sides, one_a_seed
from latentbench.stats.hypothesis_tests import hedges_g, holm
from scipy import stats

from tests.project import write_made_up, write_sealed

WIDE, NARROW = [1.0, 1.9, 1.2, 1.3], [1.6, 2.4, 1.5, 1.9]


def fill(project, values, tier="cpu", folder=None, **options):
    """Made-up records: method -> values by seed, None for a failed seed."""
    paths = []
    for method, numbers in values.items():
        for spec, number in zip(project.plan(tier, methods=[method], seeds=range(len(numbers))), numbers):
            status = "finished" if number is not None else "failed"
            paths.append(write_made_up(spec, {"nll": number}, status=status, folder=folder, **options))
    return paths


def only(found):
    (row,) = found.to_dict("records")
    return row


def test_methods_are_paired_by_seed(project):
    fill(project, {"wide": WIDE, "narrow": NARROW})
    row = only(lb.compare("small/narrow", "small/wide"))
    gaps = np.subtract(WIDE, NARROW)
    t = stats.ttest_rel(WIDE, NARROW).confidence_interval(0.95)
    assert row["difference"] == pytest.approx(gaps.mean())
    assert (row["ci_low"], row["ci_high"]) == pytest.approx(tuple(t))
    assert row["effect_size"] == pytest.approx(hedges_g(gaps.mean(), gaps.std(ddof=1), 3))
    assert row["word"] == ("better" if stats.ttest_rel(WIDE, NARROW).pvalue <= 0.05 else "open") == "better"
    other = only(lb.compare("small/wide", "small/narrow"))
    assert (other["word"], other["regression"]) == ("worse", True)
    assert other["difference"] == pytest.approx(-gaps.mean())


def test_open_says_how_many_seeds(project):
    fill(project, {"wide": [1.0, 1.9, 1.2], "narrow": [1.3, 1.8, 1.4]})
    row = only(lb.compare("small/narrow", "small/wide"))
    assert (row["word"], row["regression"]) == ("open", False)
    assert row["needed_n"] > 3
    assert "claimed" not in row["text"], "nobody claims a direction here"
    assert f"about {row['needed_n']:.0f} seeds of each" in row["text"]


def test_higher_is_better_turns_it_round(project):
    changes = {"metrics": {"active_units": {}}, "methods.wide": {"model": "vae", "params": {"latent_dim": 2}},
               "methods.narrow": {"model": "vae", "params": {"latent_dim": 3}}, "methods.floor": None}  # fmt: skip
    for method, values in {"wide": [5.0, 6.0, 5.0], "narrow": [1.0, 2.0, 2.0]}.items():
        for spec, number in zip(project.plan("cpu", changes, methods=[method]), values):
            write_made_up(spec, {"active_units": number})
    assert only(lb.compare("small/wide", "small/narrow"))["word"] == "worse"
    assert only(lb.compare("small/narrow", "small/wide"))["word"] == "better"


def test_two_runs_have_no_spread(project):
    fill(project, {"wide": WIDE, "narrow": NARROW})
    row = only(lb.compare("wide--line--cpu--s0", "narrow--line--cpu--s0"))
    assert row["word"] == "spread unknown"
    assert row["difference"] == pytest.approx(0.6)
    assert pd.isna(row["ci_low"])


def test_folders_are_compared_cell_by_cell(project, tmp_path):
    before, after = tmp_path / "before", tmp_path / "after"
    rng = np.random.default_rng(1)
    base = {"wide": rng.normal(1, 0.1, 5), "narrow": rng.normal(2, 0.1, 5)}
    fill(project, base, folder=before)
    fill(project, {"wide": base["wide"], "narrow": base["narrow"] + 0.5 + rng.normal(0, 0.01, 5)}, folder=after)
    found = lb.compare(str(before), str(after)).set_index("method")
    assert found["word"].to_dict() == {"wide": "same", "narrow": "worse"}
    answer = project("compare", before, after, "--fail-on", "regression")
    assert answer.code == 1
    assert "of 2 values that B and A share, B has 1 worse, 1 the same" in answer.out
    assert project("compare", before, after).code == 0, "it fails where it is asked to"
    assert project("compare", after, before, "--fail-on", "regression").code == 0
    assert project("compare", before, after, "--fail-on", "regression", "--dataset", "line").code == 1
    shown = json.loads(project("compare", before, after, "--format", "json").out)
    assert {r["method"]: r["regression"] for r in shown} == {"wide": False, "narrow": True}
    assert "\\toprule" in project("compare", before, after, "--format", "latex").out


def test_all_rows_share_the_five_percent(project, tmp_path):
    """Twenty comparisons of which one is clear by itself (p = 0.02) settle nothing."""
    rng, a, b = np.random.default_rng(3), tmp_path / "a", tmp_path / "b"
    ps = []
    for i in range(20):
        changes = {"methods": {f"m{i}": {"model": "toy", "params": {"spread": 1.0 + i}}}}
        gap = rng.normal(0, 0.1, 4)
        gap = (gap - gap.mean()) / gap.std(ddof=1) * 0.1 + (0.25 if i == 0 else 0.0)
        for spec, d in zip(project.plan("cpu", changes, seeds=range(4)), gap):
            write_made_up(spec, {"nll": 3.0}, folder=a)
            write_made_up(spec, {"nll": 3.0 + d}, folder=b)
        ps.append(stats.ttest_1samp(gap, 0).pvalue)
    assert min(ps) < 0.05 < min(holm(ps))
    words = lb.compare(str(a), str(b))["word"]
    assert set(words) == {"open"}


def test_a_seed_that_fails_now_is_a_regression(project, tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    fill(project, {"wide": [1.0, 1.1, 1.2]}, folder=a)
    fill(project, {"wide": [1.0, None, 1.2]}, folder=b)
    row = only(lb.compare(str(a), str(b)))
    assert (row["word"], row["regression"], row["failed_b"]) == ("failed", True, 1)
    assert "seed 1 failed in B and finished in A" in row["text"]
    assert only(lb.compare(str(b), str(a)))["word"] != "failed"


def test_other_quantities_are_never_compared(project, tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    fill(project, {"wide": [1.0, 1.1], "narrow": [1.0, 2.0]}, folder=a)
    fill(project, {"wide": [9.0, 9.1]}, folder=b, identity="b" * 12)
    answer = project("compare", a, b)
    assert "nothing can be compared" in answer.out
    assert "1 in A alone, 1 of another quantity" in answer.out


def test_rounding_of_what_has_no_randomness_is_the_same(project, tmp_path):
    a, b, c = tmp_path / "a", tmp_path / "b", tmp_path / "c"
    (spec,) = project.plan("cpu", {"methods.floor.exact": True}, methods=["floor"])
    assert spec.exact
    for folder, value in ((a, 3.0), (b, 3.0 + 1e-7), (c, 3.001)):
        write_made_up(spec, {"nll": value}, folder=folder)
    assert only(lb.compare(str(a), str(b)))["word"] == "same"
    assert only(lb.compare(str(a), str(c)))["word"] == "worse"


def test_suites_share_no_seeds(project):
    fill(project, {"wide": WIDE})
    other = project.load(name="other")
    for spec, number in zip(plan(other, "cpu", methods=["narrow"], seeds=range(4)), NARROW):
        write_made_up(spec, {"nll": number})
    row = only(lb.compare("other/narrow", "small/wide"))
    assert row["suite"] == "other, small"
    welch = stats.t.interval(0.95, 3, np.mean(WIDE) - np.mean(NARROW), np.hypot(stats.sem(WIDE), stats.sem(NARROW)))
    assert (row["ci_low"], row["ci_high"]) == pytest.approx(welch)


def test_revisions(project, monkeypatch):
    def git(*args):
        done = subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@t", *args], cwd=project.root,
                              check=True, capture_output=True, text=True)  # fmt: skip
        return done.stdout.strip()

    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "empty")
    for value in (1.0, 2.0):
        folder = project.results / "reference" / "small"
        shutil.rmtree(folder, ignore_errors=True)
        for k, spec in enumerate(project.plan("cpu", methods=["wide"], seeds=range(3))):
            path = write_made_up(spec, {"nll": value + k * value / 100}, folder=project.root / "made")
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, folder / f"{path.parent.name}.json")
        git("add", "results/reference")
        git("commit", "-q", "-m", f"records {value}")
        git("tag", f"v{value:.0f}")
    row = only(lb.compare("v1", "v2"))
    assert (row["difference"], row["word"]) == (pytest.approx(1.01), "worse")
    answer = project("compare", "v1", "HEAD")
    assert "the reference records of revision" in answer.out
    # what the code of a revision made stands before what was committed there
    head = git("rev-parse", "HEAD")
    for spec in project.plan("cpu", methods=["wide"], seeds=range(3)):
        path = write_made_up(spec, {"nll": 7.0})
        record = read_record(path)
        record = record.model_copy(update={"provenance": record.provenance.model_copy(update={"git_revision": head})})
        write_sealed(path, record)
    assert only(lb.compare("v1", "HEAD"))["mean_b"] == pytest.approx(7.0)
    assert project("compare", "v1~1", "v2").code == 2, "no record there"


@pytest.mark.parametrize("name", ["absent", "--output=/tmp/x", "small/absent", "", "a\0b"])
def test_what_is_no_side(project, name):
    fill(project, {"wide": WIDE})
    answer = project("compare", "--", "small/wide", name)
    assert answer.code == 2
    assert len(answer.errors) == 1


def test_of_several_records_of_a_seed_the_newest_finished_counts(project, tmp_path):
    paths = fill(project, {"wide": [1.0]}, code="0" * 64, ended="2026-01-01T00:00:00+00:00", folder=tmp_path)
    paths += fill(project, {"wide": [2.0]}, code="1" * 64, ended="2026-02-01T00:00:00+00:00", folder=tmp_path)
    paths += fill(project, {"wide": [None]}, code="2" * 64, ended="2026-03-01T00:00:00+00:00", folder=tmp_path)
    (kept,) = one_a_seed(map(read_record, paths))
    assert kept.value("nll").value == 2.0


def test_nothing_shared_is_said():
    side = Side("x", "nothing", [], single=True)
    assert compare_sides(side, side).summary() == "x and x share no metric of one identity, so nothing can be compared"


def test_results_of_another_folder(project, tmp_path):
    """Every command takes ``--results``, for itself alone."""
    elsewhere = tmp_path / "elsewhere"
    fill(project, {"wide": WIDE})
    fill(project, {"wide": [5.0, 5.0, 5.1]}, folder=elsewhere / "runs/small")
    mean = json.loads(project("leaderboard", "small", "--results", elsewhere, "--format", "json").out)[0]["mean"]
    assert mean == pytest.approx(np.mean([5.0, 5.0, 5.1]))
    assert json.loads(project("leaderboard", "small", "--format", "json").out)[0]["mean"] == pytest.approx(
        np.mean(WIDE)
    )
    answer = project("status", "--results", tmp_path / "absent")
    assert answer.code == 2
    assert "--results" in answer.errors[0]
