"""From the engine's arrays to the bytes of an answer: JSON, binary tensors, or both in one.

Rules of this file: pure; the same bytes whichever route they leave by.
"""

from typing import Any, NamedTuple

import numpy as np

from ..arrays import Array, Arrays
from ..engine.work import StreamAnswer
from .answer_form import AnswerForm
from .json_response import render_numbers

JSON = "application/json"
BINARY = "application/octet-stream"


class InferAnswer(NamedTuple):
    """An answer, ready to be joined and sent.

    Attributes:
        parts: bytes and contiguous little-endian arrays, in order.
        head_bytes: length of the JSON head where binary tensors follow it, else None: all is JSON.
        size_bytes: of all parts.
    """

    parts: list[Any]
    head_bytes: int | None
    size_bytes: int

    @property
    def media_type(self) -> str:
        """The content type."""
        return JSON if self.head_bytes is None else BINARY

    @property
    def headers(self) -> dict[str, str]:
        """Further headers of the answer."""
        return {} if self.head_bytes is None else {"Inference-Header-Content-Length": str(self.head_bytes)}

    def join(self) -> bytes:
        """Return the body."""
        return b"".join(self.parts)


def completed(form: AnswerForm, answer: Arrays | StreamAnswer) -> tuple[AnswerForm, list[Array]]:
    """Return the form with what only the answer knows, and the arrays in the order of its outputs.

    Raises:
        EngineError: it is not of the form, or not finite.
    """
    if isinstance(answer, StreamAnswer):
        form = form if answer.version is None else form.of_version(answer.version)
        form = form.as_replayed() if answer.is_replayed else form
        answer = answer.outputs
    arrays = form.check(answer)
    return form.carrying_on(answer), arrays


def render_answer(form: AnswerForm, answer: Arrays | StreamAnswer) -> InferAnswer:
    """Render what the engine returned.

    Raises:
        EngineError: it is not of the form, or not finite.
    """
    form, arrays = completed(form, answer)
    head = form.binary_head
    if head is not None:
        return InferAnswer([head, *map(np.ascontiguousarray, arrays)], len(head), len(head) + form.binary_bytes)
    blobs = [np.ascontiguousarray(array) for output, array in zip(form.outputs, arrays, strict=True) if output.binary]
    tensors = (
        output.head if output.binary else output.head + render_numbers(array) + b"}"
        for output, array in zip(form.outputs, arrays, strict=True)
    )
    head = form.start + b",".join(tensors) + b"]}"
    return InferAnswer([head, *blobs], len(head) if blobs else None, len(head) + form.binary_bytes)
