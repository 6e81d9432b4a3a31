"""The export's whole grid on a device: what its provider computes, held against the float64 oracle.

    python bench/gpu/device_grid.py --device cuda --network lstm [--kernels] [--drift-steps 1000]

Opens the graph as the server does (same options, same refusal of misplaced nodes) and prints one JSON document:
verdict, worst comparison, and whether rows and chunks gave the same bits.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import nn

from cellgate.bundle.manifest import GraphSignature, SessionOptions
from cellgate.export.exportable import for_cuda, prepare
from cellgate.export.graph.onnx_graph import export_onnx
from cellgate.export.proof.compare import Array
from cellgate.export.proof.findings import SERVED_LEG
from cellgate.export.proof.oracle import Oracle
from cellgate.export.proof.verify import Contest, VerifyOptions, compare_all
from cellgate.model import SequenceModel
from cellgate.serve.runtime.device_choice import OpenRuntime
from cellgate.serve.runtime.kernel_runtime import open_kernels
from cellgate.serve.runtime.onnx_runtime import OnnxRuntime

# One of each form that a graph takes: fused LSTM and GRU, stacked, both directions, and a Scan.
NETWORKS: Mapping[str, Mapping[str, Any]] = {
    "lstm": {"num_layers": 1},
    "lstm-3-layers": {"num_layers": 3},
    "lstm-both-ways": {"bidirectional": True},
    "gru": {"cell": "GRUCell"},
    "scan": {"cell": "LayerNormLSTMCell"},
    "scan-peepholes": {"cell": "PeepholeLSTMCell"},
    "scan-projected": {"cell": "ProjectedLSTMCell", "projection_dim": 12},
}
_INPUT, _HIDDEN, _OUTPUT = 12, 32, 5


class DeviceLeg:
    """The graph on a device, in the place of the leg that is served."""

    name = SERVED_LEG
    complaint = ""

    def __init__(self, runtime: OpenRuntime) -> None:
        self._runtime = runtime
        self._signature: GraphSignature = runtime.signature
        self.output_names = tuple(spec.name for spec in runtime.signature.outputs)

    def rows_for(self, inputs: Mapping[str, Array]) -> int:
        """All."""
        return len(inputs[self._signature.sequence])

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run the batch as it is."""
        found = self._runtime.run({name: np.ascontiguousarray(array) for name, array in inputs.items()})
        return dict(found)


def check(name: str, device: str, drift_steps: int, *, kernels: bool = False) -> dict[str, Any]:
    """Run the grid of one network on a device, by the project's kernels where they apply, or by onnxruntime alone."""
    torch.manual_seed(0)
    network: nn.Module = SequenceModel(_INPUT, _HIDDEN, _OUTPUT, **NETWORKS[name])
    exportable = prepare(network)
    exportable = for_cuda(exportable) or exportable  # what a bundle gives to CUDA; peepholes have no kernel there
    graph = export_onnx(exportable)
    plain = OnnxRuntime(graph, exportable.signature, SessionOptions(), device=device, threads=1)
    runtime: OpenRuntime = (open_kernels(plain, graph) if kernels else None) or plain
    facts = runtime.facts
    found = {"network": name, "device": facts.device, "provider": facts.provider, "placement": asdict(facts.placement)}
    if facts.device != device or facts.placement.misplaced:
        return {**found, "verdict": "not run: " + (", ".join(facts.placement.misplaced) or f"on {facts.provider}")}
    leg = DeviceLeg(runtime)
    contest = Contest(
        signature=exportable.signature,
        description=exportable.description,
        oracle=Oracle(exportable),
        legs=(leg,),
        served=leg,
        grown=(),
        no_control="not asked",
    )
    report = compare_all(contest, VerifyOptions(drift_steps=drift_steps, threads=1))
    return {
        **found,
        "verdict": report.verdict,
        "cases": len(report.cases),
        "worst": json.loads(report.to_json())["worst"],
        "bitwise_rows": report.is_bitwise("alone", "padding", "order"),
        "bitwise_chunks": report.is_bitwise("chunks"),
    }


def main() -> None:
    """Check one network and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), required=True)
    parser.add_argument("--network", choices=list(NETWORKS), required=True)
    parser.add_argument("--drift-steps", type=int, default=1000)
    parser.add_argument("--kernels", action="store_true", help="with the project's own kernels")
    arguments = parser.parse_args()
    found = check(arguments.network, arguments.device, arguments.drift_steps, kernels=arguments.kernels)
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
