"""A network that somebody else wrote, behind the call of this house: (x, lengths, state) -> (y, state).

How the module itself is called is in call.py; here is found out what that needs. Nothing is assumed that a run
can tell: how the sequence is handed over and its width (input_probe.py), how the output is laid out (output_probe.py),
whether a state given arrives at the layer, else none is carried, and whether lengths are honoured (probes.py).

A module that takes one sequence at a time is called once for each row; in the graph it is mapped over the rows.

Rules of this file: the order in which things are found out, for each finding rests on those before it.
"""

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import torch
from torch import Tensor, nn

from ...model.network import StateTensor
from ..errors import AnswerError, SignatureError, UnsupportedLayerError
from ..input_width import input_candidates, loop_candidates
from ..loops.rolled import roll
from ..loops.sequence_call import Sequences
from ..loops.written_out import written_out
from .answer import Answer, names_left_out
from .answered_steps import steps_left
from .call import ForeignCall
from .call_roles import Roles
from .call_state import StateForm
from .columns import Column, said
from .exchange import Exchange
from .exchanged_layer import ExchangedLayer
from .input_probe import find_input, inputs_to_try
from .input_trial import example
from .mask_probe import check_kind, find_mask
from .one_at_a_time import mapped, row_by_row
from .original_proof import prove_as_it_came
from .output_probe import find_output
from .probes import find_lengths, find_precision, find_state
from .steps_range import find_least_steps, find_most_steps
from .steps_seen import find_steps_seen

_SEVERAL: Final = 2


class ForeignNetwork(ForeignCall):
    """The module with exchanged layers, called as this house's networks are; what its calls need is found out here.

    Args:
        module: as it came.
        told: as for find_roles.
        input_dim: I, or the number of tokens, where it is known.
        answer: as for Answer.
        takes_tokens: whether ``input_dim`` is that of tokens, where it is known.
        writes_out: whether torch's layers are written out and rolled up with the loops beside them (written_out.py).

    Attributes:
        left_out: the names of what the module returns beside the answer and the carried state.
        whole_numbers: which of these are no answers.
        columns: what x holds, where several inputs are cut out of it; else empty.
    """

    def __init__(
        self,
        module: nn.Module,
        told: Mapping[str, str] | None = None,
        input_dim: int | None = None,
        answer: str | None = None,
        *,
        takes_tokens: bool | None = None,
        writes_out: bool = False,
    ) -> None:
        super().__init__(module, told, answer)
        self.columns: tuple[Column, ...] = ()
        as_written = written_out(module) if writes_out else module
        kinds = (False, True) if takes_tokens is None else (takes_tokens,)
        tried = input_candidates(self.module) if input_dim is None else [(kind, input_dim) for kind in kinds]
        inputs = list(inputs_to_try(tried))
        if writes_out or not self.exchanges:
            tried = loop_candidates(module) if input_dim is None else tried
            taken = self._roll_up(module, as_written, tried, numbers=input_dim in {None, 1}, searches=input_dim is None)
            inputs = [(taken.layout, taken.takes_tokens, taken.width)]
        self.state_form = StateForm(squeezed=isinstance(self.module, ExchangedLayer) and self.module.squeezed)
        if isinstance(self.module, ExchangedLayer):  # the module was itself a layer, and its arguments went with it
            self.roles = Roles(sequence="input")
        self.find_stacks()
        try:
            find_input(self, inputs, searches=input_dim is None)
        except SignatureError as err:
            if not self.roles.needs_state or len(self.stacks) < _SEVERAL or isinstance(err, AnswerError):
                raise
            raise SignatureError(
                f"{type(module).__name__}.forward needs a state for {len(self.stacks)} recurrent layers and runs with "
                "none that was tried, expected a list with the state of each layer, a list or one tensor [L, B, H] for "
                f"each name, or none required; give {', '.join(self.roles.state)} the default None"
            ) from err
        find_mask(self)
        find_steps_seen(self)
        find_output(self)
        alone = copy.deepcopy(module).eval()
        find_least_steps(self, alone)
        find_most_steps(self, alone)
        find_precision(self)
        find_state(self)
        find_lengths(self)
        check_kind(self)
        prove_as_it_came(self, module)
        as_it_came, x = copy.deepcopy(module).eval(), example(self, self.probe_steps[0])
        self.left_out, self.whole_numbers = names_left_out(self, as_it_came, x)

    @property
    def input_said(self) -> dict[str, str]:
        """What is cut out of x, and what is given for a mask, for the description; empty where there is neither."""
        cut = {"columns": said(self.columns)} if self.columns else {}
        if self.mask_form is None:
            return cut
        made = "made from lengths" if self.honours_lengths else "all of it real, for rows of one length"
        return {**cut, "mask": f"{self.roles.mask}, {made}: {self.mask_form.words}"}

    def _roll_up(
        self,
        module: nn.Module,
        as_written: nn.Module,
        tried: list[tuple[bool, int]],
        **how: bool,
    ) -> Sequences:
        """Put a loop that the module's own forward runs into recurrent layers; return how it takes its sequence."""
        try:
            rolled = roll(module, as_written, self.own_roles, self.own_answer, self.carry, tried, **how)
        except UnsupportedLayerError as err:
            found = "has no recurrent layer, expected nn.LSTM, nn.GRU, a layer of cellgate.model or a loop over time"
            if as_written is not module:
                found = "runs its recurrent layers in a loop over time, expected one"
            raise UnsupportedLayerError(
                f"{type(module).__name__} {found} that cellgate could prove equal to its own: {err}"
            ) from err
        self.module, self.roles, self.answer = rolled.module, Roles(sequence="input"), Answer()
        self.stays_on_cpu = rolled.stays_on_cpu
        was = f"loop in {type(module).__name__}.forward"
        self.exchanges = (Exchange(path="(itself)", was=was, proof="runs of five lengths or six equal"),)
        return rolled.sequences

    def state_tensors(self) -> tuple[StateTensor, ...]:
        """Return the state of all exchanged layers that run, in order of registration."""
        if not self.carries_state:
            return ()
        return tuple(
            replace(tensor, suffix=f"_{k}" if k else "")
            for k, tensors in enumerate(self.stacks.values())
            for tensor in tensors
        )

    def forward(
        self, x: Tensor, lengths: Tensor | None = None, state: list[Tensor] | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """As SequenceModel.forward; lengths are ignored unless honoured, state unless carried."""
        lengths = lengths if self.honours_lengths else None
        state = state if self.carries_state else None
        if not self.input_layout.one_at_a_time:
            y, final = self.run_rows(x, lengths, state)
        else:
            y, final = (mapped if self.in_graph else row_by_row)(self, x, lengths, state)
        if self.per_step and lengths is not None:
            answered = steps_left(self.answer_axis, lengths)
            real = torch.arange(y.size(1), device=y.device).unsqueeze(0) < answered.unsqueeze(1)
            for _ in self.output_sizes:
                real = real.unsqueeze(-1)
            y = torch.where(real, y, torch.zeros_like(y))
        return y, final
