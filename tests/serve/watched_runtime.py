"""A runtime that is watched: how many steps each of its runs had."""

from cellgate.serve.engine.counting_runtime import CountingRuntime


class WatchedRuntime(CountingRuntime):
    """Notes the steps of each run in ``steps``, in order."""

    def __init__(self, runtime):
        super().__init__(runtime)
        self.steps = []

    def count(self, feeds):
        super().count(feeds)
        self.steps.append(feeds["x"].shape[1])
