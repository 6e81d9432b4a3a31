"""Foreign modules that cannot be exported: refused in one sentence that is true, and whose remedy works."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from cellgate.export.errors import SignatureError
from cellgate.export.exportable import prepare
from cellgate.export.foreign.call_modes import CpuOnly
from cellgate.export.torchscript import export_torchscript

I, H = 4, 6


class Net(nn.Module):
    """Parts for forwards that tests give."""

    def __init__(self, forward: Callable[..., Any], batch_size: int = 8) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.rnn = nn.LSTM(I, H, batch_first=True)
        self.front = nn.Conv1d(I, I, 3, padding=1)
        self.head = nn.Linear(H, 2)
        self.wide = nn.Linear(12 * H, 2)
        self.norm = nn.BatchNorm1d(H, track_running_stats=False)
        self.call = forward

    def forward(self, x: Tensor) -> Any:
        return self.call(self, x)


def random_start(net: Net, x: Tensor) -> Tensor:
    state = torch.randn(1, x.size(0), H)
    return net.rnn(x, (state, state))[0]


def dropout_for_ever(net: Net, x: Tensor) -> Tensor:
    return net.head(functional.dropout(net.rnn(x)[0], 0.5))


def rows_mixed(net: Net, x: Tensor) -> Tensor:
    return net.head(net.rnn(x)[0] + x.mean())


def normed_by_the_batch(net: Net, x: Tensor) -> Tensor:
    return net.norm(net.rnn(x)[0].transpose(1, 2)).transpose(1, 2)


def squeezed_too_early(net: Net, x: Tensor) -> Tensor:
    return functional.softmax(net.head(net.rnn(x)[1][0].squeeze()), dim=1)


def pooled(net: Net, x: Tensor) -> Tensor:
    return net.head(net.rnn(functional.max_pool1d(net.front(x.transpose(1, 2)), 2).transpose(1, 2))[0])


def pooled_a_lot(net: Net, x: Tensor) -> Tensor:
    return net.head(net.rnn(functional.max_pool1d(net.front(x.transpose(1, 2)), 8).transpose(1, 2))[0])


def squared(net: Net, x: Tensor) -> Tensor:
    """Answers for the root of the number of steps, which no stride leaves."""
    return net.head(net.rnn(net.front(x.transpose(1, 2)).transpose(1, 2))[0][:, : int((4 * x.size(1)) ** 0.5)])


def twelve_steps(net: Net, x: Tensor) -> Tensor:
    return net.wide(net.rnn(x)[0].flatten(1))


def single_step(net: Net, x: Tensor) -> Tensor:
    return net.head(net.rnn(x.view(x.size(0), 1, I))[0][:, 0])


def four_axes(net: Net, x: Tensor) -> Tensor:
    return net.head(net.rnn(x)[0][:, -1]).view(-1, 2, 1, 1, 1)


def fixed_batch(net: Net, x: Tensor) -> Tensor:
    zeros = torch.zeros(1, net.batch_size, H)
    return net.rnn(x, (zeros, zeros))[0]


def unpacks_three(net: Net, batch: Any) -> Tensor:
    x, _lengths, _names = batch
    return net.rnn(x)[0]


def imports_late(net: Net, x: Tensor) -> Tensor:
    import neighbour_that_is_gone as n

    return net.rnn(x * n.scale)[0]


@pytest.mark.parametrize(
    ("forward", "complaint"),
    [
        pytest.param(
            imports_late,
            "cannot import .*'neighbour_that_is_gone'.*; import it at the top of its file",
            id="late-import",
        ),
        pytest.param(random_start, "gives another output each time", id="random-start"),
        pytest.param(dropout_for_ever, "give F.dropout training=self.training", id="dropout-for-ever"),
        pytest.param(rows_mixed, "lets a row change the output of another", id="rows-mixed"),
        pytest.param(normed_by_the_batch, r"as that of norm, which has no running statistics", id="batch-norm"),
        pytest.param(squeezed_too_early, r"fails for 1 row of 7 steps .*squeeze\(-1\)", id="squeezed-too-early"),
        pytest.param(squared, r"answers for 12 of 41 steps, expected 22, which is \(T\+3\)//2", id="a-root"),
        pytest.param(twelve_steps, "runs for sequences of 12 steps alone", id="twelve-steps"),
        pytest.param(single_step, "takes a single step", id="single-step"),
        pytest.param(
            four_axes, r"returns shape \[3, 2, 1, 1, 1\] .*end its forward with .flatten\(1\)", id="four-axes"
        ),
        pytest.param(
            unpacks_three,
            r"saw 1 rows where 3 were given; .*where forward takes .* a tuple .*, and say",
            id="unpacks-3",
        ),
        pytest.param(fixed_batch, "make it with batch_size = 1", id="fixed-batch"),
    ],
)
def test_module_is_refused_with_the_reason(forward: Callable[..., Any], complaint: str) -> None:
    with pytest.raises(SignatureError, match=complaint) as caught:
        prepare(Net(forward))

    assert "\n" not in str(caught.value)


@pytest.mark.no_cover
@pytest.mark.parametrize(
    "forward",
    [
        pytest.param(
            lambda net, x: net.head(functional.dropout(net.rnn(x)[0], 0.5, net.training)), id="dropout-with-training"
        ),
        pytest.param(
            lambda net, x: functional.softmax(net.head(net.rnn(x)[1][0].squeeze(0)), 1), id="squeeze-with-its-axis"
        ),
        pytest.param(lambda net, x: four_axes(net, x).flatten(1), id="flatten"),
        pytest.param(lambda net, x: pooled(net, x)[:, -1], id="one-answer-of-the-pooled"),
        pytest.param(pooled, id="all-answers-of-the-pooled"),
        pytest.param(lambda net, x: pooled_a_lot(net, x).mean(1), id="one-answer-of-those-pooled-a-lot"),
        pytest.param(lambda net, x: net.head(net.rnn(x)[0]), id="all-steps-in-one-call"),
    ],
)
def test_remedy_of_a_refusal_works(exported: Any, forward: Callable[..., Any]) -> None:
    assert exported(Net(forward)).largest_difference() < 2e-6


def test_batch_size_of_one_serves_any_batch(exported: Any) -> None:
    graph = exported(Net(fixed_batch, batch_size=1))

    assert graph.exportable.network.input_layout.one_at_a_time
    assert graph.largest_difference() < 2e-6


class Pictures(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.front = nn.Conv2d(1, 2, (I, 3), padding=(0, 1))
        self.rnn = nn.LSTM(2, H, batch_first=True)

    def forward(self, picture: Tensor) -> Tensor:
        return self.rnn(self.front(picture).squeeze(2).transpose(1, 2))[0]


class Films(Pictures):
    def __init__(self) -> None:
        super().__init__()
        self.front = nn.Conv3d(1, 2, (1, I, 3), padding=(0, 0, 1))


@pytest.mark.parametrize(("network", "found"), [(Pictures, "nn.Conv2d"), (Films, "nn.Conv3d")])
def test_images_are_told_by_what_sees_them(network: type[nn.Module], found: str) -> None:
    with pytest.raises(SignatureError, match=rf"takes images \(it has {found}; it said"):
        prepare(network())


def test_images_are_refused_and_the_recurrent_part_alone_is_exported(exported: Any) -> None:
    with pytest.raises(SignatureError, match="takes images"):
        prepare(Pictures())

    assert exported(Pictures().rnn).largest_difference() < 2e-6


def test_module_without_a_forward_is_refused() -> None:
    class Parts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = nn.LSTM(I, H)

    with pytest.raises(SignatureError, match="Parts has no forward of its own"):
        prepare(Parts())


class SendsToTheGpu(nn.Module):
    """As code of a time when everybody wrote .cuda()."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(I, H, batch_first=True).cuda()
        self.start = torch.zeros(1, 1, H, device="cuda:0")

    def forward(self, x: Tensor) -> Tensor:
        start = torch.zeros(1, x.size(0), H).cuda() + self.start.to("cuda").to(torch.device("cuda", 0))
        return self.rnn(x.to(device="cuda"), start)[0]


def test_code_that_sends_its_tensors_to_the_gpu_is_exported_on_the_cpu(exported: Any) -> None:
    with CpuOnly():
        module = SendsToTheGpu()

    graph = exported(module)

    assert graph.exportable.network.stays_on_cpu
    assert graph.largest_difference() < 2e-6


class Packs(nn.Module):
    """Packs with lengths as plain numbers, in one of the ways that people have."""

    def __init__(self, plain: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.rnn = nn.GRU(I, H, batch_first=True, bidirectional=True)
        self.plain = plain

    def forward(self, text: Tensor, text_lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(text, self.plain(text_lengths), batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(self.rnn(packed)[0], batch_first=True)[0]


@pytest.mark.no_cover
@pytest.mark.parametrize(
    "plain",
    [
        pytest.param(lambda n: n.tolist(), id="tolist"),
        pytest.param(lambda n: n.data.tolist(), id="data-tolist"),
        pytest.param(lambda n: n.cpu().numpy(), id="numpy"),
    ],
)
def test_lengths_as_plain_numbers_stay_free(exported: Any, plain: Callable[[Tensor], Any]) -> None:
    module = Packs(plain).eval()

    graph = exported(module)

    x, lengths = torch.randn(3, 8, I), torch.tensor([8, 5, 2])
    with torch.no_grad():
        expected = module(x, lengths).numpy()
    y = graph.run(x.numpy(), lengths.to(torch.int32).numpy(), np.zeros((2, 3, H), np.float32))[0]
    assert float(np.abs(y - expected).max()) < 2e-6
    assert torch.tensor([1, 2]).tolist() == [1, 2]


class Sorts(nn.Module):
    """Sorts its rows by length before the layer and back behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTM(I, H, batch_first=True)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        ordered, order = lengths.sort(descending=True)
        packed = pack_padded_sequence(x[order], ordered.cpu(), batch_first=True)
        return self.rnn(packed)[1][0][-1][order.argsort()]


def test_module_that_sorts_its_rows_carries_no_state(exported: Any) -> None:
    module = Sorts().eval()

    graph = exported(module)

    assert graph.inputs == ["x", "lengths"]
    x, lengths = torch.randn(4, 8, I), torch.tensor([2, 8, 1, 5])
    with torch.no_grad():
        expected = module(x, lengths).numpy()
    y = graph.run(x.numpy(), lengths.to(torch.int32).numpy())[0]
    assert float(np.abs(y - expected).max()) < 2e-6


class Remembers(nn.Module):
    """Goes on from the call before, whatever that was."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(I, H, batch_first=True)
        self.inner = nn.Module()
        self.inner.last = None
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        y, self.inner.last = self.rnn(x, self.inner.last)
        self.calls = self.calls + 1
        return y


def test_what_a_module_keeps_is_put_back_and_its_torchscript_left_out(exported: Any) -> None:
    graph = exported(Remembers())

    network = graph.exportable.network
    assert graph.inputs == ["x", "lengths", "h0"]
    assert network.module.inner.last is None
    assert float(network.module.calls) == 0
    assert graph.largest_difference() < 2e-6
    scripted = export_torchscript(graph.exportable)
    assert scripted.module is None
    assert "assigns to self.calls, self.inner.last" in scripted.reason
