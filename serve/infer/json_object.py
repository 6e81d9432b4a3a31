"""Objects of JSON whose fields are known, and bodies that are one small object.

Rules of this file: pure; it knows neither the protocol nor a model: which fields there may be says whoever asks.
"""

from typing import Any

import orjson

from ..errors import BadInput, shown


def parse_object(body: bytes, fields: tuple[str, ...]) -> dict[str, Any]:
    """Parse a small object that has exactly these fields.

    Raises:
        BadInput: no JSON, or another object.
    """
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError as err:
        raise BadInput("body", "a JSON object", f"no JSON ({err})") from err
    return object_of("body", parsed, fields, fields)


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
