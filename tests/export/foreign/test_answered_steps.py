"""Modules that answer for each of the fewer steps that a front leaves: found, proved, and right for ragged rows."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from cellgate.export.errors import SignatureError
from cellgate.export.exportable import prepare
from cellgate.export.proof.laws import take_steps

pytestmark = [
    pytest.mark.long,
    pytest.mark.no_cover,
    pytest.mark.skipif(torch.__version__ < "2.13", reason="torch 2.10 binds the length where it pools, and is refused"),
]

I, C, H, O = 3, 5, 6, 4


class Ctc(nn.Module):
    """A front over channels, a layer in both directions over what it leaves, and log-probabilities for each of that."""

    def __init__(self, *front: nn.Module, width: int = C) -> None:
        super().__init__()
        self.front = nn.Sequential(*front)
        self.rnn = nn.LSTM(width, H, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * H, O)

    def forward(self, x: Tensor) -> Tensor:
        left = self.front(x.transpose(1, 2)).transpose(1, 2)
        return self.head(self.rnn(left)[0]).log_softmax(-1)  # type: ignore[no-any-return]


class TimeFirst(Ctc):
    """Gives [T', B, O], as nn.CTCLoss takes it."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).transpose(0, 1)


class Packed(Ctc):
    """Packs by what its front leaves of each row's length."""

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        left = self.front(x.transpose(1, 2)).transpose(1, 2)
        counts = (lengths - 3) // 2 + 1
        packed = pack_padded_sequence(left, counts.cpu(), batch_first=True, enforce_sorted=False)
        y, _ = pad_packed_sequence(self.rnn(packed)[0], batch_first=True, total_length=left.size(1))
        return self.head(y).log_softmax(-1)  # type: ignore[no-any-return]


class Causal(nn.Module):
    """An LSTM over every step, of which some are read."""

    def __init__(self, *, begin: int = 0, stride: int = 1) -> None:
        super().__init__()
        self.rnn, self.head = nn.LSTM(I, H, batch_first=True), nn.Linear(H, O)
        self.begin, self.stride = begin, stride

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0][:, self.begin :: self.stride])  # type: ignore[no-any-return]


class Tagger(nn.Module):
    """One sequence at a time: tokens [T] to scores for windows of two."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.rnn, self.head = nn.Embedding(20, C), nn.LSTM(C, H), nn.Linear(H, O)

    def forward(self, tokens: Tensor) -> Tensor:
        y, _ = self.rnn(self.words(tokens).view(len(tokens), 1, -1))
        return self.head(y[1:].view(len(tokens) - 1, -1))  # type: ignore[no-any-return]


def conv(kernel: int, **options: Any) -> nn.Conv1d:
    return nn.Conv1d(I, C, kernel, **options)


@pytest.mark.parametrize(
    ("module", "axis", "least"),
    [
        pytest.param(Ctc(conv(3, padding=1), nn.ReLU(), nn.MaxPool1d(2)), "T//2", 2, id="pool"),
        pytest.param(Ctc(conv(5)), "T-4", 5, id="no-padding"),
        pytest.param(Ctc(conv(3, stride=2), nn.GELU(), nn.Conv1d(C, C, 4, stride=3)), "(T-3)//6", 9, id="two-strides"),
        pytest.param(Ctc(conv(1), nn.AvgPool1d(3, ceil_mode=True)), "(T+2)//3", 1, id="ceil-mode"),
        pytest.param(Ctc(nn.Conv1d(I, C, 400, stride=160)), "(T-240)//160", 400, id="sound"),
        pytest.param(TimeFirst(conv(3, padding=1, stride=4)), "(T+3)//4", 1, id="time-first"),
        pytest.param(Causal(stride=2), "(T+1)//2", 1, id="every-second"),
        pytest.param(Causal(stride=5), "(T+4)//5", 1, id="every-fifth"),
        pytest.param(Causal(stride=6), "(T+5)//6", 1, id="every-sixth"),
        pytest.param(Causal(begin=3), "T-3", 4, id="from-the-fourth-on"),
        pytest.param(Causal(begin=2, stride=3), "T//3", 3, id="every-third-from-the-third-on"),
        pytest.param(Tagger(), "T-1", 2, id="one-sequence-at-a-time"),
    ],
)
def test_answer_for_each_step_that_is_left(exported: Any, module: nn.Module, axis: str, least: int) -> None:
    graph = exported(module)
    signature, network = graph.exportable.signature, graph.exportable.network

    assert (signature.outputs[0].shape, signature.least_steps) == (("B", axis, O), least)
    assert not signature.state
    for steps in (*range(least, least + 9), least + 37, least + 62):
        x = graph.exportable.example(3, steps)[0]
        found = graph.run(x.numpy(), *[np.full(3, steps, np.int32)] * (signature.lengths is not None))[0]
        for row in range(3):
            with torch.no_grad():
                expected = network.call_as_it_came(module.eval(), x[row : row + 1]).numpy()
            assert expected.shape == found[row : row + 1].shape
            assert float(np.abs(found[row : row + 1] - expected).max()) < 2e-6


@pytest.mark.parametrize(
    ("module", "left"),
    [
        pytest.param(Packed(conv(3, stride=2)), lambda n: (n - 1) // 2, id="packed"),
        pytest.param(Causal(stride=3), lambda n: (n + 2) // 3, id="every-third"),
    ],
)
def test_ragged_row_has_the_answer_that_it_has_alone_and_zeros_behind(
    exported: Any, module: nn.Module, left: Any
) -> None:
    graph = exported(module)
    x, counts = graph.exportable.example(5, 12)[0], np.array([12, 4, 11, 3, 8], np.int32)

    assert graph.exportable.signature.lengths == "lengths"
    found = graph.run(x.numpy(), counts)[0]
    assert graph.largest_difference() < 2e-6
    for row, count in enumerate(counts.tolist()):
        alone = graph.run(x[row : row + 1, :count].numpy(), counts[row : row + 1])[0]
        assert alone.shape[1] == left(count)
        assert float(np.abs(found[row, : left(count)] - alone[0]).max()) < 2e-6
        assert not found[row, left(count) :].any()


class Reaching(Packed):
    """Has windows that reach into the padding."""

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return super().forward(functional.avg_pool1d(x.transpose(1, 2), 3, 1, 1).transpose(1, 2), lengths)


class ByRatio(Packed):
    """Takes that share of what is left which a row has of the steps: right for an odd number of padded steps alone."""

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        left = self.front(x.transpose(1, 2)).transpose(1, 2)
        counts = (lengths / x.size(1) * left.size(1)).long().clamp(min=1)
        packed = pack_padded_sequence(left, counts.cpu(), batch_first=True, enforce_sorted=False)
        return self.head(pad_packed_sequence(self.rnn(packed)[0], batch_first=True)[0])  # type: ignore[no-any-return]


class EveryThirdFromTheLast(Causal):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.rnn(x)[0].flip(1)[:, ::3].flip(1))  # type: ignore[no-any-return]


class MeansOfThree(Causal):
    """The last mean is over what is left: alone, but in a batch over what stands in the padding as well."""

    def forward(self, x: Tensor) -> Tensor:
        means = functional.avg_pool1d(self.rnn(x)[0].transpose(1, 2), 3, ceil_mode=True)
        return self.head(means.transpose(1, 2))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("module", "axis"),
    [
        pytest.param(Reaching(conv(3, stride=2)), "(T-1)//2", id="window-into-the-padding"),
        pytest.param(ByRatio(conv(3, stride=2)), "(T-1)//2", id="by-ratio"),
        pytest.param(EveryThirdFromTheLast(), "(T+2)//3", id="from-the-last"),
        pytest.param(MeansOfThree(), "(T+2)//3", id="means"),
    ],
)
def test_lengths_are_not_honoured_where_a_ragged_row_has_another_answer_than_alone(
    module: nn.Module, axis: str
) -> None:
    signature = prepare(module).signature

    assert (signature.outputs[0].shape[1], signature.lengths) == (axis, None)


class Flat(Ctc):
    """Gives rows and steps as one axis."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).reshape(-1, O)


@pytest.mark.parametrize(
    ("module", "axis", "least"),
    [
        pytest.param(Causal(stride=4), "(T+3)//4", 1, id="every-fourth"),
        pytest.param(Causal(begin=3, stride=4), "T//4", 4, id="every-fourth-from-the-fourth-on"),
        pytest.param(Causal(begin=10), "T-10", 11, id="from-the-eleventh-on"),
        pytest.param(Causal(begin=9, stride=10), "T//10", 10, id="every-tenth"),
        pytest.param(Flat(conv(3, stride=2)), "(T-1)//2", 3, id="flat"),
        pytest.param(Ctc(conv(3, stride=2, padding=2)), "(T+3)//2", 2, id="more-of-the-fewest"),
    ],
)
def test_steps_of_an_answer_are_found_where_few_steps_do_not_tell(module: nn.Module, axis: str, least: int) -> None:
    signature = prepare(module).signature

    assert (signature.outputs[0].shape, signature.least_steps) == (("B", axis, O), least)


class Uneven(Ctc):
    """Leaves out a step more from a number of steps on, which stands in no code that is read."""

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        return y[:, :-1] if y.size(1) > self.head.out_features * 50 else y


class Repeated(Ctc):
    """Answers for more steps than came in."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).repeat_interleave(3, 1)


@pytest.mark.parametrize(
    ("module", "complaint"),
    [
        pytest.param(
            Uneven(conv(1)), "answers for 1099 of 1100 steps, expected 1100, which is T as for other", id="uneven"
        ),
        pytest.param(
            Uneven(conv(3, stride=2)),
            r"answers for 549 of 1102 steps, expected 550, which is \(T-1\)//2 as for other",
            id="uneven-front",
        ),
        pytest.param(Repeated(conv(1)), r"returns shape \[3, 15, 4\] for 3 rows of 5 steps", id="more-than-came-in"),
    ],
)
def test_what_answers_for_no_such_number_of_steps_is_refused(module: nn.Module, complaint: str) -> None:
    with pytest.raises(SignatureError, match=complaint):
        prepare(module)


def test_steps_are_taken_of_the_answer_as_far_as_they_are_left() -> None:
    signature = prepare(Causal(stride=2)).signature
    arrays = {"x": np.zeros((1, 9, I)), "y": np.arange(5)[None, :, None], "lengths": np.array([9])}

    taken = take_steps(arrays, 0, 6, signature)

    assert (taken["x"].shape[1], taken["y"].ravel().tolist(), taken["lengths"].tolist()) == (6, [0, 1, 2], [6])
