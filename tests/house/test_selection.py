"""CI runs the tests of suites that changed and the slow ones of rooms that did, and a tenth of the others in turn."""

from __future__ import annotations

import os
import subprocess
import sys
from itertools import chain

import pytest

from tests.changes import base_revision, changed_rooms, changed_suites, room_of
from tests.project import REPOSITORY, marks_of
from tests.selection import MOST, ROUND, here, select

PAPERS = [f"paper-{i}" for i in range(326)]
#: Files of slow tests in two rooms, more of each than there are.
SLOW = [f"tests/{room}/test_{i}.py" for room in ("data", "scheduling/executors") for i in range(100)]


def test_what_changed_is_taken_and_a_tenth_of_the_rest():
    found = select(PAPERS, {"paper-7": "files", "paper-8": "fingerprint"}, turn=3, since="abc")
    assert found.suites[:2] == ["paper-7", "paper-8"]
    assert 15 < len(found.suites) < 60
    assert found.why[:3] == ["2 suites changed since abc", "  paper-7: files", "  paper-8: fingerprint"]
    assert found == select(PAPERS, {"paper-8": "fingerprint", "paper-7": "files"}, turn=3, since="abc")


def test_a_round_takes_every_suite_and_none_twice():
    rounds = [select(PAPERS, {}, turn).suites for turn in range(100, 100 + ROUND)]
    assert sorted(chain(*rounds)) == sorted(PAPERS)
    assert select(PAPERS, {}, 100 + ROUND).suites == rounds[0]


@pytest.mark.parametrize("changed", [dict.fromkeys(PAPERS, "fingerprint"), None], ids=["all", "unknown"])
def test_where_all_changed_as_many_are_taken_as_there_is_time_for(changed):
    taken = [select(PAPERS, changed, turn).suites for turn in range(ROUND)]
    assert {len(suites) for suites in taken} == {MOST}
    assert len(set(chain(*taken))) > 0.9 * len(PAPERS), "others at the next turn"


def test_edited_folders_go_before_what_else_changed():
    changed = dict.fromkeys(PAPERS, "fingerprint") | {"paper-300": "files"}
    assert all("paper-300" in select(PAPERS, changed, turn).suites for turn in range(ROUND))


def test_slow_tests_run_where_their_room_changed_and_a_tenth_of_the_others_in_turn():
    rounds = [select(PAPERS, {}, turn, rooms={"data", "cli"}) for turn in range(ROUND)]
    of_data, others = SLOW[:100], SLOW[100:]
    assert all(found.takes_slow(file) for found in rounds for file in of_data)
    taken = [[file for file in others if found.takes_slow(file)] for found in rounds]
    assert sorted(chain(*taken)) == sorted(others), "each once in a round"
    assert max(map(len, taken)) < 25
    assert "slow tests of cli, data, and a tenth of the other files with some" in rounds[0].why


def test_where_nothing_can_be_compared_with_all_slow_tests_run():
    assert all(map(select(PAPERS, None, turn=3).takes_slow, SLOW))


@pytest.mark.parametrize(
    ("file", "room"),
    [
        ("benchmarks/latentbench/scheduling/executors/ray.py", "scheduling"),
        ("tests/scheduling/test_kills.py", "scheduling"),
        ("benchmarks/latentbench/declare.py", None),
        ("tests/project.py", None),
        ("suites/vgae/gae.py", None),
        ("docs/tests/index.md", None),
    ],
)
def test_a_room_is_a_folder_of_the_package_with_its_tests(file, room):
    assert room_of(file) == room


@pytest.mark.slow
def test_suites_change_with_their_files_and_with_the_code_that_they_reach(clone):
    base = clone.git("rev-parse", "HEAD")
    assert base_revision(clone.root) is None, "there is no history"
    assert changed_suites(clone.root, base) == {}
    (clone.root / "suites/iwae/notes.md").write_text("Another word.\n")
    (clone.root / "suites/pic/new.md").write_text("A new file, which git does not know yet.\n")
    entry = clone.root / "data/registry/cite-seq-pca50.yaml"
    assert changed_suites(clone.root, base) == {"iwae": "files", "pic": "files"}
    assert changed_rooms(clone.root, base) == [], "a suite is not a room"
    (clone.root / "tests/audit/test_new.py").write_text("NOTHING = None\n")
    clone.commit()
    assert base_revision(clone.root) == base, "on main, the revision before"
    clone.git("switch", "--quiet", "--create", "topic")
    source = next(clone.root.glob("benchmarks/**/light_sb.py"), None) or next(clone.root.glob("suites/*/light_sb.py"))
    source.write_text(source.read_text().replace("epsilon", "temperature"))
    entry.write_text(entry.read_text() + "# a comment\n")
    clone.commit()
    main = clone.git("rev-parse", "main")
    assert base_revision(clone.root) == main, "on a branch, where it left main"
    found = changed_suites(clone.root, main)
    assert changed_rooms(clone.root, main) == sorted({room_of(str(source.relative_to(clone.root)))} - {None})
    assert changed_rooms(clone.root, base) == sorted({"audit", *changed_rooms(clone.root, main)})
    assert "light-schrodinger-bridge" in found
    assert "iwae" not in found
    assert len(found) < 5


def test_on_main_all_that_a_push_brings_is_compared(tmp_path, monkeypatch):
    monkeypatch.delenv("LATENTBENCH_BASE", raising=False)

    def commit(text, hour):
        at = f"2026-03-01T{hour:02}:00:00Z"
        dates = {"GIT_AUTHOR_DATE": at, "GIT_COMMITTER_DATE": at}
        name = ("-c", "user.name=one", "-c", "user.email=one@example.org")
        call = ("git", *name, "commit", "--quiet", "--allow-empty", "--message", text)
        subprocess.run(call, cwd=tmp_path, check=True, env=os.environ | dates)
        return subprocess.check_output(("git", "rev-parse", "HEAD"), cwd=tmp_path, text=True).strip()

    subprocess.run(("git", "init", "--quiet", "--initial-branch", "main"), cwd=tmp_path, check=True)
    first = commit("as it was", 1)
    commit("one of a push", 6)
    assert base_revision(tmp_path) == first, "the revision before, where none is six hours old"
    commit("another of it", 9)
    assert base_revision(tmp_path) == first


def test_what_a_paper_declares_belongs_to_its_suite():
    (mark,) = marks_of("latentbench.papers.gumbel_softmax.estimators:Straight")
    assert mark.args == ("gumbel-softmax",)
    assert marks_of("latentbench.models.vae:VAE") == []


def test_without_git_all_count_as_changed(tmp_path):
    for name in ("one", "two"):
        (tmp_path / "suites" / name).mkdir(parents=True)
        (tmp_path / "suites" / name / "suite.yaml").touch()
    found = here(tmp_path)
    assert sorted(found.suites) == ["one", "two"]
    assert found.why[0] == "no earlier revision to compare with: all 2 suites count as changed"


@pytest.mark.slow
@pytest.mark.parametrize(("asked", "taken"), [("gon,vae", {"gon", "vae"}), ("all", None)])
def test_pytest_runs_what_is_selected(asked, taken):
    command = [sys.executable, "-m", "pytest", "-n", "0", "--collect-only", "--suites", asked]
    done = subprocess.run([*command, "tests/house/test_smoke.py"], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    found = {line.partition("[")[2].rstrip("]") for line in done.stdout.splitlines() if "smoke_tier_runs[" in line}
    assert found == (taken or {path.parent.name for path in REPOSITORY.glob("suites/*/suite.yaml")})
    assert ("deselected" in done.stdout) == (taken is not None)
