"""Masks that say more than which steps are real, or nothing that a run could tell: refused, with what helps."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cellgate.export.errors import SignatureError, UnsupportedLayerError
from cellgate.export.exportable import prepare

from .foreign_modules import H, I
from .masked_modules import form_of, made

pytestmark = pytest.mark.long


def marked(self: Any, x: Tensor, mask: Tensor) -> Tensor:
    return self.head(self.rnn(x)[0]) + 3.0 * mask.unsqueeze(-1)


def test_a_polarity_that_no_run_tells_is_refused_unless_the_name_says_it() -> None:
    with pytest.raises(SignatureError, match="no run tells whether True in it is a real step or padding; call it att"):
        prepare(made(marked))

    for name, words in (("attention_mask", "True for a real step"), ("padding_mask", "True for padding")):
        scope: dict[str, Any] = {}
        exec(f"def forward(self, x, {name}):\n    return marked(self, x, {name})", {"marked": marked}, scope)
        assert words in form_of(made(scope["forward"]))


def test_a_mask_of_steps_beside_steps_is_refused_where_it_is_needed_and_left_out_where_it_is_not() -> None:
    def forward(self: Any, x: Tensor, mask: Tensor | None = None) -> Tensor:
        o = self.rnn(x)[0]
        weights = o @ o.transpose(1, 2)
        return self.head((weights if mask is None else weights.masked_fill(mask == 0, -1e9)).softmax(-1) @ o)

    def needing(self: Any, x: Tensor, mask: Tensor) -> Tensor:
        return forward(self, x, mask)

    assert form_of(made(forward)) == ""
    with pytest.raises(SignatureError, match=r"takes a mask \[T, T\] for mask, expected one mark for each step"):
        prepare(made(needing))


def test_a_mask_that_could_have_a_mark_for_each_feature_is_refused_and_its_remedies_work() -> None:
    def observed(self: Any, x: Tensor, mask: Tensor) -> Tensor:
        return self.head(self.rnn(x * mask)[0])

    def beside(self: Any, x: Tensor, mask: Tensor) -> Tensor:
        return self.head(self.rnn((torch.cat([x, mask], -1) * 0.5)[..., :I])[0] * mask[..., :1])

    def cut(self: Any, x: Tensor) -> Tensor:
        return observed(self, x[..., :I], x[..., I:])

    def padding(self: Any, x: Tensor, mask: Tensor) -> Tensor:
        return observed(self, x, mask.unsqueeze(-1))

    for forward in (observed, beside):
        with pytest.raises(SignatureError, match=r"takes a mask \[B, T, I\] for mask, expected one mark for each step"):
            prepare(made(forward))
    assert prepare(made(cut), input_dim=2 * I).network.honours_lengths
    assert form_of(made(padding)).endswith("bool [B, T], True for a real step")


def test_a_mask_that_runs_only_as_steps_beside_steps_is_refused_for_what_it_is() -> None:
    class Attending(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.attention = nn.LSTM(I, 6, batch_first=True), nn.MultiheadAttention(6, 2, batch_first=True)

        def forward(self, x: Tensor, attn_mask: Tensor) -> Tensor:
            o = self.rnn(x)[0]
            return self.attention(o, o, o, attn_mask=attn_mask)[0]

    with pytest.raises(SignatureError, match=r"takes a mask \[T, T\] for attn_mask, expected one mark for each step"):
        prepare(Attending())


def test_a_mask_that_means_something_else_as_bool_than_as_numbers_is_refused_until_forward_says_which() -> None:
    def averaged(self: Any, x: Tensor, mask: Tensor) -> Tensor:  # of two bool masks the sum is True, which is one
        pairs = (mask[:, 1:] + mask[:, :-1]) / 2
        return self.head((self.rnn(x)[0][:, 1:] * pairs.unsqueeze(-1)).sum(1))

    with pytest.raises(
        SignatureError, match=r"for mask of bool than of float32, .* begin it with mask = mask.float\(\)"
    ):
        prepare(made(averaged))
    assert "made from lengths" in form_of(made(lambda self, x, mask: averaged(self, x, mask.float())))


@pytest.mark.parametrize("reach", [12, 100])
def test_what_looks_far_ahead_into_the_padding_gets_no_lengths_by_its_mask(reach: int) -> None:
    def forward(self: Any, x: Tensor, mask: Tensor) -> Tensor:
        ahead = nn.functional.pad(x, (0, 0, 0, reach))[:, reach:]
        return self.head((self.rnn(x + ahead)[0] * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True))

    def careful(self: Any, x: Tensor, mask: Tensor) -> Tensor:
        return forward(self, x * mask.unsqueeze(-1), mask)

    assert "all of it real" in form_of(made(forward))
    assert "made from lengths" in form_of(made(careful))


def test_a_loop_over_a_cell_that_needs_a_mask_is_told_to_do_without() -> None:
    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.GRUCell(I, H)

        def forward(self, x: Tensor, mask: Tensor) -> Tensor:
            h = torch.zeros(x.size(0), H)
            for t in range(x.size(1)):
                h = torch.where(mask[:, t : t + 1], self.cell(x[:, t], h), h)
            return h

    with pytest.raises(UnsupportedLayerError, match="forward needs mask; take it out of the loop"):
        prepare(Loop())
