"""The float64 oracle of a bare ONNX graph: the graph itself in float64, under the reference evaluator of onnx.

For a file without its PyTorch network nothing else knows what is right. It shares the graph with what is served and
none of its code: it finds what a runtime computes wrongly, and cannot find what the file says wrongly.

Rules of this file: rows run at their own length, without padding, for the evaluator ignores sequence_lens; rows of
equal length run together. Weights, constants and casts become float64; integers stay.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from ...bundle.axes import over_time, sizes_of
from ...bundle.manifest import GraphSignature
from ..error_line import said_by
from ..errors import SourceError
from .compare import Array
from .ended_early import WHY, WatchedEvaluator
from .oracle import ACTIVATION_ULPS, DRAWS, F64, UNIT_ROUNDOFF, Truth, join_rows, tolerate

_SINGLE: Final = TensorProto.FLOAT
_DOUBLE: Final = TensorProto.DOUBLE


class GraphOracle:
    """Runs cases in float64, exactly or with every weight and input off by rounding.

    Args:
        model: ONNX bytes, float32.
        signature: of the graph.
    """

    name = "the graph in float64 under the onnx evaluator"

    def __init__(self, model: bytes, signature: GraphSignature) -> None:
        self._signature = signature
        self._double = onnx.load_from_string(model)
        to_double(self._double.graph)
        self._relative_error = UNIT_ROUNDOFF["float32"] * (_sum_length(self._double.graph) ** 0.5 + ACTIVATION_ULPS)
        self._exact = WatchedEvaluator(self._double)
        self._moved = [self._shaken_evaluator(draw) for draw in range(DRAWS)]

    def truth(self, inputs: Mapping[str, Array]) -> Truth:
        """Return the outputs of a case and how far float32 may be from them.

        Raises:
            SourceError: the graph does not run for that many rows or steps, gives something of another shape, or ends a
                row before its last step, which the evaluator does not see.
        """
        exact = self.outputs(inputs)
        movement = dict.fromkeys(exact, 0.0)
        for draw, evaluator in enumerate(self._moved):
            random = np.random.default_rng(draw)
            moved = self._run(evaluator, {name: self._shaken(array, random) for name, array in inputs.items()})
            for name, array in moved.items():
                movement[name] = max(movement[name], float(np.abs(array - exact[name]).max()))
        given = [float(np.abs(inputs[pair.input]).max()) for pair in self._signature.state]
        return tolerate(exact, movement, max(given, default=0.0))

    def outputs(self, inputs: Mapping[str, Array]) -> dict[str, F64]:
        """Return the exact outputs alone."""
        return self._run(self._exact, inputs)

    def golden(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Return the exact outputs in the graph's own dtypes."""
        specs = {spec.name: spec.dtype for spec in self._signature.outputs}
        return {name: array.astype(specs[name]) for name, array in self.outputs(inputs).items()}

    def _shaken_evaluator(self, draw: int) -> WatchedEvaluator:
        moved = onnx.ModelProto()
        moved.CopyFrom(self._double)
        random = np.random.default_rng(draw)
        for graph in _graphs(moved.graph):
            for tensor in graph.initializer:
                array = numpy_helper.to_array(tensor)
                if array.size > 1:  # a single number is a parameter of some operator, such as an epsilon, and is exact
                    tensor.CopyFrom(numpy_helper.from_array(self._shaken(array, random), tensor.name))
        return WatchedEvaluator(moved)

    def _shaken(self, array: Array, random: np.random.Generator) -> Array:
        if not np.issubdtype(array.dtype, np.floating):
            return array
        signs: F64 = random.choice([-1.0, 1.0], array.shape)
        moved: F64 = array.astype(np.float64) * (1.0 + self._relative_error * signs)
        return moved

    def _run(self, evaluator: WatchedEvaluator, inputs: Mapping[str, Array]) -> dict[str, F64]:
        signature = self._signature
        rows, steps = inputs[signature.sequence].shape[:2]
        lengths = inputs[signature.lengths] if signature.lengths else np.full(rows, steps)
        done: dict[int, list[F64]] = {}
        for length in np.unique(lengths):
            places = [int(place) for place in np.flatnonzero(lengths == length)]
            found = self._run_together(evaluator, self._take(inputs, places, int(length)), len(places), int(length))
            for number, place in enumerate(places):
                done[place] = [
                    array.take([number], axis=spec.shape.index("B"))
                    for array, spec in zip(found, signature.outputs, strict=True)
                ]
        joined = join_rows([done[place] for place in range(rows)], signature, steps)
        return dict(zip([spec.name for spec in signature.outputs], joined, strict=True))

    def _run_together(self, evaluator: WatchedEvaluator, feeds: dict[str, Array], rows: int, steps: int) -> list[F64]:
        """Run rows of one length; a graph may declare axes free and then take the example's for granted."""
        what = f"for {rows} row{'s' * (rows > 1)} of {steps} step{'s' * (steps > 1)}"
        try:
            # Its sigmoid computes both branches and keeps one; a NaN that is kept fails every comparison with it.
            with np.errstate(over="ignore", under="ignore", divide="ignore", invalid="ignore"):
                found = [np.asarray(array, dtype=np.float64) for array in evaluator.run(feeds)]
        except Exception as err:
            raise SourceError(
                f"the graph cannot be run {what} (the onnx evaluator stopped with {said_by(err)}), expected any number "
                "of both; export it with dynamic axes, or from PyTorch"
            ) from err
        if evaluator.ended_early:
            raise SourceError(f"the graph cannot be verified without its network: {WHY}; export it from PyTorch")
        for array, spec in zip(found, self._signature.outputs, strict=True):
            due = list(sizes_of(spec.shape, rows, steps))
            if list(array.shape) != due:
                raise SourceError(
                    f"the graph gives {spec.name} of shape {list(array.shape)} {what}, expected {due}; export it with "
                    "dynamic axes, or from PyTorch, or call the axis of fewer steps what it is, such as (T-3)//4"
                )
        return found

    def _take(self, inputs: Mapping[str, Array], places: list[int], length: int) -> dict[str, Array]:
        taken = {}
        for spec in self._signature.inputs:
            array = inputs[spec.name].take(places, axis=spec.shape.index("B"))
            array = array[:, :length] if over_time(spec.shape) else array
            taken[spec.name] = array.astype(np.float64) if array.dtype.kind == "f" else array
        return taken


def to_double(graph: onnx.GraphProto) -> None:
    """Turn a float32 graph and its subgraphs into float64, in place: values, weights, constants and casts."""
    for part in _graphs(graph):
        del part.value_info[:]
        for value in (*part.input, *part.output):
            if value.type.tensor_type.elem_type == _SINGLE:
                value.type.tensor_type.elem_type = _DOUBLE
        for tensor in part.initializer:
            _tensor_to_double(tensor)
        for node in part.node:
            for attribute in node.attribute:
                _attribute_to_double(attribute)


def _attribute_to_double(attribute: onnx.AttributeProto) -> None:
    if attribute.type == onnx.AttributeProto.TENSOR:
        _tensor_to_double(attribute.t)
    elif attribute.name in {"to", "dtype"} and attribute.i == _SINGLE:
        attribute.i = _DOUBLE
    elif attribute.name in {"value_float", "value_floats"}:  # of a Constant, which would make float32 of it
        value: Any = attribute.f if attribute.name == "value_float" else list(attribute.floats)
        attribute.CopyFrom(onnx.helper.make_attribute("value", numpy_helper.from_array(np.array(value, np.float64))))


def _tensor_to_double(tensor: onnx.TensorProto) -> None:
    if tensor.data_type == _SINGLE:
        array = numpy_helper.to_array(tensor).astype(np.float64)
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _graphs(attribute.g)


def _sum_length(graph: onnx.GraphProto) -> int:
    """Return K, the number of products in the longest sum of one step, as oracle.sum_length does for a network.

    The weights of LSTM and GRU are [D, gates*H, K]; of a matrix the larger side is taken, for it may stand either way.
    """
    widths = [
        tensor.dims[-1] if len(tensor.dims) == 3 else max(tensor.dims)  # noqa: PLR2004 - [D, gates*H, K]
        for part in _graphs(graph)
        for tensor in part.initializer
        if tensor.data_type == _DOUBLE and len(tensor.dims) > 1
    ]
    return 2 * max(widths, default=1)
