"""Whether a run's loss is compiled: as asked, or as timing says, and what its record says of it."""

from __future__ import annotations

import itertools
import json
import multiprocessing
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from latentbench.acceleration import compiling
from latentbench.acceleration.compiling import GAIN, Choice, Timed, choose, fastest
from latentbench.audit.replay import replay
from latentbench.core import interrupts
from latentbench.running.settings import Settings
from latentbench.scheduling.task import perform

from tests.acceleration.test_stacks import interrupt_at
from tests.project import Project

VAE = {
    "methods": {"vae": {"model": "vae", "params": {"latent_dim": 2, "hidden": [8]}}, "floor": {"model": "factorised"}},
    "metrics": {"elbo": {"methods": ["vae"]}},
}
LONG = {**VAE, "training": {"optimizer": {"name": "adam", "lr": 0.05}, "batch_size": 40, "steps": 100_000}}


@pytest.fixture
def settings(project: Project) -> Settings:
    return Settings(project.results, compile="auto")


@pytest.fixture(autouse=True)
def kept_in(tmp_path, monkeypatch):
    """A machine on which nothing was timed."""
    monkeypatch.setattr(compiling, "kept_in", lambda: tmp_path / "kept")
    return tmp_path / "kept"


def spec_of(project: Project, changes: dict, method: str = "vae"):
    return project.plan("cpu", changes, methods=[method])[0]


seconds = st.floats(1e-5, 1.0)
timed = st.builds(Timed, seconds, st.floats(0.0, 100.0))


@given(eager=timed, inductor=timed, graphs=timed, steps=st.integers(1, 10**7))
def test_the_way_that_takes_least_is_taken_if_it_saves_enough(eager, inductor, graphs, steps):
    ways = {"eager": eager, "inductor": inductor, "graphs": graphs}
    choice = fastest(ways, steps)
    least = min(t.whole(steps) for t in ways.values())
    if choice.way == "eager":
        assert least >= (1 - GAIN) * eager.whole(steps)
    else:
        assert ways[choice.way].whole(steps) == least
        assert least < (1 - GAIN) * eager.whole(steps)
    assert choice.step_seconds == {way: t.step for way, t in ways.items()}


def test_nothing_timed_is_eager():
    assert fastest({}, 10_000) == Choice()


@pytest.mark.parametrize(("wanted", "way"), [("off", "eager"), ("on", "inductor"), ("graphs", "graphs")])
def test_what_is_asked_for_is_not_timed(project, settings, wanted, way):
    assert choose(spec_of(project, LONG), replace(settings, compile=wanted)) == Choice(way)


def test_short_runs_and_models_without_gradients_are_not_timed(project, settings, monkeypatch):
    monkeypatch.setattr(compiling, "_elsewhere", lambda *_: pytest.fail("timed"))
    assert choose(spec_of(project, VAE), settings) == Choice()
    assert choose(spec_of(project, LONG, "floor"), settings) == Choice()
    assert choose(spec_of(project, LONG), replace(settings, devices=2)) == Choice()


def test_a_method_is_timed_once_for_all_its_seeds_and_again_where_the_file_is_damaged(
    project, settings, kept_in, monkeypatch
):
    asked = []

    def time(spec, *_):
        asked.append(spec.seed)
        return {"eager": Timed(0.01, 0.1), "inductor": Timed(0.004, 2.0)}

    monkeypatch.setattr(compiling, "_elsewhere", time)
    first, second, _ = project.plan("cpu", LONG, methods=["vae"])
    wanted = Choice("inductor", {"eager": 0.01, "inductor": 0.004})
    assert [choose(first, settings), choose(second, settings)] == [wanted, wanted]
    assert asked == [0]
    (file,) = kept_in.glob("*.json")
    file.write_text(file.read_text()[:20])
    assert choose(second, settings) == wanted
    assert asked == [0, 1]
    assert choose(first, replace(settings, threads=2)) == wanted
    assert asked == [0, 1, 0]


@pytest.mark.slow
def test_timing_in_a_process_of_its_own(project, settings):
    choice = choose(spec_of(project, {**LONG, "training": {**LONG["training"], "steps": 10_000_000}}), settings)
    assert set(choice.step_seconds) == {"eager", "inductor"}
    assert all(0 < s < 10 for s in choice.step_seconds.values())


def test_a_timing_process_that_dies_leaves_the_run_eager(project, settings):
    deadly = {**LONG, "methods": {"vae": {"model": "toy", "params": {"spoil": "kill"}}}, "metrics": {"nll": {}}}
    assert choose(spec_of(project, deadly), settings) == Choice()


def test_a_timing_that_failed_is_tried_again(project, settings, kept_in, monkeypatch):
    answers = [{}, {"eager": Timed(0.01, 0.1), "inductor": Timed(0.004, 2.0)}]
    monkeypatch.setattr(compiling, "_elsewhere", lambda *_: answers.pop(0))
    spec = spec_of(project, LONG)
    assert choose(spec, settings).way == "eager"
    assert choose(spec, settings).way == "inductor"


def test_a_short_run_does_not_settle_it_for_a_long_one(project, settings, monkeypatch):
    answers = [{"eager": Timed(0.01, 0.1)}, {"eager": Timed(0.01, 0.1), "inductor": Timed(0.004, 2.0)}]
    monkeypatch.setattr(compiling, "_elsewhere", lambda *_: answers.pop(0))
    short = spec_of(project, {**LONG, "training": {**LONG["training"], "steps": 2000}})
    assert [choose(short, settings).way, choose(short, settings).way] == ["eager", "eager"]
    assert choose(spec_of(project, LONG), settings).way == "inductor"


def test_a_folder_that_cannot_be_written_costs_time_alone(project, settings, kept_in, monkeypatch):
    kept_in.write_text("a file")
    monkeypatch.setattr(compiling, "_elsewhere", lambda *_: {"eager": Timed(0.01, 0.1), "inductor": Timed(0.004, 2.0)})
    assert choose(spec_of(project, LONG), settings).way == "inductor"


def test_an_interrupt_does_not_wait_for_the_timing(project, settings, monkeypatch):
    slow = {"vae": {"model": "toy", "params": {"pause": 10.0}}}
    spec = spec_of(project, {**LONG, "methods": slow, "metrics": {"nll": {}}})
    calls = itertools.count()
    monkeypatch.setattr(compiling, "check", lambda: interrupts.ask() if next(calls) == 2 else None)
    others = {*multiprocessing.active_children()}  # that tests before this one have left to their libraries
    try:
        with pytest.raises(KeyboardInterrupt):
            choose(spec, settings)
    finally:
        interrupts.install()
    assert {*multiprocessing.active_children()} <= others


@pytest.mark.parametrize(("first", "then"), [("on", "off"), ("off", "on")])
def test_an_interrupted_run_goes_on_as_it_began(project, settings, first, then):
    spec = spec_of(project, VAE)
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at(patch, 3)
        with pytest.raises(KeyboardInterrupt):
            perform(spec, replace(settings, compile=first))
    interrupts.install()
    made, _ = perform(spec, replace(settings, compile=then))
    assert made.provenance.resumed_from == 3
    assert made.provenance.compiled == {"on": "inductor", "off": "eager"}[first]


def test_a_run_that_diverges_says_how_it_was_computed(project, settings):
    spoiled = {"methods": {"vae": {"model": "toy", "params": {"spoil": "nan"}}}, "metrics": {"nll": {}}}
    made, _ = perform(spec_of(project, spoiled), replace(settings, compile="on"))
    assert made.status == "diverged"
    assert made.provenance.compiled == ("eager" if made.provenance.faults else "inductor")


def test_a_compiled_run_says_so_and_is_replayed_compiled(project, settings):
    spec = spec_of(project, VAE)
    own, _ = perform(spec, Settings(project.results))
    made, cached = perform(spec, replace(settings, compile="on", force=True))
    assert not cached
    assert made.status == "finished"
    assert (made.provenance.compiled, made.provenance.faults) == ("inductor", [])
    assert made.fingerprint == own.fingerprint
    assert made.value("elbo").value == pytest.approx(own.value("elbo").value, rel=1e-4)
    written = json.loads((project.results / "runs/small" / made.run_id / "record.json").read_text())
    assert written["provenance"]["compiled"] == "inductor"
    again = replay(spec, made, device="cpu")
    assert again.identical
    assert any("its loss was compiled (inductor), and is replayed compiled" in note for note in again.notes)


def test_a_record_of_an_eager_run_does_not_speak_of_it(project, settings):
    made, _ = perform(spec_of(project, VAE), Settings(project.results))
    written = json.loads((project.results / "runs/small" / made.run_id / "record.json").read_text())
    assert not {"compiled", "step_seconds"} & set(written["provenance"])


def test_graphs_are_refused_without_a_gpu(project):
    project.suite(VAE)
    done = project("run", "small", "--compile", "graphs", "--device", "cpu")
    assert done.code == 2
    assert "CUDA graphs need a GPU" in done.err


def test_several_devices_are_not_compiled(project):
    project.suite(VAE)
    done = project("run", "small", "--compile", "on", "--devices", "2", "--device", "cpu")
    assert done.code == 2
    assert "--compile" in done.err
