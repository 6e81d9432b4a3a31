"""JSON from a file that nobody vouches for: bounded, without duplicate keys, finite, and encodable.

Rules of this file: it knows JSON and nothing of bundles; what it lets through can be written again as UTF-8 JSON.
"""

import json
import math
import re
from typing import Any, Never

MAX_DEPTH = 32  # a manifest needs 5; the rest is room for the description of the network

# Strings swallow the brackets in them. Possessive and with an optional end, so that no input takes quadratic time.
_STRING_OR_BRACKET = re.compile(rb'"(?:[^"\\]|\\.)*+"?|[\[{]|[\]}]', re.DOTALL)


class StrictJsonError(ValueError):
    """The bytes are not JSON as this project accepts it; the message says what was expected and found."""


def parse_json(data: bytes, *, max_bytes: int) -> Any:
    """Parse UTF-8 JSON, refusing what Python's parser would let through.

    Args:
        data: the whole file.
        max_bytes: longest input looked at.

    Raises:
        StrictJsonError: too long, nested deeper than MAX_DEPTH, no UTF-8, no JSON, a key twice in one object, a
            number that is not finite, or a string with half of a surrogate pair.
    """
    if len(data) > max_bytes:
        raise StrictJsonError(f"expected at most {max_bytes} bytes, found {len(data)}")
    _check_depth(data)
    try:
        value = json.loads(
            data.decode(), object_pairs_hook=_object, parse_constant=_refuse_constant, parse_float=_finite_float
        )
        json.dumps(value, ensure_ascii=False).encode()  # "\ud800" parses, and then nothing can print or store it
    except StrictJsonError:
        raise
    except ValueError as err:  # JSONDecodeError, UnicodeError, and integers of too many digits
        raise StrictJsonError(f"expected UTF-8 JSON, found: {err}") from err
    return value


def dump_json(value: Any) -> bytes:
    """Render sorted, indented UTF-8 JSON with a trailing newline: equal values give equal bytes.

    Raises:
        StrictJsonError: value is not plain JSON (a number that is not finite, a foreign type, a key that is no text).
    """
    try:
        text = json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
        return text.encode() + b"\n"
    except (TypeError, ValueError, RecursionError) as err:
        raise StrictJsonError(f"expected a value that JSON can say, found: {err}") from err


def _check_depth(data: bytes) -> None:
    depth = 0
    for match in _STRING_OR_BRACKET.finditer(data):
        token = match[0]
        if token in (b"[", b"{"):
            depth += 1
            if depth > MAX_DEPTH:
                raise StrictJsonError(f"expected at most {MAX_DEPTH} levels of nesting, found more")
        elif token in (b"]", b"}"):
            depth -= 1


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise StrictJsonError(f"expected every key once in an object, found {key[:80]!r} twice")
        found[key] = value
    return found


def _refuse_constant(text: str) -> Never:
    raise StrictJsonError(f"expected finite numbers, found {text}")


def _finite_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise StrictJsonError(f"expected finite numbers, found {text[:80]}")
    return value
