"""torch's recurrent layers for one step, written out, so that a loop over a module around one can be rolled up.

Rules of this file: the equations of torch.nn.LSTM, GRU and RNN for a sequence of one step; the weights are the layer's
own, and whether the whole computes the same is proved elsewhere (step_proof.py).
"""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import UnsupportedLayerError
from ..foreign.call_state import unbundled


class WrittenLayer(nn.Module):
    """The layer's place and weights, and its call for one step.

    Args:
        was: the layer; its numbers (hidden_size, ...) can be read here too.
    """

    num_layers: int
    hidden_size: int
    proj_size: int
    batch_first: bool
    bidirectional: bool
    bias: bool
    mode: str

    def __init__(self, was: nn.RNNBase) -> None:
        super().__init__()
        take_numbers(self, was)
        for name, parameter in was.named_parameters(recurse=False):
            self.register_parameter(name, parameter)
        self.step = {"LSTM": _lstm, "GRU": _gru, "RNN_TANH": _plain, "RNN_RELU": _plain}[was.mode]
        self.states = 2 if was.mode == "LSTM" else 1

    def flatten_parameters(self) -> None:
        """Do nothing: modules call it on torch's layers before they run."""

    def forward(self, input: Tensor, hx: Any = None) -> tuple[Tensor, Any]:  # noqa: A002 - torch's names
        """Take one step: input [1, B, I], [B, 1, I] where batch first, or [1, I] of one row."""
        alone = input.dim() == 2  # noqa: PLR2004 - [T, I]
        time = 1 if self.batch_first and not alone else 0
        if input.shape[time] != 1:
            raise UnsupportedLayerError(f"a recurrent layer was given {input.shape[time]} steps in one call")
        signal = input if alone else input.squeeze(time)  # [B, I], of one row [1, I]
        state = given_states(hx)
        directions = 2 if self.bidirectional else 1
        finals: list[list[Tensor]] = [[] for _ in range(self.states)]
        for layer in range(self.num_layers):
            said = []
            for direction in range(directions):
                k = layer * directions + direction
                own = [t[k].unsqueeze(0) if alone else t[k] for t in state] or self.zeros(signal, signal.size(0))
                new = self.step(self, signal, own, f"_l{layer}" + "_reverse" * direction)
                said.append(new[0])
                for kept, tensor in zip(finals, new, strict=True):
                    kept.append(tensor.squeeze(0) if alone else tensor)
            signal = said[0] if directions == 1 else torch.cat(said, -1)
        final = [torch.stack(kept, 0) for kept in finals]
        return signal if alone else signal.unsqueeze(time), final[0] if self.states == 1 else tuple(final)

    def zeros(self, like: Tensor, rows: int) -> list[Tensor]:
        """Return the first state [rows, H] of one layer and direction, made of a tensor of its dtype."""
        widths = [self.proj_size or self.hidden_size, self.hidden_size][: self.states]
        return [like.new_zeros(rows, width) for width in widths]

    def weights(self, suffix: str) -> tuple[Tensor, ...]:
        """Return the weights of one layer and direction in the order of torch's cells."""
        names = ("weight_ih", "weight_hh", *(("bias_ih", "bias_hh") if self.bias else ()))
        return tuple(getattr(self, name + suffix) for name in names)


def given_states(hx: Any) -> list[Tensor]:
    """Return the state tensors of a layer's argument: one, a pair, or none."""
    return [] if hx is None else unbundled(hx)


def take_numbers(module: nn.Module, was: nn.Module) -> None:
    """Give a module the plain attributes of the layer whose place it takes: hidden_size, num_layers, ..."""
    for name, value in vars(was).items():
        if isinstance(value, int | float | str) and name[0] != "_" and name != "training":
            setattr(module, name, value)


def with_layers(module: nn.Module, make: Callable[[nn.RNNBase], nn.Module]) -> nn.Module:
    """Return a copy of a module in which each of torch's recurrent layers is what ``make`` gives for it."""
    holder = nn.ModuleDict({"network": copy.deepcopy(module)})
    written: dict[nn.Module, nn.Module] = {}  # a layer that stands at several places stays one
    for path, child in list(holder.named_modules(remove_duplicate=False)):
        if isinstance(child, nn.RNNBase):
            parent, _, name = path.rpartition(".")
            holder.get_submodule(parent).add_module(name, written.setdefault(child, make(child)))
    return holder["network"]


def _lstm(layer: WrittenLayer, x: Tensor, state: list[Tensor], suffix: str) -> list[Tensor]:
    if not layer.proj_size:
        return list(torch.lstm_cell(x, state, *layer.weights(suffix)))
    weight_x, weight_h, *biases = layer.weights(suffix)
    for_x = functional.linear(x, weight_x, *biases[:1])
    i, f, g, o = (for_x + functional.linear(state[0], weight_h, *biases[1:])).chunk(4, -1)
    c = torch.sigmoid(f) * state[1] + torch.sigmoid(i) * torch.tanh(g)
    return [functional.linear(torch.sigmoid(o) * torch.tanh(c), getattr(layer, "weight_hr" + suffix)), c]


def _gru(layer: WrittenLayer, x: Tensor, state: list[Tensor], suffix: str) -> list[Tensor]:
    return [torch.gru_cell(x, state[0], *layer.weights(suffix))]


def _plain(layer: WrittenLayer, x: Tensor, state: list[Tensor], suffix: str) -> list[Tensor]:
    step = torch.rnn_relu_cell if layer.mode == "RNN_RELU" else torch.rnn_tanh_cell
    return [step(x, state[0], *layer.weights(suffix))]
