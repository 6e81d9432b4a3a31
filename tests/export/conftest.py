"""What the tests of the export start from: a network's graph under the real onnxruntime, beside eager PyTorch."""

import functools
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from cellgate.export.exportable import Exportable, prepare
from cellgate.export.graph import onnx_graph, size_guards
from cellgate.export.graph.onnx_graph import export_onnx
from cellgate.export.loops import capture

from .exporter_tables import keep_tables
from .source_files import GOOD

SHAPES = ((1, 1), (2, 2), (7, 17))
SEED = 20240229


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(SEED)


@dataclass
class Exported:
    """A network, its graph, and both run on the same inputs."""

    exportable: Exportable
    model: bytes

    def __post_init__(self) -> None:
        self.proto = onnx.load_from_string(self.model)
        self.operators = Counter(node.op_type for node in self.proto.graph.node)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # more of them wait for each other, busily
        self.runtime = onnxruntime.InferenceSession(self.model, options, providers=["CPUExecutionProvider"])
        signature = self.exportable.signature
        self.inputs = [spec.name for spec in signature.inputs]
        self.outputs = [spec.name for spec in signature.outputs]

    def run(self, *arrays: np.ndarray) -> list[np.ndarray]:
        """Run the graph."""
        return self.runtime.run(None, dict(zip(self.inputs, arrays, strict=True)))

    def eager(self, *tensors: Tensor) -> list[np.ndarray]:
        """Run the network as PyTorch does."""
        has_lengths = self.exportable.signature.lengths is not None
        lengths = tensors[1] if has_lengths else None
        state = list(tensors[1 + has_lengths :])
        with torch.no_grad():
            y, final = self.exportable.network(tensors[0], lengths, state or None)
        return [tensor.numpy() for tensor in (y, *final)]

    def largest_difference(self, shapes: Sequence[tuple[int, int]] = SHAPES) -> float:
        """Return the largest |graph - eager| of any output for batches other than the example's, ragged if it can.

        Where the network needs several steps, there are as many more.
        """
        worst = 0.0
        for rows, count in shapes:
            tensors = self.exportable.example(rows, count + self.exportable.signature.least_steps - 1)
            actual = self.run(*(tensor.numpy() for tensor in tensors))
            expected = self.eager(*tensors)
            assert [a.shape for a in expected] == [a.shape for a in actual]
            worst = max(worst, *(float(np.abs(a - b).max()) for a, b in zip(actual, expected, strict=True)))
        return worst


@pytest.fixture(scope="module", autouse=True)
def tables_are_read_once(request: pytest.FixtureRequest) -> Iterator[None]:
    """Keep what PyTorch's exporters would read anew at every export, but for files marked `plain_exporters`."""
    with pytest.MonkeyPatch.context() as patch:
        if request.node.get_closest_marker("plain_exporters") is None:
            keep_tables(patch)
        yield


@contextmanager
def _untraced_capture() -> Iterator[None]:
    tracer = sys.gettrace()
    sys.settrace(None)
    try:
        with size_guards.quiet_capture():
            yield
    finally:
        sys.settrace(tracer)


@pytest.fixture(scope="session", autouse=True)
def coverage_counts_nothing_inside_of_torch() -> None:
    """Let PyTorch's own exporters run untraced where branch coverage is counted: it makes them slower by half.

    They run within `quiet_capture`. A function around theirs would stand in the way of an error to the user's code.
    """
    if sys.gettrace() is not None:
        onnx_graph.quiet_capture = capture.quiet_capture = _untraced_capture


@pytest.fixture
def exported() -> Callable[..., Exported]:
    """Return a function from a module, or from what was prepared of one, to its Exported."""

    def export(
        module: nn.Module | Exportable,
        told: dict[str, str] | None = None,
        input_dim: int | None = None,
        answer: str | None = None,
    ) -> Exported:
        exportable = module if isinstance(module, Exportable) else prepare(module, told, input_dim, answer=answer)
        return Exported(exportable, export_onnx(exportable))

    return export


@pytest.fixture(scope="module")
def prepared() -> Callable[[Callable[[], nn.Module]], tuple[nn.Module, Exportable]]:
    """Return a function from what makes a module to one in eval mode, and to what was prepared of it.

    Both are made once for all tests of a file: nothing that is exported of them changes them.
    """

    @functools.cache
    def prepare_once(make: Callable[[], nn.Module]) -> tuple[nn.Module, Exportable]:
        torch.manual_seed(SEED)
        module = make().eval()
        return module, prepare(module)

    return prepare_once


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "nets_of_a_test.py"
    path.write_text(GOOD, encoding="utf-8")
    yield path
    sys.modules.pop("nets_of_a_test", None)


@pytest.fixture
def path_as_before():
    before = list(sys.path)
    yield
    assert sys.path == before
