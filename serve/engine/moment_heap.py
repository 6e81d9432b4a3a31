"""What waits in the order of moments, and can be taken out from anywhere.

Rules of this file: pure. Taking something out costs as little where a million wait as where two do, since a thousand
may pass their deadlines in one moment; two numbers are kept of it, until they come to the front or are too many.
"""

import heapq
import itertools
import math
from collections.abc import Iterable
from typing import Final, Generic, TypeVar

Item = TypeVar("Item")

_FEW: Final = 64  # left-over numbers that do no harm


class MomentHeap(Generic[Item]):
    """Items by moment, in seconds; of equal moments the one that was added first comes first."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int]] = []  # some of these are not there any more; the first one always is
        self._items: dict[int, Item] = {}
        self._numbers = itertools.count(1)

    def __len__(self) -> int:
        return len(self._items)

    @property
    def first_s(self) -> float:
        """The earliest moment; infinite where nothing waits."""
        return self._heap[0][0] if self._heap else math.inf

    @property
    def first(self) -> Item:
        """The item of that moment; something has to be there."""
        return self._items[self._heap[0][1]]

    @property
    def items(self) -> Iterable[Item]:
        """All of them, in no order."""
        return self._items.values()

    def add(self, moment_s: float, item: Item, *, ahead: bool = False) -> int:
        """Add an item and return its number, for `discard`.

        Args:
            moment_s: its own.
            item: whatever it is.
            ahead: it goes before those of the same moment that are there.
        """
        number = -next(self._numbers) if ahead else next(self._numbers)
        self._items[number] = item
        heapq.heappush(self._heap, (moment_s, number))
        return number

    def pop(self) -> Item:
        """Take the first item out; something has to be there."""
        found = self._items.pop(heapq.heappop(self._heap)[1])
        self._tidy()
        return found

    def discard(self, number: int) -> None:
        """Take an item out, if it is there."""
        if self._items.pop(number, None) is not None:
            self._tidy()

    def _tidy(self) -> None:
        heap, items = self._heap, self._items
        while heap and heap[0][1] not in items:
            heapq.heappop(heap)
        if len(heap) > 2 * len(items) + _FEW:
            heap[:] = [entry for entry in heap if entry[1] in items]
            heapq.heapify(heap)
