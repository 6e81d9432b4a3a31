"""From the message of an inference request to the record that all protocols share, and its tensors' bytes.

Rules of this file: pure; it says which field of the message means what, and leaves every check that HTTP's requests go
through to where they are made. A tensor's elements are raw bytes, a blob for each input, or stand in the one typed
field of its datatype; never both in one request.
Source: the protocol's gRPC specification, "Inference", "Tensor Data".
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np
from google.protobuf.message import DecodeError, Message

from ..arrays import Array
from ..datatypes import DATATYPES
from ..errors import BadInput
from ..infer.request_parameters import check_parameters
from ..infer.request_record import (
    MAX_TENSORS,
    RequestRecord,
    TensorRecord,
    check_count,
    check_text,
    make_request,
    make_tensor,
)
from .inference_pb2 import InferParameter, InferTensorContents, ModelInferRequest
from .wire_scan import malformed

_RAW: Final = "raw_input_contents"
# Datatypes that have a typed field, and the dtype in which it comes; the others come as bytes.
_TYPED: Final[Mapping[str, tuple[str, str]]] = {
    "BOOL": ("bool_contents", "bool"),
    "INT8": ("int_contents", "int32"),
    "INT16": ("int_contents", "int32"),
    "INT32": ("int_contents", "int32"),
    "INT64": ("int64_contents", "int64"),
    "UINT8": ("uint_contents", "uint32"),
    "UINT16": ("uint_contents", "uint32"),
    "UINT32": ("uint_contents", "uint32"),
    "UINT64": ("uint64_contents", "uint64"),
    "FP32": ("fp32_contents", "float32"),
    "FP64": ("fp64_contents", "float64"),
    "BYTES": ("bytes_contents", "object"),
}


def parse_message(body: bytes) -> ModelInferRequest:
    """Parse the message of a request.

    Args:
        body: that `scan_request` let pass.

    Raises:
        BadInput: the bytes are none.
    """
    message = ModelInferRequest()
    fill_message(message, body)
    return message


def fill_message(message: Message, body: bytes) -> None:
    """Parse bytes into a message.

    Raises:
        BadInput: the bytes are none.
    """
    try:
        message.ParseFromString(body)
    except DecodeError as err:
        raise malformed() from err


def request_parts(message: ModelInferRequest, remaining_s: float | None) -> tuple[RequestRecord, list[bytes]]:
    """Return the record of a request and the buffers of its binary tensors.

    Args:
        message: parsed.
        remaining_s: until nobody waits for the call any more; None: as long as it takes.

    Raises:
        BadInput: not the protocol's request; names the field, expected and found.
    """
    check_text("id", message.id)
    parameters = parameters_of("parameters", message.parameters, of_request=True)
    check_count("inputs", len(message.inputs), MAX_TENSORS)
    check_count("outputs", len(message.outputs), MAX_TENSORS)
    raw = list(message.raw_input_contents)  # each of them is copied when it is looked at
    if raw and len(raw) != len(message.inputs):
        raise BadInput(_RAW, f"none, or one for each of {len(message.inputs)} inputs", str(len(raw)))
    inputs = [
        _tensor(f"inputs[{place}]", tensor, len(raw[place]) if raw else None)
        for place, tensor in enumerate(message.inputs)
    ]
    outputs = [(output.name, True) for output in message.outputs]
    for place, output in enumerate(message.outputs):
        parameters_of(f"outputs[{place}].parameters", output.parameters)
    record = make_request(message.id or None, {**parameters, "binary_data_output": True}, inputs, outputs)
    limits_s = [limit for limit in (record.timeout_s, remaining_s) if limit is not None]
    return replace(record, timeout_s=min(limits_s, default=None)), raw


def parameters_of(place: str, given: Mapping[str, InferParameter], *, of_request: bool = False) -> Mapping[str, Any]:
    """Return parameters as plain values, checked in form.

    Args:
        place: of them, for messages.
        given: of a message.
        of_request: those of the whole request.

    Raises:
        BadInput: one has no value, or is not served.
    """
    if not given:
        return {}
    return check_parameters(place, {name: _value(value) for name, value in given.items()}, of_request=of_request)


def _value(parameter: InferParameter) -> bool | int | float | str | None:
    choice = parameter.WhichOneof("parameter_choice")
    return None if choice is None else getattr(parameter, choice)


def _tensor(place: str, tensor: ModelInferRequest.InferInputTensor, raw_bytes: int | None) -> TensorRecord:
    parameters_of(f"{place}.parameters", tensor.parameters)
    filled = [field.name for field, _ in tensor.contents.ListFields()]
    if raw_bytes is None:
        data = _elements(place, tensor.datatype, tensor.contents, filled)
    elif filled:
        raise BadInput(f"{place}.contents", f"none, for there are {_RAW}", ", ".join(filled), "send all inputs one way")
    else:
        data = None
    return make_tensor(place, tensor.name, tensor.datatype, list(tensor.shape), data, raw_bytes, size_field=_RAW)


def _elements(place: str, datatype: str, contents: InferTensorContents, filled: list[str]) -> Array:
    """Return the elements of the datatype's field; a datatype that is no word of the protocol is refused later."""
    field, dtype = _TYPED.get(datatype, (_RAW, "float32"))
    if datatype in DATATYPES and any(name != field for name in filled):
        raise BadInput(f"{place}.contents", f"{field} for {datatype}", ", ".join(filled))
    found = getattr(contents, field, ())
    return np.fromiter(found, dtype, len(found))
