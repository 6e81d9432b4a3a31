"""What each command takes: every option with its unit, range and default.

Rules of this file: as of `common_options`. Commands with many options have a file of their own: `export_options`,
`serve_options`, `bench_options`.
"""

import argparse
from collections.abc import Mapping
from typing import Final

from .common_options import Command, add_device, add_json, add_threads, add_timeout, whole_number
from .export_options import EXPORT, VERIFY
from .serve_options import add_serve_options

READY_TIMEOUT_S: Final = 3
LOAD_TIMEOUT_S: Final = 300


def _inspect(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file",
        metavar="FILE",
        help="a bundle's folder, an .onnx file, or a checkpoint (.safetensors, .pt, .pth, .ckpt)",
    )
    add_json(parser)


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
    add_device(parser)
    add_threads(parser)
    add_json(parser)


def _ready(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "url",
        metavar="URL",
        nargs="?",
        help="http://HOST:PORT of a server; default: 127.0.0.1 with the port in CELLGATE_PORT, else 8000; https "
        "where CELLGATE_TLS_CERT is set",
    )
    add_timeout(parser, READY_TIMEOUT_S)


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
        help="http://HOST:PORT of a server's control listener; default: 127.0.0.1 with the port in "
        "CELLGATE_CONTROL_PORT, else 8002; https where CELLGATE_TLS_CERT is set",
    )
    add_timeout(parser, LOAD_TIMEOUT_S)


COMMANDS: Final[Mapping[str, Command]] = {
    "export": EXPORT,
    "verify": VERIFY,
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
        description="Serve bundles over HTTP and gRPC (Open Inference Protocol v2), after this machine reproduced\n"
        "their golden cases. An option overrules its CELLGATE_... variable, which overrules the default.",
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
