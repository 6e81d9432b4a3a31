"""What the system says of a process, against what it says by other ways."""

import os
import resource
import subprocess
import sys
from dataclasses import replace

import pytest

from cellgate.serve.observe import process_facts as module
from cellgate.serve.observe.process_facts import ProcessId, process_facts, this_process


def cpu_s():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def test_facts_agree_with_the_other_ways_to_ask_the_system():
    tick_s = 2 / os.sysconf("SC_CLK_TCK")
    before = cpu_s()
    facts = process_facts(this_process())
    after = cpu_s()

    assert before - tick_s <= facts.cpu_s <= after + tick_s
    assert 2**20 < facts.rss_bytes <= resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def test_open_files_are_counted():
    before = process_facts(this_process()).open_files
    ends = os.pipe()
    during = process_facts(this_process()).open_files
    for end in ends:
        os.close(end)

    assert during == before + 2


def test_a_process_that_is_gone_has_no_facts():
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait(60)

    assert process_facts(ProcessId(child.pid, 0)) is None


def test_a_number_that_is_another_processs_by_now_has_no_facts():
    me = this_process()

    assert process_facts(replace(me, start_ticks=me.start_ticks + 1)) is None


@pytest.mark.parametrize("text", ["", "1 (x) R", "1 (x) R " + "a " * 30])
def test_a_system_that_says_something_else_says_nothing(monkeypatch, tmp_path, text):
    folder = tmp_path / str(os.getpid())
    folder.mkdir()
    (folder / "stat").write_text(text)
    monkeypatch.setattr(module, "_PROC", tmp_path)

    assert this_process() == ProcessId(os.getpid(), 0)
    assert process_facts(this_process()) is None


def test_a_name_with_brackets_and_blanks_shifts_nothing(monkeypatch, tmp_path):
    fields = list(range(3, 53))  # as proc(5) counts them
    folder = tmp_path / "7"
    (folder / "fd").mkdir(parents=True)
    (folder / "stat").write_text(f"7 (a) b (c)) {' '.join(map(str, fields))}")
    monkeypatch.setattr(module, "_PROC", tmp_path)

    facts = process_facts(ProcessId(7, 22))

    assert facts.cpu_s * os.sysconf("SC_CLK_TCK") == pytest.approx(14 + 15)
    assert facts.rss_bytes == 24 * os.sysconf("SC_PAGE_SIZE")
    assert facts.open_files == 0
