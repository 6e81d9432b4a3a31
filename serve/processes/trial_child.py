"""The process in which a bundle is tried before an engine that serves opens it, for a runtime can die of a bundle.

    python -m cellgate.serve.processes.trial_child    started by `trial`, see `child_border`

    {"doing": ...}          what is begun with the bundle, as a clause after "while"
    {"survived": figures}   all of it was done, and what was open is closed; what was measured, for the engine, or
                            null; or why not, as any child says

Rules of this file: it does with the bundle all that the engine would do, by the same functions, and serves nobody.
"""

import fcntl
import os
import select
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from ..engine.models import open_engine_model
from ..models.served_model import BundlePlace, ServedBundle, read_served_bundle
from ..observe.operation_log import operation_logging
from .child_border import ChildBorder, child_main, settings_of

_FIRST_TO_GO: Final = b"1000"  # the most that proc(5) knows
_NICENESS: Final = 5  # an engine that serves has three times the share of a CPU that both want


def try_bundle(border: ChildBorder, config: dict[str, Any]) -> None:
    """Open a bundle as an engine does, prove it, measure it and close it; report what is begun, and that it survived.

    Raises:
        BundleError, ServerStartError: as `open_engine_model`.
        EOFError: whoever started this process is gone.
    """
    _end_with(border.lifeline)
    settings = settings_of(config)
    path, name, digest = config["place"]

    def tell(_read: ServedBundle, doing: str) -> None:
        border.report({"doing": doing})

    with operation_logging(settings.log_format, "trial"):
        read = read_served_bundle(BundlePlace(Path(path), name, digest))
        model = open_engine_model(read, settings, tell)
        tell(read, "its runtime was closed")
        model.runtime.close()
        measured = model.measured
        border.report({"survived": None if measured is None else measured.figures()})


def _end_with(lifeline: int) -> None:
    """Let the kernel end this process with its parent: in the runtime no line of Python may run for a long while.

    The kernel sends SIGIO when the pipe's other end is closed, and nobody handles it here. Source: fcntl(2).
    """
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([lifeline], [], [], 0)[0]:  # it was closed before
        raise EOFError


def _go_first() -> None:
    """Where memory runs out, let the kernel end this process and not the engine; and leave the CPU to those who serve.

    Source: proc(5), oom_score_adj.
    """
    with suppress(OSError):  # not every container shows it
        Path("/proc/self/oom_score_adj").write_bytes(_FIRST_TO_GO)
    os.nice(_NICENESS)


def main() -> int:
    """Run this process."""
    _go_first()
    return child_main(try_bundle)


if __name__ == "__main__":
    sys.exit(main())
