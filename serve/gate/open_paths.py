"""What may stay open to everybody where keys are asked for: names of groups, and what belongs to each.

Rules of this file: methods and exact raw paths, nothing by pattern or prefix; of gRPC, the full names of methods.
"""

from typing import Final


def _read(*paths: bytes) -> tuple[tuple[str, bytes], ...]:
    return tuple((method, path) for path in paths for method in ("GET", "HEAD"))


OPEN_PATHS: Final = {
    "health": (
        *_read(b"/v2/health/live", b"/v2/health/ready"),
        ("POST", b"/inference.GRPCInferenceService/ServerLive"),
        ("POST", b"/inference.GRPCInferenceService/ServerReady"),
        ("POST", b"/grpc.health.v1.Health/Check"),
        ("POST", b"/grpc.health.v1.Health/Watch"),
    ),
    "metrics": _read(b"/metrics"),
    "docs": _read(
        b"/",
        b"/docs",
        b"/docs/start.js",
        b"/docs/favicon.png",
        b"/docs/swagger-ui-bundle.js",
        b"/docs/swagger-ui.css",
        b"/openapi.json",
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
