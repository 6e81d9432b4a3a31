"""Counters that live in several processes: where they lie, that they outlive their writers, and what the sum is."""

import os
import signal
import subprocess
import sys

import pytest

from cellgate.serve.engine.plan import POOL_ROWS
from cellgate.serve.observe import counter_layout as known
from cellgate.serve.observe.counter_layout import (
    CODES,
    FAMILIES,
    HEAD_CELLS,
    MAX_RUN_ROWS,
    PROTOCOLS,
    STEP_KINDS,
    CounterLayout,
)
from cellgate.serve.observe.counter_page import CounterPage, Counters, make_page_file, read_page
from cellgate.serve.observe.process_facts import ProcessId, this_process

SIZES = {"protocol": len(PROTOCOLS), "code": len(CODES), "kind": len(STEP_KINDS), "rows": MAX_RUN_ROWS}


@pytest.fixture
def make_file():
    files = []

    def make(name="test"):
        files.append(make_page_file(name))
        return files[-1]

    yield make
    for file in files:
        os.close(file)


def combinations(family, models):
    """Every combination of label values, counted up."""
    found = [()]
    for label in family.labels:
        size = 1 + models if label == "model" else SIZES[label]
        found = [(*before, value) for before in found for value in range(size)]
    return found


def test_every_counter_has_cells_of_its_own_and_no_cell_is_nobodys():
    layout = CounterLayout(["a", "b"])
    cells = [
        layout.place(family, *labels) + offset
        for family in FAMILIES
        for labels in combinations(family, 2)
        for offset in range(family.cells)
    ]

    assert sorted(cells) == list(range(layout.cells))


def test_what_the_supervisor_counts_lies_first_whatever_models_there_are():
    for family in known.HEAD:
        places = {CounterLayout(models).place(family) for models in ((), ("a",), ("a", "b"))}

        assert len(places) == 1
        assert max(places) < HEAD_CELLS


def test_a_name_that_is_not_served_is_no_label_of_its_own():
    layout = CounterLayout(["a", "b"])

    assert [layout.model(name) for name in ("a", "b", "", "c", "a\n")] == [1, 2, 0, 0, 0]


@pytest.mark.parametrize("labels", [(3, 0, 0), (-1, 0, 0), (0, len(PROTOCOLS), 0), (0, 0, len(CODES))])
def test_a_label_value_that_there_is_not_is_refused(labels):
    with pytest.raises(IndexError, match=r"requests\.(model|protocol|code): expected 0 \.\. \d+, found"):
        CounterLayout(["a", "b"]).place(known.REQUESTS, *labels)


def test_a_run_has_no_more_rows_than_there_are_counters_for():
    assert MAX_RUN_ROWS == POOL_ROWS


def test_the_next_writer_of_a_page_goes_on_counting(make_file):
    layout, file = CounterLayout(["a"]), make_file()
    place = layout.place(known.ANSWERED_ROWS, 1)
    CounterPage(layout, file).cells[place] += 3
    second = CounterPage(layout, file)
    second.cells[place] += 4

    assert read_page(file, layout).values[place] == 7
    assert second.read() == read_page(file, layout)


def test_a_page_of_other_models_begins_anew(make_file):
    file = make_file()
    CounterPage(CounterLayout(["a", "b"]), file).cells[7] += 3
    page = CounterPage(CounterLayout(["a", "c"]), file)

    assert set(page.cells) == {0.0}


def test_of_a_page_with_another_layout_only_the_common_head_is_read(make_file):
    file = make_file()
    page = CounterPage(CounterLayout(), file)
    page.cells[page.layout.place(known.ENGINE_RESTARTS)] += 2

    assert read_page(file, CounterLayout(["a"])).values == [2.0, 0.0, 0.0]


def test_a_page_that_nobody_has_written_yet_is_nobodys(make_file):
    reading = read_page(make_file(), CounterLayout(["a"]))

    assert (reading.process, list(reading.values)) == (None, [])


def test_the_sum_is_over_all_pages_and_names_their_writers(make_file):
    layout = CounterLayout(["a"])
    files = {name: make_file(name) for name in ("one", "two", "new", "head")}
    one, two = CounterPage(layout, files["one"]), CounterPage(layout, files["two"])
    head = CounterPage(CounterLayout(), files["head"])
    one.cells[layout.place(known.REQUESTS, 1, 0, 0)] += 5
    two.cells[layout.place(known.REQUESTS, 1, 0, 0)] += 6
    head.cells[layout.place(known.FRONTEND_RESTARTS)] += 1
    start = layout.place(known.QUEUE_S, 1)
    one.cells[start] += 1
    two.cells[start + 1] += 1
    two.cells[start + len(known.SECONDS) + 1] += 0.5

    reading = Counters(one, files).read()

    assert reading.value(known.REQUESTS, 1, 0, 0) == 11
    assert reading.value(known.FRONTEND_RESTARTS) == 1
    counts, seconds = reading.histogram(known.QUEUE_S, 1)
    assert (counts[:3], sum(counts), seconds) == ([1, 1, 0], 2, 0.5)
    assert reading.processes == dict.fromkeys(("one", "two", "head"), this_process())


def test_a_server_of_one_process_reads_its_own_page():
    counters = Counters.alone(["a"])
    counters.own.cells[counters.own.layout.place(known.STEPS, 1, 1)] += 9

    reading = counters.read()

    assert reading.value(known.STEPS, 1, 1) == 9
    assert reading.processes == {"server": this_process()}


PROGRAM = """
import os, signal, sys
from cellgate.serve.observe.counter_layout import ANSWERED_ROWS, CounterLayout
from cellgate.serve.observe.counter_page import CounterPage
page = CounterPage(CounterLayout(["a"]), int(sys.argv[1]))
for _ in range(1000):
    page.cells[page.layout.place(ANSWERED_ROWS, 1)] += 1
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_what_a_killed_process_counted_is_not_lost(make_file):
    file, layout = make_file(), CounterLayout(["a"])
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", PROGRAM, str(file)], pass_fds=(file,), timeout=60, check=False)
        assert done.returncode == -signal.SIGKILL

    reading = read_page(file, layout)

    assert reading.values[layout.place(known.ANSWERED_ROWS, 1)] == 2000
    assert isinstance(reading.process, ProcessId)
    assert reading.process != this_process()
