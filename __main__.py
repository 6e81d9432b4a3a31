"""The entry of the command line: arguments and environment in, exit status out."""

import os
import sys
from collections.abc import Sequence

from .command.entry import run


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; see command/entry.py.

    Before torch is imported its OpenMP is told to sleep where its threads wait for more than a moment, unless somebody
    has told it otherwise. By itself it spins, and beside other work two spinning threads made an export of 18 s last
    178 s; sleeping at once costs a sixth on an idle machine, which GNU's thousand turns before it give back.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "passive"
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    return run(sys.argv[1:] if argv is None else argv, os.environ)


if __name__ == "__main__":
    sys.exit(main())
