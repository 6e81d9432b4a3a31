"""The streams of every version that is served: a stream goes on in the version that it began with.

Rules of this file: pure. A version is found by its key, by the name that it is current for, or by its bundle.
"""

from collections import Counter
from collections.abc import Iterable, Iterator

from ..models.model_table import unknown_model
from ..models.served_model import ServedModel
from .record import StreamRecord
from .served_streams import ServedStreams


class Versions:
    """Streams of the served models.

    Args:
        models: the first of each name is current.
    """

    def __init__(self, models: Iterable[ServedModel] = ()) -> None:
        self._served: dict[str, ServedModel] = {}
        self._streams: dict[str, ServedStreams] = {}  # by key, and the current ones by name
        self._brought: Counter[str] = Counter()
        for model in models:
            self.add(model)

    def __iter__(self) -> Iterator[ServedStreams]:
        return (self._streams[key] for key in self._served)

    def add(self, model: ServedModel) -> None:
        """Take a version; see `Engine.add`."""
        streams = ServedStreams.of(model)
        self._served[model.key] = model
        self._streams[model.key] = streams
        self._streams.setdefault(model.name, streams)

    def prefer(self, name: str, key: str | None) -> None:
        """Let a name mean this version; see `Engine.prefer`."""
        if key is None:
            self._streams.pop(name, None)
        else:
            self._streams[name] = self._streams[key]

    def remove(self, key: str) -> None:
        """Forget a version that no name means."""
        del self._served[key], self._streams[key], self._brought[key]

    def note_brought(self, name: str, digest: str) -> None:
        """Count a stream that was brought: its version is used, though nothing of it has run."""
        found = self.of_bundle(name, digest)
        if found is not None:
            self._brought[found.key] += 1

    def brought_to(self, key: str) -> int:
        """Return how many streams were brought to a version."""
        return self._brought[key]

    def find(self, key: str) -> ServedStreams:
        """Return the version with this key, or the current one of this name.

        Raises:
            UnknownModel: there is none.
        """
        found = self._streams.get(key)
        if found is None:
            raise unknown_model(key, self._served.values())
        return found

    def any_of(self, name: str) -> ServedStreams:
        """Return the current version of a name, or one that was retired.

        Raises:
            UnknownModel: there is none.
        """
        return self._streams.get(name) or next((one for one in self if one.name == name), None) or self.find(name)

    def of_bundle(self, name: str, digest: str) -> ServedStreams | None:
        """Return the version of a name that is this bundle."""
        return next((one for one in self if one.name == name and one.digest == digest), None)

    def going_on(self, asked: ServedStreams, record: StreamRecord | None) -> ServedStreams:
        """Return the version in which a stream goes on.

        Args:
            asked: that the request was read for.
            record: of the stream, or None.

        Returns:
            The one that it began with, where that is served and takes the same tensors; else the one that was asked
            for, whose bundle is another then.
        """
        if record is None or record.digest == asked.digest:
            return asked
        found = self.of_bundle(asked.name, record.digest)
        return asked if found is None or found.graph != asked.graph else found
