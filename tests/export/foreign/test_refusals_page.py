"""Each sentence that docs/modules.md says a refusal holds is said to a module that it is about."""

import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from cellgate.export.errors import ExportError

pytestmark = pytest.mark.long

PAGE = (Path(__file__).parents[3] / "docs" / "modules.md").read_text()
TABLE = PAGE.partition("## What is refused")[2]
SENTENCES = [
    words for row in re.findall(r"^\| (`.*?) \|", TABLE, re.MULTILINE) for words in re.findall(r"`(.+?)`", row)
]
I, H = 4, 6


class Net(nn.Module):
    """Parts for the forwards below."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(9, I, max_norm=0.1)
        self.rnn, self.gru, self.head = nn.LSTM(I, H, batch_first=True), nn.GRU(I, H), nn.Linear(H, 2)
        self.images, self.cell, self.back = nn.Conv2d(1, 2, 3), nn.GRUCell(I, H), nn.Linear(H, I)
        self.rows = 8


def starts_at_random(self: Any, x: Tensor) -> Tensor:
    state = torch.randn(1, x.size(0), H)
    return self.rnn(x, (state, state))[0]  # type: ignore[no-any-return]


def less_the_mean_of_the_batch(self: Any, x: Tensor) -> Tensor:
    y = self.rnn(x)[0]
    return y - y.mean(0, keepdim=True)  # type: ignore[no-any-return]


def over_a_plain_number(self: Any, x: Tensor) -> Tensor:
    return self.rnn(x)[0].sum(1) / float(x.size(1))  # type: ignore[no-any-return]


def by_a_remainder(self: Any, x: Tensor) -> Tensor:
    y = self.rnn(x)[0]
    return y if x.size(1) % 2 else 2.0 * y  # type: ignore[no-any-return]


def by_a_value(self: Any, x: Tensor) -> Tensor:
    y = self.rnn(x)[0]
    return y if bool(y[:, 0].abs().sum() > H * 0.2) else 2.0 * y  # type: ignore[no-any-return]


def of_five_axes(self: Any, x: Tensor) -> Tensor:
    return self.rnn(x)[0][:, -1].view(-1, 2, 3, 1, 1)  # type: ignore[no-any-return]


def of_eight_rows(self: Any, x: Tensor) -> Tensor:
    state = torch.zeros(1, 8, H)
    return self.rnn(x, (state, state))[0]  # type: ignore[no-any-return]


def of_pictures(self: Any, picture: Tensor) -> Tensor:
    _, _, rows, columns = picture.shape
    return self.rnn(self.images(picture).reshape(-1, rows * columns, I))[0]  # type: ignore[no-any-return]


def with_times(self: Any, x: Tensor, delta: Tensor) -> Tensor:
    return self.rnn(x * delta)[0]  # type: ignore[no-any-return]


def adds_its_mask(self: Any, x: Tensor, mask: Tensor) -> Tensor:
    return self.head(self.rnn(x)[0]) + 3.0 * mask.unsqueeze(-1)  # type: ignore[no-any-return]


def adds_neighbours(self: Any, x: Tensor, mask: Tensor) -> Tensor:
    mask = torch.nn.functional.pad(mask[:, 1:] + mask[:, :-1], (1, 0))
    return self.rnn(x)[0] * mask.unsqueeze(-1)  # type: ignore[no-any-return]


def masks_features(self: Any, x: Tensor, mask: Tensor) -> Tensor:
    return self.rnn(x * mask)[0]  # type: ignore[no-any-return]


def masks_pairs(self: Any, x: Tensor, mask: Tensor) -> Tensor:
    y = self.rnn(x)[0]
    return (y @ y.transpose(1, 2)).masked_fill(mask == 0, -1e9).softmax(-1) @ y  # type: ignore[no-any-return]


def as_it_is(self: Any, x: Tensor) -> Tensor:
    return self.rnn(x)[0]  # type: ignore[no-any-return]


def in_half_precision(self: Any, x: Tensor) -> Tensor:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return self.rnn(x)[0].float()  # type: ignore[no-any-return]


def tied(self: Any, tokens: Tensor) -> Tensor:
    return self.back(self.rnn(self.embed(tokens))[0]) @ self.embed.weight.t()  # type: ignore[no-any-return]


def ends_with_the_longest(self: Any, x: Tensor, lengths: Tensor) -> Tensor:
    mask = torch.arange(lengths[lengths.argmax()])[None] < lengths[:, None]
    return self.rnn(x)[0] * mask.unsqueeze(-1)  # type: ignore[no-any-return]


def the_most_so_far(self: Any, x: Tensor) -> Tensor:
    return self.rnn(x)[0].cummax(1).values  # type: ignore[no-any-return]


def without_steps(self: Any, x: Tensor) -> Tensor:
    return self.back(torch.tanh(x @ self.back.weight))  # type: ignore[no-any-return]


def in_turns(self: Any, x: Tensor) -> Tensor:
    h = torch.zeros(x.size(0), I, dtype=torch.complex64)
    for step in x.unbind(1):
        h = torch.polar(torch.ones(I), torch.ones(I)) * h + step @ self.back.weight.t()
    return h.real


def of_one_row(self: Any, token: Tensor, hidden: Tensor) -> Any:
    said, hidden = self.gru(self.embed(token).expand(1, 1, I), hidden)
    return self.head(said[0]), hidden


def of_a_step_alone(self: Any, x: Tensor) -> Tensor:
    y, self.hidden = self.gru(x.unsqueeze(0), getattr(self, "hidden", None))
    return y[0]  # type: ignore[no-any-return]


def all_steps_at_once(self: Any, x: Tensor) -> Tensor:
    return torch.logcumsumexp(self.back(x @ self.back.weight), 1)


def with_an_optional_part(self: Any, x: Tensor, target: Tensor | None = None) -> Tensor:
    return torch.cat([self.rnn(x)[1][0][0], target], 1)  # type: ignore[list-item] # as people write it


def crossed(self: Any, x: Tensor, h1: Tensor, h2: Tensor) -> Any:
    return self.head(h1), self.cell(x, h2), self.cell(x, h1)


def made(forward: Callable[..., Any], change: Callable[[Any], Any] = lambda net: net) -> nn.Module:
    class Made(Net):
        pass

    Made.forward = forward  # type: ignore[method-assign]
    net = Made()
    for name, _ in list(net.named_children()):  # what no forward reads would say widths of its own
        if name not in {*forward.__code__.co_names, "rnn" if forward is as_it_is else ""}:
            delattr(net, name)
    return change(net)


def weight_normed(net: Any) -> Any:
    parametrizations.weight_norm(net.rnn, "weight_hh_l0")
    assert parametrize.is_parametrized(net.rnn)
    return net


def multiplies_halves(net: Any, x: Any) -> Any:
    return (net.rnn(x)[0].half() * 0.5).float()


def quantised(net: Any) -> Any:
    with warnings.catch_warnings(action="ignore"):
        return torch.ao.quantization.quantize_dynamic(net, {nn.LSTM})


MODULES: dict[str, Callable[[], nn.Module]] = {
    "gives another output each time for the same input": lambda: made(starts_at_random),
    "lets a row change the output of another": lambda: made(less_the_mean_of_the_batch),
    "freezes the batch or the time": lambda: made(by_a_remainder),
    "freezes the time to 5": lambda: made(over_a_plain_number),
    "takes for granted that (the size % 2) != 0": lambda: made(by_a_remainder),
    "gives something else with its recurrent layers exchanged": lambda: made(by_a_value),
    "returns shape …, expected [B, T, O] or [B, O]": lambda: made(of_five_axes),
    "runs for no input width": lambda: made(of_eight_rows),
    "takes images": lambda: made(of_pictures),
    "needs 'delta', which is neither sequence, lengths, mask nor state": lambda: made(with_times),
    "no run tells whether True in it is a real step or padding": lambda: made(adds_its_mask),
    "gives something else for mask of bool than of float32": lambda: made(adds_neighbours),
    "takes a mask [B, T, I]": lambda: made(masks_features),
    "[T, T]": lambda: made(masks_pairs),
    "computes weight_hh_l0 anew for each call": lambda: made(as_it_is, weight_normed),
    "computes in bfloat16 under torch.autocast": lambda: made(in_half_precision),
    "computes in float16 at": lambda: made(multiplies_halves),
    "computes with no complex numbers": lambda: made(in_turns),
    "reads the weight of embed elsewhere too": lambda: made(tied),
    "right only where the longest row fills the batch": lambda: made(ends_with_the_longest),
    "computes torch.cummax": lambda: made(the_most_so_far),
    "for which ONNX has no operator": lambda: made(the_most_so_far),
    "is quantised": lambda: made(as_it_is, quantised),
    "has no recurrent layer": lambda: made(without_steps),
    "takes a single step": lambda: made(of_a_step_alone),
    "which goes over all steps at once, is none": lambda: made(all_steps_at_once),
    "which was left at None": lambda: made(with_an_optional_part),
    "takes one step of one row alone": lambda: made(of_one_row),
    "gives them back in another order": lambda: made(crossed),
}


def test_every_sentence_of_the_page_has_a_module_here_and_no_other() -> None:
    assert len(SENTENCES) > 20
    assert sorted(MODULES) == sorted(SENTENCES)


@pytest.mark.parametrize("sentence", SENTENCES)
def test_sentence_of_the_page_is_said(exported: Any, sentence: str) -> None:
    with pytest.raises(ExportError, match=re.escape(sentence).replace("…", ".*")) as caught:
        exported(MODULES[sentence]())

    assert "\n" not in str(caught.value)
