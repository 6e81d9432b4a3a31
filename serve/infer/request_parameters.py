"""The `parameters` objects of a request: which are obeyed, which are refused, and that the others may be anything.

Rules of this file: pure. A parameter that would change the answer on another server and is not obeyed here is refused,
never ignored; zero, false and empty say "not used" and are let through.
Source: the protocol's REST specification, "Parameters", and the extensions binary_tensor_data and schedule_policy.
"""

from collections.abc import Mapping
from typing import Any

from ..engine.work import StreamRef
from ..errors import BadInput, shown

LEVELS = 9  # 1 is the highest; 0, the protocol's default, stands for the one in the middle
_DEFAULT_LEVEL = 5
_MAX_TIMEOUT = 2**53  # microseconds; JSON clients lose digits beyond
_NONE: Mapping[str, Any] = {}
_MAX_UINT64 = 2**64 - 1
_MAX_STREAM_ID_BYTES = 256

_REFUSED = frozenset(
    {
        "classification",
        "shared_memory_region",
        "shared_memory_byte_size",
        "shared_memory_offset",
    }
)
_OF_STREAM = ("sequence_id", "sequence_start", "sequence_end", "sequence_step")
_OF_REQUEST = frozenset({"priority", "timeout", *_OF_STREAM})
# Asks a model that answers several times to say which answer is the last; here the first one is. perf_analyzer asks so.
_WITHOUT_EFFECT = frozenset({"triton_enable_empty_final_response"})


def check_parameters(place: str, value: Any, *, of_request: bool = False) -> Mapping[str, Any]:
    """Return the parameters, checked in form; empty where there are none.

    Args:
        place: of the object, for messages.
        value: parsed JSON, or None.
        of_request: those of the whole request, where priority, timeout and the stream stand.

    Raises:
        BadInput: not an object, a value that is no string, number or boolean, or a parameter that is not served.
    """
    if value is None:
        return _NONE
    if not isinstance(value, dict):
        raise BadInput(place, "an object", shown(value))
    for name, item in value.items():
        if not isinstance(item, str | int | float):  # a boolean is an int here; null, arrays and objects are none
            raise BadInput(f"{place}.{shown(name)}", "a string, number or boolean", shown(item))
        is_reserved = name.startswith("triton_") and name not in _WITHOUT_EFFECT
        refused = name in _REFUSED or is_reserved or (name in _OF_REQUEST and not of_request)
        if refused and item not in (0, ""):
            remedy = "there are no labels here, and priority, timeout and streams are the whole request's"
            raise BadInput(f"{place}.{shown(name)}", "no such parameter", shown(item), remedy)
    return value


def priority_of(parameters: Mapping[str, Any]) -> int:
    """Return the engine's priority, higher first, 0 for the protocol's default.

    Raises:
        BadInput: no integer in 0 .. 9.
    """
    level = _whole("priority", parameters, LEVELS)
    return _DEFAULT_LEVEL - level if level else 0


def timeout_of(parameters: Mapping[str, Any]) -> float | None:
    """Return how long the answer may take, in seconds; None: as long as it takes.

    Raises:
        BadInput: `timeout` is no whole number of microseconds.
    """
    return _whole("timeout", parameters, _MAX_TIMEOUT) / 1e6 or None


def stream_of(parameters: Mapping[str, Any]) -> StreamRef | None:
    """Return the stream that a request belongs to; None where it has no id, which zero and empty mean too.

    Source: the extensions sequence and sequence(string_id); `sequence_step` is this server's own.

    Raises:
        BadInput: an id, a flag or a step of another form, or a flag or a step without an id.
    """
    if parameters.keys().isdisjoint(_OF_STREAM):
        return None
    name = parameters.get("sequence_id", 0)
    is_text = isinstance(name, str) and len(name.encode()) <= _MAX_STREAM_ID_BYTES
    if not is_text and (type(name) is not int or not 0 <= name <= _MAX_UINT64):
        expected = f"an integer in 0 .. {_MAX_UINT64}, or text of at most {_MAX_STREAM_ID_BYTES} bytes"
        raise BadInput("parameters.sequence_id", expected, shown(name))
    is_start = flag_of("parameters", parameters, "sequence_start") or False
    is_end = flag_of("parameters", parameters, "sequence_end") or False
    step = parameters.get("sequence_step")
    if step is not None and (type(step) is not int or not 0 <= step <= _MAX_UINT64):
        raise BadInput("parameters.sequence_step", f"an integer in 0 .. {_MAX_UINT64}", shown(step))
    if name in (0, ""):
        if is_start or is_end or step is not None:
            raise BadInput("parameters.sequence_id", "it, beside a flag or a step of a stream", "none, or an empty one")
        return None
    return StreamRef(id=name, is_start=is_start, is_end=is_end, step=step)


def carried_of(parameters: Mapping[str, Any]) -> str | None:
    """Return the state that a request carries, empty where it begins; None where it carries none.

    Raises:
        BadInput: no text, or beside the id of a stream that the server keeps.
    """
    if "sequence_state" not in parameters:
        return None
    text = parameters["sequence_state"]
    if not isinstance(text, str):
        raise BadInput("parameters.sequence_state", "text, as an answer gave it, or an empty one", shown(text))
    if parameters.get("sequence_id", 0) not in (0, ""):
        raise BadInput("parameters", "either sequence_id or sequence_state", "both")
    return text


def flag_of(place: str, parameters: Mapping[str, Any], name: str) -> bool | None:
    """Return a boolean parameter; None where it is absent.

    Raises:
        BadInput: something else stands there.
    """
    value = parameters.get(name)
    if value is not None and not isinstance(value, bool):
        raise BadInput(f"{place}.{name}", "true or false", shown(value))
    return value


def binary_size_of(place: str, parameters: Mapping[str, Any]) -> int | None:
    """Return the `binary_data_size` of a tensor in bytes; None where it is absent.

    Raises:
        BadInput: no integer from 0 on.
    """
    size = parameters.get("binary_data_size")
    if size is not None and (type(size) is not int or size < 0):
        raise BadInput(f"{place}.binary_data_size", "a number of bytes", shown(size))
    return size


def _whole(name: str, parameters: Mapping[str, Any], most: int) -> int:
    value = parameters.get(name)
    if not value:  # absent, zero, false or empty
        return 0
    if type(value) is not int or not 0 <= value <= most:
        raise BadInput(f"parameters.{name}", f"an integer in 0 .. {most}", shown(value))
    return value
