"""A stream goes on in the version that it began with, and everything else of the table holds across versions."""

from dataclasses import replace

import numpy as np
import pytest

from cellgate.serve.engine.models import open_engine_models
from cellgate.serve.engine.work import StreamOrder, StreamRef
from cellgate.serve.errors import UnknownModel
from cellgate.serve.models.served_model import BundlePlace
from cellgate.serve.settings import Settings
from cellgate.serve.stream_errors import ModelChanged
from cellgate.serve.streams.versions import Versions


@pytest.fixture(scope="module")
def newer(make_network, tmp_path_factory):
    """Version 4 of "steps", with other weights."""
    path = make_network("steps", 4).write(tmp_path_factory.mktemp("newer") / "4", version=4)
    (model,) = open_engine_models([BundlePlace(path)], Settings(device="cpu", threads=1))
    yield model
    model.runtime.close()


@pytest.fixture
def replaced(make_driver, newer, keep_open):
    """A driver, and how to let version 4 take over from version 3."""
    driver = make_driver()

    def take_over():
        driver.engine.add(keep_open(newer))
        driver.engine.prefer("steps", "steps/4")

    return driver, take_over


def whole(driver, make_work, x, model):
    return driver.ask(make_work(x, model=model))["y"]


def test_a_stream_that_began_before_goes_on_bit_for_bit_and_a_new_one_begins_in_the_new_version(
    replaced, make_work, make_x
):
    driver, take_over = replaced
    x = make_x(6)
    first = driver.ask(make_work(x[:, :2], StreamRef(id=1, is_start=True, step=0)))
    take_over()
    second = driver.ask(make_work(x[:, 2:], StreamRef(id=1, step=1)))
    other = driver.ask(make_work(x, StreamRef(id=2, is_start=True, step=0)))

    old = whole(driver, make_work, x, "steps/3")
    assert np.concatenate([first.outputs["y"], second.outputs["y"]], 1).tobytes() == old.tobytes()
    assert other.outputs["y"].tobytes() == whole(driver, make_work, x, "steps/4").tobytes()
    assert (first.version, second.version, other.version) == (None, "3", None)
    assert old.tobytes() != other.outputs["y"].tobytes()


def test_who_names_a_version_is_answered_by_that_of_its_stream_all_the_same(replaced, make_work, make_x):
    driver, take_over = replaced
    x = make_x(4)
    driver.ask(make_work(x[:, :2], StreamRef(id=1, is_start=True, step=0)))
    take_over()
    answer = driver.ask(make_work(x[:, 2:], StreamRef(id=1, step=1), model="steps/3"))

    assert answer.version is None  # it is the one that was asked for
    assert answer.outputs["y"].tobytes() == whole(driver, make_work, x, "steps/3")[:, 2:].tobytes()


def test_the_last_request_can_be_repeated_across_the_change(replaced, make_work, make_x):
    driver, take_over = replaced
    x = make_x(3)
    start, end = StreamRef(id=1, is_start=True, step=0), StreamRef(id=1, is_end=True, step=1)
    first = driver.ask(make_work(x, start))
    take_over()
    again = driver.ask(make_work(x, start))
    last = driver.ask(make_work(x, end))
    last_again = driver.ask(make_work(x, end))

    assert [answer.is_replayed for answer in (first, again, last, last_again)] == [False, True, False, True]
    assert [answer.version for answer in (first, again, last, last_again)] == [None, "3", "3", "3"]
    assert again.outputs["y"].tobytes() == first.outputs["y"].tobytes()
    assert last_again.outputs["y"].tobytes() == last.outputs["y"].tobytes()


def test_a_start_without_a_step_takes_over_in_the_new_version(replaced, make_work, make_x):
    driver, take_over = replaced
    x = make_x(3)
    driver.ask(make_work(x, StreamRef(id=1, is_start=True)))
    take_over()
    answer = driver.ask(make_work(x, StreamRef(id=1, is_start=True)))

    assert answer.version is None
    assert answer.outputs["y"].tobytes() == whole(driver, make_work, x, "steps/4").tobytes()
    assert driver.engine.statistics()["streams"]["steps"]["ended"]["taken_over"] == 1


def test_a_stream_of_a_version_that_is_gone_is_told_so_and_not_continued(replaced, make_work, make_x):
    driver, take_over = replaced
    x = make_x(2)
    driver.ask(make_work(x, StreamRef(id=1, is_start=True, step=0)))
    take_over()
    driver.engine.remove("steps/3")

    assert type(driver.ask(make_work(x, StreamRef(id=1, step=1)))) is ModelChanged
    assert type(driver.ask(make_work(x, StreamRef(id=1, step=1), model="steps/3"))) is UnknownModel


def test_who_goes_on_in_a_version_of_other_tensors_is_told_which_one_to_name(
    make_driver, engine_models, keep_open, make_work, make_x
):
    driver, x = make_driver(), make_x(2)
    (last,) = (model for model in engine_models if model.served.name == "last")
    driver.ask(make_work(x, StreamRef(id=1, is_start=True, step=0)))
    driver.engine.add(keep_open(replace(last, served=replace(last.served, name="steps", version="4"))))
    driver.engine.prefer("steps", "steps/4")
    refused = driver.ask(make_work(x, StreamRef(id=1, step=1)))

    assert type(refused) is ModelChanged
    assert str(refused).endswith("; name its version: /versions/3")
    assert driver.ask(make_work(x, StreamRef(id=1, step=1), model="steps/3")).step == 1


def test_what_waits_for_its_turn_in_a_version_that_goes_is_told(replaced, make_work, make_x):
    driver, take_over = replaced
    x = make_x(2)
    take_over()
    ticket = driver.post(make_work(x, StreamRef(id=1, is_start=True, step=0), model="steps/3"))
    driver.engine.remove("steps/3")

    assert type(driver.drain()[ticket]) is UnknownModel


def test_an_unloaded_model_takes_no_new_streams_and_its_live_ones_go_on(replaced, make_work, make_x):
    driver, _ = replaced
    x = make_x(4)
    driver.ask(make_work(x[:, :2], StreamRef(id=1, is_start=True, step=0), model="steps/3"))
    driver.engine.prefer("steps", None)
    answer = driver.ask(make_work(x[:, 2:], StreamRef(id=1, step=1), model="steps/3"))
    refused = driver.ask(make_work(x, StreamRef(id=2, is_start=True, step=0)))

    assert answer.outputs["y"].tobytes() == whole(driver, make_work, x, "steps/3")[:, 2:].tobytes()
    assert type(refused) is UnknownModel


def report_of(driver, order):
    found = []
    driver.engine.order(order, found.append)
    driver.drain()
    return found[0]


def test_a_stream_of_a_retired_version_can_be_taken_along_and_brought_back(replaced, make_work, make_x):
    driver, take_over = replaced
    x = make_x(4)
    driver.ask(make_work(x[:, :2], StreamRef(id=1, is_start=True, step=0)))
    take_over()
    taken = report_of(driver, StreamOrder(kind="export", model="steps", id=1))
    before = driver.engine.uses_of("steps/3")
    report_of(driver, StreamOrder(kind="bring", model="steps", id=9, data=taken.data))
    assert driver.engine.uses_of("steps/3") == before + 1  # so that the version stays as long as this stream may live
    answer = driver.ask(make_work(x[:, 2:], StreamRef(id=9, step=1)))

    assert answer.version == "3"
    assert answer.outputs["y"].tobytes() == whole(driver, make_work, x, "steps/3")[:, 2:].tobytes()


def test_a_version_that_takes_other_tensors_does_not_go_on_with_chunks_that_were_read_for_another(
    served_models, make_record
):
    old, other = served_models["steps"], replace(served_models["last"], name="steps", version="4")
    versions = Versions([old, other])
    record = make_record(digest=old.digest)
    asked = versions.find("steps/4")

    assert versions.going_on(asked, record) is asked
    assert versions.going_on(versions.find("steps"), record).version == "3"
