"""What can go wrong while asking a server: one class a situation, each with one sentence.

Rules of this file: a class builds the message from facts and names the thing, expected, found and the remedy.
"""

from collections.abc import Mapping
from typing import Any


class ClientError(Exception):
    """Anything this folder gives up at. Raised only as one of its subclasses."""


class LengthsError(ClientError, ValueError):
    """A description of lengths that is none, or a file that holds none."""

    def __init__(self, text: str, expected: str, found: str) -> None:
        super().__init__(f"lengths {text!r}: expected {expected}, found {found}")


class AddressError(ClientError, ValueError):
    """An address that no server can have."""

    def __init__(self, url: str, found: str) -> None:
        super().__init__(f"{url}: expected http://HOST:PORT or https://HOST:PORT, found {found}")


class UnreachableError(ClientError):
    """Nobody answers at the address, or somebody who is not believed, or speaks no HTTP as a model server does."""

    def __init__(
        self, url: str, found: str, remedy: str = "start one with cellgate serve BUNDLE, or check the address"
    ) -> None:
        super().__init__(f"{url}: expected a model server there, found {found}; {remedy}")


class ServerGoneError(ClientError):
    """The server answered and then went away."""

    def __init__(self, url: str, answers: int, silent_s: float) -> None:
        super().__init__(
            f"{url}: expected the server to stay, found that it took no connection for {silent_s:.1f} s "
            f"after {answers} answers; look at its log"
        )


class RefusedError(ClientError):
    """The server answered a request that should be fine with an error."""

    def __init__(self, what: str, status: int, said: str, remedy: str) -> None:
        super().__init__(f"{what}: expected it answered with 200, found {status} ({said}); {remedy}")


class KeyRefusedError(ClientError):
    """The server asks for a key, and none was given, or another one."""

    def __init__(self, url: str, status: int, *, given: bool) -> None:
        found = "another one" if given else "none"
        super().__init__(f"{url}: expected a key that it knows ({status}), found {found}; set CELLGATE_API_KEY")


class ModelError(ClientError):
    """The server has no such model, or one that cannot be asked with a sequence alone."""

    def __init__(self, what: str, expected: str, found: str, remedy: str) -> None:
        super().__init__(f"{what}: expected {expected}, found {found}; {remedy}")


class AnswerError(ClientError):
    """The bytes of an answer are no HTTP/1.1 with a Content-Length."""

    def __init__(self, expected: str, found: str) -> None:
        super().__init__(f"answer: expected {expected}, found {found}")


class InputError(ClientError, ValueError):
    """What the caller gave is not what the model takes. Nothing was sent."""

    def __init__(self, what: str, expected: str, found: str, remedy: str = "") -> None:
        end = f"; {remedy}" if remedy else ""
        super().__init__(f"{what}: expected {expected}, found {found}{end}")


class InferenceError(ClientError):
    """The server answered with an error, in its own words.

    Attributes:
        status: of HTTP.
        code: the server's word for the situation, such as bad_input or step_gap; empty where it gave none.
        facts: what else the error object holds, such as expected_step.
    """

    def __init__(self, status: int, code: str, said: str, facts: Mapping[str, Any]) -> None:
        super().__init__(f"{said} (status {status})")
        self.status = status
        self.code = code
        self.facts = facts


class GaveUpError(ClientError):
    """No answer after every attempt that may be made. The same call may be made again where `may_repeat` says so.

    Attributes:
        attempts: how many were made.
        may_repeat: false for a chunk of a stream that has no step: it counts each time it comes, and may have come.
    """

    def __init__(self, url: str, attempts: int, last: str, *, may_repeat: bool = True) -> None:
        remedy = "nothing was applied twice: call again when the server is back"
        if not may_repeat:
            remedy = "it is not known whether the chunk counted, for it has no sequence_step: send chunks by stream()"
        how_often = f"{attempts} attempt{'' if attempts == 1 else 's'}"
        super().__init__(f"{url}: expected an answer, found none in {how_often}, the last time {last}; {remedy}")
        self.attempts = attempts
        self.may_repeat = may_repeat
