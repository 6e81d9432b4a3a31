"""A store's thread that moves by hand: what is asked is read or written at one moment, and told at a later one."""

from collections import deque

from cellgate.serve.streams.store_orders import StoreVisits


class HandPort:
    """A `StorePort` that does nothing by itself.

    Args:
        store: shared with others.
        wake: called when something was told.
    """

    def __init__(self, store, wake):
        self.wake = wake
        self.visits = StoreVisits(store)
        self.posted, self.asked, self.told = [], [], []
        self.on_its_way = deque()

    @property
    def has_done(self):
        return bool(self.told)

    def post(self, order):
        self.posted.append(order)

    def flush(self):
        self.asked, self.posted = self.asked + self.posted, []

    def take(self):
        told, self.told = self.told, []
        return told

    def carry_out(self):
        """Do what was asked so far; the answers are on their way then."""
        orders, self.asked = self.asked, []
        if orders:
            self.on_its_way.append(self.visits.carry_out(orders, lambda: False))

    def tell(self):
        """Let the oldest answers arrive."""
        if self.on_its_way:
            self.told += self.on_its_way.popleft()
            self.wake()

    def close(self):
        self.flush()
        self.carry_out()
        while self.on_its_way:
            self.tell()
        return self.take()
