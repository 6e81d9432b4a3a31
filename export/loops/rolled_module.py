"""A program as a module: its instructions a graph of torch.fx, its cells recurrent layers of this house.

Rules of this file: each instruction is one node, and weights are those of the original, copied by nobody.
"""

import operator
from collections.abc import Iterator
from itertools import count
from typing import Any

from torch import Tensor, fx, nn

from ...model.layer import LSTMLayer
from ...model.stack import RecurrentStack
from ..foreign.exchanged_layer import Carry, ExchangedLayer
from .program import CELL, STEPS_AT, Cell, Instruction, Program, Steps
from .value import INPUT, WEIGHT, Ref


class RolledCell(nn.Module):
    """One group of carried values, one step: (x [B, I], state) -> (output [B, O], new state)."""

    def __init__(self, cell: Cell, step: fx.GraphModule, known_as: str) -> None:
        super().__init__()
        self.step = step
        self.known_as = known_as
        self.state_spec = tuple(zip(_state_names(), cell.widths, strict=False))
        self.input_dim = cell.input_dim
        self.output_dim = cell.output_dim

    def forward(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Keep the cell protocol (model/cell.py)."""
        states = (state,) if isinstance(state, Tensor) else tuple(state)
        output, *new = self.step(x, *states)
        return output, new[0] if len(new) == 1 else tuple(new) if len(new) == 2 else new  # noqa: PLR2004


def _state_names() -> Iterator[str]:
    """Yield names of states, for what was captured has none of the variables: h, c, d, e and on, then d2_ and on."""
    yield from "hc"
    for round_ in count(1):
        for letter in "defgijklmopqrstuvwz":
            yield letter if round_ == 1 else f"{letter}{round_}_"


def make_module(program: Program, weights: dict[str, Tensor], carry: Carry, call_name: str) -> fx.GraphModule:
    """Return the program as a module."""
    attributes: dict[str, Any] = {_name(name): tensor for name, tensor in weights.items()}
    for k, cell in enumerate(program.cells):
        graph = _graph(cell.instructions, cell.results)
        known_as = f"the loop of {call_name}"
        layer = LSTMLayer(RolledCell, cell, _keep_weights(attributes, graph), known_as, reverse=cell.reverse)
        stack = RecurrentStack.of_layer(layer.eval(), cell.input_dim)
        attributes[f"layer_{k}"] = ExchangedLayer(
            stack, nn.Module(), batch_first=True, squeezed=True, carry=carry, number=k
        )
    graph = _graph(program.instructions, (program.result,))
    return _keep_weights(attributes, graph, call_name).eval()


def _name(weight: str) -> str:
    return "weight_" + weight.replace(".", "_")


def _keep_weights(attributes: dict[str, Any], graph: fx.Graph, name: str = "Step") -> fx.GraphModule:
    read = {str(node.target) for node in graph.nodes if node.op in {"get_attr", "call_module"}}
    return fx.GraphModule({key: value for key, value in attributes.items() if key in read}, graph, name)


def _graph(instructions: list[Instruction], results: tuple[Ref, ...]) -> fx.Graph:
    maker = _GraphMaker()
    for instruction in instructions:
        maker.add(instruction)
    chosen = tuple(maker.nodes[ref.number] for ref in results)
    maker.graph.output(chosen if len(chosen) > 1 else chosen[0])
    for node in reversed(maker.graph.nodes):
        if not node.users and node.op in {"call_function", "get_attr"}:
            maker.graph.erase_node(node)
    return maker.graph


class _GraphMaker:
    """Turns rows into nodes, one for each."""

    def __init__(self) -> None:
        self.graph = fx.Graph()
        self.nodes: list[fx.Node] = []
        self._inputs = 0

    def add(self, instruction: Instruction) -> None:
        if instruction.target == INPUT:
            node = self.graph.placeholder(f"state_{self._inputs}" if self._inputs else "input")
            self._inputs += 1
        elif instruction.target == WEIGHT:
            node = self.graph.get_attr(_name(instruction.args[0]))
        elif instruction.target == CELL:
            number, sequence, states = instruction.args
            initial = states[0] if len(states) == 1 else states
            node = self.graph.call_module(f"layer_{number}", (self._argument(sequence), self._argument(initial)))
        else:
            kwargs = {name: self._argument(value) for name, value in instruction.kwargs}
            node = self.graph.call_function(instruction.target, self._argument(instruction.args), kwargs)
        self.nodes.append(node)

    def _argument(self, value: Any) -> Any:
        if isinstance(value, Ref):
            return self.nodes[value.number]
        if isinstance(value, Steps):
            scaled = self.graph.call_function(operator.mul, (self.nodes[STEPS_AT], value.a))
            return self.graph.call_function(operator.add, (scaled, value.b))
        if isinstance(value, tuple):
            return tuple(self._argument(part) for part in value)
        return value
