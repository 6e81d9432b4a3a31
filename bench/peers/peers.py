"""The servers that are compared, as data: how each is started and how it is spoken to.

Rules of this file: one entry for each; what a server does is in its file under servers/.
"""

import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from wire import Wire

SERVERS: Final = Path(__file__).parent / "servers"
OURS: Final = "cellgate"


@dataclass(frozen=True, kw_only=True, slots=True)
class Peer:
    """One server.

    Attributes:
        name: also the name of its requirements file; cellgate has none and runs in this interpreter's environment.
        title: for the table.
        package: whose version is told.
        wire: how it is spoken to.
        command: (folder of its environment's programs, bundle, port) -> what to run.
        environ: variables that it wants besides PEER_MODEL and PEER_PORT; ``{scratch}`` is a folder of the run's own.
        stop: the signal that ends it in order.
    """

    name: str
    title: str
    package: str
    wire: Wire
    command: Callable[[Path, Path, int], list[str]]
    environ: Mapping[str, str] = field(default_factory=dict)
    stop: signal.Signals = signal.SIGTERM


def _script(name: str, *arguments: str) -> Callable[[Path, Path, int], list[str]]:
    """Return a command that runs a file of servers/; ``{port}`` in an argument is replaced."""

    def command(programs: Path, _bundle: Path, port: int) -> list[str]:
        filled = [argument.format(port=port) for argument in arguments]
        return [str(programs / "python"), str(SERVERS / name), *filled]

    return command


def _program(name: str, *arguments: str) -> Callable[[Path, Path, int], list[str]]:
    """Return a command that runs a program of the environment; ``{port}`` and ``{servers}`` are replaced."""

    def command(programs: Path, _bundle: Path, port: int) -> list[str]:
        return [str(programs / name), *(argument.format(port=port, servers=SERVERS) for argument in arguments)]

    return command


def _cellgate(_programs: Path, bundle: Path, port: int) -> list[str]:
    words = ["serve", str(bundle), "--port", str(port), "--no-grpc", "--device", "cpu"]
    return [sys.executable, "-m", "cellgate", *words]


PEERS: Final[Mapping[str, Peer]] = {
    peer.name: peer
    for peer in (
        Peer(
            name=OURS,
            title="cellgate",
            package="cellgate",
            wire=Wire(kind="open_inference", path="/v2/models/{name}/infer"),
            command=_cellgate,
        ),
        Peer(
            name="mosec",
            title="mosec, batches of 8, 2 ms",
            package="mosec",
            wire=Wire(kind="raw", path="/inference"),
            command=_script("mosec_app.py", "--address", "127.0.0.1", "--port", "{port}"),
        ),
        Peer(
            name="triton",
            title="Triton, Python backend, dynamic batches of 8, 2 ms",
            package="nvidia-pytriton",
            wire=Wire(kind="open_inference", path="/v2/models/speaker/infer"),
            command=_script("triton_server.py"),
        ),
        Peer(
            name="fastapi",
            title="FastAPI by hand, raw bytes, one at a time",
            package="fastapi",
            wire=Wire(kind="raw", path="/predict"),
            command=_program(
                "uvicorn", "fastapi_app:app", "--app-dir", "{servers}", "--port", "{port}", "--no-access-log"
            ),
        ),
        Peer(
            name="litserve",
            title="LitServe, base64 in JSON, batches of 8, 2 ms",
            package="litserve",
            wire=Wire(kind="base64", path="/predict"),
            command=_script("litserve_app.py"),
            stop=signal.SIGINT,  # on SIGTERM its workers stay
        ),
        Peer(
            name="bentoml",
            title="BentoML, base64 in JSON, adaptive batches up to 8",
            package="bentoml",
            wire=Wire(kind="base64_list", path="/predict"),
            command=_program(
                "bentoml", "serve", "bentoml_app:Speaker", "--working-dir", "{servers}", "--port", "{port}"
            ),
            environ={"BENTOML_DO_NOT_TRACK": "true"},
        ),
        Peer(
            name="ray",
            title="Ray Serve with HAProxy, raw bytes, batches of 8, 2 ms",
            package="ray",
            wire=Wire(kind="raw", path="/predict"),
            command=_script("ray_app.py"),
            # What its makers recommend for throughput: with its proxy in Python it answers a fifth as many.
            environ={
                "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
                "RAY_SERVE_ENABLE_HA_PROXY": "1",
                "RAY_SERVE_HAPROXY_NBTHREAD": "1",
                # Short, for the path of a Unix socket is bounded.
                "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": "{scratch}/h/haproxy.cfg",
                "RAY_SERVE_HAPROXY_SOCKET_PATH": "{scratch}/h/admin.sock",
                "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": "{scratch}/h/metrics.sock",
                "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": "{scratch}/h",
                "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": "{scratch}/h/state",
                "RAY_USAGE_STATS_ENABLED": "0",
            },
        ),
    )
}
