"""Errors over a process's border: the same class, sentence and facts."""

import json

import pytest

from cellgate.serve import errors, stream_errors
from cellgate.serve.processes.error_words import error_from_words, error_to_words

ANSWERS = [
    errors.BadInput("inputs", "the 2 rows that the stream began with", "3"),
    stream_errors.UnknownStream("a"),
    stream_errors.StreamEnded("a"),
    stream_errors.StreamExpired("a"),
    stream_errors.StreamDamaged("a"),
    stream_errors.StreamExists("a", 3),
    stream_errors.StepGap(3, 5),
    stream_errors.StepConflict(4),
    stream_errors.ModelChanged("a", "b" * 64, "c" * 64),
    stream_errors.StreamsFull("streams", 5),
    stream_errors.StoreUnavailable(),
    errors.QueueFull(7),
    errors.EngineError("engine: fault"),
]


@pytest.mark.parametrize("error", ANSWERS, ids=lambda error: error.code)
def test_an_answer_that_is_an_error_survives_the_way(error):
    found = error_from_words(json.loads(json.dumps(error_to_words(error))))

    assert type(found) is type(error)
    assert (str(found), dict(found.facts)) == (str(error), dict(error.facts))
    assert (found.status, found.headers) == (error.status, error.headers)


def test_a_word_that_is_not_known_is_a_fault_of_ours():
    found = error_from_words(["odd", "sentence"])

    assert type(found) is errors.EngineError
    assert str(found) == "sentence"
