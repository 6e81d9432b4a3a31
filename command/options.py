"""What each command takes: every option with its unit, range and default.

Rules of this file: light (no torch, no onnxruntime, no numpy, no rich); values are checked as far as argparse can, the
rest is checked where it is used.
"""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, get_args

from ..serve.settings import Device
from .serve_options import add_serve_options

DRIFT_STEPS: Final = 10_000
_MAX_DRIFT_STEPS: Final = 1_000_000
_MAX_THREADS: Final = 1024
READY_TIMEOUT_S: Final = 3
LOAD_TIMEOUT_S: Final = 300
_MAX_TIMEOUT_S: Final = 3600


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """One command: what its help says, and a function that adds its options to a parser."""

    description: str
    examples: str
    add_options: Callable[[argparse.ArgumentParser], None]


def whole_number(low: int, high: int) -> Callable[[str], int]:
    """Return a reader of integers in low .. high for argparse."""

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"expected an integer in {low} .. {high}, found {text!r}")
        return value

    return read


def role(text: str) -> tuple[str, str]:
    """Read ROLE=NAME for argparse."""
    part, sign, name = text.partition("=")
    if not sign or not name or part not in {"sequence", "lengths", "state"}:
        raise argparse.ArgumentTypeError(f"expected sequence=NAME, lengths=NAME or state=NAME, found {text!r}")
    return part, name


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--json", action="store_true", help="print the answer as one JSON document on stdout; default: text for people"
    )


def _add_timeout(parser: argparse.ArgumentParser, default_s: int) -> None:
    parser.add_argument(
        "--timeout",
        type=whole_number(1, _MAX_TIMEOUT_S),
        default=default_s,
        metavar="S",
        help=f"seconds to wait for the answer, 1 .. {_MAX_TIMEOUT_S}; default: {default_s}",
    )


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--device",
        choices=get_args(Device),
        default="auto",
        help="auto: CUDA where it reproduces the golden cases, else the CPU; cuda: that or fail; default: auto",
    )
    parser.add_argument(
        "--tf32",
        action="store_true",
        help="let CUDA round the factors of float32 products to TF32, and take golden cases with 8192 times the "
        "tolerance; default: full float32",
    )


def _add_threads(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--threads",
        type=whole_number(1, _MAX_THREADS),
        metavar="N",
        help=f"threads of onnxruntime inside one run, and of torch where it runs, 1 .. {_MAX_THREADS}; "
        "default: the CPUs this process may use",
    )


def _add_network(parser: argparse.ArgumentParser) -> None:
    """Add what export and verify alike need to make a network of a SOURCE and compare it."""
    parser.add_argument(
        "--weights",
        metavar="FILE",
        help="load these weights into what the factory made: .safetensors, or .pt, .pth, .ckpt (read with "
        "weights_only=True); default: the weights that the factory gave it",
    )
    parser.add_argument(
        "--argument",
        type=role,
        action="append",
        default=[],
        metavar="ROLE=NAME",
        help="which argument of your module's forward is what: sequence=NAME, lengths=NAME, state=NAME (or NAME,NAME); "
        "give it once for each role; default: found by the names",
    )
    parser.add_argument(
        "--input-dim",
        type=whole_number(1, 2**31 - 1),
        metavar="I",
        help="features of one step of your module's input, 1 or more; default: found by trying its layers' widths",
    )
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
    _add_threads(parser)
    _add_json(parser)


def _verify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", metavar="BUNDLE", help="folder of the bundle")
    _add_device(parser)
    _add_threads(parser)
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
    _add_json(parser)


def _inspect(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file",
        metavar="FILE",
        help="a bundle's folder, an .onnx file, or a checkpoint (.safetensors, .pt, .pth, .ckpt)",
    )
    _add_json(parser)


def _predict(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", metavar="BUNDLE", help="folder of the bundle")
    parser.add_argument(
        "--input",
        required=True,
        metavar="FILE",
        help="one sequence [T, I] or several: .npy, .npz (x, lengths, h0, ...), .csv (a row for each step), .json "
        "(nested arrays, or a request as the server takes it), .parquet (a column for each feature; sequence, step)",
    )
    parser.add_argument("--output", metavar="FILE", help="write y there: .npy, .npz or .json; default: only print it")
    parser.add_argument(
        "--with-state",
        action="store_true",
        help="give the final states too, in --json and in an .npz or .json --output; default: y alone",
    )
    parser.add_argument(
        "--normalise",
        action="store_true",
        help="apply the bundle's normalisation to x first; default: x is taken as it is",
    )
    _add_device(parser)
    _add_threads(parser)
    _add_json(parser)


def _ready(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "url",
        metavar="URL",
        nargs="?",
        help="http://HOST:PORT of a server; default: http://127.0.0.1 with the port in CELLGATE_PORT, else 8000",
    )
    _add_timeout(parser, READY_TIMEOUT_S)


def _control(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="of a model, as in its bundle's manifest")
    parser.add_argument(
        "--model-version",
        type=whole_number(1, 2**31 - 1),
        metavar="N",
        help="1 or more; default: load takes the highest that lies there, unload the current one",
    )
    parser.add_argument(
        "--url",
        metavar="URL",
        help="http://HOST:PORT of a server's control listener; default: http://127.0.0.1 with the port in "
        "CELLGATE_CONTROL_PORT, else 8002",
    )
    _add_timeout(parser, LOAD_TIMEOUT_S)


COMMANDS: Final[Mapping[str, Command]] = {
    "export": Command(
        description="Export a recurrent network into a bundle: ONNX and TorchScript with batch and time free,\n"
        "compared with each other and with a float64 reference over a grid of shapes, lengths, states and magnitudes.\n"
        "A bundle that is not equivalent is not written (exit 1). Needs the extra export.",
        examples="  cellgate export network.py:make --weights weights.safetensors --out bundles/mine\n"
        "  cellgate export my.package:Net --argument sequence=x --input-dim 12 --out bundles/net --labels yes,no\n"
        "  cellgate export lstm.pt --out bundles/lstm\n"
        "  cellgate export network.py:make --case B5-T17-ragged      run one case of the comparison alone",
        add_options=_export,
    ),
    "verify": Command(
        description="Check a bundle on this machine: its digests, and its golden cases under onnxruntime on\n"
        "the chosen device (no torch needed). Writes BUNDLE.verified/DEVICE.json. With --source the whole\n"
        "grid of the export runs again against the network (needs the extra export). Exit 1 where the check fails.",
        examples="  cellgate verify bundles/mine\n"
        "  cellgate verify bundles/mine --device cuda\n"
        "  cellgate verify bundles/mine --source network.py:make --weights weights.safetensors --report report",
        add_options=_verify,
    ),
    "inspect": Command(
        description="Say what is in a bundle, an ONNX file or a checkpoint: layers, sizes, parameters, states,\n"
        "operators, whether time is free, and why serving would refuse it. Runs nothing.",
        examples="  cellgate inspect bundles/mine\n"
        "  cellgate inspect model.onnx --json\n"
        "  cellgate inspect weights.safetensors",
        add_options=_inspect,
    ),
    "predict": Command(
        description="Run a bundle on sequences from a file, in this process and with the server's own checks.",
        examples="  cellgate predict bundles/mine --input sequence.npy\n"
        "  cellgate predict bundles/mine --input sequences.json --json\n"
        "  cellgate predict bundles/mine --input steps.parquet --output y.npz --with-state",
        add_options=_predict,
    ),
    "serve": Command(
        description="Serve bundles over HTTP (Open Inference Protocol v2), after this machine reproduced their golden\n"
        "cases. An option overrules its CELLGATE_... variable, which overrules the default.",
        examples="  cellgate serve bundles/mine\n"
        "  cellgate serve one=bundles/mine two=bundles/other --port 8080 --device cpu\n"
        "  CELLGATE_PORT=8080 cellgate serve bundles/mine --access-log",
        add_options=add_serve_options,
    ),
    "ready": Command(
        description="Ask a server whether it takes requests now. Exit 0 where it does, 1 where it does not or is not\n"
        "there: a health check for containers, which need no other program for it.",
        examples="  cellgate ready\n  cellgate ready http://127.0.0.1:8080 --timeout 1",
        add_options=_ready,
    ),
    "load": Command(
        description="Have a running server load a version of a model, which becomes current: no request is lost,\n"
        "no stream is broken. The server was started with --control. Exit 1 where it refuses, with its reason.\n"
        "A key, where it asks for one, is taken from CELLGATE_API_KEY.",
        examples="  cellgate load tagger\n  cellgate load tagger --model-version 1      go back",
        add_options=_control,
    ),
    "unload": Command(
        description="Have a running server take no new requests for a model; streams go on to their end.\n"
        "With a version that was replaced already, close it at once.",
        examples="  cellgate unload tagger\n  cellgate unload tagger --model-version 1",
        add_options=_control,
    ),
}
