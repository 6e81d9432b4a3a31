"""A child as the supervisor holds it: started with a configuration, heard through its reports, ended.

Rules of this file: standard library only; nothing here waits for more than the moment between a process's last word
and its end; what is written to a child fits into its pipe at once (`config_line`). A child's death is seen as the end
of its reports: only the child holds that pipe's other side.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from typing import Any, Final

from .config_line import config_line

_END_S: Final = 5.0  # from the end of the reports to that of the process
_MOST_REPORT_BYTES: Final = 2**26
# gRPC's core writes a line to stderr for each call with which a client does wrong; whoever wants to read it says so.
_ENVIRON: Final = {"GRPC_VERBOSITY": "NONE"}


class ChildProcess:
    """A running child.

    Args:
        module: run as `python -m MODULE`.
        config: JSON value, which it reads first; see `config_line`.
        files: numbers of files that it inherits under the same numbers.

    Raises:
        OSError: the process cannot be started, or its configuration is too long; nothing is left.
    """

    def __init__(self, module: str, config: Any, files: Sequence[int]) -> None:
        line, file = config_line(config)
        with ExitStack() as opened:
            if file is not None:
                opened.callback(os.close, file)
            self._process = _start(module, files if file is None else (*files, file))
        self._received = b""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # its end is seen at its reports
            self._process.stdin.write(line)

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    @property
    def reports(self) -> int:
        """The file to wait for: readable when it said something or ended."""
        assert self._process.stdout is not None
        return self._process.stdout.fileno()

    def read_reports(self) -> list[dict[str, Any]] | None:
        """Return what it said, after `reports` was readable; None where it ended."""
        chunk = os.read(self.reports, 2**16)
        if not chunk or len(self._received) > _MOST_REPORT_BYTES:
            return None
        *lines, self._received = (self._received + chunk).split(b"\n")
        return [json.loads(line) for line in lines]

    def terminate(self) -> None:
        """Ask it to stop in order."""
        self._process.terminate()

    def read_keys(self) -> None:
        """Ask it to read its files of keys and of TLS again."""
        self._process.send_signal(signal.SIGHUP)

    def kill(self) -> None:
        """End it now."""
        self._process.kill()

    def reap(self) -> int:
        """Wait for its end, which is due, close its pipes and return its exit status, or minus its signal."""
        try:
            status = self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        return status


def _start(module: str, files: Sequence[int]) -> subprocess.Popen[bytes]:
    warnings = [f"-W{option}" for option in sys.warnoptions]
    # Blocked signals stay blocked in a child: Ctrl+C reaches all processes of a terminal, and only the supervisor is to
    # act on it, even while a child's interpreter is still starting.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return subprocess.Popen(  # noqa: S603 - this interpreter, and a module of this package
            [sys.executable, *warnings, "-P", "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=files,
            env={**_ENVIRON, **os.environ},
            bufsize=0,
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
