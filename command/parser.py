"""The parser: the commands, what all of them share, and how wrong use is told.

Rules of this file: light, for `--help` must answer at once; what a command takes is in options.py.
"""

import argparse
import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Final, NoReturn

from .. import __version__
from ..serve.compiled import is_compiled
from .bench_options import BENCH
from .common_options import Command
from .errors import UsageError
from .help_text import HelpFormatter
from .options import COMMANDS as OTHERS

COMMANDS: Final[Mapping[str, Command]] = {**OTHERS, "bench": BENCH}

_DESCRIPTION: Final = """\
cellgate deploys recurrent networks: from an LSTM or GRU in PyTorch to a verified bundle to a served prediction.

  export   make a bundle of a network: ONNX and TorchScript with batch and time free, verified against float64
  verify   check a bundle on this machine, or once more against the network it came from
  inspect  say what is in a bundle, an ONNX file or a checkpoint
  predict  run a bundle on sequences from a file
  serve    answer for bundles over HTTP and gRPC
  bench    measure a server under load, or what a bundle can reach on this machine
  ready    say by the exit status whether a server takes requests now
  load     have a running server load a version of a model, or go back to one
  unload   have a running server take no new requests for a model
"""

_EPILOG: Final = """\
examples:
  cellgate export network.py:make --weights weights.safetensors --out bundles/mine
  cellgate inspect bundles/mine
  cellgate predict bundles/mine --input sequence.csv
  cellgate serve bundles/mine
  cellgate bench http://127.0.0.1:8000

exit status: 0 done; 1 the check failed (not equivalent, golden cases not reproduced, not ready); 2 wrong use or
unreadable input; 70 a fault of cellgate itself; 130 interrupted. `cellgate COMMAND --help` explains a command and each
of its options.
"""
_DEBUG_HELP: Final = "print a traceback with an error (also CELLGATE_DEBUG=1); default: off"


class Parser(argparse.ArgumentParser):
    """argparse's, which tells wrong use by an exception instead of printing and exiting.

    Attributes:
        commands: the parsers below it, by name.
    """

    def __init__(self, **words: Any) -> None:
        super().__init__(**words)
        self.commands: dict[str, Parser] = {}

    def parse(self, argv: Sequence[str]) -> argparse.Namespace:
        """Return what the whole command line says.

        Raises:
            UsageError: wrong use, told with the help of the command that it is about.
        """
        arguments, left = self.parse_known_args(argv)
        if arguments.command == "serve" and not any(word.startswith("-") for word in left):
            arguments.bundles += left  # those after an option, which argparse leaves lying
        elif left:
            child = self.commands[arguments.command]
            options = re.findall(r"(?<![\w-])--[a-z0-9-]+", child.format_help())
            meant = get_close_matches(next((word for word in left if word.startswith("-")), ""), options, 1)
            hint = f"; is {meant[0]} meant?" if meant else ""
            raise UsageError(f"unrecognized arguments: {' '.join(left)}{hint}; see {child.prog} --help")
        return arguments

    def error(self, message: str) -> NoReturn:
        """Raise UsageError with argparse's message and the remedy."""
        raise UsageError(f"{message}; see {self.prog} --help")


def make_parser() -> Parser:
    """Return the parser of the whole command line."""
    parser = Parser(
        prog="cellgate",
        usage="cellgate COMMAND ...\n       cellgate COMMAND --help\n       cellgate --version",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    version = f"cellgate {__version__}" + (", compiled" if is_compiled() else "")
    parser.add_argument("--version", action="version", version=version)
    parser.add_argument("--debug", action="store_true", help=_DEBUG_HELP)  # before the command, too
    commands = parser.add_subparsers(
        dest="command", metavar="COMMAND", required=True, prog="cellgate", help=argparse.SUPPRESS
    )
    for name, command in COMMANDS.items():
        child = commands.add_parser(
            name,
            description=command.description,
            epilog=f"examples:\n{command.examples}",
            formatter_class=HelpFormatter,
            allow_abbrev=False,
        )
        parser.commands[name] = child
        command.add_options(child)
        child.add_argument("--debug", action="store_true", help=_DEBUG_HELP)
    return parser
