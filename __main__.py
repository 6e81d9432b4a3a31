"""The entry of the command line: arguments and environment in, exit status out."""

import os
import sys
from collections.abc import Sequence

from .command.entry import run


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; see command/entry.py."""
    return run(sys.argv[1:] if argv is None else argv, os.environ)


if __name__ == "__main__":
    sys.exit(main())
