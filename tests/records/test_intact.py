"""Records whose seals were computed before."""

from __future__ import annotations

import json
import os

import pytest
from latentbench.core import file_cache
from latentbench.core.errors import UserError
from latentbench.data.dataset import open_dataset
from latentbench.data.progress import silent
from latentbench.records import pack as packs
from latentbench.records import record as form
from latentbench.records.archive import collect, finished
from latentbench.records.intact import Intact
from latentbench.records.packing import pack_records
from latentbench.records.record import read_record, seal, write_record
from latentbench.running.one import record_at

from tests.project import write_made_up


@pytest.fixture
def sealed(project, monkeypatch):
    """A run and the file of its record."""
    monkeypatch.setattr(file_cache, "STILL", -1)
    open_dataset("line", silent)
    run = project.plan("cpu")[0]
    path = write_made_up(run, {"nll": 1.5})
    record = read_record(path)
    write_record(path, record.model_copy(update={"seal": seal(record)}))
    return run, path


@pytest.fixture
def seals(monkeypatch):
    """How many seals are computed."""
    computed = []
    true = form.seal_of
    monkeypatch.setattr(form, "seal_of", lambda data: computed.append(data["run_id"]) or true(data))
    return computed


def test_a_seal_is_computed_once(project, sealed, seals):
    run, path = sealed
    first, again = collect([run]), collect([run])
    assert seals == [path.parent.name]
    assert first.found == again.found == {run.cell: read_record(path)}


def test_an_edit_breaks_the_seal_even_if_it_keeps_size_and_time(project, sealed):
    run, path = sealed
    assert collect([run]).found
    before = path.stat()
    path.write_text(path.read_text().replace('"value": 1.5', '"value": 1.4'))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    for _ in range(2):
        collected = collect([run])
        assert not collected.found
        assert "its seal is broken" in collected.unreadable[0]
        assert finished([run]) == set()


@pytest.mark.parametrize("way", ["a file of its own", "in a pack"])
def test_a_bit_that_flips_on_the_medium_is_noticed_though_every_time_stays(project, sealed, monkeypatch, way):
    """The file system says of such a file what it said before: only the bytes tell."""
    run, path = sealed
    if way == "in a pack":
        file = pack_records([path], project.results)[0].pack
        path.unlink()
        old, new = '"measured":[[1.5,', '"measured":[[1.4,'
    else:
        file, old, new = path, '"value": 1.5', '"value": 1.4'
    for module in ("intact", "pack"):
        monkeypatch.setattr(f"latentbench.records.{module}.state_of", lambda _: [1, 1, 1, 1])
    assert collect([run]).found
    assert collect([run]).found, "it is known by now"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    packs._opened.cache_clear()  # as in the next process
    for _ in range(2):
        collected = collect([run])
        assert not collected.found
        assert "its seal is broken" in collected.unreadable[0]
        assert finished([run]) == set()


def test_a_value_whose_seal_was_taken_off_counts_for_nothing(project, sealed):
    run, path = sealed
    data = json.loads(path.read_text())
    data["metrics"][0]["value"], data["seal"] = 0.1, None
    path.write_text(json.dumps(data))
    collected = collect([run])
    assert not collected.found
    assert "it has no seal" in collected.unreadable[0]
    assert finished([run]) == set()
    record, damage = record_at(path)
    assert record is None
    assert "no seal" in damage


def test_a_file_put_in_its_place_is_read_anew(project, sealed):
    run, path = sealed
    assert finished([run]) == {run.cell}
    other = json.loads(path.read_text())
    other["status"] = "failed"
    record = form.Record.model_validate(other | {"seal": None})
    write_record(path, record.model_copy(update={"seal": seal(record)}))
    assert finished([run]) == set()


def test_what_is_no_record_is_never_known(project, sealed):
    _, path = sealed
    path.write_text("{}")
    records = Intact("small", project.results)
    for _ in range(2):
        with pytest.raises(UserError, match="not a record"):
            records.read(str(path))
        assert records.status(str(path)) is None
    assert records.status(str(path.with_name("none.json"))) is None


def test_finished_runs_are_those_of_todays_specification_data_and_code(project):
    open_dataset("line", silent)
    runs = project.plan("cpu")
    write_made_up(runs[0], {"nll": 1.0})
    write_made_up(runs[1], {"nll": 1.0}, code="0" * 64)
    write_made_up(runs[2], {"nll": 1.0}, asked="0" * 64)
    write_made_up(runs[3], {"nll": 1.0}, data_hash="0" * 64)
    write_made_up(runs[4], {}, status="failed")
    assert finished(runs) == {runs[0].cell}
