"""A hand-written loop over time in any module, rolled up again and proved: recurrent layers in the place of the loop.

The module is captured at two numbers of steps with its loop written out (unrolled.py), the loop is found in both
(rolled_loop.py), and what the two have in common is a program for any number of steps (rolled_program.py). That is made
a module here and run beside the one it stands for, for numbers of steps that neither capture had. Where any output
differs by more than rounding, there is no rolled module.

Rules of this file: a stranger's code runs here, on copies and inside a net; nothing is believed that a run can show.
"""

import copy
import operator
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, fx, nn

from ..model.layer import LSTMLayer
from ..model.stack import RecurrentStack
from .call_roles import Roles
from .errors import ExportError, UnsupportedLayerError
from .exchanged_layer import Carry, ExchangedLayer
from .rolled_loop import NONE_FOUND, NoLoopError, find_loops
from .rolled_program import CELL, STEPS_ROW, Cell, Program, Row, Steps, merge, program_of
from .unrolled import INPUT, WEIGHT, Ref, Unrolled, unroll

_ROWS: Final = 3
_PROVED_STEPS: Final = (1, 2, 4, 11, 12, 40)
_RANDOM: Final = (
    "rand",
    "bernoulli",
    "normal",
    "multinomial",
    "native_dropout",
    "dropout",
    "feature_dropout",
    "uniform",
    "exponential",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Rolled:
    """A module whose loop was rolled up.

    Attributes:
        module: takes the sequence, laid out as the original takes it, and returns what the original returns first.
        takes_tokens: whether the sequence is int64.
        width: features of a step, or the number of tokens.
        layers: how many recurrent layers the loop became.
    """

    module: nn.Module
    takes_tokens: bool
    width: int
    layers: int


class FirstOutput(nn.Module):
    """A module behind a call with the sequence alone; gives the first tensor of what it returns."""

    def __init__(self, module: nn.Module, roles: Roles) -> None:
        super().__init__()
        self.module = module
        self.roles = roles

    def forward(self, x: Tensor) -> Tensor:
        """Return the first tensor."""
        result = self.roles.call(self.module, {self.roles.sequence: x})
        while isinstance(result, tuple | list) and result:
            result = result[0]
        if not isinstance(result, Tensor):
            raise UnsupportedLayerError("forward returns no tensor")
        return result


class RolledCell(nn.Module):
    """One group of carried values, one step: (x [B, I], state) -> (output [B, O], new state)."""

    def __init__(self, cell: Cell, step: fx.GraphModule) -> None:
        super().__init__()
        self.step = step
        names = ("h", "c") if len(cell.widths) < 3 else tuple(f"s{k}" for k in range(len(cell.widths)))  # noqa: PLR2004
        self.state_spec = tuple(zip(names, cell.widths, strict=False))
        self.input_dim = cell.input_dim
        self.output_dim = cell.output_dim

    def forward(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Keep the cell protocol (model/cell.py)."""
        states = (state,) if isinstance(state, Tensor) else tuple(state)
        output, *new = self.step(x, *states)
        return output, new[0] if len(new) == 1 else tuple(new) if len(new) == 2 else new  # noqa: PLR2004


def roll(module: nn.Module, roles: Roles, carry: Carry, candidates: list[tuple[bool, int]]) -> Rolled:
    """Return ``module`` with its loop over time rolled up.

    Args:
        module: has no recurrent layer that is known; not changed.
        roles: which argument is the sequence.
        carry: for the layers.
        candidates: (takes tokens, width) to try, in order.

    Raises:
        UnsupportedLayerError: there is no loop, or none that could be proved; the message says which.
    """
    call = FirstOutput(copy.deepcopy(module).eval(), roles)
    complaints: list[tuple[int, str]] = []
    for takes_tokens, width in candidates:
        for batch_axis in (0, 1):
            example = _example(_free_steps(module, width)[0], width, batch_axis, takes_tokens=takes_tokens)
            failed = _failure(call, example)
            if failed:
                complaints.append((0, _no_sequence(roles, failed)))
                continue
            try:
                rolled, layers = _rolled(call, carry, batch_axis, width, takes_tokens=takes_tokens)
            except (NoLoopError, ExportError) as err:
                complaints.append((2 if isinstance(err, NoLoopError) and str(err) != NONE_FOUND else 1, str(err)))
                continue
            return Rolled(module=rolled, takes_tokens=takes_tokens, width=width, layers=layers)
    # What came nearest to a loop says most; of equals the first.
    raise UnsupportedLayerError(max(complaints, key=lambda one: one[0])[1] if complaints else NONE_FOUND)


def _no_sequence(roles: Roles, said: str) -> str:
    """Say why no sequence could be run, and what helps."""
    if roles.needs_state:
        return (
            f"forward needs {', '.join(roles.state)}, and a loop is looked for from zero state; give it the default "
            "None, make zeros in forward, and loop over the steps there if forward is one step"
        )
    if roles.lengths is not None and "missing" in said:
        return f"forward needs {roles.lengths}; take it out of the loop, padding is passed over without it"
    return (
        f"forward takes no sequence [B, T, I], and said {said}; say --input-dim, or, if it takes [B, T], wrap it in a "
        "module that hands on x[..., 0]"
    )


def _rolled(
    call: FirstOutput, carry: Carry, batch_axis: int, width: int, *, takes_tokens: bool
) -> tuple[nn.Module, int]:
    steps = _free_steps(call, width)
    programs, weights = [], {}
    for T in steps:
        unrolled = unroll(call, _example(T, width, batch_axis, takes_tokens=takes_tokens), batch_axis)
        _refuse_chance(unrolled)
        programs.append(program_of(unrolled, find_loops(unrolled), batch_axis))
        weights = unrolled.weights
    program = merge(programs[0], programs[1], steps)
    made = _make(program, weights, carry, type(call.module).__name__)
    _prove(call, made, width, batch_axis, takes_tokens=takes_tokens)
    return made, len(program.cells)


def _refuse_chance(unrolled: Unrolled) -> None:
    for number in unrolled.reachable():
        name = str(unrolled.values[number].target).removeprefix("aten.")
        if name.startswith(_RANDOM):
            raise NoLoopError(
                f"it draws random numbers ({name.split('.')[0]}) even in evaluation; start from zeros, and draw only "
                "where self.training"
            )


def _free_steps(module: nn.Module, width: int) -> tuple[int, int]:
    """Return two numbers of steps that are no other size in the module."""
    taken = {size for tensor in (*module.parameters(), *module.buffers()) for size in tensor.shape} | {width, _ROWS}
    taken |= {size // k for size in taken for k in (2, 3, 4) if size % k == 0}
    free = [T for T in range(5, 200) if T not in taken]
    return free[0], free[1]


def _example(
    steps: int, width: int, batch_axis: int, *, takes_tokens: bool, seed: int = 0, rows: int = _ROWS
) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    leading = (rows, steps) if batch_axis == 0 else (steps, rows)
    if takes_tokens:
        return torch.randint(0, width, leading, generator=generator)
    return torch.randn(*leading, width, generator=generator)


def _failure(call: FirstOutput, example: Tensor) -> str:
    """Return what the module says to an example, or nothing where it takes it."""
    try:
        with torch.no_grad():
            call(example)
    except Exception as err:  # noqa: BLE001 - a stranger's forward may refuse a wrong guess in any way it likes
        lines = str(err).strip().split("\n")
        return f"{type(err).__name__}: {lines[0][:200]}"
    return ""


def _make(program: Program, weights: dict[str, Tensor], carry: Carry, call_name: str) -> fx.GraphModule:
    """Return the program as a module."""
    attributes: dict[str, Any] = {_name(name): tensor for name, tensor in weights.items()}
    for k, cell in enumerate(program.cells):
        graph = _graph(cell.rows, cell.results)
        layer = LSTMLayer(RolledCell, cell, _keep_weights(attributes, graph), reverse=cell.reverse)
        stack = RecurrentStack.of_layer(layer.eval(), cell.input_dim)
        attributes[f"layer_{k}"] = ExchangedLayer(
            stack, nn.Module(), batch_first=True, squeezed=True, carry=carry, number=k
        )
    graph = _graph(program.rows, (program.result,))
    return _keep_weights(attributes, graph, call_name).eval()


def _name(weight: str) -> str:
    return "weight_" + weight.replace(".", "_")


def _keep_weights(attributes: dict[str, Any], graph: fx.Graph, name: str = "Step") -> fx.GraphModule:
    read = {str(node.target) for node in graph.nodes if node.op in {"get_attr", "call_module"}}
    return fx.GraphModule({key: value for key, value in attributes.items() if key in read}, graph, name)


def _graph(rows: list[Row], results: tuple[Ref, ...]) -> fx.Graph:
    maker = _GraphMaker()
    for row in rows:
        maker.add(row)
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

    def add(self, row: Row) -> None:
        if row.target == INPUT:
            node = self.graph.placeholder(f"state_{self._inputs}" if self._inputs else "input")
            self._inputs += 1
        elif row.target == WEIGHT:
            node = self.graph.get_attr(_name(row.args[0]))
        elif row.target == CELL:
            number, sequence, states = row.args
            initial = states[0] if len(states) == 1 else states
            node = self.graph.call_module(f"layer_{number}", (self._argument(sequence), self._argument(initial)))
        else:
            kwargs = {name: self._argument(value) for name, value in row.kwargs}
            node = self.graph.call_function(row.target, self._argument(row.args), kwargs)
        self.nodes.append(node)

    def _argument(self, value: Any) -> Any:
        if isinstance(value, Ref):
            return self.nodes[value.number]
        if isinstance(value, Steps):
            scaled = self.graph.call_function(operator.mul, (self.nodes[STEPS_ROW], value.a))
            return self.graph.call_function(operator.add, (scaled, value.b))
        if isinstance(value, tuple):
            return tuple(self._argument(part) for part in value)
        return value


def _prove(call: FirstOutput, made: nn.Module, width: int, batch_axis: int, *, takes_tokens: bool) -> None:
    """Run both, in float64 where the original can, and raise where they differ by more than rounding."""
    for dtype, tolerance in ((torch.float64, 1e-10), (torch.float32, 1e-5)):
        theirs, ours = copy.deepcopy(call).to(dtype), copy.deepcopy(made).to(dtype)
        proofs = list(_differences(theirs, ours, width, batch_axis, dtype, takes_tokens=takes_tokens))
        if not proofs:  # its code is bound to the other precision
            continue
        if len(proofs) < len(_PROVED_STEPS) - 1 or not all(difference <= tolerance for difference in proofs):
            raise NoLoopError("its loop over time could not be proved equal to the one that cellgate made of it")
        return
    raise NoLoopError("it runs for no number of steps but the one that it was looked at with")


def _differences(
    theirs: nn.Module, ours: nn.Module, width: int, batch_axis: int, dtype: torch.dtype, *, takes_tokens: bool
) -> Iterator[float]:
    """Yield the largest difference for each number of steps that the original takes."""
    kept = torch.get_default_dtype()
    torch.set_default_dtype(dtype)  # what the original makes for itself, such as zeros, has to follow
    try:
        for steps in _PROVED_STEPS:
            rows = _ROWS if steps % 2 else _ROWS + 2  # the batch is free too
            x = _example(steps, width, batch_axis, takes_tokens=takes_tokens, seed=steps, rows=rows)
            try:
                with torch.no_grad():
                    expected = theirs(x)
            except Exception:  # noqa: BLE001, S112 - one step may be too few for it, or float64 too much
                continue
            try:
                with torch.no_grad():
                    found = ours(x)
            except RuntimeError:  # what was made does not even run
                yield float("inf")
                continue
            alike = found.shape == expected.shape and torch.isfinite(expected).all()
            yield float((found - expected).abs().max() / (1.0 + expected.abs().max())) if alike else float("inf")
    finally:
        torch.set_default_dtype(kept)
