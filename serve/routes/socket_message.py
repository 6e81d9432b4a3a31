"""Messages of a live connection: an inference request or answer in one piece.

    text      JSON, as the body of a request over HTTP without binary tensors
    binary    u32 length of the JSON, little-endian, then the JSON, then the tensors in its order

Rules of this file: pure. HTTP carries the JSON's length in a header; a message has none, hence the four bytes.
"""

from struct import Struct
from typing import Final

from ..error_answer import answer_error, answer_fault
from ..errors import BadInput, ServeError
from ..infer.infer_answer import InferAnswer

Message = str | bytes

_LENGTH: Final = Struct("<I")


def split_message(message: Message) -> tuple[bytes, int | None]:
    """Return the body of a request and the length of its JSON head, None where all of it is JSON.

    Raises:
        BadInput: a binary message that is shorter than its length says.
    """
    if isinstance(message, str):
        return message.encode("utf-8", "surrogatepass"), None
    body = message[_LENGTH.size :]
    head_bytes = int.from_bytes(message[: _LENGTH.size], "little")
    if len(message) < _LENGTH.size or head_bytes > len(body):
        expected = "4 bytes with the length of the JSON, then at least as many"
        raise BadInput("message", expected, f"{len(message)} bytes in all")
    return body, head_bytes


def answer_message(answer: InferAnswer) -> Message:
    """Return an answer as a message: text where all of it is JSON."""
    if answer.head_bytes is None:
        return answer.join().decode()
    return _LENGTH.pack(answer.head_bytes) + answer.join()


def size_of(message: Message) -> int:
    """Return the bytes of a message."""
    return len(message if isinstance(message, bytes) else message.encode())


def error_message(error: Exception, request_id: str | None = None) -> str:
    """Return the error object that HTTP would answer with; a fault of ours is logged, under the request's id."""
    response = answer_error(error, request_id) if isinstance(error, ServeError) else answer_fault(error, request_id)
    return bytes(response.body).decode()
