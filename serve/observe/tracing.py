"""What a trace of a request is made of, whoever sends it anywhere.

Rules of this file: no OpenTelemetry; that is `otel_tracing`, which only a traced server loads. A server that is not
traced pays nothing: the moments below are noted by the route that traced servers use, and by `request_watch`.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from ..engine.work import RunTimes


@dataclass(kw_only=True, slots=True)
class RequestTrace:
    """One request for inference. Moments are of the monotonic clock, in seconds; 0: it never came to that.

    Attributes:
        headers: of the request, names in lower case; they may name the span that it is part of.
        model: name.
        version: of the model.
        request_id: of the request.
        protocol: http, websocket or grpc, as the requests are counted.
        method: HTTP's verb, or the name of gRPC's method.
        begun_s: its head was read.
        submitted_s: its body was read, parsed and checked.
        times: when it was in the engine.
        answered_s: the engine's answer was here.
        ended_s: the answer was rendered, or the request failed.
        status: of the answer, in HTTP's numbers whatever the protocol; 499: the client left.
        grpc_status: name of gRPC's code, where that is the protocol, or "".
        error: code of the error, or "".
    """

    headers: Mapping[str, str]
    model: str
    version: str
    request_id: str
    protocol: str = "http"
    method: str = "POST"
    begun_s: float = field(default_factory=time.monotonic)
    submitted_s: float = 0.0
    times: RunTimes = field(default_factory=RunTimes)
    answered_s: float = 0.0
    ended_s: float = 0.0
    status: int = 200
    grpc_status: str = ""
    error: str = ""

    def spans(self) -> list[tuple[str, float, float]]:
        """Return name, begin and end of each part that there was, in order."""
        times = self.times
        found = [("accept", self.begun_s, self.submitted_s)]
        if times.runs:
            found += [("queue", times.arrived_s, times.first_run_s), ("runs", times.first_run_s, times.last_run_s)]
        if self.answered_s:
            found.append(("answer", self.answered_s, self.ended_s))
        return [part for part in found if part[1] and part[2]]


class RequestTracer(Protocol):
    """Takes traces and sends them somewhere."""

    def record(self, trace: RequestTrace) -> None:
        """Take a trace of a request that has ended; never waits."""
        ...

    def close(self) -> None:
        """Send what is left."""
        ...


def open_tracer(endpoint: str | None) -> RequestTracer | None:
    """Return what sends traces to an endpoint.

    Args:
        endpoint: URL that takes OTLP traces over HTTP; None: nothing is traced, and nothing loaded for it.
    """
    if endpoint is None:
        return None
    from .otel_tracing import make_otel_tracer  # noqa: PLC0415 - packages that only a traced server has

    return make_otel_tracer(endpoint)
