"""Models that come and go in an engine that serves: real bundles, a real loader, a clock that the tests move."""

import json
import math
import threading
from dataclasses import replace

import numpy as np
import pytest

from cellgate.serve.engine.engine import Engine
from cellgate.serve.engine.engine_limits import EngineLimits
from cellgate.serve.engine.models import open_engine_models
from cellgate.serve.errors import LoadRefused, NotInRepository, NotReady, UnknownModel
from cellgate.serve.models.repository import Repository
from cellgate.serve.models.served_model import BundlePlace
from cellgate.serve.observe.counter_layout import CounterLayout
from cellgate.serve.observe.counter_page import CounterPage
from cellgate.serve.processes.change_answers import TAKEN_S
from cellgate.serve.processes.frames import HEAD_BYTES
from cellgate.serve.processes.hello import offers_of
from cellgate.serve.processes.model_desk import ModelDesk
from cellgate.serve.processes.model_loader import ModelLoader
from cellgate.serve.processes.roster import Roster
from cellgate.serve.settings import Settings

PATIENCE_S = 30
SETTINGS = Settings(device="cpu", threads=1)
EVERYBODY = math.inf


class Office:
    """A desk, what it reports, and an engine behind it that began with version 3 of "steps"."""

    def __init__(self, folder, clock):
        place = BundlePlace(folder / "steps-3")
        self.layout = CounterLayout(["steps"], spare=1)
        models = open_engine_models([place], SETTINGS)
        self.engine = Engine(models, EngineLimits.of(SETTINGS), counters=CounterPage(self.layout))
        self.roster = Roster()
        self.roster.add(models[0], "")
        self.is_done = threading.Event()
        loader = ModelLoader(Repository([place], folder), SETTINGS)
        loader.waker = self.is_done.set
        self.reports, self.answers = [], []
        self.desk = ModelDesk(self.engine, self.roster, loader, SETTINGS, self.layout, self.reports.append, clock)

    def load(self, version=None, name="steps", taken=EVERYBODY):
        self.is_done.clear()
        self.desk.control("load", name, version, self.answers.append)
        assert self.is_done.wait(PATIENCE_S)
        self.desk.look(taken)
        return self.answers[-1] if self.answers else None

    def unload(self, version=None, name="steps"):
        self.desk.control("unload", name, version, self.answers.append)
        self.desk.look(EVERYBODY)
        return self.answers[-1]

    def offered(self):
        hello = json.loads(self.desk.hello()[8 + HEAD_BYTES :])
        return {offer.served.key: offer.is_current for offer in offers_of(hello)}

    def answer_of(self, work):
        self.engine.submit("one", work)
        while not (results := self.engine.run_once()):
            pass
        return results[0][1]["y"]


class Moment:
    """The clock."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Moment()


@pytest.fixture
def folder(tmp_path, make_network):
    """Versions 3, 4 and 5 of one network with other weights each, and another network."""
    for version in (3, 4, 5):
        make_network("steps", version).write(tmp_path / f"steps-{version}", version=version)
    make_network("last").write(tmp_path / "last")
    return tmp_path


@pytest.fixture
def office(folder, clock):
    found = Office(folder, clock)
    yield found
    found.desk.close()
    found.engine.close()


def test_a_load_opens_the_highest_version_which_becomes_current(office, make_work):
    before = office.answer_of(make_work())
    answer = office.load()
    after = office.answer_of(make_work())

    assert answer == {"name": "steps", "version": "5", "state": "loaded"}
    assert office.offered() == {"steps/3": False, "steps/5": True}
    assert not np.array_equal(before, after)
    assert np.array_equal(office.answer_of(make_work(model="steps/3")), before)
    assert [entry["version"] for entry in office.reports[-1]["models"]["models"] if entry["is_current"]] == ["5"]


def test_going_back_needs_no_opening(office, make_work):
    before = office.answer_of(make_work())
    office.load("4")
    held = {entry.version: entry.model.runtime for entry in office.roster}
    answer = office.load("3")

    assert answer == {"name": "steps", "version": "3", "state": "loaded"}
    assert office.offered() == {"steps/3": True, "steps/4": False}
    assert {entry.version: entry.model.runtime for entry in office.roster} == held
    assert np.array_equal(office.answer_of(make_work()), before)


def test_loading_what_is_current_changes_nothing(office):
    assert office.load("3") == {"name": "steps", "version": "3", "state": "loaded"}
    assert office.offered() == {"steps/3": True}
    assert office.reports == []


def test_who_asked_is_told_when_every_frontend_goes_by_it(office, clock):
    assert office.load("4", taken=0) is None
    assert not office.desk.look(0)
    assert office.answers == []
    office.desk.look(1)

    assert [answer["version"] for answer in office.answers] == ["4"]


def test_a_frontend_that_does_not_answer_holds_nobody_up_for_ever(office, clock):
    office.load("4", taken=0)
    clock.now += TAKEN_S
    office.desk.look(0)

    assert [answer["version"] for answer in office.answers] == ["4"]


def test_the_replaced_version_is_closed_when_no_stream_can_live_in_it(office, clock, make_work):
    office.load("4")
    clock.now += SETTINGS.stream_idle_s - 1
    office.desk.look(EVERYBODY)
    assert "steps/3" in office.offered()

    office.answer_of(make_work(model="steps/3"))  # somebody still goes on in it
    clock.now += 1
    office.desk.look(EVERYBODY)
    assert "steps/3" in office.offered()

    clock.now += SETTINGS.stream_idle_s
    office.desk.look(1)  # it is withdrawn, and one frontend does not know yet
    assert "steps/3" not in office.offered()
    assert "steps/3" in [model.served.key for model in office.engine.models]
    office.desk.look(2)

    assert [model.served.key for model in office.engine.models] == ["steps/4"]
    assert office.desk.next_look_s is None
    with pytest.raises(UnknownModel):
        office.engine.submit("late", make_work(model="steps/3"))


def test_what_is_on_its_way_through_a_withdrawn_version_is_answered_first(office, clock, make_work):
    office.load("4")
    office.engine.submit("slow", make_work(model="steps/3"))
    clock.now += SETTINGS.stream_idle_s
    office.desk.look(EVERYBODY)
    office.desk.look(EVERYBODY)
    assert "steps/3" in [model.served.key for model in office.engine.models]
    while not (results := office.engine.run_once()):
        pass
    office.desk.look(EVERYBODY)

    assert [ticket for ticket, _ in results] == ["slow"]
    assert [model.served.key for model in office.engine.models] == ["steps/4"]


def test_unloading_leaves_no_current_version_and_the_old_one_for_its_streams(office, make_work):
    assert office.unload() == {"name": "steps", "version": "3", "state": "unloaded"}
    assert office.offered() == {"steps/3": False}
    with pytest.raises(UnknownModel):
        office.engine.submit("new", make_work())
    assert office.answer_of(make_work(model="steps/3")) is not None
    assert office.load("3") == {"name": "steps", "version": "3", "state": "loaded"}
    assert office.offered() == {"steps/3": True}


def test_unloading_a_retired_version_by_its_number_closes_it_at_once(office):
    office.load("4")
    assert office.unload("3") == {"name": "steps", "version": "3", "state": "unloaded"}
    office.desk.look(EVERYBODY)

    assert [model.served.key for model in office.engine.models] == ["steps/4"]


def test_another_model_may_come_as_long_as_the_counters_have_a_place_for_its_name(office, folder, make_network):
    assert office.load(name="last")["state"] == "loaded"
    make_network("tokens").write(folder / "tokens")
    refused = office.load(name="tokens")

    assert type(refused) is LoadRefused
    assert str(refused).startswith("models: expected at most 2 names since the start, found another one;")
    assert office.offered() == {"steps/3": True, "last/3": True}
    assert office.reports[-1]["models"]["names"] == ["steps", "last"]


def test_what_is_not_there_is_refused_and_nothing_changes(office):
    assert type(office.load("9")) is NotInRepository
    assert type(office.load(name="nope")) is NotInRepository
    assert type(office.unload(name="nope")) is UnknownModel
    assert type(office.unload("9")) is UnknownModel
    assert office.offered() == {"steps/3": True}
    assert office.reports == []


def test_one_version_is_one_bundle(office, folder, make_network):
    make_network("steps", 77).write(folder / "again", version=3)
    (folder / "steps-3").rename(folder / ".away")
    refused = office.load("3")

    assert type(refused) is LoadRefused
    assert (
        "found version 3 with other contents, which is served already; export it with another --model-version"
        in str(refused)
    )
    assert office.offered() == {"steps/3": True}


def test_a_bundle_that_is_damaged_is_refused(office, folder):
    (folder / "steps-4" / "model.onnx").write_bytes(b"x")
    refused = office.load("4")

    assert type(refused) is LoadRefused
    assert "model.onnx" in str(refused)
    assert office.offered() == {"steps/3": True}


def test_a_bundle_that_this_machine_does_not_reproduce_is_refused(office, folder, make_network):
    network = make_network("steps", 8)
    case = network.golden()[0]
    wrong = replace(case, outputs={**case.outputs, "y": case.outputs["y"] + np.float32(0.01)})
    network.write(folder / "wrong", version=8, golden=[wrong])
    refused = office.load("8")

    assert type(refused) is LoadRefused
    assert "expected the golden cases to be reproduced" in str(refused)
    assert office.offered() == {"steps/3": True}


def test_loads_are_done_one_after_the_other(office):
    office.is_done.clear()
    for version in ("4", "5"):
        office.desk.control("load", "steps", version, office.answers.append)
    for _ in range(2):
        assert office.is_done.wait(PATIENCE_S)
        office.is_done.clear()
        office.desk.look(EVERYBODY)

    assert [answer["version"] for answer in office.answers] == ["4", "5"]
    assert office.offered() == {"steps/3": False, "steps/4": False, "steps/5": True}


def test_who_is_given_up_is_told_and_what_is_opened_already_is_served(office):
    office.is_done.clear()
    for version in ("4", "5"):
        office.desk.control("load", "steps", version, office.answers.append)
    office.desk.control("give_up", "", None, office.answers.append)
    told = [*office.answers]
    assert office.is_done.wait(PATIENCE_S)
    office.desk.look(EVERYBODY)

    assert [type(answer) for answer in told] == [NotReady, dict]
    assert office.answers[2:] == [{"name": "steps", "version": "4", "state": "loaded"}]
    assert office.offered() == {"steps/3": False, "steps/4": True}


def test_who_waits_when_the_engine_ends_is_told(office):
    office.load("4", taken=0)
    office.desk.control("load", "steps", "5", office.answers.append)
    office.desk.close()

    assert [type(answer) for answer in office.answers] == [NotReady, NotReady]
