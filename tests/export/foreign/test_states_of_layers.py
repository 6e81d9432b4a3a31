"""The states of several recurrent layers are carried in whatever arrangement the module takes and gives them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cellgate.export.exportable import prepare

pytestmark = pytest.mark.long

I, H = 4, 6


class Layers(nn.Module):
    """Two layers, each given its own part of the state by the forward that a test gives."""

    def __init__(self, kind: type[nn.RNNBase], widths: tuple[int, int] = (H, H)) -> None:
        super().__init__()
        self.layers = nn.ModuleList([kind(I, widths[0], batch_first=True), kind(*widths, batch_first=True)])
        self.head = nn.Linear(widths[1], 3)

    def run(self, x: Tensor, states: Any) -> tuple[Tensor, list[Any]]:
        new = []
        for layer, state in zip(self.layers, states, strict=True):
            x, left = layer(x, state)
            new.append(left)
        return self.head(x), new


def listed(net: Layers, x: Tensor, states: Any = None) -> Any:
    return net.run(x, states or [None, None])


def listed_and_needed(net: Layers, x: Tensor, states: Any) -> Any:
    return net.run(x, states)


def by_name(net: Layers, x: Tensor, h: Any, c: Any) -> Any:
    y, new = net.run(x, list(zip(h, c, strict=True)))
    return y, [h for h, _ in new], [c for _, c in new]


def stacked(net: Layers, x: Tensor, state: Any = None) -> Any:
    if state is None:
        state = torch.zeros(2, x.size(0), H), torch.zeros(2, x.size(0), H)
    y, new = net.run(x, [(state[0][k : k + 1], state[1][k : k + 1]) for k in range(2)])
    return y, (torch.cat([h for h, _ in new]), torch.cat([c for _, c in new]))


def squeezed(net: Layers, x: Tensor, hidden: Any) -> Any:
    y, new = net.run(x, [h.unsqueeze(0) for h in hidden])
    return y, [h.squeeze(0) for h in new]


def an_argument_each(net: Layers, x: Tensor, first: Any = None, second: Any = None) -> Any:
    y, new = net.run(x, [first, second])
    return y, *new


CASES: dict[str, tuple[Any, Callable[..., Any], dict[str, str]]] = {
    "list-of-pairs": (nn.LSTM, listed, {}),
    "list-of-pairs-needed": (nn.LSTM, listed_and_needed, {}),
    "list-of-tensors": (nn.GRU, listed, {}),
    "list-for-each-name": (nn.LSTM, by_name, {}),
    "one-tensor-for-each-name": (nn.LSTM, stacked, {}),
    "without-the-axis-of-layers": (nn.GRU, squeezed, {}),
    "an-argument-each": (nn.LSTM, an_argument_each, {"state": "first,second"}),
}


def made(kind: Any, forward: Callable[..., Any], widths: tuple[int, int] = (H, H)) -> Any:
    class Net(Layers):
        pass

    Net.forward = forward  # type: ignore[method-assign]
    return Net(kind, widths).eval()


@pytest.mark.covering("one-tensor-for-each-name")
@pytest.mark.parametrize("case", CASES)
def test_states_go_in_and_come_out_as_the_layers_have_them(exported: Any, case: str) -> None:
    kind, forward, told = CASES[case]
    module = made(kind, forward)

    graph = exported(module, told)

    names = ["h0", "c0", "h0_1", "c0_1"] if kind is nn.LSTM else ["h0", "h0_1"]
    assert graph.inputs == ["x", "lengths", *names]
    for rows, steps in ((1, 1), (3, 9)):
        x, states = torch.randn(rows, steps, I), [torch.randn(1, rows, H) for _ in names]
        full = np.full(rows, steps, np.int32)
        with torch.no_grad():
            y, new = module.run(x, states if kind is nn.GRU else [tuple(states[:2]), tuple(states[2:])])
        expected = [y, *(new if kind is nn.GRU else [part for pair in new for part in pair])]
        found = graph.run(x.numpy(), full, *(state.numpy() for state in states))
        for a, b in zip(expected, found, strict=True):
            assert float(np.abs(a.numpy() - b).max()) < 2e-6


def test_chunks_of_layers_of_unlike_widths_give_what_the_module_gives_in_one_pass(exported: Any) -> None:
    module = made(nn.LSTM, listed, (H, 3))

    graph = exported(module)

    x = torch.randn(2, 9, I)
    state = [np.zeros((1, 2, width), np.float32) for width in (H, H, 3, 3)]
    parts = []
    for first, last in ((0, 1), (1, 6), (6, 9)):
        part, *state = graph.run(x[:, first:last].numpy(), np.full(2, last - first, np.int32), *state)
        parts.append(part)
    with torch.no_grad():
        expected, _ = module(x)
    assert float(np.abs(np.concatenate(parts, 1) - expected.numpy()).max()) < 2e-6


def test_state_that_both_layers_share_is_not_carried() -> None:
    def shared(net: Layers, x: Tensor, hidden: Any = None) -> Any:
        return net.run(x, [hidden, hidden])

    assert not prepare(made(nn.GRU, shared)).network.carries_state
