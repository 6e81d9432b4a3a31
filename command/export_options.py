"""The options of `cellgate export` and `cellgate verify`: a network, what it is called, how it is compared.

Rules of this file: as of `common_options`.
"""

import argparse
from typing import Final

from .common_options import Command, add_device, add_json, add_threads, whole_number

DRIFT_STEPS: Final = 10_000
_MAX_DRIFT_STEPS: Final = 1_000_000
GATE_NAMES: Final = ("input", "forget", "output", "cell")


def role(text: str) -> tuple[str, str]:
    """Read ROLE=NAME for argparse."""
    part, sign, name = text.partition("=")
    if not sign or not name or part not in {"sequence", "lengths", "mask", "state"}:
        raise argparse.ArgumentTypeError(
            f"expected sequence=NAME, lengths=NAME, mask=NAME or state=NAME, found {text!r}"
        )
    return part, name


def gate_order(text: str) -> tuple[str, ...]:
    """Read --gate-order for argparse: the four gates of an LSTM, each once."""
    gates = tuple(part.strip() for part in text.split(","))
    if sorted(gates) != sorted(GATE_NAMES):
        known = ", ".join(GATE_NAMES)
        raise argparse.ArgumentTypeError(f"expected {known}, each once and in any order, found {text!r}")
    return gates


def _add_network(parser: argparse.ArgumentParser) -> None:
    """Add what export and verify alike need to make a network of a SOURCE and compare it."""
    parser.add_argument(
        "--weights",
        metavar="FILE",
        help="load these weights into what the factory made: .safetensors, or .pt, .pth, .ckpt (read with "
        "weights_only=True); default: the weights that the factory gave it",
    )
    parser.add_argument(
        "--gate-order",
        type=gate_order,
        metavar="GATES",
        help="in which your cell's chunk(4, 1) has the gates, as input,forget,output,cell; for a checkpoint of a "
        "hand-written cell given without its class, and required there; default: what the class or the file says",
    )
    _add_forward(parser)
    parser.add_argument(
        "--case",
        metavar="ID",
        help="run one case of the comparison alone, show every implementation, and write nothing; default: all cases",
    )
    parser.add_argument(
        "--drift-steps",
        type=whole_number(3, _MAX_DRIFT_STEPS),
        default=DRIFT_STEPS,
        metavar="N",
        help=f"steps of the longest sequence compared, 3 .. {_MAX_DRIFT_STEPS}; default: {DRIFT_STEPS}",
    )


def _add_forward(parser: argparse.ArgumentParser) -> None:
    """Add what says how a module's forward is called, and what of its answer is y."""
    parser.add_argument(
        "--argument",
        type=role,
        action="append",
        default=[],
        metavar="ROLE=NAME",
        help="which argument of your module's forward is what: sequence=NAME, lengths=NAME, mask=NAME, "
        "state=NAME (or NAME,NAME); give it once for each role; default: found by the names",
    )
    parser.add_argument(
        "--input-dim",
        type=whole_number(1, 2**31 - 1),
        metavar="I",
        help="features of one step of your module's input, or the number of its tokens, 1 or more; default: found by "
        "trying",
    )
    parser.add_argument(
        "--columns",
        metavar="NAME=WIDTH,...",
        help="which arguments of your module's forward are cut out of one x, in the order in which x has them, and how "
        "many columns each has, as x=3,delta=1; behind the width axes (BTI, BT, BI, B), dtype (float32, int64, bool), "
        "how many whole numbers, or abs may be told, as kind=1:BT:int64:10,delta=1:abs (docs/modules.md, "
        "several inputs); default: one argument is x",
    )
    parser.add_argument(
        "--answer",
        metavar="NAME",
        help="which of the tensors that your module's forward returns is y: its key, field or place (from 0 on), those "
        "on the way to it before it with dots (hidden.0); several joined by commas stand side by side; default: the "
        "first",
    )


def _export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="the network: path/to/file.py:factory or package.module:factory (a function or class without arguments "
        "that gives a torch.nn.Module, or the module itself), a checkpoint (.safetensors, .pt, .pth, .ckpt) that says "
        "by itself what it holds, or an .onnx file with the names and free axes of a bundle's graph (docs/bundle.md)",
    )
    parser.add_argument("--out", metavar="BUNDLE", help="folder of the bundle to write; required, except with --case")
    parser.add_argument("--overwrite", action="store_true", help="replace a bundle that is there; default: refuse")
    parser.add_argument(
        "--name", metavar="NAME", help="under which it is served: letters, digits, . _ -; default: the folder's name"
    )
    parser.add_argument(
        "--model-version", type=whole_number(1, 2**31 - 1), default=1, metavar="N", help="1 or more; default: 1"
    )
    _add_network(parser)
    parser.add_argument(
        "--labels",
        metavar="FILE|A,B,C",
        help="names of the O outputs, in order: joined by commas, or a file with a JSON array or one name a line; "
        "default: the weights' metadata (cellgate.labels), else LABELS in the SOURCE's file, else none",
    )
    parser.add_argument(
        "--normalisation",
        metavar="FILE",
        help='JSON file {"mean": [I numbers], "std": [I numbers]}: what callers must do to x beforehand, '
        "(x - mean) / std; default: none",
    )
    parser.add_argument(
        "--float64-gates",
        action="store_true",
        help="compute the gates and states of each step in float64, products in float32: as exact as PyTorch where a "
        "gate near zero meets a large state, and slower (docs/equivalence.md); default: fused operators in float32",
    )
    add_threads(parser)
    add_json(parser)


def _verify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", metavar="BUNDLE", help="folder of the bundle")
    add_device(parser)
    add_threads(parser)
    parser.add_argument(
        "--no-record", action="store_true", help="do not write BUNDLE.verified/DEVICE.json; default: write it"
    )
    parser.add_argument(
        "--source",
        metavar="SOURCE",
        help="compare the bundle's graph with this network over the whole grid again, on the CPU (needs torch; a "
        "factory or checkpoint, as for export); default: run the golden cases stored in the bundle",
    )
    parser.add_argument(
        "--report",
        metavar="DIR",
        help="with --source: write equivalence.json and equivalence.html there; default: write no report",
    )
    _add_network(parser)
    add_json(parser)


EXPORT: Final = Command(
    description="Export a recurrent network into a bundle: ONNX and TorchScript with batch and time free,\n"
    "compared with each other and with a float64 reference over a grid of shapes, lengths, states and magnitudes.\n"
    "A bundle that is not equivalent is not written (exit 1). Needs the extra export.",
    examples="  cellgate export network.py:make --weights weights.safetensors --out bundles/mine\n"
    "  cellgate export my.package:Net --argument sequence=x --input-dim 12 --out bundles/net --labels yes,no\n"
    "  cellgate export lstm.pt --out bundles/lstm\n"
    "  cellgate export network.py:make --case B5-T17-ragged      run one case of the comparison alone",
    add_options=_export,
)

VERIFY: Final = Command(
    description="Check a bundle on this machine: its digests, and its golden cases under onnxruntime on\n"
    "the chosen device (no torch needed). Writes BUNDLE.verified/DEVICE.json. With --source the whole\n"
    "grid of the export runs again against the network (needs the extra export). Exit 1 where the check fails.",
    examples="  cellgate verify bundles/mine\n"
    "  cellgate verify bundles/mine --device cuda\n"
    "  cellgate verify bundles/mine --source network.py:make --weights weights.safetensors --report report",
    add_options=_verify,
)
