"""Pages of counters as the supervisor keeps them."""

import errno
import os

import pytest

from cellgate.serve.observe.counter_layout import ANSWERED_ROWS, ENGINE_RESTARTS, TURN
from cellgate.serve.processes import counter_files as module
from cellgate.serve.processes.counter_files import CounterFiles, counters_of
from cellgate.serve.start_errors import ServerStartError


def test_a_child_writes_its_own_page_and_reads_everybodys():
    pages = CounterFiles(["engine", "frontend 0"])
    pages.add(ENGINE_RESTARTS)
    engine = counters_of({"counters": pages.config("engine")}, ["a"])
    engine.own.cells[engine.own.layout.place(ANSWERED_ROWS, 1)] += 2
    frontend = counters_of({"counters": pages.config("frontend 0")}, ["a"])
    reading = frontend.read()
    pages.close()
    pages.close()

    assert reading.value(ANSWERED_ROWS, 1) == 2
    assert reading.value(ENGINE_RESTARTS) == 1
    assert list(reading.processes) == ["supervisor", "engine", "frontend 0"]
    assert pages.files == ()


def test_the_supervisor_reads_a_child_s_turns_and_knows_when_there_are_none_yet():
    pages = CounterFiles(["engine", "frontend 0"])
    before = pages.read("engine", TURN)
    engine = counters_of({"counters": pages.config("engine")}, ["a", "b"])
    engine.own.cells[engine.own.layout.place(TURN)] = 12.5
    found = pages.read("engine", TURN)
    pages.close()

    assert (before, found) == (None, 12.5)


def test_a_child_without_pages_counts_for_itself():
    counters = counters_of({}, ["a"])

    assert counters.own.layout.models == ("a",)
    assert list(counters.read().processes) == ["server"]


def test_a_system_without_room_for_a_page_is_a_failed_start(monkeypatch):
    made = []
    real = module.make_page_file

    def make(name):
        if len(made) == 2:
            raise OSError(errno.EMFILE, "Too many open files")
        made.append(real(name))
        return made[-1]

    monkeypatch.setattr(module, "make_page_file", make)

    with pytest.raises(ServerStartError, match=r"^counters: expected a page of memory .*Too many"):
        CounterFiles(["engine", "frontend 0"])

    for file in made:
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(file)
