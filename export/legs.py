"""The legs: implementations of the same network, each of which runs every case that it can.

Rules of this file: a leg takes and gives NumPy arrays by the signature's names; what a leg cannot do it says, with the
reason, and nothing is skipped in silence.
"""

import copy
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import onnx
import onnxruntime
import torch
from onnx.reference import ReferenceEvaluator
from torch import Tensor, nn

from ..bundle.manifest import GraphSignature, SessionOptions
from ..model.stack import RecurrentStack
from ..model.torch_weights import stack_to_torch
from .compare import Array
from .exportable import Exportable
from .foreign_network import ForeignNetwork
from .oracle import join_rows, run_row_alone

# The evaluator is written for clarity: three rows tell as much as all of them. Its GatherElements goes through
# numpy.choose, which takes 63 steps at most, and 31 before NumPy 2.
_REFERENCE_ROWS = 3
_REFERENCE_STEPS = 31


class LegUnableError(Exception):
    """A leg met something that it cannot judge; its ``complaint`` says what."""


class Leg(Protocol):
    """One implementation.

    Attributes:
        name: for reports.
        complaint: why the leg cannot run at all; empty where it can.
        output_names: the outputs that it gives, all of the signature's or fewer.
    """

    name: str
    complaint: str
    output_names: tuple[str, ...]

    def rows_for(self, inputs: Mapping[str, Array]) -> int:
        """Return how many of the case's rows, from the first, this leg runs; 0 skips the case."""

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run a case and return every output by name, in the signature's order."""


class EagerLeg:
    """The network as PyTorch runs it."""

    name = "eager"
    complaint = ""

    def __init__(self, exportable: Exportable) -> None:
        self._network = exportable.network
        self._signature = exportable.signature
        self.output_names = _names(exportable.signature)

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
        self.output_names = _names(exportable.signature)
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
        return GraphSignature(inputs=s.inputs, outputs=s.outputs[:1], sequence=s.sequence, lengths=s.lengths)


class RuntimeLeg:
    """The ONNX graph under onnxruntime's CPU provider, opened as it will be served.

    Args:
        model: the graph.
        signature: of the graph.
        options: of the bundle.
        threads: of the runtime; 0 for its own choice.
        name: for reports; variants have another.
    """

    complaint = ""

    def __init__(
        self,
        model: bytes,
        signature: GraphSignature,
        options: SessionOptions,
        threads: int = 0,
        name: str = "onnxruntime",
    ) -> None:
        self.name = name
        self._signature = signature
        self.output_names = _names(signature)
        self._session = onnxruntime.InferenceSession(
            model, _session_options(options, threads), providers=["CPUExecutionProvider"]
        )

    def rows_for(self, inputs: Mapping[str, Array]) -> int:
        """All."""
        return len(inputs[self._signature.sequence])

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run the batch as it is."""
        found = self._session.run(None, {name: np.ascontiguousarray(array) for name, array in inputs.items()})
        return dict(zip([value.name for value in self._session.get_outputs()], found, strict=True))


class ReferenceLeg:
    """The ONNX graph under the reference evaluator of the onnx package, row by row at full length.

    The evaluator knows no sequence_lens, activations or input_forget; where the graph needs one of the latter two, or
    an operator that it has not or that stops half-way, it cannot judge, and says so. Nothing is lost by that: what is
    served is held against the oracle in any case.
    """

    name = "onnx reference"

    def __init__(self, model: bytes, signature: GraphSignature) -> None:
        self._signature = signature
        self.output_names = _names(signature)
        proto = onnx.load_from_string(model)
        needed = sorted({a.name for n in proto.graph.node for a in n.attribute if _is_ignored(n.op_type, a)})
        self.complaint = f"not applicable: the evaluator ignores {', '.join(needed)}" if needed else ""
        try:
            self._evaluator = ReferenceEvaluator(proto)
        except Exception as err:  # noqa: BLE001 - it raises whatever it likes, for a Scan that runs backwards for example
            self.complaint = f"not applicable: the evaluator stopped with {type(err).__name__}: {first_line(err)}"

    def rows_for(self, inputs: Mapping[str, Array]) -> int:
        """The first few, and only of short cases."""
        rows, steps = inputs[self._signature.sequence].shape[:2]
        return min(rows, _REFERENCE_ROWS) if steps <= _REFERENCE_STEPS else 0

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run each row alone at its own length."""
        signature, rows = self._signature, []
        steps = inputs[signature.sequence].shape[1]
        for row in range(self.rows_for(inputs)):
            count = int(inputs[signature.lengths][row]) if signature.lengths else steps
            feeds = {name: _row_of(array, name, row, count, signature) for name, array in inputs.items()}
            rows.append(self._run_row(feeds))
        return dict(zip([s.name for s in signature.outputs], join_rows(rows, signature, steps), strict=True))  # type: ignore[arg-type]

    def _run_row(self, feeds: dict[str, Array]) -> list[Array]:
        try:
            # It computes both branches of its sigmoid and keeps one; a NaN that is kept fails the comparison still.
            with np.errstate(over="ignore", under="ignore", invalid="ignore"):
                return [np.asarray(a) for a in self._evaluator.run(None, feeds)]
        except Exception as err:
            self.complaint = f"not applicable: the evaluator stopped with {type(err).__name__}: {first_line(err)}"
            raise LegUnableError(self.complaint) from err


class ControlLeg:
    """The network with torch.nn.LSTM or nn.GRU in the place of each stack, each row alone: what PyTorch gets wrong."""

    name = "torch.nn"

    def __init__(self, exportable: Exportable) -> None:
        self._signature = exportable.signature
        self.output_names = _names(exportable.signature)
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
        self.layer = stack_to_torch(stack).eval()
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


def first_line(err: BaseException) -> str:
    """Return the first line of an error's text, cut to what a report can hold."""
    return next((line.strip() for line in str(err).splitlines() if line.strip()), "no reason given")[:300]


def _is_ignored(operator: str, attribute: onnx.AttributeProto) -> bool:
    """Whether the evaluator computes as if this attribute were not there, and that matters."""
    value = onnx.helper.get_attribute_value(attribute)
    if operator not in {"LSTM", "GRU"}:
        return False
    if attribute.name == "activations":
        names = [name.decode().lower() for name in value]
        one = ["sigmoid", "tanh", "tanh"] if operator == "LSTM" else ["sigmoid", "tanh"]
        return names != one * (len(names) // len(one))
    return (attribute.name == "input_forget" and value != 0) or attribute.name == "clip"


def _names(signature: GraphSignature) -> tuple[str, ...]:
    return tuple(spec.name for spec in signature.outputs)


def _row_of(array: Array, name: str, row: int, steps: int, signature: GraphSignature) -> Array:
    spec = next(s for s in signature.inputs if s.name == name)
    alone = array.take([row], axis=spec.shape.index("B"))
    return np.ascontiguousarray(alone[:, :steps] if "T" in spec.shape else alone)


def _session_options(options: SessionOptions, threads: int) -> onnxruntime.SessionOptions:
    made = onnxruntime.SessionOptions()
    level = {"disable": "DISABLE_ALL", "basic": "ENABLE_BASIC", "extended": "ENABLE_EXTENDED", "all": "ENABLE_ALL"}
    made.graph_optimization_level = getattr(
        onnxruntime.GraphOptimizationLevel, f"ORT_{level[options.graph_optimization_level]}"
    )
    made.execution_mode = getattr(onnxruntime.ExecutionMode, f"ORT_{options.execution_mode.upper()}")
    made.intra_op_num_threads = threads
    made.log_severity_level = 3
    for key, value in options.config.items():
        made.add_session_config_entry(key, value)
    return made
