"""One inference as bytes: the request that is sent, and the answer that came back.

Rules of this file: pure. Tensors go and come as binary, so that no bit is lost. Source: the Open Inference Protocol,
REST, and its binary tensor extension.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

import numpy as np

from .arrays import DTYPES, Array
from .errors import AnswerError, InferenceError, InputError
from .model_facts import AnswerSteps

_DATATYPES: Final = {dtype: datatype for datatype, dtype in DTYPES.items()}
_HEAD_LENGTH: Final = "Inference-Header-Content-Length"
_OK: Final = 200
_SHOWN: Final = 300  # characters of an answer that is no error object


@dataclass(frozen=True, kw_only=True, slots=True)
class Call:
    """A request: method, path with its query, headers, body; and whether it may be carried out more than once."""

    method: str
    path: str
    headers: Mapping[str, str]
    content: bytes = b""
    may_repeat: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """A whole answer; names of headers in lower case."""

    status: int
    headers: Mapping[str, str]
    content: bytes


class Prediction(Mapping[str, Any]):
    """Outputs by name, and what else the answer said.

    Attributes:
        outputs: by name, in the order asked for.
        lengths: int32 [B], real steps of each row that was sent, or None where all were T.
        parameters: of the answer, such as `replayed`.
        model_version: as the server says it.
        per_step: names of the outputs that have a value for each step; None: they are not known, and all are taken so.
        answer_steps: how many of a row's steps those have a value for.
    """

    __slots__ = ("answer_steps", "lengths", "model_version", "outputs", "parameters", "per_step")

    def __init__(
        self,
        outputs: Mapping[str, Any],
        lengths: Array | None = None,
        parameters: Mapping[str, Any] | None = None,
        model_version: str = "",
        per_step: Collection[str] | None = None,
        answer_steps: AnswerSteps = AnswerSteps(),  # noqa: B008 - frozen
    ) -> None:
        self.outputs = outputs
        self.per_step = per_step
        self.answer_steps = answer_steps
        self.lengths = lengths
        self.parameters = parameters or {}
        self.model_version = model_version

    def __getitem__(self, name: str) -> Any:
        return self.outputs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.outputs)

    def __len__(self) -> int:
        return len(self.outputs)

    def __repr__(self) -> str:
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in self.outputs.items())
        return f"Prediction({shapes})"

    def rows(self, name: str) -> list[Any]:
        """Return an output row by row; one per step is cut to each row's steps, or to what the network leaves of them.

        Raises:
            InputError: it has no row for each sequence, as a state, whose first axis is the layers.

        >>> Prediction({"y": np.zeros((2, 3, 4))}, np.array([3, 1])).rows("y")[1].shape
        (1, 4)
        """
        found = self.outputs[name]
        if self.lengths is None:
            return list(found)
        if len(found) != len(self.lengths):
            expected = f"an output with {len(self.lengths)} rows"
            raise InputError(name, expected, f"shape {list(found.shape)}", "it is in the answer as it came")
        if self.per_step is not None and name not in self.per_step:
            return list(found)
        return [row[: self.answer_steps.of(length)] for row, length in zip(found, self.lengths.tolist(), strict=True)]


def model_path(model: str) -> str:
    """Return the path of a model.

    >>> model_path("a/b")
    '/v2/models/a%2Fb'
    """
    return f"/v2/models/{quote(model, safe='')}"


def pack_infer(
    model: str, tensors: Mapping[str, Array], outputs: Sequence[str], parameters: Mapping[str, str | int | bool]
) -> Call:
    """Return the request.

    Args:
        model: its name.
        tensors: by name, little-endian and C-contiguous, of a dtype in `DTYPES`.
        outputs: names; none for all but the states.
        parameters: of the request.

    Raises:
        InputError: a parameter is nothing that JSON knows.
    """
    inputs = [
        {
            "name": name,
            "shape": list(array.shape),
            "datatype": _DATATYPES[array.dtype.str],
            "parameters": {"binary_data_size": array.nbytes},
        }
        for name, array in tensors.items()
    ]
    wanted = {"outputs": [{"name": name} for name in outputs]} if outputs else {}
    said = {**parameters, "binary_data_output": True}
    try:
        head = json.dumps({"inputs": inputs, "parameters": said, **wanted}, separators=(",", ":")).encode()
    except (TypeError, ValueError) as err:
        raise InputError("parameters", "text, whole numbers and booleans of Python", str(err)) from err
    return Call(
        method="POST",
        path=f"{model_path(model)}/infer",
        headers={"Content-Type": "application/octet-stream", _HEAD_LENGTH: str(len(head))},
        content=b"".join([head, *(array.tobytes() for array in tensors.values())]),
        # A chunk of a stream counts each time it comes, unless it says its step.
        may_repeat=not parameters.get("sequence_id") or parameters.get("sequence_step") is not None,
    )


def unpack_infer(reply: Reply) -> Prediction:
    """Return what an answer with status 200 holds.

    Raises:
        InferenceError: the server refused; in its words.
        AnswerError: the answer is none of the protocol's.
    """
    check_status(reply)
    try:
        split = int(reply.headers.get(_HEAD_LENGTH.lower(), len(reply.content)))
        head = json.loads(reply.content[:split])
        outputs: dict[str, Array] = {}
        for tensor in head["outputs"]:
            dtype, shape = np.dtype(DTYPES[tensor["datatype"]]), tuple(tensor["shape"])
            size = (tensor.get("parameters") or {}).get("binary_data_size")
            if size is None:
                outputs[tensor["name"]] = np.array(tensor["data"], dtype=dtype).reshape(shape)
            else:
                outputs[tensor["name"]] = np.frombuffer(
                    bytearray(reply.content[split : split + size]),
                    dtype,  # a bytearray, so that it may be written to
                ).reshape(shape)
                split += size
        version, parameters = str(head.get("model_version", "")), head.get("parameters")
    except (ValueError, KeyError, TypeError, AttributeError) as err:
        raise AnswerError("an inference response", f"{type(err).__name__} {err}") from err
    return Prediction(outputs, None, parameters, version)


def check_status(reply: Reply) -> None:
    """Pass an answer with status 200.

    Raises:
        InferenceError: the server refused; in its words.
    """
    if reply.status == _OK:
        return
    found = error_object(reply)
    said = (
        str(found.pop("error", None) or "")
        or reply.content[:_SHOWN].decode("utf-8", "replace")
        or "the server said nothing"
    )
    raise InferenceError(reply.status, str(found.pop("code", None) or ""), said, found)


def error_object(reply: Reply) -> dict[str, Any]:
    """Return the error object of an answer; empty where it has none, as a proxy's."""
    try:
        found = json.loads(reply.content)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
