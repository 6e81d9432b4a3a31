"""Modules around torch's layers whose forward a test gives, and the rule that all of them are held to."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

I, H = 4, 6


class Net(nn.Module):
    """nn.LSTM or nn.GRU, and a forward that tests give."""

    def __init__(self, forward: Callable[..., Any], kind: type[nn.RNNBase] = nn.LSTM, **options: Any) -> None:
        super().__init__()
        self.rnn = kind(I, H, **{"batch_first": True, **options})
        width = H * (2 if options.get("bidirectional") else 1)
        self.head = nn.Linear(options.get("proj_size") or width, 3)
        self.call = forward

    def forward(self, x: Tensor) -> Any:
        return self.call(self, x)


def make(forward: Callable[..., Any]) -> nn.Module:
    """Return a module around nn.LSTM with this forward."""

    class Made(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.LSTM(I, H, batch_first=True)
            self.score = nn.Linear(H, 1)

    Made.forward = forward
    return Made()


def assert_equal_to_module_row_by_row(
    module: nn.Module, exported: Any, *, steps: int = 9, time_first: bool = False
) -> None:
    """Each row of a padded batch gives what the module as it came gives for that row alone."""
    tensors = list(exported.exportable.example(3, steps))
    for k, spec in enumerate(exported.exportable.signature.inputs):
        if spec.name[0] in "hc":
            tensors[k] = torch.zeros_like(tensors[k])
    actual = exported.run(*(tensor.numpy() for tensor in tensors))[0]
    lengths = tensors[1].tolist() if exported.exportable.signature.lengths else [steps] * 3
    for row, count in enumerate(lengths):
        x = tensors[0][row : row + 1, :count]
        with torch.no_grad():
            expected = module.eval()(x.transpose(0, 1) if time_first else x)
        expected = expected[0] if isinstance(expected, tuple) else expected
        expected = expected.transpose(0, 1) if time_first and expected.dim() == 3 else expected
        found = actual[row : row + 1, :count] if actual.ndim == 3 else actual[row : row + 1]
        assert float(np.abs(found - expected.reshape(found.shape).numpy()).max()) < 2e-6
