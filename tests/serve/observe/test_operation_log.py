"""What operators read on stderr, as text or as JSON."""

import json
import logging
from contextlib import contextmanager
from datetime import datetime

from cellgate.serve.observe.operation_log import operation_logging

HOSTILE = "a\r\nb\x1b[31m\u2028c\x00\x9b"


@contextmanager
def bare_root(*handlers):
    """As in a program that has set up no logging but this."""
    root = logging.getLogger()
    before, root.handlers = root.handlers, list(handlers)
    try:
        yield root
    finally:
        root.handlers = before


def logged(capsys, log_format, *handlers, fault=None, process="frontend 0", **more):
    with bare_root(*handlers) as root:
        with operation_logging(log_format, process):
            logging.getLogger("cellgate.serve").warning("found %s", HOSTILE, exc_info=fault, **more)
        assert root.handlers == list(handlers)
    return capsys.readouterr().err


def test_text_is_the_process_and_the_message_on_one_line(capsys):
    assert logged(capsys, "text") == "frontend 0: found a\\u000d\\nb\\u001b[31m\\u2028c\\u0000\\u009b\n"


def test_text_of_the_supervisor_which_is_the_command_itself_is_the_message_alone(capsys):
    assert logged(capsys, "text", process="supervisor").startswith("found a")


def test_text_of_a_fault_has_its_traceback_without_control_characters(capsys):
    lines = logged(capsys, "text", fault=ValueError(HOSTILE)).split("\n")

    assert lines[0].startswith("frontend 0: found a")
    assert lines[1:] == ["ValueError: a\\u000d", "b\\u001b[31m\\u2028c\\u0000\\u009b", ""]


def test_json_is_one_object_a_line(capsys):
    line = logged(capsys, "json", fault=ValueError(HOSTILE), extra={"request_id": "client-7"})
    found = json.loads(line)

    assert line.count("\n") == 1
    assert line.isascii()
    assert datetime.fromisoformat(found.pop("time")).utcoffset().total_seconds() == 0
    assert found.pop("traceback").endswith(f"ValueError: {HOSTILE}")
    assert isinstance(found.pop("pid"), int)
    assert found == {
        "level": "warning",
        "logger": "cellgate.serve",
        "process": "frontend 0",
        "message": f"found {HOSTILE}",
        "request_id": "client-7",
    }


def test_json_of_a_plain_event_has_no_more(capsys):
    assert set(json.loads(logged(capsys, "json"))) == {"time", "level", "logger", "process", "pid", "message"}


def test_json_tells_of_the_processes_lives_and_text_only_what_went_wrong(capsys):
    logger = logging.getLogger("cellgate.supervisor")
    level = logger.level
    for log_format, lines in (("json", 1), ("text", 0)):
        with bare_root(), operation_logging(log_format, "supervisor"):
            logger.info("up")
        assert len(capsys.readouterr().err.splitlines()) == lines
        assert logger.level == level


def test_the_access_log_is_written_by_itself_alone(capsys):
    with bare_root(), operation_logging("json", "frontend 0"):
        logging.getLogger("cellgate.access").warning("{}")

    assert capsys.readouterr().err == ""


def test_a_program_s_own_logging_is_left_alone(capsys):
    assert logged(capsys, "text", logging.NullHandler()) == ""
    assert logged(capsys, "json", logging.NullHandler()) != ""
