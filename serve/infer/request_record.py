"""An inference request as it was sent, by whatever protocol it came, and what is checked of its parts.

Rules of this file: pure; it knows no model and no wire. What comes as JSON is taken apart by `json_request`, a message
of gRPC by `rpc.infer_message`; both end here, so that both refuse the same with the same words.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..datatypes import DATATYPES
from ..engine.work import StreamRef
from ..errors import BadInput, shown
from .request_parameters import carried_of, flag_of, priority_of, stream_of, timeout_of

MAX_ID = 1024  # characters
MAX_TENSORS = 256  # inputs or outputs; each costs some microseconds, so a body full of them must stop early
MAX_RANK = 8
MAX_DIM = 2**31 - 1

_SIZE_FIELD = "parameters.binary_data_size"


@dataclass(frozen=True, slots=True)
class TensorRecord:
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
class RequestRecord:
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
    inputs: tuple[TensorRecord, ...]
    outputs: tuple[str, ...] = ()
    binary: Mapping[str, bool] = field(default_factory=dict)
    binary_outputs: bool = False
    priority: int = 0
    timeout_s: float | None = None
    stream: StreamRef | None = None
    carried: str | None = None


def make_request(
    request_id: str | None,
    parameters: Mapping[str, Any],
    inputs: Sequence[TensorRecord],
    outputs: Sequence[tuple[str, bool | None]],
) -> RequestRecord:
    """Return the record of a request, by whatever protocol its parts came.

    Args:
        request_id: checked, or None.
        parameters: of the whole request, as `check_parameters` let them pass.
        inputs: of `make_tensor`.
        outputs: names, and whether each is to be binary, where it says so.

    Raises:
        BadInput: a parameter that is obeyed has no value that it could have.
    """
    return RequestRecord(
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
) -> TensorRecord:
    """Return the record of an input, its head checked in form.

    Args:
        place: of the input, for messages.
        name: must be a string.
        datatype: must be a word of the protocol.
        shape: must be a list of integers from 1 on.
        data: see `TensorRecord`.
        binary_bytes: likewise.
        size_field: likewise.

    Raises:
        BadInput: it is not so.
    """
    if not isinstance(name, str):
        raise BadInput(f"{place}.name", "a string", shown(name))
    if not isinstance(datatype, str) or datatype not in DATATYPES:
        expected = f"one of {', '.join(sorted(DATATYPES))}"
        raise BadInput(f"{place}.datatype", expected, shown(datatype), "the model's metadata says which")
    return TensorRecord(name, datatype, _shape(f"{place}.shape", shape), data, binary_bytes, size_field)


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


def list_of(place: str, value: Any, most: int) -> list[Any]:
    """Return an array of JSON that has no more elements than any request has.

    Raises:
        BadInput: it is none, or has more.
    """
    if not isinstance(value, list):
        raise BadInput(place, "an array", shown(value))
    check_count(place, len(value), most)
    return value


def _shape(place: str, value: Any) -> tuple[int, ...]:
    axes = list_of(place, value, MAX_RANK)
    if not axes:
        raise BadInput(place, "at least one dimension", "none")
    for axis in axes:
        if type(axis) is not int or not 1 <= axis <= MAX_DIM:
            raise BadInput(place, f"integers in 1 .. {MAX_DIM}", shown(axis), "zero rows or steps cannot be computed")
    return tuple(axes)
