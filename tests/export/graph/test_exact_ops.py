"""Functions whose usual form float32 cannot keep: the graph gives what torch gives, infinities too."""

from collections.abc import Callable

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the usual name

from cellgate.export.graph.exact_ops import exact_translations
from cellgate.export.graph.recurrent_ops import OPSET

_U = 2.0**-24
_ALLOWED = 8 * _U  # ACTIVATION_ULPS of the oracle
_MAGNITUDES = np.concatenate([[0.0], np.logspace(-30, 4.3, 800)]).astype(np.float32)
_BOTH_SIGNS = np.concatenate([-_MAGNITUDES[::-1], _MAGNITUDES])
_FROM_MINUS_ONE = _BOTH_SIGNS[_BOTH_SIGNS > -1]


class Applied(nn.Module):
    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *arguments: Tensor) -> Tensor:
        return self.function(*arguments)


def graph_of(function: Callable[..., Tensor], count: int) -> onnxruntime.InferenceSession:
    """Return a graph of ``function`` of ``count`` vectors, as an export translates it."""
    example = tuple(torch.rand(5) for _ in range(count))
    free = tuple({0: torch.export.Dim("N", min=2)} for _ in example)
    program = torch.export.export(Applied(function), example, dynamic_shapes=(free,), strict=False)
    made = torch.onnx.export(
        program,
        example,
        dynamo=True,
        verbose=False,
        opset_version=OPSET,
        custom_translation_table=exact_translations(),
    )
    assert made is not None
    return onnxruntime.InferenceSession(made.model_proto.SerializeToString(), providers=["CPUExecutionProvider"])


def run(session: onnxruntime.InferenceSession, *arrays: np.ndarray) -> np.ndarray:
    found = session.run(None, {value.name: a for value, a in zip(session.get_inputs(), arrays, strict=True)})
    return np.asarray(found[0], np.float64)


def exact(function: Callable[..., Tensor], *arrays: np.ndarray) -> np.ndarray:
    return function(*(torch.from_numpy(array).double() for array in arrays)).numpy()


@pytest.mark.parametrize(
    ("function", "x"),
    [
        pytest.param(F.logsigmoid, _BOTH_SIGNS[_BOTH_SIGNS < 80], id="logsigmoid"),  # beyond, it is no normal float32
        pytest.param(torch.log1p, _FROM_MINUS_ONE, id="log1p"),
        pytest.param(torch.expm1, _BOTH_SIGNS[_BOTH_SIGNS < 88], id="expm1"),
    ],
)
def test_each_digit_that_float32_has_is_right(function: Callable[..., Tensor], x: np.ndarray) -> None:
    expected = exact(function, x)

    found = run(graph_of(function, 1), x)

    assert np.all(np.abs(found - expected) <= _ALLOWED * np.abs(expected))


@pytest.mark.parametrize("function", [F.logsigmoid, torch.log1p, torch.expm1], ids=["logsigmoid", "log1p", "expm1"])
def test_ends_are_those_of_torch(function: Callable[..., Tensor]) -> None:
    x = np.array([-np.inf, -1.0, -0.0, 0.0, 1e30, np.inf, np.nan], np.float32)

    np.testing.assert_allclose(run(graph_of(function, 1), x), exact(function, x), rtol=_ALLOWED)


def test_logaddexp_neither_overflows_nor_loses_infinities() -> None:
    some = np.concatenate([_BOTH_SIGNS[::23], np.array([-np.inf, np.inf], np.float32)])
    a, b = (grid.ravel() for grid in np.meshgrid(some, some))
    expected = exact(torch.logaddexp, a, b)

    found = run(graph_of(torch.logaddexp, 2), a, b)

    finite = np.isfinite(expected)
    np.testing.assert_array_equal(found[~finite], expected[~finite])
    off = np.abs(found[finite] - expected[finite])
    assert np.all(off <= _ALLOWED * np.maximum(np.abs(expected[finite]), 1.0))


def test_division_of_sizes_rounds_down_as_in_python() -> None:
    session = graph_of(lambda x: F.pad(x, (0, -(-x.size(0) // 4) * 4 - x.size(0))), 1)

    for size in (1, 2, 3, 4, 5, 7, 8, 41):
        assert run(session, np.ones(size, np.float32)).size == -(-size // 4) * 4
