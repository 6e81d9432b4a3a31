"""From the engine's arrays to the message of an answer: raw bytes, or typed fields where the request had them.

Rules of this file: pure. Clients that send raw bytes read raw bytes, others may read nothing else than what they send.
An output whose datatype has no typed field makes the whole answer raw, for an answer is one or the other.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np

from ..arrays import Array, Arrays
from ..datatypes import datatype_of
from ..engine.work import StreamAnswer
from ..infer.answer_form import AnswerForm
from ..infer.infer_answer import completed
from .inference_pb2 import InferParameter, InferTensorContents, ModelInferResponse

_TYPED: Final[Mapping[str, str]] = {
    "BOOL": "bool_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
}


def answer_message(form: AnswerForm, answer: Arrays | StreamAnswer, *, raw: bool) -> ModelInferResponse:
    """Return the message of an answer.

    Args:
        form: of the answer.
        answer: what the engine returned.
        raw: whether the request's tensors were raw bytes.

    Raises:
        EngineError: the answer is not of the form, or not finite.
    """
    form, arrays = completed(form, answer)
    fields = form.fields
    parameters = {name: to_parameter(value) for name, value in fields.get("parameters", {}).items()}
    message = ModelInferResponse(**{**fields, "parameters": parameters})
    datatypes = [datatype_of(output.dtype.name) for output in form.outputs]
    raw = raw or any(datatype not in _TYPED for datatype in datatypes)
    for output, datatype, array in zip(form.outputs, datatypes, arrays, strict=True):
        contents = None if raw else _contents(datatype, array)
        message.outputs.add(name=output.name, datatype=datatype, shape=output.shape, contents=contents)
        if raw:
            message.raw_output_contents.append(_little_endian(array))
    return message


def to_parameter(value: bool | float | str) -> InferParameter:
    """Return a plain value as the protocol's parameter; an integer above 63 bits is unsigned."""
    if isinstance(value, bool):
        return InferParameter(bool_param=value)
    if isinstance(value, int):
        return InferParameter(uint64_param=value) if value >= 2**63 else InferParameter(int64_param=value)
    return InferParameter(double_param=value) if isinstance(value, float) else InferParameter(string_param=value)


def _contents(datatype: str, array: Array) -> InferTensorContents:
    return InferTensorContents(**{_TYPED[datatype]: array.reshape(-1).tolist()})


def _little_endian(array: Array) -> bytes:
    return np.ascontiguousarray(array).tobytes()
