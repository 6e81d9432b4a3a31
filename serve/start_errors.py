"""Why a server, or a runtime, cannot start: one class a situation.

Rules of this file: those of `errors`: a class builds the message from facts, and it names the thing, expected, found
and the remedy; whoever starts the server reads it, so it may name files and options.
"""

from .errors import ServeError, shown


class ServerStartError(ServeError):
    """The server, or a runtime, cannot start: wrong settings, a busy port, a bundle that this machine cannot run."""

    code = "start"


class DeviceUnavailableError(ServerStartError):
    """The device that was asked for by name does not work here."""

    def __init__(self, device: str, found: str, remedy: str) -> None:
        super().__init__(f"device: expected {device}, found {found}; {remedy}")


class GraphMismatchError(ServerStartError):
    """The runtime sees other tensors in the model than the manifest promises."""

    def __init__(self, graph: str, what: str, expected: str, found: str) -> None:
        super().__init__(f"{graph}: {what}: expected {expected} as in the manifest, found {found}; export again")


class GoldenMismatchError(ServerStartError):
    """The runtime does not reproduce the bundle's golden cases on this machine."""

    def __init__(self, name: str, summary: str) -> None:
        super().__init__(
            f"bundle {name}: expected the golden cases to be reproduced, found {summary}; "
            f"try --device cpu, or export again with the versions of this machine"
        )


class MeasuringError(ServerStartError):
    """The runtime refuses the runs by which the costs of a bundle are measured."""

    def __init__(self, name: str, found: str) -> None:
        super().__init__(
            f"bundle {name}: expected the time of its runs to be measured, found: {found}; try --device cpu, or export "
            f"again with the versions of this machine"
        )


class BundleCrashError(ServerStartError):
    """The engine's process died of a bundle, most likely inside the runtime, which nothing can catch."""

    def __init__(self, path: str, how: str, doing: str) -> None:
        super().__init__(
            f"bundle {path}: expected the engine's process to live, found that it died by {how} while {doing}; look at "
            f"it with: cellgate verify {path}, and serve without it"
        )


class NameConflictError(ServerStartError):
    """Two bundles want to be served under one name."""

    def __init__(self, name: str, paths: str) -> None:
        super().__init__(f"model name {name}: expected one bundle, found {paths}; rename one with NAME=PATH")


class BundleReplacedError(ServerStartError):
    """Another bundle lies where one was served from."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"{path}: expected the bundle that was served from there, found another; put it back, or start the server "
            f"again"
        )


class PortBusyError(ServerStartError):
    """The address cannot be listened on."""

    def __init__(self, host: str, port: int, reason: str, option: str = "--port") -> None:
        remedy = "give an address of this machine with" if option == "--host" else "stop what listens there or give"
        super().__init__(f"port: expected to listen on {host} port {port}, found {reason}; {remedy} {option}")


class NoAddressError(PortBusyError):
    """The host to listen on has no address, or that of another machine: no port of it would do."""

    def __init__(self, host: str, port: int, reason: str) -> None:
        ServerStartError.__init__(
            self,
            f"host: expected to listen on {shown(host)} port {port}, found {reason}; give an address of this machine: "
            "--host",
        )


class KeysFileError(ServerStartError):
    """The file of API keys cannot be read, or says something else than keys. The message never holds a key."""

    def __init__(self, path: str, expected: str, found: str) -> None:
        super().__init__(f"api_keys_file {path}: expected {expected}, found {found}")


class CertificateError(ServerStartError):
    """Certificate and private key cannot be used for TLS."""

    def __init__(self, what: str, path: str, expected: str, found: str) -> None:
        super().__init__(f"{what} {path}: expected {expected}, found {found}")
