"""A GPU without room, and graphs with odd wiring: what fails once is right the next time, and nothing is mixed up."""

from dataclasses import replace

import numpy as np
import pytest
from onnx import TensorProto, helper

from cellgate.bundle.manifest import SessionOptions, TensorSpec
from cellgate.serve.errors import EngineError
from cellgate.serve.kernel.gpu import GpuError
from cellgate.serve.kernel.kernel_states import KernelStates
from cellgate.serve.kernel.memory import Placed, RowOrder, Scratch
from cellgate.serve.kernel.products import Products
from cellgate.serve.start_errors import ServerStartError

from .numpy_gpu import NumpyGpu
from .test_cut import VALUES, H, lstm_node, lstm_weights, model_of
from .test_fuse import layer
from .test_kernel_graph import assert_near, of_bundle, signature_of


class Full(NumpyGpu):
    """A GPU that has room for so many more allocations, and takes so many more uploads."""

    room, uploads = 10_000, 10_000

    def allocate(self, size_bytes):
        self.room -= 1
        if self.room < 0:
            raise GpuError("cuMemAlloc: expected success, found CUDA_ERROR_OUT_OF_MEMORY")
        return super().allocate(size_bytes)

    def upload(self, array, address):
        self.uploads -= 1
        if self.uploads < 0:
            raise GpuError("cuMemcpyHtoDAsync: no")
        super().upload(array, address)


@pytest.fixture
def gpu():
    return Full()


def states_on(gpu, slots=2):
    spec = TensorSpec(name="h0", dtype="float32", shape=(2, "B", 3))
    return KernelStates(gpu, Products(gpu), [(spec, "h_n"), (replace(spec, name="c0"), "c_n")], slots)


def given(value):
    return [np.full((2, 1, 3), value, np.float32), np.full((2, 1, 3), -value, np.float32)]


def of(states, *slots):
    return {name: placed.numpy()[:, :, 0].tolist() for name, placed in states.take(np.array(slots)).items()}


def test_table_that_cannot_grow_stays_as_it_was_and_grows_later(gpu):
    states = states_on(gpu)
    states.put(1, given(5), 0)
    before = of(states, 1, 0)
    gpu.room = 1
    with pytest.raises(GpuError):
        states.grow(8)

    assert of(states, 1, 0) == before == {"h0": [[5, 0], [5, 0]], "c0": [[-5, 0], [-5, 0]]}
    gpu.room = 100
    states.grow(8)
    states.put(8, given(3), 0)
    assert of(states, 1, 8)["h0"] == [[5, 3], [5, 3]]


def test_states_that_could_not_be_sent_are_sent_with_the_next_run(gpu):
    states = states_on(gpu)
    states.put(1, given(7), 0)
    of(states, 1)
    states.put(1, given(4), 0)
    states.put(2, given(9), 0)
    gpu.uploads = 0
    with pytest.raises(GpuError):
        states.take(np.array([1]))
    gpu.uploads = 100

    assert of(states, 1, 2)["h0"] == [[4, 9], [4, 9]]


def test_states_of_a_request_are_those_that_it_brought_whatever_becomes_of_its_arrays(gpu):
    states, arrays = states_on(gpu), given(6)
    states.put(1, arrays, 0)
    arrays[0].fill(0)

    assert of(states, 1)["h0"] == [[6], [6]]


def test_memory_that_was_refused_is_asked_for_again(gpu):
    memory = Scratch(gpu)
    small = memory.at_least(10)
    assert memory.at_least(4096) == small
    gpu.room = 0
    with pytest.raises(GpuError):
        memory.at_least(10_000)
    gpu.room = 100

    assert gpu.within(memory.at_least(10), 10)
    assert memory.at_least(10) in gpu.memory


def test_memory_grows_by_doubling(gpu):
    memory = Scratch(gpu)
    gpu.room = 8
    for size_bytes in range(4096, 400_000, 1000):
        memory.at_least(size_bytes)

    assert len(gpu.memory) == 1


def test_lengths_that_could_not_be_sent_are_not_believed_to_be_there(gpu):
    order = RowOrder(gpu)
    first, second = np.int32([3, 1]), np.int32([1, 2])
    order.put(first)
    gpu.uploads = 0
    with pytest.raises(GpuError):
        order.put(second)
    gpu.uploads = 10
    order.put(first)

    assert gpu.uploads == 9
    assert gpu.array(order.lengths, (2,), np.ctypeslib.as_ctypes_type(np.int32)).tolist() == [3, 1]


def feeds_of(rows=3, steps=4):
    feeds = {"x": VALUES.normal(size=(steps, rows, 3)).astype(np.float32)}
    feeds |= {name: VALUES.normal(size=(1, rows, H)).astype(np.float32) for name in ("h0", "c0")}
    return {**feeds, "lengths": np.array([steps, 1, 2][:rows], dtype=np.int32)}


def both(on_kernels, nodes, outputs, stored=None):
    weights = lstm_weights() | (stored or {})
    specs = [TensorSpec(name=name, dtype="float32", shape=shape) for name, shape in outputs.items()]
    return on_kernels(model_of(nodes, list(outputs), weights), signature_of(*specs), SessionOptions())


@pytest.mark.parametrize(
    "parts",
    [
        (("a", "b_n"), ("a", "a")),
        (("a", "b_n"), ("b_n", "a")),
        (("a", "b_n"), ("a", "h0")),
        (("h0", "b_n"), ("a", "b_n")),
        (("a", "b_n", "d"), ("d", "a")),
        (("a", "b_n"), ("b_n", "d")),
    ],
)
def test_parts_of_several_concatenations_are_in_each_of_them(on_kernels, parts):
    layers = [layer("x", "y1", "a"), layer("x", "y2", "b_n"), layer("x", "y3", "d")]
    nodes = [
        *layers,
        *(helper.make_node("Concat", list(of), [name], axis=0) for name, of in zip("uv", parts, strict=True)),
    ]
    runtime, kernels, _ = both(
        on_kernels, nodes, {name: (len(of), "B", H) for name, of in zip("uv", parts, strict=True)}
    )
    feeds = feeds_of()

    assert_near(kernels.run(feeds), runtime.run(feeds))


def test_output_of_the_runtime_that_a_later_step_reads_is_answered_too(on_kernels):
    weights = {"v": VALUES.normal(size=(H, 2)).astype(np.float32)}
    nodes = [lstm_node(), helper.make_node("Tanh", ["h_n"], ["s"]), helper.make_node("MatMul", ["s", "v"], ["out"])]
    runtime, kernels, _ = both(on_kernels, nodes, {"s": (1, "B", H), "out": (1, "B", 2)}, weights)
    feeds = feeds_of()

    assert_near(kernels.run(feeds), runtime.run(feeds))
    host, left = kernels.bound().run(feeds, {}, {"out"})
    kernels.bound().wait()
    assert isinstance(left["s"], Placed)
    assert_near({**host, "s": left["s"].numpy()}, runtime.run(feeds))


def test_nodes_that_nobody_reads_are_left_out(on_kernels):
    nodes = [lstm_node(), helper.make_node("Tanh", ["h_n"], ["unread"])]
    runtime, kernels, _ = both(on_kernels, nodes, {"y": ("T", 1, "B", H)})
    feeds = feeds_of()

    assert_near(kernels.run(feeds), runtime.run(feeds))


def test_numbers_of_other_kinds_may_go_from_part_to_part(on_kernels):
    nodes = [
        lstm_node(),
        helper.make_node("Cast", ["x"], ["wide"], to=TensorProto.DOUBLE),
        helper.make_node("Cast", ["h_n"], ["wide_h"], to=TensorProto.DOUBLE),
        helper.make_node("ReduceSum", ["wide"], ["total"], keepdims=0),
        helper.make_node("Mul", ["wide_h", "total"], ["scaled"]),
        helper.make_node("Cast", ["scaled"], ["out"], to=TensorProto.FLOAT),
    ]
    runtime, kernels, _ = both(on_kernels, nodes, {"out": (1, "B", H)})
    feeds = feeds_of()

    assert_near(kernels.run(feeds), runtime.run(feeds))


def test_layer_with_stored_states_stays_with_the_runtime(on_kernels):
    stored = {"h": VALUES.normal(size=(1, 3, H)).astype(np.float32)}
    node = helper.make_node("LSTM", ["x", "w", "r", "b", "lengths", "h", "h"], ["y"], hidden_size=H)

    assert both(on_kernels, [node], {"y": ("T", 1, "B", H)}, stored)[1] is None


def test_states_for_which_there_is_no_room_are_a_reason_not_to_keep_them_there(bundles, on_kernels):
    runtime, kernels, gpu = on_kernels(*of_bundle(bundles["steps"]), gpu=Full())
    specs = {spec.name: spec for spec in runtime.signature.inputs}
    gpu.room = 0

    with pytest.raises(ServerStartError, match=r"states: expected room for 4 on the GPU, found cuMemAlloc"):
        kernels.states([(specs["h0"], "h_n")], 4)


def test_gpu_that_fails_while_it_is_waited_for_is_a_refused_run(bundles, make_network, on_kernels, monkeypatch):
    def fail():
        raise GpuError("cuStreamSynchronize: expected success, found CUDA_ERROR_ILLEGAL_ADDRESS")

    _, kernels, gpu = on_kernels(*of_bundle(bundles["steps"]))
    monkeypatch.setattr(gpu, "synchronize", fail)

    with pytest.raises(EngineError, match="found cuStreamSynchronize"):
        kernels.run(make_network("steps").feeds(2, 3))
