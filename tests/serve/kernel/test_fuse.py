"""What is left out of a network's steps, and that its answers stay the same."""

from dataclasses import replace

import numpy as np
import pytest
from onnx import helper

from cellgate.bundle.manifest import SessionOptions, TensorSpec
from cellgate.serve.kernel.fuse import fuse, homes
from cellgate.serve.kernel.steps import Lstm, Swap
from cellgate.serve.start_errors import ServerStartError

from .test_cut import VALUES, H, lstm_weights, model_of, steps_of
from .test_kernel_graph import assert_near, signature_of

W = 4 * H


def layer(x, y, h_n, weights="w", lengths="lengths"):
    inputs = [x, weights, "r", "b", lengths, "h0", "c0"]
    return helper.make_node("LSTM", inputs, [y, h_n, f"c_{h_n}"], hidden_size=H)


def stack(*more, outputs):
    """Two layers over x [B, T, I], their last h concatenated."""
    stored = lstm_weights() | {
        "one": np.array([1]),
        "zero": np.array([0]),
        "w2": VALUES.normal(size=(1, W, H)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Transpose", ["x"], ["x_t"], perm=[1, 0, 2]),
        layer("x_t", "y1", "a"),
        helper.make_node("Squeeze", ["y1", "one"], ["z1"]),
        layer("z1", "y2", "b_n", "w2"),
        helper.make_node("Concat", ["a", "b_n"], ["both"], axis=0),
        *more,
    ]
    return model_of(nodes, outputs, stored)


def fused(model):
    graph, stages = steps_of(model)
    found = fuse(stages, graph.outputs)
    return found, [step for stage in found for step in stage.steps]


def test_layers_read_the_batch_first_where_nobody_else_needs_the_time_first():
    _, steps = fused(stack(outputs=["both"]))
    first, second = (step for step in steps if isinstance(step, Lstm))

    assert not any(isinstance(step, Swap) for step in steps)
    assert (first.batch_first, first.inputs[0]) == (True, "x")
    assert (second.batch_first, second.inputs[0]) == (False, "z1")


def test_swapped_input_that_another_reads_is_kept():
    _, steps = fused(stack(helper.make_node("Tanh", ["x_t"], ["t"]), outputs=["both", "t"]))

    assert any(isinstance(step, Swap) for step in steps)


def test_swapped_states_are_kept(on_kernels):
    """States that come with the batch first are no sequence."""
    swaps = [helper.make_node("Transpose", [name], [f"{name}_t"], perm=[1, 0, 2]) for name in ("h0", "c0")]
    node = helper.make_node("LSTM", ["x", "w", "r", "b", "lengths", "h0_t", "c0_t"], ["y", "h_n"], hidden_size=H)
    model = model_of(
        [*swaps, node], ["y", "h_n"], lstm_weights(), {"x": ("T", "B", 3), "h0": ("B", 1, H), "c0": ("B", 1, H)}
    )
    outputs = [
        TensorSpec(name=name, dtype="float32", shape=shape)
        for name, shape in (("y", ("T", 1, "B", H)), ("h_n", (1, "B", H)))
    ]
    states = [TensorSpec(name=name, dtype="float32", shape=("B", 1, H)) for name in ("h0", "c0")]
    signature = signature_of(*outputs)
    signature = replace(signature, inputs=(signature.inputs[0], *states, signature.inputs[3]))
    runtime, kernels, gpu = on_kernels(model, signature, SessionOptions())
    feeds = {"x": VALUES.normal(size=(4, 3, 3)).astype(np.float32), "lengths": np.array([4, 1, 3], dtype=np.int32)}
    feeds |= {name: VALUES.normal(size=(3, 1, H)).astype(np.float32) for name in ("h0", "c0")}

    assert_near(kernels.run(feeds), runtime.run(feeds))
    assert gpu.launched.count("swap") == 2
    with pytest.raises(ServerStartError, match=r"state h0: expected float32 \[L, B, H\], found float32 \['B', 1, 4\]"):
        kernels.states([(spec, "h_n") for spec in states], 4)  # lanes keep them on the host then


def test_steps_after_the_end_are_cleared_only_where_somebody_but_a_layer_reads_them():
    cases = [
        (stack(outputs=["both"]), False),
        (stack(outputs=["both", "z1"]), True),
        (stack(outputs=["both", "y1"]), True),
        (stack(helper.make_node("Tanh", ["z1"], ["t"]), outputs=["both", "t"]), True),
        (stack(layer("z1", "y3", "d", "w2", lengths=""), outputs=["both", "d"]), True),
    ]
    for model, clears in cases:
        first = next(step for step in fused(model)[1] if isinstance(step, Lstm))
        assert first.clears is clears


def test_steps_that_nobody_reads_are_not_written():
    _, steps = fused(stack(outputs=["both"]))
    first, second = (step for step in steps if isinstance(step, Lstm))

    assert first.outputs[0] == "y1"
    assert second.outputs == ("", "b_n", "c_b_n")


def test_last_states_are_at_home_in_their_concatenation():
    stages, _ = fused(stack(outputs=["both"]))
    assert homes(stages) == {"a": ("both", 0, 2), "b_n": ("both", 1, 2)}

    mixed = stack(helper.make_node("Concat", ["a", "h0"], ["odd"], axis=0), outputs=["both", "odd"])
    assert set(homes(fused(mixed)[0])) == {"a", "b_n"}
    twice = stack(helper.make_node("Concat", ["b_n", "b_n"], ["two"], axis=0), outputs=["two"])
    assert all(home[0] == "both" for home in homes(fused(twice)[0]).values())


def test_fused_stack_answers_as_the_runtime_does(on_kernels):
    tanh = helper.make_node("Tanh", ["z1"], ["t"])
    squeezed = helper.make_node("Squeeze", ["a", "zero"], ["first"])
    model = stack(tanh, squeezed, outputs=["both", "t", "first", "c_a"])
    outputs = [
        TensorSpec(name="both", dtype="float32", shape=(2, "B", H)),
        TensorSpec(name="t", dtype="float32", shape=("T", "B", H)),
        TensorSpec(name="first", dtype="float32", shape=("B", H)),
        TensorSpec(name="c_a", dtype="float32", shape=(1, "B", H)),
    ]
    signature = signature_of(*outputs)
    runtime, kernels, gpu = on_kernels(model, signature, SessionOptions())
    for rows, steps in ((3, 5), (4, 2)):
        feeds = {"x": VALUES.normal(size=(rows, steps, 3)).astype(np.float32)}
        feeds |= {name: VALUES.normal(size=(1, rows, H)).astype(np.float32) for name in ("h0", "c0")}
        feeds["lengths"] = np.arange(1, rows + 1, dtype=np.int32).clip(max=steps)[::-1].copy()
        feeds["lengths"][-1] = steps
        assert_near(kernels.run(feeds), runtime.run(feeds))
    assert "swap" not in gpu.launched
