"""What protocols say in numbers is what the paper's tier does."""

from __future__ import annotations

import pytest
from latentbench.core.errors import UserError
from latentbench.planning.plan import plan
from latentbench.planning.stated import TIER, departures
from latentbench.spec.loading import load_suite, suite_files
from latentbench.spec.registry import find_model

from tests.project import REPOSITORY, every_suite

#: Suites of no paper, whose protocol is the file itself.
OWN = {"quickstart"}


def told(project, settings, **more):
    """What is said against the small suite with one item of these settings."""
    item = {"value": "as the paper says", "stated": "section 5", "settings": settings, **more}
    return [str(e) for e in departures(project.load({"protocol": {"optimiser": item}}))]


def test_settings_that_are_so(project):
    assert told(project, {"training.optimizer": {"name": "adam", "lr": 5e-2}, "training.batch_size": 40}) == []
    assert told(project, {"training.epochs": 4, "data.preprocess": ["standardise"], "metrics.nll": {}}) == []
    assert told(project, {"params.spread": 0.5}, methods="narrow") == []
    assert told(project, {"params.min_variance": 1e-6}, methods="floor") == [], "a default of the model's"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"training.optimizer.lr": 5e-3}, "says training.optimizer.lr: 0.005, and 'wide' on 'line' has 0.05"),
        ({"training.epochs": 3}, "'wide' on 'line' has 4"),
        ({"training.batch_sise": 40}, "has no such setting"),
        ({"training.optimizer": {"lr": 5e-2, "momentum": 0.9}}, "'wide' on 'line' has {"),
        ({"data.preprocess": ["standardise", "flatten"]}, "has ['standardise']"),
        ({"training.epochs": True}, "has 4"),
        ({"params.spread": 2.0}, "'narrow' on 'line' has 0.5"),
    ],
)
def test_settings_that_are_otherwise(project, settings, says):
    (fault,) = told(project, settings)
    assert says in fault
    assert "small.yaml:" in fault


def test_a_step_is_compared_whole(project):
    steps = {"datasets.line.preprocess": [{"standardise": {"per": "all"}}]}
    for said, faults in ({"standardise": {"per": "all"}}, 0), ({"standardise": {}}, 1):
        item = {"value": "x", "stated": "s", "settings": {"data.preprocess": [said]}}
        assert len(list(departures(project.load({**steps, "protocol": {"x": item}})))) == faults


def test_an_item_about_nothing(project):
    (fault,) = told(project, {"training.epochs": 4}, methods="nobody")
    assert "about no run at tier paper" in fault


def test_validate_says_it(project):
    project.suite({"protocol": {"rate": {"value": "0.1", "stated": "s", "settings": {"training.optimizer.lr": 0.1}}}})
    found = project("validate", "small")
    assert found.code == 2
    assert "training.optimizer.lr: 0.1" in found.errors[0]


@pytest.fixture
def repository(monkeypatch):
    monkeypatch.setenv("LATENTBENCH_ROOT", str(REPOSITORY))
    monkeypatch.delenv("LATENTBENCH_DATA", raising=False)


@pytest.mark.parametrize("name", every_suite())
def test_a_papers_protocol_is_what_its_tier_does(name, repository):
    loaded = load_suite(suite_files()[name])
    assert [str(e) for e in departures(loaded)] == []


@pytest.mark.parametrize("name", [n for n in every_suite() if n.values[0] not in OWN])
def test_rate_and_batch_are_stated_in_numbers(name, repository):
    """Of the runs that are trained by gradients; so that a mistyped one is seen."""
    loaded = load_suite(suite_files()[name])
    if TIER not in loaded.suite.tiers:
        pytest.skip("it has no tier of the paper's")
    runs = plan(loaded, TIER, seeds=[0])
    if not any({"Trainable", "Players"} & find_model(r.model).can for r in runs):
        pytest.skip("nothing is trained by gradients")
    places = {p for item in loaded.suite.protocol for p in item.settings}
    stated = {p for item in loaded.suite.protocol for v in item.settings.values() if isinstance(v, dict) for p in v}
    assert "training.optimizer.lr" in places or "lr" in stated
    assert "training.batch_size" in places


def test_a_suite_without_the_tier_states_nothing(project):
    changes = {"tiers.paper": None, "protocol": {"x": {"value": "1", "status": "stated", "settings": {"a.b": 1}}}}
    assert list(departures(project.load(changes))) == []
    with pytest.raises(UserError, match="settings"):
        project.load({"protocol": {"x": {"value": "1", "status": "stated", "settings": [1]}}})
