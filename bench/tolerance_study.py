"""How much of its tolerance a right network uses, and how far above it the smallest realistic defects come out.

    python bench/tolerance_study.py [--drift-steps 2000] [--only TEXT] [--json]

For each network, over the whole grid of cases (export/proof/cases.py): the largest error as a share of what is allowed,
over all outputs that are bounded. Up to 1 passes. The first columns are right implementations; the rest are wrong ones,
whose share must be above 1:

    half, TF32      the graph under onnxruntime with every weight rounded to float16; cut to the bits that TF32 reads
    step            the graph under onnxruntime, its last step left out wherever there is more than one
    head, bias      eager with one head weight off by 0.001; with one value of the head's bias zeroed
    recurrent       eager with one recurrent weight of a forget (or update) gate off by 0.001
    tanh            eager with tanh looked up in a table and interpolated, 0.0001 exact
    gates           eager with the first two gates of the first cell exchanged

What a share below 1 there means is said in docs/equivalence.md.
"""

import argparse
import copy
import json
import math
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, numpy_helper
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.overrides import TorchFunctionMode

import cellgate  # noqa: F401 - switches onnxruntime's telemetry off before its import
from cellgate.bundle.manifest import GraphSignature, SessionOptions
from cellgate.export.exportable import prepare
from cellgate.export.graph.onnx_graph import export_onnx
from cellgate.export.proof.cases import Case, grid, make_inputs
from cellgate.export.proof.compare import Array, measure
from cellgate.export.proof.graph_legs import RuntimeLeg
from cellgate.export.proof.oracle import Oracle, Truth
from cellgate.export.proof.torch_legs import ControlLeg, house_arguments, named
from cellgate.model import SequenceModel

Run = Callable[[Mapping[str, Array]], dict[str, Array]]
# Run as long as the grid does by default, since that is where long memory shows; the others are kept shorter.
LONGEST: Final = ("LSTM 8, forget +12", "LSTM 8, forget +17")
LONG_STEPS: Final = 10_000

# (I, H, O), what SequenceModel is told beside them, what is added to the forget gate's bias, factor of the weights.
NETWORKS: Final[tuple[tuple[str, tuple[int, int, int], dict[str, Any], float, float], ...]] = (
    ("LSTM 1", (1, 1, 1), {}, 0, 1),
    ("LSTM 5", (3, 5, 7), {}, 0, 1),
    ("LSTM 33 last", (6, 33, 4), {"reads": "last_step"}, 0, 1),
    ("LSTM 33 mean", (6, 33, 4), {"reads": "mean"}, 0, 1),
    ("LSTM 128 max", (12, 128, 4), {"reads": "max"}, 0, 1),
    ("LSTM 16, 3 layers", (6, 16, 4), {"num_layers": 3}, 0, 1),
    ("LSTM 12, 2 layers, both ways", (6, 12, 4), {"num_layers": 2, "bidirectional": True}, 0, 1),
    ("LSTM 24, tokens", (40, 24, 4), {"front": "embedding", "front_dim": 8, "reads": "last_step"}, 0, 1),
    ("LSTM 24, forget +3", (6, 24, 4), {}, 3, 1),
    ("LSTM 8, forget +12", (4, 8, 3), {}, 12, 1),
    ("LSTM 8, forget +17", (4, 8, 3), {}, 17, 1),
    ("LSTM 24, weights x4", (6, 24, 4), {}, 0, 4),
    ("LSTM 24, weights x16", (6, 24, 4), {}, 0, 16),
    ("GRU 1", (1, 1, 1), {"cell": "GRUCell"}, 0, 1),
    ("GRU 33", (6, 33, 4), {"cell": "GRUCell"}, 0, 1),
    ("GRU 16, both ways, mean", (6, 16, 4), {"cell": "GRUCell", "bidirectional": True, "reads": "mean"}, 0, 1),
    ("GRU 24, update +12", (6, 24, 4), {"cell": "GRUCell"}, 12, 1),
    ("GRU 24, weights x4", (6, 24, 4), {"cell": "GRUCell"}, 0, 4),
    ("peephole 5", (3, 5, 2), {"cell": "PeepholeLSTMCell"}, 0, 1),
    ("peephole 24, max, forget +3", (6, 24, 4), {"cell": "PeepholeLSTMCell", "reads": "max"}, 3, 1),
    ("coupled 24", (6, 24, 4), {"cell": "CoupledLSTMCell"}, 0, 1),
    ("normalised 16", (6, 16, 4), {"cell": "LayerNormLSTMCell"}, 0, 1),
    ("projected 32 to 12", (6, 32, 4), {"cell": "ProjectedLSTMCell", "projection_dim": 12}, 0, 1),
)
RIGHT: Final = ("eager", "torch.nn", "onnxruntime")


def make_network(widths: tuple[int, int, int], told: dict[str, Any], forget: float, factor: float) -> SequenceModel:
    """Return a network with the usual random weights times ``factor``, its forget gates' bias raised by ``forget``."""
    torch.manual_seed(0)
    network = SequenceModel(*widths, **told).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(factor)
        for name, parameter in network.named_parameters():
            if name.endswith("cell.input_layer.bias") and forget:
                parameter[widths[1] : 2 * widths[1]] += forget  # second block: forget gate, update gate of a GRU
    return network


def with_weights(network: SequenceModel, change: Callable[[dict[str, Tensor]], None]) -> SequenceModel:
    """Return a copy whose parameters, by name, ``change`` has changed."""
    changed = copy.deepcopy(network)
    with torch.no_grad():
        change(dict(changed.named_parameters()))
    return changed


def _head_off(weights: dict[str, Tensor]) -> None:
    weights["head.weight"].view(-1)[weights["head.weight"].numel() // 2] += 1e-3


def _bias_zeroed(weights: dict[str, Tensor]) -> None:
    weights["head.bias"][0] = 0.0


def _recurrent_off(weights: dict[str, Tensor]) -> None:
    weight = weights["stacks.0.layers.0.cell.hidden_layer.weight"]
    weight.view(-1)[weight.numel() // 3] += 1e-3  # in the second block, whether there are three or four


def _gates_exchanged(weights: dict[str, Tensor]) -> None:
    first = "stacks.0.layers.0.cell."
    blocks = 3 if weights[first + "hidden_layer.weight"].shape[0] % 4 else 4
    for name in ("input_layer.weight", "hidden_layer.weight", "input_layer.bias", "hidden_layer.bias"):
        if first + name in weights:
            weight = weights[first + name]
            width = weight.shape[0] // blocks
            weight[: 2 * width] = weight[: 2 * width].roll(width, 0)


class TableTanh(TorchFunctionMode):
    """Looks tanh up in a table: h^2 / 8 * max |tanh''| = h^2 / 8 * 0.77 = 1e-4 for steps h of 0.032."""

    _at: Final = np.linspace(-10.0, 10.0, 625)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run what torch is asked for, tanh otherwise than it would."""
        if func is torch.tanh:
            return torch.from_numpy(np.interp(args[0].numpy(), self._at, np.tanh(self._at)).astype(np.float32))
        return func(*args, **(kwargs or {}))


def eager(network: SequenceModel, signature: GraphSignature) -> Run:
    """Return the network as PyTorch runs it."""

    def run(inputs: Mapping[str, Array]) -> dict[str, Array]:
        with torch.no_grad():
            y, final = network(*house_arguments(inputs, signature))
        return named([y, *final], signature)

    return run


def _with_table(run: Run) -> Run:
    def other(inputs: Mapping[str, Array]) -> dict[str, Array]:
        with TableTanh():
            return run(inputs)

    return other


def _one_step_too_few(run: Run, signature: GraphSignature) -> Run:
    def other(inputs: Mapping[str, Array]) -> dict[str, Array]:
        sequence = inputs[signature.sequence]
        steps = max(sequence.shape[1] - 1, 1)
        assert signature.lengths is not None
        lengths = np.minimum(inputs[signature.lengths], steps)  # type: ignore[call-overload]
        outputs = run({**inputs, signature.sequence: sequence[:, :steps], signature.lengths: lengths})
        if "T" in signature.outputs[0].shape and steps < sequence.shape[1]:
            outputs["y"] = np.pad(outputs["y"], ((0, 0), (0, 1), (0, 0)))  # type: ignore[type-var]
        return outputs

    return other


def to_half(array: Array) -> Array:
    """Round to float16, halves to even."""
    return array.astype(np.float16).astype(np.float32)


def to_tf32(array: Array) -> Array:
    """Keep the 10 bits behind the point that tensor cores read of a float32."""
    return (np.ascontiguousarray(array, dtype=np.float32).view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32)


def with_initializers(model: bytes, change: Callable[[Array], Array]) -> bytes:
    """Return the graph with every float32 weight changed."""
    proto = onnx.load_from_string(model)
    for tensor in proto.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            changed = change(numpy_helper.to_array(tensor))
            tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(changed), tensor.name))
    return bytes(proto.SerializeToString())


def candidates(network: SequenceModel) -> tuple[Oracle, GraphSignature, dict[str, Run]]:
    """Return who judges, the signature, and every implementation, right and wrong, by its column."""
    exportable = prepare(network)
    signature, model = exportable.signature, export_onnx(exportable)

    def served(graph: bytes) -> Run:
        return RuntimeLeg(graph, signature, SessionOptions(), threads=1).run

    def changed(change: Callable[[dict[str, Tensor]], None]) -> Run:
        return eager(with_weights(network, change), signature)

    runs = {"eager": eager(network, signature)}
    control = ControlLeg(exportable)
    if not control.complaint:
        runs["torch.nn"] = control.run
    runs |= {
        "onnxruntime": served(model),
        "half": served(with_initializers(model, to_half)),
        "TF32": served(with_initializers(model, to_tf32)),
        "step": _one_step_too_few(served(model), signature),
        "head": changed(_head_off),
        "bias": changed(_bias_zeroed),
        "recurrent": changed(_recurrent_off),
        "tanh": _with_table(eager(network, signature)),
        "gates": changed(_gates_exchanged),
    }
    return Oracle(exportable), signature, runs


def largest_share(outputs: Mapping[str, Array], truth: Truth) -> float:
    """Return the largest error as a share of what is allowed, over all outputs that are bounded; inf if not finite."""
    shares = [0.0]
    for name, expected in truth.outputs.items():
        difference = measure(outputs[name], expected, truth.tolerances[name])
        if name not in truth.sensitive or not math.isfinite(difference.max_abs):
            shares.append(difference.max_abs / difference.tolerance)
    return max(shares)


def study(name: str, network: SequenceModel, drift_steps: int) -> dict[str, Any]:
    """Run every candidate over the grid and return its largest share and the case where that was."""
    oracle, signature, runs = candidates(network)
    shares, places = dict.fromkeys(runs, 0.0), dict.fromkeys(runs, "")
    sensitive: list[str] = []
    cases: tuple[Case, ...] = grid(signature, drift_steps=drift_steps)
    for case in cases:
        inputs = make_inputs(case, signature)
        truth = oracle.truth(inputs)
        if truth.sensitive:
            sensitive.append(f"{case.id}: {', '.join(sorted(truth.sensitive))}")
        for column, run in runs.items():
            share = largest_share(run(inputs), truth)
            if share > shares[column]:
                shares[column], places[column] = share, case.id
    return {
        "network": name,
        "drift_steps": drift_steps,
        "shares": shares,
        "cases": places,
        "sensitive": sensitive,
        "grid": len(cases),
    }


def show(rows: list[dict[str, Any]]) -> None:
    """Print the table: what is right in green up to a half, what is wrong and not found in red."""
    columns = max((list(row["shares"]) for row in rows), key=len)
    table = Table("network", "steps", *columns, "sensitive")
    for row in rows:
        cells = []
        for column in columns:
            share = row["shares"].get(column)
            good = share is None or (share <= 0.5 if column in RIGHT else share > 1.0)
            text = "-" if share is None else f"{share:.2f}" if share < 9.995 else f"{share:.0f}"
            cells.append(text if good else f"[red]{text}[/red]")
        sensitive = f"{len(row['sensitive'])} of {row['grid']}" if row["sensitive"] else ""
        table.add_row(row["network"], str(row["drift_steps"]), *cells, sensitive)
    Console(width=180).print(table)


def main() -> None:
    """Study every network and print the table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--drift-steps", type=int, default=2000, help="steps of the longest case (default 2000)")
    parser.add_argument("--only", default="", help="networks whose name holds this text")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for name, widths, told, forget, factor in NETWORKS:
        if arguments.only in name:
            steps = max(arguments.drift_steps, LONG_STEPS) if name in LONGEST else arguments.drift_steps
            rows.append(study(name, make_network(widths, told, forget, factor), steps))
            print(f"{len(rows)} of {len(NETWORKS)}: {name}", file=sys.stderr)
    if arguments.json:
        versions = {"onnxruntime": onnxruntime.__version__, "torch": torch.__version__}
        json.dump({**versions, "rows": rows}, sys.stdout, indent=1)
        return
    show(rows)


if __name__ == "__main__":
    main()
