import pytest

from cellgate.serve import errors, head_errors, stream_errors


@pytest.mark.parametrize(
    ("error", "status", "code", "retryable"),
    [
        (errors.BadInput("x", "a", "b"), 400, "bad_input", False),
        (errors.UnknownModel("m", None, "n version 1"), 404, "unknown_model", False),
        (errors.BodyTooLarge(7), 413, "body_too_large", False),
        (errors.UnsupportedMedia("Content-Type", "JSON", "text"), 415, "unsupported_media", False),
        (head_errors.UnknownPath("GET", "/a"), 404, "not_found", False),
        (head_errors.UpgradeRequired(), 426, "upgrade_required", False),
        (head_errors.Unauthorized(), 401, "unauthorized", False),
        (head_errors.Forbidden("another"), 403, "forbidden", False),
        (head_errors.ForeignOrigin("https://a"), 403, "foreign_origin", False),
        (head_errors.WrongHost("a.b"), 421, "wrong_host", False),
        (head_errors.MalformedRequest("a", "b", "c"), 400, "malformed_request", False),
        (head_errors.HeadTooLarge("3 bytes"), 431, "headers_too_large", False),
        (head_errors.TooManyChunks(3), 413, "too_many_chunks", False),
        (head_errors.RequestTimeout("head", 3), 408, "request_timeout", True),
        (head_errors.TooManyConnections(3), 503, "too_many_connections", True),
        (errors.EngineError("broken"), 500, "engine", False),
        (errors.QueueFull(3), 503, "queue_full", True),
        (errors.QueueBytesFull(3), 503, "queue_full", True),
        (errors.NotReady(), 503, "not_ready", True),
        (errors.EngineLost(), 503, "engine_lost", True),
        (errors.DeadlineExceeded(), 504, "deadline", True),
        (stream_errors.UnknownStream(7), 404, "unknown_stream", False),
        (stream_errors.StreamEnded(7), 410, "stream_ended", False),
        (stream_errors.StreamExpired(7), 410, "stream_expired", False),
        (stream_errors.StreamDamaged(7), 410, "stream_damaged", False),
        (stream_errors.StreamExists(7, 3), 409, "stream_exists", False),
        (stream_errors.StepGap(3, 5), 409, "step_gap", False),
        (stream_errors.ModelChanged(7, "a", "b"), 409, "model_changed", False),
        (stream_errors.StepConflict(3), 422, "step_conflict", False),
        (stream_errors.StreamsFull("streams", 9), 503, "streams_full", True),
        (stream_errors.StoreUnavailable(), 503, "store_unavailable", True),
    ],
)
def test_class_carries_status_code_and_whether_to_try_again(error, status, code, retryable):
    assert (error.status, error.code, error.retryable) == (status, code, retryable)


def test_message_names_thing_expected_found_and_remedy():
    assert str(errors.BadInput("x", "3", "4", "send 3")) == "x: expected 3, found 4; send 3"


def test_text_of_a_client_is_repeated_shortened_and_escaped():
    found = errors.shown("\n\x1b[31m" + "a" * 10_000)

    assert len(found) == 120
    assert found.startswith("'\\n\\x1b[31maaa")


def test_what_is_nested_deeper_than_can_be_shown_is_said_to_be():
    value = 1
    for _ in range(100_000):
        value = [value]

    assert errors.shown(value) == "something nested too deep to be shown"


@pytest.mark.parametrize(
    ("error", "step"),
    [
        (stream_errors.StreamExists(7, 3), 3),
        (stream_errors.StepGap(3, 5), 3),
        (stream_errors.StepConflict(2), 3),
    ],
)
def test_refusals_of_a_step_say_which_one_is_expected(error, step):
    assert error.facts == {"expected_step": step}
    assert errors.QueueFull(1).facts == {}


@pytest.mark.parametrize(
    "error",
    [
        errors.QueueFull(1),
        errors.NotReady(),
        errors.EngineLost(),
        stream_errors.StreamsFull("streams", 9),
        stream_errors.StoreUnavailable(),
    ],
)
def test_overload_says_when_to_come_back(error):
    assert error.headers == {"Retry-After": "1"}
