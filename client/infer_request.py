"""Inference requests as bytes that are ready to be sent, made before the clock runs.

Rules of this file: pure, but for drawing an id. A part is one HTTP request of a sequence; what changes from one sending
to the next (the state, the id of a stream) is put into a place that was left for it. Source: the Open Inference
Protocol, REST, and its binary tensor extension: a JSON head, then the tensors, little-endian, in the order of the head.
"""

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from .address import Address
from .model_facts import StateFacts

Body = Literal["binary", "json"]
Array = NDArray[Any]

FIRST_STREAM: Final = 10**15  # every id has as many digits, since a place of one width is left for it
_STREAMS: Final = 10**6  # of a run, before they may be another one's
_RUNS: Final = 8 * 10**9  # that are told apart; every id stays below 2**53, which all JSON has room for
_DATATYPES: Final = {"float32": "FP32", "float16": "FP16", "int32": "INT32", "int64": "INT64"}
_MARK: Final = str(FIRST_STREAM)
_DIGITS: Final = 4  # of numbers in JSON: as many as a sensor gives


class Part(Protocol):
    """One request of a sequence."""

    @property
    def steps(self) -> int:
        """Time steps of all rows together."""
        ...

    def request(self, stream: int, answer: bytes) -> bytes:
        """Return the request's bytes.

        Args:
            stream: number of this run through the sequence, FIRST_STREAM or more, never used twice.
            answer: body of the answer to the part before; empty for the first.
        """
        ...


@dataclass(frozen=True, slots=True)
class WholePart:
    """The same bytes every time."""

    steps: int
    payload: bytes

    def request(self, stream: int, answer: bytes) -> bytes:  # noqa: ARG002 - nothing changes
        """Return the request's bytes."""
        return self.payload


@dataclass(frozen=True, slots=True)
class CarriedPart:
    """Sends the state back that the part before returned: the last bytes of its answer are the last of this request."""

    steps: int
    payload: bytes
    state_bytes: int

    def request(self, stream: int, answer: bytes) -> bytes:  # noqa: ARG002 - the state says it all
        """Return the request's bytes."""
        return self.payload + answer[-self.state_bytes :]


@dataclass(frozen=True, slots=True)
class CarriedJsonPart:
    """The same in JSON, where the state has to be read and written."""

    steps: int
    start_line: bytes
    open_body: bytes
    states: tuple[StateFacts, ...]

    def request(self, stream: int, answer: bytes) -> bytes:  # noqa: ARG002 - the state says it all
        """Return the request's bytes.

        Raises:
            ValueError, KeyError, TypeError: the answer holds no such state.
        """
        outputs = {output["name"]: output for output in json.loads(answer)["outputs"]}
        found = [{**outputs[state.output], "name": state.input} for state in self.states]
        body = b",".join([self.open_body, *(json.dumps(tensor).encode() for tensor in found)]) + b"]}"
        return self.start_line + b"Content-Length: %d\r\n\r\n" % len(body) + body


@dataclass(frozen=True, slots=True)
class NumberedPart:
    """Names its stream by `sequence_id`; the server keeps the state."""

    steps: int
    before: bytes
    after: bytes

    def request(self, stream: int, answer: bytes) -> bytes:  # noqa: ARG002 - the server has the state
        """Return the request's bytes."""
        return self.before + b"%d" % stream + self.after


@dataclass(frozen=True, kw_only=True, slots=True)
class Writer:
    """Writes requests for one model.

    Attributes:
        address: of the server.
        model: its name.
        body: how tensors are written.
    """

    address: Address
    model: str
    body: Body

    def whole(self, tensors: Mapping[str, Array], steps: int, outputs: Sequence[str] = ()) -> WholePart:
        """Return a request whose bytes never change.

        Args:
            tensors: inputs by name, C-contiguous.
            steps: time steps of all rows together.
            outputs: names; none means what the server gives unasked.
        """
        return WholePart(steps, self._payload(tensors, outputs, {}))

    def numbered(self, tensors: Mapping[str, Array], steps: int, *, start: bool, end: bool) -> NumberedPart:
        """Return a part of a stream that the server keeps."""
        parameters = {"sequence_id": FIRST_STREAM, "sequence_start": start, "sequence_end": end}
        before, _, after = self._payload(tensors, (), parameters).partition(_MARK.encode())
        return NumberedPart(steps, before, after)

    def carried(
        self, tensors: Mapping[str, Array], steps: int, outputs: Sequence[str], states: tuple[StateFacts, ...]
    ) -> CarriedPart | CarriedJsonPart:
        """Return a part that takes the state from the answer before. Arguments as for `whole`, and the states."""
        if self.body == "json":
            opened = self._json(tensors, outputs, {}).removesuffix(b"]}")
            return CarriedJsonPart(steps, self._start(), opened, states)
        rows = next(iter(tensors.values())).shape[0]
        shapes = {state.input: [rows if axis == -1 else axis for axis in state.shape] for state in states}
        later = [
            {"name": s.input, "shape": shapes[s.input], "datatype": s.datatype, **_sized(rows * s.row_bytes)}
            for s in states
        ]
        size = sum(rows * state.row_bytes for state in states)
        return CarriedPart(steps, self._payload(tensors, outputs, {}, later, size), size)

    def _payload(
        self,
        tensors: Mapping[str, Array],
        outputs: Sequence[str],
        parameters: Mapping[str, Any],
        later: Sequence[Mapping[str, Any]] = (),
        later_bytes: int = 0,
    ) -> bytes:
        if self.body == "json":
            body = self._json(tensors, outputs, parameters)
            return self._start() + b"Content-Length: %d\r\n\r\n" % len(body) + body
        inputs = [{**_tensor_head(name, array), **_sized(array.nbytes)} for name, array in tensors.items()]
        asked = {**parameters, "binary_data_output": True}
        head = _dump({"inputs": [*inputs, *later], "parameters": asked, **_outputs(outputs)})
        body = b"".join([head, *(array.astype(array.dtype.newbyteorder("<")).tobytes() for array in tensors.values())])
        sizes = b"Inference-Header-Content-Length: %d\r\nContent-Length: %d\r\n\r\n"
        return self._start() + sizes % (len(head), len(body) + later_bytes) + body

    def _json(self, tensors: Mapping[str, Array], outputs: Sequence[str], parameters: Mapping[str, Any]) -> bytes:
        """Return a JSON body; the inputs stand last."""
        inputs = [{**_tensor_head(name, array), "data": _plain(array)} for name, array in tensors.items()]
        said = {"parameters": parameters} if parameters else {}
        return _dump({**said, **_outputs(outputs), "inputs": inputs})

    def _start(self) -> bytes:
        kind = "application/json" if self.body == "json" else "application/octet-stream"
        path = f"{self.address.prefix}/v2/models/{quote(self.model, safe='')}/infer"
        key = "".join(f"{name}: {value}\r\n" for name, value in self.address.key_headers.items())
        return (
            f"POST {path} HTTP/1.1\r\nHost: {self.address.authority}\r\n"
            f"User-Agent: cellgate-bench\r\nContent-Type: {kind}\r\n{key}"
        ).encode("ascii")


def some_stream() -> int:
    """Return the id to count a run's streams from, drawn: two loads on one server must not take each other's."""
    return FIRST_STREAM + _STREAMS * secrets.randbelow(_RUNS)


def _dump(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _tensor_head(name: str, array: Array) -> dict[str, Any]:
    return {"name": name, "shape": list(array.shape), "datatype": _DATATYPES[array.dtype.name]}


def _sized(size: int) -> dict[str, Any]:
    return {"parameters": {"binary_data_size": size}}


def _outputs(names: Sequence[str]) -> dict[str, Any]:
    return {"outputs": [{"name": name} for name in names]} if names else {}


def _plain(array: Array) -> list[Any]:
    flat = array.reshape(-1)
    listed: list[Any] = (flat.astype(np.float64).round(_DIGITS) if flat.dtype.kind == "f" else flat).tolist()
    return listed
