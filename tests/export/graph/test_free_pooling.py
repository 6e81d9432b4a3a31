"""Pooling with a free length gives what torch's own gives, for every length that torch takes."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from cellgate.export.graph.free_pooling import free_form_of

C = 3


def assert_same(function, *given, least=1, **named):
    for steps in range(least, 40):
        for shape in ((2, C, steps), (C, steps)):
            signal = torch.randn(shape, dtype=torch.float64)
            expected, found = function(signal, *given, **named), free_form_of(function)(signal, *given, **named)
            assert found.shape == expected.shape
            assert torch.allclose(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("function", [torch.max_pool1d, functional.max_pool1d])
@pytest.mark.parametrize(
    ("options", "least"),
    [
        ({"kernel_size": 2}, 2),
        ({"kernel_size": [2], "stride": [2]}, 2),
        ({"kernel_size": (5,), "stride": (3,), "padding": (2,)}, 1),
        ({"kernel_size": 3, "stride": 1, "padding": 1}, 1),
        ({"kernel_size": 3, "stride": 2, "dilation": 2}, 5),
        ({"kernel_size": 2, "ceil_mode": True}, 1),
        ({"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True}, 1),
        ({"kernel_size": 3, "stride": 3, "dilation": 2, "ceil_mode": True}, 3),
        ({"kernel_size": 2, "stride": 3, "ceil_mode": True}, 2),
        ({"kernel_size": 3, "stride": 3, "padding": 1, "ceil_mode": True}, 2),
    ],
    ids=str,
)
def test_largest_of_windows(function, options, least):
    assert_same(function, least=least, **options)


@pytest.mark.parametrize(
    ("options", "least"),
    [
        ({"kernel_size": 3, "stride": 2}, 3),
        ({"kernel_size": 3, "padding": 1, "count_include_pad": False}, 1),
        ({"kernel_size": 3, "ceil_mode": True}, 1),
        ({"kernel_size": 4, "stride": 2, "ceil_mode": True}, 3),
        ({"kernel_size": 3, "stride": 2, "padding": 1, "ceil_mode": True}, 1),
        ({"kernel_size": 2, "stride": 3, "ceil_mode": True}, 2),
    ],
    ids=str,
)
def test_means_of_windows(options, least):
    assert_same(torch.avg_pool1d, least=least, **options)


@pytest.mark.parametrize("function", [torch.adaptive_avg_pool1d, functional.adaptive_max_pool1d])
@pytest.mark.parametrize("count", [1, 4, (7,), 13])
def test_a_fixed_number_of_windows(function, count):
    assert_same(function, count)


@pytest.mark.parametrize(("function", "given"), [(functional.max_pool1d, 2), (functional.adaptive_max_pool1d, 3)])
def test_with_places_torch_itself_is_asked(function, given):
    signal = torch.randn(2, C, 9)
    expected, found = (
        function(signal, given, return_indices=True),
        free_form_of(function)(signal, given, return_indices=True),
    )

    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


class OverAllSteps(nn.Module):
    """Pools over every step that there is, by a window of their number."""

    def __init__(self, pool):
        super().__init__()
        self.rnn, self.pool = nn.GRU(C, 4, batch_first=True), pool

    def forward(self, x):
        y = self.rnn(x)[0].transpose(1, 2)
        return self.pool(y).squeeze(2)


@pytest.mark.covering("mean")
@pytest.mark.long
@pytest.mark.parametrize(
    "pool",
    [
        lambda y: functional.max_pool1d(y, y.size(2)),
        lambda y: functional.max_pool1d(y, kernel_size=(y.shape[-1],), stride=1),
        lambda y: functional.avg_pool1d(y, y.size(2)),
        lambda y: functional.max_pool1d(y[:, :, 1:], y.size(2) - 1),
    ],
    ids=["largest", "largest-by-keyword", "mean", "but-the-first"],
)
def test_window_of_all_steps_leaves_their_number_free(exported, pool):
    module = OverAllSteps(pool).eval()
    graph = exported(module)
    least = graph.exportable.signature.least_steps

    for steps in (least, least + 1, 30, 101):
        inputs = graph.exportable.example(2, steps)
        inputs = [
            torch.zeros_like(t) if s.name == "h0" else t
            for s, t in zip(graph.exportable.signature.inputs, inputs, strict=True)
        ]
        counts = [torch.full_like(t, steps) if t.dtype == torch.int32 else t for t in inputs]
        found = graph.run(*(tensor.numpy() for tensor in counts))[0]
        with torch.no_grad():
            assert torch.allclose(torch.from_numpy(found), module(inputs[0]), rtol=1e-5, atol=1e-6)


def test_everything_else_is_left_as_it_is():
    assert free_form_of(torch.relu) is torch.relu
