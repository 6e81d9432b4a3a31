"""Bundles that are whole by every digest and check, and that onnxruntime does not survive, or does not return from.

An LSTM over a batch of no rows aborts the process of onnxruntime: at its opening where the batch is a constant, for
constants are folded there; else in the first run. A Loop of 2^62 turns runs until somebody ends it.
"""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from ..small_network import H, I, Network

_TURNS = 2**62


def constant(name, value):
    """A node, not an initializer: the network's own are those of its weights."""
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value, name))


class DeadlyNetwork(Network):
    """The network "steps", and beside it what kills.

    Args:
        how: "at opening", "in a run" or "never returns".
    """

    def __init__(self, how):
        super().__init__("steps")
        self.how = how

    def nodes(self):
        *usual, last = super().nodes()
        last.output[0] = "y_alone"
        yield from usual
        yield last
        yield from self._never_returns() if self.how == "never returns" else self._dies()
        yield helper.make_node("Add", ["y_alone", "deadly"], ["y"])

    def _dies(self):
        if self.how == "at opening":
            yield constant("nobody", np.zeros((4, 0, I), np.float32))
        else:
            for name, place in (("none", 0), ("rows", 1)):
                yield constant(name, np.array([place], np.int64))
            yield helper.make_node("Slice", ["x_t", "none", "none", "rows"], ["nobody"])
        yield helper.make_node("LSTM", ["nobody", "W", "R"], ["of_nobody"], hidden_size=H)
        yield helper.make_node("ReduceSum", ["of_nobody"], ["deadly"], keepdims=0)

    def _never_returns(self):
        def value(name, kind, *shape):
            return helper.make_tensor_value_info(name, kind, shape)

        body = helper.make_graph(
            [
                helper.make_node("Identity", ["goes_on"], ["goes_on_again"]),
                helper.make_node("Mul", ["sum", "sum"], ["next_sum"]),
            ],
            "turn",
            [value("turn", TensorProto.INT64), value("goes_on", TensorProto.BOOL), value("sum", TensorProto.FLOAT)],
            [value("goes_on_again", TensorProto.BOOL), value("next_sum", TensorProto.FLOAT)],
        )
        yield constant("turns", np.array(_TURNS, np.int64))
        yield constant("always", np.array(True))
        yield helper.make_node("ReduceSum", ["x_t"], ["begin"], keepdims=0)
        yield helper.make_node("Loop", ["turns", "always", "begin"], ["deadly"], body=body)

    def model(self):
        made, operators = super().model()
        inside = ("Identity", "Mul") if self.how == "never returns" else ()
        return made, tuple(sorted({*operators, *inside}))
