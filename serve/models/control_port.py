"""How the control listeners reach whoever holds the models, wherever that is.

Rules of this file: an interface.
"""

from typing import Any, Literal, Protocol

# give_up has no name, and no client can ask for it: what is asked to be loaded is not tried to its end.
ControlAction = Literal["load", "unload", "give_up"]


class ControlPort(Protocol):
    """Passes orders on."""

    async def control(self, action: ControlAction, name: str, version: str | None = None) -> Any:
        """Load or unload a model, or give up what is tried; return what came of it, as plain JSON values.

        Raises:
            ServeError: it was refused, or there is no engine at the moment.
        """
        ...
