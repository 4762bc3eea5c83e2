"""The list of scientific faults keeps pace with the source, and the tool that plants them tells who noticed."""

from __future__ import annotations

import signal
import time

import pytest
import yaml

from perf import mutants
from perf.mutants import CHECKOUT, Fault, Outcome, faults, report

EVERY = list(faults())


def test_the_list_is_long_and_its_names_are_unique():
    names = [f.name for f in EVERY]
    assert len(names) >= 150
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("file", sorted({f.file for f in EVERY}))
def test_every_fault_still_has_its_place_and_can_be_read(file):
    text = (CHECKOUT / file).read_text(encoding="utf-8")
    for fault in (f for f in EVERY if f.file == file):
        planted = fault.planted(text)
        assert planted != text, fault.name
        if file.endswith(".py"):
            compile(planted, file, "exec")
        else:
            yaml.safe_load(planted)


def test_every_fault_names_tests_that_are_there():
    for fault in EVERY:
        assert fault.tests, fault.name
        missing = [t for t in fault.tests if not (CHECKOUT / t.partition("::")[0]).exists()]
        assert not missing, fault.name


def test_a_source_that_moved_on_is_said():
    fault = Fault("it", "models", "a.py", "x = 1", "x = 2", ("tests",))
    assert fault.planted("x = 1\ny = 1\n") == "x = 2\ny = 1\n"
    with pytest.raises(ValueError, match=r"it: a.py has 0 times"):
        fault.planted("x = 3\n")
    with pytest.raises(ValueError, match=r"it: a.py has 2 times"):
        fault.planted("x = 1\nx = 1\n")


def test_a_run_is_endless_by_what_it_works_not_by_the_clock(tmp_path, monkeypatch):
    monkeypatch.setattr(mutants, "LIMIT", 1)

    def works() -> int:
        while True:
            pass

    def waits() -> int:
        time.sleep(1.5)
        return 0

    def works_on_after_a_signal() -> int:
        signal.signal(signal.SIGXCPU, lambda *_: None)
        return works()

    assert mutants._apart(tmp_path, waits)[0] == 0
    assert mutants._apart(tmp_path, works)[0] is None
    assert mutants._apart(tmp_path, works_on_after_a_signal)[0] is None


def test_the_report_counts_by_kind():
    outcomes = [
        Outcome("a", "heads", "1", "t", "noticed", "noticed", "", 1.0),
        Outcome("b", "heads", "2", "t", "noticed", "missed", "", 1.0),
        Outcome("c", "metrics", "3", "t", "missed", "", "", 1.0),
        Outcome("d", "metrics", "4", "t", "endless", "", "", 1.0),
    ]
    told = report(outcomes)
    assert "| heads | 2 | 2 | 2 | 1 |" in told
    assert "| metrics | 2 | 1 | 0 | 0 |" in told
    assert "| all | 4 | 3 | 2 | 1 |" in told
    assert "- noticed by nothing: metrics: c" in told
    assert "- not by `check`: heads: b" in told


def test_what_was_missed_is_planted_again_once_its_tests_have_changed():
    noticed = Outcome("a", "heads", "1", "then", "noticed", "missed", "", 1.0)
    missed = Outcome("b", "heads", "2", "then", "missed", "", "", 1.0)
    assert mutants._stands(noticed, "now", again=False)
    assert not mutants._stands(missed, "now", again=False)
    assert mutants._stands(missed, "then", again=False)
    assert not mutants._stands(missed, "then", again=True)
    assert not mutants._stands(noticed, "then", again=True)  # `check` missed it


def test_what_pytest_does_not_come_to_is_no_fault_noticed(tmp_path):
    (tmp_path / "conftest.py").write_text("import there_is_no_such_module\n")
    (tmp_path / "test_it.py").write_text("def test_it():\n    assert True\n")
    with pytest.raises(RuntimeError, match=r"before any of test_it.py"):
        mutants._pytest(tmp_path, ["test_it.py"])
    (tmp_path / "benchmarks").symlink_to(CHECKOUT / "benchmarks")
    with pytest.raises(RuntimeError, match=r"before any of no-such-model"):
        mutants._check(tmp_path, "no-such-model")


def test_a_copy_is_tested_with_the_environment_that_lies_in_the_checkout(tmp_path):
    (tmp_path / "test_it.py").write_text("import yaml, latentbench\ndef test_it():\n    assert latentbench\n")
    (tmp_path / "benchmarks").symlink_to(CHECKOUT / "benchmarks")
    assert mutants._pytest(tmp_path, ["test_it.py"]) == ("missed", "")
