"""Whether a request that was parsed fits its model, and what comes of it: everything but the values of binary tensors.

Rules of this file: pure, no bytes of a body. What comes of a request may be remembered and answer thousands, from
several threads at once: nothing of it is written to afterwards.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..arrays import Array
from ..engine.work import StreamRef
from ..errors import BadInput
from ..models.served_model import ServedModel
from ..streams.state_carrier import Carried, StateCarrier
from .answer_form import AnswerForm, make_form
from .binary_request import Blob, make_blob
from .input_check import LENGTHS, check_heads, check_outputs
from .json_data import array_from_flat, array_from_json
from .request_limits import RequestLimits
from .request_record import RequestRecord, TensorRecord
from .value_check import value_rule


@dataclass(frozen=True, slots=True)
class CheckedHead:
    """A head that fits the model: everything but the values of the binary tensors.

    Attributes:
        arrays: tensors that stood in the head, checked; lengths are always among them, unless they are binary.
        blobs: the binary tensors, in the order of the body.
        blob_bytes: of all of them.
        priority: of the engine.
        timeout_s: how long the answer may take; None: as long as it takes.
        form: of the answer.
        stream: that the request belongs to, or None.
        outputs: of the engine: those of the form, and the states that the answer carries.
        key: of the model that runs it.
        lone: the sequence, where it is the only binary tensor.
        states: of the engine; those that are binary tensors are missing.
    """

    arrays: dict[str, Array]
    blobs: tuple[Blob, ...]
    blob_bytes: int
    priority: int
    timeout_s: float | None
    form: AnswerForm
    stream: StreamRef | None
    outputs: tuple[str, ...]
    key: str
    lone: Blob | None
    states: tuple[Array | None, ...]


class InferCheck:
    """Checks requests for one version of a model. May be called from several threads at once.

    Args:
        model: asked for.
        limits: largest B, T, B*T and answer.
        carrier: of states that clients carry.
    """

    def __init__(self, model: ServedModel, limits: RequestLimits, carrier: StateCarrier) -> None:
        self._model = model
        self._key = model.key
        self._limits = limits
        self._carrier = carrier
        signature = model.manifest.graph
        self._sequence = signature.sequence
        self._lengths = signature.lengths or LENGTHS
        self._states = tuple(pair.input for pair in signature.state)

    def check(self, request: RequestRecord) -> CheckedHead:
        """Check a request.

        Raises:
            BadInput: the request does not fit the model.
            ModelChanged: it carries the state of another version.
        """
        signature = self._model.manifest.graph
        size = check_heads(signature, request.inputs, self._limits)
        names = check_outputs(signature, request.outputs, size, self._limits)
        blobs: list[Blob] = []
        carried = None if request.carried is None else self._carrier.read(request.carried, size.rows)
        arrays = {self._lengths: _filled(size.rows, size.steps)}
        for tensor in request.inputs:
            rule = value_rule(signature, tensor.name, size)
            if tensor.binary_bytes is None:
                arrays[tensor.name] = rule.apply(_array_of(tensor))
            else:
                blobs.append(make_blob(tensor, rule))
        fields = answer_fields(self._model, request)
        if carried is None:
            form = make_form(fields, signature, size, _wanted(request, names))
            return self._head(request, arrays, blobs, form, names)
        if carried.states is not None:
            self._bring(carried, request, arrays)
        fields["parameters"] = {"sequence_step": carried.step}
        rows, step, carrier = size.rows, carried.step, self._carrier
        form = replace(
            make_form(fields, signature, size, _wanted(request, names)),
            carry=lambda answer: carrier.sign(answer, rows, step),
        )
        states = (name for name in carrier.streams.states if name not in names)
        outputs = check_outputs(signature, (*names, *states), size, self._limits)  # the states are in the answer too
        return self._head(request, arrays, blobs, form, outputs)

    def _bring(self, carried: Carried, request: RequestRecord, arrays: dict[str, Array]) -> None:
        """Let the state that was carried stand where states are brought, and no other beside it."""
        given = [tensor.name for tensor in request.inputs if tensor.name in self._states]
        if given:
            raise BadInput(f"inputs.{given[0]}", "it beside an empty sequence_state only", "it beside another")
        assert carried.states is not None
        arrays.update(zip(self._states, carried.states, strict=True))

    def _head(
        self,
        request: RequestRecord,
        arrays: dict[str, Array],
        blobs: list[Blob],
        form: AnswerForm,
        outputs: tuple[str, ...],
    ) -> CheckedHead:
        return CheckedHead(
            arrays=arrays,
            blobs=tuple(blobs),
            blob_bytes=sum(blob.size_bytes for blob in blobs),
            priority=request.priority,
            timeout_s=request.timeout_s,
            form=form,
            stream=request.stream,
            outputs=outputs,
            key=self._key,
            lone=blobs[0] if [blob.rule.name for blob in blobs] == [self._sequence] else None,
            states=tuple([arrays.get(name) for name in self._states]),
        )


def _array_of(tensor: TensorRecord) -> Array:
    if isinstance(tensor.data, np.ndarray):
        return array_from_flat(tensor.name, tensor.shape, tensor.data)
    return array_from_json(tensor.name, tensor.datatype, tensor.shape, tensor.data)


def _wanted(request: RequestRecord, names: tuple[str, ...]) -> list[tuple[str, bool]]:
    return [(name, request.binary.get(name, request.binary_outputs)) for name in names]


def answer_fields(model: ServedModel, request: RequestRecord) -> dict[str, Any]:
    """Return the fields of an answer that stand before its outputs."""
    fields: dict[str, Any] = {"model_name": model.name, "model_version": model.version}
    if request.id is not None:
        fields["id"] = request.id
    stream = request.stream
    if stream is not None:
        step = {} if stream.step is None else {"sequence_step": stream.step}
        fields["parameters"] = {"sequence_id": stream.id, **step}
    return fields


def _filled(rows: int, steps: int) -> Array:
    lengths = np.full(rows, steps, dtype=np.int32)
    lengths.flags.writeable = False
    return lengths
