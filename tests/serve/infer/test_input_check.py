"""Heads against a signature. No runtime, no JSON."""

import pytest

from cellgate.serve.errors import BadInput
from cellgate.serve.infer.inference import ArrayHead
from cellgate.serve.infer.input_check import BatchSize, check_heads, check_outputs
from cellgate.serve.infer.request_limits import RequestLimits

LIMITS = RequestLimits(
    max_batch_rows=4, max_steps=10, max_row_steps=30, max_answer_elements=100, max_json_elements=1000
)


def x(*shape, datatype="FP32"):
    return ArrayHead("x", datatype, shape)


def test_size_is_read_from_the_sequence_and_every_other_input_agrees(steps):
    heads = [ArrayHead("c0", "FP32", (1, 3, 3)), ArrayHead("lengths", "INT64", (3,)), x(3, 5, 2)]

    assert check_heads(steps, heads, LIMITS) == BatchSize(3, 5)


@pytest.mark.parametrize("datatype", ["INT32", "INT64"])
def test_tokens_come_in_either_width(tokens, datatype):
    assert check_heads(tokens, [ArrayHead("tokens", datatype, (2, 3))], LIMITS) == BatchSize(2, 3)


@pytest.mark.parametrize(
    ("heads", "message"),
    [
        ([], "inputs: expected the sequence x, found only none; see"),
        ([ArrayHead("h0", "FP32", (1, 1, 3))], "inputs: expected the sequence x, found only h0"),
        ([x(1, 1, 2), ArrayHead("y", "FP32", (1,))], "inputs: expected only x, lengths, h0, c0, found 'y'"),
        ([x(1, 1, 2), x(1, 1, 2)], r"inputs\.x: expected it once, found it twice"),
        ([x(1, 2)], r"inputs\.x\.shape: expected \[B, T, 2\] without zeros, found \[1, 2\]"),
        ([x(1, 2, 2, 2)], r"found \[1, 2, 2, 2\]"),
        ([x(0, 2, 2)], r"found \[0, 2, 2\]"),
        ([x(1, 0, 2)], r"found \[1, 0, 2\]"),
        ([x(1, 1, 3)], r"inputs\.x\.shape: expected \[B, T, 2\] = \[1, 1, 2\], found \[1, 1, 3\]"),
        ([x(5, 1, 2)], r"inputs\.x\.shape: expected at most 4 rows, found 5"),
        ([x(1, 11, 2)], r"expected at most 10 steps, found 11"),
        ([x(4, 10, 2)], r"expected at most 30 rows times steps, found 40"),
        ([x(1, 1, 2, datatype="FP64")], r"inputs\.x\.datatype: expected FP32, found 'FP64'; convert it"),
        ([x(1, 1, 2, datatype="INT64")], r"expected FP32, found 'INT64'"),
        ([x(1, 1, 2, datatype="FP16")], r"expected FP32, found 'FP16'"),
        ([x(2, 1, 2), ArrayHead("lengths", "FP32", (2,))], r"inputs\.lengths\.datatype: expected INT32 or INT64"),
        (
            [x(2, 1, 2), ArrayHead("lengths", "INT32", (3,))],
            r"inputs\.lengths\.shape: expected \[B\] = \[2\], found \[3\]",
        ),
        ([x(2, 1, 2), ArrayHead("lengths", "INT32", (2, 1))], r"expected \[B\] = \[2\], found \[2, 1\]"),
        ([x(2, 1, 2), ArrayHead("h0", "FP32", (1, 1, 3))], r"inputs\.h0\.shape: expected \[1, B, 3\] = \[1, 2, 3\]"),
        ([x(2, 1, 2), ArrayHead("h0", "FP32", (2, 1, 3))], r"found \[2, 1, 3\]"),
    ],
)
def test_head_that_does_not_fit_is_refused(steps, heads, message):
    with pytest.raises(BadInput, match=message):
        check_heads(steps, heads, LIMITS)


def test_network_without_lengths_may_be_given_them(tokens):
    heads = [ArrayHead("tokens", "INT64", (2, 3)), ArrayHead("lengths", "INT64", (2,))]

    assert check_heads(tokens, heads, LIMITS) == BatchSize(2, 3)


def test_limits_are_reached_and_not_crossed(steps):
    assert check_heads(steps, [x(4, 7, 2)], LIMITS) == BatchSize(4, 7)
    assert check_heads(steps, [x(3, 10, 2)], LIMITS) == BatchSize(3, 10)


def test_outputs_by_default_are_all_but_the_states(steps):
    assert check_outputs(steps, (), BatchSize(1, 1), LIMITS) == ("y",)


def test_outputs_come_in_the_order_asked_for(steps):
    assert check_outputs(steps, ("c_n", "y"), BatchSize(1, 1), LIMITS) == ("c_n", "y")


@pytest.mark.parametrize(
    ("wanted", "size", "message"),
    [
        (["h0"], BatchSize(1, 1), "outputs: expected only y, h_n, c_n, found 'h0'"),
        (["y", "h_n", "y"], BatchSize(1, 1), r"outputs\.y: expected it once, found it twice"),
        (["y"] * 10_000, BatchSize(1, 1), "it twice"),
        ([], BatchSize(3, 9), "outputs: expected at most 100 elements in the answer, found 108; send fewer"),
    ],
)
def test_outputs_that_cannot_be_given_are_refused(steps, wanted, size, message):
    with pytest.raises(BadInput, match=message):
        check_outputs(steps, wanted, size, LIMITS)


def test_answer_of_exactly_the_limit_is_given(steps):
    assert check_outputs(steps, (), BatchSize(5, 5), LIMITS) == ("y",)
