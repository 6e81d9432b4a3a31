"""The legs that run the ONNX graph: onnxruntime, as it will be served, and the evaluator of the onnx package.

Rules of this file: as of leg.py.
"""

from collections.abc import Mapping

import numpy as np
import onnx
import onnxruntime

from ...bundle.axes import over_time
from ...bundle.manifest import GraphSignature, SessionOptions
from ..error_line import said_by
from ..errors import ExportError
from .compare import Array
from .ended_early import WHY, WatchedEvaluator, hidden_ends
from .leg import LegUnableError, names_of
from .oracle import join_rows

# The evaluator is written for clarity, not for speed: three rows of short cases tell as much as all of them.
_REFERENCE_ROWS = 3
_REFERENCE_STEPS = 31


class RuntimeLeg:
    """The ONNX graph under onnxruntime's CPU provider, opened as it will be served.

    Args:
        model: the graph.
        signature: of the graph.
        options: of the bundle.
        threads: of the runtime; 0 for its own choice.
        name: for reports; variants have another.

    Raises:
        ExportError: the runtime does not take the graph.
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
        self.output_names = names_of(signature)
        try:
            self._session = onnxruntime.InferenceSession(
                model, _session_options(options, threads), providers=["CPUExecutionProvider"]
            )
        except Exception as err:
            raise ExportError(
                f"onnxruntime cannot open the graph (it said {said_by(err)}), expected operations that it has for the "
                "types they are given; where forward computes in bfloat16 or another rare type, let it stay in float32"
            ) from err

    def rows_for(self, inputs: Mapping[str, Array]) -> int:
        """All."""
        return len(inputs[self._signature.sequence])

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run the batch as it is."""
        found = self._session.run(None, {name: np.ascontiguousarray(array) for name, array in inputs.items()})
        return dict(zip([value.name for value in self._session.get_outputs()], found, strict=True))


class ReferenceLeg:
    """The ONNX graph under the reference evaluator of the onnx package, row by row at full length.

    The evaluator knows no sequence_lens, activations or input_forget; where the graph needs one of the latter two, ends
    a row before its last step, or needs an operator that the evaluator has not or that stops half-way, it cannot judge,
    and says so. Nothing is lost by that: what is served is held against the oracle in any case.
    """

    name = "onnx reference"

    def __init__(self, model: bytes, signature: GraphSignature) -> None:
        self._signature = signature
        self.output_names = names_of(signature)
        proto = onnx.load_from_string(model)
        needed = sorted({a.name for n in proto.graph.node for a in n.attribute if _is_ignored(n.op_type, a)})
        self.complaint = f"not applicable: the evaluator ignores {', '.join(needed)}" if needed else ""
        if hidden_ends(proto):
            self.complaint = f"not applicable: {WHY}"
        try:
            self._evaluator = WatchedEvaluator(proto)
        except Exception as err:  # noqa: BLE001 - it raises whatever it likes, for a Scan that runs backwards for example
            self.complaint = f"not applicable: the evaluator stopped with {said_by(err)}"

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
                found = [np.asarray(a) for a in self._evaluator.run(feeds)]
        except Exception as err:
            self.complaint = f"not applicable: the evaluator stopped with {said_by(err)}"
            raise LegUnableError(self.complaint) from err
        if self._evaluator.ended_early:
            self.complaint = f"not applicable: {WHY}"
            raise LegUnableError(self.complaint)
        return found


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


def _row_of(array: Array, name: str, row: int, steps: int, signature: GraphSignature) -> Array:
    spec = next(s for s in signature.inputs if s.name == name)
    alone = array.take([row], axis=spec.shape.index("B"))
    return np.ascontiguousarray(alone[:, :steps] if over_time(spec.shape) else alone)


def _session_options(options: SessionOptions, threads: int) -> onnxruntime.SessionOptions:
    made = onnxruntime.SessionOptions()
    level = {"disable": "DISABLE_ALL", "basic": "ENABLE_BASIC", "extended": "ENABLE_EXTENDED", "all": "ENABLE_ALL"}
    made.graph_optimization_level = getattr(
        onnxruntime.GraphOptimizationLevel, f"ORT_{level[options.graph_optimization_level]}"
    )
    made.execution_mode = getattr(onnxruntime.ExecutionMode, f"ORT_{options.execution_mode.upper()}")
    made.intra_op_num_threads = threads
    made.log_severity_level = 4  # fatal: what goes wrong is raised too, and its own lines would only repeat it
    for key, value in options.config.items():
        made.add_session_config_entry(key, value)
    return made
