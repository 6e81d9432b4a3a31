"""What may stay open to everybody where keys are asked for: names of groups, and what belongs to each.

Rules of this file: methods and exact raw paths, nothing by pattern or prefix; of gRPC, the full names of methods.
"""

from typing import Final

OPEN_PATHS: Final = {
    "health": (
        ("GET", b"/v2/health/live"),
        ("GET", b"/v2/health/ready"),
        ("POST", b"/inference.GRPCInferenceService/ServerLive"),
        ("POST", b"/inference.GRPCInferenceService/ServerReady"),
        ("POST", b"/grpc.health.v1.Health/Check"),
        ("POST", b"/grpc.health.v1.Health/Watch"),
    ),
    "metrics": (("GET", b"/metrics"),),
    "docs": (
        ("GET", b"/docs"),
        ("GET", b"/docs/start.js"),
        ("GET", b"/docs/favicon.png"),
        ("GET", b"/docs/swagger-ui-bundle.js"),
        ("GET", b"/docs/swagger-ui.css"),
        ("GET", b"/openapi.json"),
    ),
}


def parse_open_paths(text: str) -> tuple[str, ...]:
    """Read names of `OPEN_PATHS`, separated by commas, or `none`.

    Raises:
        ValueError: with the part that is no such name.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if parts == ["none"]:
        return ()
    for part in parts:
        if part not in OPEN_PATHS:
            raise ValueError(part)
    return tuple(parts)
