"""The settings of a server: one frozen record, checked when it is made.

Rules of this file: no other file has a default; every number has a range and says its unit. Where the values come from
is not known here: the command line, or the environment (`environment`).
"""

from dataclasses import dataclass
from typing import Any, Literal, get_args

from .gate.authority import parse_hosts, parse_origins
from .gate.open_paths import parse_open_paths
from .infer.request_limits import RequestLimits

Device = Literal["auto", "cpu", "cuda"]
LogFormat = Literal["text", "json"]
PREFIX = "CELLGATE_"

RANGES: dict[str, tuple[float, float]] = {
    "port": (0, 65535),
    "grpc_port": (0, 65535),
    "control_port": (0, 65535),
    "threads": (1, 1024),
    "workers": (1, 64),
    "max_lanes": (1, 4096),
    "run_limit_s": (0.0001, 3600.0),
    "max_waiting": (1, 1_000_000),
    "max_waiting_bytes": (2**20, 2**40),
    "max_body_bytes": (1024, 2**30),
    "max_batch_rows": (1, 65_536),
    "max_steps": (1, 2**24),
    "max_row_steps": (1, 2**28),
    "max_answer_elements": (1, 2**30),
    "keep_alive_s": (0.0, 3600.0),
    "shutdown_grace_s": (0.0, 3600.0),
    "engine_hang_s": (0.0, 86_400.0),
    "trial_limit_s": (0.0, 86_400.0),
    "max_head_bytes": (1024, 2**20),
    "max_headers": (8, 10_000),
    "max_chunks": (1, 2**24),
    "max_json_elements": (1024, 2**27),
    "max_connections": (1, 2**20),
    "head_timeout_s": (0.1, 3600.0),
    "body_timeout_s": (0.1, 3600.0),
    "stream_idle_s": (1.0, 31_536_000.0),
    "stream_tombstone_s": (1.0, 31_536_000.0),
    "max_streams": (1, 100_000_000),
    "max_stream_bytes": (2**16, 2**44),
}

FLAGS = frozenset({"tf32", "kernels", "grpc", "control", "hot_route", "access_log", "metrics"})
STORE_SCHEMES = ("memory", "sqlite:PATH", "redis://HOST", "rediss://HOST", "unix://PATH")
# Lists within one text, and what reads each.
_LISTS = {
    "open_paths": (parse_open_paths, "health, metrics, docs, separated by commas, or none"),
    "allowed_hosts": (parse_hosts, "host names without ports, separated by commas"),
    "cors_origins": (parse_origins, "origins like https://HOST[:PORT], separated by commas"),
}


class SettingsError(ValueError):
    """A setting has a wrong form or lies outside its range. Names the setting, its range, and the value found."""

    def __init__(self, name: str, expected: str, found: object) -> None:
        super().__init__(f"{name} ({PREFIX}{name.upper()}): expected {expected}, found {found!r}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """Everything a server can be told.

    Attributes:
        host: address to listen on; the default is reachable from this machine only.
        port: 0 .. 65535; 0 takes a free one.
        grpc: speak gRPC too, where its package is installed.
        grpc_port: 0 .. 65535; 0 takes a free one; None: the one after `port`, or a free one where that is 0.
        control: take orders to load and unload models, on a port of this machine's own.
        control_port: 0 .. 65535, on 127.0.0.1; 0 takes a free one.
        repository: a folder of bundles that may be loaded; None: those of the command line alone.
        device: auto (CUDA where it reproduces the golden cases, else the CPU), cpu, or cuda (or refuse to start).
        tf32: let CUDA round the factors of float32 products to TF32, and widen the tolerances by as much.
        kernels: let cellgate's own kernels run LSTM layers on CUDA, where they fit and TF32 is not asked for.
        threads: threads of the runtime inside one run; None: one or the CPUs this process may use, whichever is faster.
        workers: processes that hold connections, parse and render; all share one engine and one port.
        max_lanes: sequences that a model advances side by side; a run takes 64 of them at most.
        run_limit_s: longest run that the planner plans, where a sequence can be stopped between steps.
        max_waiting: requests that may be in the engine, running ones included; above, 503.
        max_waiting_bytes: bytes that their tensors may take; above, 503.
        hot_route: answer inference requests short of the ASGI stack, with the same bytes.
        max_body_bytes: longest body; above, 413.
        max_batch_rows: most rows of a request.
        max_steps: most steps of a row.
        max_row_steps: most rows times steps of a request.
        max_answer_elements: most elements of the outputs of a request.
        keep_alive_s: an idle connection is closed after this time.
        shutdown_grace_s: time for running requests to end after SIGTERM.
        engine_hang_s: an engine that begins no turn of its loop for so long is killed and started again; 0: never.
        trial_limit_s: longest trial of a bundle that is loaded, in a process of its own; 0: none is tried.
        access_log: write one JSON line a request to stderr.
        example_request_path: a file with a request body that the start-up curl line sends instead of an inline one.
        metrics: answer GET /metrics, on the same port as all else.
        log_format: of what goes to stderr: text, or one JSON object a line.
        otel_endpoint: URL that takes OpenTelemetry traces over HTTP; None: nothing is traced and nothing sent.
        api_keys_file: a file of keys (`api_keys`); None: nobody is asked for one.
        open_paths: what needs no key where keys are asked for: health, metrics, docs, or none.
        allowed_hosts: names under which the server is reached; None: any from elsewhere, local ones from this machine.
        cors_origins: origins of web pages that may ask and read the answers; None: none but the server's own page.
        tls_cert: a file with the certificate and its chain, PEM; None: no TLS.
        tls_key: a file with its private key, PEM, not encrypted.
        max_head_bytes: longest request line and headers; above, 431.
        max_headers: most headers of a request; above, 431.
        max_chunks: most pieces of a chunked body; above, 413.
        max_json_elements: most values, arrays and objects in the JSON of a request.
        max_connections: open connections of a process; above, 503.
        head_timeout_s: time for a request line and headers to arrive; then 408.
        body_timeout_s: time for a body to arrive, and longest time without progress in reading an answer.
        stream_store: where streams are kept: memory, sqlite:PATH, or the URL of a Redis server.
        state_keys_path: a file of keys with which states that clients carry are signed; None: none are.
        stream_idle_s: a stream that nothing was sent for so long expires.
        stream_tombstone_s: for so long after it ended or expired a stream is told from one that never was.
        max_streams: that live at once, in a store of this server's own; above, 503.
        max_stream_bytes: of their states and last answers there, and of records cached in memory; above, 503.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    grpc: bool = True
    grpc_port: int | None = None
    control: bool = False
    control_port: int = 8002
    repository: str | None = None
    device: Device = "auto"
    tf32: bool = False
    kernels: bool = True
    threads: int | None = None
    workers: int = 1
    max_lanes: int = 64
    run_limit_s: float = 0.004
    max_waiting: int = 512
    max_waiting_bytes: int = 2**28
    hot_route: bool = True
    max_body_bytes: int = 16 * 2**20
    max_batch_rows: int = 1024
    max_steps: int = 65_536
    max_row_steps: int = 2**18
    max_answer_elements: int = 2**23
    keep_alive_s: float = 15.0
    shutdown_grace_s: float = 30.0
    engine_hang_s: float = 60.0
    trial_limit_s: float = 120.0
    access_log: bool = False
    example_request_path: str | None = None
    metrics: bool = True
    log_format: LogFormat = "text"
    otel_endpoint: str | None = None
    api_keys_file: str | None = None
    open_paths: str = "health"
    allowed_hosts: str | None = None
    cors_origins: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    max_head_bytes: int = 2**16
    max_headers: int = 100
    max_chunks: int = 65_536
    max_json_elements: int = 2**21
    max_connections: int = 4096
    head_timeout_s: float = 10.0
    body_timeout_s: float = 60.0
    stream_store: str = "memory"
    state_keys_path: str | None = None
    stream_idle_s: float = 600.0
    stream_tombstone_s: float = 600.0
    max_streams: int = 10_000
    max_stream_bytes: int = 2**28

    def __post_init__(self) -> None:
        if self.device not in get_args(Device):
            raise SettingsError("device", f"one of {', '.join(get_args(Device))}", self.device)
        if self.log_format not in get_args(LogFormat):
            raise SettingsError("log_format", f"one of {', '.join(get_args(LogFormat))}", self.log_format)
        if self.otel_endpoint is not None and not self.otel_endpoint.startswith(("http://", "https://")):
            raise SettingsError("otel_endpoint", "a URL that begins with http:// or https://", self.otel_endpoint)
        if not self.host:
            raise SettingsError("host", "an address or a host name", self.host)
        kind, _, place = self.stream_store.partition(":")
        if self.stream_store != "memory" and (kind not in ("sqlite", "redis", "rediss", "unix") or not place):
            found = f"{kind}:…" if place else self.stream_store  # a URL may hold a password
            raise SettingsError("stream_store", f"one of {', '.join(STORE_SCHEMES)}", found)
        for name, (low, high) in RANGES.items():
            value = getattr(self, name)
            if value is None and name in ("threads", "grpc_port"):
                continue
            _check_range(name, value, low, high)
        if 0 < self.engine_hang_s < 1:  # the turns that prove an idle engine alive would keep a CPU busy
            raise SettingsError("engine_hang_s", "0, which switches it off, or at least 1 second", self.engine_hang_s)
        self._check_ports()
        self._check_security()

    def _check_ports(self) -> None:
        """Check those that follow from others."""
        last = int(RANGES["port"][1])
        if self.grpc and self.rpc_port > last:
            expected = f"at most {last - 1}, for gRPC takes the one after --port; else give --grpc-port, or --no-grpc"
            raise SettingsError("port", expected, self.port)
        if self.grpc and self.control and self.control_rpc_port > last:
            expected = f"at most {last - 1}, for gRPC takes the one after --control-port; else give --no-grpc"
            raise SettingsError("control_port", expected, self.control_port)

    def _check_security(self) -> None:
        for name, (read, expected) in _LISTS.items():
            try:
                read(getattr(self, name))
            except ValueError as err:
                raise SettingsError(name, expected, str(err)) from err
        if (self.tls_cert is None) != (self.tls_key is None):
            missing, given = ("tls_cert", "tls_key") if self.tls_cert is None else ("tls_key", "tls_cert")
            raise SettingsError(missing, f"a file, for there is {given}", None)

    @property
    def rpc_port(self) -> int:
        """The port of gRPC; 0 takes a free one."""
        if self.grpc_port is not None:
            return self.grpc_port
        return self.port + 1 if self.port else 0

    @property
    def control_rpc_port(self) -> int:
        """The port of gRPC for loading and unloading, the one after HTTP's; 0 takes a free one."""
        return self.control_port + 1 if self.control_port else 0

    @property
    def limits(self) -> RequestLimits:
        """The limits that a parsed request must keep."""
        return RequestLimits(
            max_batch_rows=self.max_batch_rows,
            max_steps=self.max_steps,
            max_row_steps=self.max_row_steps,
            max_answer_elements=self.max_answer_elements,
            max_json_elements=self.max_json_elements,
        )


def _check_range(name: str, value: Any, low: float, high: float) -> None:
    in_seconds = name.endswith("_s")
    is_number = isinstance(value, int | float) if in_seconds else isinstance(value, int)
    if isinstance(value, bool) or not is_number or not low <= value <= high:
        unit = " seconds" if in_seconds else ""
        raise SettingsError(name, f"{low} .. {high}{unit}", value)
