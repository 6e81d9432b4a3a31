"""What a request to load or unload says: which version, and nothing that could name a file.

Rules of this file: pure. Triton's other parameters of a load, a configuration and the very files of a model, are
refused by name: whoever may change what is served may not thereby write to this machine.
Source: the model repository extension of the protocol, as Triton documents it.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from ..errors import BadInput, shown
from ..infer.json_object import parse_optional_object

_VERSION: Final = re.compile("[1-9][0-9]{0,17}")


def parse_control(body: bytes) -> str | None:
    """Return the version that is asked for, or None.

    Args:
        body: of the request; empty, or a JSON object that may hold `parameters`.

    Raises:
        BadInput: something else.
    """
    found = parse_optional_object(body)
    if unknown := found.keys() - {"parameters"}:
        raise BadInput("body", "no field but parameters", shown(min(unknown)))
    parameters = {} if found.get("parameters") is None else found["parameters"]
    if not isinstance(parameters, dict):
        raise BadInput("parameters", "a JSON object", shown(parameters))
    return version_of(parameters)


def version_of(parameters: Mapping[str, Any]) -> str | None:
    """Return the version among parameters, however they came.

    Raises:
        BadInput: it is none, or there are other parameters.
    """
    remedy = "bundles are loaded as they lie in the repository"
    for name in parameters.keys() - {"version", "unload_dependents"}:
        raise BadInput("parameters", "none but version", shown(name), remedy)
    version = parameters.get("version")
    if version is None:
        return None
    if isinstance(version, bool) or not isinstance(version, int | str) or not _VERSION.fullmatch(str(version)):
        raise BadInput("parameters.version", "a whole number from 1 on", shown(version))
    return str(version)
