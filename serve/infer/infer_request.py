"""From a request's bytes to the engine's work and the form of the answer, for one model.

Rules of this file: no HTTP and no loop. Clients send the same head again and again with other tensors behind it, so a
head that was parsed and checked once (`infer_check`) is remembered by its bytes, but for its timeout (`timed_head`);
what depends on the tensors is checked every time. Nothing that fails is remembered.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache

from ...bundle.manifest import GraphSignature
from ..arrays import Array
from ..engine.work import Work
from ..errors import BadInput
from ..models.served_model import ServedModel
from ..stream_errors import ModelChanged
from ..streams.state_carrier import StateCarrier
from .answer_form import AnswerForm
from .binary_request import HEADER, check_length, raw_request, refuse_blobs
from .infer_check import CheckedHead, InferCheck
from .input_check import LENGTHS
from .json_request import parse_request
from .json_size import check_json_size
from .request_limits import RequestLimits
from .request_record import RequestRecord
from .timed_head import STAND_IN_S, TIMEOUT, take_timeout

# A remembered head keeps its bytes, its record and the tensors that stood in it as JSON: some 4 MiB a model at most.
_HEADS = 1024
_HEAD_BYTES = 2048
# What takes about a millisecond: 13,000 numbers of JSON, or a hundred times as many bytes that are only looked at.
_LARGE_JSON_BYTES = 2**18
_LARGE_BINARY_BYTES = 2**22
_STEP = b"sequence_step"
_STATE = b"sequence_state"


class RequestReader:
    """Reads requests for one model. May be called from several threads at once.

    Args:
        model: asked for.
        limits: largest B, T, B*T and answer.
        clock: monotonic, in seconds, the engine's.
        carrier: of states that clients carry; None: they are refused.
        elsewhere: returns what reads for another version of the model, by its digest, where that is still served.
        begin: called for each request that goes on with nothing, and raises where none may begin.

    Attributes:
        check_here: `InferCheck.check` for this version alone.
    """

    def __init__(
        self,
        model: ServedModel,
        limits: RequestLimits,
        clock: Callable[[], float] = time.monotonic,
        carrier: StateCarrier | None = None,
        elsewhere: Callable[[str], "RequestReader | None"] = lambda _digest: None,
        begin: Callable[[], object] | None = None,
    ) -> None:
        self.check_here = InferCheck(model, limits, carrier or StateCarrier(model=model)).check
        self._model = model
        self._elsewhere = elsewhere
        self._begin = begin
        self._limits = limits
        self._clock = clock
        signature = model.manifest.graph
        self._sequence = signature.sequence
        self._lengths = signature.lengths or LENGTHS
        self._states = tuple(pair.input for pair in signature.state)
        self._known_head = lru_cache(_HEADS)(self._read_head)
        self._known_raw = lru_cache(_HEADS)(self._raw_head)

    @property
    def version(self) -> str:
        """Of the model."""
        return self._model.version

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
        head = self._find_head(text) if is_known else self._read_head(text)
        if is_known and head.form.carry is not None:  # its name was spelled by escapes, and what was checked may be old
            head = self._read_head(text)
        if head.blob_bytes != len(body) - head_bytes:
            check_length(head.blob_bytes, len(body), head_bytes)
        return self._work(head, body, head_bytes)

    def read_parts(self, request: RequestRecord, buffers: Sequence[bytes]) -> tuple[Work, AnswerForm]:
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

    def _find_head(self, text: bytes) -> CheckedHead:
        taken = take_timeout(text) if TIMEOUT in text else None
        if taken is not None:
            with suppress(BadInput):  # whose words would be of another text
                head = self._known_head(taken[0])
                if head.timeout_s == STAND_IN_S:
                    return replace(head, timeout_s=taken[1])
        return self._known_head(text)

    def _read_head(self, text: bytes) -> CheckedHead:
        return self._check(self._parse(text))

    def _parse(self, text: bytes) -> RequestRecord:
        check_json_size(text, self._limits.max_json_elements)
        return parse_request(text)

    def _raw_head(self, body_bytes: int) -> CheckedHead:
        return self._check(raw_request(self._model.manifest.graph, body_bytes))

    def _check(self, request: RequestRecord) -> CheckedHead:
        """Check a request; one that carries the state of another version goes on in that, if it takes the same."""
        if self._begin is not None and not _goes_on(request):
            self._begin()
        try:
            return self.check_here(request)
        except ModelChanged as err:
            other = self._elsewhere(err.began)
            if other is None:
                raise
            if other.signature != self.signature:
                raise ModelChanged(None, err.began, self._model.digest, other.version) from None
            return other.check_here(request)


def _goes_on(request: RequestRecord) -> bool:
    """Whether it is a later chunk of a stream."""
    return bool(request.carried) or (request.stream is not None and not request.stream.is_start)


def is_large_body(body_bytes: int, head_bytes: int | None) -> bool:
    """Whether reading a body would hold up an event loop for longer than about a millisecond."""
    json_bytes = body_bytes if head_bytes is None else head_bytes
    return json_bytes > _LARGE_JSON_BYTES or body_bytes > _LARGE_BINARY_BYTES


def is_large_answer(form: AnswerForm) -> bool:
    """Whether rendering an answer would hold up an event loop for longer than about a millisecond."""
    return form.json_elements > _LARGE_JSON_BYTES // 16 or form.binary_bytes > _LARGE_BINARY_BYTES
