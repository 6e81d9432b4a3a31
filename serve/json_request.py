"""The protocol's JSON inference request: bytes to a typed record. Nothing here knows a model.

The record, and what is checked of its parts (`make_tensor`, `make_request`), are also those of requests that come by
gRPC.

Rules of this file: pure; every object has exactly the fields of the protocol, each of its type; a field given twice is
refused, because parsers differ in which one they keep, and two of them in a row (a proxy and this server) would then
see two requests. `null` stands for an absent optional field, as clients built on pydantic send it.
Source: the protocol's REST specification, "Inference Request JSON Object".
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from .datatypes import DATATYPES
from .engine.work import StreamRef
from .errors import BadInput, shown
from .request_parameters import (
    binary_size_of,
    carried_of,
    check_parameters,
    flag_of,
    priority_of,
    stream_of,
    timeout_of,
)

MAX_ID = 1024  # characters
MAX_TENSORS = 256  # inputs or outputs; each costs some microseconds, so a body full of them must stop early
MAX_RANK = 8
MAX_DIM = 2**31 - 1

# model_name is not the protocol's: kserve's client repeats the name there, and the URL rules.
_REQUEST_FIELDS = ("id", "model_name", "parameters", "inputs", "outputs")
_INPUT_FIELDS = ("name", "shape", "datatype", "parameters", "data")
_OUTPUT_FIELDS = ("name", "parameters")
_SIZE_FIELD = "parameters.binary_data_size"
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)


@dataclass(frozen=True, slots=True)
class JsonTensor:
    """One input as it was sent: its head checked in form.

    Attributes:
        name: as it was sent.
        datatype: a word of the protocol.
        shape: without zeros.
        data: still JSON; or a flat array, where the wire has types; or None, and so many bytes elsewhere.
        binary_bytes: of the bytes elsewhere, as the sender says; None where there is data.
        size_field: where the sender says so, for messages.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: Any
    binary_bytes: int | None = None
    size_field: str = _SIZE_FIELD


@dataclass(frozen=True, slots=True)
class JsonRequest:
    """An inference request.

    Attributes:
        id: echoed.
        inputs: as they were sent.
        outputs: names; none means the default ones.
        binary: for outputs that say so, whether they come as binary tensors.
        binary_outputs: whether the others do.
        priority: of the engine, higher first; 0 is usual.
        timeout_s: how long the answer may take; None: as long as it takes.
        stream: that it belongs to, or None.
        carried: the state that it carries, empty where it begins; None: none.
    """

    id: str | None
    inputs: tuple[JsonTensor, ...]
    outputs: tuple[str, ...] = ()
    binary: Mapping[str, bool] = field(default_factory=dict)
    binary_outputs: bool = False
    priority: int = 0
    timeout_s: float | None = None
    stream: StreamRef | None = None
    carried: str | None = None


def parse_request(body: bytes) -> JsonRequest:
    """Parse an inference request, or the head of one whose tensors follow it.

    Args:
        body: UTF-8 JSON, within the limit on bodies.

    Raises:
        BadInput: not JSON, or not the protocol's request; names the field, expected and found.
    """
    try:
        parsed = orjson.loads(body)  # refuses NaN, Infinity, lone surrogates, and more than 1024 levels
    except orjson.JSONDecodeError as err:
        raise BadInput("body", "a JSON inference request", f"no JSON ({err})") from err
    request = _object("body", parsed, _REQUEST_FIELDS, ("inputs",))
    check_text("id", request.get("id"))
    check_text("model_name", request.get("model_name"))
    parameters = check_parameters("parameters", request.get("parameters"), of_request=True)
    given = _list("inputs", request["inputs"], MAX_TENSORS)
    wanted = [] if request.get("outputs") is None else _list("outputs", request["outputs"], MAX_TENSORS)
    inputs = tuple(_tensor(f"inputs[{place}]", item) for place, item in enumerate(given))
    outputs = [_output(f"outputs[{place}]", item) for place, item in enumerate(wanted)]
    found = make_request(request.get("id"), parameters, inputs, outputs)
    _check_duplicates(body, parsed)
    return found


def make_request(
    request_id: str | None,
    parameters: Mapping[str, Any],
    inputs: Sequence[JsonTensor],
    outputs: Sequence[tuple[str, bool | None]],
) -> JsonRequest:
    """Return the record of a request, by whatever protocol its parts came.

    Args:
        request_id: checked, or None.
        parameters: of the whole request, as `check_parameters` let them pass.
        inputs: of `make_tensor`.
        outputs: names, and whether each is to be binary, where it says so.

    Raises:
        BadInput: a parameter that is obeyed has no value that it could have.
    """
    return JsonRequest(
        id=request_id,
        inputs=tuple(inputs),
        outputs=tuple(name for name, _ in outputs),
        binary={name: binary for name, binary in outputs if binary is not None},
        binary_outputs=flag_of("parameters", parameters, "binary_data_output") or False,
        priority=priority_of(parameters),
        timeout_s=timeout_of(parameters),
        stream=stream_of(parameters),
        carried=carried_of(parameters),
    )


def make_tensor(
    place: str,
    name: Any,
    datatype: Any,
    shape: Any,
    data: Any,
    binary_bytes: int | None,
    size_field: str = _SIZE_FIELD,
) -> JsonTensor:
    """Return the record of an input, its head checked in form.

    Args:
        place: of the input, for messages.
        name: must be a string.
        datatype: must be a word of the protocol.
        shape: must be a list of integers from 1 on.
        data: see `JsonTensor`.
        binary_bytes: likewise.
        size_field: likewise.

    Raises:
        BadInput: it is not so.
    """
    if not isinstance(name, str):
        raise BadInput(f"{place}.name", "a string", shown(name))
    if not isinstance(datatype, str) or datatype not in DATATYPES:
        raise BadInput(f"{place}.datatype", f"one of {', '.join(sorted(DATATYPES))}", shown(datatype))
    return JsonTensor(name, datatype, _shape(f"{place}.shape", shape), data, binary_bytes, size_field)


def check_count(place: str, count: int, most: int) -> None:
    """Refuse more elements than any request has.

    Raises:
        BadInput: there are more.
    """
    if count > most:
        raise BadInput(place, f"at most {most} elements", str(count))


def check_text(place: str, value: Any) -> None:
    """Refuse what is no short text.

    Raises:
        BadInput: neither None nor a string of at most `MAX_ID` characters.
    """
    if value is not None and (not isinstance(value, str) or len(value) > MAX_ID):
        raise BadInput(place, f"a string of at most {MAX_ID} characters", shown(value))


def parse_optional_object(body: bytes) -> dict[str, Any]:
    """Parse a small object that may be left out.

    Raises:
        BadInput: something else.
    """
    try:
        found = orjson.loads(body) if body.strip() else {}
    except orjson.JSONDecodeError as err:
        raise BadInput("body", "nothing or a JSON object", f"no JSON: {err}") from err
    if not isinstance(found, dict):
        raise BadInput("body", "nothing or a JSON object", shown(found))
    return found


def parse_object(body: bytes, fields: tuple[str, ...]) -> dict[str, Any]:
    """Parse a small object that has exactly these fields.

    Raises:
        BadInput: no JSON, or another object.
    """
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError as err:
        raise BadInput("body", "a JSON object", f"no JSON ({err})") from err
    return _object("body", parsed, fields, fields)


def _tensor(place: str, item: Any) -> JsonTensor:
    tensor = _object(place, item, _INPUT_FIELDS, ("name", "shape", "datatype"))
    size = binary_size_of(f"{place}.parameters", check_parameters(f"{place}.parameters", tensor.get("parameters")))
    has_data = tensor.get("data") is not None
    if size is None and not has_data:
        raise BadInput(f"{place}.data", "it, or the parameter binary_data_size", "neither")
    if size is not None and has_data:
        raise BadInput(f"{place}.data", "either it or the parameter binary_data_size", "both")
    return make_tensor(place, tensor["name"], tensor["datatype"], tensor["shape"], tensor.get("data"), size)


def _shape(place: str, value: Any) -> tuple[int, ...]:
    axes = _list(place, value, MAX_RANK)
    if not axes:
        raise BadInput(place, "at least one dimension", "none")
    for axis in axes:
        if type(axis) is not int or not 1 <= axis <= MAX_DIM:
            raise BadInput(place, f"integers in 1 .. {MAX_DIM}", shown(axis), "zero rows or steps cannot be computed")
    return tuple(axes)


def _output(place: str, item: Any) -> tuple[str, bool | None]:
    output = _object(place, item, _OUTPUT_FIELDS, ("name",))
    parameters = check_parameters(f"{place}.parameters", output.get("parameters"))
    name = output["name"]
    if not isinstance(name, str):
        raise BadInput(f"{place}.name", "a string", shown(name))
    return name, flag_of(f"{place}.parameters", parameters, "binary_data")


def _object(place: str, value: Any, known: tuple[str, ...], required: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadInput(place, "an object", shown(value))
    for name in value.keys() - set(known):
        raise BadInput(place, f"only the fields {', '.join(known)}", shown(name))
    for name in required:
        if name not in value:
            raise BadInput(place, f"the field {name}", f"only {', '.join(value) or 'none'}")
    return value


def _list(place: str, value: Any, most: int) -> list[Any]:
    if not isinstance(value, list):
        raise BadInput(place, "an array", shown(value))
    check_count(place, len(value), most)
    return value


def _check_duplicates(body: bytes, parsed: dict[str, Any]) -> None:
    """Refuse a field given twice, at the cost of one scan.

    Outside strings, a colon stands for exactly one member of an object; the parser, which keeps the last of equal
    fields, must have kept as many as there are colons. Only where the counts differ is the slow parser asked which.
    """
    colons = body.count(b":") - sum(match[0].count(b":") for match in _STRING.finditer(body))
    if colons == _members(parsed):
        return
    try:
        json.loads(body, object_pairs_hook=_refuse_duplicates)
    except RecursionError as err:
        raise BadInput("body", "no object nested that deep", "more levels than can be read") from err


def _members(parsed: dict[str, Any]) -> int:
    objects: list[Any] = [parsed, parsed.get("parameters")]
    for item in [*parsed["inputs"], *(parsed.get("outputs") or [])]:
        objects += [item, item.get("parameters")]
    return sum(len(item) for item in objects if item)


def _refuse_duplicates(pairs: Iterable[tuple[str, Any]]) -> None:
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            raise BadInput("body", "every field of an object once", f"{shown(name)} twice")
        seen.add(name)
