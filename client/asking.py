"""What a client does to ask a model, apart from waiting: make the calls, read the replies.

Rules of this file: pure; `client` and `async_client` drive it. Each has the same methods, and neither decides anything.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import httpx

from .arrays import like, to_array, to_rows
from .certificate import distrust_in, untrusted
from .errors import InputError, ModelError
from .infer_message import Call, Prediction, Reply, check_status, model_path, pack_infer, unpack_infer
from .model_facts import ModelFacts, facts_from_metadata
from .retry import NoReply

_UNSENT: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)  # raised before there is a connection
_TRUST: Final = "set SSL_CERT_FILE to a file with it, or give http=httpx.Client(verify=CONTEXT)"


def key_headers(api_key: str | None) -> dict[str, str]:
    """Return the header that carries a key, where there is one.

    Raises:
        InputError: it could not stand in a header; the message does not hold it.
    """
    if api_key is None:
        return {}
    if not (api_key and api_key.isascii() and api_key.isprintable() and " " not in api_key):
        remedy = "a line that was read from a file has its end still: strip it"
        raise InputError("api_key", "visible ASCII characters", "none, or others", remedy)
    return {"Authorization": f"Bearer {api_key}"}


def no_reply(url: str, err: Exception) -> NoReply:
    """Return why a request was not answered.

    Args:
        url: of the server.
        err: as the transport raised it.

    Raises:
        UnreachableError: for a reason that no waiting ends: the server's certificate is not trusted.
    """
    refusal = distrust_in(err)
    if refusal is not None:
        raise untrusted(url, refusal, _TRUST) from err
    return NoReply(f"{type(err).__name__} {err}".strip(), was_sent=not isinstance(err, _UNSENT))


def read_call(path: str) -> Call:
    """Return the call that reads a JSON object."""
    return Call(method="GET", path=path, headers={})


def metadata_call(model: str) -> Call:
    """Return the call that reads a model's metadata."""
    return read_call(model_path(model))


def object_of(reply: Reply) -> dict[str, Any]:
    """Return the JSON object of an answer.

    Raises:
        InferenceError: the server refused.
        ModelError: the answer is no JSON object.
    """
    check_status(reply)
    try:
        found = json.loads(reply.content)
    except ValueError as err:
        raise ModelError("answer", "a JSON object", str(err), "is it a model server?") from err
    if not isinstance(found, dict):
        raise ModelError("answer", "a JSON object", type(found).__name__, "is it a model server?")
    return found


def names_of(reply: Reply) -> list[str]:
    """Return the names of the served models.

    Raises:
        InferenceError: the server refused.
        ModelError: the answer is no list of models.
    """
    found = object_of(reply).get("models")
    if not isinstance(found, list):
        raise ModelError("answer", "a list of models", type(found).__name__, "is it a model server?")
    return [str(name) for name in found]


def facts_of(server: Mapping[str, Any], metadata: Mapping[str, Any]) -> ModelFacts:
    """Return what it takes to ask a model.

    Raises:
        ModelError: the metadata is none of the protocol's, or of a model that a sequence alone cannot ask.
    """
    try:
        return facts_from_metadata(metadata, server.get("extensions") or [])
    except (KeyError, TypeError, ValueError, IndexError) as err:
        expected = "metadata with inputs, outputs, their datatypes and shapes"
        raise ModelError("model", expected, f"{type(err).__name__} {err}", "is it a model server?") from err


def check_streamable(facts: ModelFacts) -> None:
    """Pass a model whose streams the server says that it keeps.

    Raises:
        ModelError: it does not: a server of another kind would apply a chunk once more each time it is sent again.
    """
    if not facts.streamable:
        expected, found = "a network that can be streamed", "that its metadata does not say so (streamable)"
        raise ModelError(f"model {facts.name}", expected, found, "send whole sequences")


class Question:
    """One inference, from what the caller gave to what the caller gets.

    Args:
        facts: of the model.
        sequence: see `arrays.to_rows`.
        lengths: likewise.
        states: by the name of the input that takes them, such as h0; zeros where left out.
        outputs: names; none for all but the states.
        parameters: of the request.

    Raises:
        InputError: the values are not what the model takes.
    """

    def __init__(
        self,
        facts: ModelFacts,
        sequence: Any,
        lengths: Any = None,
        states: Mapping[str, Any] | None = None,
        outputs: Sequence[str] = (),
        parameters: Mapping[str, Any] | None = None,
    ) -> None:
        rows = to_rows(sequence, lengths, facts)
        tensors = {facts.sequence: rows.values}
        if rows.lengths is not None:
            tensors[facts.lengths or "lengths"] = rows.lengths
        known = {state.input: state for state in facts.states}
        for name, given in (states or {}).items():
            if name not in known:
                raise InputError("states", f"only {', '.join(known) or 'none'}", repr(name))
            dtype = "<f2" if known[name].datatype == "FP16" else "<f4"
            tensors[name] = to_array(name, given).astype(dtype, order="C")
        self._example, self._lengths, self._facts = sequence, rows.lengths, facts
        self.call = pack_infer(facts.name, tensors, outputs, parameters or {})

    def prediction(self, reply: Reply) -> Prediction:
        """Return the outputs, in the caller's own kind of array.

        Raises:
            InferenceError: the server refused.
            AnswerError: the answer is none of the protocol's.
        """
        found = unpack_infer(reply)
        outputs = {name: like(self._example, array) for name, array in found.outputs.items()}
        more = (found.parameters, found.model_version, self._facts.per_step, self._facts.answer_steps)
        return Prediction(outputs, self._lengths, *more)
