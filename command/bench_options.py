"""The options of `cellgate bench`: what is sent, how, how long, and where the answer goes.

Rules of this file: light, as common_options.py; an option that was not given is None, for some fit a server only and
some a bundle only. What an option means for lengths is lengths.py's, which is loaded later: it needs numpy.
"""

import argparse
from collections.abc import Callable
from typing import Final, get_args

from ..serve.settings import RANGES, Device
from .common_options import Command, add_json, whole_number

URL_ONLY: Final = (
    "model",
    "rows",
    "connections",
    "rate",
    "warm_up",
    "timeout",
    "body",
    "stream_steps",
    "stream_state",
)
BUNDLE_ONLY: Final = ("device", "threads")
_MOST: Final = 10**9
_THREADS: Final = tuple(int(limit) for limit in RANGES["threads"])


def number(low: float, high: float) -> Callable[[str], float]:
    """Return a reader of real numbers in low .. high for argparse."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = low - 1
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"expected a number in {low:g} .. {high:g}, found {text!r}")
        return value

    return read


def _add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "target",
        metavar="URL|BUNDLE",
        help="http://HOST:PORT of a running server, to put it under load; or the folder of a bundle, to see without "
        "any server what this machine can do with it",
    )
    _add_sequences(parser)
    _add_load(parser.add_argument_group("load, for a URL"))
    _add_streams(parser.add_argument_group("streams, for a URL"))
    _add_limit(parser.add_argument_group("engine, for a BUNDLE"))
    parser.add_argument(
        "--plot",
        metavar="FILE",
        help="draw the result there: .svg, or .html with the numbers beside it; needs no network; default: no plot",
    )
    add_json(parser)


def _add_sequences(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--lengths",
        default="medium",
        metavar="HOW",
        help="time steps of each sequence: fixed:N; uniform:LOW-HIGH; lognormal:MEDIAN,SIGMA[,LOW-HIGH] (many short "
        "ones, few long ones; LOW-HIGH clips); file:PATH (one length a line) or file:PATH:COLUMN (of a table with a "
        "header); small is uniform:7-29, medium is lognormal:40,0.8,5-300, large is lognormal:120,0.6,20-500; "
        "default: medium",
    )
    parser.add_argument(
        "--seconds",
        type=number(0.1, 86_400),
        metavar="S",
        help="seconds of measuring, 0.1 .. 86400; a bundle may take somewhat longer; default: 10",
    )
    parser.add_argument(
        "--requests",
        type=whole_number(1, _MOST),
        metavar="N",
        help=f"URL: stop after N requests (streams, with --stream-steps) even if time is left; BUNDLE: measure with N "
        f"sequences; 1 .. {_MOST}; default: as many as the time allows",
    )
    parser.add_argument(
        "--seed",
        type=whole_number(0, 2**31 - 1),
        default=0,
        metavar="N",
        help="of lengths, values and arrivals: equal seeds send equal sequences, 0 or more; default: 0",
    )


def _add_load(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--model", metavar="NAME", help="which model to ask; default: the only one")
    group.add_argument(
        "--connections",
        type=whole_number(1, 65_536),
        metavar="N",
        help="without --rate: requests under way at any moment, the next leaves when an answer arrives; with --rate: "
        "connections at most; 1 .. 65536; default: 32, with --rate 512",
    )
    group.add_argument(
        "--rate",
        type=number(0.001, 1_000_000),
        metavar="R",
        help="open loop: R requests (streams) a second on average, at random moments, whether the server answers or "
        "not; latency counts from the moment a request was due; default: closed loop",
    )
    group.add_argument("--rows", type=whole_number(1, 65_536), metavar="B", help="sequences in a request; default: 1")
    group.add_argument(
        "--warm-up", type=number(0, 3600), metavar="S", help="seconds of load before measuring begins; default: 2"
    )
    group.add_argument(
        "--timeout",
        type=number(0.01, 3600),
        metavar="S",
        help="seconds after which a request without an answer counts as failed; default: 60",
    )
    group.add_argument(
        "--body",
        choices=("binary", "json"),
        help="how numbers are sent: binary tensors, or JSON, which costs the server more; default: binary where the "
        "server says that it takes it",
    )


def _add_streams(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--stream-steps",
        type=whole_number(1, 2**24),
        metavar="K",
        help="send each sequence in parts of K steps, each after the answer to the one before, and count the latency "
        "of each part; default: send sequences whole",
    )
    group.add_argument(
        "--stream-state",
        choices=("client", "server"),
        help="who keeps the network's state between parts: client asks for it and sends it back with the next part, "
        "server names the stream by sequence_id; default: server where the server says that it can, else client",
    )


def _add_limit(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--device",
        choices=get_args(Device),
        help="auto: CUDA where it reproduces the golden cases, else the CPU; cuda: that or fail; default: as served",
    )
    low, high = _THREADS
    group.add_argument(
        "--threads",
        type=whole_number(low, high),
        metavar="N",
        help=f"threads of onnxruntime inside one run, {low} .. {high}; default: as served",
    )


BENCH: Final = Command(
    description="With a URL: send sequences of realistic, unequal lengths to a running server, and tell how long\n"
    "answers take, for short and for long sequences apart, and how many come a second.\n"
    "With a BUNDLE: run it in this process, without HTTP: one sequence at a time, in padded batches, in batches\n"
    "sorted by length, and in the engine's lanes; each beside the floor, the least that the arithmetic takes.\n"
    "A key, where the server asks for one, is taken from CELLGATE_API_KEY, and a certificate that is believed from\n"
    "CELLGATE_TLS_CERT.",
    examples="  cellgate bench http://127.0.0.1:8000                       32 requests under way, as fast as it goes\n"
    "  cellgate bench http://127.0.0.1:8000 --rate 500            500 requests a second, at random moments\n"
    "  cellgate bench http://127.0.0.1:8000 --lengths file:lengths.txt --plot load.html\n"
    "  cellgate bench http://127.0.0.1:8000 --stream-steps 16     sequences in parts of 16 steps\n"
    "  cellgate bench bundles/mine --lengths uniform:7-29         what batching buys for such lengths",
    add_options=_add_options,
)
