"""wandb mirrors the runs; it asks for nothing, and no run fails with it."""

from __future__ import annotations

import os
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from latentbench.running.settings import Settings
from latentbench.scheduling import tracking
from latentbench.scheduling.task import perform
from latentbench.scheduling.tracking import Tracker, default_mode, summary_of, track_run

from tests.project import PATIENCE


@pytest.fixture(autouse=True)
def hopeful(monkeypatch):
    """wandb has not been given up yet."""
    monkeypatch.setattr("latentbench.scheduling.tracking._given_up", threading.Event())


@pytest.fixture
def nobody(monkeypatch, tmp_path):
    """A user who never logged in anywhere."""
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_the_default_is_offline(nobody, monkeypatch):
    assert default_mode() == "offline"
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    assert default_mode() == "online"
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert default_mode() == "disabled", "what the user says goes first"


def test_who_has_logged_in_is_online(nobody, monkeypatch):
    (nobody / ".netrc").write_text("machine api.wandb.ai login user password secret\n")
    (nobody / ".netrc").chmod(0o600)
    assert default_mode() == "online"
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    assert default_mode() == "offline", "logged in elsewhere"
    (nobody / ".netrc").write_text("machine without sense {")
    assert default_mode() == "offline"


@pytest.mark.slow
def test_offline_files_appear(project, monkeypatch):
    """One for the run, with configuration, tags and final metrics, and one for the leaderboard's table."""
    for name in ("INIT_TIMEOUT", "PATIENCE"):
        monkeypatch.setattr(f"latentbench.scheduling.tracking.{name}", 120.0)  # a machine may be busy
    project.suite()
    options = ("small", "--method", "wide", "--seeds", "1", "--jobs", "1", "--device", "cpu", "--quiet")
    answer = project("run", *options, "--wandb", "offline")
    assert answer.code == 0
    assert "wandb could not" not in answer.err
    (record,) = project.records().values()
    wanted = [b"seed-0", b"cpu", b"metric/nll", b"batch_size", b"optimizer", record.run_id.encode()]

    def logged() -> list[list[bool]]:
        """For each file: whether it holds all of the run, and whether it holds the leaderboard's table."""
        texts = [path.read_bytes() for path in (project.results / "wandb").rglob("*.wandb")]
        return sorted(
            [all(w in t for w in wanted), b"small, cpu: leaderboard and verdicts" in t and b"table-file" in t]
            for t in texts
        )

    deadline = time.monotonic() + PATIENCE  # wandb's service writes behind our back
    while logged() != [[False, True], [True, False]] and time.monotonic() < deadline:
        time.sleep(0.1)
    assert logged() == [[False, True], [True, False]]


def test_a_run_that_goes_on_is_one_run_at_wandb(project, monkeypatch):
    """Whatever interrupted it; done anew or elsewhere it is another."""
    asked = []

    class Watching(Broken):
        def init(self, **given):
            asked.append((given["id"], given["resume"]))
            return self

    monkeypatch.setitem(sys.modules, "wandb", Watching(""))
    spec, other = project.plan("smoke", methods=["wide", "narrow"])
    settings = Settings(project.results, wandb="offline")
    for one, to in (
        (spec, settings),
        (spec, settings),
        (other, settings),
        (spec, replace(settings, force=True)),
        (spec, replace(settings, force=True)),
        (spec, replace(settings, results=project.results / "others")),
    ):
        track_run(one, to, f"{one.cell}--{'0' * 10}").finish({})
    ids = [given for given, _ in asked]
    assert ids[0] == ids[1]
    assert len(set(ids)) == 5
    assert {how for _, how in asked} == {"allow"}


def test_wandb_keeps_out_of_a_home_that_cannot_be_written(monkeypatch, tmp_path):
    for name in tracking._PLACES:
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)
    (tmp_path / "home").write_text("no folder")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    tracking._out_of_home(tmp_path / "wandb")
    assert all(Path(os.environ[name]).is_relative_to(tmp_path / "wandb") for name in tracking._PLACES)
    for name in tracking._PLACES:
        monkeypatch.delenv(name)
    (tmp_path / "home").unlink()
    (tmp_path / "home").mkdir()
    tracking._out_of_home(tmp_path / "wandb")
    assert not tracking._PLACES.keys() & os.environ.keys(), "a home that can be written is the user's choice"


class Broken:
    """A wandb whose every part can raise."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.summary = self

    def Settings(self, **_):  # noqa: N802
        return None

    def init(self, **_):
        return self._maybe("init") or self

    def log(self, *_, **__):
        self._maybe("log")

    def update(self, *_):
        self._maybe("summary")

    def finish(self, **_):
        self._maybe("finish")

    def _maybe(self, what: str) -> None:
        if what == self.where:
            raise RuntimeError("the service is down\nand out")


@pytest.mark.parametrize("where", ["init", "log", "summary", "finish"])
def test_no_run_fails_with_wandb(project, monkeypatch, capfd, where):
    monkeypatch.setitem(sys.modules, "wandb", Broken(where))
    record, _ = perform(project.plan("smoke", methods=["wide"])[0], Settings(project.results, wandb="online"))
    assert record.status == "finished"
    assert record.value("nll") is not None
    said = [line for line in capfd.readouterr().err.splitlines() if "wandb" in line]
    assert len(said) == 1
    assert "go on" in said[0] or "goes on" in said[0]


class Hanging(Broken):
    """A wandb whose server never answers at some point; released at the end of the test."""

    def __init__(self, where: str, release: threading.Event) -> None:
        super().__init__(where)
        self.release, self.calls = release, 0

    def _maybe(self, what: str) -> None:
        if what == self.where:
            self.calls += 1
            self.release.wait(60)


@pytest.mark.parametrize("where", ["init", "log", "summary", "finish"])
def test_nothing_waits_for_a_wandb_that_hangs(project, monkeypatch, capfd, where):
    """The end of the first run waits a little; after that, this process does without."""
    release = threading.Event()
    wandb = Hanging(where, release)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setattr("latentbench.scheduling.tracking.PATIENCE", 0.5)
    one, two = project.plan("smoke", methods=["wide", "narrow"])
    settings = Settings(project.results, wandb="online")
    perform(one, Settings(project.results / "warm"))
    try:
        since = time.monotonic()
        assert perform(one, settings)[0].status == perform(two, settings)[0].status == "finished"
        assert time.monotonic() - since < 30
        assert wandb.calls == 1
    finally:
        release.set()
    said = [line for line in capfd.readouterr().err.splitlines() if "wandb" in line]
    assert len(said) == 1
    assert "wandb could not finish within" in said[0]


def test_a_wandb_folder_that_cannot_be_written(project, capfd):
    project.results.mkdir(parents=True, exist_ok=True)
    (project.results / "wandb").write_text("in the way")
    record, _ = perform(project.plan("smoke", methods=["wide"])[0], Settings(project.results, wandb="offline"))
    assert record.status == "finished"
    assert "wandb could not start (FileExistsError)" in capfd.readouterr().err


def test_no_run_fails_without_wandb(project, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)  # import wandb raises ImportError
    record, _ = perform(project.plan("smoke", methods=["wide"])[0], Settings(project.results, wandb="offline"))
    assert record.status == "finished"


def test_disabled_does_nothing(project, tmp_path):
    tracker = Tracker("disabled", tmp_path / "wandb", name="x")
    tracker.log({"step": 1.0, "loss": 2.0})
    tracker.table("t", ["a"], [[1]])
    tracker.finish({})
    assert not (tmp_path / "wandb").exists()


def test_the_summary_has_what_was_measured(project):
    record, _ = perform(project.plan("smoke", methods=["wide"])[0], Settings(project.results))
    summary = summary_of(record)
    assert summary["metric/nll"] == record.value("nll").value
    assert summary["status"] == "finished"
    assert summary["cost/steps"] == record.cost.steps


def test_settings_of_the_working_directory_are_not_read(tmp_path, monkeypatch):
    """They may be a stranger's, and name the host that gets the user's key; the user's own are read."""
    wandb = pytest.importorskip("wandb")
    own, usual = tmp_path / "home/settings", wandb.Settings().base_url
    own.parent.mkdir()
    own.write_text("[default]\nentity = me\n")
    for name in ("wandb", ".wandb"):
        (tmp_path / "strangers" / name).mkdir(parents=True)
        (tmp_path / "strangers" / name / "settings").write_text("[default]\nbase_url = http://evil.example\n")
    monkeypatch.chdir(tmp_path / "strangers")
    monkeypatch.setattr(wandb.Settings, "read_system_settings", wandb.Settings.read_system_settings)
    for _ in range(2):
        tracking._own_settings_only(wandb.Settings)
    for dot in (False, True):
        found = wandb.Settings(settings_system=str(own), use_dot_wandb=dot)
        found.update_from_system_settings()
        assert (found.base_url, found.entity) == (usual, "me")


def test_a_wandb_that_reads_them_otherwise_is_not_started_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tracking._own_settings_only(object)
    (tmp_path / "wandb").mkdir()
    (tmp_path / "wandb/settings").touch()
    with pytest.raises(RuntimeError, match="working directory"):
        tracking._own_settings_only(object)
