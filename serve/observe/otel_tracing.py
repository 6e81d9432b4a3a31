"""Traces of requests by OpenTelemetry, sent over HTTP to the endpoint that the settings name, and to nobody else.

Rules of this file: the only one that imports OpenTelemetry (the extra `otel`). Spans are made when a request has ended,
from the moments that were noted, so nothing of the library runs while it is served. What the SDK reads from the
environment (`OTEL_TRACES_SAMPLER`, `OTEL_EXPORTER_OTLP_HEADERS`, ...) is obeyed. Sources: W3C Trace Context, for the
header that names a request's parent; gRPC's table of status codes, for their numbers.
"""

import time
from typing import Final

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from ... import __version__
from .tracing import RequestTrace

_NS: Final = 1_000_000_000
_SERVER_FAULTS: Final = 500
_RPC_SERVICE: Final = "inference.GRPCInferenceService"
_RPC_CODES: Final = (
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
    "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
    "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
)  # fmt: skip
_SEND_S: Final = 5.0  # for one batch; a collector that is gone must not hold up the end of a server


class OtelTracer:
    """Turns traces into spans.

    Args:
        processor: takes the spans.
    """

    def __init__(self, processor: SpanProcessor) -> None:
        resource = Resource.create({"service.name": "cellgate", "service.version": __version__})
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("cellgate.serve", __version__)
        self._parent = TraceContextTextMapPropagator()

    def record(self, trace: RequestTrace) -> None:
        """Make the span of a request, under the caller's where it named one, and those of its parts."""
        wall_ns = time.time_ns() - time.monotonic_ns()

        def ns(moment_s: float) -> int:
            return wall_ns + round(moment_s * _NS)

        attributes: dict[str, str | int] = {
            "cellgate.model": trace.model,
            "cellgate.model.version": trace.version,
            "cellgate.protocol": trace.protocol,
            "cellgate.request_id": trace.request_id,
            "cellgate.runs": trace.times.runs,
            "http.response.status_code": trace.status,
            **_call_attributes(trace),
        }
        if trace.error:
            attributes["error.type"] = trace.error
        request = self._tracer.start_span(
            f"infer {trace.model}",
            context=self._parent.extract(trace.headers),
            kind=SpanKind.SERVER,
            attributes=attributes,
            start_time=ns(trace.begun_s),
        )
        inside = set_span_in_context(request)
        for name, begun_s, ended_s in trace.spans():
            self._tracer.start_span(name, context=inside, start_time=ns(begun_s)).end(ns(ended_s))
        if trace.status >= _SERVER_FAULTS:
            request.set_status(Status(StatusCode.ERROR))
        request.end(ns(trace.ended_s))

    def close(self) -> None:
        """Send what is left, as far as the collector takes it."""
        self._provider.shutdown()


def _call_attributes(trace: RequestTrace) -> dict[str, str | int]:
    """Return what is the protocol's own, by the names of OpenTelemetry's semantic conventions."""
    if trace.protocol != "grpc":
        return {"http.request.method": trace.method}
    return {
        "rpc.system": "grpc",
        "rpc.service": _RPC_SERVICE,
        "rpc.method": trace.method,
        "rpc.grpc.status_code": _RPC_CODES.index(trace.grpc_status),
    }


def make_otel_tracer(endpoint: str) -> OtelTracer:
    """Return a tracer that sends spans in batches, from a thread of its own.

    Args:
        endpoint: URL that takes OTLP traces over HTTP.
    """
    return OtelTracer(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint, timeout=_SEND_S)))
