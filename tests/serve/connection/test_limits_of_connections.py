"""The parts of a connection's limits that need no socket: the size of JSON, heads, and late clients."""

import json

import pytest

from cellgate.serve.connection.connection_end import Awaited
from cellgate.serve.connection.connection_sweep import ConnectionSweep
from cellgate.serve.connection.head_check import check_head
from cellgate.serve.errors import BadInput
from cellgate.serve.head_errors import MalformedRequest
from cellgate.serve.infer.json_size import check_json_size

LONG = 2**16
MANY = 2**21


def nested(depth, count=1):
    one = b"[" * depth + b"1" + b"]" * depth
    return b"[" + b",".join([one] * count) + b"]"


def test_short_text_may_say_anything():
    check_json_size(b"[" * LONG, 1024)


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"inputs": [{"name": "x", "data": [[[0.5, 0.25]] * 30] * 400}]}).encode(),
        nested(31, 3000),
        b'["' + b"[" * LONG + b'"]',
        b'["' + b'\\"[' * LONG + b'"]',
    ],
    ids=["request", "32-levels", "string", "escapes"],
)
def test_long_text_within_the_limits_goes_on(text):
    assert len(text) > LONG

    check_json_size(text, MANY)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"[" + b"1," * 2000 + b" " * LONG, "at most 1024 values"),
        (b"[" * 2000 + b" " * LONG, "at most 1024 values"),
        (b"]" * 2000 + b" " * LONG, "at most 1024 values"),
        (b"{}" * 2000 + b" " * LONG, "at most 1024 values"),
        (nested(32) + b" " * LONG, "at most 32 levels"),
        (b'{"a":' * 40 + b" " * LONG, "at most 32 levels"),
        (b'"]",[' * 40 + b" " * LONG, "at most 32 levels"),
        (b'""' * 70_000, "at most 65536 strings"),
    ],
    ids=["values", "opened", "closed", "objects", "33-levels", "objects-deep", "brackets-in-strings", "strings"],
)
def test_long_text_beyond_a_limit_is_refused_before_it_is_parsed(text, message):
    with pytest.raises(BadInput, match=message):
        check_json_size(text, 1024)


HOST = [(b"host", b"a")]


@pytest.mark.parametrize("url", [b"/v2", b"*", b"http://a/v2", b"HTTP://A/v2?x"])
def test_head_in_one_meaning_goes_on(url):
    check_head("1.1", url, HOST)


def test_port_of_an_absolute_target_may_be_said():
    check_head("1.1", b"http://a:80/v2", [(b"host", b"a:80")])
    check_head("1.1", b"http://[::1]:80/v2", [(b"host", b"[::1]:80")])
    check_head("1.0", b"http://a/v2", [])


@pytest.mark.parametrize(
    ("version", "url", "headers"),
    [
        ("2.0", b"/", HOST),
        ("0.9", b"/", []),
        ("1.1", b"/", []),
        ("1.1", b"/", HOST * 2),
        ("1.1", b"a:80", HOST),
        ("1.1", b"http://b/", HOST),
        ("1.1", b"http://x@a/", HOST),
        ("1.1", b"http://", HOST),
        ("1.1", b"x", HOST),
        ("1.1", b"/", [*HOST, (b"transfer-encoding", b"gzip, chunked")]),
        ("1.0", b"/", [(b"transfer-encoding", b"chunked")]),
    ],
)
def test_head_in_two_meanings_is_refused(version, url, headers):
    with pytest.raises(MalformedRequest):
        check_head(version, url, headers)


class Connection:
    def __init__(self, *owed):
        self.owed, self.given_up = list(owed), []

    def awaited(self):
        return self.owed.pop(0) if len(self.owed) > 1 else self.owed[0]

    def give_up(self, awaited):
        self.given_up.append(awaited.what)


HEAD = Awaited("head", 1, 10.0)


def looks(connection, times):
    sweep = ConnectionSweep()
    return [sweep.look([connection], now) for now in times]


def test_client_that_owes_the_same_for_too_long_is_given_up():
    connection = Connection(HEAD)

    assert looks(connection, [100, 101, 109.9, 110]) == [0, 0, 0, 1]
    assert connection.given_up == ["head"]


@pytest.mark.parametrize("other", [Awaited("head", 2, 10.0), Awaited("body", 1, 10.0), None])
def test_whatever_goes_on_counts_anew(other):
    assert looks(Connection(HEAD, other, HEAD), [0, 9, 12, 20, 22]) == [0, 0, 0, 0, 1]


def test_connection_that_waits_for_us_owes_nothing():
    assert looks(Connection(None), [0, 1e6]) == [0, 0]


def test_time_of_zero_closes_at_the_first_look():
    assert looks(Connection(Awaited("idle", 1, 0.0)), [0]) == [1]
