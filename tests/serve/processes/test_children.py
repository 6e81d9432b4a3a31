"""The border between a child and its supervisor: configuration, reports, errors, the place of a child, the socket."""

import json
import os
import resource
import select
import socket
import sys

import pytest

from cellgate.bundle.errors import DigestError
from cellgate.serve import errors
from cellgate.serve.errors import EngineError, QueueFull
from cellgate.serve.processes import config_line as config_lines
from cellgate.serve.processes.child_border import ChildBorder, places_of, run_child, settings_of
from cellgate.serve.processes.child_process import ChildProcess
from cellgate.serve.processes.config_line import config_line, config_of_line
from cellgate.serve.processes.engine_socket import engine_listener
from cellgate.serve.processes.error_words import (
    ended_early,
    error_from_words,
    error_to_words,
    start_error_from_report,
    start_error_to_report,
)
from cellgate.serve.processes.slot import PAUSES_S, Slot
from cellgate.serve.settings import Settings
from cellgate.serve.start_errors import GoldenMismatchError, PortBusyError, ServerStartError


@pytest.fixture
def border():
    """A border, the file that feeds it and a function that reads its reports."""
    lifeline, feed = os.pipe()
    read, reports = os.pipe()

    def read_reports():
        return [json.loads(line) for line in os.read(read, 2**20).splitlines()]

    yield ChildBorder(lifeline, reports), feed, read_reports
    for file in (lifeline, feed, read, reports):
        os.close(file)


def test_a_child_gets_its_configuration_in_whatever_pieces_it_comes(border):
    child, feed, _ = border
    data = json.dumps({"places": [["a/b", None], ["c", "n"]], "settings": {"port": 7}}).encode() + b"\n"
    for place in range(0, len(data), 9):
        os.write(feed, data[place : place + 9])
    config = child.read_config()

    assert [(str(place.path), place.name) for place, _ in places_of(config)] == [("a/b", None), ("c", "n")]
    assert settings_of(config) == Settings(port=7)


def test_a_child_that_serves_to_the_end_has_done(border):
    child, feed, read_reports = border
    os.write(feed, b"{}\n")

    assert run_child(child, lambda border, config: border.report({"ready": config})) == 0
    assert read_reports() == [{"ready": {}}]


def test_a_child_that_cannot_start_says_why_in_one_sentence(border):
    child, feed, read_reports = border
    os.write(feed, b"{}\n")

    def fail(_border, _config):
        raise GoldenMismatchError("m", "y off by 1")

    assert run_child(child, fail) == 2
    (report,) = read_reports()
    assert report.keys() == {"kind", "error"}
    found = start_error_from_report(report)
    assert type(found) is GoldenMismatchError
    assert str(found) == str(GoldenMismatchError("m", "y off by 1"))


def test_a_child_whose_supervisor_is_gone_ends_without_a_word():
    lifeline, feed = os.pipe()
    os.close(feed)

    assert run_child(ChildBorder(lifeline, -1), lambda *_: pytest.fail("it ran")) == 2
    os.close(lifeline)


@pytest.mark.parametrize("err", [DigestError("model.onnx: x"), PortBusyError("h", 1, "in use"), ServerStartError("s")])
def test_errors_of_a_start_come_back_as_they_were(err):
    found = start_error_from_report(json.loads(json.dumps(start_error_to_report(err))))

    assert (type(found), str(found)) == (type(err), str(err))


def test_a_fault_that_nobody_foresaw_comes_back_with_its_traceback():
    try:
        [].pop()
    except IndexError as err:
        found = start_error_from_report(start_error_to_report(err))

    assert (type(found), str(found)) == (RuntimeError, "IndexError: pop from empty list")
    assert "test_children.py" in found.__notes__[0]


@pytest.mark.parametrize("kind", ["OSError", "Settings", "shown", "__name__"])
def test_only_classes_of_the_two_vocabularies_come_back(kind):
    assert type(start_error_from_report({"kind": kind, "error": "e"})) is RuntimeError


def test_every_error_of_an_engine_keeps_class_code_and_sentence():
    for err in (QueueFull(3), errors.NotReady(), errors.DeadlineExceeded(), errors.UnknownModel("a", None, "b")):
        found = error_from_words(json.loads(json.dumps(error_to_words(err))))

        assert (type(found), str(found), found.status) == (type(err), str(err), err.status)
    assert type(error_from_words(["new", "s"])) is EngineError


def test_an_early_end_is_told_with_its_signal_or_status():
    assert str(ended_early("engine", -9)) == "engine: expected it to start, found that its process ended with signal 9"
    assert str(ended_early("engine", 2)).endswith("status 2")
    assert str(ended_early("engine", None)).endswith("status None")


def test_what_a_library_prints_breaks_no_report(tmp_path):
    (tmp_path / "loud.py").write_text(
        "import os\n"
        "from cellgate.serve.processes.child_border import ChildBorder\n"
        "border = ChildBorder.of_this_process()\n"
        "print('noise', flush=True)\n"
        "os.write(1, b'noise\\n')\n"
        "border.report(border.read_config())\n"
    )
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(tmp_path)
    try:
        child = ChildProcess("loud", {"long": "x" * 100_000}, ())
    finally:
        os.environ.pop("PYTHONPATH") if before is None else os.environ.__setitem__("PYTHONPATH", before)
    reports = []
    while (more := child.read_reports()) is not None:
        reports += more

    assert reports == [{"long": "x" * 100_000}]
    assert child.reap() == 0


def test_a_child_that_does_not_read_its_configuration_is_only_a_dead_child():
    child = ChildProcess("cellgate.no_such_module", {"long": "x" * 2_000_000}, ())

    assert child.read_reports() is None
    assert child.reap() == 1


def test_a_child_that_never_reads_holds_nobody_up_however_long_its_configuration_is(monkeypatch, tmp_path):
    (tmp_path / "deaf.py").write_text("import signal\nsignal.pause()\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    child = ChildProcess("deaf", {"long": "x" * 2_000_000}, ())
    child.kill()

    assert child.read_reports() is None
    assert child.reap() == -9


def test_a_child_may_say_more_than_a_pipe_takes_before_it_reads(monkeypatch, tmp_path):
    (tmp_path / "first.py").write_text(
        "from cellgate.serve.processes.child_border import ChildBorder\n"
        "border = ChildBorder.of_this_process()\n"
        "border.report('y' * 500_000)\n"
        "border.report(len(border.read_config()['long']))\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    child = ChildProcess("first", {"long": "x" * 2_000_000}, ())
    reports = []
    while (more := child.read_reports()) is not None:
        reports += more

    assert reports == ["y" * 500_000, 2_000_000]
    assert child.reap() == 0


@pytest.mark.parametrize("length", [0, 4070, 4085, 4086, 4100, 70_000])
def test_a_configuration_of_any_length_comes_over_a_pipe_that_takes_little(length):
    config = {"long": "x" * length}
    line, file = config_line(config)

    assert len(line) <= select.PIPE_BUF
    assert config_of_line(line) == config
    assert (file is None) is (len(json.dumps(config)) < select.PIPE_BUF)
    if file is not None:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(file)


def test_a_configuration_that_is_too_long_is_told_and_no_process_started(monkeypatch):
    monkeypatch.setattr(config_lines, "MOST_CONFIG_BYTES", 5000)
    files = len(os.listdir("/proc/self/fd"))  # noqa: PTH208

    with pytest.raises(OSError, match="a configuration of 6012 bytes, of which it takes 5000 at most; serve fewer"):
        ChildProcess("deaf", {"long": "x" * 6000}, ())
    assert len(os.listdir("/proc/self/fd")) == files  # noqa: PTH208


def test_where_no_memory_is_left_for_a_configuration_no_file_stays_open(monkeypatch):
    files = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            ChildProcess("deaf", {"long": "x" * 6000}, ())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    assert len(os.listdir("/proc/self/fd")) == files  # noqa: PTH208


def test_a_child_that_ends_its_reports_but_not_itself_is_killed(monkeypatch, tmp_path):
    from cellgate.serve.processes import child_process

    (tmp_path / "stays.py").write_text("import os, signal\nos.close(1)\nsignal.pause()\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(child_process, "_END_S", 0.01)
    child = ChildProcess("stays", {}, ())

    assert child.read_reports() is None
    assert child.reap() == -9


def test_a_place_is_filled_again_at_once_or_after_a_growing_pause():
    slot, waits = Slot("engine", "m", ()), []
    for is_ready in (True, False, False, False, False, False, False, True, False):
        slot.is_ready = is_ready
        slot.leave(100.0)
        waits.append(slot.start_at_s - 100.0)

    assert waits == pytest.approx([0, *PAUSES_S, PAUSES_S[-1], 0, PAUSES_S[0]])
    assert slot.child is None


def test_a_complaint_is_not_repeated_while_nothing_gets_better(caplog):
    slot = Slot("engine", "m", ())
    for text in ("a", "a", "b", "b"):
        slot.complain(text)
    slot.is_ready = True
    slot.complain("b")

    assert [record.getMessage() for record in caplog.records] == ["engine: a", "engine: b", "engine: b"]


def test_the_engines_socket_is_private_and_leaves_nothing_behind():
    with engine_listener() as (listener, path):
        folder = os.path.dirname(path)  # noqa: PTH120
        mode = os.stat(folder).st_mode & 0o777  # noqa: PTH116
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
        assert listener.family == socket.AF_UNIX

    assert mode == 0o700
    assert not os.path.exists(folder)  # noqa: PTH110


def test_a_temporary_folder_with_a_long_name_is_avoided(monkeypatch, tmp_path):
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    with engine_listener() as (_, path):
        assert len(path.encode()) <= 107
    assert list(folder.iterdir()) == []


def test_no_temporary_folder_is_told_with_the_remedy(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))

    with (
        pytest.raises(ServerStartError, match=r"temporary folder: expected to make a socket in one, .* set TMPDIR"),
        engine_listener(),
    ):
        pytest.fail("it listened")


def test_a_temporary_folder_that_takes_no_socket_is_told_with_the_remedy_and_left_as_it_was(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("cellgate.serve.processes.engine_socket._NAME", "folder-that-is-not-there/engine")

    with (
        pytest.raises(ServerStartError, match=r"temporary folder: expected to make a socket in one, .* set TMPDIR"),
        engine_listener(),
    ):
        pytest.fail("it listened")
    assert list(tmp_path.iterdir()) == []


def test_options_for_warnings_reach_a_child(monkeypatch, tmp_path):
    (tmp_path / "says.py").write_text(
        "import sys\nfrom cellgate.serve.processes.child_border import ChildBorder\n"
        "ChildBorder.of_this_process().report(sys.warnoptions)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(sys, "warnoptions", ["error::BytesWarning"])
    child = ChildProcess("says", {}, ())

    assert child.read_reports() == [["error::BytesWarning"]]
    assert child.read_reports() is None
    assert child.reap() == 0
