"""What a caller may give, and what is sent for it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cellgate.client.arrays import like, to_array, to_rows
from cellgate.client.errors import InputError
from cellgate.client.model_facts import ModelFacts

FACTS = ModelFacts(
    name="m",
    sequence="x",
    features=2,
    vocabulary_size=None,
    lengths="lengths",
    answer="y",
    states=(),
    streamable=True,
    extensions=frozenset(),
)
TOKENS = replace(FACTS, sequence="tokens", features=None, vocabulary_size=7, lengths=None)


def test_a_batch_goes_as_it_is_and_in_float32():
    rows = to_rows(np.ones((2, 3, 2)), None, FACTS)

    assert (rows.values.dtype, rows.values.shape, rows.lengths) == (np.dtype("<f4"), (2, 3, 2), None)


def test_rows_of_unequal_length_are_padded_with_zeros_and_counted():
    rows = to_rows([np.ones((1, 2)), 2 * np.ones((3, 2))], None, FACTS)

    assert rows.values[:, :, 0].tolist() == [[1, 0, 0], [2, 2, 2]]
    assert rows.lengths.tolist() == [1, 3]
    assert rows.lengths.dtype == np.dtype("<i4")


def test_a_torch_tensor_goes_without_its_graph():
    rows = to_rows(torch.ones(1, 2, 2, dtype=torch.float64, requires_grad=True), torch.tensor([2]), FACTS)

    assert rows.values.tolist() == [[[1, 1], [1, 1]]]
    assert rows.lengths.tolist() == [2]


def test_lengths_may_be_whole_numbers_of_any_kind():
    for lengths in ([2, 1], np.array([2.0, 1.0]), torch.tensor([2, 1], dtype=torch.uint8)):
        assert to_rows(np.ones((2, 2, 2)), lengths, FACTS).lengths.tolist() == [2, 1]


def test_tokens_go_as_int64():
    assert to_rows(np.ones((1, 4), np.uint8), None, TOKENS).values.dtype == np.dtype("<i8")


def test_equal_rows_need_no_lengths_where_the_network_takes_none():
    assert to_rows([[1, 2], [3, 4]], None, TOKENS).lengths is None


@pytest.mark.parametrize(
    ("sequence", "lengths", "facts", "expected"),
    [
        pytest.param(np.ones((3, 2)), None, FACTS, r"x: expected \[B, T, I\], found shape \[3, 2\]", id="no-rows"),
        pytest.param([], None, FACTS, "at least one row, found an empty list", id="empty-list"),
        pytest.param([np.ones((1, 2))], [1], FACTS, "none beside a list of rows", id="list-and-lengths"),
        pytest.param([np.ones((1, 2)), np.ones((1, 3))], None, FACTS, r"x\[1\]: .* one width", id="two-widths"),
        pytest.param([np.ones((0, 2))], None, FACTS, r"at least one step, found shape \[0, 2\]", id="no-steps"),
        pytest.param([[1], [1, 2]], None, TOKENS, "this network takes no lengths", id="ragged-without-lengths"),
        pytest.param(np.ones((1, 2)), None, TOKENS, "tokens, which are integers, found the dtype float64", id="reals"),
        pytest.param(np.array([["a"]]), None, FACTS, "an array of numbers, found the dtype <U1", id="text"),
        pytest.param([[[1.0], [1.0, 2.0]]], None, FACTS, "an array of numbers", id="crooked"),
        pytest.param(torch.ones(1, 1, 2, dtype=torch.bfloat16), None, FACTS, "found .*BFloat16", id="bfloat16"),
        pytest.param(torch.ones(1, 1, 2).to_sparse(), None, FACTS, "an array of numbers", id="sparse"),
        pytest.param(np.ones((1, 2, 2)), [1.5], FACTS, r"whole numbers of 32 bits, found \[1.5\]", id="half-a-step"),
        pytest.param(np.ones((1, 2, 2)), [2**32 + 1], FACTS, "whole numbers of 32 bits", id="length-beyond-32-bits"),
        pytest.param(np.ones((1, 2, 2)), [np.nan], FACTS, "whole numbers, found NaN", id="length-that-is-no-number"),
    ],
)
def test_what_is_no_sequence_is_refused_in_a_sentence(sequence, lengths, facts, expected):
    with pytest.raises(InputError, match=expected):
        to_rows(sequence, lengths, facts)


def test_answers_come_back_in_the_kind_that_was_given():
    array = np.ones(2, np.float32)

    assert isinstance(like(torch.ones(1), array), torch.Tensor)
    assert isinstance(like([torch.ones(1)], array), torch.Tensor)
    assert like(np.ones(1), array) is array
    assert like([], array) is array


def test_a_state_may_be_a_list():
    assert to_array("h0", [[1.0, 2.0]]).shape == (1, 2)
