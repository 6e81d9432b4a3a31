"""A foreign module as it is called: with its own arguments, its own layout, and its layers' states and lengths.

What is known of it, once found out (network.py), says how. What the module's ``forward`` does not take, its
exchanged layers get through their Carry.

Rules of this file: the module's parameters and buffers are never changed, and what its ``forward`` keeps in the module
is put back after each call.
"""

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from ...bundle.axes import StepAxis
from ...model.network import StateTensor
from ...model.stack import RecurrentStack
from ..graph.eager_answers import answered_as_eager
from ..graph.free_length import length_left_free, numbers_left_free
from ..graph.ragged import packing_understood
from .answer import Answer, Named
from .answered_steps import steps_left
from .call_layout import InputLayout, OutputLayout
from .call_mask import MaskForm
from .call_modes import CpuOnly, SinglesDoubled, TensorsKept
from .call_roles import Roles, find_roles
from .call_state import StateForm
from .exchange import Exchange, exchange
from .exchanged_layer import ExchangedLayer
from .input_trial import PROBE_STEPS
from .longest_row import LongestFills
from .own_attributes import attributes_kept


class ForeignCall(nn.Module):
    """A module with exchanged layers, and how it is called.

    Args:
        module: as it came.
        told: as for find_roles.
        answer: as for Answer.

    Attributes:
        exchanges: what was exchanged.
        takes_tokens: whether the sequence is int64 [B, T].
        input_dim: I, or the number of tokens.
        input_layout: how the module takes the sequence.
        output_layout: how it lays out y.
        answer_axis: for how many of T steps it answers, where it answers for steps.
        probe_steps: two numbers of steps for which the module runs, and that tell what it does.
        least_steps: fewest steps that it takes.
        said_to_fewer: what it says to fewer; empty where it takes one.
        most_steps: most steps that it takes; None: any number.
        said_to_more: what it says to more; empty where it takes any number.
        least_captured: fewest steps of which two are left, by a front and in the answer; a capture takes one step for a
            special case.
        behind_front: layers that see another number of steps than is given, and one that depends on it.
        mask_form: what forward is given for its mask; None where it takes none, or is given none.
        honours_lengths: proved; where false, rows must be equally long.
        carries_state: whether a state can be given and is returned.
        state_form: how the module takes its state.
        stays_on_cpu: whether the module wanted a GPU and is kept from it.
        returned: all tensors that the module returned last, with their names and the answer first, outside of a graph.
        answer_columns: of an answer of several tensors side by side, how many numbers are of which; else empty.
        keeps: attributes that ``forward`` assigns to; put back after each call.
        names_float32: whether its code makes float32 for itself, which then follows the weights' dtype.
        in_graph: whether a graph is captured from this copy, where nothing may depend on the example's sizes.
        stacks: the state tensors of each exchanged layer, by its number.
    """

    def __init__(self, module: nn.Module, told: Mapping[str, str] | None, answer: str | None) -> None:
        super().__init__()
        self.own_roles = self.roles = find_roles(module, told)
        self.own_answer = self.answer = Answer(answer)
        self.exchanges: tuple[Exchange, ...]
        self.module, self.carry, self.exchanges = exchange(module)
        self.stacks: dict[int, list[StateTensor]] = {}
        self.state_form = StateForm()
        self.takes_tokens, self.input_dim = False, 0
        self.input_layout, self.output_layout = InputLayout("BTI"), OutputLayout("BTO", (0,))
        self.answer_axis = StepAxis()
        self.carries_state = self.honours_lengths = self.stays_on_cpu = self.in_graph = self.names_float32 = False
        self.probe_steps, self.least_steps, self.least_captured, self.said_to_fewer = PROBE_STEPS, 1, 1, ""
        self.most_steps: int | None = None
        self.said_to_more = ""
        self.behind_front: frozenset[int] = frozenset()
        self.mask_form: MaskForm | None = None
        self.keeps: set[str] = set()
        self.returned: Named = ()
        self.answer_columns: dict[str, int] = {}

    def find_stacks(self) -> None:
        """Set the state tensors of the exchanged layers that are there now."""
        found = {layer.number: layer.stack for layer in self.module.modules() if isinstance(layer, ExchangedLayer)}
        self.stacks = {number: _state_of(found[number]) for number in sorted(found)}

    @property
    def per_step(self) -> bool:
        """Whether y is [B, T, O]."""
        return self.output_layout.per_step

    @property
    def sees_steps(self) -> bool:
        """Whether none of its recurrent layers is behind a front, and one sees the steps that are given."""
        return not self.behind_front and not self.carry.deaf >= self.stacks.keys()

    @property
    def output_sizes(self) -> tuple[int, ...]:
        """(O,), or the sizes of a table that is one answer, O last."""
        return self.output_layout.sizes

    @property
    def output_dim(self) -> int:
        """O."""
        return self.output_sizes[-1]

    def call(self, x: Tensor, lengths: Tensor | None = None, state: list[Tensor] | None = None) -> Tensor:
        """Load the Carry, call the module with its own arguments, and return its own y as it lays it out."""
        initial, rest = {}, list(state or [])
        for number, tensors in self.stacks.items() if state is not None else ():
            initial[number] = [rest.pop(0) for _ in tensors]
        self.carry.begin(lengths, initial)
        roles = self.roles
        arguments = self._arguments(roles, x, lengths, state)
        with ExitStack() as entered:
            entered.enter_context(length_left_free(self.module))
            entered.enter_context(packing_understood(self.module))
            if self.in_graph:
                entered.enter_context(TensorsKept())
                entered.enter_context(answered_as_eager(self.module))
                entered.enter_context(numbers_left_free(self.module))
            if roles.lengths is not None:
                entered.enter_context(LongestFills(self.module, arguments[roles.lengths], x.size(1)))
            if self.names_float32 and self.dtype() == torch.float64:
                entered.enter_context(SinglesDoubled())
            return self._tensor_of(self.module, roles, self.answer, arguments)

    def call_as_it_came(self, module: nn.Module, x: Tensor) -> Tensor:
        """Return y [B, T, O] or [B, O] of the module before any exchange, or of its compiled form, from zero state."""
        arguments = self._arguments(self.own_roles, x, None, None)
        y = self._tensor_of(module, self.own_roles, self.own_answer, arguments)
        return self.output_layout.to_house(y, x.size(0), steps_left(self.answer_axis, x.size(1)))

    def zero_state(self, rows: int, seed: int | None = None) -> list[Tensor]:
        """Return the state of the network, zeros or random."""
        generator = torch.Generator().manual_seed(seed or 0)
        shapes = [(t.rows, rows, t.width) for tensors in self.stacks.values() for t in tensors]
        if seed is None:
            return [torch.zeros(shape, dtype=self.dtype()) for shape in shapes]
        return [torch.randn(shape, generator=generator, dtype=self.dtype()) for shape in shapes]

    def dtype(self) -> torch.dtype:
        """Return the dtype of the module's weights."""
        return next((p.dtype for p in self.module.parameters() if p.is_floating_point()), torch.float32)

    def _arguments(self, roles: Roles, x: Tensor, lengths: Tensor | None, state: list[Tensor] | None) -> dict[str, Any]:
        arguments: dict[str, Any] = {roles.sequence: self._own(self.input_layout.hand_over(x))}
        if roles.lengths is not None:
            full = torch.full((x.size(0),), x.size(1), dtype=torch.int64)
            arguments[roles.lengths] = full if lengths is None else self._own(lengths.to(torch.int64))
        if roles.mask is not None and self.mask_form is not None:
            arguments[roles.mask] = self.mask_form.of(x, lengths, self.dtype())
        if roles.needs_state or (roles.state and state is not None):
            rest = self.zero_state(x.size(0)) if state is None else [self._own(tensor) for tensor in state]
            layers = [[rest.pop(0) for _ in tensors] for tensors in self.stacks.values()]
            arguments |= dict(zip(roles.state, self.state_form.of(layers, len(roles.state)), strict=True))
        return arguments

    def _own(self, tensor: Tensor) -> Tensor:
        """Return what a forward may write into; a capture makes new values of what is written by itself."""
        return tensor if self.in_graph else tensor.clone()

    def _tensor_of(self, module: nn.Module, roles: Roles, answer: Answer, arguments: Mapping[str, Any]) -> Tensor:
        """Call a module and return its answer; what it kept in itself is put back."""
        with ExitStack() as entered:
            if self.stays_on_cpu:
                entered.enter_context(CpuOnly())
            changed = entered.enter_context(attributes_kept(module))
            result = roles.call(module, arguments)
        self.keeps.update(changed)
        returned = answer.of(result, type(self.module).__name__)
        if not self.in_graph:
            self.returned = returned
            self.answer_columns = answer.columns(result) or self.answer_columns  # a rolled loop returns the whole
        return returned[0][1]

    def run_rows(self, x: Tensor, lengths: Tensor | None, state: list[Tensor] | None) -> tuple[Tensor, list[Tensor]]:
        """Return y [B, T, O] or [B, O] and the final state, if one is carried, of one call."""
        try:
            left = steps_left(self.answer_axis, x.size(1))
            y = self.output_layout.to_house(self.call(x, lengths, state), x.size(0), left)
            final = [tensor for number in self.stacks for tensor in self.carry.final.get(number, [])]
        finally:
            self.carry.begin(None, {})
        return y, final if self.carries_state else []


def _state_of(stack: nn.Module) -> list[StateTensor]:
    """Return the state tensors of one exchanged layer; they outlive its lowering."""
    assert isinstance(stack, RecurrentStack)
    rows = stack.num_layers * stack.num_directions
    return [StateTensor(name=name, rows=rows, width=width) for name, width in stack.state_spec]
