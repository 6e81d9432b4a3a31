"""What the commands' options have in common: the record of a command, readers of values, options that several take.

Rules of this file: light (no torch, no onnxruntime, no numpy, no rich); values are checked as far as argparse can, the
rest is checked where it is used.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, get_args

from ..serve.settings import Device

_MAX_THREADS: Final = 1024
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


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add the choice between text for people and one JSON document."""
    parser.add_argument(
        "--json", action="store_true", help="print the answer as one JSON document on stdout; default: text for people"
    )


def add_timeout(parser: argparse.ArgumentParser, default_s: int) -> None:
    """Add how long a server's answer is waited for."""
    parser.add_argument(
        "--timeout",
        type=whole_number(1, _MAX_TIMEOUT_S),
        default=default_s,
        metavar="S",
        help=f"seconds to wait for the answer, 1 .. {_MAX_TIMEOUT_S}; default: {default_s}",
    )


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add the device, and how exact CUDA has to be."""
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
    parser.add_argument(
        "--no-kernels",
        dest="kernels",
        action="store_false",
        help="leave LSTM layers on CUDA to onnxruntime; default: cellgate's own kernels run them where they fit",
    )


def add_threads(parser: argparse.ArgumentParser) -> None:
    """Add the threads of whatever computes."""
    parser.add_argument(
        "--threads",
        type=whole_number(1, _MAX_THREADS),
        metavar="N",
        help=f"threads of onnxruntime inside one run, and of torch where it runs, 1 .. {_MAX_THREADS}; "
        "default: OMP_NUM_THREADS where torch runs, else the CPUs this process may use",
    )
