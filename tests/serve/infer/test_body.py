import pytest
from starlette.requests import ClientDisconnect, Request

from cellgate.serve.errors import BadInput, BodyTooLarge, UnsupportedMedia
from cellgate.serve.infer.body import check_headers, joined_headers, read_body

LIMIT = 10


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content-type": ""},
        {"content-type": "application/json"},
        {"content-type": "Application/JSON; Charset=UTF-8"},
        {"content-type": 'application/json; charset="utf-8"; q=1'},
        {"content-encoding": "identity"},
        {"content-length": "10"},
        {"content-length": "0010"},
        {"content-type": "application/octet-stream"},
    ],
)
def test_json_and_octets_and_no_type_at_all_are_taken(headers):
    assert check_headers(headers, LIMIT) is None


@pytest.mark.parametrize(("value", "head_bytes"), [("0", 0), ("12", 12), ("9" * 18, 10**18 - 1)])
def test_length_of_the_json_head_is_returned(value, head_bytes):
    assert check_headers({"inference-header-content-length": value}, LIMIT) == head_bytes


@pytest.mark.parametrize("value", ["", "-1", "1e9", "ten", "12, 12", "9" * 19, " 1"])
def test_length_of_the_json_head_that_is_no_number_is_refused(value):
    with pytest.raises(BadInput, match="Inference-Header-Content-Length: expected a number of bytes"):
        check_headers({"inference-header-content-length": value}, LIMIT)


def test_header_given_twice_is_joined_so_that_no_reader_takes_the_first_only():
    headers = joined_headers([(b"a", b"1"), (b"b", b"2"), (b"a", b"\xe9")])

    assert headers == {"a": "1, \xe9", "b": "2"}


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        (
            {"content-type": "application/x-www-form-urlencoded"},
            "Content-Type: expected application/json, found 'appl.*-H",
        ),
        ({"content-type": "multipart/form-data; boundary=x"}, "Content-Type"),
        ({"content-type": "application/x-pickle"}, "Content-Type"),
        ({"content-type": "text/plain"}, "Content-Type"),
        ({"content-type": "application/json; charset=latin-1"}, "charset utf-8"),
        ({"content-encoding": "gzip"}, "Content-Encoding: expected a body that is not compressed, found 'gzip'"),
        ({"content-encoding": "identity, br"}, "Content-Encoding"),
        ({"content-type": "application/json, application/json"}, "Content-Type"),
    ],
)
def test_other_media_are_refused(headers, message):
    with pytest.raises(UnsupportedMedia, match=message):
        check_headers(headers, LIMIT)


@pytest.mark.parametrize("length", ["", "-1", "+5", "1e3", "ten", "٣", "9" * 19])
def test_declared_length_that_is_no_number_is_refused(length):
    with pytest.raises(BadInput, match="Content-Length: expected a number of bytes"):
        check_headers({"content-length": length}, LIMIT)


@pytest.mark.parametrize("length", ["11", "99999999999", "9" * 18])
def test_declared_length_above_the_limit_is_refused(length):
    with pytest.raises(BodyTooLarge, match="expected at most 10 bytes"):
        check_headers({"content-length": length}, LIMIT)


def request_of(*chunks, disconnect=False):
    messages = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    messages.append({"type": "http.disconnect"} if disconnect else {"type": "http.request", "body": b""})
    taken = []

    async def receive():
        taken.append(messages[len(taken)])
        return taken[-1]

    return Request({"type": "http", "method": "POST", "headers": []}, receive), taken


@pytest.mark.parametrize("chunks", [(), (b"",), (b"0123456789",), (b"01234", b"", b"56789"), (b"0",) * 10])
async def test_body_up_to_the_limit_is_read_however_it_is_cut(chunks):
    request, _ = request_of(*chunks)

    assert await read_body(request, LIMIT) == b"".join(chunks)


async def test_body_without_a_declared_length_is_read_no_further_than_the_limit():
    request, taken = request_of(*[b"0123"] * 1000)

    with pytest.raises(BodyTooLarge):
        await read_body(request, LIMIT)

    assert len(taken) == 3


async def test_client_that_goes_away_ends_the_reading():
    request, _ = request_of(b"01", disconnect=True)

    with pytest.raises(ClientDisconnect):
        await read_body(request, LIMIT)
