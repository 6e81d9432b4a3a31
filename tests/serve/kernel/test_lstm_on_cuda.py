"""The CUDA kernels on a GPU, against the equations in float64; and that no bit of a row hangs on its company."""

import numpy as np
import pytest

from cellgate.serve.engine.device_lanes import DeviceLaneTable
from cellgate.serve.kernel.kernel_plan import plan_kernel
from cellgate.serve.kernel.lstm_kernel import LstmKernel
from cellgate.serve.kernel.memory import RowOrder, Scratch
from cellgate.serve.kernel.products import Products, Weights
from cellgate.serve.runtime.bits_check import check_bits
from cellgate.serve.runtime.device_choice import open_runtime
from cellgate.serve.runtime.placement import OWN_KERNELS

from ..engine.lane_traffic import MAX_LANES, Traffic
from .numpy_gpu import sigmoid

pytestmark = pytest.mark.gpu
# (I, H, B, T): one block and many, units left idle, few rows and more than a tile, odd sizes; bounds of the plan.
SIZES = [
    (1, 1, 1, 1),
    (3, 16, 2, 5),
    (12, 64, 5, 29),
    (12, 64, 700, 9),
    (5, 33, 7, 17),
    (7, 100, 9, 11),
    (40, 128, 33, 20),
    (40, 256, 300, 12),
    (300, 300, 70, 9),
    (64, 512, 64, 10),
    (33, 700, 5, 8),
    (16, 1000, 3, 6),
    (1024, 1024, 40, 5),
]


@pytest.fixture(scope="module")
def gpu():
    from cellgate.serve.kernel.cuda_gpu import CudaGpu

    return CudaGpu()


@pytest.fixture(scope="module")
def products(gpu):
    return Products(gpu)


class Layer:
    """A layer with seeded weights on the GPU, and what it computes, in float64."""

    def __init__(self, gpu, products, inputs, hidden):
        values = np.random.default_rng([inputs, hidden])
        bound = hidden**-0.5
        self.w, self.r = (values.uniform(-bound, bound, (4 * hidden, k)).astype(np.float32) for k in (inputs, hidden))
        self.b = values.uniform(-bound, bound, 4 * hidden).astype(np.float32)
        self.gpu, self.hidden = gpu, hidden
        plan = plan_kernel(hidden, gpu.multiprocessors)
        self.kernel = LstmKernel(gpu, products, plan, (self.w, self.r, self.b), Scratch(gpu))
        self.order = RowOrder(gpu)

    def run(self, x, lengths, h0, c0):
        gpu, (steps, rows, _) = self.gpu, x.shape
        places = [gpu.store(np.ascontiguousarray(array)) for array in (x, h0, c0)]
        found = [np.full((*shape, self.hidden), np.nan, np.float32) for shape in ((steps, rows), (rows,), (rows,))]
        places += [gpu.store(array) for array in found]
        self.order.put(lengths)
        self.kernel.run(places[0], (steps, rows), self.order, places[1:3], places[3:])
        for place, array in zip(places[3:], found, strict=True):
            gpu.download(place, array)
        gpu.synchronize()
        for place in places:
            gpu.free(place)
        return found

    def compute(self, x, lengths, h, c):
        w, r, h, c = (array.astype(np.float64) for array in (self.w, self.r, h, c))
        y = np.zeros((*x.shape[:2], self.hidden))
        for t, step in enumerate(x.astype(np.float64)):
            i, o, f, g = np.split(step @ w.T + h @ r.T + self.b, 4, axis=1)
            new_c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            real = (t < lengths)[:, None]
            h, c = np.where(real, sigmoid(o) * np.tanh(new_c), h), np.where(real, new_c, c)
            y[t] = np.where(real, h, 0)
        return y, h, c


def inputs_of(inputs, hidden, rows, steps):
    values = np.random.default_rng([rows, steps])
    lengths = values.integers(1, steps + 1, size=rows).astype(np.int32)
    lengths[values.integers(rows)] = steps
    x = values.normal(size=(steps, rows, inputs)).astype(np.float32)
    h0, c0 = values.normal(size=(2, rows, hidden)).astype(np.float32)
    return x, lengths, h0, c0


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_ragged_batches_are_as_the_equations_say(gpu, products, size):
    inputs, hidden = size[:2]
    layer, given = Layer(gpu, products, inputs, hidden), inputs_of(*size)

    for found, expected in zip(layer.run(*given), layer.compute(*given), strict=True):
        assert np.abs(found - expected).max() < 5e-6


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_row_has_the_same_bits_alone_and_in_its_batch(gpu, products, size):
    inputs, hidden, rows, _ = size
    layer, (x, lengths, h0, c0) = Layer(gpu, products, inputs, hidden), inputs_of(*size)
    y, h_n, c_n = layer.run(x, lengths, h0, c0)

    for row in {0, rows // 2, rows - 1}:
        length, one = lengths[row], slice(row, row + 1)
        alone = layer.run(x[:length, one], lengths[one], h0[one], c0[one])
        for found, expected in zip(alone, (y[:length, one], h_n[one], c_n[one]), strict=True):
            assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("size", [size for size in SIZES if size[3] > 1], ids=str)
def test_sequence_has_the_same_bits_in_one_pass_and_in_two(gpu, products, size):
    inputs, hidden, _, steps = size
    layer, (x, lengths, h0, c0) = Layer(gpu, products, inputs, hidden), inputs_of(*size)
    cut = steps // 2
    y, h_n, c_n = layer.run(x, lengths, h0, c0)
    first, *states = layer.run(x[:cut], np.minimum(lengths, cut), h0, c0)
    second, *last = layer.run(x[cut:], np.maximum(lengths - cut, 0), *states)

    for found, expected in zip((np.concatenate([first, second]), *last), (y, h_n, c_n), strict=True):
        assert found.tobytes() == expected.tobytes()


def test_nan_and_infinity_stay_in_their_row(gpu, products):
    layer, (x, lengths, h0, c0) = Layer(gpu, products, 12, 256), inputs_of(12, 256, 20, 9)
    clean = layer.run(x, lengths, h0, c0)
    x[0, 3], x[1, 7], h0[11] = np.nan, np.inf, np.nan
    spoilt = layer.run(x, lengths, h0, c0)

    others = [row for row in range(20) if row not in (3, 7, 11)]
    assert np.isnan(spoilt[1][[3, 11]]).any()
    for axis, found, expected in zip((1, 0, 0), spoilt, clean, strict=True):
        assert found.take(others, axis).tobytes() == expected.take(others, axis).tobytes()


@pytest.mark.parametrize(
    ("rows", "inputs", "outputs"), [(1, 1, 1), (5, 12, 9), (64, 64, 64), (1000, 37, 130), (3000, 256, 1024)]
)
def test_products_are_right_and_a_row_has_the_same_bits_alone(gpu, products, rows, inputs, outputs):
    values = np.random.default_rng(0)
    x, w, b = (
        values.normal(size=shape).astype(np.float32) for shape in ((rows, inputs), (outputs, inputs), (outputs,))
    )
    weights, place, result = Weights(gpu, w, b), gpu.store(x), gpu.allocate(4 * rows * outputs)
    z, last = np.empty((rows, outputs), np.float32), np.empty((1, outputs), np.float32)
    products.multiply(weights, place, rows, result)
    gpu.download(result, z)
    products.multiply(weights, place + 4 * inputs * (rows - 1), 1, result)
    gpu.download(result, last)
    gpu.synchronize()

    assert np.abs(z - (x.astype(np.float64) @ w.T.astype(np.float64) + b)).max() < 1e-4
    assert last.tobytes() == z[-1:].tobytes()


@pytest.mark.parametrize("kind", ["steps", "last", "tokens"])
def test_served_rows_and_chunks_are_bitwise_on_cuda(bundles, kind):
    runtime = open_runtime(bundles[kind], device="cuda", threads=1)
    found = check_bits(runtime, bundles[kind])

    assert OWN_KERNELS in dict(runtime.facts.placement.counts)
    assert found.rows_bitwise is not False
    assert found.chunks_bitwise is not False


@pytest.mark.parametrize("kind", ["steps", "last"])
def test_random_traffic_gives_each_request_the_bits_that_it_has_alone(bundles, make_network, kind):
    network, runtime = make_network(kind), open_runtime(bundles[kind], device="cuda", threads=1)
    traffic = Traffic(DeviceLaneTable(runtime, MAX_LANES), network, 0)
    for _ in range(60):
        traffic.turn()
    works = [request.work for request in traffic.requests]

    for work, answer in zip(works, traffic.finish(), strict=True):
        h0, c0 = (
            np.zeros((1, work.rows, runtime.signature.inputs[-1].shape[2]), np.float32) if s is None else s
            for s in work.states
        )
        feeds = {runtime.signature.sequence: work.sequence, "h0": h0, "c0": c0}
        if runtime.signature.lengths is not None:
            feeds["lengths"] = work.lengths
        alone = runtime.run(feeds)
        assert all(array.tobytes() == alone[name].tobytes() for name, array in answer.items())


def test_closing_gives_the_memory_back(gpu, bundles):
    def open_and_close():
        runtime = open_runtime(bundles["steps"], device="cuda", threads=1)
        check_bits(runtime, bundles["steps"])
        runtime.close()
        return gpu.free_bytes()

    gpu.enter()
    before = open_and_close()
    for _ in range(5):
        after = open_and_close()
    assert after >= before
