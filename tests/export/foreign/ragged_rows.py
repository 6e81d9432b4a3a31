"""Modules around nn.LSTM whose forward a test gives, and the rule for rows of unequal length."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

I, H = 4, 6
LENGTHS = (9, 5, 1)


def assert_right_for_ragged_rows(graph: Any, alone: Callable[[Tensor], Tensor], steps: int = 9) -> None:
    """Each row gives what ``alone`` gives for its real steps, from a state of zeros."""
    signature = graph.exportable.signature
    tensors = [
        torch.zeros_like(t) if s.name[0] in "hc" else t
        for s, t in zip(signature.inputs, graph.exportable.example(3, steps), strict=True)
    ]
    lengths = LENGTHS if signature.lengths else (steps,) * 3
    if signature.lengths:
        tensors[1] = torch.tensor(lengths, dtype=torch.int32)
    y = graph.run(*(tensor.numpy() for tensor in tensors))[0]
    for row, count in enumerate(lengths):
        with torch.no_grad():
            expected = alone(tensors[0][row, :count]).numpy()
        found = y[row, :count] if y.ndim == 3 else y[row]
        assert float(np.abs(found.ravel() - expected.ravel()).max()) < 2e-6


def module_with(forward: Callable[..., Any], **options: Any) -> Any:
    """Return a module around nn.LSTM with this forward."""

    class Made(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.LSTM(options.get("input_size", I), H, batch_first=options.get("batch_first", False))
            self.score = nn.Linear(H, 1)

    Made.forward = forward
    return Made().eval()
