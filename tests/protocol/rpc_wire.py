"""A request over gRPC: raw bytes or typed fields, alone or in a stream; and its answer read back."""

from contextlib import suppress

import grpc
import numpy as np
from google.protobuf.message import DecodeError

from cellgate.serve.rpc import inference_pb2 as messages

from .breach import breach
from .request import DTYPES, Answer

SERVICE = "/inference.GRPCInferenceService"
_FIELDS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
}
PATIENCE_S = 30


class RpcWire:
    """One way to write requests down.

    Args:
        channel: to the server.
        form: "raw", "typed" or "stream", which is raw over ModelStreamInfer.
    """

    can_say_not_a_number = True

    def __init__(self, channel: grpc.Channel, form: str) -> None:
        self._channel = channel
        self._form = form

    def infer(self, request):
        body = message_of(request, raw=self._form != "typed").SerializeToString()
        if self._form == "stream":
            return self._infer_in_stream(body)
        found, status = call(self._channel, "ModelInfer", body)
        return status if found is None else read_answer(_parsed(messages.ModelInferResponse, found))

    def _infer_in_stream(self, body):
        stream = self._channel.stream_stream(f"{SERVICE}/ModelStreamInfer")
        try:
            found = list(stream(iter([body]), timeout=PATIENCE_S))
        except grpc.RpcError as err:
            return Answer(err.code().name, err.details())
        if len(found) != 1:
            breach("ModelStreamInfer", "an answer to each request", f"{len(found)} to one")
        answer = _parsed(messages.ModelStreamInferResponse, found[0])
        if not answer.error_message:
            return read_answer(answer.infer_response)
        facts = answer.infer_response.parameters
        return Answer(facts["grpc_status"].string_param, answer.error_message, facts["error_code"].string_param)


def call(channel, method, body, service=SERVICE, **options):
    """Return the bytes of an answer and None, or None and the status as an `Answer`."""
    try:
        return channel.unary_unary(f"{service}/{method}")(body, timeout=PATIENCE_S, **options), None
    except grpc.RpcError as err:
        facts = dict(err.trailing_metadata() or ())
        return None, Answer(err.code().name, err.details(), facts.get("error-code"))


def message_of(request, *, raw):
    """Return the message of a request."""
    message = messages.ModelInferRequest(model_name=request.model, model_version=request.version, id=request.id)
    for name, value in request.parameters.items():
        set_parameter(message.parameters[name], value)
    for tensor in request.inputs:
        made = message.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
        elements = tensor.elements.astype(DTYPES.get(tensor.datatype, np.dtype("<f4")))
        if raw:
            message.raw_input_contents.append(elements.tobytes())
        else:
            field = _FIELDS.get(tensor.datatype, "fp32_contents")
            getattr(made.contents, field).extend(elements.reshape(-1).tolist())
    for name in request.outputs:
        message.outputs.add(name=name)
    return message


def set_parameter(parameter, value):
    """Say a plain value as clients do."""
    kinds = {bool: "bool_param", int: "int64_param", str: "string_param", float: "double_param"}
    setattr(parameter, kinds[type(value)], value)


def read_answer(message) -> Answer:
    """Read an answer that is none of an error; one that contradicts itself is a failure of the server."""
    try:
        outputs = _outputs_of(message)
    except (KeyError, IndexError, ValueError) as err:
        outputs, found = None, f"{type(err).__name__}: {err}"
    if outputs is None:
        return breach("answer of gRPC", "outputs, each with name, datatype, shape and its elements", found)
    fields = {"model_name": message.model_name, "model_version": message.model_version}
    return Answer("OK", fields={**fields, "id": message.id} if message.id else fields, outputs=outputs)


def _parsed(kind, body):
    with suppress(DecodeError):
        return kind.FromString(body)
    return breach("answer of gRPC", f"a {kind.DESCRIPTOR.name}", body[:100])


def _outputs_of(message):
    outputs = {}
    for place, output in enumerate(message.outputs):
        if message.raw_output_contents:
            flat = np.frombuffer(message.raw_output_contents[place], DTYPES[output.datatype])
        else:
            flat = np.array(getattr(output.contents, _FIELDS[output.datatype]), DTYPES[output.datatype])
        outputs[output.name] = flat.reshape(tuple(output.shape))
    return outputs
