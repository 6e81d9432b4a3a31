"""What only gRPC refuses, in the vocabulary of `serve.errors`.

Rules of this file: classes as there; `status` is the HTTP status of the like.
"""

from ..errors import ServeError, shown


class UnknownCall(ServeError):  # noqa: N818 - as in `serve.errors`
    """No method of this name is served."""

    status = 501
    code = "unknown_call"

    def __init__(self, path: str) -> None:
        super().__init__(f"call: expected one that is served here, found {shown(path)}; see docs/grpc.md")


class ControlClosed(ServeError):  # noqa: N818
    """Loading and unloading models is not open to whoever reaches this port."""

    status = 403
    code = "control_closed"

    def __init__(self) -> None:
        super().__init__("model repository: expected questions only, found load or unload; see docs/versions.md")


class UnknownService(ServeError):  # noqa: N818
    """The health of something is asked for that is not here."""

    status = 404
    code = "unknown_service"

    def __init__(self, name: str, known: str) -> None:
        super().__init__(f"service: expected none or {known}, found {shown(name)}")
