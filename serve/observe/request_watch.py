"""What the access log and the tracer are told of requests that come by a call of gRPC or as messages of a WebSocket.

    a call, a connection   `Watch`, made where somebody wants to know; None where nobody does, and then nothing is paid
    a request of it        `RequestWatch`: noted while it is answered, told once at its end

Rules of this file: it knows no protocol. Requests of HTTP are told of by `AccessLog` and `traced_exchange`.
"""

import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from ..engine.work import Work
from ..infer.body import joined_headers
from ..models.served_model import ServedModel
from ..serving_state import ServingState
from .access_log import log_request
from .request_id import given_id
from .tracing import RequestTrace, RequestTracer

CLIENT_GONE_CODE = "client_gone"


class Watch:
    """One call or connection whose requests are told of.

    Args:
        protocol: websocket or grpc, as the requests are counted.
        method: HTTP's verb, or the name of gRPC's method.
        path: as it came.
        headers: of the head, by names in lower case.
        model: that all requests ask for, where the path says so.
        request_id: of the call or connection.
        is_logged: whether there is an access log.
        tracer: takes the traces; None: nothing is traced.
    """

    def __init__(
        self,
        *,
        protocol: str,
        method: str,
        path: str,
        headers: Mapping[str, str],
        model: ServedModel | None,
        request_id: str,
        is_logged: bool,
        tracer: RequestTracer | None,
    ) -> None:
        self.protocol = protocol
        self.method = method
        self.path = path
        self.headers = headers
        self.is_logged = is_logged
        self.tracer = tracer
        self._model = model
        self._request_id = request_id
        self._numbers = itertools.count(1)

    def begin(self) -> "RequestWatch":
        """Begin with the one request that a call is."""
        return RequestWatch(self, self._request_id)

    def begin_next(self) -> "RequestWatch":
        """Begin with the next of many requests: its name is the connection's, and its number in it."""
        request = RequestWatch(self, f"{self._request_id}/{next(self._numbers)}")
        if self._model is not None:
            request.found(self._model)
        return request


class RequestWatch:
    """One request. Moments are of the monotonic clock, in seconds.

    Attributes:
        request_id: its name.
    """

    __slots__ = ("_begun_s", "_model", "_trace", "_watch", "request_id")

    def __init__(self, watch: Watch, request_id: str) -> None:
        self.request_id = request_id
        self._watch = watch
        self._begun_s = time.monotonic()
        self._model = ""
        self._trace: RequestTrace | None = None

    def found(self, model: ServedModel) -> None:
        """Note which model is asked for: from now on there is an inference to be traced."""
        watch, self._model = self._watch, model.name
        if watch.tracer is not None:
            self._trace = RequestTrace(
                headers=watch.headers,
                model=model.name,
                version=model.version,
                request_id=self.request_id,
                protocol=watch.protocol,
                method=watch.method,
                begun_s=self._begun_s,
            )

    def submitted(self, work: Work) -> Work:
        """Note that it was read, parsed and checked; return the work that notes when it was in the engine."""
        if self._trace is None:
            return work
        self._trace.submitted_s = time.monotonic()
        return replace(work, times=self._trace.times)

    def answered(self) -> None:
        """Note that the engine's answer is here."""
        if self._trace is not None:
            self._trace.answered_s = time.monotonic()

    def ended(self, status: int, answer_bytes: int = 0, *, error: str = "", grpc_status: str = "") -> None:
        """Tell of it. To be called once.

        Args:
            status: in HTTP's numbers, whatever the protocol; 499: the client left.
            answer_bytes: of its message.
            error: code of what went wrong, or "".
            grpc_status: name of gRPC's code, where that is the protocol.
        """
        watch, trace, ended_s = self._watch, self._trace, time.monotonic()
        if trace is not None and watch.tracer is not None:
            trace.status, trace.error, trace.grpc_status, trace.ended_s = status, error, grpc_status, ended_s
            watch.tracer.record(trace)
        if watch.is_logged:
            log_request(
                protocol=watch.protocol,
                method=watch.method,
                path=watch.path,
                model=self._model,
                status=status,
                answer_bytes=answer_bytes,
                duration_s=ended_s - self._begun_s,
                request_id=self.request_id,
                grpc_status=grpc_status,
            )


def watch_requests(
    serving: ServingState,
    *,
    protocol: str,
    method: str,
    path: str,
    headers: Sequence[tuple[bytes, bytes]],
    model: ServedModel | None = None,
    request_id: str | None = None,
) -> Watch | None:
    """Return what is told of a call's or connection's requests; None where there is neither a log nor a tracer.

    Args:
        serving: of this process.
        protocol: websocket or grpc.
        method: HTTP's verb, or the name of gRPC's method.
        path: as it came.
        headers: names in lower case.
        model: that all requests ask for, where the path says so.
        request_id: where it has a name already; else it gets one, its own where that is plain.
    """
    if serving.tracer is None and not serving.settings.access_log:
        return None
    return Watch(
        protocol=protocol,
        method=method,
        path=path,
        headers=joined_headers(headers),
        model=model,
        request_id=request_id or serving.ids.take(given_id(headers)).decode("ascii"),
        is_logged=serving.settings.access_log,
        tracer=serving.tracer,
    )
