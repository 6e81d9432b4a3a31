"""The fused graph that cellgate exports, beside a hand-built LSTM graph and the legacy exporter's scripted loop.

    python bench/fused_graph.py [--repeats 60] [--threads 1 2] [--json]

Three ratios for each size, from interleaved runs in one process (so that a noisy machine disturbs all alike), medians:

    by hand   / cellgate      1.00 is the speed of a graph written by hand that takes and gives the same tensors
    bare node / cellgate      the same for onnxruntime's LSTM node with nothing around it: time first, no lengths
    loop      / cellgate      how much slower the Loop is that torch.onnx.export(dynamo=False) makes of the same layer
"""

import argparse
import io
import json
import os
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console
from rich.table import Table
from torch import Tensor

import cellgate  # noqa: F401 - switches onnxruntime's telemetry off before its import
from cellgate.export.exportable import prepare
from cellgate.export.graph.lowering import pack_weights
from cellgate.export.graph.onnx_graph import export_onnx
from cellgate.export.graph.recognise import recognise
from cellgate.model import LSTMCell, LSTMLayer

# (B, T, I, H): the size of the promise first, then a spread.
SIZES = [(1, 100, 128, 256), (32, 100, 128, 256), (1, 100, 12, 64), (32, 30, 12, 64), (8, 100, 512, 512)]


def hand_built(layer: LSTMLayer, input_dim: int, *, bare: bool) -> bytes:
    """Return the layer's weights in a graph written by hand.

    Bare it is one LSTM node, X [T, B, I] -> Y [T, 1, B, H]; else it takes and gives what a bundle's graph does: batch
    first, with lengths, which costs two transpositions.
    """
    form = recognise(layer.cell, input_dim)
    assert form is not None
    weights = {name: tensor.numpy()[None] for name, tensor in pack_weights(layer.cell, form, input_dim).items()}
    hidden = weights["r"].shape[-1]
    tensors = [numpy_helper.from_array(np.ascontiguousarray(array), name) for name, array in weights.items()]
    inputs = [_value("x", ["T", "B", input_dim] if bare else ["B", "T", input_dim])]
    if bare:
        nodes = [_lstm("x", "", "y", hidden)]
        y = _value("y", ["T", 1, "B", hidden])
    else:
        tensors.append(numpy_helper.from_array(np.array([1], dtype=np.int64), "one"))
        inputs.append(helper.make_tensor_value_info("lengths", TensorProto.INT32, ["B"]))
        nodes = [
            helper.make_node("Transpose", ["x"], ["x_time"], perm=[1, 0, 2]),
            _lstm("x_time", "lengths", "y_directions", hidden),
            helper.make_node("Squeeze", ["y_directions", "one"], ["y_time"]),
            helper.make_node("Transpose", ["y_time"], ["y"], perm=[1, 0, 2]),
        ]
        y = _value("y", ["B", "T", hidden])
    state = [_value(name, [1, "B", hidden]) for name in ("h0", "c0")]
    outputs = [y, *[_value(name, [1, "B", hidden]) for name in ("h_n", "c_n")]]
    graph = helper.make_graph(nodes, "hand_built", [*inputs, *state], outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _value(name: str, shape: list[str | int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _lstm(x: str, lengths: str, y: str, hidden: int) -> onnx.NodeProto:
    names = [x, "w", "r", "b", lengths, "h0", "c0"]
    return helper.make_node("LSTM", names, [y, "h_n", "c_n"], hidden_size=hidden)


class TutorialLoop(torch.nn.Module):
    """The loop as the tutorial writes it: one pair of state tensors, no lengths, nothing optional."""

    def __init__(self, cell: torch.nn.Module) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, x: Tensor, h0: Tensor, c0: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Run all steps."""
        state = (h0, c0)
        outputs: list[Tensor] = []
        for step in x.unbind(1):
            output, state = self.cell(step, state)
            outputs.append(output)
        return torch.stack(outputs, 1), state[0], state[1]


def legacy_loop(layer: LSTMLayer, input_dim: int, hidden: int) -> bytes:
    """Return what the legacy exporter makes of the scripted layer: an ONNX Loop."""
    buffer = io.BytesIO()
    example = (torch.zeros(2, 5, input_dim), torch.zeros(2, hidden), torch.zeros(2, hidden))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            torch.jit.script(TutorialLoop(layer.cell)),
            example,
            buffer,
            dynamo=False,
            opset_version=18,
            input_names=["x", "h0", "c0"],
            dynamic_axes={"x": {0: "B", 1: "T"}, "h0": {0: "B"}, "c0": {0: "B"}},
        )
    return buffer.getvalue()


def open_session(model: bytes, threads: int) -> onnxruntime.InferenceSession:
    """Open a graph with the options with which bundles are served."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def measure(runs: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Return the median seconds of each run, one after the other in turn, after a warm-up."""
    for run in runs.values():
        for _ in range(5):
            run()
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return {name: float(np.median(values)) for name, values in seconds.items()}


def compare(size: tuple[int, int, int, int], repeats: int, threads: int) -> dict[str, Any]:
    """Measure one size and check that the three graphs agree."""
    B, T, I, H = size
    torch.manual_seed(0)
    layer = LSTMLayer(LSTMCell, I, H).eval()
    x = np.random.default_rng(0).standard_normal((B, T, I), dtype=np.float32)
    zeros, lengths = np.zeros((1, B, H), dtype=np.float32), np.full(B, T, dtype=np.int32)
    time_first = np.ascontiguousarray(x.transpose(1, 0, 2))
    ours = open_session(export_onnx(prepare(layer)), threads)
    bare = open_session(hand_built(layer, I, bare=True), threads)
    alike = open_session(hand_built(layer, I, bare=False), threads)
    loop = open_session(legacy_loop(layer, I, H), threads)
    runs: dict[str, Callable[[], Any]] = {
        "cellgate": lambda: ours.run(None, {"x": x, "lengths": lengths, "h0": zeros, "c0": zeros}),
        "bare": lambda: bare.run(None, {"x": time_first, "h0": zeros, "c0": zeros}),
        "alike": lambda: alike.run(None, {"x": x, "lengths": lengths, "h0": zeros, "c0": zeros}),
        "legacy loop": lambda: loop.run(None, {"x": x, "h0": zeros[0], "c0": zeros[0]}),
    }
    first = runs["cellgate"]()[0]
    assert np.abs(first - runs["bare"]()[0][:, 0].transpose(1, 0, 2)).max() < 1e-5
    assert np.abs(first - runs["legacy loop"]()[0]).max() < 1e-5
    seconds = measure(runs, repeats)
    return {
        "B": B,
        "T": T,
        "I": I,
        "H": H,
        "cellgate_s": seconds["cellgate"],
        "alike_ratio": seconds["alike"] / seconds["cellgate"],
        "bare_ratio": seconds["bare"] / seconds["cellgate"],
        "legacy_loop_ratio": seconds["legacy loop"] / seconds["cellgate"],
    }


def main() -> None:
    """Measure every size and print the table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=60, help="timed runs of each graph (default 60)")
    default = sorted({1, len(os.sched_getaffinity(0))})
    parser.add_argument(
        "--threads",
        type=int,
        nargs="+",
        default=default,
        help=f"threads inside a run, one table each (default: one, and one for each CPU as served, here {default})",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    rows = [
        {"threads": threads, **compare(size, arguments.repeats, threads)}
        for threads in arguments.threads
        for size in SIZES
    ]
    if arguments.json:
        versions = {"onnxruntime": onnxruntime.__version__, "torch": torch.__version__}
        json.dump({**versions, "rows": rows}, sys.stdout, indent=1)
        return
    table = Table("threads", "B", "T", "I", "H", "cellgate", "by hand", "bare node", "loop")
    for row in rows:
        ratios = [f"{row[name + '_ratio']:.2f}" for name in ("alike", "bare", "legacy_loop")]
        table.add_row(str(row["threads"]), *[str(row[axis]) for axis in "BTIH"], f"{row['cellgate_s']:.6f}", *ratios)
    Console().print(table)


if __name__ == "__main__":
    main()
