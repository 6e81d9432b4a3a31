"""From arguments to an exit status: help, wrong use, faults, and what is imported when."""

import errno
import json
import os
import re
import subprocess
import sys
from argparse import ArgumentTypeError
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from cellgate import __version__
from cellgate.__main__ import main
from cellgate.bundle.errors import NotABundleError
from cellgate.command import parser
from cellgate.command.entry import explain
from cellgate.command.errors import CheckFailedError, UsageError
from cellgate.command.export_options import role
from cellgate.command.parser import COMMANDS, make_parser
from cellgate.export.errors import NotEquivalentError, SourceError
from cellgate.serve.errors import BadInput, EngineError
from cellgate.serve.settings import SettingsError
from cellgate.serve.start_errors import GoldenMismatchError, PortBusyError

from .interpreter import python

pytestmark = pytest.mark.long

LIGHT = """
import json, sys
from cellgate.__main__ import main
status = main(sys.argv[1:])
heavy = [n for n in ("torch", "onnx", "onnxruntime", "fastapi", "uvicorn", "numpy", "rich") if n in sys.modules]
sys.stderr.write(json.dumps([status, heavy]))
"""


def test_nothing_asked_is_answered_with_the_help(run):
    done = run()

    assert done.status == 0
    assert done.out.startswith("usage: cellgate COMMAND ...\n")
    for command in COMMANDS:
        assert f"\n  {command:<8} " in done.out
    assert "exit status: 0 done; 1 the check failed" in done.out


@pytest.mark.parametrize(("compiled", "found"), [(False, ""), (True, ", compiled")])
def test_main_reads_the_arguments_of_the_process(monkeypatch, capsys, compiled, found):
    monkeypatch.setattr(sys, "argv", ["cellgate", "--version"])
    monkeypatch.setattr(parser, "is_compiled", lambda: compiled)

    assert main() == 0
    assert capsys.readouterr().out == f"cellgate {__version__}{found}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_says_the_default_of_every_option(run, command):
    done = run(command, "--help")
    parser = make_parser()._subparsers._group_actions[0].choices[command]
    options = [action for action in parser._actions if action.option_strings and action.dest != "help"]

    assert done.status == 0
    assert "examples:\n  " in done.out
    for action in options:
        assert action.required or "default" in action.help or "required" in action.help, action.dest


@pytest.mark.parametrize("columns", [60, 80, 100])
@pytest.mark.parametrize(
    "words", [[], *([command] for command in COMMANDS)], ids=lambda words: " ".join(words) or "all"
)
def test_help_is_as_wide_as_the_terminal_but_for_commands_to_copy(run, monkeypatch, words, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    lines = run(*words, "--help").out.splitlines()

    assert [line for line in lines if len(line) >= columns and not re.match("  (cellgate|CELLGATE)", line)] == []
    assert any(columns - 20 < len(line) < columns for line in lines[:40] if not line.startswith(" "))


def test_what_stands_behind_a_gap_goes_on_below_it_or_on_the_next_line(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    everything, bench = run("--help").out, run("bench", "--help").out

    assert "  serve    answer for bundles over HTTP and gRPC\n" in everything
    assert "  export   make a bundle of a network: ONNX and\n           TorchScript with batch and time" in everything
    assert "  cellgate bench http://127.0.0.1:8000\n      32 requests under way, as fast as it goes\n" in bench


@pytest.mark.slow
@pytest.mark.parametrize("words", [["--help"], ["--version"], [], ["serve", "--help"], ["export"]])
def test_help_and_wrong_use_load_nothing_heavy(words):
    done = python("-c", LIGHT, *words)
    status, heavy = json.loads(done.stderr.splitlines()[-1])

    assert status == (2 if words == ["export"] else 0)
    assert heavy == []


@pytest.mark.slow
@pytest.mark.parametrize(("asked", "policy", "turns"), [(None, "PASSIVE", "1000"), ("active", "ACTIVE", None)])
def test_waiting_threads_of_openmp_sleep_soon_unless_somebody_asked_otherwise(tmp_path, asked, policy, turns):
    environ = {name: value for name, value in os.environ.items() if name not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    environ |= {"OMP_DISPLAY_ENV": "verbose"} | ({"OMP_WAIT_POLICY": asked} if asked else {})
    weights = tmp_path / "weights.pt"
    weights.write_bytes(b"no checkpoint, but torch has to say so")
    done = python("-m", "cellgate", "inspect", weights, env=environ)

    assert f"OMP_WAIT_POLICY = '{policy}'" in done.stderr
    assert (f"GOMP_SPINCOUNT = '{turns}'" in done.stderr) == (turns is not None)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["bank"], "argument COMMAND: invalid choice: 'bank' (choose from "),
        (["export"], "the following arguments are required: SOURCE; see cellgate export --help"),
        (["predict", "b"], "the following arguments are required: --input; see cellgate predict --help"),
        (["inspect", "a", "--jsn"], "unrecognized arguments: --jsn; is --json meant?; see cellgate inspect --help"),
        (["verify", "a", "--devic", "cpu"], "unrecognized arguments: --devic cpu; is --device meant?; see cellgate "),
        (["serve", "a", "--port", "1", "--nothing-like-it"], "arguments: --nothing-like-it; see cellgate serve --help"),
        (["inspect", "a", "b"], "unrecognized arguments: b; see cellgate inspect --help"),
        (["verify", "a", "--device", "tpu"], "argument --device: invalid choice: 'tpu' (choose from "),
        (["--jso"], "required: COMMAND; see cellgate --help"),
    ],
)
def test_wrong_use_is_one_sentence(run, words, sentence):
    done = run(*words)

    assert done.status == 2
    assert done.out == ""
    assert sentence in done.err
    assert len(done.err.splitlines()) == 1


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UsageError("x"), 2),
        (CheckFailedError("x"), 1),
        (SourceError("x"), 2),
        (NotEquivalentError("x"), 1),
        (NotABundleError("x"), 2),
        (BadInput("x", "y", "z"), 2),
        (PortBusyError("h", 1, "busy"), 2),
        (GoldenMismatchError("n", "s"), 1),
        (EngineError("x"), 70),
        (SettingsError("port", "a", "b"), 2),
        (PermissionError(13, "Permission denied", "/x"), 2),
        (KeyError("x"), 70),
        (OSError("no file"), 70),
        (OSError(errno.ENOSPC, "No space left on device"), 2),
    ],
)
def test_every_error_has_its_exit_status(error, status):
    assert explain(error)[0] == status


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_told_and_is_no_fault(tmp_path):
    save_file({"w": np.zeros(2, np.float32)}, tmp_path / "w.safetensors", {"cellgate.network": "{}"})
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "cellgate", "inspect", tmp_path / "w.safetensors"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=120)

    assert done.returncode == 2
    assert done.stderr == (
        "cellgate: expected to write the answer, found: no space left on device; make room, or write it elsewhere\n"
    )


@pytest.mark.slow
def test_characters_that_stdout_cannot_take_are_written_out(tmp_path):
    path = tmp_path / "gr\u00f6\u00dfe.safetensors"
    save_file({"w": np.zeros(2, np.float32)}, path, {"cellgate.network": "{}"})
    done = python("-m", "cellgate", "inspect", path, env={**os.environ, "PYTHONIOENCODING": "ascii"})

    assert (done.returncode, done.stderr) == (0, "")
    assert "gr\\xf6\\xdfe.safetensors" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(("name", "status"), [("w.safetensors", 0), ("none.safetensors", 2)])
def test_closed_streams_change_no_exit_status(tmp_path, name, status):
    save_file({"w": np.zeros(2, np.float32)}, tmp_path / "w.safetensors", {"cellgate.network": "{}"})
    done = subprocess.run(
        ["sh", "-c", 'exec "$0" -m cellgate inspect "$1" >&- 2>&-', sys.executable, tmp_path / name],
        check=False,
        timeout=120,
    )

    assert done.returncode == status


def test_debug_may_stand_before_the_command_too(run, tmp_path):
    done = run("--debug", "inspect", tmp_path / "none")

    assert done.status == 2
    assert "Traceback" in done.err
    assert done.err.splitlines()[-1].startswith(f"cellgate: {tmp_path / 'none'}: expected a bundle's folder")


def test_a_sentence_has_no_line_breaks():
    assert explain(UsageError("a\n  b"))[1] == "a b"
    assert explain(PermissionError(13, "Permission denied", "/x"))[1] == (
        "/x: expected to read or write it, found: permission denied; check the path and its rights"
    )


def test_a_fault_is_one_sentence_and_a_traceback_only_where_asked(run, monkeypatch, tmp_path):
    from cellgate.command import inspect_command

    def fail(*_):
        raise RuntimeError("wires crossed")

    monkeypatch.setattr(inspect_command, "show_bundle", fail)
    quiet = run("inspect", tmp_path)
    debugged = run("inspect", tmp_path, "--debug")
    monkeypatch.setenv("CELLGATE_DEBUG", "1")
    by_environment = run("inspect", tmp_path)
    monkeypatch.setenv("CELLGATE_DEBUG", "0")

    assert quiet.status == debugged.status == by_environment.status == 70
    assert quiet.err == (
        "cellgate: a fault of cellgate itself, RuntimeError: wires crossed; run it again with --debug for the "
        "traceback and report it\n"
    )
    assert "Traceback" in debugged.err
    assert "Traceback" in by_environment.err
    assert "Traceback" not in run("inspect", tmp_path).err


@pytest.mark.slow
def test_python_m_ends_with_the_exit_status(tmp_path):
    done = python("-m", "cellgate", "inspect", tmp_path / "none.onnx")

    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(f"cellgate: {tmp_path / 'none.onnx'}: expected a bundle's folder")


def test_a_role_is_a_pair():
    assert role("state=h,c") == ("state", "h,c")
    for text in ("state", "state=", "x=y"):
        with pytest.raises(ArgumentTypeError, match=f"found '{text}'"):
            role(text)
