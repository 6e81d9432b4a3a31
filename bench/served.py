"""A server as its users start it, for the benchmarks that look at it from outside: `cellgate serve`, a real process.

    with serving(bundle, {0}) as server: ...   its processes run on CPU 0, and only there

Rules of this file: nothing of the server's insides; what it says on stdout, /proc, and signals. Linux only.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

HOST: Final = "127.0.0.1"
_LAST_LINE: Final = "stop with Ctrl+C or SIGTERM"
_URL: Final = re.compile(r"OpenAPI page: http://[^:]+:(\d+)/docs")
_RPC: Final = re.compile(r"gRPC: +[^:]+:(\d+),")
_CONTROL: Final = re.compile(r"control: +http://[^:]+:(\d+)/")
_MODEL: Final = re.compile(r"serving (\S+) version")
_LATE_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Server:
    """A running server: its process, its ports (of gRPC and control: 0 for none), first model, temporary folder."""

    process: "subprocess.Popen[str]"
    port: int
    rpc_port: int
    control_port: int
    model: str
    scratch: Path

    @property
    def pids(self) -> dict[int, str]:
        """Its processes and what each of them is."""
        return {self.process.pid: "supervisor", **{pid: role_of(pid) for pid in children_of(self.process.pid)}}

    def terminate(self) -> None:
        """Ask it to stop in order."""
        self.process.send_signal(signal.SIGTERM)


@contextmanager
def serving(
    bundle: str, cpus: Collection[int] | None = None, options: Sequence[str] = (), errors: BinaryIO | None = None
) -> Iterator[Server]:
    """Start a server and wait until it is up; at the end stop it, if nobody has.

    Args:
        bundle: to serve, on ports that are free.
        cpus: for all its processes; None: any.
        options: further ones of `cellgate serve`.
        errors: gets what it writes to stderr; None: our own.
    """
    with tempfile.TemporaryDirectory(prefix="served-") as scratch:
        command = [sys.executable, "-P", "-m", "cellgate", "serve", bundle, "--port", "0", "--device", "cpu", *options]
        if cpus is not None:
            command = ["taskset", "--cpu-list", ",".join(map(str, cpus)), *command]
        environ = {**os.environ, "TMPDIR": scratch}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env=environ, text=True)
        try:
            yield _up(process, Path(scratch))
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            try:
                process.wait(_LATE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            assert process.stdout is not None
            process.stdout.close()


def _up(process: "subprocess.Popen[str]", scratch: Path) -> Server:
    said = ""
    assert process.stdout is not None
    for line in process.stdout:
        said += line
        if line.strip() == _LAST_LINE:
            break
    port, model = _URL.search(said), _MODEL.search(said)
    if port is None or model is None:
        sys.exit(f"the server did not start; it said: {said or 'nothing'}")
    rpc, control = (int(found[1]) if (found := form.search(said)) else 0 for form in (_RPC, _CONTROL))
    return Server(process, int(port[1]), rpc, control, model[1], scratch)


def children_of(pid: int) -> tuple[int, ...]:
    """Return the children of a process; empty where it is gone."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return tuple(int(word) for task in tasks for word in (task / "children").read_text(encoding="ascii").split())
    except OSError:
        return ()


def role_of(pid: int) -> str:
    """Return the last part of the module that a process of a server runs."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return "gone"
    modules = [word.decode().rpartition(".")[2] for word in words if word.startswith(b"cellgate.")]
    return modules[0] if modules else "other"


def resident_mib(pid: int, field: str = "VmRSS") -> float:
    """Return the resident memory of a process, or another field of its status; 0 where it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{field}:")), 0.0)


def cpu_s(pid: int) -> float:
    """Return the CPU time that a process has had; 0 where it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def is_there(pid: int) -> bool:
    """Whether there is a process of this number that has not ended."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def wait_gone(pids: Collection[int], patience_s: float) -> list[int]:
    """Wait until processes have ended; return those that have not in that time."""
    until_s = time.monotonic() + patience_s
    while left := [pid for pid in pids if is_there(pid)]:
        if time.monotonic() >= until_s:
            return left
        time.sleep(0.02)
    return []
