"""How wrong the served graph is beside torch.nn, fused and with --float64-gates, and what the latter costs.

    python bench/control_study.py [--seeds 6] [--only TEXT] [--price]

For each kind of network, over the whole grid of cases (export/proof/cases.py) and some seeds: the largest error of each
output over the control's bound, which is twice that of torch.nn plus one ULP (export/proof/verify.py); the worst seed,
and how many seeds are above 1. With --price instead: microseconds a step of both graphs, medians of interleaved runs on
one thread.
"""

import argparse
import statistics
import time
from typing import Any, Final

import numpy as np
import onnxruntime
import torch

import cellgate  # noqa: F401 - switches onnxruntime's telemetry off before its import
from cellgate.bundle.manifest import SessionOptions
from cellgate.export.exportable import prepare
from cellgate.export.graph.onnx_graph import export_onnx
from cellgate.export.proof.cases import grid, make_inputs
from cellgate.export.proof.compare import measure, ulp
from cellgate.export.proof.graph_legs import RuntimeLeg
from cellgate.export.proof.leg import Leg
from cellgate.export.proof.oracle import Oracle
from cellgate.export.proof.torch_legs import ControlLeg
from cellgate.model import SequenceModel

FORMS: Final = {"fused": False, "float64 gates": True}
# (name, H, what SequenceModel is told beside I = 6 and O = 4)
NETWORKS: Final[tuple[tuple[str, int, dict[str, Any]], ...]] = (
    ("LSTM 1", 1, {}),
    ("LSTM 2", 2, {}),
    ("LSTM 5", 5, {}),
    ("LSTM 5 mean", 5, {"reads": "mean"}),
    ("LSTM 8", 8, {}),
    ("LSTM 33", 33, {}),
    ("LSTM 128", 128, {}),
    ("LSTM 5, both ways", 5, {"bidirectional": True}),
    ("GRU 1", 1, {"cell": "GRUCell"}),
    ("GRU 5", 5, {"cell": "GRUCell"}),
    ("GRU 5, both ways", 5, {"cell": "GRUCell", "bidirectional": True}),
    ("GRU 33", 33, {"cell": "GRUCell"}),
)
DRIFT_STEPS: Final = 100
PRICED: Final = [(H, B) for H in (64, 128, 256) for B in (1, 8, 32)]


def graph_of(network: SequenceModel, *, wide: bool) -> bytes:
    """Return the network's ONNX bytes."""
    return export_onnx(prepare(network, float64_gates=wide))


def control_shares(network: SequenceModel) -> dict[str, dict[str, float]]:
    """Return for each form and output its largest error as a share of the control's bound."""
    exportable = prepare(network)
    signature, oracle = exportable.signature, Oracle(exportable)
    legs: dict[str, Leg] = {"torch.nn": ControlLeg(exportable)}
    for form, wide in FORMS.items():
        legs[form] = RuntimeLeg(graph_of(network, wide=wide), signature, SessionOptions(), threads=1)
    largest: dict[str, dict[str, float]] = {name: {} for name in legs}
    scale: dict[str, float] = {}
    for case in grid(signature, drift_steps=DRIFT_STEPS):
        inputs = make_inputs(case, signature)
        truth = oracle.truth(inputs)
        found = {name: leg.run(inputs) for name, leg in legs.items()}
        for output, exact in truth.outputs.items():
            scale[output] = max(scale.get(output, 0.0), float(np.abs(exact).max()))
            for name in legs if output not in truth.sensitive else ():
                error = measure(found[name][output], exact, 0.0).max_abs
                largest[name][output] = max(largest[name].get(output, 0.0), error)
    bound = {output: 2.0 * error + ulp(scale[output]) for output, error in largest["torch.nn"].items()}
    return {form: {output: largest[form][output] / bound[output] for output in bound} for form in FORMS}


def study(name: str, hidden_dim: int, told: dict[str, Any], seeds: int) -> None:
    """Print one line for each form."""
    rows = []
    for seed in range(seeds):
        torch.manual_seed(seed)
        rows.append(control_shares(SequenceModel(6, hidden_dim, 4, **told).eval()))
    for form in FORMS:
        worst = {output: max(row[form][output] for row in rows) for output in rows[0][form]}
        missed = sum(max(row[form].values()) > 1.0 for row in rows)
        shares = "  ".join(f"{output} {share:.2f}" for output, share in worst.items())
        print(f"{name:18s} {form:14s} {shares}   above 1: {missed} of {seeds}", flush=True)


def price(hidden_dim: int, rows: int, steps: int = 100, repeats: int = 15) -> None:
    """Print microseconds a step of both forms."""
    network = SequenceModel(32, hidden_dim, 4).eval()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    sessions = {
        form: onnxruntime.InferenceSession(graph_of(network, wide=wide), options, providers=["CPUExecutionProvider"])
        for form, wide in FORMS.items()
    }
    state = np.zeros((1, rows, hidden_dim), np.float32)
    x = np.random.default_rng(0).standard_normal((rows, steps, 32), dtype=np.float32)
    feeds = {"x": x, "lengths": np.full(rows, steps, np.int32), "h0": state, "c0": state}
    times: dict[str, list[float]] = {form: [] for form in FORMS}
    for _ in range(repeats):
        for form, session in sessions.items():
            begun = time.perf_counter()
            session.run(None, feeds)
            times[form].append(time.perf_counter() - begun)
    step_us = {form: statistics.median(values) / steps * 1e6 for form, values in times.items()}
    ratio = step_us["float64 gates"] / step_us["fused"]
    print(f"H={hidden_dim} B={rows}", *(f"{form} {us:.1f} us" for form, us in step_us.items()), f"{ratio:.1f} times")


def main() -> None:
    """Study every network, or the price."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=6, help="networks of each kind (default 6)")
    parser.add_argument("--only", default="", help="networks whose name holds this text")
    parser.add_argument("--price", action="store_true", help="time a step instead")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.price:
        for hidden_dim, rows in PRICED:
            price(hidden_dim, rows)
        return
    for name, hidden_dim, told in NETWORKS:
        if arguments.only in name:
            study(name, hidden_dim, told, arguments.seeds)


if __name__ == "__main__":
    main()
