"""Code that binds a free size is refused with what helps there, and that works when followed."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cellgate.export.errors import ExportError, FrozenAxisError

I, H = 4, 6
PLACES = torch.randn(3000, H)


class Net(nn.Module):
    """A layer in a forward of a test's own."""

    def __init__(self, forward: Callable[..., Tensor]) -> None:
        super().__init__()
        self.rnn, self.head = nn.GRU(I, H, batch_first=True), nn.Linear(H, 2)
        self.call = forward

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        return self.call(self, x, lengths)


def row_by_row(net: Net, x: Tensor, lengths: Tensor) -> Tensor:
    y = net.rnn(x)[0]
    return net.head(torch.stack([y[row, count - 1] for row, count in enumerate(lengths)]))


def all_rows(net: Net, x: Tensor, lengths: Tensor) -> Tensor:
    y = net.rnn(x)[0]
    return net.head(y[torch.arange(y.size(0)), lengths - 1])


def table(net: Net, x: Tensor, lengths: Tensor) -> Tensor:
    return net.rnn(x)[0] + PLACES[: x.size(1)]


def table_to_its_end(net: Net, x: Tensor, lengths: Tensor) -> Tensor:
    return net.rnn(x)[0] + PLACES[torch.arange(x.size(1)).clamp(max=2999)]


def condition(net: Net, x: Tensor, lengths: Tensor) -> Tensor:
    return net.rnn(x[:, -2500:] if x.size(1) > 2500 else x)[0][:, -1]


def by_float(net: Net, x: Tensor, lengths: Tensor) -> Tensor:
    return net.rnn(x)[0].sum(1) / float(x.size(1))


def by_root(net: Net, x: Tensor, lengths: Tensor) -> Tensor:
    return net.rnn(x)[0].sum(1) / math.sqrt(x.size(1))


def by_numpys_root(net: Net, x: Tensor, lengths: Tensor) -> Tensor:
    return net.rnn(x)[0].sum(1) / np.sqrt(x.size(1))


def by_tensor(net: Net, x: Tensor, lengths: Tensor) -> Tensor:
    return net.rnn(x)[0].sum(1) / torch.tensor(x.size(1)).sqrt() / torch.tensor(x.size(1))


def by_divmod(net: Net, x: Tensor, lengths: Tensor) -> Tensor:
    return net.rnn(x)[0].sum(1) / divmod(x.size(1), 4)[0]


_AS_TENSOR = r"take torch.tensor\(x.size\(1\)\) in the place of float"


@pytest.mark.covering("table", "root-of-numpy")
@pytest.mark.parametrize(
    ("forward", "complaint"),
    [
        # torch 2.10 does not say which of the two it is.
        pytest.param(row_by_row, r"freezes the batch (to 3|or the time).*Do with all rows at once what a", id="rows"),
        pytest.param(table, r"at most 3000 .*torch.arange\(x.size\(1\)\).clamp\(max=2999\)", id="table"),
        pytest.param(condition, r"at most 2500 .*a condition on the number of steps, take it out", id="condition"),
        pytest.param(by_divmod, r"by divmod at test_size_guards.*take T // 4 and T % 4", id="divmod"),
        pytest.param(by_float, f"freezes the time to .*{_AS_TENSOR}", id="float"),
        pytest.param(by_root, f"freezes the time to .*{_AS_TENSOR}", id="root"),
        pytest.param(by_numpys_root, rf"computes with a size at test_size_guards.*{_AS_TENSOR}", id="root-of-numpy"),
    ],
)
def test_size_that_is_bound_is_refused_with_what_helps(exported: Any, forward: Any, complaint: str) -> None:
    with pytest.raises(ExportError, match=complaint) as caught:
        exported(Net(forward))

    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, FrozenAxisError) or forward in (by_numpys_root, by_divmod)


@pytest.mark.no_cover
@pytest.mark.parametrize("forward", [all_rows, table_to_its_end, by_tensor])
def test_what_helps_works(exported: Any, forward: Any) -> None:
    assert exported(Net(forward)).largest_difference() < 2e-6
