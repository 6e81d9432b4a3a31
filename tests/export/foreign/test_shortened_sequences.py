"""Modules whose front leaves their recurrent layer fewer steps than came in: each sequence as it is alone."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from cellgate.export.errors import FrozenAxisError, SignatureError
from cellgate.export.exportable import prepare
from cellgate.export.graph.onnx_graph import export_onnx

from .shortened_modules import (
    Attentive,
    Beside,
    C,
    ChannelsFirst,
    Forecast,
    Fronted,
    H,
    I,
    O,
    PackedByCeilMode,
    PackedConvolution,
    PackedHalves,
    PackedUp,
    Spread,
    Started,
    TwoLayers,
    Words,
)

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(torch.__version__ < "2.13", reason="torch 2.10 binds the length where it pools, and is refused"),
]


def assert_right_alone_and_in_a_batch(graph: Any, module: nn.Module) -> None:
    """Each sequence gives what the module as it came gives for it alone, for the fewest steps and many others."""
    signature, module = graph.exportable.signature, module.eval()
    least = signature.least_steps
    assert not signature.state
    for steps in (*range(least, least + 9), *(least + more for more in (36, 37, 61, 62, 126, 199))):
        x = graph.exportable.example(3, steps)[0]
        counts = [np.full(3, steps, np.int32)] * (signature.lengths is not None)
        found = graph.run(x.numpy(), *counts)[0]
        for row in range(3):
            with torch.no_grad():
                expected = graph.exportable.network.call_as_it_came(module, x[row : row + 1]).numpy()
            alone = graph.run(x[row : row + 1].numpy(), *(count[:1] for count in counts))[0]
            assert expected.shape == alone.shape
            assert float(np.abs(found[row : row + 1] - expected).max()) < 2e-6
            assert float(np.abs(alone - expected).max()) < 2e-6


def conv(kernel: int, **options: Any) -> nn.Conv1d:
    return nn.Conv1d(I, C, kernel, **options)


@pytest.mark.no_cover
@pytest.mark.parametrize(
    ("module", "least"),
    [
        pytest.param(Fronted(conv(3, padding=1), nn.ReLU(), nn.MaxPool1d(2)), 2, id="pool"),
        pytest.param(Fronted(conv(5), nn.ReLU()), 5, id="no-padding"),
        pytest.param(Fronted(conv(3, padding=1), nn.MaxPool1d(2, ceil_mode=True)), 1, id="ceil-mode"),
        pytest.param(Fronted(conv(1), nn.MaxPool1d(3, 2, padding=1, ceil_mode=True)), 1, id="ceil-mode-and-padding"),
        pytest.param(Fronted(conv(1), nn.AvgPool1d(3, ceil_mode=True)), 1, id="mean-of-what-is-left"),
        pytest.param(Fronted(conv(3, padding=1), nn.AvgPool1d(2)), 2, id="means"),
        pytest.param(Fronted(conv(5, stride=3)), 5, id="stride-of-three"),
        pytest.param(Fronted(conv(4, stride=4)), 4, id="stride-of-four"),
        pytest.param(
            Fronted(
                conv(3, padding=1), nn.BatchNorm1d(C), nn.MaxPool1d(2), nn.Conv1d(C, C, 3, padding=1), nn.MaxPool1d(2)
            ),
            4,
            id="two-pools",
        ),
        pytest.param(Fronted(conv(3, dilation=4), nn.MaxPool1d(3, stride=2)), 11, id="dilated"),
        pytest.param(Fronted(conv(5, padding=2, padding_mode="circular"), nn.MaxPool1d(2)), 2, id="circular"),
        pytest.param(Fronted(conv(5, padding=3, padding_mode="reflect")), 4, id="reflected-and-longer"),
        pytest.param(Fronted(nn.Conv1d(I, C, 400, stride=160), read=lambda y: y.mean(1)), 400, id="sound"),
        pytest.param(
            Fronted(conv(3, stride=2), kind=nn.GRU, bidirectional=True, read=lambda y: y.mean(1)), 3, id="both-ways"
        ),
        pytest.param(Fronted(conv(3, padding=1), nn.AdaptiveAvgPool1d(9)), 1, id="to-nine-means"),
        pytest.param(Fronted(conv(3, padding=1), nn.AdaptiveMaxPool1d(4)), 1, id="to-the-largest-of-four"),
        pytest.param(ChannelsFirst(conv(3, padding=1), nn.MaxPool1d(2)), 2, id="channels-first"),
        pytest.param(Attentive(), 2, id="attention"),
        pytest.param(Words(), 8, id="tokens"),
        pytest.param(TwoLayers(), 2, id="between-layers"),
        pytest.param(Beside(7), 7, id="beside-the-layer"),
        pytest.param(Beside(5), 5, id="beside-the-layer-all-that-are-tried"),
        pytest.param(Started(), 1, id="one-step-more"),
        pytest.param(Spread(pooled=True), 2, id="mean-and-deviation-over-time"),
        pytest.param(Spread(pooled=False), 2, id="divided-by-its-deviation-over-time"),
    ],
)
def test_sequences_of_any_length_from_the_least_on(exported: Any, module: nn.Module, least: int) -> None:
    graph = exported(module)

    assert graph.exportable.signature.least_steps == least
    assert_right_alone_and_in_a_batch(graph, module)


def test_a_layer_of_a_fixed_number_of_steps_is_told_no_lengths(exported: Any) -> None:
    """Rows of one step and of two are not shorter for it."""
    module = Forecast().eval()
    graph = exported(module)
    inputs = [
        torch.zeros_like(t) if s.name[0] in "hc" else t
        for s, t in zip(graph.exportable.signature.inputs, graph.exportable.example(3, 9), strict=True)
    ]
    inputs[1] = torch.tensor([9, 2, 1], dtype=torch.int32)
    found = graph.run(*(tensor.numpy() for tensor in inputs))[0]

    for row, count in enumerate((9, 2, 1)):
        with torch.no_grad():
            expected = module(inputs[0][row : row + 1, :count]).numpy()
        assert float(np.abs(found[row] - expected).max()) < 2e-6


def test_lengths_that_the_module_itself_halves_are_honoured(exported: Any) -> None:
    module = PackedHalves().eval()
    graph = exported(module)
    x, counts = graph.exportable.example(4, 9)[0], np.array([9, 2, 5, 4], np.int32)

    assert graph.exportable.signature.least_steps == 2
    assert graph.exportable.signature.lengths == "lengths"
    assert_right_alone_and_in_a_batch(graph, module)
    found = graph.run(x.numpy(), counts)[0]
    for row, count in enumerate(counts.tolist()):
        with torch.no_grad():
            expected = module(x[row : row + 1, :count], torch.tensor([count])).numpy()
        assert float(np.abs(found[row] - expected).max()) < 2e-6


def test_lengths_are_not_honoured_where_a_window_reaches_into_the_padding(exported: Any) -> None:
    module = PackedConvolution()
    graph = exported(module)

    assert graph.exportable.signature.lengths is None
    assert_right_alone_and_in_a_batch(graph, module)


@pytest.mark.no_cover
@pytest.mark.parametrize("module", [PackedUp(), PackedByCeilMode()], ids=lambda module: type(module).__name__)
def test_lengths_are_not_honoured_where_they_are_right_only_for_what_the_stride_divides(
    exported: Any, module: nn.Module
) -> None:
    graph = exported(module)

    assert graph.exportable.signature.lengths is None
    assert_right_alone_and_in_a_batch(graph, module)


def test_answer_that_is_stretched_to_every_step_again_is_one_for_each(exported: Any) -> None:
    class Stretched(Fronted):
        def forward(self, x: Tensor) -> Tensor:
            return functional.interpolate(super().forward(x).transpose(1, 2), size=x.size(1)).transpose(1, 2)

    module = Stretched(conv(3, padding=1), nn.MaxPool1d(2), read=lambda y: y)
    graph = exported(module)

    assert graph.exportable.signature.outputs[0].shape == ("B", "T", O)
    assert_right_alone_and_in_a_batch(graph, module)


def test_module_that_needs_several_steps_carries_no_state(exported: Any) -> None:
    """A chunk of one step would be too short for it."""

    class ThirdFromTheEnd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.LSTM(I, H, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.rnn(x)[0][:, -3]  # type: ignore[no-any-return]

    module = ThirdFromTheEnd()
    graph = exported(module)

    assert graph.exportable.signature.least_steps == 3
    assert "out of bounds" in graph.exportable.network.said_to_fewer
    assert_right_alone_and_in_a_batch(graph, module)


def test_table_of_the_first_shortened_steps_needs_as_many_as_leave_it_whole(exported: Any) -> None:
    first_twenty = Fronted(
        conv(3, padding=1), nn.MaxPool1d(2), read=lambda y: y.flatten(1)[:, : 20 * H].unflatten(1, (20, H))
    )
    graph = exported(first_twenty)
    signature = graph.exportable.signature

    assert (signature.outputs[0].shape, signature.least_steps) == (("B", 20, O), 40)
    assert_right_alone_and_in_a_batch(graph, first_twenty)


def test_head_over_a_fixed_number_of_shortened_steps_is_refused_by_the_number_that_it_needs() -> None:
    module = Fronted(conv(3, padding=1), nn.MaxPool1d(2), read=lambda y: y.flatten(1))
    module.score = nn.Linear(20 * H, O)

    with pytest.raises(SignatureError, match="runs for sequences of 40 steps alone"):
        prepare(module)


@pytest.mark.no_cover
@pytest.mark.parametrize(
    ("read", "complaint"),
    [
        pytest.param(lambda y: y[:, -1] if y.size(1) < 77 else y.mean(1), "the time at most 153", id="from-some-on"),
        pytest.param(lambda y: y[:, -1] if y.size(1) != 33 else y.mean(1), "// 2\\) != 33", id="for-one-number"),
    ],
)
def test_condition_on_the_shortened_number_of_steps_is_refused(read: Callable[..., Tensor], complaint: str) -> None:
    with pytest.raises(FrozenAxisError, match=complaint):
        export_onnx(prepare(Fronted(nn.MaxPool1d(2), read=read, width=I)))
