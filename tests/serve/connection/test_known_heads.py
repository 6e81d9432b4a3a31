"""Which heads are remembered, and that what is remembered is bounded."""

import pytest

from cellgate.serve.connection.hot_request import HotRequest
from cellgate.serve.connection.known_heads import KnownHead, KnownHeads

URL = b"/v2/models/steps/infer"
HEADERS = [(b"host", b"test"), (b"content-length", b"5")]
HEAD = b"POST /v2/models/steps/infer HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\n"


def known(**changes):
    fields = {"body_bytes": 5, "head_bytes": None, "keep_alive": True, "given_id": None}
    return KnownHead(URL, HEADERS, HotRequest(**{**fields, **changes}))


def test_plain_head_is_remembered_by_its_bytes():
    heads, head = KnownHeads(), known()

    heads.remember(HEAD, head)

    assert heads == {HEAD: head}


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"\r\n\r\n",
        b"\r\n" + HEAD,
        HEAD[:-2],
        HEAD.replace(b"Host", b"X-Other: 1\r\nHost"),
        HEAD.replace(b"steps", b"other"),
        HEAD.replace(b"POST", b"PUT"),
        HEAD.replace(b"1.1", b"1.0"),
    ],
)
def test_bytes_that_are_not_the_head_of_what_was_parsed_are_not_remembered(head):
    heads = KnownHeads()

    heads.remember(head, known())

    assert heads == {}


@pytest.mark.parametrize("changes", [{"keep_alive": False}, {"given_id": b"one"}])
def test_head_that_comes_once_is_not_remembered(changes):
    heads = KnownHeads()

    heads.remember(HEAD, known(**changes))

    assert heads == {}


@pytest.mark.parametrize("name", [b"authorization", b"x-api-key"])
def test_head_with_a_key_is_not_remembered(name):
    heads = KnownHeads()

    heads.remember(
        HEAD.replace(b"Host", b"%s: secret\r\nHost" % name),
        KnownHead(URL, [*HEADERS, (name, b"secret")], known().request),
    )

    assert heads == {}


def test_long_head_is_not_remembered():
    heads = KnownHeads()

    heads.remember(HEAD.replace(b"test", b"t" * 1024), known())

    assert heads == {}


def test_endlessly_many_heads_take_bounded_memory():
    heads = KnownHeads()

    for number in range(5000):
        heads.remember(HEAD.replace(b"test", b"t%d" % number), known())

    assert 0 < len(heads) <= 1024
