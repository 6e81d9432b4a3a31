"""Masks in the forward of somebody else's module: made from lengths in the form that runs find, or refused.

Padded rows of the graph are held against the module as it came, given the mask that it takes.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from cellgate.export.errors import SignatureError
from cellgate.export.exportable import prepare
from cellgate.export.foreign.call_roles import find_roles
from cellgate.export.foreign.network import ForeignNetwork
from cellgate.export.torchscript import export_torchscript

from .foreign_modules import H, I
from .masked_modules import (
    bool_padding,
    bool_real,
    column,
    counted_and_packed,
    each_step,
    floats,
    form_of,
    made,
    name_that_lies,
    optional,
    row,
    whole_numbers,
    with_lengths,
)

pytestmark = pytest.mark.long

LENGTHS = torch.tensor([9, 1, 5, 8])


@pytest.mark.no_cover
@pytest.mark.parametrize(
    ("forward", "mask", "words"),
    [
        pytest.param(bool_real, lambda r: {"mask": r}, "bool [B, T], True for a real step", id="real"),
        pytest.param(bool_padding, lambda r: {"mask": ~r}, "bool [B, T], True for padding", id="padding"),
        pytest.param(
            name_that_lies, lambda r: {"padding_mask": r}, "bool [B, T], True for a real step", id="name-lies"
        ),
        pytest.param(
            whole_numbers, lambda r: {"attention_mask": r.long()}, "int64 [B, T], 1 for a real step", id="int64"
        ),
        pytest.param(floats, lambda r: {"mask": r.float()}, "float32 [B, T], 1 for a real step", id="float32"),
        pytest.param(column, lambda r: {"mask": r.unsqueeze(2)}, "bool [B, T, 1], True for a real step", id="column"),
        pytest.param(row, lambda r: {"mask": r.unsqueeze(1)}, "bool [B, 1, T], True for a real step", id="row"),
        pytest.param(each_step, lambda r: {"mask": r}, "bool [B, T], True for a real step", id="each-step"),
        pytest.param(counted_and_packed, lambda r: {"mask": r}, "bool [B, T], True for a real step", id="packed"),
        pytest.param(
            with_lengths, lambda r: {"lengths": r.sum(1), "mask": r}, "bool [B, T], True for a real step", id="lengths"
        ),
        pytest.param(
            optional, lambda r: {"src_key_padding_mask": ~r}, "bool [B, T], True for padding", id="optional-padding"
        ),
    ],
)
def test_padded_rows_are_what_the_module_makes_of_them_with_its_own_mask(
    exported: Any, forward: Callable[..., Any], mask: Callable[[Tensor], dict[str, Tensor]], words: str
) -> None:
    module, x = made(forward), torch.randn(4, 9, I)
    real = torch.arange(9) < LENGTHS.unsqueeze(1)
    graph = exported(module)
    inputs = [tensor.numpy() for tensor in graph.exportable.example(4, 9)]
    inputs = [x.numpy(), LENGTHS.int().numpy(), *(np.zeros_like(array) for array in inputs[2:])]

    actual = graph.run(*inputs)[0]

    with torch.no_grad():
        expected = module(x, **mask(real))
    if expected.dim() == 3:
        expected = expected * real.unsqueeze(2)
    assert float(np.abs(actual - expected.numpy()).max()) < 2e-6
    assert graph.exportable.description["mask"].endswith(f", made from lengths: {words}")


def test_rows_through_both_directions_are_those_alone_with_a_full_mask(exported: Any) -> None:
    module, x = made(bool_real, bidirectional=True), torch.randn(4, 9, I)
    graph = exported(module)
    states = [np.zeros_like(tensor.numpy()) for tensor in graph.exportable.example(4, 9)[2:]]

    actual = graph.run(x.numpy(), LENGTHS.int().numpy(), *states)[0]

    for number, count in enumerate(LENGTHS.tolist()):
        with torch.no_grad():
            expected = module(x[number : number + 1, :count], torch.ones(1, count, dtype=torch.bool))
        assert float(np.abs(actual[number] - expected[0].numpy()).max()) < 2e-6


@pytest.mark.parametrize("transposed", [False, True])
def test_modules_with_time_first_take_either_order_of_the_mask(exported: Any, transposed: bool) -> None:
    def forward(self: Any, x: Tensor, mask: Tensor) -> Tensor:
        shown = (mask if transposed else mask.t()).unsqueeze(-1).float()
        return self.head((self.rnn(x)[0] * shown).sum(0) / shown.sum(0))

    graph = exported(made(forward, batch_first=False))

    assert f"bool [{'T, B' if transposed else 'B, T'}]" in graph.exportable.description["mask"]
    assert graph.largest_difference([(3, 6)]) < 2e-6


def test_module_of_one_sequence_at_a_time_takes_a_mask(exported: Any) -> None:
    def forward(self: Any, x: Tensor, mask: Tensor) -> Tensor:
        o = self.rnn(x.view(len(x), 1, -1))[0].view(len(x), -1) * mask.unsqueeze(-1)
        return self.head(o.sum(0, keepdim=True) / mask.sum())

    graph = exported(made(forward, batch_first=False))

    assert "bool [T], True for a real step" in graph.exportable.description["mask"]
    assert graph.largest_difference([(3, 6)]) < 2e-6


@pytest.mark.no_cover
def test_a_mask_hides_padding_before_a_convolution_and_behind_a_stride_counts_the_steps(exported: Any) -> None:
    class Fronted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.rnn = nn.Conv1d(I, 6, 2, stride=2), nn.LSTM(6, H, batch_first=True)

        def forward(self, x: Tensor, mask: Tensor) -> Tensor:
            count = mask.sum(1) // 2
            seen = self.conv(x.transpose(1, 2)).transpose(1, 2)
            packed = pack_padded_sequence(seen, count.cpu(), batch_first=True, enforce_sorted=False)
            return self.rnn(packed)[1][0][-1]

    graph = exported(Fronted())

    assert graph.exportable.signature.lengths == "lengths"
    assert graph.largest_difference([(3, 6), (2, 9)]) < 2e-6


def divided_by_all(self: Any, x: Tensor, mask: Tensor) -> Tensor:
    return self.head((self.rnn(x)[0] * mask.unsqueeze(-1)).sum(1) / x.size(1))


def beside_the_last_state(self: Any, x: Tensor, mask: Tensor) -> Tensor:
    o, (h, _) = self.rnn(x)
    return self.head(h[-1] + (o * mask.unsqueeze(-1)).sum(1) / x.size(1))


@pytest.mark.parametrize("forward", [divided_by_all, beside_the_last_state])
def test_a_mask_by_which_no_padded_row_is_right_says_that_all_is_real(exported: Any, forward: Any) -> None:
    """With the other polarity they are right, for then the mask hides every step of a row alone."""
    module, x = made(forward), torch.randn(2, 5, I)
    graph = exported(module)

    assert graph.exportable.signature.lengths is None
    assert "all of it real, for rows of one length: bool [B, T], True for a real step" in form_of(module)
    states = [np.zeros_like(tensor.numpy()) for tensor in graph.exportable.example(2, 5)[1:]]
    with torch.no_grad():
        expected = module(x, torch.ones(2, 5, dtype=torch.bool))
    assert float(np.abs(graph.run(x.numpy(), *states)[0] - expected.numpy()).max()) < 2e-6


def test_a_mask_that_is_ignored_changes_nothing() -> None:
    def last(self: Any, x: Tensor, mask: Tensor) -> Tensor:
        return self.head(self.rnn(x)[1][0][-1])

    assert prepare(made(last)).network.honours_lengths
    assert not prepare(made(lambda self, x, mask: self.head(self.rnn(x)[0].mean(1)))).network.honours_lengths


def something_else(self: Any, x: Tensor, mask: Tensor | None = None) -> Tensor:
    o = self.rnn(x)[0]
    if mask is None:
        return self.head(2 * o.mean(1))
    return self.head((o * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True))


def never_right(self: Any, x: Tensor, mask: Tensor | None = None) -> Tensor:
    return self.head(self.rnn(x)[0].mean(1) if mask is None else (self.rnn(x)[0] * mask.unsqueeze(-1)).mean(1))


@pytest.mark.parametrize("forward", [something_else, never_right])
def test_an_optional_mask_that_does_not_help_is_left_out(forward: Callable[..., Any]) -> None:
    network = prepare(made(forward)).network

    assert isinstance(network, ForeignNetwork)
    assert network.mask_form is None
    assert not network.honours_lengths


def test_a_mask_with_a_default_that_forward_cannot_do_without_is_given() -> None:
    def forward(self: Any, x: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        mask = attention_mask.unsqueeze(-1)  # type: ignore[union-attr]
        return self.head((self.rnn(x)[0] * mask).sum(1) / mask.sum(1))

    assert "made from lengths: bool [B, T]" in form_of(made(forward))


@pytest.mark.no_cover
def test_a_mark_for_each_row_is_not_taken_for_one_for_each_step() -> None:
    with pytest.raises(SignatureError, match=r"runs for no input width .* with a mask of a mark for each step"):
        prepare(made(lambda self, x, mask: self.head(self.rnn(x)[0][:, -1]) * mask[:, None]))


def test_an_optional_mask_that_is_told_is_given() -> None:
    assert "made from lengths: bool [B, T]" in form_of(made(something_else), {"mask": "mask"})


def test_the_compiled_module_keeps_its_mask() -> None:
    exportable = prepare(made(each_step))

    assert export_torchscript(exportable).module is not None


@pytest.mark.parametrize(
    ("names", "sequence", "mask"),
    [
        pytest.param("x, src_mask", "x", "src_mask", id="behind"),
        pytest.param("valid_mask, x", "x", "valid_mask", id="before"),
        pytest.param("input_mask", "input_mask", None, id="alone"),
        pytest.param("x, causal_mask=None", "x", None, id="causal"),
        pytest.param("x, missing_mask=None", "x", None, id="missing"),
    ],
)
def test_masks_are_known_by_their_names(names: str, sequence: str, mask: str | None) -> None:
    scope: dict[str, Any] = {}
    exec(f"def forward(self, {names}): pass", scope)

    roles = find_roles(made(scope["forward"]))

    assert (roles.sequence, roles.mask) == (sequence, mask)
