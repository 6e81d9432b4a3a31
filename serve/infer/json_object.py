"""Objects of JSON whose fields are known, and bodies that are one small object.

Rules of this file: pure; it knows neither the protocol nor a model: which fields there may be says whoever asks.
"""

import json
import re
from collections.abc import Iterable
from typing import Any, Final

import orjson

from ..errors import BadInput, shown

_STRING: Final = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)


def parse_object(body: bytes, fields: tuple[str, ...]) -> dict[str, Any]:
    """Parse a small object that has exactly these fields.

    Raises:
        BadInput: no JSON, or another object, or a field stands there twice.
    """
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError as err:
        raise BadInput("body", "a JSON object", f"no JSON ({err})") from err
    found = object_of("body", parsed, fields, fields)
    check_duplicates(body, len(found))
    return found


def parse_optional_object(body: bytes) -> dict[str, Any]:
    """Parse a small object that may be left out.

    Raises:
        BadInput: something else.
    """
    try:
        found = orjson.loads(body) if body.strip() else {}
    except orjson.JSONDecodeError as err:
        raise BadInput("body", "nothing or a JSON object", f"no JSON: {err}") from err
    if not isinstance(found, dict):
        raise BadInput("body", "nothing or a JSON object", shown(found))
    return found


def object_of(place: str, value: Any, known: tuple[str, ...], required: tuple[str, ...]) -> dict[str, Any]:
    """Return an object that has the required fields, and none that are not known.

    Raises:
        BadInput: something else.
    """
    if not isinstance(value, dict):
        raise BadInput(place, "an object", shown(value))
    for name in value.keys() - set(known):
        raise BadInput(place, f"only the fields {', '.join(known)}", shown(name))
    for name in required:
        if name not in value:
            raise BadInput(place, f"the field {name}", f"only {', '.join(value) or 'none'}")
    return value


def check_duplicates(body: bytes, members: int) -> None:
    """Refuse a field given twice, at the cost of one scan.

    Outside strings, a colon stands for exactly one member of an object; the parser, which keeps the last of equal
    fields, must have kept as many as there are colons. Only where the counts differ is the slow parser asked which.

    Args:
        body: JSON, as the parser took it.
        members: of all its objects together, as the parser kept them.

    Raises:
        BadInput: there is one, or objects are nested too deep to tell.
    """
    colons = body.count(b":") - sum(match[0].count(b":") for match in _STRING.finditer(body))
    if colons == members:
        return
    try:
        json.loads(body, object_pairs_hook=_refuse_duplicates)
    except RecursionError as err:
        raise BadInput("body", "no object nested that deep", "more levels than can be read") from err


def _refuse_duplicates(pairs: Iterable[tuple[str, Any]]) -> None:
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            raise BadInput("body", "every field of an object once", f"{shown(name)} twice")
        seen.add(name)
