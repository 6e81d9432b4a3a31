"""The protocol's JSON inference request: bytes to a typed record. Nothing here knows a model.

Rules of this file: pure; every object has exactly the fields of the protocol, each of its type; a field given twice is
refused, because parsers differ in which one they keep, and two of them in a row (a proxy and this server) would then
see two requests. `null` stands for an absent optional field, as clients built on pydantic send it.
Source: the protocol's REST specification, "Inference Request JSON Object".
"""

from typing import Any

import orjson

from ..errors import BadInput, shown
from .binary_request import HEADER
from .json_object import check_duplicates, object_of
from .request_parameters import binary_size_of, check_parameters, flag_of
from .request_record import MAX_TENSORS, RequestRecord, TensorRecord, check_text, list_of, make_request, make_tensor

# model_name is not the protocol's: kserve's client repeats the name there, and the URL rules.
_REQUEST_FIELDS = ("id", "model_name", "parameters", "inputs", "outputs")
_INPUT_FIELDS = ("name", "shape", "datatype", "parameters", "data")
_OUTPUT_FIELDS = ("name", "parameters")


def parse_request(body: bytes) -> RequestRecord:
    """Parse an inference request, or the head of one whose tensors follow it.

    Args:
        body: UTF-8 JSON, within the limit on bodies.

    Raises:
        BadInput: not JSON, or not the protocol's request; names the field, expected and found.
    """
    try:
        parsed = orjson.loads(body)  # refuses NaN, Infinity, lone surrogates, and more than 1024 levels
    except orjson.JSONDecodeError as err:
        # orjson's words for bytes that are no text, and for bytes after the end: most likely tensors.
        has_more = "UTF-8" in err.msg or "after document" in err.msg
        remedy = f"where tensors follow it, the header {HEADER} says how long it is" if has_more else ""
        raise BadInput("body", "a JSON inference request", f"no JSON ({err})", remedy) from err
    request = object_of("body", parsed, _REQUEST_FIELDS, ("inputs",))
    check_text("id", request.get("id"))
    check_text("model_name", request.get("model_name"))
    parameters = check_parameters("parameters", request.get("parameters"), of_request=True)
    given = list_of("inputs", request["inputs"], MAX_TENSORS)
    wanted = [] if request.get("outputs") is None else list_of("outputs", request["outputs"], MAX_TENSORS)
    inputs = tuple(_tensor(f"inputs[{place}]", item) for place, item in enumerate(given))
    outputs = [_output(f"outputs[{place}]", item) for place, item in enumerate(wanted)]
    found = make_request(request.get("id"), parameters, inputs, outputs)
    check_duplicates(body, _members(parsed))
    return found


def _tensor(place: str, item: Any) -> TensorRecord:
    tensor = object_of(place, item, _INPUT_FIELDS, ("name", "shape", "datatype"))
    size = binary_size_of(f"{place}.parameters", check_parameters(f"{place}.parameters", tensor.get("parameters")))
    has_data = tensor.get("data") is not None
    if size is None and not has_data:
        raise BadInput(f"{place}.data", "it, or the parameter binary_data_size", "neither")
    if size is not None and has_data:
        raise BadInput(f"{place}.data", "either it or the parameter binary_data_size", "both")
    return make_tensor(place, tensor["name"], tensor["datatype"], tensor["shape"], tensor.get("data"), size)


def _output(place: str, item: Any) -> tuple[str, bool | None]:
    if isinstance(item, str):
        raise BadInput(place, "an object", shown(item), 'its name is written {"name": …}')
    output = object_of(place, item, _OUTPUT_FIELDS, ("name",))
    parameters = check_parameters(f"{place}.parameters", output.get("parameters"))
    name = output["name"]
    if not isinstance(name, str):
        raise BadInput(f"{place}.name", "a string", shown(name))
    return name, flag_of(f"{place}.parameters", parameters, "binary_data")


def _members(parsed: dict[str, Any]) -> int:
    objects: list[Any] = [parsed, parsed.get("parameters")]
    for item in [*parsed["inputs"], *(parsed.get("outputs") or [])]:
        objects += [item, item.get("parameters")]
    return sum(len(item) for item in objects if item)
