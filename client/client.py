"""The plain client: `Client`, its models and their streams.

Rules of this file: it waits and decides nothing: what to send is `asking`'s, when to send again is `retry`'s, and where
a stream is, `stream_position`'s. `async_client` has the same classes with the same methods.
"""

import secrets
import time
from collections.abc import Generator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import httpx

from .address import parse_address
from .asking import (
    Question,
    check_streamable,
    facts_of,
    key_headers,
    metadata_call,
    names_of,
    no_reply,
    object_of,
    read_call,
)
from .infer_message import Call, Prediction, Reply
from .model_facts import ModelFacts
from .retry import NoReply, RetryPolicy, Step, Told, converse
from .stream_position import StreamPosition


class Client:
    """Asks one server. May be used by several threads; close it, or use it in a `with`.

    Args:
        url: http://HOST:PORT or https://HOST:PORT, with an optional path before /v2.
        api_key: sent as a bearer token; None sends none.
        timeout_s: for each attempt to be answered; a client that is given has its own.
        retry: how often an attempt is repeated.
        http: a client of httpx to use in the place of one's own, for certificates or proxies; closed with this one.

    Raises:
        AddressError: the address cannot be one.
        InputError: the key cannot.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        timeout_s: float = 30.0,
        retry: RetryPolicy | None = None,
        http: httpx.Client | None = None,
    ) -> None:
        self.url = parse_address(url).url
        self._headers = key_headers(api_key)
        self._retry = retry or RetryPolicy()
        self._http = http or httpx.Client(timeout=timeout_s)

    def __repr__(self) -> str:
        return f"Client({self.url!r})"  # and never the key

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections. Closing twice is fine."""
        self._http.close()

    def is_ready(self) -> bool:
        """Whether the server takes requests at this moment; false where nobody answers.

        Raises:
            UnreachableError: its certificate is not trusted.
        """
        told = self._send(read_call("/v2/health/ready"))
        return isinstance(told, Reply) and told.status == httpx.codes.OK

    def models(self) -> list[str]:
        """Return the names of the served models.

        Raises:
            ClientError: the server does not answer, or refuses.
        """
        return names_of(self.ask(read_call("/v2/models")))

    def model(self, name: str) -> "Model":
        """Return a model, its metadata read.

        Raises:
            ClientError: the server does not answer, or has no such model, or one that a sequence alone cannot ask.
        """
        server = object_of(self.ask(read_call("/v2")))
        return Model(self, facts_of(server, object_of(self.ask(metadata_call(name)))))

    def ask(self, call: Call) -> Reply:
        """Send a request until it is answered, or may not be repeated.

        Raises:
            GaveUpError: it never was.
            UnreachableError: the server's certificate is not trusted.
        """
        return self._drive(converse(call, self.url, self._retry))

    def _drive(self, talk: Generator[Step, Told, Reply]) -> Reply:
        step = next(talk)
        while True:
            told = None
            if isinstance(step, Call):
                told = self._send(step)
            else:
                time.sleep(step)
            try:
                step = talk.send(told)
            except StopIteration as end:
                reply: Reply = end.value
                return reply

    def _send(self, call: Call) -> Reply | NoReply:
        try:
            found = self._http.request(
                call.method, self.url + call.path, headers={**self._headers, **call.headers}, content=call.content
            )
        except httpx.RequestError as err:
            return no_reply(self.url, err)
        return Reply(status=found.status_code, headers=found.headers, content=found.content)


class Model:
    """A served model.

    Attributes:
        facts: what it takes to ask it.
    """

    def __init__(self, client: Client, facts: ModelFacts) -> None:
        self._client = client
        self.facts = facts

    def __repr__(self) -> str:
        return f"<Model {self.facts.name!r} of {self._client.url}>"

    def infer(
        self,
        sequence: Any,
        *,
        lengths: Any = None,
        states: Mapping[str, Any] | None = None,
        outputs: Sequence[str] = (),
        parameters: Mapping[str, str | int | bool] | None = None,
    ) -> Prediction:
        """Ask for sequences.

        Args:
            sequence: float [B, T, I] or tokens [B, T], NumPy or torch; or a list of rows of unequal length.
            lengths: [B] real steps of each row; None: all T, or those of the list.
            states: [L*D, B, H] by input name; zeros where left out.
            outputs: names; none for all but the states.
            parameters: of the request, such as {"priority": 1}. With a sequence_id and no sequence_step it is sent
                again only where it cannot have counted: for streams there is `stream`.

        Returns:
            The outputs, as torch tensors where the sequence was one, else NumPy.

        Raises:
            InputError: the values are not what the model takes; nothing was sent.
            InferenceError: the server refused.
            GaveUpError: no answer came.
        """
        question = Question(self.facts, sequence, lengths, states, outputs, parameters)
        return question.prediction(self._client.ask(question.call))

    def stream(self, stream: int | str | None = None, *, step: int = 0) -> "Stream":
        """Return a stream: the server keeps its state, and applies each chunk once.

        Args:
            stream: its id; None makes one that nobody else has.
            step: 0 begins; to go on with a stream that another process began, the step after its last answer.

        Raises:
            InputError: no such id or step.
            ModelError: the server does not say that the model can be streamed.
        """
        check_streamable(self.facts)
        return Stream(
            self._client, self.facts, StreamPosition(secrets.token_hex(16) if stream is None else stream, step)
        )


class Stream:
    """A sequence that is sent in chunks. Not for several threads at once."""

    def __init__(self, client: Client, facts: ModelFacts, position: StreamPosition) -> None:
        self._client = client
        self._facts = facts
        self._position = position

    def __repr__(self) -> str:
        return f"<Stream {self.id!r} of model {self._facts.name!r}, next step {self.step}>"

    @property
    def id(self) -> int | str:
        """Its id, under which another process may go on."""
        return self._position.id

    @property
    def step(self) -> int:
        """The step that comes next: as many chunks have been answered."""
        return self._position.step

    def send(
        self, chunk: Any, *, end: bool = False, states: Mapping[str, Any] | None = None, outputs: Sequence[str] = ()
    ) -> Prediction:
        """Send the next chunk and return its outputs.

        Whatever is raised, the stream stands where it stood: send the same chunk again. It is applied once, even where
        the server had applied it and only the answer was lost; the answer then says `replayed`.

        Args:
            chunk: as for `Model.infer`; any number of steps from 1, the rows of the stream.
            end: this is the last one.
            states: to begin with, in the first chunk only.
            outputs: names; none for all but the states.

        Raises:
            InputError: the values are not what the model takes, or the stream has ended; nothing was sent.
            InferenceError: the server refused.
            GaveUpError: no answer came.
        """
        parameters = self._position.parameters(end=end)
        question = Question(self._facts, chunk, None, states, outputs, parameters)
        found = question.prediction(self._client.ask(question.call))
        self._position.advance(end=end)
        return found
