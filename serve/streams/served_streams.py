"""What streams need to know of a served model: its bundle, its states, and how many bytes a request will leave behind.

Rules of this file: pure.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from ...bundle.manifest import GraphSignature, TensorSpec
from ..engine.work import Answer, Work
from ..errors import EngineError
from ..infer.input_check import BatchSize, sized
from ..infer.value_check import is_finite
from ..models.served_model import ServedModel
from .record import END, StreamRecord

_MOST_SIZES: Final = 256


@dataclass(frozen=True, slots=True)
class ServedStreams:
    """The streams of one version of a model.

    Attributes:
        name: of the model.
        version: of the bundle.
        key: see `ServedModel.key`.
        digest: of its bundle.
        graph: what it takes and returns.
        is_streamable: whether it has any.
        states: names of the outputs that return them.
        inputs: the specifications of the inputs that take them, in the same order.
        outputs: by name.
        sizes: of one row of outputs that were asked for together, at no step and at one step, in bytes.
    """

    name: str
    version: str
    key: str
    digest: str
    graph: GraphSignature
    is_streamable: bool
    states: tuple[str, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: Mapping[str, TensorSpec]
    sizes: dict[tuple[str, ...], tuple[int, int]] = field(default_factory=dict)

    @classmethod
    def of(cls, served: ServedModel) -> "ServedStreams":
        """Return what a served model's streams are."""
        graph, inputs = served.manifest.graph, {spec.name: spec for spec in served.manifest.graph.inputs}
        return cls(
            name=served.name,
            version=served.version,
            key=served.key,
            digest=served.digest,
            graph=graph,
            is_streamable=served.manifest.streamable and bool(graph.state),
            states=tuple(pair.output for pair in graph.state),
            inputs=tuple(inputs[pair.input] for pair in graph.state),
            outputs={spec.name: spec for spec in graph.outputs},
        )

    def outputs_to_run(self, work: Work) -> tuple[str, ...]:
        """Return the outputs that were asked for, and the states beside them; a stream that ends needs none."""
        assert work.stream is not None
        if work.stream.is_end:
            return work.outputs
        return (*work.outputs, *(name for name in self.states if name not in work.outputs))

    def growth_bytes(self, work: Work, before: StreamRecord | None) -> int:
        """Return how many bytes more a request will leave behind than lie there."""
        assert work.stream is not None
        after = 0
        if not work.stream.is_end:
            after += self._bytes_of(self.states, work)
        if work.stream.step is not None:
            after += self._bytes_of(work.outputs, work)
        return after - (0 if before is None else before.size_bytes)

    def _bytes_of(self, names: tuple[str, ...], work: Work) -> int:
        """Return the bytes of outputs: a constant, and a part for each step, times the rows."""
        each = self.sizes.get(names)
        if each is None:
            if len(self.sizes) >= _MOST_SIZES:  # every order of the outputs is one
                self.sizes.clear()
            each = self.sizes[names] = self._row_bytes(names, 0), self._row_bytes(names, 1)
        return work.rows * (each[0] + (each[1] - each[0]) * work.steps)

    def _row_bytes(self, names: tuple[str, ...], steps: int) -> int:
        size = BatchSize(1, steps)
        return sum(
            math.prod(sized(self.outputs[name], size)) * np.dtype(self.outputs[name].dtype).itemsize for name in names
        )

    def fits(self, record: StreamRecord) -> bool:
        """Whether the states of a record that lives are those of this model."""
        size = BatchSize(record.rows, 1)
        expected = [(np.dtype(spec.dtype), sized(spec, size)) for spec in self.inputs]
        return record.ended is not None or [(state.dtype, state.shape) for state in record.states] == expected

    def fits_answer(self, record: StreamRecord) -> bool:
        """Whether the last answer of a record, if it keeps one, can be one of this model."""
        steps: set[int] = set()
        for name, array in (record.answer or {}).items():
            spec = self.outputs.get(name)
            if spec is None or len(spec.shape) != array.ndim or array.dtype != np.dtype(spec.dtype):
                return False
            steps.update(found for axis, found in zip(spec.shape, array.shape, strict=True) if axis == "T")
            if array.shape != sized(spec, BatchSize(record.rows, min(steps, default=1))):
                return False
        return len(steps) <= 1

    def record_of(
        self,
        work: Work,
        found: Answer,
        *,
        step: int,
        revision: int,
        payload: bytes | None,
        now_s: float,
    ) -> StreamRecord:
        """Return what is kept after a run.

        Args:
            work: of a stream.
            found: everything that `outputs_to_run` named.
            step: that the work is.
            revision: of the record.
            payload: None where the request cannot be repeated.
            now_s: on the clock of the store.

        Raises:
            EngineError: the run returned what no stream can go on from.
        """
        for name, array in found.items():
            if not is_finite(array):
                raise EngineError(f"outputs.{name}: expected finite values, found NaN or infinity")
        # Copies: what a run returns may be a part of the arrays of all that ran beside it.
        kept = {name: np.array(array, order="C") for name, array in found.items()}
        is_end = work.stream is not None and work.stream.is_end
        return StreamRecord(
            revision=revision,
            step=step,
            digest=self.digest,
            rows=work.rows,
            states=() if is_end else tuple(kept[name] for name in self.states),
            payload_hash=payload,
            answer=None if payload is None else {name: kept[name] for name in work.outputs},
            ended=END if is_end else None,
            touched_s=now_s,
        )
