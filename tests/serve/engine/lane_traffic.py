"""Random traffic over a table of lanes: the same for every table, so that what two of them answer can be compared."""

import numpy as np

from cellgate.serve.engine.request import Request
from cellgate.serve.engine.work import Work

MAX_LANES = 4


def random_work(network, values):
    rows = int(values.choice([1, 1, 2, 4]))
    steps = int(values.integers(1, 12))
    lengths = values.integers(1, steps + 1, size=rows).astype(np.int32)
    if network.signature.lengths is None:
        lengths[:] = steps
    lengths[0] = steps
    feeds = network.feeds(rows, steps, lengths, seed=int(values.integers(2**31)))
    states = tuple(feeds[name] if values.random() < 0.4 else None for name in ("h0", "c0"))
    names = [spec.name for spec in network.signature.outputs]
    outputs = tuple(name for name in names if values.random() < 0.6) or ("y",)
    return Work(model="", sequence=feeds[network.signature.sequence], lengths=lengths, states=states, outputs=outputs)


class Traffic:
    """Random lanes over a table: some advance, some step aside, new ones come, requests are dropped."""

    def __init__(self, table, network, seed):
        self.table = table
        self.network = network
        self.values = np.random.default_rng(seed)
        self.lanes = []
        self.requests = []

    def turn(self):
        values = self.values
        if len(self.lanes) < 9 and values.random() < 0.7:
            work = random_work(self.network, values)
            request = Request(None, work, 0, work.rows)
            self.requests.append(request)
            for _ in range(work.rows):
                lane = request.next_lane()
                self.table.begin(lane)
                self.lanes.append(lane)
        if self.lanes and values.random() < 0.1:
            dropped = self.lanes[int(values.integers(len(self.lanes)))].request
            for lane in [lane for lane in self.lanes if lane.request is dropped]:
                self.table.release(lane)
            self.lanes = [lane for lane in self.lanes if lane.request is not dropped]
            self.requests.remove(dropped)
        if self.lanes:
            self.advance()

    def advance(self):
        chosen = [lane for lane in self.lanes if self.values.random() < 0.7] or self.lanes[:1]
        if self.network.signature.lengths is None:
            chosen = [lane for lane in chosen if lane.remaining == chosen[0].remaining]
        chosen = sorted(chosen[:MAX_LANES], key=lambda lane: lane.remaining)
        steps = int(self.values.integers(1, chosen[-1].remaining + 1))
        ended = self.table.advance(chosen, steps)
        for lane in chosen[:ended]:
            self.table.release(lane)
            self.lanes.remove(lane)

    def finish(self):
        while self.lanes:
            self.advance()
        return [request.ordered_answer() for request in self.requests]
