"""A server's life: started on its core, waited for until it answers right, stopped with all that it started.

Every process of a server carries a mark in its environment, which its children inherit, even those that leave its
process group: so that all of them are found in /proc, stopped, and only they. Linux only, as is pinning.
"""

import os
import re
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from peers import Peer

_MARK: Final = "PEER_RUN"
_START_S: Final = 120.0
_STOP_S: Final = 20.0
_FOLDERS: Final = re.compile(r"/(?:[\w.+@-]+/)+")


class ServerError(Exception):
    """A server did not start, does not answer or answers wrongly; one line that says why."""


@contextmanager
def running(
    peer: Peer, programs: Path, bundle: Path, core: int, answers: Callable[[int], str | None]
) -> Iterator[tuple[int, list[str]]]:
    """Start the server on a core and stop it at the end.

    Args:
        peer: see there.
        programs: folder of its environment's programs.
        bundle: what to serve; the peers take its model.onnx.
        core: CPU for it and all its children.
        answers: (port) -> None where it answers right, else what is wrong.

    Yields:
        (port, remarks): remarks is filled at the end, with what the server left running when it was told to stop.

    Raises:
        ServerError: see there.
    """
    mark, port, remarks = uuid.uuid4().hex, _free_port(), list[str]()
    with tempfile.TemporaryDirectory(prefix="peer-") as scratch:
        log = Path(scratch) / "log"
        environ = _environ(peer, programs, bundle, port, scratch) | {_MARK: mark}
        command = ["taskset", "--cpu-list", str(core), *peer.command(programs, bundle, port)]
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, cwd=scratch, env=environ
            )
        try:
            _wait_until_right(process, port, answers, log)
            yield port, remarks
        finally:
            remarks += _stop(process, peer.stop, mark)


def _environ(peer: Peer, programs: Path, bundle: Path, port: int, scratch: str) -> dict[str, str]:
    """Return a small environment: what the servers need, nothing of the session's."""
    return {
        "PATH": f"{programs}:{os.environ.get('PATH', os.defpath)}",
        "HOME": os.environ.get("HOME", "/"),
        "LANG": "C.UTF-8",
        "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": str(Path(__file__).parent / "servers"),
        "PEER_MODEL": str(bundle / "model.onnx"),
        "PEER_PORT": str(port),
        "TMPDIR": scratch,
        **{name: value.format(scratch=scratch) for name, value in peer.environ.items()},
    }


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _wait_until_right(
    process: subprocess.Popen[bytes], port: int, answers: Callable[[int], str | None], log: Path
) -> None:
    limit = time.monotonic() + _START_S
    wrong: str | None = "nothing listens"
    while time.monotonic() < limit:
        if process.poll() is not None:
            raise ServerError(f"ended with status {process.returncode} before it answered: {_last_line(log)}")
        wrong = answers(port)
        if wrong is None:
            return
        time.sleep(0.1)
    raise ServerError(f"no right answer in {_START_S:.0f} s: {wrong}; its last line: {_last_line(log)}")


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    # The table is published: folders of this machine are no part of it.
    return _FOLDERS.sub("…/", lines[-1])[:300] if lines else "it said nothing"


def _stop(process: subprocess.Popen[bytes], way: signal.Signals, mark: str) -> list[str]:
    """End every process of the server; return what it did not end by itself."""
    process.send_signal(way)
    left = _wait_for_end(process, mark)
    if not left:
        return []
    for force in (signal.SIGTERM, signal.SIGKILL):
        for number in _marked(mark):
            with suppress(ProcessLookupError):
                os.kill(number, force)
        if not _wait_for_end(process, mark):
            break
    return [f"{len(left)} of its processes still ran {_STOP_S:.0f} s after {way.name} and were killed"]


def _wait_for_end(process: subprocess.Popen[bytes], mark: str) -> list[int]:
    limit = time.monotonic() + _STOP_S
    while time.monotonic() < limit:
        process.poll()  # or it stays as a zombie
        if not (left := _marked(mark)):
            return []
        time.sleep(0.1)
    return left


def _marked(mark: str) -> list[int]:
    """Return the processes that carry the mark, zombies aside (their environment is empty)."""
    wanted, found = f"{_MARK}={mark}".encode(), []
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with suppress(OSError):
                if wanted in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
    return found
