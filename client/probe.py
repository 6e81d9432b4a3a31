"""One sequence sent alone before a load, so that what would fail a thousand times is told once, in a sentence.

Rules of this file: blocking and simple; it reads answers with the load's own reader.
"""

import json
import socket
from typing import Final

from .address import Address
from .errors import AnswerError, RefusedError, UnreachableError
from .http_answer import Answer, AnswerReader
from .infer_request import some_stream
from .jobs import Job
from .samples import OK

BUSY: Final = 503
_SHOWN: Final = 300


def probe(address: Address, job: Job, remedy: str, timeout_s: float = 60.0) -> None:
    """Send every part of a sequence, one after another; a 503 ends the probe and is no failure.

    Args:
        address: of the server.
        job: the sequence.
        remedy: what to do where the server refuses it, for the message.
        timeout_s: for each answer.

    Raises:
        RefusedError: a status other than 200 and 503; repeats what the server said.
        UnreachableError: no answer, or none that can be understood.
    """
    stream, body = some_stream(), b""
    try:
        with _open(address, timeout_s) as connection:
            for part in job.parts:
                connection.sendall(part.request(stream, body))
                answer = _receive(connection)
                if answer.status == BUSY:
                    return
                if answer.status != OK:
                    raise RefusedError(f"{address.url}: a first request", answer.status, _said(answer.body), remedy)
                body = answer.body
    except OSError as err:
        raise UnreachableError(address.url, (err.strerror or str(err) or type(err).__name__).lower()) from err
    except (AnswerError, ValueError, KeyError, TypeError) as err:
        raise UnreachableError(address.url, f"an answer that cannot be used ({err})") from err


def _open(address: Address, timeout_s: float) -> socket.socket:
    connection = socket.create_connection((address.host, address.port), timeout_s)
    context = address.tls_context
    return connection if context is None else context.wrap_socket(connection, server_hostname=address.host)


def _receive(connection: socket.socket) -> Answer:
    reader = AnswerReader()
    while True:
        data = connection.recv(65_536)
        if not data:
            raise AnswerError("an answer", "the connection closed")
        answer = reader.feed(data)
        if answer is not None:
            return answer


def _said(body: bytes) -> str:
    """Return the server's own sentence, or the start of whatever it sent."""
    try:
        found = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError, RecursionError):
        found = body[:_SHOWN].decode("utf-8", "replace")
    return str(found)[:_SHOWN] or "without a word"
