"""How the control listeners reach whoever holds the models, wherever that is.

Rules of this file: an interface.
"""

from typing import Any, Literal, Protocol

ControlAction = Literal["load", "unload"]


class ControlPort(Protocol):
    """Passes orders on."""

    async def control(self, action: ControlAction, name: str, version: str | None = None) -> Any:
        """Load or unload a model; return what came of it, as plain JSON values.

        Raises:
            ServeError: it was refused, or there is no engine at the moment.
        """
        ...
