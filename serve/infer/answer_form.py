"""What an answer will look like, known before it is computed: names, shapes, JSON or binary.

Rules of this file: pure. What the engine returns is held against the form, so that no answer leaves with another shape
than its request implies, nor with a value that is not finite.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np

from ...bundle.manifest import GraphSignature
from ..arrays import Array, Arrays
from ..datatypes import datatype_of
from ..errors import EngineError
from .input_check import BatchSize, sized
from .json_response import render_object
from .value_check import is_finite

_OUTPUTS = b',"outputs":['
_STREAM_END = b"}" + _OUTPUTS


@dataclass(frozen=True, slots=True)
class OutputForm:
    """One output of an answer. `head`: its JSON object, open at the end where its data is to follow."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    binary: bool
    head: bytes

    @property
    def elements(self) -> int:
        """Elements of the array."""
        return prod(self.shape)


@dataclass(frozen=True, slots=True)
class AnswerForm:
    """One answer before its values.

    Attributes:
        outputs: in the order of the answer.
        names: theirs.
        start: JSON up to the first output.
        binary_head: the whole JSON head where every output is binary, else None.
        json_elements: elements that will be written as JSON.
        binary_bytes: bytes of the binary tensors.
        carry: makes the text of the state that the answer carries; None: it carries none.
    """

    outputs: tuple[OutputForm, ...]
    names: tuple[str, ...]
    start: bytes
    binary_head: bytes | None
    json_elements: int
    binary_bytes: int
    carry: Callable[[Arrays], str] | None = None

    @property
    def fields(self) -> dict[str, Any]:
        """What stands before the outputs: model, version, and the id and parameters where there are."""
        found: dict[str, Any] = json.loads(self.start + b"]}")
        del found["outputs"]
        return found

    def of_version(self, version: str) -> "AnswerForm":
        """Return the form of an answer that another version gave than the one that was asked for."""
        start = render_object({**self.fields, "model_version": version})[:-1] + _OUTPUTS
        return self._starting(start)

    def as_replayed(self) -> "AnswerForm":
        """Return the form of an answer that a stream had been given before; `start` ends in the stream's parameters."""
        return self._with(b',"replayed":true')

    def carrying_on(self, answer: Arrays) -> "AnswerForm":
        """Return the form with the state that the answer carries, where it is of the kind that does."""
        if self.carry is None:
            return self
        return self._with(b',"sequence_state":"%s"' % self.carry(answer).encode("ascii"))

    def _with(self, parameter: bytes) -> "AnswerForm":
        return self._starting(self.start.removesuffix(_STREAM_END) + parameter + _STREAM_END)

    def _starting(self, start: bytes) -> "AnswerForm":
        rest = None if self.binary_head is None else start + self.binary_head[len(self.start) :]
        return replace(self, start=start, binary_head=rest)

    def check(self, answer: Arrays) -> list[Array]:
        """Return the arrays in the order of the outputs.

        Raises:
            EngineError: one is missing, of another dtype or shape, or not finite.
        """
        found = []
        for output in self.outputs:
            array = answer.get(output.name)
            if array is None or array.shape != output.shape or array.dtype != output.dtype:
                expected = f"{output.dtype} {list(output.shape)}"
                what = "none" if array is None else f"{array.dtype} {list(array.shape)}"
                raise EngineError(f"outputs.{output.name}: expected {expected}, found {what}")
            if not is_finite(array):
                raise EngineError(f"outputs.{output.name}: expected finite values, found NaN or infinity")
            found.append(array)
        return found


def make_form(
    model: Mapping[str, Any], signature: GraphSignature, size: BatchSize, wanted: Sequence[tuple[str, bool]]
) -> AnswerForm:
    """Return the form of an answer.

    Args:
        model: the fields of the answer that stand before its outputs: name, version, the id where one was given, and
            last the parameters, where it belongs to a stream.
        signature: of the graph.
        size: B and T of the request.
        wanted: names of the outputs and whether each is binary.
    """
    specs = {spec.name: spec for spec in signature.outputs}
    outputs = tuple(
        _output_form(name, np.dtype(specs[name].dtype), sized(specs[name], size), binary=binary)
        for name, binary in wanted
    )
    start = render_object(model)[:-1] + _OUTPUTS
    all_binary = all(output.binary for output in outputs)
    return AnswerForm(
        outputs=outputs,
        names=tuple(output.name for output in outputs),
        start=start,
        binary_head=start + b",".join(output.head for output in outputs) + b"]}" if all_binary else None,
        json_elements=sum(output.elements for output in outputs if not output.binary),
        binary_bytes=sum(output.elements * output.dtype.itemsize for output in outputs if output.binary),
    )


def _output_form(name: str, dtype: np.dtype[Any], shape: tuple[int, ...], *, binary: bool) -> OutputForm:
    fields: dict[str, Any] = {"name": name, "datatype": datatype_of(dtype.name), "shape": shape}
    if binary:
        fields["parameters"] = {"binary_data_size": prod(shape) * dtype.itemsize}
    head = render_object(fields)
    return OutputForm(name, dtype, shape, binary, head if binary else head[:-1] + b',"data":')
