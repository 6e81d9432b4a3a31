"""Versions that come and go, on a clock that the tests move."""

from dataclasses import replace

import pytest

from cellgate.serve.processes.hello import offers_of
from cellgate.serve.processes.roster import Roster


@pytest.fixture
def model(engine_models):
    (steps,) = [model for model in engine_models if model.served.name == "steps"]

    def of_version(version, name="steps"):
        served = replace(steps.served, name=name, version=str(version), digest=f"{version}" * 64)
        return replace(steps, served=served, path=f"/bundles/{version}")

    return of_version


def offered(roster):
    return {(offer.served.version, offer.number): offer.is_current for offer in offers_of(roster.hello())}


def test_a_newer_version_becomes_current_and_the_one_before_stays_under_its_number(model):
    roster = Roster("in memory")
    roster.add(model(1), "a plan")
    newer = roster.add(model(2), "another", is_current=False)
    roster.make_current(newer, 5, 100.0)

    assert offered(roster) == {("1", 0): False, ("2", 1): True}
    assert roster.current("steps") is newer
    assert roster.versions("steps") == {"1": "1" * 64, "2": "2" * 64}
    assert roster.hello()["streams"] == "in memory"


def test_going_back_is_the_same_the_other_way_round(model):
    roster = Roster()
    older = roster.add(model(1), "")
    newer = roster.add(model(2), "", is_current=False)
    roster.make_current(newer, 0, 100.0)
    roster.make_current(older, 0, 200.0)

    assert offered(roster) == {("1", 0): True, ("2", 1): False}
    assert (older.until_s, newer.until_s) == (None, 200.0)


def test_a_retired_version_stays_as_long_as_it_is_used(model):
    roster = Roster()
    entry = roster.add(model(1), "")
    roster.retire(entry, uses=3, until_s=10.0)

    assert roster.due(9.9) == []
    assert roster.due(10.0) == [entry]
    assert not roster.look(entry, uses=4, now=10.0, linger_s=5.0)
    assert (roster.due(14.9), roster.next_look_s) == ([], 15.0)
    assert roster.look(entry, uses=4, now=15.0, linger_s=5.0)
    assert offered(roster) == {}


def test_a_withdrawn_version_is_gone_when_every_frontend_has_taken_the_hello_without_it(model):
    roster = Roster()
    roster.generation = 6
    entry = roster.add(model(1), "")
    roster.retire(entry, 0, 0.0)
    roster.look(entry, 0, 0.0, 1.0)
    roster.generation += 1

    assert roster.is_leaving
    assert roster.gone(6) == []
    assert roster.gone(7) == [entry]
    roster.remove(entry)
    assert not roster.is_leaving
    assert roster.versions("steps") == {}


def test_a_version_that_is_leaving_is_found_by_nobody_and_still_there(model):
    roster = Roster()
    entry = roster.add(model(1), "")
    roster.retire(entry, 0, 0.0)
    roster.look(entry, 0, 0.0, 1.0)

    assert roster.find("steps", "1") is None
    assert roster.versions("steps") == {"1": "1" * 64}  # a bundle of this version cannot come yet


def test_numbers_and_names_are_given_once(model):
    roster = Roster(names=["old"])
    first = roster.add(model(1), "")
    roster.retire(first, 0, 0.0)
    roster.look(first, 0, 0.0, 1.0)
    roster.remove(first)
    again = roster.add(model(1), "")
    roster.add(model(1, "other"), "")

    assert again.number == 1
    assert roster.names == ["old", "steps", "other"]
    assert roster.hello()["names"] == roster.names
