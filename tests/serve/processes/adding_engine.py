"""An engine that adds, and a desk of models that never change."""

import numpy as np

from cellgate.serve.errors import NotReady, QueueFull
from cellgate.serve.processes.frames import Kind, pack_json


class AddingEngine:
    """Keeps the engine's contract; of the network "steps", it answers with the sum of x and of the states given.

    Held back, it keeps what it has; `max_waiting` more are refused.
    """

    def __init__(self, max_waiting=10**6):
        self.max_waiting = max_waiting
        self.waiting = {}
        self.cancelled = 0
        self.is_held = False
        self.is_closed = False

    def submit(self, ticket, work):
        assert ticket not in self.waiting
        if len(self.waiting) >= self.max_waiting:
            raise QueueFull(self.max_waiting)
        self.waiting[ticket] = work

    def cancel(self, ticket):
        self.cancelled += self.waiting.pop(ticket, None) is not None

    def wait_s(self):
        return 0.0 if self.waiting and not self.is_held else None

    def run_once(self):
        if self.is_held:
            return []
        waiting, self.waiting = self.waiting, {}
        return [(ticket, self.outcome(work)) for ticket, work in waiting.items()]

    def outcome(self, work):
        given = sum(float(state.sum()) for state in work.states if state is not None)
        value = np.float32(work.sequence.sum() + given)
        shapes = {"y": (work.rows, work.steps, 4), "h_n": (1, work.rows, 3), "c_n": (1, work.rows, 3)}
        return {name: np.full(shapes[name], value, np.float32) for name in work.outputs}

    def statistics(self):
        return {"inside": len(self.waiting), "cancelled": self.cancelled}

    def close(self):
        self.is_closed = True
        waiting, self.waiting = self.waiting, {}
        return [(ticket, NotReady()) for ticket in waiting]


class StillDesk:
    """Models that never change; orders about them are kept."""

    def __init__(self, codecs, hello):
        self.codecs, self.greeting = codecs, pack_json(Kind.HELLO, 0, hello)
        self.next_look_s = None
        self.orders, self.is_closed = [], False

    def hello(self):
        return self.greeting

    def control(self, *order):
        self.orders.append(order)

    def look(self, _taken):
        self.next_look_s = None
        return False

    def close(self):
        self.is_closed = True
