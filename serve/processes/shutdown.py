"""How a server stops: no new connections; the frontends, which answer what they have accepted; then the engine.

Rules of this file: as those of `slot`. Whoever is late is killed, so a stop always comes to its end.
"""

import logging
import socket
from collections.abc import Sequence
from typing import Final

from .slots import Slots

logger = logging.getLogger("cellgate.supervisor")

EXIT_S: Final = 5.0  # for a process to end when it has nothing left to do but, perhaps, to finish opening a bundle


class Shutdown:
    """The stop of one server, not begun yet.

    Args:
        slots: its places, which are not filled again once it has begun.
        listeners: closed when it begins, so that nobody waits in their queues for ever.
        grace_s: for the frontends to answer what they have accepted.

    Attributes:
        is_begun: whether it has begun.
        kill_at_s: when whoever is left is killed, or None.
    """

    def __init__(self, slots: Slots, listeners: Sequence[socket.socket], grace_s: float) -> None:
        self._slots = slots
        self._listeners = listeners
        self._grace_s = grace_s
        self._is_engine_told = False
        self.is_begun = False
        self.kill_at_s: float | None = None

    def begin(self, now: float) -> None:
        """Take no more connections and have the frontends end. To be called once."""
        self.is_begun = True
        logger.info("stopping")
        self.kill_at_s = now + self._grace_s + EXIT_S
        self.close_listeners()
        for slot, child in self._slots.living():
            if slot is not self._slots.engine:
                child.terminate()

    def act(self, now: float) -> None:
        """Do what is due after the beginning."""
        engine = self._slots.engine.child
        if self.kill_at_s is not None and self.kill_at_s <= now:
            self.kill_all()
        elif engine is not None and not self._is_engine_told and len(self._slots.living()) == 1:
            self._is_engine_told = True
            engine.terminate()
            self.kill_at_s = now + EXIT_S  # nobody is there any more to wait for an answer

    def kill_all(self) -> None:
        """End every child that is left, now."""
        self.kill_at_s = None
        for slot, child in self._slots.living():
            slot.complain("it has not ended in time and is killed")
            child.kill()

    def close_listeners(self) -> None:
        """Take no more connections. Closing twice is fine."""
        for listener in self._listeners:
            listener.close()
