"""Answers from bytes: however they are cut, and what is no answer."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellgate.client.errors import AnswerError
from cellgate.client.http_answer import Answer, AnswerReader


def feed_all(pieces):
    reader = AnswerReader()
    found = [reader.feed(piece) for piece in pieces]
    assert all(answer is None for answer in found[:-1])
    return found[-1]


@given(st.binary(max_size=300), st.lists(st.integers(0, 10**6), max_size=8), st.sampled_from([200, 404, 503]))
def test_an_answer_is_the_same_however_it_is_cut(body, cuts, status):
    raw = b"HTTP/1.1 %d Words\r\nX: y\r\ncontent-LENGTH:  %d \r\n\r\n" % (status, len(body)) + body
    places = sorted({0, *(cut % len(raw) for cut in cuts), len(raw)})
    pieces = [raw[a:b] for a, b in itertools.pairwise(places)]

    assert feed_all(pieces) == Answer(status, body, keeps_alive=True)


def test_an_answer_may_come_byte_by_byte():
    raw = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nnine byte"

    assert feed_all([raw[place : place + 1] for place in range(len(raw))]).body == b"nine byte"


def test_answers_follow_one_another():
    reader = AnswerReader()
    raw = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab"

    assert reader.feed(raw).body == b"ab"
    assert reader.feed(raw[:9]) is None
    assert reader.feed(raw[9:]).body == b"ab"


@pytest.mark.parametrize(
    ("head", "keeps_alive"),
    [
        (b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n", True),
        (b"HTTP/1.1 200 OK\r\nCONNECTION: close\r\n", False),
        (b"HTTP/1.0 200 OK\r\n", False),
    ],
)
def test_the_connection_is_used_again_where_the_server_keeps_it(head, keeps_alive):
    assert AnswerReader().feed(head + b"Content-Length: 0\r\n\r\n") == Answer(200, b"", keeps_alive)


def test_a_head_start_is_passed_over():
    early = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    late = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nz"
    reader = AnswerReader()

    assert AnswerReader().feed(early + late) == Answer(200, b"z", keeps_alive=True)
    assert reader.feed(early) is None
    assert reader.feed(late) == Answer(200, b"z", keeps_alive=True)


def test_some_statuses_have_no_body():
    assert AnswerReader().feed(b"HTTP/1.1 204 No Content\r\nX: y\r\n\r\n") == Answer(204, b"", keeps_alive=True)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "a Content-Length, found an answer without one"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "a Content-Length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab", "one answer to one request, found 1 bytes after it"),
        (b"HTTP/2 200\r\nContent-Length: 0\r\n\r\n", "status line"),
        (b"HTTP/1.1 abc OK\r\nContent-Length: 0\r\n\r\n", "status line"),
        (b"SSH-2.0-x\r\n", "an HTTP/1.1 head, found b'SSH-2.0"),
        (b"HTTP/1.1 200 OK\r\n" + b"x" * 70_000, "an HTTP/1.1 head"),
    ],
)
def test_what_is_no_answer_is_an_error(raw, expected):
    with pytest.raises(AnswerError) as raised:
        AnswerReader().feed(raw)

    assert expected in str(raised.value)
