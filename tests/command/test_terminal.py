"""Where text goes, and in which form."""

import io
import json
import math

from cellgate.command.terminal import Terminal, finite, printable


class FakeTerminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


def test_the_answer_is_on_stdout_and_all_else_on_stderr(capsys):
    terminal = Terminal()
    terminal.say("shape [B, T, 12]")
    terminal.pairs([("a", "1"), ("long", "2")])
    terminal.note("note")
    terminal.warn("careful")
    terminal.answer({"unasked": 1})

    out, err = capsys.readouterr()

    assert out == "shape [B, T, 12]\na     1\nlong  2\n"
    assert err == "cellgate: note\ncellgate: warning: careful\n"


def test_machines_get_one_document_and_nothing_for_people(capsys):
    terminal = Terminal(json=True)
    terminal.say("people")
    terminal.table(("a",), [(1,)])
    terminal.answer({"inf": math.inf, "nan": [math.nan], "pair": (1, 2), 3: {"x": 1.5}})

    assert json.loads(capsys.readouterr().out) == {"inf": "inf", "nan": ["nan"], "pair": [1, 2], "3": {"x": 1.5}}


def test_a_table_aligns_numbers_and_cuts_nothing(capsys):
    Terminal().table(("name", "error"), [("[a]", 0.00012345), ("b" * 60, 1)])

    lines = capsys.readouterr().out.splitlines()

    assert lines[2].startswith("[a] ")
    assert lines[2].rstrip().endswith("0.0001234")
    assert lines[3].startswith("b" * 60)


def test_long_lines_are_not_folded(capsys):
    Terminal().say("word " * 100)

    assert capsys.readouterr().out == "word " * 100 + "\n"


def test_commands_of_a_terminal_are_written_out():
    assert printable("a\x1b[31m\nb\u202e é") == "a\\x1b[31m\\nb\\u202e é"


def test_finite_keeps_what_json_can_say():
    assert finite({"a": [1, 2.5, "x", None, True]}) == {"a": [1, 2.5, "x", None, True]}


def test_progress_is_a_few_plain_lines_where_there_is_no_terminal(capsys):
    with Terminal().progress() as progress:
        for done in range(4):
            progress(f"step {done}", done, 3)
        for done in range(101):
            progress(f"case {done}", done, 100)

    assert capsys.readouterr().err.splitlines() == [
        *(f"cellgate: step {done} ({done} of 3)" for done in range(4)),
        *(f"cellgate: case {done} ({done} of 100)" for done in (0, 25, 50, 75, 100)),
    ]


def test_the_mere_end_of_a_step_that_was_told_is_not_told_again(capsys):
    with Terminal().progress() as progress:
        for what, done in (("a", 0), ("b", 1), ("b", 2)):
            progress(what, done, 2)
        progress("b", 0, 1)

    assert capsys.readouterr().err == "cellgate: a (0 of 2)\ncellgate: b (1 of 2)\ncellgate: b (0 of 1)\n"


def test_progress_is_a_bar_on_a_terminal(monkeypatch):
    screen = FakeTerminal()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    with Terminal().progress() as progress:
        progress("case [B, T]", 3, 10)

    assert "3/10" in screen.getvalue()
    assert "case [B, T]" in screen.getvalue()


def test_a_terminal_decides_its_own_width(monkeypatch):
    screen = FakeTerminal()
    monkeypatch.setattr("sys.stdout", screen)
    monkeypatch.setenv("COLUMNS", "40")
    Terminal().table(("a",), [("x" * 60,)])

    assert "x" * 60 not in screen.getvalue()
