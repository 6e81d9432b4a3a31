"""Which models there are and whether they can be asked, as the protocol's repository extension lists them.

Rules of this file: pure. Loading and unloading are not here, and not on this listener (`control_routes`): who may ask
for an answer may not thereby change what is served.
"""

from collections.abc import Sequence
from typing import Final

from ..errors import BadInput, shown
from ..infer.json_object import parse_optional_object
from .served_model import ServedModel

_RETIRED: Final = "replaced or unloaded; it stays while streams go on in it"


def repository_index(
    models: Sequence[ServedModel], retired: Sequence[ServedModel] = (), *, is_ready: bool, only_ready: bool = False
) -> list[dict[str, str]]:
    """Return the list.

    Args:
        models: served.
        retired: replaced or unloaded versions, which go when their streams have ended.
        is_ready: whether requests are taken; true of all models or of none, for they share an engine.
        only_ready: leave out those that are not.
    """
    if only_ready and not is_ready:
        return []
    state = "READY" if is_ready else "UNAVAILABLE"
    reason = "" if is_ready else "the server is starting or stopping"
    found = [_entry(model, state, reason) for model in models]
    return found if only_ready else [*found, *(_entry(model, "UNLOADING", _RETIRED) for model in retired)]


def _entry(model: ServedModel, state: str, reason: str) -> dict[str, str]:
    return {"name": model.name, "version": model.version, "state": state, "reason": reason}


def parse_index_request(body: bytes) -> bool:
    """Return whether only the ready ones are asked for.

    Args:
        body: of the request; empty, or a JSON object that may hold `ready`.

    Raises:
        BadInput: something else.
    """
    found = parse_optional_object(body)
    ready = found.get("ready", False)
    if not isinstance(ready, bool):
        raise BadInput("ready", "true or false", shown(ready))
    return ready
