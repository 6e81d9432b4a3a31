"""When a request is sent again: the conversation is driven by hand, so that nothing waits."""

import pytest

from cellgate.client.errors import GaveUpError, InputError
from cellgate.client.infer_message import Call, Reply
from cellgate.client.retry import NoReply, RetryPolicy, converse

CALL = Call(method="POST", path="/p", headers={}, content=b"c")
ONCE = Call(method="POST", path="/p", headers={}, content=b"c", may_repeat=False)
POLICY = RetryPolicy(attempts=3, first_pause_s=0.1, longest_pause_s=0.15)


def reply(status, content=b"", **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status=status, headers=headers, content=content)


def said(talk, *told):
    """Return what the conversation says to each answer, and how it ends."""
    found = [next(talk)]
    for answer in told:
        try:
            found.append(talk.send(answer))
        except StopIteration as end:
            return found, end.value
    return found, None


def test_an_answer_ends_the_conversation():
    assert said(converse(CALL, "u", POLICY), reply(200)) == ([CALL], reply(200))


@pytest.mark.parametrize("status", [400, 404, 409, 410, 413, 422, 500, 504])
def test_what_a_second_try_cannot_mend_is_not_tried_again(status):
    assert said(converse(CALL, "u", POLICY), reply(status)) == ([CALL], reply(status))


@pytest.mark.parametrize("told", [reply(503), reply(502), NoReply("ReadError")])
def test_a_lost_or_full_server_is_asked_again_after_a_pause_that_grows(told):
    found, _ = said(converse(CALL, "u", POLICY, draw=lambda: 1.0), told, None, told, None)

    assert found == [CALL, 0.1, CALL, 0.15, CALL]


def test_retry_after_is_obeyed():
    found, _ = said(converse(CALL, "u", POLICY), reply(503, retry_after="7"))

    assert found == [CALL, 7.0]


@pytest.mark.parametrize("text", ["Wed, 21 Oct 2026 07:28:00 GMT", "-1", "9999999", ""])
def test_a_retry_after_that_is_no_small_number_counts_as_none(text):
    found, _ = said(converse(CALL, "u", POLICY, draw=lambda: 0.0), reply(503, retry_after=text))

    assert found == [CALL, 0.05]


@pytest.mark.parametrize("attempt", [65, 1025, 10**6])
def test_the_pause_stays_the_longest_one_however_many_attempts_there_are(attempt):
    assert POLICY.pause_s(attempt, 0.0, 1.0) == 0.15


def test_no_server_makes_a_client_wait_for_more_than_a_minute():
    assert POLICY.pause_s(1, 86_400.0, 0.0) == 60.0


def test_it_gives_up_after_as_many_attempts_as_it_was_told():
    talk = converse(CALL, "http://h:1", POLICY)
    said(talk, NoReply("ConnectError refused"), None, NoReply("ConnectError refused"), None)

    with pytest.raises(GaveUpError, match=r"http://h:1: .* in 3 attempts, the last time ConnectError refused") as found:
        talk.send(NoReply("ConnectError refused"))
    assert found.value.attempts == 3


@pytest.mark.parametrize(
    "told",
    [
        NoReply("ReadError"),
        reply(502),
        reply(503),
        reply(503, b"[]"),
        *(reply(503, b'{"code": "%s"}' % code) for code in (b"queue_full", b"not_ready", b"engine_lost")),
        reply(503, b'{"code": "store_unavailable"}'),
    ],
)
def test_what_may_not_be_repeated_is_sent_once_where_it_may_have_been_carried_out(told):
    talk = converse(ONCE, "http://h:1", POLICY)
    assert next(talk) == ONCE

    with pytest.raises(GaveUpError, match=r"in 1 attempt, .* it is not known whether the chunk counted") as found:
        talk.send(told)
    assert (found.value.attempts, found.value.may_repeat) == (1, False)


@pytest.mark.parametrize(
    "told",
    [
        NoReply("ConnectError refused", was_sent=False),
        reply(503, b'{"code": "streams_full"}'),
        reply(503, b'{"code": "too_many_connections"}'),
    ],
)
def test_what_may_not_be_repeated_is_sent_again_where_it_was_certainly_not_carried_out(told):
    talk = converse(ONCE, "u", POLICY, draw=lambda: 1.0)
    found, _ = said(talk, told, None, told, None)

    assert found == [ONCE, 0.1, ONCE, 0.15, ONCE]
    with pytest.raises(GaveUpError, match="nothing was applied twice") as caught:
        talk.send(told)
    assert caught.value.may_repeat


@pytest.mark.parametrize(
    ("changes", "expected"),
    [({"attempts": 0}, "attempts: expected at least 1, found 0"), ({"first_pause_s": 9.0}, r"found 9\.0")],
)
def test_a_policy_that_cannot_be_is_refused(changes, expected):
    with pytest.raises(InputError, match=expected):
        RetryPolicy(**changes)
