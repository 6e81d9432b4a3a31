"""Which versions of which models an engine holds: one of each name is current, others have been replaced.

    current    what a request without a version means; takes new streams
    retired    replaced or unloaded; streams that began in it go on, and requests that name its version are answered
    leaving    withdrawn: the frontends are told, and when nothing is on its way through it, it is closed

A retired version is withdrawn when it was not used for a while. That while is the time after which an idle stream
expires, so that no stream that lives can be in it any more.

Rules of this file: pure; moments are handed in. A number is given once.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from ..engine.models import EngineModel
from .hello import Offer, make_hello


@dataclass(slots=True, eq=False)
class Entry:
    """A version of a model in the engine.

    Attributes:
        model: open.
        number: in the frames.
        plan: how it is run, in words.
        is_current: what a request without a version means.
        uses: of it, when it was looked at last.
        until_s: when to look again whether it is still used; None while it is current.
        left_at: generation of the hello that does not offer it any more; None while it is offered.
    """

    model: EngineModel
    number: int
    plan: str
    is_current: bool = True
    uses: int = 0
    until_s: float | None = None
    left_at: int | None = None

    @property
    def key(self) -> str:
        """See `ServedModel.key`."""
        return self.model.served.key

    @property
    def name(self) -> str:
        """Of the model."""
        return self.model.served.name

    @property
    def version(self) -> str:
        """Of the model."""
        return self.model.served.version


class Roster:
    """The versions that an engine holds.

    Args:
        streams: where streams are kept, in words, for the hello.
        names: of all models that were ever served, in their order.

    Attributes:
        generation: grows with every change that frontends must know.
        names: as given, and what came since.
    """

    def __init__(self, streams: str = "", names: Iterable[str] = ()) -> None:
        self.generation = 0
        self.names = list(names)
        self._streams = streams
        self._entries: list[Entry] = []
        self._next_number = 0

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries)

    def find(self, name: str, version: str) -> Entry | None:
        """Return a version that is offered."""
        found = (entry for entry in self._offered() if (entry.name, entry.version) == (name, version))
        return next(found, None)

    def current(self, name: str) -> Entry | None:
        """Return the current version of a name."""
        return next((entry for entry in self._entries if entry.is_current and entry.name == name), None)

    def versions(self, name: str) -> dict[str, str]:
        """Return the digest of each version of a name that is still open."""
        return {entry.version: entry.model.served.digest for entry in self._entries if entry.name == name}

    def add(self, model: EngineModel, plan: str, *, is_current: bool = True) -> Entry:
        """Take a model that was opened."""
        entry = Entry(model, self._next_number, plan, is_current)
        self._next_number += 1
        self._entries.append(entry)
        if entry.name not in self.names:
            self.names.append(entry.name)
        return entry

    def make_current(self, entry: Entry, uses: int, until_s: float) -> None:
        """Let a name mean this version; the one before is retired.

        Args:
            entry: of the roster.
            uses: of the one before, so far.
            until_s: when to look at it.
        """
        before = self.current(entry.name)
        if before is entry:
            return
        if before is not None:
            self.retire(before, uses, until_s)
        entry.is_current, entry.until_s = True, None

    def retire(self, entry: Entry, uses: int, until_s: float) -> None:
        """Let no name mean this version any more; for the arguments see `make_current`."""
        entry.is_current, entry.uses, entry.until_s = False, uses, until_s

    def look(self, entry: Entry, uses: int, now: float, linger_s: float) -> bool:
        """Look at a retired version whose moment has come: withdraw it if it was not used since the last look.

        Returns:
            Whether it was withdrawn.
        """
        if uses != entry.uses:
            entry.uses, entry.until_s = uses, now + linger_s
            return False
        entry.left_at, entry.until_s = self.generation + 1, None
        return True

    def due(self, now: float) -> list[Entry]:
        """Return the retired versions that are to be looked at."""
        return [entry for entry in self._entries if entry.until_s is not None and entry.until_s <= now]

    def gone(self, taken: float) -> list[Entry]:
        """Return the withdrawn versions for which no work can come any more.

        Args:
            taken: the oldest generation that a frontend may still go by.
        """
        return [entry for entry in self._entries if entry.left_at is not None and entry.left_at <= taken]

    def remove(self, entry: Entry) -> None:
        """Forget a version that was closed."""
        self._entries.remove(entry)

    @property
    def next_look_s(self) -> float | None:
        """When the next retired version is to be looked at."""
        return min((entry.until_s for entry in self._entries if entry.until_s is not None), default=None)

    @property
    def is_leaving(self) -> bool:
        """Whether a version waits to be closed."""
        return any(entry.left_at is not None for entry in self._entries)

    def hello(self) -> dict[str, Any]:
        """Return the hello of this generation."""
        offers = [
            Offer(
                served=entry.model.served,
                number=entry.number,
                plan=entry.plan,
                path=entry.model.path,
                is_current=entry.is_current,
            )
            for entry in self._offered()
        ]
        return make_hello(offers, self._streams, self.generation, self.names)

    def _offered(self) -> list[Entry]:
        return [entry for entry in self._entries if entry.left_at is None]
