"""What a server says about a model, as far as it takes to ask it: the protocol's metadata objects, read once.

Rules of this file: nothing is trusted to be there; what is missing or of another kind is one sentence. Source: the
Open Inference Protocol, REST; `properties` are those of docs/http.md.
"""

import http.client
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from .address import Address
from .certificate import distrust_in, untrusted
from .errors import KeyRefusedError, ModelError, UnreachableError
from .http_connection import hung_up, open_later

_MAX_BYTES: Final = 2**24
_OK: Final = 200
_NO_RIGHT: Final = (401, 403)
_ITEM_BYTES: Final = {"FP16": 2, "FP32": 4, "INT32": 4, "INT64": 8}


@dataclass(frozen=True, kw_only=True, slots=True)
class StateFacts:
    """One state tensor: the input that takes it, the output that returns it, [.., B, ..] in the shape as -1."""

    input: str
    output: str
    datatype: str
    shape: tuple[int, ...]

    @property
    def row_bytes(self) -> int:
        """Bytes of the state of one row."""
        size = _ITEM_BYTES[self.datatype]
        for axis in self.shape:
            size *= 1 if axis == -1 else axis
        return size


@dataclass(frozen=True, kw_only=True, slots=True)
class AnswerSteps:
    """For how many of T steps a network answers: floor((T + add) / divide); for each, by default."""

    add: int = 0
    divide: int = 1

    def of(self, steps: int) -> int:
        """Return it for so many steps.

        >>> AnswerSteps(add=-3, divide=4).of(50)
        11
        """
        return max((steps + self.add) // self.divide, 0)


@dataclass(frozen=True, kw_only=True, slots=True)
class ColumnFacts:
    """What some columns of the sequence, side by side, take.

    Attributes:
        width: how many columns.
        values: "any", "not negative", "whole" numbers, or a "mark" of 0 or 1.
        counts: how many whole numbers there are from 0 on, one for all columns or one for each.
    """

    width: int
    values: str
    counts: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelFacts:
    """What it takes to ask a model.

    Attributes:
        name: under which it is served.
        sequence: name of its sequence input: x [B,T,I] float32, or tokens [B,T] int64.
        features: I; None where the input is tokens.
        vocabulary_size: tokens are below it; None where the input is float32.
        lengths: name of the input with each row's real steps, or None.
        answer: name of the first output.
        states: in the order of the metadata.
        streamable: whether parts with carried state give what the whole gives, as the server says.
        extensions: of the server.
        least_steps: fewest steps of a row.
        most_steps: most steps of a row; None: any number.
        per_step: names of the outputs [B, T, ...], which have a value for each step, or for what is left of them.
        answer_steps: how many of T steps are left in those.
        columns: what the columns of the sequence take, where they are several inputs.
    """

    name: str
    sequence: str
    features: int | None
    vocabulary_size: int | None
    lengths: str | None
    answer: str
    states: tuple[StateFacts, ...]
    streamable: bool
    extensions: frozenset[str]
    per_step: frozenset[str] = frozenset()
    least_steps: int = 1
    most_steps: int | None = None
    answer_steps: AnswerSteps = AnswerSteps()
    columns: tuple[ColumnFacts, ...] = ()


def read_model(address: Address, name: str | None, timeout_s: float = 10.0) -> ModelFacts:
    """Ask a server what it serves.

    Args:
        address: of the server.
        name: of the model; None takes the only one.
        timeout_s: for each of the questions.

    Raises:
        UnreachableError: nobody answers there, or nothing that looks like a model server.
        ModelError: no such model, several without a name given, or one that cannot be asked with a sequence alone.
    """
    server = _get(address, "/v2", timeout_s)
    chosen = _choose(address, timeout_s) if name is None else name
    found = _get(address, f"/v2/models/{quote(chosen, safe='')}", timeout_s, missing=chosen)
    extensions = server.get("extensions")
    try:
        return facts_from_metadata(found, extensions if isinstance(extensions, list) else [])
    except (KeyError, TypeError, ValueError, IndexError) as err:
        expected = "metadata with inputs, outputs, their datatypes and shapes"
        raise ModelError(f"model {chosen}", expected, f"{type(err).__name__} {err}", "is it a model server?") from err


def facts_from_metadata(metadata: Mapping[str, Any], extensions: Sequence[str]) -> ModelFacts:
    """Return the facts of a metadata object.

    Raises:
        ModelError: the model needs inputs that a benchmark cannot invent.
        KeyError, TypeError, ValueError, IndexError: the object is none of the protocol's.
    """
    properties = metadata.get("properties") or {}
    optional = json.loads(properties.get("optional_inputs", "[]"))
    name, inputs, outputs = metadata["name"], metadata["inputs"], metadata["outputs"]
    sequence = inputs[0]
    needed = [tensor["name"] for tensor in inputs[1:] if tensor["name"] not in optional]
    if needed:
        found = f"that it needs {', '.join(needed)} too"
        raise ModelError(f"model {name}", "one that is asked with its sequence alone", found, "serve it with cellgate")
    features, vocabulary_size = _values(name, sequence, properties)
    states = _states(inputs, outputs, json.loads(properties.get("outputs_on_request", "[]")))
    taken = {state.input for state in states}
    rest = [tensor["name"] for tensor in inputs[1:] if tensor["name"] not in taken and len(tensor["shape"]) == 1]
    return ModelFacts(
        name=str(name),
        sequence=str(sequence["name"]),
        features=features,
        vocabulary_size=vocabulary_size,
        lengths=rest[0] if rest else None,
        answer=str(outputs[0]["name"]),
        states=states,
        streamable=properties.get("streamable") == "true",
        extensions=frozenset(map(str, extensions)),
        least_steps=int(properties.get("least_steps", "1")),
        most_steps=int(properties["most_steps"]) if "most_steps" in properties else None,
        answer_steps=_answer_steps(properties.get("answer_steps")),
        columns=tuple(
            ColumnFacts(width=int(one["width"]), values=str(one["values"]), counts=tuple(map(int, one["counts"])))
            for one in json.loads(properties.get("columns", "[]"))
        ),
        per_step=frozenset(str(tensor["name"]) for tensor in outputs if list(tensor["shape"])[:2] == [-1, -1]),
    )


def _answer_steps(text: str | None) -> AnswerSteps:
    if text is None:
        return AnswerSteps()
    said = json.loads(text)
    found = AnswerSteps(add=int(said["add"]), divide=int(said["divide"]))
    if found.divide < 1:
        raise ValueError(text)
    return found


def _values(name: str, sequence: Mapping[str, Any], properties: Mapping[str, str]) -> tuple[int | None, int | None]:
    """Return I or the size of the vocabulary."""
    shape, datatype = [int(axis) for axis in sequence["shape"]], sequence["datatype"]
    if datatype == "FP32" and len(shape) == 3 and shape[2] > 0:  # noqa: PLR2004 - [B, T, I]
        return shape[2], None
    if datatype in ("INT64", "INT32") and len(shape) == 2 and "vocabulary_size" in properties:  # noqa: PLR2004 - [B, T]
        return None, int(properties["vocabulary_size"])
    expected = "a sequence FP32 [B, T, I], or INT64 [B, T] with a vocabulary_size"
    raise ModelError(f"model {name}", expected, f"{datatype} {shape}", "serve a recurrent network's bundle")


def _states(
    inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]], returned: Sequence[str]
) -> tuple[StateFacts, ...]:
    """Pair state inputs with the outputs that come on request: both stand in the order of the graph."""
    takers = [tensor for tensor in inputs[1:] if len(tensor["shape"]) > 1]
    givers = [tensor for tensor in outputs if tensor["name"] in returned]
    return tuple(
        StateFacts(
            input=str(taker["name"]),
            output=str(giver["name"]),
            datatype=str(taker["datatype"]),
            shape=tuple(int(axis) for axis in taker["shape"]),
        )
        for taker, giver in zip(takers, givers, strict=True)
    )


def _choose(address: Address, timeout_s: float) -> str:
    served = _get(address, "/v2/models", timeout_s).get("models")
    names = [str(name) for name in served] if isinstance(served, list) else []
    if len(names) != 1:
        found = ", ".join(names) or "no list of models"
        raise ModelError(address.url, "one model to choose from", found, "name one with --model NAME")
    return names[0]


def _get(address: Address, path: str, timeout_s: float, missing: str | None = None) -> dict[str, Any]:
    """GET a JSON object; `missing` is the model that a 404 means."""
    connection = open_later(address, timeout_s)
    try:
        connection.request("GET", address.prefix + path, headers={"Accept": "application/json", **address.key_headers})
        response = connection.getresponse()
        body = response.read(_MAX_BYTES)
        found = json.loads(body) if body else {}
    except (OSError, http.client.HTTPException, ValueError, RecursionError) as err:
        raise _unreachable(address, err) from err
    finally:
        connection.close()
    if missing is not None and response.status == http.client.NOT_FOUND:
        said = found.get("error", "") if isinstance(found, dict) else ""
        raise ModelError(f"model {missing}", "it to be served", f"404 ({said})", "see GET /v2/models")
    if response.status in _NO_RIGHT:
        raise KeyRefusedError(address.url, response.status, given=address.api_key is not None)
    if response.status != _OK or not isinstance(found, dict):
        raise UnreachableError(address.url, f"status {response.status} for GET {path}")
    return found


def _unreachable(address: Address, err: Exception) -> UnreachableError:
    refusal = distrust_in(err)
    if refusal is not None:
        return untrusted(address.url, refusal, "set CELLGATE_TLS_CERT to a file with it")
    if hung_up(address, err):
        return UnreachableError(address.url, _words(err), "if it speaks TLS, its address begins with https://")
    return UnreachableError(address.url, _words(err))


def _words(err: Exception) -> str:
    if isinstance(err, TimeoutError):
        return "no answer in time"
    if isinstance(err, OSError):
        return (err.strerror or str(err) or type(err).__name__).lower()
    return f"no HTTP with JSON ({type(err).__name__})"
