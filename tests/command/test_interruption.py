"""Ctrl-C, and a reader that goes away: the command ends quietly, and writes nothing half."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from cellgate.__main__ import main

from .interpreter import python

pytestmark = pytest.mark.long

# Whoever starts the tests in the background of a shell has them, and all that they start, ignore Ctrl-C.
HEARING = """
import signal, sys
from cellgate.__main__ import main
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(main(sys.argv[1:]))
"""


def test_an_interruption_ends_quietly(run, monkeypatch, tmp_path):
    from cellgate.command import inspect_command

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(inspect_command, "show_bundle", interrupt)
    done = run("inspect", tmp_path)

    assert (done.status, done.out, done.err) == (130, "", "")


SWALLOWING = """
import os, signal
from cellgate.model import SequenceModel

def network():
    try:
        os.kill(os.getpid(), signal.SIGINT)
        while True:
            pass
    except KeyboardInterrupt as err:
        {answer}
    return SequenceModel(3, 4, 2)
"""


@pytest.mark.slow
@pytest.mark.parametrize("answer", ["pass", "raise RuntimeError from err"])
def test_an_interruption_that_other_code_swallows_ends_the_export_all_the_same(tmp_path, answer):
    source = tmp_path / "network.py"
    source.write_text(SWALLOWING.format(answer=answer), encoding="utf-8")
    done = python("-c", HEARING, "export", f"{source}:network", "--out", tmp_path / "out", cwd=tmp_path)

    assert done.returncode == 130
    assert "Traceback" not in done.stderr
    assert "(0 of" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_signals_are_left_alone_where_ctrl_c_is_ignored_or_another_threads(run, networks):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        done = run("inspect", networks / "weights.safetensors")
        kept = signal.getsignal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    with ThreadPoolExecutor() as pool:
        elsewhere = pool.submit(run, "inspect", networks / "weights.safetensors").result()

    assert (done.status, kept, elsewhere.status) == (0, signal.SIG_IGN, 0)


@pytest.mark.slow
def test_ctrl_c_ends_a_running_export_quietly_and_writes_nothing(networks, tmp_path):
    words = ["-c", HEARING, "export", f"{networks / 'networks.py'}:classifier", "--out", str(tmp_path / "out")]
    process = subprocess.Popen(
        [sys.executable, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    )
    first = process.stderr.readline()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)

    assert first == "cellgate: weights: as the factory made them (no --weights)\n"
    assert process.returncode == 130
    assert out == ""
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("words", [["inspect"], ["inspect", "--json"]])
def test_a_reader_that_goes_away_ends_the_command_quietly(networks, words):
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "cellgate", *words, str(networks / "weights.safetensors")]
    try:
        done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    finally:
        os.close(write)

    assert done.returncode == 141
    assert done.stderr == ""


def test_the_pipe_of_a_reader_that_went_away_is_not_complained_of_at_the_end(networks, monkeypatch):
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        status = main(["inspect", str(networks / "weights.safetensors")])
        pipe.write("what is left goes nowhere")

    assert status == 141
