"""What the loop and the connections of an engine need of whoever holds its models.

Rules of this file: an interface; `model_desk` implements it.
"""

from collections.abc import Callable
from typing import Any, Protocol

from ..models.control_port import ControlAction
from .tensor_frames import ModelCodec

OnControl = Callable[[Any], None]  # told of what came of it, plain JSON values or the ServeError


class Desk(Protocol):
    """The models of an engine that serves.

    Attributes:
        codecs: of the models by number; changed in place.
        next_look_s: moment of the monotonic clock at which `look` is to be called at the latest, or None.
    """

    codecs: dict[int, ModelCodec]
    next_look_s: float | None

    def hello(self) -> bytes:
        """Return the frame that says what is served."""
        ...

    def control(self, action: ControlAction, name: str, version: str | None, on_done: OnControl) -> None:
        """Load or unload a model, or give up what is not opened yet.

        Args:
            action: what to do.
            name: of the model.
            version: of it, or None.
            on_done: called once, in this call or in a later `look` or `close`.
        """
        ...

    def look(self, taken: float) -> bool:
        """Go on with whatever can go on.

        Args:
            taken: the oldest generation that a frontend may still go by; infinite where there is none.

        Returns:
            Whether the hello has changed.
        """
        ...

    def close(self) -> None:
        """Tell whoever waits that the engine ends."""
        ...
