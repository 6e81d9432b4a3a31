"""From a request's bytes to the engine's work and the form of the answer, for one model.

Rules of this file: no HTTP and no loop. Clients send the same head again and again with other tensors behind it, so a
head that was parsed and checked once is remembered by its bytes; what depends on the tensors is checked every time.
Nothing that fails is remembered.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from ..bundle.manifest import GraphSignature
from .answer_form import AnswerForm, make_form
from .arrays import Array
from .binary_request import HEADER, Blob, check_length, make_blob, raw_request, refuse_blobs
from .engine.work import StreamRef, Work
from .errors import BadInput, ModelChanged
from .input_check import LENGTHS, check_heads, check_outputs, value_rule
from .json_data import array_from_flat, array_from_json
from .json_request import JsonRequest, JsonTensor, parse_request
from .json_size import check_json_size
from .served_model import ServedModel
from .settings import RequestLimits
from .state_carrier import Carried, StateCarrier

# A remembered head keeps its bytes, its record and the tensors that stood in it as JSON: some 4 MiB a model at most.
_HEADS = 1024
_HEAD_BYTES = 2048
# What takes about a millisecond: 13,000 numbers of JSON, or a hundred times as many bytes that are only looked at.
_LARGE_JSON_BYTES = 2**18
_LARGE_BINARY_BYTES = 2**22
_STEP = b"sequence_step"
_STATE = b"sequence_state"


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


class RequestReader:
    """Reads requests for one model. May be called from several threads at once.

    Args:
        model: asked for.
        limits: largest B, T, B*T and answer.
        clock: monotonic, in seconds, the engine's.
        carrier: of states that clients carry; None: they are refused.
        elsewhere: returns what reads for another version of the model, by its digest, where that is still served.
    """

    def __init__(
        self,
        model: ServedModel,
        limits: RequestLimits,
        clock: Callable[[], float] = time.monotonic,
        carrier: StateCarrier | None = None,
        elsewhere: Callable[[str], "RequestReader | None"] = lambda _digest: None,
    ) -> None:
        self._model = model
        self._key = model.key
        self._elsewhere = elsewhere
        self._carrier = carrier or StateCarrier(model=model)
        self._limits = limits
        self._clock = clock
        signature = model.manifest.graph
        self._sequence = signature.sequence
        self._lengths = signature.lengths or LENGTHS
        self._states = tuple(pair.input for pair in signature.state)
        self._known_head = lru_cache(_HEADS)(self._read_head)
        self._known_raw = lru_cache(_HEADS)(self._raw_head)

    @property
    def signature(self) -> GraphSignature:
        """Of the model's graph."""
        return self._model.manifest.graph

    def read(self, body: bytes, head_bytes: int | None) -> tuple[Work, AnswerForm]:
        """Read a request.

        Args:
            body: of the request; the work keeps a view of it.
            head_bytes: length of its JSON head; 0: no head, the body is the sequence; None: all of it is JSON.

        Raises:
            BadInput: the request is not one, or does not fit the model.
        """
        if head_bytes is None:
            request = self._parse(body)
            refuse_blobs(request.inputs)
            return self._work(self._check(request), body, 0)
        if head_bytes > len(body):
            raise BadInput(HEADER, f"at most the {len(body)} bytes of the body", str(head_bytes))
        if head_bytes == 0:
            return self._work(self._known_raw(len(body)), body, 0)
        text = body[:head_bytes]
        # A head that numbers its request, or carries a state, never comes again.
        is_known = head_bytes <= _HEAD_BYTES and _STEP not in text and _STATE not in text
        head = self._known_head(text) if is_known else self._read_head(text)
        if head.blob_bytes != len(body) - head_bytes:
            check_length(head.blob_bytes, len(body), head_bytes)
        return self._work(head, body, head_bytes)

    def read_parts(self, request: JsonRequest, buffers: Sequence[bytes]) -> tuple[Work, AnswerForm]:
        """Read a request that another protocol has taken apart.

        Args:
            request: its record; nothing of it is remembered.
            buffers: of its binary tensors, in the order of its inputs; each as long as the record says.

        Raises:
            BadInput: the request does not fit the model.
        """
        head = self._check(request)
        read = {blob.rule.name: blob.read(buffer, 0) for blob, buffer in zip(head.blobs, buffers, strict=True)}
        return self._work_of(head, {**head.arrays, **read})

    def _work(self, head: CheckedHead, body: bytes, start: int) -> tuple[Work, AnswerForm]:
        if head.lone is not None:  # the usual request
            return self._work_from(head, head.lone.read(body, start), head.arrays[self._lengths], head.states)
        arrays = head.arrays
        if head.blobs:
            arrays = arrays.copy()
            for blob in head.blobs:
                arrays[blob.rule.name] = blob.read(body, start)
                start += blob.size_bytes
        return self._work_of(head, arrays)

    def _work_of(self, head: CheckedHead, arrays: dict[str, Array]) -> tuple[Work, AnswerForm]:
        states = tuple([arrays.get(name) for name in self._states])
        return self._work_from(head, arrays[self._sequence], arrays[self._lengths], states)

    def _work_from(
        self, head: CheckedHead, sequence: Array, lengths: Array, states: tuple[Array | None, ...]
    ) -> tuple[Work, AnswerForm]:
        work = Work(
            model=head.key,
            sequence=sequence,
            lengths=lengths,
            states=states,
            outputs=head.outputs,
            priority=head.priority,
            deadline_s=None if head.timeout_s is None else self._clock() + head.timeout_s,
            stream=head.stream,
        )
        return work, head.form

    def _read_head(self, text: bytes) -> CheckedHead:
        return self._check(self._parse(text))

    def _parse(self, text: bytes) -> JsonRequest:
        check_json_size(text, self._limits.max_json_elements)
        return parse_request(text)

    def _raw_head(self, body_bytes: int) -> CheckedHead:
        return self._check(raw_request(self._model.manifest.graph, body_bytes))

    def _check(self, request: JsonRequest) -> CheckedHead:
        """Check a request; one that carries the state of another version goes on in that, if it takes the same."""
        try:
            return self.check_here(request)
        except ModelChanged as err:
            other = self._elsewhere(err.began)
            if other is None or other.signature != self.signature:
                raise
            return other.check_here(request)

    def check_here(self, request: JsonRequest) -> CheckedHead:
        """Check a request for this version alone.

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
        outputs = (*names, *(name for name in carrier.streams.states if name not in names))
        return self._head(request, arrays, blobs, form, outputs)

    def _bring(self, carried: Carried, request: JsonRequest, arrays: dict[str, Array]) -> None:
        """Let the state that was carried stand where states are brought, and no other beside it."""
        given = [tensor.name for tensor in request.inputs if tensor.name in self._states]
        if given:
            raise BadInput(f"inputs.{given[0]}", "it beside an empty sequence_state only", "it beside another")
        assert carried.states is not None
        arrays.update(zip(self._states, carried.states, strict=True))

    def _head(
        self,
        request: JsonRequest,
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


def is_large_body(body_bytes: int, head_bytes: int | None) -> bool:
    """Whether reading a body would hold up an event loop for longer than about a millisecond."""
    json_bytes = body_bytes if head_bytes is None else head_bytes
    return json_bytes > _LARGE_JSON_BYTES or body_bytes > _LARGE_BINARY_BYTES


def is_large_answer(form: AnswerForm) -> bool:
    """Whether rendering an answer would hold up an event loop for longer than about a millisecond."""
    return form.json_elements > _LARGE_JSON_BYTES // 16 or form.binary_bytes > _LARGE_BINARY_BYTES


def _array_of(tensor: JsonTensor) -> Array:
    if isinstance(tensor.data, np.ndarray):
        return array_from_flat(tensor.name, tensor.shape, tensor.data)
    return array_from_json(tensor.name, tensor.datatype, tensor.shape, tensor.data)


def _wanted(request: JsonRequest, names: tuple[str, ...]) -> list[tuple[str, bool]]:
    return [(name, request.binary.get(name, request.binary_outputs)) for name in names]


def answer_fields(model: ServedModel, request: JsonRequest) -> dict[str, Any]:
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
