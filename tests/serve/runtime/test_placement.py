"""Where nodes run: read from onnxruntime's own records of real graphs, and judged on records made by hand."""

import json
from dataclasses import asdict
from pathlib import Path

import onnxruntime
import pytest

from cellgate.serve.runtime.onnx_runtime import OnnxRuntime
from cellgate.serve.runtime.placement import (
    CPU_PROVIDER,
    CUDA_PROVIDER,
    PlacedNode,
    Placement,
    nodes_of_assignment,
    nodes_of_profile,
    placement_of,
)


class Subgraph:
    """What onnxruntime gives for each assigned node, made by hand."""

    def __init__(self, ep_name, *nodes):
        self.ep_name = ep_name
        self._nodes = nodes

    def get_nodes(self):
        return [type("Node", (), {"op_type": operator, "name": name, "domain": ""})() for operator, name in self._nodes]


def on(provider, *operators):
    return [PlacedNode(operator, f"n{number}", provider) for number, operator in enumerate(operators)]


@pytest.mark.parametrize("kind", ["steps", "last", "tokens"])
def test_record_and_profile_of_a_real_session_tell_the_same(kind, make_network, tmp_path):
    network = make_network(kind)
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC  # the record's moment
    options.enable_profiling = True
    options.profile_file_prefix = str(tmp_path / "profile")
    session = onnxruntime.InferenceSession(network.model()[0], options, providers=[CPU_PROVIDER])
    assigned = placement_of(nodes_of_assignment(session.get_provider_graph_assignment_info()), CPU_PROVIDER)
    for steps in (3, 4):
        session.run(None, network.feeds(2, steps))
    events = json.loads(Path(session.end_profiling()).read_bytes())
    profiled = placement_of(nodes_of_profile(events), CPU_PROVIDER)

    assert assigned == profiled
    assert assigned.elsewhere == ()
    assert dict(assigned.counts)[CPU_PROVIDER] >= 3


def test_runtime_says_where_its_nodes_run(make_network):
    network = make_network("steps")
    made, operators = network.model()

    facts = OnnxRuntime(made, network.signature, network.manifest(operators).session).facts

    assert facts.placement.counts == ((CPU_PROVIDER, 5),)
    assert facts.placement.line() == "5 nodes on CPUExecutionProvider"
    assert facts.precision == "float32"


def test_assignment_of_two_providers_is_read_with_the_bodies_of_scans():
    found = nodes_of_assignment(
        [
            Subgraph(CUDA_PROVIDER, ("Scan", "scan")),
            Subgraph(CUDA_PROVIDER, ("MatMul", "")),
            Subgraph(CPU_PROVIDER, ("Shape", "s")),
        ]
    )

    assert found == [
        PlacedNode("Scan", "scan", CUDA_PROVIDER),
        PlacedNode("MatMul", "", CUDA_PROVIDER),
        PlacedNode("Shape", "s", CPU_PROVIDER),
    ]


@pytest.mark.parametrize(
    "operator", ["LSTM", "GRU", "RNN", "Scan", "Loop", "MatMul", "Gemm", "Tanh", "LayerNormalization"]
)
def test_work_that_cuda_leaves_to_the_cpu_is_misplaced(operator):
    placement = placement_of([*on(CUDA_PROVIDER, "LSTM"), PlacedNode(operator, "left", CPU_PROVIDER)], CUDA_PROVIDER)

    assert placement.misplaced == (f"{operator} left",)


def test_arithmetic_on_shapes_is_listed_and_not_misplaced():
    nodes = [*on(CUDA_PROVIDER, "LSTM", "MatMul", "Transpose"), *on(CPU_PROVIDER, "Shape", "Squeeze", "Range", "Shape")]
    placement = placement_of(nodes, CUDA_PROVIDER)

    assert placement.misplaced == ()
    assert placement.elsewhere == ("Range n2", "Shape n0", "Shape n3", "Squeeze n1")
    assert placement.counts == ((CPU_PROVIDER, 4), (CUDA_PROVIDER, 3))
    assert placement.line() == (
        "4 nodes on CPUExecutionProvider, 3 on CUDAExecutionProvider (Range, Shape, Squeeze elsewhere than asked)"
    )


def test_placement_survives_json():
    placement = placement_of([*on(CUDA_PROVIDER, "LSTM"), *on(CPU_PROVIDER, "Shape")], CUDA_PROVIDER)

    assert Placement.from_plain(json.loads(json.dumps(asdict(placement)))) == placement


def test_a_runtime_that_does_not_tell_is_said_so():
    assert Placement().line() == "nodes by provider are not known, for this onnxruntime does not tell"


def test_profile_passes_over_what_is_no_node_and_counts_a_node_once():
    node = {"cat": "Node", "name": "a_kernel_time", "args": {"op_name": "LSTM", "provider": CUDA_PROVIDER}}
    copy = {"cat": "Node", "name": "m_kernel_time", "args": {"op_name": "MemcpyToHost", "provider": CUDA_PROVIDER}}
    events = [{"cat": "Session", "name": "model_run"}, node, node, {**node, "name": "a_fence_before"}, copy]

    assert nodes_of_profile(events) == [
        PlacedNode("LSTM", "a", CUDA_PROVIDER),
        PlacedNode("MemcpyToHost", "m", CUDA_PROVIDER),
    ]
