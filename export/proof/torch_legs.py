"""The legs that run in PyTorch: the network itself, its compiled form, and torch's own layers in its place.

Rules of this file: as of leg.py.
"""

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...bundle.manifest import GraphSignature
from ...model.stack import RecurrentStack
from ..exportable import Exportable
from ..foreign.network import ForeignNetwork
from .compare import Array
from .control_layer import torch_layer_of
from .leg import names_of
from .oracle import join_rows, run_row_alone


class EagerLeg:
    """The network as PyTorch runs it."""

    name = "eager"
    complaint = ""

    def __init__(self, exportable: Exportable) -> None:
        self._network = exportable.network
        self._signature = exportable.signature
        self.output_names = names_of(exportable.signature)

    def rows_for(self, inputs: Mapping[str, Array]) -> int:
        """All."""
        return len(inputs[self._signature.sequence])

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run the batch as it is."""
        with torch.no_grad():
            y, final = self._network(*house_arguments(inputs, self._signature))
        return named([y, *final], self._signature)


class ScriptLeg:
    """TorchScript: the compiled network, or a foreign module compiled as it came: each row alone, from zero state."""

    name = "torchscript"

    def __init__(self, exportable: Exportable, module: nn.Module | None, complaint: str) -> None:
        self.complaint = complaint
        self._module = module
        self._signature = exportable.signature
        self.output_names = names_of(exportable.signature)
        self._foreign = exportable.network if isinstance(exportable.network, ForeignNetwork) else None
        if self._foreign is not None:
            self.output_names = self.output_names[:1]

    def rows_for(self, inputs: Mapping[str, Array]) -> int:
        """All, but for a foreign module only where states are zero: it has no argument for them."""
        if self._foreign is not None and any(inputs[pair.input].any() for pair in self._signature.state):
            return 0
        return len(inputs[self._signature.sequence])

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run the batch; a foreign module gives only y."""
        assert self._module is not None
        with torch.no_grad():
            if self._foreign is not None:
                return {"y": self._run_foreign(self._foreign, self._module, inputs)}
            y, final = self._module(*house_arguments(inputs, self._signature))
        return named([y, *final], self._signature)

    def _run_foreign(self, foreign: ForeignNetwork, module: nn.Module, inputs: Mapping[str, Array]) -> Array:
        sequence = inputs[self._signature.sequence]
        steps = inputs[self._signature.lengths] if self._signature.lengths else [sequence.shape[1]] * len(sequence)
        rows = [
            [foreign.call_as_it_came(module, torch.from_numpy(sequence[k : k + 1, : int(n)])).numpy()]
            for k, n in enumerate(steps)
        ]
        return join_rows(rows, self._signature_of_y(), sequence.shape[1])[0]

    def _signature_of_y(self) -> GraphSignature:
        s = self._signature
        return replace(s, outputs=s.outputs[:1], state=())


class ControlLeg:
    """The network with torch.nn.LSTM or nn.GRU in the place of each stack, each row alone: what PyTorch gets wrong."""

    name = "torch.nn"

    def __init__(self, exportable: Exportable) -> None:
        self._signature = exportable.signature
        self.output_names = names_of(exportable.signature)
        self._network = copy.deepcopy(exportable.network)
        self.complaint = ""
        for path, module in list(self._network.named_modules()):
            if isinstance(module, RecurrentStack):
                parent, _, name = path.rpartition(".")
                try:
                    setattr(self._network.get_submodule(parent), name, _TorchStack(module))
                except ValueError as err:
                    self.complaint = f"not applicable: {err}"
                    return

    def rows_for(self, inputs: Mapping[str, Array]) -> int:
        """All."""
        return len(inputs[self._signature.sequence])

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run each row alone at its own length."""
        sequence = inputs[self._signature.sequence]
        rows = [run_row_alone(self._network, self._signature, inputs, row) for row in range(len(sequence))]
        joined = join_rows(rows, self._signature, sequence.shape[1])
        return dict(zip([spec.name for spec in self._signature.outputs], joined, strict=True))


class _TorchStack(nn.Module):
    """torch's layer behind the call of RecurrentStack, for one row."""

    def __init__(self, stack: RecurrentStack) -> None:
        super().__init__()
        self.layer = torch_layer_of(stack).eval()
        self.stack_zero_state = stack.zero_state
        self.num_layers, self.num_directions = stack.num_layers, stack.num_directions
        self.state_spec = stack.state_spec
        self.state_widths = stack.state_widths

    def zero_state(self, input: Tensor) -> list[Tensor]:  # noqa: A002 - as in the stack
        return self.stack_zero_state(input)

    def forward(self, input: Tensor, state: Any = None, lengths: Tensor | None = None) -> tuple[Tensor, list[Tensor]]:  # noqa: A002
        hx = None if state is None else state[0] if len(state) == 1 else tuple(state)
        # Rows come alone; one that its own module gives a length, as by packing, ends there.
        steps = input.size(1) if lengths is None else int(lengths[0])
        y, final = self.layer(input[:, :steps], hx)
        y = nn.functional.pad(y, (0, 0, 0, input.size(1) - steps))
        return y, [final] if isinstance(final, Tensor) else list(final)


def house_arguments(inputs: Mapping[str, Array], signature: GraphSignature) -> tuple[Any, ...]:
    """Return (x, lengths or None, state list or None) as tensors."""
    tensors = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in inputs.items()}
    state = [tensors[pair.input] for pair in signature.state]
    return tensors[signature.sequence], tensors[signature.lengths] if signature.lengths else None, state or None


def named(tensors: list[Tensor], signature: GraphSignature) -> dict[str, Array]:
    """Return tensors as arrays under the names of the outputs; a wrong count shows as missing or numbered names."""
    names = [spec.name for spec in signature.outputs]
    names += [f"extra{k}" for k in range(len(tensors) - len(names))]
    return {name: tensor.numpy() for name, tensor in zip(names[: len(tensors)], tensors, strict=True)}
