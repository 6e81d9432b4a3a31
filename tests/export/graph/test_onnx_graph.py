"""The bytes of a graph: always the same, nothing of this machine in them, and nothing that need not be there."""

import getpass
import hashlib
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention

import cellgate
from cellgate.export.errors import ExportError, FrozenAxisError
from cellgate.export.exportable import prepare
from cellgate.export.graph import onnx_graph
from cellgate.export.graph.onnx_graph import export_onnx
from cellgate.model import SequenceModel

# A network by its number, the same in every interpreter.
MAKE = """
import torch
from torch import nn
from cellgate.model import SequenceModel
def make(number):
    torch.manual_seed(number)
    options = [dict(num_layers=2, reads="last_step"), dict(cell="LayerNormLSTMCell"),
               dict(cell="GRUCell", front="linear", front_dim=3)][number]
    return SequenceModel(4, 5, 3, **options).eval()
"""
FRESH = """
import hashlib
from cellgate.export.exportable import prepare
from cellgate.export.graph.onnx_graph import export_onnx
for number in (2, 1, 0):
    print(number, hashlib.sha256(export_onnx(prepare(make(number)))).hexdigest())
"""


def make(number: int) -> SequenceModel:
    scope: dict[str, Any] = {}
    exec(MAKE, scope)
    network: SequenceModel = scope["make"](number)
    return network


@pytest.fixture(scope="module")
def models() -> dict[int, bytes]:
    return {number: export_onnx(prepare(make(number))) for number in (0, 1, 2)}


@pytest.mark.no_cover
def test_bytes_depend_neither_on_the_order_of_exports_nor_on_the_process(models: dict[int, bytes]) -> None:
    again = {number: export_onnx(prepare(make(number))) for number in (1, 0)}
    fresh = subprocess.run([sys.executable, "-c", MAKE + FRESH], capture_output=True, text=True, check=True, cwd="/")
    found = dict(line.split() for line in fresh.stdout.splitlines())

    assert all(models[number] == again[number] for number in again)
    assert {str(k): hashlib.sha256(model).hexdigest() for k, model in models.items()} == found


def test_bytes_tell_nothing_of_this_machine(models: dict[int, bytes]) -> None:
    words = [
        getpass.getuser() + "/",
        str(Path(cellgate.__file__).parent),
        str(Path(torch.__file__).parent),
        ".py",
        "Traceback",
    ]

    for model in models.values():
        assert [word for word in words if word.encode() in model] == []


def test_graph_holds_default_operators_and_used_constants_only(models: dict[int, bytes]) -> None:
    for model in models.values():
        proto = onnx.load_from_string(model)
        onnx.checker.check_model(proto, full_check=True)
        assert [(entry.domain, entry.version) for entry in proto.opset_import] == [("", 18)]
        assert not proto.functions
        assert not proto.metadata_props
        assert not any(tensor.external_data for tensor in proto.graph.initializer)
        read = set(onnx_names(proto.graph))
        assert all(tensor.name in read for tensor in proto.graph.initializer)
        assert not any(node.op_type in {"Identity", "Constant"} for node in proto.graph.node)


def onnx_names(graph: onnx.GraphProto) -> Any:
    for node in graph.node:
        yield from node.input
        for attribute in node.attribute:
            yield from onnx_names(attribute.g)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"reads": "last_step"}, {"Transpose": 1, "LSTM": 1, "Squeeze": 1, "Gemm": 1}),
        (
            {"reads": "last_step", "num_layers": 2},
            {"Transpose": 1, "LSTM": 2, "Squeeze": 2, "Gemm": 1, "Split": 2, "Concat": 2},
        ),
    ],
)
def test_graph_around_fused_layers_holds_nothing_superfluous(
    exported: Any, options: dict[str, Any], expected: dict[str, int]
) -> None:
    graph = exported(SequenceModel(12, 16, 9, **options).eval())

    assert Counter(expected) == graph.operators
    assert graph.largest_difference() < 2e-6


def test_example_of_one_row_and_one_step_would_give_the_same_graph() -> None:
    exportable = prepare(make(0))
    expected = export_onnx(exportable)

    class Other:
        def __getattr__(self, name: str) -> Any:
            return getattr(exportable, name)

        def example(self) -> Any:
            return exportable.example(4, 9)

    assert expected == export_onnx(Other())


def signature_of(exportable: Any, **changes: Any) -> Any:
    from dataclasses import replace

    return replace(exportable.signature, **changes)


def test_graph_that_is_not_as_the_signature_says_is_refused() -> None:
    from dataclasses import replace

    exportable = prepare(make(2))
    proto = onnx.load_from_string(export_onnx(exportable))
    signature = exportable.signature
    narrow = replace(signature.outputs[0], shape=("B", "T", 4))
    flat = replace(signature.outputs[0], shape=("B", 3))

    for outputs, complaint in (
        ((narrow, *signature.outputs[1:]), "y has 3 in the graph where 4 was expected"),
        ((flat, *signature.outputs[1:]), "y has rank 3 in the graph, expected 2"),
        (signature.outputs[:1], "the graph has .* expected"),
    ):
        with pytest.raises(ExportError, match=complaint):
            onnx_graph.name_axes(proto, replace(signature, outputs=outputs))
    proto.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 5
    with pytest.raises(FrozenAxisError, match="y has axis T frozen to 5"):
        onnx_graph.name_axes(proto, signature)


class Unsaid(nn.Module):
    """Holds an operation that ONNX has no word for, or not for three axes."""

    def __init__(self, after: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.rnn = nn.LSTM(4, 5, batch_first=True)
        self.after = after

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.after(self.rnn(x)[0])


@pytest.mark.parametrize(
    ("after", "said"),
    [
        pytest.param(torch.special.bessel_j0, r"computes torch\.special\.bessel_j0 at test_onnx", id="no-word"),
        pytest.param(
            lambda y: scaled_dot_product_attention(*3 * [y[:, None, None]])[:, 0, 0], "only 4D query", id="five-axes"
        ),
    ],
)
def test_operation_that_onnx_cannot_say_is_refused_in_one_sentence(
    after: Callable[[torch.Tensor], torch.Tensor], said: str
) -> None:
    with pytest.raises(ExportError, match=f"could not be said in ONNX: .*{said}") as caught:
        export_onnx(prepare(Unsaid(after)))

    assert str(caught.value).isprintable()
